"""Files in WebDAV stay behind, and the customer said after their last change that they are downloaded (R09)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ireporter.calendar_japan import JAPAN
from ireporter.plan_cloud_export import plan_cloud_export
from ireporter.plan_facts import Facts

from tests.unit.cloud_export_example import CHANGED, changed, failed, gate, good, good_contract, good_facts, with_term
from tests.unit.test_plan import GB


@pytest.mark.parametrize(
    ("newest", "confirmed", "said"),
    [
        (CHANGED, "2026-11-27 09:01", None),
        (CHANGED, "2026-11-27 09:00", "confirmed at 2026-11-27 09:00:00, not after that"),
        (CHANGED - timedelta(microseconds=1), "2026-11-27 09:00", None),
        (CHANGED + timedelta(microseconds=1), "2026-11-27 09:00", "not after that"),
        (CHANGED, "2026-11-26 23:59", "not after that"),
        (CHANGED, "2026-11-27 12:00", None),
        (CHANGED, "2026-11-27 12:01", "is to come"),
    ],
)
def test_the_download_is_confirmed_after_the_newest_file_changed(
    newest: datetime, confirmed: str, said: str | None
) -> None:
    facts = changed(good_facts(), newest.timestamp(), "source", "file_trees", 2, "newest_file_change")
    contract = changed(good_contract(), confirmed, "webdav", "confirmed_at")
    found = failed(replace(good(), facts=Facts(facts), contract=contract))
    assert list(found) == ([] if said is None else ["R09-webdav"])
    assert said is None or said in found["R09-webdav"]


@given(st.datetimes(datetime(2000, 1, 1), datetime(2037, 1, 1), timezones=st.just(UTC)), st.integers(-(10**6), 10**6))
def test_instants_are_compared_whatever_they_are_written_in(newest: datetime, minutes: int) -> None:
    confirmed = (newest + timedelta(minutes=minutes)).astimezone(JAPAN).replace(second=0, microsecond=0)
    facts = changed(good_facts(), newest.timestamp(), "source", "file_trees", 2, "newest_file_change")
    contract = changed(good_contract(), confirmed.strftime("%Y-%m-%d %H:%M"), "webdav", "confirmed_at")
    later = replace(good(), now=datetime(2040, 1, 1, tzinfo=UTC), facts=Facts(facts), contract=contract)
    assert gate(later, "R09-webdav")["passed"] == (confirmed > newest)


def test_without_a_file_in_webdav_nobody_need_confirm_and_zero_is_said() -> None:
    facts = changed(good_facts(), 0, "source", "file_trees", 2, "files")
    empty = replace(good(), facts=Facts(facts), contract=changed(good_contract(), None, "webdav", "confirmed_at"))
    assert failed(empty) == {}
    assert gate(empty, "R09-webdav")["message"].startswith("0 files are in WebDAV")
    none = with_term({"tree": "none"}, "webdav")
    assert failed(none) == {}
    assert "0 files stay behind" in gate(none, "R09-webdav")["message"]


def test_webdav_is_listed_and_not_in_the_total() -> None:
    data: Any = plan_cloud_export(good())["data"]
    assert data["data_bytes"] == 3 * GB + 1000
    assert [one["name"] for one in data["file_trees"]] == ["output", "settings"]
    assert data["left_behind"] == [{"name": "webdav", "bytes": 5 * GB}]
    assert data["database_groups"] == {"report": GB, "log": 1000}
    everything: Any = plan_cloud_export(with_term({"tree": "none"}, "webdav"))["data"]
    assert (everything["data_bytes"], everything["left_behind"]) == (8 * GB + 1000, [])
