"""docs/promises.md, from the marks on the tests and the results of their last run."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "build" / "promises.json"
PAGE = ROOT / "docs" / "promises.md"

HEAD = """\
# Promises

What this project promises, the tests below `tests/promises` that hold it to it, and what became of each when it was last run.
Written by `script/promises` from the results; edits are lost. "CI" are the tests every change has to pass, the others run with `script/test --all`.

"""


class Collected:
    """Takes pytest's list of tests."""

    def __init__(self) -> None:
        self.items: list[pytest.Item] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Called once, with every test."""
        self.items = session.items


def collect() -> list[pytest.Item]:
    """Every test of a promise, in the order of the files."""
    collected = Collected()
    with contextlib.redirect_stdout(io.StringIO()) as said:
        status = pytest.main(
            ["--collect-only", "-q", "-p", "no:cacheprovider", str(ROOT / "tests/promises")], [collected]
        )
    if status != pytest.ExitCode.OK:
        raise SystemExit(said.getvalue())
    return collected.items


def page(tests: list[tuple[str, str, bool]], results: dict[str, dict[str, Any]]) -> str:
    """The page.

    :param tests: promise, ``file::test`` and whether CI runs it, in order.
    :param results: by ``file::test``: ``outcome``, ``seconds``, ``on``.
    """
    promises: dict[str, list[str]] = {}
    for promise, test, in_ci in tests:
        result = results.get(test)
        last = f"{result['outcome']}, {result['on']}, {result['seconds']} s" if result else "not run"
        promises.setdefault(promise, []).append(f"| `{test}` | {'CI' if in_ci else ''} | {last} |")
    parts = [
        f"## {promise}\n\n| test | | last result |\n|---|---|---|\n" + "\n".join(rows)
        for promise, rows in promises.items()
    ]
    return HEAD + "\n\n".join(parts) + "\n"


def main() -> None:
    """Write the page."""
    tests = [
        (
            item.get_closest_marker("promise").args[0],
            f"{item.path.name}::{item.name}",
            item.get_closest_marker("slow") is None,
        )  # type: ignore[union-attr]
        for item in collect()
    ]
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    PAGE.write_text(page(tests, results), encoding="utf-8")
    print(
        f"{PAGE.relative_to(ROOT)}: {len(tests)} tests, {sum(test in results for _promise, test, _ci in tests)} with a result"
    )


if __name__ == "__main__":
    sys.exit(main())
