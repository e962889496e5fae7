"""Money: exact fractions until the one rounding that a setting asks for, never floats."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import ceil, floor
from typing import Literal, get_args

from .errors import MigrationError

Rounding = Literal["down", "up", "half_up", "half_even"]
ROUNDINGS: tuple[Rounding, ...] = get_args(Rounding)

_NUMBER = re.compile(r"\d{1,15}(\.\d{1,6})?", re.ASCII)
_CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)


@dataclass(frozen=True)
class Money:
    """What amounts are in: an ISO 4217 code, the smallest amount, and which way to get there."""

    currency: str
    unit: Decimal
    rounding: Rounding

    def round(self, exact: Fraction) -> Decimal:
        """The nearest multiple of the unit in the direction asked for; ``exact`` is not negative."""
        parts = exact / Fraction(self.unit)
        match self.rounding:
            case "down":
                whole = floor(parts)
            case "up":
                whole = ceil(parts)
            case "half_up":
                whole = floor(parts + Fraction(1, 2))
            case "half_even":
                whole = round(parts)
        return whole * self.unit

    def say(self, amount: Decimal) -> str:
        """Digits in groups of three with as many decimals as the unit has, more only where the amount needs them."""
        decimals = max(_decimals(self.unit), _decimals(amount.normalize()))
        return f"{amount:,.{decimals}f}"


def decimal(value: object, *, setting: str, check: str) -> Decimal:
    """A number that is not negative, exactly as it was written. A float is no such thing.

    :raises MigrationError: it is anything else.
    """
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not _NUMBER.fullmatch(text):
        raise MigrationError(
            f"The setting {setting} of the quote is {value!r}, which is no exact number",
            check=check,
            action=f'Write {setting} as quoted digits like "12000" or "8.5"',
        )
    return Decimal(text)


def currency(value: object, *, check: str) -> str:
    """An ISO 4217 code.

    :raises MigrationError: it is anything else.
    """
    if not isinstance(value, str) or not _CURRENCY.fullmatch(value):
        raise MigrationError(
            f"The setting currency of the quote is {value!r}", check=check, action="Write it as a code like JPY"
        )
    return value


def plain(amount: Decimal) -> str:
    """Digits without an exponent and without zeros that say nothing."""
    return f"{amount.normalize():f}"


def _decimals(amount: Decimal) -> int:
    exponent = amount.as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0
