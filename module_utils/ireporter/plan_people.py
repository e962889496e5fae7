"""Gates about who is told and how to reach them: R05, R21, R23."""

from __future__ import annotations

from collections.abc import Callable

from .errors import MigrationError
from .mail_header import header_text, mail_address
from .plan_gate import Gate, failed, passed, refused

NOBODY = "none"


def contact_gates(contact: object) -> list[Gate]:
    """R05, one gate per field, so that everything missing is named at once. The extension may be the word ``none``."""
    return [
        _field("R05", "contact", contact, "name", header_text),
        _field("R05", "contact", contact, "company", header_text),
        _field("R05", "contact", contact, "email", mail_address),
        _field("R05", "contact", contact, "phone", phone_number),
        _field("R05", "contact", contact, "extension", _extension),
    ]


def partner_gates(partner: object) -> list[Gate]:
    """R21: the partner or distributor is named, or it is said that there is ``none``."""
    if partner == NOBODY:
        return [
            passed(
                "R21-partner",
                "There is no partner or distributor to tell",
                rule="R21",
                measured=NOBODY,
                limit="named or none",
            )
        ]
    if not isinstance(partner, dict):
        return [
            failed(
                "R21-partner",
                "The partner or distributor is missing",
                'Give company, name and email of the partner, or the word "none"',
                rule="R21",
                measured=None,
                limit="named or none",
            )
        ]
    return [
        _field("R21", "partner", partner, "company", header_text),
        _field("R21", "partner", partner, "name", header_text),
        _field("R21", "partner", partner, "email", mail_address),
    ]


def sales_gates(sales: object) -> list[Gate]:
    """R23: every mail names the local sales representative and one way to reach them."""
    gates = [_field("R23", "sales-representative", sales, "name", header_text)]
    given = sales if isinstance(sales, dict) else {}
    if "email" in given or "phone" not in given:
        gates.append(_field("R23", "sales-representative", sales, "email", mail_address))
    if "phone" in given:
        gates.append(_field("R23", "sales-representative", sales, "phone", phone_number))
    return gates


def _field(rule: str, who: str, person: object, name: str, read: Callable[..., str]) -> Gate:
    gate = f"{rule}-{who}-{name}"
    field = f"The {who.replace('-', ' ')}'s {name}"
    value = person.get(name) if isinstance(person, dict) else None
    limit = "given, fit for a mail header"
    try:
        text = read(value, field=field, check=rule)
    except MigrationError as error:
        return refused(gate, error, rule=rule, measured=None if value is None else str(value), limit=limit)
    return passed(gate, f"{field} is {text}", rule=rule, measured=text, limit=limit)


def phone_number(value: object, *, field: str, check: str) -> str:
    """``value`` when it is a telephone number that can stand in a header unchanged.

    :raises MigrationError: it is anything else.
    """
    text = header_text(value, field=field, check=check)
    digits = sum(character.isascii() and character.isdigit() for character in text)
    if digits < 5 or any(
        not (character.isascii() and (character.isdigit() or character in "+-(). ")) for character in text
    ):
        raise MigrationError(
            f"{field} is {text!r}, which is no phone number",
            check=check,
            action='Give it as quoted text like "+81-3-1234-5678"',
        )
    return text


def _extension(value: object, *, field: str, check: str) -> str:
    if value is None:
        raise MigrationError(
            f"{field} is missing", check=check, action='Give the extension as quoted text, or the word "none"'
        )
    return header_text(value, field=field, check=check)
