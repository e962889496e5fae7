"""Japan time, half-open spans, invoice months."""

from __future__ import annotations

import os
import time
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ireporter.calendar_interval import Interval, first_fit
from ireporter.calendar_invoice import invoice_month
from ireporter.calendar_japan import JAPAN, japan_day, japan_minute
from ireporter.errors import MigrationError

MINUTES = st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2099, 1, 1)).map(
    lambda moment: moment.replace(second=0, microsecond=0)
)


def test_japan_time_is_nine_hours_ahead_all_year() -> None:
    assert japan_minute("2026-07-01 09:00", field="window start", check="R10") == datetime(2026, 7, 1, tzinfo=UTC)
    assert japan_minute("2026-01-01 09:00", field="window start", check="R10") == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Berlin", "Australia/Lord_Howe"])
def test_the_control_nodes_zone_does_not_matter(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "TZ", zone)
    time.tzset()
    try:
        # An hour that does not exist in New York and one that exists twice in Berlin.
        for text, instant in [("2026-03-08 02:30", "2026-03-07T17:30"), ("2026-10-25 02:30", "2026-10-24T17:30")]:
            assert japan_minute(text, field="x", check="R10") == datetime.fromisoformat(instant + "+00:00")
    finally:
        monkeypatch.undo()
        time.tzset()


@given(MINUTES)
def test_every_minute_can_be_written_and_read(moment: datetime) -> None:
    text = moment.strftime("%Y-%m-%d %H:%M")
    assert japan_minute(text, field="x", check="R10").strftime("%Y-%m-%d %H:%M") == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-28",
        "2026-11-31 10:00",
        "2026-11-28T10:00",
        "2026-11-28 10:00:00",
        "2026-11-28 24:00",
        " 2026-11-28 10:00",
        "2026-11-28 10:00+00:00",
        "tomorrow",
        None,
        20261128,
        "２０２６-11-28 10:00",
        "2026-11-28 10:00\n",
    ],
)
def test_anything_else_is_refused_naming_the_field(text: object) -> None:
    with pytest.raises(MigrationError, match=r"window start .*\(R10\).*YYYY-MM-DD HH:MM"):
        japan_minute(text, field="window start", check="R10")


def test_a_day_may_carry_its_time() -> None:
    assert japan_day("2026-11-25", field="x", check="R12") == japan_day("2026-11-25 23:59", field="x", check="R12")
    for text in ["2026-02-29", "25.11.2026", None, "20261125"]:
        with pytest.raises(MigrationError, match="R12"):
            japan_day(text, field="x", check="R12")


@pytest.mark.parametrize(
    ("submitted", "month"),
    [
        (date(2026, 11, 1), date(2026, 12, 1)),
        (date(2026, 11, 25), date(2026, 12, 1)),
        (date(2026, 11, 26), date(2027, 1, 1)),
        (date(2026, 12, 25), date(2027, 1, 1)),
        (date(2026, 12, 26), date(2027, 2, 1)),
        (date(2024, 2, 29), date(2024, 4, 1)),
    ],
)
def test_invoice_month(submitted: date, month: date) -> None:
    assert invoice_month(submitted) == month


@given(st.dates(min_value=date(2000, 1, 1), max_value=date(2099, 12, 1)))
def test_the_invoice_month_is_one_or_two_months_ahead_and_never_goes_back(submitted: date) -> None:
    month = invoice_month(submitted)
    ahead = (month.year - submitted.year) * 12 + month.month - submitted.month
    assert month.day == 1
    assert ahead == (1 if submitted.day <= 25 else 2)
    assert invoice_month(submitted + timedelta(days=1)) >= month


def span(start: int, end: int) -> Interval:
    base = datetime(2026, 11, 28, tzinfo=JAPAN)
    return Interval(base + timedelta(minutes=start), base + timedelta(minutes=end))


def test_spans_that_touch_do_not_overlap() -> None:
    assert not span(0, 10).overlaps(span(10, 20))
    assert span(0, 11).overlaps(span(10, 20))
    assert not span(5, 5).overlaps(span(0, 10))
    assert span(0, 10).contains(span(0, 1).start)
    assert not span(0, 10).contains(span(10, 11).start)


PAIRS = st.tuples(st.integers(0, 300), st.integers(0, 300)).map(sorted).map(lambda pair: span(pair[0], pair[1]))


@given(PAIRS, PAIRS)
def test_overlap_means_a_common_minute(one: Interval, other: Interval) -> None:
    minutes = {m for m in range(301) if one.contains(span(m, m).start) and other.contains(span(m, m).start)}
    assert one.overlaps(other) == other.overlaps(one) == bool(minutes)


@given(PAIRS, st.integers(1, 120), st.lists(PAIRS, max_size=6))
def test_first_fit_is_the_earliest_free_span(inside: Interval, minutes: int, blocked: list[Interval]) -> None:
    def free(start: int) -> bool:
        candidate = span(start, start + minutes)
        fits = inside.start <= candidate.start and candidate.end <= inside.end
        return fits and not any(candidate.overlaps(obstacle) for obstacle in blocked)

    expected = next((start for start in range(301) if free(start)), None)
    found = first_fit(inside, minutes * 60, blocked)
    assert (found.start if found else None) == (span(expected, expected).start if expected is not None else None)
