"""What a site must settle before it can quote (R03). What a price depends on has no default: a missing value is a refusal, not a guess."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Literal, TypeVar, get_args

from .errors import MigrationError
from .known_names import refuse_unknown
from .quote_money import ROUNDINGS, Money, Rounding, currency, decimal

_CHECK = "quote-settings"

Basis = Literal["likely", "high"]
_Choice = TypeVar("_Choice", bound=str)


@dataclass(frozen=True)
class QuoteSettings:
    """How an estimate becomes hours, and hours money.

    ``rate``: per hour within business hours. ``rounding_unit``: the smallest amount, ``1`` or ``0.01``. ``basis``: which of the
    estimate's figures is quoted. ``attendance_percent``: how much of that time an engineer works. ``increment_minutes``: work is
    quoted in multiples of it, rounded up. ``preparation_minutes``: work by day before the window, within business hours.
    """

    rate: Decimal
    currency: str
    tax_percent: Decimal
    rounding: Rounding
    rounding_unit: Decimal
    validity_days: int
    basis: Basis
    attendance_percent: Decimal
    increment_minutes: int
    preparation_minutes: int

    @property
    def money(self) -> Money:
        return Money(self.currency, self.rounding_unit, self.rounding)

    @classmethod
    def read(cls, given: Mapping[str, object]) -> QuoteSettings:
        """From the operator's settings; ``None`` is missing.

        :raises MigrationError: a name is unknown, values are missing (all of them are named), or one is of the wrong kind.
        """
        names = [field.name for field in fields(cls)]
        refuse_unknown(given, names, what="the quote", check=_CHECK)
        missing = [name for name in names if given.get(name) is None]
        if missing:
            raise MigrationError(
                f"Missing among the quote's settings: {', '.join(missing)}; what a price depends on has no default",
                check=_CHECK,
                action="Set them in the inventory",
            )
        return cls(
            rate=_above_zero(given, "rate"),
            currency=currency(given["currency"], check=_CHECK),
            tax_percent=decimal(given["tax_percent"], setting="tax_percent", check=_CHECK),
            rounding=_one_of(given, "rounding", ROUNDINGS),
            rounding_unit=_above_zero(given, "rounding_unit"),
            validity_days=_whole(given, "validity_days", 1),
            basis=_one_of(given, "basis", get_args(Basis)),
            attendance_percent=_above_zero(given, "attendance_percent"),
            increment_minutes=_whole(given, "increment_minutes", 1),
            preparation_minutes=_whole(given, "preparation_minutes", 0),
        )


def _above_zero(given: Mapping[str, object], name: str) -> Decimal:
    value = decimal(given[name], setting=name, check=_CHECK)
    if value == 0:
        raise MigrationError(f"The setting {name} of the quote is 0", check=_CHECK, action=f"Set {name} above 0")
    return value


def _whole(given: Mapping[str, object], name: str, least: int) -> int:
    value = decimal(given[name], setting=name, check=_CHECK)
    if value != int(value) or not least <= value <= 100_000:
        raise MigrationError(
            f"The setting {name} of the quote is {value}",
            check=_CHECK,
            action=f"Set {name} to a whole number from {least} to 100000",
        )
    return int(value)


def _one_of(given: Mapping[str, object], name: str, choices: tuple[_Choice, ...]) -> _Choice:
    for choice in choices:
        if given[name] == choice:
            return choice
    raise MigrationError(
        f"The setting {name} of the quote is {given[name]!r}", check=_CHECK, action=f"Use {', '.join(choices)}"
    )
