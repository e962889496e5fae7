"""Gates about the contract: R01, R02, R12, R13, and variables nobody knows."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator

from .calendar_invoice import LAST_DAY_OF_NOTICE, invoice_month
from .calendar_japan import japan_day
from .errors import MigrationError
from .known_names import nearest
from .plan_facts import Facts
from .plan_gate import Gate, failed, passed, refused
from .plan_settings import PlanSettings

_PRICE = frozenset(
    {
        "price",
        "prices",
        "quote",
        "quotes",
        "quotation",
        "fee",
        "fees",
        "charge",
        "charges",
        "cost",
        "costs",
        "rate",
        "amount",
        "billing",
        "surcharge",
    }
)
_SELECTION = frozenset(
    {
        "exclude",
        "excludes",
        "excluded",
        "include",
        "includes",
        "included",
        "only",
        "select",
        "selected",
        "selection",
        "filter",
        "filters",
        "subset",
        "skip",
        "skipped",
        "partial",
        "without",
        "omit",
    }
)
_WORDS = re.compile(r"[a-z0-9]+")


def accounts_gate(source: Facts, settings: PlanSettings) -> Gate:
    """R01: enough accounts for a server of one's own, counted on the source."""
    accounts = source.number("accounts")
    limit = settings.accounts_threshold
    if accounts is None:
        return failed(
            "R01-accounts",
            "The number of user accounts is unknown",
            "Correct the tenant's accounts_query",
            rule="R01",
            measured=None,
            limit=limit,
        )
    if accounts < limit:
        return failed(
            "R01-accounts",
            f"The tenant has {accounts} user accounts, a dedicated server is for {limit} or more",
            "Leave the tenant on the shared server",
            rule="R01",
            measured=accounts,
            limit=limit,
        )
    return passed(
        "R01-accounts",
        f"The tenant has {accounts} user accounts of at least {limit}",
        rule="R01",
        measured=accounts,
        limit=limit,
    )


def price_gate(contract: object, variables: Iterable[str]) -> Gate:
    """R02: a shared → dedicated migration has no price, so a variable that sets one is a mistake, also one that S has."""
    found = _named_like(_PRICE, contract, variables)
    if found:
        return failed(
            "R02-price",
            f"A price or quote is set ({_list(found)}), but a move to a dedicated server is free of charge",
            f"Remove {_list(found)}",
            rule="R02",
            measured=_list(found),
            limit="none",
        )
    return passed("R02-price", "No price or quote is set", rule="R02", measured="none", limit="none")


def selection_gate(contract: object, tenants: object, unknown_variables: Iterable[str]) -> Gate:
    """R13: everything moves; nothing may narrow it."""
    found = _named_like(_SELECTION, contract, unknown_variables)
    found += [name for name in _keys_below(tenants) if _WORDS.findall(name.lower()) and _matches(name, _SELECTION)]
    found = list(dict.fromkeys(found))
    if found:
        return failed(
            "R13-selection",
            f"Data is chosen ({_list(found)}), but all data of a tenant is backed up and migrated in bulk",
            f"Remove {_list(found)}",
            rule="R13",
            measured=_list(found),
            limit="none",
        )
    return passed(
        "R13-selection", "No variable chooses data: everything is migrated", rule="R13", measured="none", limit="none"
    )


def variables_gate(unknown_variables: Collection[str], known: Collection[str], *, priced: bool = False) -> Gate:
    """A misspelt variable is refused with the nearest known name, instead of being silently without effect."""
    # Those that another gate refuses are not named twice; where a price is rightful, no other gate looks for one.
    elsewhere = _SELECTION if priced else _PRICE | _SELECTION
    strangers = [name for name in unknown_variables if not _matches(name, elsewhere)]
    if strangers:
        said = []
        for name in strangers:
            near = nearest(name, known)
            said.append(f"{name} (nearest known: {near})" if near else name)
        return failed(
            "variables",
            f"{'This variable is' if len(said) == 1 else 'These variables are'} unknown: {', '.join(said)}",
            "Correct the spelling or remove them",
            measured=_list(strangers),
            limit="known names",
        )
    return passed(
        "variables", "Every variable with one of our prefixes is known", measured="none unknown", limit="known names"
    )


def invoice_gate(contract: Facts) -> tuple[Gate, str]:
    """R12: the month (``YYYY-MM``) from which the new plan is invoiced. It refuses nothing."""
    limit = f"day {LAST_DAY_OF_NOTICE}, Japan time"
    submitted = contract.text("submitted")
    if submitted is None:
        gate = failed(
            "R12-invoice-month",
            "The day on which the plan change reached the vendor is not given, so the invoice month is unknown",
            'Set submitted in the contract to "YYYY-MM-DD"',
            rule="R12",
            measured=None,
            limit=limit,
            severity="warn",
        )
        return gate, ""
    try:
        day = japan_day(submitted, field="contract submitted", check="R12")
    except MigrationError as error:
        return refused("R12-invoice-month", error, rule="R12", measured=submitted, limit=limit), ""
    month = invoice_month(day).strftime("%Y-%m")
    said = f"Submitted on {day.isoformat()} (Japan time): the invoice changes from {month} on"
    return passed("R12-invoice-month", said, rule="R12", measured=day.isoformat(), limit=limit, severity="info"), month


def unknown_variables(names: Collection[str], known: Collection[str]) -> list[str]:
    """The names nobody knows, sorted."""
    return sorted(set(names) - set(known))


def _named_like(words: frozenset[str], contract: object, variables: Iterable[str]) -> list[str]:
    keys = [f"contract {key}" for key in contract if _matches(str(key), words)] if isinstance(contract, dict) else []
    return keys + [name for name in variables if _matches(name, words)]


def _matches(name: str, words: frozenset[str]) -> bool:
    return not words.isdisjoint(_WORDS.findall(name.lower()))


def _keys_below(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, below in value.items():
            yield str(key)
            yield from _keys_below(below)
    elif isinstance(value, list | tuple):
        for below in value:
            yield from _keys_below(below)


def _list(names: list[str]) -> str:
    return ", ".join(names)
