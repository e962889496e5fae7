"""docs/rules.md says of every rule what the code does, and names files that exist."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ireporter.billing_calendar import BillingCalendar
from ireporter.data_total import data_total
from ireporter.errors import MigrationError
from ireporter.plan_cloud_export import CloudExportInput, plan_cloud_export
from ireporter.plan_facts import Facts
from ireporter.plan_settings import PlanSettings
from ireporter.plan_shared_to_dedicated import PlanInput, plan

from tests.unit.cloud_export_example import good as good_export
from tests.unit.cloud_export_example import with_fact as export_fact
from tests.unit.cloud_export_example import with_term
from tests.unit.test_plan import NOON, good, with_fact

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")


def row(rule: str) -> str:
    (line,) = [line for line in PAGE.splitlines() if line.startswith(f"| {rule} |")]
    return line


def gates_of(result: dict[str, object]) -> list[dict[str, Any]]:
    gates = result["gates"]
    assert isinstance(gates, list)
    return gates


def test_every_rule_has_one_row() -> None:
    assert re.findall(r"^\| (R\d\d) \|", PAGE, re.MULTILINE) == [f"R{number:02}" for number in range(1, 24)]


def test_every_rule_with_a_gate_names_it_and_no_other_claims_one() -> None:
    rules = {
        gate["rule"] for result in (plan(good()), plan_cloud_export(good_export())) for gate in gates_of(result)
    } - {""}
    assert {f"R{number:02}" for number in range(1, 24) if f"`R{number:02}-" in row(f"R{number:02}")} == rules


def test_every_check_of_our_own_is_on_the_page() -> None:
    nothing = PlanInput(
        now=NOON, begins_now=False, public_name="x", facts=Facts({}), settings=PlanSettings(), known_variables=["x"]
    )
    named = re.findall(r"`([a-z-]+(?:-…)?)`", PAGE)
    exact = {name.removesuffix("-…") for name in named}
    starts = tuple(name.removesuffix("…") for name in named if name.endswith("…"))
    results = [plan(given) for given in (nothing, good(), with_fact({"failed": True, "msg": "broken"}, "source"))]
    unknown = CloudExportInput(
        now=NOON, begins_now=False, facts=Facts({}), settings=PlanSettings(), known_variables=["x"]
    )
    broken = replace(good_export(), facts=Facts({"delivery": {"failed": True, "msg": "broken"}}))
    results += [plan_cloud_export(given) for given in (unknown, good_export(), broken)]
    for result in results:
        own = [gate["id"] for gate in gates_of(result) if gate["rule"] == ""]
        assert [name for name in own if name not in exact and not name.startswith(starts)] == []


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([a-z_]+\.py)`", PAGE))))
def test_every_file_named_exists(name: str) -> None:
    assert (ROOT / "module_utils" / "ireporter" / name).is_file()


def test_what_the_operator_sees_of_the_quote_is_what_the_page_says() -> None:
    with pytest.raises(MigrationError) as refused:
        data_total(Facts({}))
    assert f"`{refused.value}`" in row("R03")
    with pytest.raises(MigrationError) as refused:
        BillingCalendar.read({"start": "09:00", "end": 1080})
    assert f"`{refused.value}`" in row("R04")


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(templates/[a-z_.0-9]+)`", PAGE))))
def test_every_template_named_exists(name: str) -> None:
    assert (ROOT / "roles" / "ireporter_notification" / name).is_file()


@pytest.mark.parametrize(
    ("rule", "changes"),
    [
        ("R02", {"contract": {"submitted": "2026-11-25", "price": 1}}),
        ("R05", {"contact": {"name": "x", "company": "x", "email": "x@example.com", "phone": "03-1234-5678"}}),
        ("R12", {"contract": {"submitted": "2026-11-26"}}),
        ("R13", {"variable_names": ["ireporter_exclude"]}),
        ("R21", {"partner": None}),
        ("R23", {"sales_representative": {"name": "x"}}),
    ],
)
def test_what_the_operator_sees_is_what_the_page_says(rule: str, changes: dict[str, object]) -> None:
    result = plan(PlanInput(**{**vars(good()), **changes}))  # type: ignore[arg-type]
    messages = [gate["message"] for gate in gates_of(result) if gate["rule"] == rule]
    assert any(f"`{message}`" in row(rule) for message in messages), messages


@pytest.mark.parametrize(
    ("rule", "given"),
    [
        ("R03", with_term("Q-1", "accepted_quote_number")),
        ("R06", with_term(None, "paperwork")),
        ("R07", with_term("2026-11-17", "licence_from")),
        ("R08", export_fact(121, "source", "accounts")),
        ("R09", with_term(None, "webdav", "confirmed_at")),
    ],
)
def test_what_the_operator_sees_of_an_export_is_what_the_page_says(rule: str, given: CloudExportInput) -> None:
    messages = [gate["message"] for gate in gates_of(plan_cloud_export(given)) if gate["rule"] == rule]
    assert any(f"`{message}`" in row(rule) for message in messages), messages
