"""R04: which minutes cost 1.5 times as much, in Japan, whatever the zone of this machine."""

from __future__ import annotations

import itertools
import os
import time
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ireporter.billing_calendar import BillingCalendar
from ireporter.calendar_interval import Interval
from ireporter.calendar_japan import JAPAN, japan_minute
from ireporter.errors import MigrationError

HOURS = {"start": "09:00", "end": "18:00"}
USUAL = BillingCalendar.read(HOURS)


def span(start: str, end: str) -> Interval:
    return Interval(
        japan_minute(start, field="start", check="R04"), japan_minute(end, field="end", check="R04"), "window"
    )


def told(calendar: BillingCalendar, start: str, end: str) -> list[tuple[str, str, str, int]]:
    return [
        (f"{piece.span.start:%d %H:%M}", f"{piece.span.end:%d %H:%M}", piece.reason, piece.minutes)
        for piece in calendar.split([span(start, end)])
    ]


def test_a_window_over_midnight_is_one_span_after_hours() -> None:
    # Tuesday to Wednesday, 2026-11-24 and 25
    assert told(USUAL, "2026-11-24 17:00", "2026-11-25 10:00") == [
        ("24 17:00", "24 18:00", "business", 60),
        ("24 18:00", "25 09:00", "after-hours", 900),
        ("25 09:00", "25 10:00", "business", 60),
    ]


def test_half_open_at_both_ends_of_business() -> None:
    assert told(USUAL, "2026-11-24 08:59", "2026-11-24 09:01") == [
        ("24 08:59", "24 09:00", "after-hours", 1),
        ("24 09:00", "24 09:01", "business", 1),
    ]
    assert told(USUAL, "2026-11-24 17:59", "2026-11-24 18:00") == [("24 17:59", "24 18:00", "business", 1)]
    assert told(USUAL, "2026-11-24 18:00", "2026-11-24 18:01") == [("24 18:00", "24 18:01", "after-hours", 1)]
    assert told(USUAL, "2026-11-24 09:00", "2026-11-24 18:00") == [("24 09:00", "24 18:00", "business", 540)]


def test_from_friday_night_over_a_long_weekend() -> None:
    # Monday, 2026-11-23, is Labour Thanksgiving Day.
    assert told(USUAL, "2026-11-20 22:00", "2026-11-24 09:30") == [
        ("20 22:00", "21 00:00", "after-hours", 120),
        ("21 00:00", "23 00:00", "weekend", 2880),
        ("23 00:00", "24 00:00", "holiday", 1440),
        ("24 00:00", "24 09:00", "after-hours", 540),
        ("24 09:00", "24 09:30", "business", 30),
    ]


@pytest.mark.parametrize(
    ("day", "reason"),
    [
        ("2026-05-06", "holiday"),  # Constitution Day fell on Sunday: substitute holiday, three days later
        ("2026-09-22", "holiday"),  # between two holidays: citizens' holiday
        ("2026-09-21", "holiday"),
        ("2026-09-23", "holiday"),
        ("2026-09-24", "business"),
        ("2027-03-22", "holiday"),  # Vernal Equinox Day fell on Sunday
        ("2020-07-24", "holiday"),  # Sports Day, moved for one year
        ("2020-10-12", "business"),
        ("2026-12-31", "business"),  # a bank holiday is no public holiday
        ("2027-01-01", "holiday"),
        ("2027-01-04", "business"),
        ("2026-11-21", "weekend"),
        ("2026-11-22", "weekend"),
    ],
)
def test_public_holidays(day: str, reason: str) -> None:
    assert told(USUAL, f"{day} 10:00", f"{day} 11:00")[0][2] == reason


def test_year_end_with_closed_days_of_every_year() -> None:
    calendar = BillingCalendar.read(HOURS, ["12-30", "12-31", "01-02", "01-03", "2027-01-04"])
    assert told(calendar, "2026-12-29 17:00", "2027-01-05 10:00") == [
        ("29 17:00", "29 18:00", "business", 60),
        ("29 18:00", "30 00:00", "after-hours", 360),
        ("30 00:00", "01 00:00", "closed", 2880),
        ("01 00:00", "02 00:00", "holiday", 1440),
        ("02 00:00", "04 00:00", "weekend", 2880),
        ("04 00:00", "05 00:00", "closed", 1440),
        ("05 00:00", "05 09:00", "after-hours", 540),
        ("05 09:00", "05 10:00", "business", 60),
    ]
    assert told(calendar, "2027-12-30 10:00", "2027-12-30 11:00")[0][2] == "closed"
    assert told(calendar, "2028-01-04 10:00", "2028-01-04 11:00")[0][2] == "business"


def test_business_around_the_clock_and_from_midnight() -> None:
    always = BillingCalendar.read({"start": "00:00", "end": "24:00"})
    assert told(always, "2026-11-24 23:00", "2026-11-25 01:00") == [("24 23:00", "25 01:00", "business", 120)]
    night = BillingCalendar.read({"start": "00:00", "end": "06:00"})
    assert [piece[2] for piece in told(night, "2026-11-24 05:00", "2026-11-24 07:00")] == ["business", "after-hours"]


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Tokyo"])
@pytest.mark.parametrize(
    ("start", "end"), [("2026-03-08 01:00", "2026-03-09 12:00"), ("2026-10-25 00:00", "2026-10-26 10:00")]
)
def test_a_control_node_whose_clocks_change_splits_the_same(
    zone: str, start: str, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [
        (piece.span.start.timestamp(), piece.reason, piece.minutes) for piece in USUAL.split([span(start, end)])
    ]
    monkeypatch.setitem(os.environ, "TZ", zone)
    time.tzset()
    try:
        wanted = span(start, end)
        # The same instants as that node would write them, in a day of 23 or 25 hours.
        there = Interval(wanted.start.astimezone(ZoneInfo(zone)), wanted.end.astimezone(ZoneInfo(zone)))
        for given_span in (wanted, there, Interval(wanted.start.astimezone(UTC), wanted.end.astimezone(UTC))):
            found = [(p.span.start.timestamp(), p.reason, p.minutes) for p in USUAL.split([given_span])]
            assert found == expected
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("work", "words"),
    [
        ([span("2026-11-24 10:00", "2026-11-24 10:00")], "is empty"),
        ([span("2026-11-24 10:00", "2026-11-24 09:00")], "is empty"),
        ([span("2026-11-24 10:00", "2026-11-24 12:00"), span("2026-11-24 11:59", "2026-11-24 13:00")], "billed twice"),
        ([Interval(datetime(2026, 11, 24, 9), datetime(2026, 11, 24, 10))], "no time zone"),
        (
            [Interval(datetime(2026, 11, 24, 9, 0, 1, tzinfo=JAPAN), datetime(2026, 11, 24, 10, tzinfo=JAPAN))],
            "whole minutes",
        ),
        ([span("2100-01-04 09:00", "2100-01-04 10:00")], "Public holidays are known from 2007 to 2099"),
        ([span("2006-01-04 09:00", "2006-01-04 10:00")], "Public holidays are known"),
    ],
)
def test_what_cannot_be_billed_is_refused(work: list[Interval], words: str) -> None:
    with pytest.raises(MigrationError, match=rf"{words}.*\(R04\)"):
        USUAL.split(work)


def test_spans_that_touch_are_joined() -> None:
    halves = [span("2026-11-24 10:00", "2026-11-24 11:00"), span("2026-11-24 09:30", "2026-11-24 10:00")]
    assert [piece.minutes for piece in USUAL.split(halves)] == [90]


@pytest.mark.parametrize(
    ("hours", "days"),
    [
        ({"start": "09:00", "end": 1080}, []),  # what YAML makes of 18:00
        ({"start": "9:00", "end": "18:00"}, []),
        ({"start": "18:00", "end": "09:00"}, []),
        ({"start": "09:00", "end": "09:00"}, []),
        ({"start": "24:00", "end": "24:00"}, []),
        ({"start": "09:00"}, []),
        ({"start": "09:00", "finish": "18:00"}, []),
        (HOURS, ["02-30"]),
        (HOURS, ["2026-02-29"]),
        (HOURS, [1229]),
        (HOURS, ["29.12."]),
    ],
)
def test_settings_that_are_none_are_refused(hours: dict[str, object], days: list[object]) -> None:
    with pytest.raises(MigrationError, match="R04"):
        BillingCalendar.read(hours, days)


MINUTES = st.integers(0, 3 * 365 * 24 * 60)
BASE = datetime(2026, 1, 1, tzinfo=JAPAN)


@given(MINUTES, st.integers(1, 6 * 24 * 60), st.integers(0, 1438), st.integers(1, 1440))
def test_every_minute_is_billed_once_at_its_own_rate(begin: int, length: int, opens: int, hours: int) -> None:
    """Property: the pieces are the window, and each minute's reason is what a look at that minute alone says."""
    calendar = BillingCalendar(opens, min(opens + hours, 1440), frozenset({date(2026, 8, 13)}), frozenset({(12, 29)}))
    window = Interval(BASE + timedelta(minutes=begin), BASE + timedelta(minutes=begin + length))
    pieces = calendar.split([window])
    assert (pieces[0].span.start, pieces[-1].span.end) == (window.start, window.end)
    for before, after in itertools.pairwise(pieces):
        assert before.span.end == after.span.start
        assert before.reason != after.reason
    assert sum(piece.minutes for piece in pieces) == length
    for piece in pieces:
        for minute in {piece.span.start, piece.span.end - timedelta(minutes=1)}:
            (alone,) = calendar.split([Interval(minute, minute + timedelta(minutes=1))])
            assert alone.reason == piece.reason
            within = calendar.opens <= minute.hour * 60 + minute.minute < calendar.closes
            assert (piece.reason in {"business"}) <= within
            assert piece.factor == (1 if piece.reason == "business" else Fraction(3, 2))
