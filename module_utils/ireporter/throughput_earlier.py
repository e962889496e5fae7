# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What exports of this server really took, from their run records, as the next estimate wants it. Of imports the customer knows."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from .clock import Clock
from .estimate_samples import FEWEST
from .plan_facts import Facts
from .run_record import Run, RunRecords
from .tenant_model import TENANT_NAME
from .throughput_meter import Samples

KIND: Final = "cloud_export"
ESTIMATED: Final = "estimate_uncorrected_export_seconds"
BUNDLE: Final = "bundle_seconds"


def records_of_all_tenants(state_directory: Path, clock: Clock) -> list[Run]:
    """Every record of an export on this server, whoever's, oldest first.

    :raises MigrationError: a record cannot be understood (check ``run-record``).
    """
    runs: list[Run] = []
    if state_directory.is_dir():
        for folder in sorted(state_directory.iterdir()):
            if folder.is_dir() and TENANT_NAME.fullmatch(folder.name):
                runs += RunRecords(state_directory, folder.name, clock).list(KIND)
    return sorted(runs, key=lambda run: (str(run["started_at"]), str(run["id"])))


def read_runs(runs: Iterable[Run]) -> dict[str, Any]:
    """``earlier`` as :func:`estimate_samples.read_earlier` takes it, and ``samples`` of overhead: the freezes of the same runs. Pure.

    Only runs that succeeded teach. What one took is its freeze and the making of its bundle, without what a controller that died left lying.
    One without the figures (above 0) is counted in ``without_figures``. Neither tenant nor id is in the result: it is used for estimates of
    other tenants.
    """
    earlier: list[dict[str, object]] = []
    freezes = Samples()
    without = 0
    for run in runs:
        if run.get("kind") != KIND or run.get("status") != "succeeded" or not run.get("finished_at"):
            continue
        figures = Facts(run.get("figures"))
        estimated, bundle, freeze = figures.number(ESTIMATED), figures.number(BUNDLE), _freeze_seconds(figures)
        if not estimated or not bundle or not freeze or min(estimated, bundle, freeze) <= 0:
            without += 1
            continue
        earlier.append(
            {
                "phase": "export",
                "uncorrected_seconds": estimated,
                "actual_seconds": round(freeze + bundle, 3),
                "finished_at": run["finished_at"],
            }
        )
        freezes.add_overhead("freeze", freeze)
    # One alone tells no spread, and would be refused.
    samples = freezes.found if len(freezes.found) >= FEWEST else []
    return {"earlier": earlier, "samples": samples, "without_figures": without}


def _freeze_seconds(figures: Facts) -> float | None:
    """From the freeze to the moment users could write again."""
    try:
        began, ended = (
            datetime.fromisoformat(str(figures.text(name)).replace("Z", "+00:00"))
            for name in ("frozen_at", "resumed_at")
        )
        return (ended - began).total_seconds()
    except (TypeError, ValueError):  # one is not there, or has no time zone
        return None
