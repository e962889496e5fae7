"""Whom a quote is from, whom it is for, and who answers questions (R03, R23). Nothing here says how to connect (R20)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from .errors import MigrationError
from .known_names import refuse_unknown
from .mail_header import header_text, mail_address
from .plan_facts import Facts
from .plan_people import NOBODY, phone_number


@dataclass(frozen=True)
class Issuer:
    """The letter head. ``registration_number``: of the qualified invoice issuer (登録番号), empty where there is none."""

    company: str
    address: tuple[str, ...]
    phone: str
    email: str
    signer: str
    registration_number: str


@dataclass(frozen=True)
class Addressee:
    """The partner or distributor (R03)."""

    company: str
    name: str
    email: str


@dataclass(frozen=True)
class SalesRepresentative:
    """Whom to ask (R23); ``email`` or ``phone`` or both."""

    name: str
    company: str
    email: str
    phone: str


@dataclass(frozen=True)
class People:
    """Everybody a quote names; ``customer`` is the company that migrates."""

    issuer: Issuer
    addressee: Addressee
    customer: str
    sales: SalesRepresentative

    def as_result(self) -> dict[str, object]:
        """Plain values."""
        return {
            "issuer": asdict(self.issuer) | {"address": list(self.issuer.address)},
            "addressee": asdict(self.addressee),
            "customer": self.customer,
            "sales_representative": asdict(self.sales),
        }


def read_people(*, issuer: object, partner: object, customer: object, sales: object) -> People:
    """From inventory values, each one line of visible text.

    :raises MigrationError: something is missing, unfit, or not one of the fields; a quote without partner or distributor (R03).
    """
    if partner == NOBODY:
        raise MigrationError(
            "There is no partner or distributor, to whom a quote is sent",
            check="R03",
            action="Name the partner or distributor who is to get the quote",
        )
    return People(
        _issuer(_fields(issuer, "The issuer", "quote-issuer", Issuer)),
        _addressee(_fields(partner, "The partner", "R03", Addressee)),
        header_text(customer, field="The customer's company name", check="R05"),
        _sales(_fields(sales, "The sales representative", "R23", SalesRepresentative)),
    )


def _fields(
    person: object, who: str, check: str, kind: type[Issuer] | type[Addressee] | type[SalesRepresentative]
) -> Facts:
    if not isinstance(person, dict) or not person:
        raise MigrationError(f"{who} of the quote is missing", check=check, action="Set it in the inventory")
    # A password or an address of a server cannot get in by a name of its own.
    refuse_unknown(person, [field.name for field in fields(kind)], what=who.lower(), check=check)
    return Facts(person)


def _issuer(given: Facts) -> Issuer:
    check = "quote-issuer"
    address = given.at("address")
    if not isinstance(address, list | tuple) or not address:
        raise MigrationError("The issuer's address is missing", check=check, action="Give it as a list of lines")
    number = given.at("registration_number")
    return Issuer(
        company=header_text(given.at("company"), field="The issuer's company", check=check),
        address=tuple(header_text(line, field="A line of the issuer's address", check=check) for line in address),
        phone=phone_number(given.at("phone"), field="The issuer's phone", check=check),
        email=mail_address(given.at("email"), field="The issuer's email", check=check),
        signer=header_text(given.at("signer"), field="The issuer's signer", check=check),
        registration_number=header_text(number, field="The issuer's registration number", check=check)
        if number
        else "",
    )


def _addressee(given: Facts) -> Addressee:
    return Addressee(
        header_text(given.at("company"), field="The partner's company", check="R03"),
        header_text(given.at("name"), field="The partner's name", check="R03"),
        mail_address(given.at("email"), field="The partner's email", check="R03"),
    )


def _sales(given: Facts) -> SalesRepresentative:
    email, phone, company = given.at("email"), given.at("phone"), given.at("company")
    if not email and not phone:
        raise MigrationError(
            "The sales representative has neither email nor phone", check="R23", action="Give one of them"
        )
    who = "The sales representative's"
    return SalesRepresentative(
        name=header_text(given.at("name"), field=f"{who} name", check="R23"),
        company=header_text(company, field=f"{who} company", check="R23") if company else "",
        email=mail_address(email, field=f"{who} email", check="R23") if email else "",
        phone=phone_number(phone, field=f"{who} phone", check="R23") if phone else "",
    )
