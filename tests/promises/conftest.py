"""Promises are tested on the lab, and what became of each test is kept for docs/promises.md."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from playing import ROOT, Lab

# Tests that can begin with what those before them left come after them: a fresh lab costs a minute, a prepared tenant three.
ORDER = (
    *("test_second_run", "test_forbidden_routes", "test_delivery", "test_demo"),
    *("test_bad_input", "test_a_difference_stops_the_switch", "test_by_hand", "test_faults"),
    *("test_second_operator", "test_controller_killed"),
)
RESULTS = ROOT / "build" / "promises.json"


@pytest.fixture(scope="session")
def lab() -> Lab:
    """The lab is up; tests say themselves from which state they start."""
    subprocess.run(["script/lab", "up"], cwd=ROOT, check=True, timeout=1200)
    return Lab()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[Any]:
    """Keep the outcome by the test's name; a fixture that fails counts as the test's failure."""
    report = yield
    if report.when == "call" or (report.when == "setup" and not report.passed):
        kept = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
        kept[f"{item.path.name}::{item.name}"] = {  # type: ignore[attr-defined]
            "outcome": report.outcome,
            "seconds": round(report.duration),
            "on": datetime.now(UTC).date().isoformat(),
        }
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test here belongs to a promise, or docs/promises.md would not know it. The cheapest order."""
    items.sort(key=lambda item: ORDER.index(item.path.stem) if item.path.stem in ORDER else len(ORDER))
    nameless = [item.nodeid for item in items if item.get_closest_marker("promise") is None]
    if nameless:
        raise pytest.UsageError(f"no promise (pytest.mark.promise) stands on {', '.join(nameless)}")
