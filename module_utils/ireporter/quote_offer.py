"""Hours of an engineer, and what they cost (R04): with a window by its hours, without one within and outside business hours. Pure and exact."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from math import ceil
from typing import Literal

from .billing_calendar import BUSINESS_FACTOR, OUTSIDE_FACTOR, BillingCalendar, Reason
from .calendar_interval import Interval
from .errors import MigrationError
from .estimate_time import Estimate
from .estimate_words import duration
from .plan_window import say
from .quote_money import Money, plain
from .quote_settings import QuoteSettings

When = Literal["window", "business-hours", "outside-hours"]


@dataclass(frozen=True)
class Line:
    """``minutes`` of work at ``unit_price`` an hour. ``start`` and ``end`` (Japan time) only where a window says when."""

    work: Literal["preparation", "migration"]
    reason: Reason | Literal["outside"]
    start: str
    end: str
    minutes: int
    factor: Decimal
    unit_price: Decimal
    amount: Decimal

    def as_result(self) -> dict[str, object]:
        return {
            "work": self.work,
            "reason": self.reason,
            "start": self.start,
            "end": self.end,
            "minutes": self.minutes,
            "factor": plain(self.factor),
            "unit_price": plain(self.unit_price),
            "amount": str(self.amount),
        }


@dataclass(frozen=True)
class Offer:
    """Lines that add up to ``subtotal``, tax on it, rounded once, and the sum of both."""

    when: When
    lines: tuple[Line, ...]
    subtotal: Decimal
    tax: Decimal
    total: Decimal

    def as_result(self) -> dict[str, object]:
        return {
            "when": self.when,
            "lines": [line.as_result() for line in self.lines],
            "subtotal": str(self.subtotal),
            "tax": str(self.tax),
            "total": str(self.total),
        }


def work_minutes(found: Estimate, settings: QuoteSettings) -> int:
    """Minutes an engineer works on the migration itself: the estimate's share that is attended, rounded up to increments."""
    seconds = found.total.likely if settings.basis == "likely" else found.total.high
    attended = seconds * Fraction(settings.attendance_percent) / 100
    return ceil(attended / 60 / settings.increment_minutes) * settings.increment_minutes


def offers(
    found: Estimate, settings: QuoteSettings, calendar: BillingCalendar, window: Interval | None
) -> tuple[Offer, ...]:
    """One offer by the hours of the window, or two: all of the migration within business hours, and all of it outside.

    Work begins with the window and goes on without a break. Preparation is done by day, before it.

    :raises MigrationError: the estimate (its slow end, as the gate R11-estimate has it) or the work is longer than the window (R11), or the window cannot be billed (R04).
    """
    minutes = work_minutes(found, settings)
    if window is None:
        return (
            _offer("business-hours", [_migration(minutes, "business", settings)], settings),
            _offer("outside-hours", [_migration(minutes, "outside", settings)], settings),
        )
    for what, needed in (("migration is", found.window_seconds()), ("engineer's work in it is", minutes * 60)):
        if needed > window.seconds:
            raise MigrationError(
                f"The {what} estimated at {duration(needed)}, the window {say(window.start)} to {say(window.end)} "
                f"has {duration(int(window.seconds))}",
                check="R11",
                action="Agree a longer window with the customer, then quote again",
            )
    work = Interval(window.start, window.start + timedelta(minutes=minutes))
    lines = [
        _line(
            work="migration",
            reason=piece.reason,
            minutes=piece.minutes,
            settings=settings,
            factor=piece.factor,
            span=piece.span,
        )
        for piece in calendar.split([work])
    ]
    return (_offer("window", lines, settings),)


def _migration(minutes: int, reason: Literal["business", "outside"], settings: QuoteSettings) -> Line:
    factor = BUSINESS_FACTOR if reason == "business" else OUTSIDE_FACTOR
    return _line(work="migration", reason=reason, minutes=minutes, settings=settings, factor=factor)


def _line(
    *,
    work: Literal["preparation", "migration"],
    reason: Reason | Literal["outside"],
    minutes: int,
    settings: QuoteSettings,
    factor: Fraction,
    span: Interval | None = None,
) -> Line:
    # 1 and 1.5 are exact decimals, so the product with the rate is.
    written = Decimal(factor.numerator) / Decimal(factor.denominator)
    return Line(
        work=work,
        reason=reason,
        start=say(span.start) if span else "",
        end=say(span.end) if span else "",
        minutes=minutes,
        factor=written,
        unit_price=settings.rate * written,
        amount=settings.money.round(Fraction(settings.rate) * factor * minutes / 60),
    )


def _offer(when: When, migration: Iterable[Line], settings: QuoteSettings) -> Offer:
    lines = list(migration)
    if settings.preparation_minutes:
        by_day = _line(
            work="preparation",
            reason="business",
            minutes=settings.preparation_minutes,
            settings=settings,
            factor=BUSINESS_FACTOR,
        )
        lines.insert(0, by_day)
    money: Money = settings.money
    subtotal = sum((line.amount for line in lines), Decimal(0))
    tax = money.round(Fraction(subtotal) * Fraction(settings.tax_percent) / 100)
    return Offer(when, tuple(lines), subtotal, tax, subtotal + tax)
