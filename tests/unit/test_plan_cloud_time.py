"""How long an export takes, what its window holds, what maintenance may meet (R10, R11)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ireporter.billing_calendar import BillingCalendar
from ireporter.calendar_interval import Interval
from ireporter.calendar_japan import JAPAN
from ireporter.data_total import DataTotal, TreeData
from ireporter.errors import MigrationError
from ireporter.estimate_input import EstimateInput, Throughput
from ireporter.plan_cloud_export import plan_cloud_export
from ireporter.plan_estimate import estimate_picture, seconds_of
from ireporter.plan_facts import Facts
from ireporter.plan_settings import PlanSettings
from ireporter.quote_offer import offers
from ireporter.quote_settings import QuoteSettings

from tests.unit.cloud_export_example import SAMPLES, failed, good, good_facts
from tests.unit.quote_example import SETTINGS


def test_the_window_holds_the_whole_migration_and_maintenance_meets_the_freeze_only() -> None:
    estimate: Any = plan_cloud_export(good())["estimate"]
    work = estimate["remaining_seconds"]
    # 3 GB: 30 x 4 s to compress, 30 x 25 s to download, 30 x 6 s to restore, 130 s overhead, and 1000 bytes, rounded up.
    assert work == estimate["whole"]["seconds"]["high"] == 30 * (4 + 25 + 6) + 130 + 1
    assert estimate["freeze_seconds"] < 300 < work
    start = datetime(2026, 11, 28, tzinfo=JAPAN)
    minutes = int(work // 60)
    for length, passes in ((minutes, False), (minutes + 1, True)):
        end = (start + timedelta(minutes=length)).strftime("%Y-%m-%d %H:%M")
        found = failed(replace(good(), window={"start": "2026-11-28 00:00", "end": end}))
        assert list(found) == ([] if passes else ["R11-estimate"])
    export = [{"start": "2026-11-28 00:10", "end": "2026-11-28 03:00", "what": "monthly maintenance"}]
    assert failed(replace(good(), maintenance=export)) == {}
    freeze = [{"start": "2026-11-28 00:01", "end": "2026-11-28 03:00", "what": "monthly maintenance"}]
    assert list(failed(replace(good(), maintenance=freeze))) == ["R11-maintenance"]
    assert list(failed(replace(good(), maintenance=None))) == ["R11-maintenance"]


def test_the_cut_over_begins_inside_the_window_only_and_what_is_done_needs_no_time() -> None:
    begins = replace(good(), begins_now=True)
    assert list(failed(begins)) == ["R10-now"]
    late = replace(begins, now=datetime(2026, 11, 29, 14, 50, tzinfo=UTC))
    assert list(failed(late)) == ["R11-estimate"]
    assert failed(replace(late, remaining=["files-last-pass", "restore"])) == {}
    assert list(failed(replace(late, remaining=["download"]))) == ["R11-estimate"]
    with pytest.raises(MigrationError, match="no part of the estimate"):
        plan_cloud_export(replace(good(), remaining=["coffee"]))


def test_the_quote_refuses_exactly_the_windows_that_the_gate_refuses() -> None:
    settings = QuoteSettings.read(SETTINGS | {"attendance_percent": 1, "increment_minutes": 1})
    found = EstimateInput(Facts(good_facts()["source"]), "webdav", Throughput(SAMPLES)).estimate()
    start = datetime(2026, 11, 28, tzinfo=JAPAN)
    for minutes in range(found.window_seconds() // 60 - 1, found.window_seconds() // 60 + 3):
        end = start + timedelta(minutes=minutes)
        window = {"start": "2026-11-28 00:00", "end": end.strftime("%Y-%m-%d %H:%M")}
        try:
            offers(found, settings, BillingCalendar.read({"start": "09:00", "end": "18:00"}), Interval(start, end))
            quoted = True
        except MigrationError as error:
            assert "(R11)" in str(error)
            quoted = False
        assert quoted == ("R11-estimate" not in failed(replace(good(), window=window)))


def test_without_samples_the_estimate_is_unknown_and_refused() -> None:
    found = failed(replace(good(), throughput=Throughput([])))
    assert list(found) == ["R03-estimate", "R03-quote", "R11-estimate"]
    assert "There are no samples of throughput" in found["R03-estimate"]
    # The freeze, which the settings say, may still be held against maintenance.
    result: Any = plan_cloud_export(replace(good(), throughput=Throughput([])))["estimate"]
    assert (result["whole"], result["remaining_seconds"], result["freeze_seconds"]) == (
        {},
        None,
        pytest.approx(120, abs=1),
    )


@given(*[st.integers(0, 10**13)] * 3)
def test_more_data_never_takes_less_time(database: int, files: int, size: int) -> None:
    one = DataTotal(database, (), (TreeData("output", files, size),))
    two = DataTotal(2 * database, (), (TreeData("output", 2 * files, 2 * size),))
    for phase in ("prepare", "freeze"):
        alone = seconds_of(estimate_picture(one, PlanSettings()), phase)  # type: ignore[arg-type]
        assert 0 <= alone <= seconds_of(estimate_picture(two, PlanSettings()), phase)  # type: ignore[arg-type]
