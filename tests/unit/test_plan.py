"""The plan of a shared → dedicated migration: one good case, and everything that can be wrong with it."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ireporter.data_total import DataTotal, TreeData
from ireporter.errors import MigrationError
from ireporter.plan_estimate import estimate, seconds_of
from ireporter.plan_facts import Facts
from ireporter.plan_settings import PlanSettings
from ireporter.plan_shared_to_dedicated import PlanInput, plan

NOON = datetime(2026, 11, 28, 3, 0, tzinfo=UTC)  # 12:00 in Japan
GB = 1_000_000_000


def server(name: str) -> dict[str, Any]:
    purposes = ["database", "state", "tree:output", "tree:settings"]
    disks = [{"purpose": p, "path": "/", "free_bytes": 100 * GB, "device": f"{name}-disk"} for p in purposes]
    return {
        "hostname": name,
        "postgresql_version_num": 150008,
        "timezone": "Asia/Tokyo",
        "ntp_synchronised": True,
        "disks": disks,
        "locales": ["ja_JP.utf8", "C"],
    }


def tree(name: str, files: int, size: int) -> dict[str, Any]:
    return {"name": name, "path": f"/srv/{name}", "files": files, "directories": 1, "bytes": size, "exists": True}


def good_facts() -> dict[str, Any]:
    return {
        "source": {
            "state": "open",
            "server": server("shared01"),
            "database": {
                "name": "irepodb_acme",
                "bytes": 2 * GB,
                "encoding": "UTF8",
                "collate": "ja_JP.UTF-8",
                "ctype": "ja_JP.UTF-8",
            },
            "file_trees": [tree("output", 20000, GB), tree("settings", 10, 1000)],
            "accounts": 120,
            "application_version": "8.2.26020",
            "obstacles": [],
        },
        "target": {
            "state": "absent",
            "server": server("dedicated01"),
            "database": None,
            "file_trees": [tree("output", 0, 0), tree("settings", 1, 500)],
            "application_version": "8.2.26020",
            "obstacles": [],
        },
        "reachable": [{"from": "shared01", "to": "dedicated01", "what": "SSH", "reachable": True}],
        "clock": [
            {"host": "shared01", "epoch": 1000.2, "asked_at": 1000.0, "answered_at": 1000.5},
            {"host": "dedicated01", "epoch": 1001.2, "asked_at": 1001.0, "answered_at": 1001.5},
        ],
        "certificate": {
            "subject_alt_name": ["DNS:acme.ireporter.example"],
            "not_before": "20260101000000Z",
            "not_after": "20280101000000Z",
            "chain_verified": True,
        },
        "dns": {
            "in_step": True,
            "servers": [{}, {}],
            "stale": [],
            "update_right": {"allowed": True, "answer": "NOERROR", "message": "ok"},
        },
        "addresses": {"source": "192.0.2.11", "target": "192.0.2.12"},
        "mail": [{"recipient": "contact@acme.example", "answer": "250 ok"}],
    }


def good() -> PlanInput:
    return PlanInput(
        now=NOON,
        begins_now=False,
        public_name="acme.ireporter.example",
        facts=Facts(good_facts()),
        settings=PlanSettings(),
        contract={"submitted": "2026-11-25"},
        contact={
            "name": "Contact Person",
            "company": "アクメ",
            "email": "contact@acme.example",
            "phone": "+81-3-1234-5678",
            "extension": "none",
        },
        partner="none",
        sales_representative={"name": "Sales Person", "email": "sales@vendor.example"},
        window={"start": "2026-11-28 22:00", "end": "2026-11-29 02:00"},
        maintenance=[],
        tenants=[{"name": "acme"}, {"name": "acme", "licence_file": {"tree": "settings", "path": "xml/License.xml"}}],
    )


def with_fact(value: object, *path: str | int) -> PlanInput:
    facts: Any = good_facts()
    at = facts
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return replace(good(), facts=Facts(facts))


def failed(given: PlanInput) -> dict[str, str]:
    """Ids and messages of failed gates."""
    return {str(gate["id"]): str(gate["message"]) for gate in plan(given)["gates"] if not gate["passed"]}  # type: ignore[attr-defined]


def test_a_good_case_passes_with_every_gate_said() -> None:
    result = plan(good())
    assert failed(good()) == {}
    assert result["passed"] is True
    assert result["refusals"] == result["warnings_found"] == []
    assert result["invoice_month"] == "2026-12"
    rules = {gate["rule"] for gate in result["gates"]}  # type: ignore[attr-defined]
    assert rules == {"R01", "R02", "R05", "R10", "R11", "R12", "R13", "R14", "R21", "R23", ""}
    assert all(gate["message"].endswith(".") for gate in result["gates"])  # type: ignore[attr-defined]


def test_gate_ids_are_unique() -> None:
    ids = [gate["id"] for gate in plan(good())["gates"]]  # type: ignore[attr-defined]
    assert len(ids) == len(set(ids))


def test_knowing_nothing_fails_everything_but_raises_nothing() -> None:
    nothing = PlanInput(now=NOON, begins_now=False, public_name="x.example", facts=Facts({}), settings=PlanSettings())
    result = plan(nothing)
    assert result["passed"] is False
    passed = {gate["id"] for gate in result["gates"] if gate["passed"]}  # type: ignore[attr-defined]
    assert passed == {"R02-price", "R13-selection"}
    assert result["estimate"]["freeze_seconds"] is None  # type: ignore[index]


@pytest.mark.parametrize(
    ("path", "value", "gate", "said"),
    [
        (("source", "accounts"), 99, "R01-accounts", "99 user accounts.*100"),
        (("source", "accounts"), None, "R01-accounts", "unknown"),
        (("source", "accounts"), True, "R01-accounts", "unknown"),
        (("source", "state"), "absent", "source-state", "no such tenant"),
        (("source", "state"), "frozen", "source-state", "frozen"),
        (("target", "server", "hostname"), "shared01", "R14-distinct", "both shared01"),
        (("target", "server", "hostname"), None, "R14-distinct", "unknown"),
        (("reachable",), [], "R14-reachable", "unknown"),
        (("reachable", 0, "reachable"), False, "R14-reachable", "shared01 → dedicated01 .SSH. is not reachable"),
        (("reachable", 0, "reachable"), None, "R14-reachable", "not reachable"),
        (("target", "database"), {"name": "irepodb", "bytes": 1}, "target-empty", "the database irepodb"),
        (("target", "file_trees", 0, "files"), 3, "target-empty", "3 files"),
        (("target", "file_trees", 1, "files"), 2, "target-empty", "1 files"),
        (("target", "file_trees", 0, "files"), None, "target-empty", "unknown"),
        (("target", "state"), None, "target-empty", "unknown"),
        (("target", "server", "postgresql_version_num"), 140000, "postgresql-version", "14.0, older than 15.8"),
        (("target", "server", "postgresql_version_num"), 150007, "postgresql-version", "15.7, older than 15.8"),
        (("target", "server", "postgresql_version_num"), None, "postgresql-version", "unknown"),
        (("source", "server", "postgresql_version_num"), None, "postgresql-version", "source is unknown"),
        (("target", "application_version"), "8.2.26010", "application-version", "older than 8.2.26020"),
        (("target", "application_version"), "8.10.1", "application-version", None),
        (("target", "application_version"), None, "application-version", "unknown"),
        (("target", "server", "locales"), ["C"], "database-locale", "ja_JP.UTF-8"),
        (("target", "server", "locales"), None, "database-locale", "unknown"),
        (("source", "database", "encoding"), None, "database-locale", "unknown"),
        (("clock",), None, "clock-skew", "unknown"),
        (("clock", 1, "epoch"), 1010.0, "clock-skew-dedicated01", "off by at least 8.5 s"),
        (("clock", 1, "epoch"), 1010.0 - 86400, "clock-skew-dedicated01", "off by at least 86391.0 s"),
        (("clock", 1, "answered_at"), 1100.0, "clock-skew-dedicated01", "too long"),
        (("source", "server", "ntp_synchronised"), False, "ntp-source", "does not keep"),
        (("source", "server", "ntp_synchronised"), None, "ntp-source", "unknown"),
        (("target", "server", "timezone"), "Etc/UTC", "time-zone", "timedatectl set-timezone Asia/Tokyo"),
        (("target", "server", "timezone"), None, "time-zone", "unknown"),
        (
            ("certificate", "subject_alt_name"),
            ["DNS:other.example"],
            "certificate-name",
            "for other.example, not for acme",
        ),
        (("certificate", "subject_alt_name"), ["DNS:*.example"], "certificate-name", "not for"),
        (("certificate", "subject_alt_name"), ["DNS:*.ireporter.example"], "certificate-name", None),
        (("certificate", "subject_alt_name"), None, "certificate-name", "unknown"),
        (("certificate", "chain_verified"), False, "certificate-chain", "not signed"),
        (("certificate", "chain_verified"), None, "certificate-chain", "unknown"),
        (("certificate", "not_after"), "20261201000000Z", "certificate-expiry", "ends in 2.9 days"),
        (("certificate", "not_before"), "20261201000000Z", "certificate-expiry", "not in force before"),
        (("certificate", "not_after"), "soon", "certificate-expiry", "unknown"),
        (("addresses", "source"), "shared01.example.com", "address-source", "shared01.example.com, which is no IPv4"),
        (("addresses", "target"), "2001:db8::1", "address-target", "no IPv4 address"),
        (("addresses",), None, "address-target", "not given"),
        (("dns", "in_step"), False, "dns-in-step", "disagree"),
        (("dns",), {}, "dns-in-step", "unknown"),
        (
            ("dns", "update_right"),
            {"allowed": False, "answer": "REFUSED", "message": "ns1 answered REFUSED"},
            "dns-rights",
            "REFUSED",
        ),
        (("dns", "update_right"), None, "dns-rights", "unknown"),
        (("mail",), [], "mail-rights", "unknown"),
        (("mail", 0), {"failed": True, "msg": "554 denied", "recipient": "a@b.c"}, "mail-rights-1", "554 denied"),
        (("mail", 0), {}, "mail-rights-1", "unknown"),
        (("source", "obstacles"), None, "obstacles-source", "unknown"),
        (
            ("source", "obstacles"),
            [{"check": "prepared", "message": "2 prepared transactions", "action": "End them"}],
            "obstacle-source-prepared",
            "2 prepared transactions.*End them",
        ),
        (("source", "database", "bytes"), None, "disk-target", "unknown"),
        (("target", "server", "disks"), [], "disk-target-database", "unknown"),
        (
            ("target", "server", "disks", 0, "free_bytes"),
            2 * GB,
            "disk-target-database",
            "2.00 GB free for database, tree:output",
        ),
        (("source", "server", "disks", 1, "free_bytes"), 5 * GB, "disk-source-database", "6.00 GB are needed"),
    ],
)
def test_each_fact_has_its_gate(path: tuple[str | int, ...], value: object, gate: str, said: str | None) -> None:
    found = failed(with_fact(value, *path))
    if said is None:
        assert found == {}
        return
    assert gate in found
    assert re.search(said, found[gate]), found[gate]


@pytest.mark.parametrize("field", ["name", "company", "email", "phone", "extension"])
@pytest.mark.parametrize("value", [None, "", "x\nBcc: eve@evil.example", 312345678])
def test_contact_data_is_complete_and_fit_for_a_header(field: str, value: object) -> None:
    contact = dict(good().contact) | {field: value}  # type: ignore[call-overload]
    assert list(failed(replace(good(), contact=contact))) == [f"R05-contact-{field}"]


def test_a_missing_contact_names_all_five_fields() -> None:
    assert len(failed(replace(good(), contact=None))) == 5


def test_everything_wrong_is_said_at_once() -> None:
    facts = good_facts()
    facts["source"]["accounts"] = 99
    given = replace(good(), facts=Facts(facts), contact={"name": "x"}, window={}, contract={"price": 1000})
    assert {"R01-accounts", "R02-price", "R05-contact-email", "R10-window"} <= set(failed(given))


@pytest.mark.parametrize("partner", [None, "", "None", "nobody", {}, {"company": "P"}])
def test_a_partner_is_named_or_none(partner: object) -> None:
    assert any(gate.startswith("R21") for gate in failed(replace(good(), partner=partner)))


def test_a_sales_representative_can_be_reached() -> None:
    assert failed(replace(good(), sales_representative={"name": "佐藤", "phone": "03-1234-5678"})) == {}
    assert set(failed(replace(good(), sales_representative={"name": "佐藤"}))) == {"R23-sales-representative-email"}
    assert len(failed(replace(good(), sales_representative=None))) == 2


@pytest.mark.parametrize("key", ["price", "quote_number", "hourly_rate", "Surcharge"])
def test_a_price_is_a_configuration_error(key: str) -> None:
    assert list(failed(replace(good(), contract={"submitted": "2026-11-25", key: 1}))) == ["R02-price"]
    known = ["ireporter_contact"]
    assert list(failed(replace(good(), variable_names=[f"ireporter_{key.lower()}"], known_variables=known))) == [
        "R02-price"
    ]


def test_a_quote_of_the_other_migration_is_a_price_here() -> None:
    name = "ireporter_tenant_accepted_quote_number"
    assert list(failed(replace(good(), variable_names=[name], known_variables=[name]))) == ["R02-price"]


@pytest.mark.parametrize("key", ["exclude", "only_tables", "include", "skip_files", "where_filter", "data_selection"])
def test_nobody_chooses_data(key: str) -> None:
    assert list(failed(replace(good(), contract={"submitted": "2026-11-25", key: []}))) == ["R13-selection"]
    assert list(failed(replace(good(), variable_names=[f"ireporter_{key}"]))) == ["R13-selection"]
    tenants = [{"name": "acme", "file_trees": [{"name": "output", key: ["*.pdf"]}]}]
    assert "R13-selection" in failed(replace(good(), tenants=tenants))


def test_a_misspelt_variable_is_refused_with_the_nearest_name() -> None:
    given = replace(
        good(), variable_names=["ireporter_contcat"], known_variables=["ireporter_window", "ireporter_contact"]
    )
    assert "ireporter_contcat (nearest known: ireporter_contact)" in failed(given)["variables"]
    assert failed(replace(given, variable_names=["ireporter_contact"])) == {}


@pytest.mark.parametrize(
    ("start", "end", "gate"),
    [
        (None, "2026-11-29 02:00", "R10-window"),
        ("2026-11-28 22:00", "2026-11-28 22:00", "R10-window"),
        ("2026-11-28 22:00", "2026-11-28 21:00", "R10-window"),
        ("2026-11-28 25:00", "2026-11-29 02:00", "R10-window"),
        ("2026-11-27 22:00", "2026-11-28 02:00", "R10-now"),
        ("2026-11-28 08:00", "2026-11-28 12:00", "R10-now"),
        ("2026-11-28 08:00", "2026-11-28 12:01", "R11-estimate"),
        ("2026-11-28 22:00", "2026-11-28 22:01", "R11-estimate"),
    ],
)
def test_windows(start: str | None, end: str, gate: str) -> None:
    assert gate in failed(replace(good(), window={"start": start, "end": end}))


def test_the_cut_over_begins_inside_the_window_only() -> None:
    begins = replace(good(), begins_now=True)
    assert list(failed(begins)) == ["R10-now"]
    inside = replace(begins, now=datetime(2026, 11, 28, 13, 0, tzinfo=UTC))
    assert failed(inside) == {}
    assert failed(replace(begins, now=datetime(2026, 11, 28, 12, 59, 59, tzinfo=UTC))).keys() == {"R10-now"}
    last_minute = replace(begins, now=datetime(2026, 11, 28, 16, 59, tzinfo=UTC))
    assert failed(last_minute).keys() == {"R11-estimate"}
    assert failed(replace(last_minute, remaining=["files-last-pass"])) == {}
    assert failed(replace(begins, now=datetime(2026, 11, 28, 17, 0, tzinfo=UTC))).keys() == {"R10-now"}


@pytest.mark.parametrize(
    ("start", "end", "hit"),
    [
        ("2026-11-28 22:00", "2026-11-28 22:30", True),
        ("2026-11-28 21:00", "2026-11-28 22:00", False),
        ("2026-11-28 21:00", "2026-11-28 22:01", True),
        # Inside the window, but after the target is open again.
        ("2026-11-29 01:00", "2026-11-29 03:00", False),
    ],
)
def test_maintenance_counts_from_freeze_to_open_only(start: str, end: str, hit: bool) -> None:
    dates = [{"start": start, "end": end, "what": "monthly maintenance"}]
    found = failed(replace(good(), maintenance=dates))
    assert list(found) == (["R11-maintenance"] if hit else [])
    if hit:
        assert "monthly maintenance" in found["R11-maintenance"]
        assert "Begin the cut-over at 2026-11-28 22:" in found["R11-maintenance"]


@pytest.mark.parametrize(("seconds", "warned"), [(None, None), (0, None), (1, True), (100_000, False)])
def test_a_lease_that_somebody_chose_outlasts_the_estimate(seconds: int | None, warned: bool | None) -> None:
    given = replace(good(), facts=Facts(good_facts() | {"lease_seconds": seconds}))
    said = [str(gate["id"]) for gate in plan(given)["gates"]]  # type: ignore[attr-defined]
    assert ("lease" in said) == (warned is not None)
    assert ("lease" in failed(given)) == bool(warned)
    assert plan(given)["passed"], "a lease is the operator's own decision"


@pytest.mark.parametrize("dates", [None, "none", [{}], [{"start": "2026-11-28 22:00", "end": "2026-11-28 21:00"}]])
def test_maintenance_dates_must_be_said(dates: object) -> None:
    assert list(failed(replace(good(), maintenance=dates))) == ["R11-maintenance"]


@pytest.mark.parametrize(
    ("submitted", "month"), [("2026-11-25 23:59", "2026-12"), ("2026-11-26 00:00", "2027-01"), (None, "")]
)
def test_the_invoice_month_is_computed_and_a_missing_day_refuses_nothing(submitted: str | None, month: str) -> None:
    result = plan(replace(good(), contract={"submitted": submitted}))
    assert result["invoice_month"] == month
    assert result["refusals"] == []
    assert len(result["warnings_found"]) == (submitted is None)  # type: ignore[arg-type]


def test_a_server_that_could_not_be_measured_says_why() -> None:
    message = "Tenant acme has no database_probes (tenant-settings). Name at least one."
    facts = {"failed": True, "msg": message, "check": "tenant-settings", "action": "Name at least one"}
    found = failed(with_fact(facts, "source"))
    assert found["facts-source"] == "Tenant acme has no database_probes (facts-source). Name at least one."


def test_what_is_ours_on_the_target_is_no_obstacle_and_needs_no_room_twice() -> None:
    facts = good_facts()
    facts["target"]["database"] = {"name": "irepodb", "bytes": 2 * GB}
    facts["target"]["file_trees"] = copy.deepcopy(facts["source"]["file_trees"])
    for disk in facts["target"]["server"]["disks"]:
        disk["free_bytes"] = 1000
    assert list(failed(replace(good(), facts=Facts(facts)))) == ["target-empty"]
    facts["target_ours"] = True
    assert failed(replace(good(), facts=Facts(facts))) == {}


def test_what_provision_installs_counts_where_the_target_is_bare() -> None:
    facts = good_facts()
    facts["target"]["application_version"] = None
    del facts["target"]["server"]["postgresql_version_num"], facts["target"]["server"]["locales"]
    bare = replace(good(), facts=Facts(facts))
    assert set(failed(bare)) == {"postgresql-version", "application-version", "database-locale"}
    provision = {"postgresql_version": 15, "locale": "ja_JP.UTF-8", "application_version": "8.2.26020"}
    assert failed(replace(bare, provision=provision)) == {}
    assert set(failed(replace(bare, provision=provision | {"postgresql_version": 14}))) == {"postgresql-version"}


def test_without_ntp_where_it_is_not_required_the_plan_only_warns() -> None:
    given = replace(with_fact(None, "source", "server", "ntp_synchronised"), settings=PlanSettings(ntp_required=False))
    result = plan(given)
    assert result["passed"] is True
    assert len(result["warnings_found"]) == 1  # type: ignore[arg-type]


def test_a_tenant_with_nothing_in_it_passes_and_says_zero() -> None:
    facts = good_facts()
    facts["source"]["file_trees"] = []
    facts["source"]["database"]["bytes"] = 0
    result = plan(replace(good(), facts=Facts(facts)))
    assert result["passed"] is True
    assert result["estimate"]["freeze_seconds"] == 90.0  # type: ignore[index]


SIZES = st.builds(
    lambda database, *tree: DataTotal(database, (), (TreeData("x", *tree),)), *[st.integers(0, 10**13)] * 3
)


@given(SIZES, SIZES)
def test_more_data_never_takes_less_time(one: DataTotal, other: DataTotal) -> None:
    both = DataTotal(one.database_bytes + other.database_bytes, (), one.trees + other.trees)
    for phase in ("prepare", "freeze"):
        alone = seconds_of(estimate(one, PlanSettings()), phase)  # type: ignore[arg-type]
        assert 0 <= alone <= seconds_of(estimate(both, PlanSettings()), phase)  # type: ignore[arg-type]


@given(SIZES)
def test_what_remains_is_the_sum_of_its_parts(sizes: DataTotal) -> None:
    parts = estimate(sizes, PlanSettings())
    freeze = [part.name for part in parts if part.phase == "freeze"]
    total = seconds_of(parts, "freeze")
    assert seconds_of(parts, "freeze", freeze) == total
    assert seconds_of(parts, "freeze", []) == 0
    assert abs(sum(seconds_of(parts, "freeze", [name]) for name in freeze) - total) < 1


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(MigrationError, match="no part of the estimate"):
        plan(replace(good(), remaining=["coffee"]))


@pytest.mark.parametrize(
    "settings",
    [
        {"account_threshold": 1},
        {"accounts_threshold": "100"},
        {"files_per_second": 0},
        {"clock_skew_seconds": -1},
        {"ntp_required": "no"},
        {"estimate_factor": float("nan")},
    ],
)
def test_settings_are_known_and_make_sense(settings: dict[str, object]) -> None:
    with pytest.raises(MigrationError, match="plan-settings"):
        PlanSettings.read(settings)


def test_settings_move_the_limits() -> None:
    assert PlanSettings.read({}) == PlanSettings()
    assert failed(replace(good(), settings=PlanSettings.read({"accounts_threshold": 121}))).keys() == {"R01-accounts"}


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
PATHS = [
    ("source",),
    ("target",),
    ("reachable",),
    ("clock",),
    ("certificate",),
    ("dns",),
    ("addresses",),
    ("lease_seconds",),
    ("mail",),
    ("source", "server"),
    ("target", "server", "disks"),
    ("source", "file_trees"),
    ("source", "obstacles"),
    ("clock", 0),
    ("mail", 0),
    ("source", "database", "collate"),
    ("certificate", "not_after"),
    ("reachable", 0, "from"),
]


@given(st.sampled_from(PATHS), ANYTHING, ANYTHING)
def test_no_fact_and_no_input_breaks_the_plan(path: tuple[str | int, ...], value: object, other: object) -> None:
    given = replace(
        with_fact(value, *path), contact=other, partner=other, window=other, maintenance=other, contract=other
    )
    result = plan(given)
    assert result["passed"] == (not result["refusals"])


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=2)))
def test_a_cut_over_that_passes_ends_inside_its_window(later: timedelta) -> None:
    given = replace(good(), begins_now=True, now=NOON + later)
    result = plan(given)
    if result["passed"]:
        end = given.now + timedelta(seconds=result["estimate"]["remaining_seconds"])  # type: ignore[index]
        assert end <= datetime(2026, 11, 28, 17, 0, tzinfo=UTC)
