# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Part ``run``: a whole migration on the lab, as an engineer types it, and the same command once more."""

from __future__ import annotations

from bench.commands import BenchError, Command, run
from bench.figures import COUNT, Findings, Target
from bench.playbook import play
from bench.playbook_output import (
    FREEZE_BEGINS,
    FREEZE_ENDS,
    TTL_WAIT,
    changed,
    remote_tasks,
    seconds_of,
)

FULL = "migration of 50 MB to a provisioned server, without TTL waits"
AGAIN = "second run, which changes nothing"
REMOTE_TASKS = "remote tasks in the freeze"
TARGETS = (Target(FULL, 90), Target(AGAIN, 40))

_TENANT = "acme"
_GIGABYTES = "0.05"
_FILES = "2000"
_MIGRATE = ("playbooks/shared_to_dedicated.yml", "--limit", _TENANT)


def measure(runs: int) -> Findings:
    """Fresh servers and data each time; provisioning comes before the clock starts.

    :raises BenchError: a playbook failed, or its second run changed something.
    """
    found = Findings(details={"gigabytes": float(_GIGABYTES), "files": int(_FILES)})
    run(Command(["script/lab", "up"]))
    for _round in range(runs):
        run(Command(["script/lab", "reset", "--gigabytes", _GIGABYTES, "--files", _FILES]))
        play(*_MIGRATE, "--tags", "prepare")
        typed = " ".join(("ansible-playbook", *_MIGRATE))
        took, played = play(*_MIGRATE)
        found.add(FULL, took - seconds_of(played, TTL_WAIT), command=typed)
        found.add(REMOTE_TASKS, remote_tasks(played, FREEZE_BEGINS, FREEZE_ENDS), unit=COUNT, command=typed)
        took, played = play(*_MIGRATE)
        if changed(played, _TENANT):
            raise BenchError(f"The second run changed {changed(played, _TENANT)} tasks")
        found.add(AGAIN, took, command=typed)
    return found
