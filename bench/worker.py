# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our own side: the worker command, which is what the systemd unit of a migration runs when a module hands it its work."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.commands import ROOT, BenchError, Command


def command(directory: Path, work: str) -> Command:
    """``python -m ireporter work …``; its input and its result stand in ``directory``."""
    return Command(
        [sys.executable, "-m", "ireporter", "work", work, str(directory)],
        {"PYTHONPATH": str(ROOT / "module_utils")},
    )


def do(
    directory: Path, work: str, spec: dict[str, object], measure: Callable[[Command], float]
) -> tuple[float, dict[str, Any]]:
    """Let the worker do ``work``.

    :param measure: runs the command and says what it cost.
    :return: what ``measure`` said, and the worker's result.
    :raises BenchError: it failed.
    """
    directory.mkdir(exist_ok=True)
    result = directory / f"{work}.result.json"
    result.unlink(missing_ok=True)
    (directory / f"{work}.spec.json").write_text(json.dumps(spec), encoding="utf-8")
    try:
        cost = measure(command(directory, work))
    except BenchError as error:
        if result.exists():  # the worker's own sentence says more
            raise BenchError(f"{work} failed: {json.loads(result.read_text(encoding='utf-8'))['msg']}") from error
        raise
    found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return cost, found
