"""What an export's contract has to say: quote, paperwork, licence, accounts, its end (R03, R06, R07, R08, R12)."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ireporter.plan_cloud_contract import licence_gate
from ireporter.plan_cloud_export import plan_cloud_export
from ireporter.plan_facts import Facts

from tests.unit.cloud_export_example import failed, good, good_contract, with_fact, with_term


@pytest.mark.parametrize(
    ("path", "value", "name", "said"),
    [
        (("quote_number",), None, "R03-quote", "current quote is missing"),
        (("quote_number",), "", "R03-quote", "current quote is missing"),
        (("quote_number",), 2, "R03-quote", "no text"),
        (("quote_number",), "Q-3", "R03-accepted", "Quote Q-2 was accepted, but the current quote is Q-3"),
        (("quote_number",), "Q-2\n", "R03-quote", "white space"),
        (("accepted_quote_number",), None, "R03-accepted", "accepted quote is missing"),
        (("accepted_quote_number",), "q-2", "R03-accepted", "current quote is Q-2"),
        (("accepted_quote_number",), True, "R03-accepted", "no text"),
        (("paperwork",), None, "R06-paperwork", "not said to be complete"),
        (("paperwork", "complete"), "true", "R06-paperwork", "not said to be complete"),
        (("paperwork", "complete"), 1, "R06-paperwork", "not said to be complete"),
        (("paperwork", "complete"), False, "R06-paperwork", "not said to be complete"),
        (("paperwork",), {"complete": True}, "R06-paperwork", "without a date or reference"),
        (("paperwork", "date"), "2026-11-28", "R06-paperwork", "to come"),
        (("paperwork", "date"), "27.11.2026", "R06-paperwork", "no day"),
        (("paperwork", "reference"), "", "R06-paperwork", "empty"),
        (("licence_margin_days",), None, "R07-licence", "not set"),
        (("licence_margin_days",), "14", "R07-licence", "'14'"),
        (("licence_margin_days",), -1, "R07-licence", "-1"),
        (("licence_margin_days",), True, "R07-licence", "True"),
        (("licence_from",), None, "R07-licence", "no day"),
        (("licensed_users",), None, "R08-accounts", "not set"),
        (("licensed_users",), 0, "R08-accounts", "0"),
        (("licensed_users",), "120", "R08-accounts", "'120'"),
        (("licensed_users",), 119, "R08-accounts", "licensed for 119"),
        (("webdav",), None, "R09-webdav", "is not said"),
        (("webdav", "tree"), "dav", "R09-webdav", "dav of the WebDAV storage was not found"),
        (("webdav", "confirmed_at"), None, "R09-webdav", "3 files .* no download is confirmed"),
        (("webdav", "confirmed_at"), "yesterday", "R09-webdav", "no minute"),
        (("exclude",), [], "R13-selection", "contract exclude"),
    ],
)
def test_each_term_of_the_contract_has_its_gate(path: tuple[str, ...], value: object, name: str, said: str) -> None:
    found = failed(with_term(value, *path))
    assert re.search(said, found[name]), found


@pytest.mark.parametrize("paperwork", [{"date": "2026-11-01"}, {"reference": "SO-4711"}])
def test_a_date_or_a_reference_is_enough(paperwork: dict[str, str]) -> None:
    assert failed(with_term({"complete": True, **paperwork}, "paperwork")) == {}


def test_a_quote_comes_after_total_and_estimate() -> None:
    found = failed(with_fact(None, "source", "database", "bytes"))
    assert "Quote Q-2 stands on nothing" in found["R03-quote"]
    contract = good_contract()
    del contract["quote_number"]
    assert (
        "Quote Q-2 was accepted, but there is no current quote"
        in failed(replace(good(), contract=contract))["R03-accepted"]
    )


@pytest.mark.parametrize(
    ("begins", "margin", "passes"),
    [
        ("2026-11-16", 14, True),
        ("2026-11-17", 14, False),
        ("2026-11-15", 14, True),
        ("2026-11-30", 0, True),
        ("2026-12-01", 0, False),
        ("2026-11-29", 1, True),
        ("2026-11-30", 1, False),
        ("2025-11-30", 365, True),
        ("2025-12-01", 365, False),
        ("2026-11-16 00:00", 14, True),
    ],
)
def test_the_licence_is_in_force_by_the_margin(begins: str, margin: int, passes: bool) -> None:
    contract = good_contract() | {"licence_from": begins, "licence_margin_days": margin}
    assert list(failed(replace(good(), contract=contract))) == ([] if passes else ["R07-licence"])


@given(st.dates(date(2020, 1, 1), date(2040, 1, 1)), st.integers(-800, 800), st.integers(0, 400))
def test_the_margin_is_counted_in_days(end: date, before: int, margin: int) -> None:
    begins = end - timedelta(days=before)
    judged = licence_gate(Facts({"licence_from": begins.isoformat(), "licence_margin_days": margin}), end)
    assert judged.passed == (before >= margin)
    assert judged.measured == before


@pytest.mark.parametrize(
    ("changes", "end", "found"),
    [
        ({"submitted": "2026-11-25"}, "2026-11-30", set()),
        ({"submitted": "2026-11-26"}, "2026-12-31", set()),
        ({"ends": "2026-12-15"}, "2026-12-15", set()),
        ({"ends": "2026-11-30"}, "2026-11-30", set()),
        ({"ends": "2026-11-29"}, "2026-11-29", {"R12-contract-end", "R07-licence"}),
        ({"term": "year", "ends": "2027-03-31"}, "2027-03-31", set()),
        ({"term": "year"}, "", {"R12-contract-end", "R07-licence", "R07-window"}),
        ({"term": None}, "", {"R12-contract-end", "R07-licence", "R07-window"}),
        ({"term": "decade"}, "", {"R12-contract-end", "R07-licence", "R07-window"}),
        ({"term": ["month"]}, "", {"R12-contract-end", "R07-licence", "R07-window"}),
        ({"ends": "soon"}, "", {"R12-contract-end", "R07-licence", "R07-window"}),
        ({"submitted": None}, "", {"R12-invoice-month", "R12-contract-end", "R07-licence", "R07-window"}),
        ({"submitted": None, "ends": "2026-12-31"}, "2026-12-31", {"R12-invoice-month"}),
    ],
)
def test_the_end_of_the_contract(changes: dict[str, Any], end: str, found: set[str]) -> None:
    given = replace(good(), contract=good_contract() | changes)
    assert set(failed(given)) == found
    result: Any = plan_cloud_export(given)
    assert result["contract_end"] == end
    # R12 refuses nothing.
    assert not [said for said in result["refusals"] if "(R12)" in said]


@pytest.mark.parametrize(("ends", "passes"), [("2026-12-01 00:00", True), ("2026-12-01 00:01", False)])
def test_the_window_lies_in_the_contract(ends: str, passes: bool) -> None:
    given = replace(good(), window={"start": "2026-11-28 00:00", "end": ends})
    assert list(failed(given)) == ([] if passes else ["R07-window"])


@given(st.integers(0, 10_000), st.integers(1, 10_000))
def test_accounts_are_at_most_the_licences(accounts: int, licensed: int) -> None:
    given = replace(with_fact(accounts, "source", "accounts"), contract=good_contract() | {"licensed_users": licensed})
    assert ("R08-accounts" in failed(given)) == (accounts > licensed)
