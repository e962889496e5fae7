# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test equipment: something happens exactly when a given task is about to start.

``AT_TASK_NAME`` is the end of the task's name; ``AT_TASK_COMMAND`` a shell command run on the control node then, or the word ``SIGKILL``, which kills this ansible-playbook,
or ``SIGINT``, which is Ctrl-C a second later, when the task is at work on its host.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: at_task
type: aggregate
short_description: Test equipment, does something when a task is about to start
description: See the source.
"""


class CallbackModule(CallbackBase):
    """Acts once."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "at_task"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._task_name = os.environ["AT_TASK_NAME"]
        self._command = os.environ["AT_TASK_COMMAND"]
        self._done = False

    def v2_playbook_on_task_start(self, task, is_conditional) -> None:
        """Called in the main process before the task is sent to any host."""
        if self._done or not task.get_name().endswith(self._task_name):
            return
        self._done = True
        if self._command == "SIGKILL":
            os.kill(os.getpid(), signal.SIGKILL)
        if self._command == "SIGINT":
            threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
            return
        ran = subprocess.run(self._command, shell=True, check=False, capture_output=True, text=True, timeout=120)
        if ran.returncode:
            # Ansible makes a warning of what a callback raises, and the test would prove nothing.
            self._display.error(f"AT_TASK_COMMAND exited {ran.returncode}: {ran.stdout}{ran.stderr}")
            os._exit(70)
