# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much memory the processes of one session hold together: pages that several share count once."""

from __future__ import annotations

import re
from pathlib import Path

_PSS = re.compile(r"^Pss: +(\d+) kB$", re.MULTILINE)


def proportional_bytes(session: int) -> int:
    """Sum of the proportional set sizes of all processes of ``session``. PostgreSQL's backends have sessions of their own."""
    return sum(_proportional_bytes(process) for process in Path("/proc").glob("[0-9]*") if _session(process) == session)


def _session(process: Path) -> int | None:
    try:
        # The name stands in brackets and may hold anything; state, parent, process group and session follow.
        return int((process / "stat").read_text(errors="replace").rpartition(")")[2].split()[3])
    except (FileNotFoundError, ProcessLookupError):  # it has ended since it was listed
        return None


def _proportional_bytes(process: Path) -> int:
    try:
        found = _PSS.search((process / "smaps_rollup").read_text())
    except (FileNotFoundError, ProcessLookupError):  # it has ended since it was listed
        return 0
    return int(found[1]) * 1024 if found else 0  # a process that has just ended shows no memory
