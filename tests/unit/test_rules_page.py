"""docs/rules.md says of every rule what the code does, and names files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ireporter.plan_facts import Facts
from ireporter.plan_settings import PlanSettings
from ireporter.plan_shared_to_dedicated import PlanInput, plan

from tests.unit.test_plan import NOON, good, with_fact

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
NOT_BUILT = {"R03", "R04", "R06", "R07", "R08", "R09", "R15", "R17", "R18"}


def row(rule: str) -> str:
    (line,) = [line for line in PAGE.splitlines() if line.startswith(f"| {rule} |")]
    return line


def test_every_rule_has_one_row() -> None:
    assert re.findall(r"^\| (R\d\d) \|", PAGE, re.MULTILINE) == [f"R{number:02}" for number in range(1, 24)]


def test_what_is_not_built_says_so() -> None:
    assert {f"R{number:02}" for number in range(1, 24) if "| not built yet (S) |" in row(f"R{number:02}")} == NOT_BUILT


def test_every_rule_with_a_gate_names_it_and_no_other_claims_one() -> None:
    gates = plan(good())["gates"]
    assert isinstance(gates, list)
    rules = {gate["rule"] for gate in gates} - {""}
    assert {f"R{number:02}" for number in range(1, 24) if f"`R{number:02}-" in row(f"R{number:02}")} == rules


def test_every_check_of_our_own_is_on_the_page() -> None:
    nothing = PlanInput(
        now=NOON, begins_now=False, public_name="x", facts=Facts({}), settings=PlanSettings(), known_variables=["x"]
    )
    named = re.findall(r"`([a-z-]+(?:-…)?)`", PAGE)
    exact = {name.removesuffix("-…") for name in named}
    starts = tuple(name.removesuffix("…") for name in named if name.endswith("…"))
    for given in (nothing, good(), with_fact({"failed": True, "msg": "broken"}, "source")):
        gates = plan(given)["gates"]
        assert isinstance(gates, list)
        own = [gate["id"] for gate in gates if gate["rule"] == ""]
        assert [name for name in own if name not in exact and not name.startswith(starts)] == []


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([a-z_]+\.py)`", PAGE))))
def test_every_file_named_exists(name: str) -> None:
    assert (ROOT / "module_utils" / "ireporter" / name).is_file()


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
    gates = result["gates"]
    assert isinstance(gates, list)
    messages = [gate["message"] for gate in gates if gate["rule"] == rule]
    assert any(f"`{message}`" in row(rule) for message in messages), messages
