# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs ``ansible-playbook`` on the lab as an engineer types it, and takes its time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.commands import ROOT, BenchError
from bench.playbook_output import parse


def play(*arguments: str) -> tuple[float, dict[str, Any]]:
    """Seconds of the whole command, and what :func:`playbook_output.parse` made of its output.

    :raises BenchError: it failed.
    """
    program = Path(sys.executable).with_name("ansible-playbook")
    began = time.perf_counter()
    completed = subprocess.run(
        [str(program), *arguments],
        cwd=ROOT,
        env=os.environ | {"ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json", "ANSIBLE_NOCOLOR": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    took = time.perf_counter() - began
    if completed.returncode != 0:
        raise BenchError(
            f"ansible-playbook {' '.join(arguments)} exited {completed.returncode}: "
            f"{completed.stdout[-3000:]}{completed.stderr[-1000:]}"
        )
    return took, parse(completed.stdout)
