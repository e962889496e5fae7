# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Part ``downtime``: how long each kind of migration on the lab keeps 20 writing tablets out, whatever the size of the tenant."""

from __future__ import annotations

import time
from typing import Any

from bench.commands import ROOT, BenchError, Command, run
from bench.figures import COUNT, Findings, Target
from bench.playbook import play
from bench.playbook_output import FREEZE_BEGINS, seconds_of
from lab.demo_parts import SETTLE_SECONDS, TENANT, fresh_folder, load_shortcomings, start_load, stop_load
from lab.demo_self_hosted import INVENTORIES
from lab.load_configuration import write_load_configuration

EXPORT = "export"
TO_DEDICATED = "migration to a dedicated server"
DOWNTIME = "downtime of {} as tablets see it"
CUT_OVER = "{} from gate to mails, under load"
WRITES = "writes acknowledged during {}"
TARGETS = (Target(DOWNTIME.format(EXPORT), 60),)
LOGS = ROOT / "build" / "bench"

_PLAYBOOKS = {
    EXPORT: (*INVENTORIES, "playbooks/cloud_export.yml", "--limit", TENANT),
    TO_DEDICATED: ("playbooks/shared_to_dedicated.yml", "--limit", TENANT),
}
# Where the time goes that the tablets of a migration to a dedicated server wait.
_PARTS_OF_A_FREEZE = (
    FREEZE_BEGINS,
    "Copy | Database",
    "Copy | Files, last pass",
    "Verify | Source against target, everything",
)


def measure(runs: int, gigabytes: float, files: int) -> Findings:
    """Fresh servers and data each time; the first file pass comes before the window, as in life.

    :raises BenchError: a playbook failed, the load was less than the demo's, or a neighbour noticed.
    """
    found = Findings(details={"gigabytes": gigabytes, "files": files})
    run(Command(["script/lab", "up"]))
    for _round in range(runs):
        for kind, playbook in _PLAYBOOKS.items():
            run(Command(["script/lab", "reset", "--gigabytes", str(gigabytes), "--files", str(files)]))
            run(Command(["script/lab", "reset", "delivery01"]))
            play(*playbook, "--tags", "prepare")
            took, load, played = _under_load(*playbook, "--tags", "cut_over")
            if shortcomings := load_shortcomings(load):
                raise BenchError(" ".join(shortcomings))
            typed = " ".join(("ansible-playbook", *playbook, "--tags", "cut_over"))
            found.add(DOWNTIME.format(kind), load["tenants"][TENANT]["outage_seconds"], command=typed)
            found.add(CUT_OVER.format(kind), took, command=typed)
            writes = load["tenants"][TENANT]["acknowledged_writes"]
            found.add(WRITES.format(kind), writes, unit=COUNT, command=typed)
            for task in _PARTS_OF_A_FREEZE if kind == TO_DEDICATED else ():
                found.add(f"of it, {task}", seconds_of(played, task), command=typed)
    return found


def _under_load(*arguments: str) -> tuple[float, dict[str, Any], dict[str, Any]]:
    load = start_load(fresh_folder(LOGS), write_load_configuration(LOGS / "load.json"), LOGS / "writes.jsonl")
    try:
        time.sleep(SETTLE_SECONDS)
        took, played = play(*arguments)
        time.sleep(SETTLE_SECONDS)
    finally:
        summary = stop_load(LOGS, load)
    return took, summary, played
