"""docs/promises.md says what became of each test, and leaves none out."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "promises"))

from promises_page import page  # noqa: E402


def test_a_promise_has_its_tests_with_their_last_results() -> None:
    tests = [("It holds", "test_a.py::test_x", True), ("It holds", "test_a.py::test_y", False)]
    written = page(tests, {"test_a.py::test_x": {"outcome": "failed", "on": "2026-11-27", "seconds": 3}})
    assert "## It holds\n" in written
    assert "| `test_a.py::test_x` | CI | failed, 2026-11-27, 3 s |" in written
    assert "| `test_a.py::test_y` |  | not run |" in written


def test_the_page_names_every_test_of_a_promise() -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "tests/promises"]
    collected = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    expected = re.findall(r"^tests/promises/(\S+::.+)$", collected, re.MULTILINE)
    named = re.findall(r"^\| `([^`]+)`", (ROOT / "docs" / "promises.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(named) == sorted(expected), "run script/promises"
