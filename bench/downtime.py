# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Part ``downtime``: how long an export on the lab keeps 20 writing tablets out, whatever the size of the tenant."""

from __future__ import annotations

import time
from typing import Any

from bench.commands import ROOT, BenchError, Command, run
from bench.figures import COUNT, Findings, Target
from bench.playbook import play
from lab.demo_parts import SETTLE_SECONDS, TENANT, fresh_folder, load_shortcomings, start_load, stop_load
from lab.demo_self_hosted import INVENTORIES
from lab.load_configuration import write_load_configuration

DOWNTIME = "downtime of an export as tablets see it"
CUT_OVER = "the export from gate to mails, under load"
WRITES = "writes acknowledged"
TARGETS = (Target(DOWNTIME, 60),)
LOGS = ROOT / "build" / "bench"

_EXPORT = (*INVENTORIES, "playbooks/cloud_export.yml", "--limit", TENANT)


def measure(runs: int, gigabytes: float, files: int) -> Findings:
    """Fresh servers and data each time; the first file pass comes before the window, as in life.

    :raises BenchError: a playbook failed, the load was less than the demo's, or a neighbour noticed.
    """
    found = Findings(details={"gigabytes": gigabytes, "files": files})
    typed = " ".join(("ansible-playbook", *_EXPORT, "--tags", "cut_over"))
    run(Command(["script/lab", "up"]))
    for _round in range(runs):
        run(Command(["script/lab", "reset", "--gigabytes", str(gigabytes), "--files", str(files)]))
        run(Command(["script/lab", "reset", "delivery01"]))
        play(*_EXPORT, "--tags", "prepare")
        took, load = _under_load(*_EXPORT, "--tags", "cut_over")
        if shortcomings := load_shortcomings(load):
            raise BenchError(" ".join(shortcomings))
        found.add(DOWNTIME, load["tenants"][TENANT]["outage_seconds"], command=typed)
        found.add(CUT_OVER, took, command=typed)
        found.add(WRITES, load["tenants"][TENANT]["acknowledged_writes"], unit=COUNT, command=typed)
    return found


def _under_load(*arguments: str) -> tuple[float, dict[str, Any]]:
    load = start_load(fresh_folder(LOGS), write_load_configuration(LOGS / "load.json"), LOGS / "writes.jsonl")
    try:
        time.sleep(SETTLE_SECONDS)
        took, _played = play(*arguments)
        time.sleep(SETTLE_SECONDS)
    finally:
        summary = stop_load(LOGS, load)
    return took, summary
