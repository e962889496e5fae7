"""R04: which minutes of work are billed at 1.5 times the business-hour rate. All in Japan time, all spans half-open, whole minutes only."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from fractions import Fraction
from typing import Literal

import holidays

from .calendar_interval import Interval
from .calendar_japan import JAPAN, japan_day
from .errors import MigrationError
from .known_names import refuse_unknown

Reason = Literal["business", "after-hours", "weekend", "holiday", "closed"]

BUSINESS_FACTOR = Fraction(1)
OUTSIDE_FACTOR = Fraction(3, 2)  # R04 says 1.5; it is a rule, not a setting

_CHECK = "R04"
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00", re.ASCII)
_YEARLY = re.compile(r"\d{2}-\d{2}", re.ASCII)
_MINUTES_OF_A_DAY = 24 * 60
# The law on holidays as it is now begins with 2007; beyond 2099 the library knows none and says so to nobody.
_FIRST_YEAR, _LAST_YEAR = 2007, 2099


@dataclass(frozen=True)
class Billed:
    """A span of work in which every minute costs the same, for one ``reason``."""

    span: Interval
    reason: Reason

    @property
    def minutes(self) -> int:
        return minutes_of(self.span)

    @property
    def factor(self) -> Fraction:
        return BUSINESS_FACTOR if self.reason == "business" else OUTSIDE_FACTOR


@dataclass(frozen=True)
class BillingCalendar:
    """Business hours in minutes since midnight, and days on which there are none beside weekends and public holidays.

    ``closed_yearly`` are (month, day), ``closed_days`` single days.
    """

    opens: int
    closes: int
    closed_days: frozenset[date] = frozenset()
    closed_yearly: frozenset[tuple[int, int]] = frozenset()

    @classmethod
    def read(cls, business_hours: Mapping[str, object], closed_days: Iterable[object] = ()) -> BillingCalendar:
        """From the operator's settings.

        :param business_hours: ``{start, end}`` as ``HH:MM``; ``24:00`` is the end of the day.
        :param closed_days: each ``YYYY-MM-DD``, or ``MM-DD`` for every year.
        :raises MigrationError: a value is no time or day, or business ends before it begins (R04).
        """
        refuse_unknown(business_hours, ("start", "end"), what="business_hours", check=_CHECK)
        opens = _clock(business_hours.get("start"), "start")
        closes = _clock(business_hours.get("end"), "end")
        if closes <= opens:
            raise MigrationError(
                f"Business hours end ({business_hours['end']}) before they start ({business_hours['start']})",
                check=_CHECK,
                action="Correct start and end of business_hours",
            )
        days: set[date] = set()
        yearly: set[tuple[int, int]] = set()
        for day in closed_days:
            if isinstance(day, str) and _YEARLY.fullmatch(day):
                # 2000 is a leap year: 02-29 is a day that some years have.
                read = japan_day(f"2000-{day}", field=f"The closed day {day}", check=_CHECK)
                yearly.add((read.month, read.day))
            else:
                days.add(japan_day(day, field="A closed day", check=_CHECK))
        return cls(opens, closes, frozenset(days), frozenset(yearly))

    def split(self, work: Iterable[Interval]) -> list[Billed]:
        """The hours of work in order of time, cut wherever the reason for their price changes; no minute is lost or added.

        :raises MigrationError: a span is empty, not of whole minutes, in years whose holidays are unknown, or meets another one (R04).
        """
        billed: list[Billed] = []
        last: Interval | None = None
        for span in sorted(work, key=lambda one: one.start):
            checked = _checked(span)
            if last is not None and checked.overlaps(last):
                raise MigrationError(
                    f"Two spans of work meet at {_say(checked.start)} Japan time and would be billed twice",
                    check=_CHECK,
                    action="Give spans that do not overlap",
                )
            last = checked
            for piece, reason in self._pieces(checked):
                before = billed[-1] if billed else None
                if before is not None and before.reason == reason and before.span.end == piece.start:
                    billed[-1] = Billed(Interval(before.span.start, piece.end, piece.what), reason)
                else:
                    billed.append(Billed(piece, reason))
        return billed

    def _pieces(self, span: Interval) -> Iterator[tuple[Interval, Reason]]:
        day = span.start.date()
        while True:
            midnight = datetime(day.year, day.month, day.day, tzinfo=JAPAN)
            closed = self._closed(day)
            marks = [0, _MINUTES_OF_A_DAY] if closed else [0, self.opens, self.closes, _MINUTES_OF_A_DAY]
            for begin, end in itertools.pairwise(marks):
                piece = Interval(
                    max(span.start, midnight + timedelta(minutes=begin)),
                    min(span.end, midnight + timedelta(minutes=end)),
                    span.what,
                )
                if piece.start < piece.end:
                    yield piece, closed or ("business" if begin == self.opens else "after-hours")
            day += timedelta(days=1)
            if midnight + timedelta(days=1) >= span.end:
                return

    def _closed(self, day: date) -> Reason | None:
        if day in _public_holidays(day.year):
            return "holiday"
        if day.weekday() >= 5:
            return "weekend"
        if day in self.closed_days or (day.month, day.day) in self.closed_yearly:
            return "closed"
        return None


def minutes_of(span: Interval) -> int:
    """Length in whole minutes."""
    return (span.end - span.start) // timedelta(minutes=1)


def _public_holidays(year: int) -> holidays.HolidayBase:
    """National holidays with substitute (振替休日) and citizens' holidays (国民の休日); bank holidays are none of them."""
    return holidays.country_holidays("JP", years=year, expand=False)


def _checked(span: Interval) -> Interval:
    """In Japan time, so that days begin at Japan's midnight wherever the control node stands."""
    if span.start.tzinfo is None or span.end.tzinfo is None:
        raise MigrationError(
            "A span of work has no time zone", check=_CHECK, action="Give instants with their zone, Japan time"
        )
    japan = Interval(span.start.astimezone(JAPAN), span.end.astimezone(JAPAN), span.what)
    if japan.end <= japan.start:
        raise MigrationError(
            f"A span of work from {_say(japan.start)} to {_say(japan.end)} Japan time is empty",
            check=_CHECK,
            action="Give a start and a later end",
        )
    if any(instant.second or instant.microsecond for instant in (japan.start, japan.end)):
        raise MigrationError(
            f"A span of work from {japan.start.isoformat()} to {japan.end.isoformat()} is not of whole minutes",
            check=_CHECK,
            action="Give start and end to the minute",
        )
    if japan.start.year < _FIRST_YEAR or japan.end.year > _LAST_YEAR:
        raise MigrationError(
            f"Public holidays are known from {_FIRST_YEAR} to {_LAST_YEAR}, not for {_say(japan.start)} to {_say(japan.end)}",
            check=_CHECK,
            action="Correct the year",
        )
    return japan


def _say(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%d %H:%M")


def _clock(text: object, name: str) -> int:
    if isinstance(text, str) and _CLOCK.fullmatch(text):
        hours, minutes = text.split(":")
        return int(hours) * 60 + int(minutes)
    # Without quotes YAML reads 18:00 as the number 1080.
    raise MigrationError(
        f"The {name} of business_hours is {text!r}, which is no time of day",
        check=_CHECK,
        action=f'Write it in quotes as "HH:MM", for example {name}: "{"09:00" if name == "start" else "18:00"}"',
    )
