"""Gates about the contract of a cloud → self-hosted migration: R03, R06, R07, R08, and its end (R12, R15)."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Final

from .calendar_interval import Interval
from .calendar_japan import JAPAN, japan_day
from .data_total import DataTotal
from .errors import MigrationError
from .estimate_time import Estimate
from .estimate_words import duration
from .mail_header import header_text
from .plan_facts import Facts
from .plan_gate import Gate, Measured, failed, passed, refused

_TERMS: Final = ("month", "year")


def order_gates(contract: Facts, total: DataTotal | MigrationError, found: Estimate | MigrationError) -> list[Gate]:
    """R03: total of the data → estimate → quote → accepted, in this order. A step is refused while an earlier one is missing."""
    gates = [_total(total), _estimate(found)]
    known = all(gate.passed for gate in gates)
    quote, quote_gate = _number(
        contract, "quote_number", "R03-quote", "The number of the current quote", "Make a quote"
    )
    if quote is not None and not known:
        quote_gate = failed(
            "R03-quote",
            f"Quote {quote} stands on nothing: the total of the data or the estimate is unknown",
            "Measure and estimate first, then make a new quote",
            rule="R03",
            measured=quote,
            limit="after the estimate",
        )
    accepted, accepted_gate = _number(
        contract, "accepted_quote_number", "R03-accepted", "The number of the accepted quote", "Get the quote accepted"
    )
    if accepted is not None and accepted != quote:
        current = "there is no current quote" if quote is None else f"the current quote is {quote}"
        accepted_gate = failed(
            "R03-accepted",
            f"Quote {accepted} was accepted, but {current}",
            "Get the current quote accepted",
            rule="R03",
            measured=accepted,
            limit=quote,
        )
    return [*gates, quote_gate, accepted_gate]


def paperwork_gate(contract: Facts, now: datetime) -> Gate:
    """R06: it is said in so many words that the paperwork is complete, and where or when that can be looked up."""
    gate, limit = "R06-paperwork", "complete, with a date or reference"
    paperwork = contract.part("paperwork")
    if paperwork.flag("complete") is not True:
        return failed(
            gate,
            "The paperwork for self-hosted billing is not said to be complete",
            "Complete it, then set complete to true with its date or reference",
            rule="R06",
            measured=paperwork.flag("complete"),
            limit=limit,
        )
    try:
        said = _look_up(paperwork, now)
    except MigrationError as error:
        return refused(gate, error, rule="R06", measured=None, limit=limit)
    if not said:
        return failed(
            gate,
            "The paperwork is said to be complete, without a date or reference",
            "Say when, or under which reference",
            rule="R06",
            measured=None,
            limit=limit,
        )
    return passed(
        gate, f"The paperwork is complete: {', '.join(said)}", rule="R06", measured=", ".join(said), limit=limit
    )


def contract_end(contract: Facts, invoice_month: str) -> tuple[Gate, date | None]:
    """R12, R15: the last day of the cloud contract.

    By the month it is the day before the invoice changes; by the year it is given as ``ends``. It refuses nothing.

    :param invoice_month: ``YYYY-MM``, or empty where it is unknown.
    """
    gate, limit = "R12-contract-end", "the last day, Japan time"
    earliest = date.fromisoformat(f"{invoice_month}-01") - timedelta(days=1) if invoice_month else None
    try:
        end = _last_day(contract, earliest)
    except MigrationError as error:
        # It refuses nothing here (R12); what needs the day refuses (R07).
        return failed(gate, error.happened, error.action, rule="R12", measured=None, limit=limit, severity="warn"), None
    if earliest is not None and end < earliest:
        return failed(
            gate,
            f"The cloud contract is said to end on {end.isoformat()}, but is invoiced until {earliest.isoformat()}",
            "Correct ends of the contract, or the day on which the plan change was submitted",
            rule="R12",
            measured=end.isoformat(),
            limit=earliest.isoformat(),
            severity="warn",
        ), end
    said = f"The cloud goes on until the contract ends on {end.isoformat()}"
    return passed(gate, said, rule="R12", measured=end.isoformat(), limit=limit, severity="info"), end


def licence_gate(contract: Facts, end: date | None) -> Gate:
    """R07: the new licence is in force before the cloud contract ends, by the operator's margin in days."""
    gate = "R07-licence"
    margin = contract.at("licence_margin_days")
    if not isinstance(margin, int) or isinstance(margin, bool) or margin < 0:
        return failed(
            gate,
            f"The margin between licence and end of contract is {'not set' if margin is None else repr(margin)}",
            "Set licence_margin_days to a whole number of days",
            rule="R07",
            measured=None,
            limit=None,
        )
    try:
        begins = japan_day(contract.at("licence_from"), field="licence_from", check="R07")
    except MigrationError as error:
        return refused(gate, error, rule="R07", measured=None, limit=margin)
    if end is None:
        return failed(
            gate,
            "The end of the cloud contract is unknown, so nobody can tell whether the licence is in force before",
            "Settle the end of the contract first",
            rule="R07",
            measured=None,
            limit=margin,
        )
    days = (end - begins).days
    when = f"from {begins.isoformat()} on, {abs(days)} days {'before' if days >= 0 else 'after'}"
    said = f"The licence is in force {when} the cloud contract's last day {end.isoformat()}; {margin} days before are wanted"
    if days < margin:
        action = "Get the licence in force earlier, or the contract extended"
        return failed(gate, said, action, rule="R07", measured=days, limit=margin)
    return passed(gate, said, rule="R07", measured=days, limit=margin)


def in_contract_gate(window: Interval | None, end: date | None) -> Gate:
    """R07, R15: the window lies in the time in which there is a cloud server to export from."""
    gate = "R07-window"
    if window is None or end is None:
        what = "window" if window is None else "end of the cloud contract"
        return failed(
            gate,
            f"Whether the window lies before the contract's end is unknown without the {what}",
            f"Settle the {what} first",
            rule="R07",
            measured=None,
            limit=None if end is None else end.isoformat(),
        )
    over = datetime.combine(end, datetime.min.time(), JAPAN) + timedelta(days=1)
    measured = window.end.isoformat()
    if window.end > over:
        return failed(
            gate,
            f"The window ends after the cloud contract's last day {end.isoformat()}",
            "Agree an earlier window with the customer",
            rule="R07",
            measured=measured,
            limit=over.isoformat(),
        )
    said = f"The window lies before the end of the cloud contract's last day {end.isoformat()}"
    return passed(gate, said, rule="R07", measured=measured, limit=over.isoformat())


def licences_gate(source: Facts, contract: Facts) -> Gate:
    """R08: at most as many accounts as the self-hosted licence has users."""
    gate, accounts, licensed = "R08-accounts", source.number("accounts"), contract.at("licensed_users")
    if not isinstance(licensed, int) or isinstance(licensed, bool) or licensed < 1:
        return failed(
            gate,
            f"The number of users licensed for the self-hosted server is {'not set' if licensed is None else repr(licensed)}",
            "Set licensed_users to the number on the licence",
            rule="R08",
            measured=accounts,
            limit=None,
        )
    if accounts is None:
        return failed(
            gate,
            "The number of user accounts is unknown",
            "Correct the tenant's accounts_query",
            rule="R08",
            measured=None,
            limit=licensed,
        )
    said = f"The tenant has {accounts} user accounts, the self-hosted server is licensed for {licensed}"
    if accounts > licensed:
        return failed(
            gate,
            said,
            f"Let the customer's administrator choose {accounts - licensed} accounts to delete (ireporter_user_info, ireporter_user)",
            rule="R08",
            measured=accounts,
            limit=licensed,
        )
    return passed(gate, said, rule="R08", measured=accounts, limit=licensed)


def _look_up(paperwork: Facts, now: datetime) -> list[str]:
    """Where the paperwork can be looked up: its date, its reference, or both."""
    said = []
    if paperwork.at("date") is not None:
        day = japan_day(paperwork.at("date"), field="The date of the paperwork", check="R06")
        if day > now.astimezone(JAPAN).date():
            raise MigrationError(
                f"The paperwork is dated {day.isoformat()}, which is to come",
                check="R06",
                action="Correct the date, or complete the paperwork first",
            )
        said.append(day.isoformat())
    if paperwork.at("reference") is not None:
        said.append(header_text(paperwork.at("reference"), field="The reference of the paperwork", check="R06"))
    return said


def _last_day(contract: Facts, earliest: date | None) -> date:
    term, given = contract.at("term"), contract.at("ends")
    if term not in _TERMS:
        raise MigrationError(
            f"The contract's term is {term!r}", check="R12", action="Set term of the contract to month or year"
        )
    if given is not None:
        return japan_day(given, field="ends of the contract", check="R12")
    if earliest is None or term == "year":
        raise MigrationError(
            f"The last day of the cloud contract by the {term} is unknown",
            check="R12",
            action='Set ends of the contract to "YYYY-MM-DD"' + ("" if term == "year" else ", or submitted"),
        )
    return earliest


def _total(total: DataTotal | MigrationError) -> Gate:
    gate, limit = "R03-total", "known"
    if isinstance(total, MigrationError):
        return refused(gate, total, rule="R03", measured=None, limit=limit)
    said = f"The total amount of data is {total.data_bytes:,} bytes"
    return passed(gate, said, rule="R03", measured=total.data_bytes, limit=limit)


def _estimate(found: Estimate | MigrationError) -> Gate:
    gate, limit = "R03-estimate", "known"
    if isinstance(found, MigrationError):
        return refused(gate, found, rule="R03", measured=None, limit=limit)
    low, likely, high = found.total.whole().values()
    said = f"The estimate is {duration(likely)} ({duration(low)} to {duration(high)})"
    return passed(gate, said, rule="R03", measured=likely, limit=limit)


def _number(contract: Facts, key: str, gate: str, field: str, action: str) -> tuple[str | None, Gate]:
    value: object = contract.at(key)
    limit: Measured = "given as text"
    if value is None or value == "":
        return None, failed(
            gate, f"{field} is missing", f"{action}, then set {key}", rule="R03", measured=None, limit=limit
        )
    try:
        text = header_text(value, field=field, check="R03")
    except MigrationError as error:
        return None, refused(gate, error, rule="R03", measured=None, limit=limit)
    return text, passed(gate, f"{field} is {text}", rule="R03", measured=text, limit=limit)
