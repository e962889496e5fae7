# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the JSON that ``ansible-playbook`` prints with ``ansible.posix.json`` says about waits, changes and tasks in the freeze."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from bench.commands import BenchError

FREEZE_BEGINS = "Freeze | No write can happen on the source, and it is proved"
FREEZE_ENDS = "Open | Users can write on the target"
TTL_WAIT = "Wait | let the old TTL run out"

# What these do, the control node does.
_HERE = frozenset(
    f"{prefix}{name}"
    for prefix in ("", "ansible.builtin.")
    for name in (
        *("add_host", "assert", "debug", "fail", "group_by", "import_role", "import_tasks", "include_role"),
        *("include_tasks", "include_vars", "meta", "pause", "set_fact", "set_stats", "validate_argument_spec"),
    )
)
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})

Task = dict[str, Any]


def parse(output: str) -> dict[str, Any]:
    """The JSON in ``output``, before and after which other lines may stand.

    :raises BenchError: there is none.
    """
    start = output.find("{\n")
    if start < 0:
        raise BenchError(f"ansible-playbook printed no JSON: {output[-2000:]}")
    content: dict[str, Any]
    content, _end = json.JSONDecoder().raw_decode(output, start)  # other callbacks may say something at the end
    return content


def tasks(played: dict[str, Any]) -> Iterator[Task]:
    """Every task, in order."""
    for play in played["plays"]:
        yield from play["tasks"]


def changed(played: dict[str, Any], host: str) -> int:
    """How many tasks changed something."""
    return int(played["stats"][host]["changed"])


def seconds_of(played: dict[str, Any], name: str) -> float:
    """How long the tasks of that name took together, those that were skipped not counted."""
    total = 0.0
    for task in tasks(played):
        if _is(task, name) and any(not result.get("skipped") for result in task["hosts"].values()):
            began, ended = (_moment(task["task"]["duration"][end]) for end in ("start", "end"))
            total += (ended - began).total_seconds()
    return total


def remote_tasks(played: dict[str, Any], first: str, last: str) -> int:
    """How many tasks from ``first`` to ``last`` ran on a server; each item of a loop counts.

    :raises BenchError: one of the two did not run.
    """
    listed = list(tasks(played))
    bounds = []
    for name in (first, last):
        found = [place for place, task in enumerate(listed) if _is(task, name)]
        if not found:
            raise BenchError(f"The playbook did not come to its task {name!r}")
        bounds.append(found[0])
    return sum(_connections(result) for task in listed[bounds[0] : bounds[1] + 1] for result in task["hosts"].values())


def _is(task: Task, name: str) -> bool:
    found = str(task["task"]["name"])
    return found == name or found.endswith(f" : {name}")


def _connections(result: Task) -> int:
    if result.get("skipped") or result["action"] in _HERE:
        return 0
    items = result.get("results")
    if isinstance(items, list) and all(isinstance(item, dict) and "ansible_loop_var" in item for item in items):
        return sum(0 if item.get("skipped") or _delegated_here(item) else 1 for item in items)
    return 0 if _delegated_here(result) else 1


def _delegated_here(result: Task) -> bool:
    delegated = result.get("_ansible_delegated_vars") or {}
    return delegated.get("ansible_delegated_host", delegated.get("ansible_host")) in _LOCAL


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
