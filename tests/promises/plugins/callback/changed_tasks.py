# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test equipment: writes down which tasks said ``changed``, once in check mode and once for real.

``CHANGED_TASKS_FILE`` gets one JSON object per playbook: ``check`` (whether it was check mode) and ``tasks`` (names, in order).
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from ansible import context
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: changed_tasks
type: aggregate
short_description: Test equipment, writes down which tasks said changed
description: See the source.
"""


class CallbackModule(CallbackBase):
    """Collects, then writes when the playbook ends."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "changed_tasks"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._names: list[str] = []

    def v2_runner_on_ok(self, result) -> None:
        """Called for each task that did not fail, once for a loop as a whole."""
        name = result.task.get_name()
        if result.result.get("changed") and (not self._names or self._names[-1] != name):
            self._names.append(name)

    def v2_playbook_on_stats(self, stats) -> None:
        """Called when the playbook ends."""
        line = json.dumps({"check": bool(context.CLIARGS.get("check")), "tasks": self._names})
        with Path(os.environ["CHANGED_TASKS_FILE"]).open("a", encoding="utf-8") as stream:
            stream.write(f"{line}\n")
