"""The plan of a cloud → self-hosted migration as a whole: one good case, every fact's gate, nothing breaks it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ireporter.estimate_input import Throughput
from ireporter.plan_cloud_export import CloudExportInput, plan_cloud_export
from ireporter.plan_facts import Facts
from ireporter.plan_settings import PlanSettings

from tests.unit.cloud_export_example import NOON, changed, failed, good, good_contract, with_fact
from tests.unit.test_plan import ANYTHING


def test_a_good_case_passes_with_every_gate_said() -> None:
    result: Any = plan_cloud_export(good())
    assert failed(good()) == {}
    assert (result["passed"], result["refusals"], result["warnings_found"]) == (True, [], [])
    assert (result["invoice_month"], result["contract_end"]) == ("2026-12", "2026-11-30")
    rules = {one["rule"] for one in result["gates"]}
    assert rules == {"R03", "R05", "R06", "R07", "R08", "R09", "R10", "R11", "R12", "R13", "R21", "R23", ""}
    ids = [one["id"] for one in result["gates"]]
    assert len(ids) == len(set(ids))
    assert all(one["message"].endswith(".") for one in result["gates"])


def test_knowing_nothing_fails_everything_but_raises_nothing() -> None:
    nothing = CloudExportInput(now=NOON, begins_now=False, facts=Facts({}), settings=PlanSettings())
    result: Any = plan_cloud_export(nothing)
    assert {one["id"] for one in result["gates"] if one["passed"]} == {"R13-selection"}
    assert (result["data"], result["contract_end"], result["estimate"]["freeze_seconds"]) == ({}, "", None)
    assert all(one["action"] for one in result["gates"] if not one["passed"])


@pytest.mark.parametrize(
    ("path", "value", "name", "said"),
    [
        (("source", "accounts"), 121, "R08-accounts", "121 user accounts.*120.*choose 1 accounts"),
        (("source", "accounts"), None, "R08-accounts", "unknown"),
        (("source", "accounts"), True, "R08-accounts", "unknown"),
        (("source", "state"), "absent", "source-state", "no such tenant"),
        (("source", "obstacles"), None, "obstacles-source", "unknown"),
        (("source", "obstacles"), [{"check": "x", "message": "m", "action": "a"}], "obstacle-source-x", "m"),
        (("source", "server", "postgresql_version_num"), 170001, "postgresql-version", "16, older than 17.1"),
        (("source", "server", "postgresql_version_num"), 160009, "postgresql-version", None),
        (("source", "application_version"), "8.2.26030", "application-version", "8.2.26020, older than 8.2.26030"),
        (("source", "application_version"), "8.2.26020", "application-version", None),
        (("source", "server", "ntp_synchronised"), False, "ntp-source", "does not keep"),
        (("delivery", "server", "ntp_synchronised"), None, "ntp-delivery-host", "unknown"),
        (("delivery",), {"failed": True, "msg": "No route (x). Do y."}, "facts-delivery-host", "No route"),
        (("clock",), [], "clock-skew", "unknown"),
        (("mail",), [], "mail-rights", "unknown"),
        (("source", "database", "bytes"), None, "R03-total", "the size of the database was not measured"),
        (("source", "file_trees", 0, "bytes"), None, "R03-total", "the size of the file tree output was not measured"),
        (("source", "file_trees", 0, "files"), None, "R03-estimate", "no estimate without the total"),
        (("source", "file_trees", 2, "files"), None, "R09-webdav", "unknown"),
        (("source", "file_trees", 2, "exists"), False, "R09-webdav", "webdav of the WebDAV storage was not found"),
        (("source", "file_trees", 2, "newest_file_change"), None, "R09-webdav", "unknown"),
        (("source", "file_trees", 2, "newest_file_change"), 1e300, "R09-webdav", "unknown"),
    ],
)
def test_each_fact_has_its_gate(path: tuple[str | int, ...], value: object, name: str, said: str | None) -> None:
    found = failed(with_fact(value, *path))
    if said is None:
        assert found == {}
        return
    assert re.search(said, found[name]), found


def test_a_price_is_no_mistake_here_and_a_misspelt_variable_is() -> None:
    known = ["ireporter_tenant_quote_number"]
    names = ["ireporter_tenant_quote_number", "ireporter_tenant_quote_nubmer"]
    found = failed(replace(good(), variable_names=names, known_variables=known))
    assert list(found) == ["variables"]
    assert "ireporter_tenant_quote_nubmer (nearest known: ireporter_tenant_quote_number)" in found["variables"]
    chosen = failed(replace(good(), variable_names=["ireporter_exclude"], known_variables=known))
    assert list(chosen) == ["R13-selection"]


def test_everything_wrong_is_said_at_once() -> None:
    contract = {"term": "month", "paperwork": {"complete": "yes"}}
    found = failed(
        replace(with_fact(500, "source", "accounts"), contract=contract, contact={}, public_key=None, window=None)
    )
    wanted = {
        "R03-quote",
        "R03-accepted",
        "R05-contact-email",
        "R06-paperwork",
        "R07-licence",
        "R08-accounts",
        "R09-webdav",
    }
    assert wanted | {"R10-window", "public-key"} <= set(found)


PATHS = [
    ("source",),
    ("delivery",),
    ("source", "database"),
    ("source", "database", "groups"),
    ("source", "file_trees"),
    ("source", "file_trees", 2),
    ("source", "file_trees", 2, "newest_file_change"),
    ("source", "server", "disks"),
    ("delivery", "server"),
    ("clock", 0),
]
TERMS = [
    *[(name,) for name in good_contract()],
    ("webdav", "tree"),
    ("webdav", "confirmed_at"),
    ("paperwork", "reference"),
]


@given(st.sampled_from(PATHS), st.sampled_from(TERMS), ANYTHING, ANYTHING)
def test_no_fact_and_no_input_breaks_the_plan(
    path: tuple[str | int, ...], term: tuple[str, ...], value: object, other: object
) -> None:
    given = replace(with_fact(value, *path), contract=changed(good_contract(), other, *term), import_side=other)
    throughput = Throughput(value, other, value)
    for one in (
        given,
        replace(given, throughput=throughput),
        replace(given, public_key=other, window=other, maintenance=other, contract=other),
    ):
        result = plan_cloud_export(one)
        assert result["passed"] == (not result["refusals"])
        json.dumps(result)
