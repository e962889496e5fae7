"""What gates want to know of any server: how much room there is, and whether its clock can be trusted."""

from __future__ import annotations

import os
from pathlib import Path

from .commands import Runner
from .errors import MigrationError


def disk(purpose: str, path: Path) -> dict[str, object]:
    """Room where ``path`` is or will be: ``purpose``, ``path``, ``free_bytes``, ``total_bytes``, ``device`` (equal where it is shared)."""
    existing = path
    while not existing.exists():
        existing = existing.parent
    space = os.statvfs(existing)
    return {
        "purpose": purpose,
        "path": str(path),
        "free_bytes": space.f_bavail * space.f_frsize,
        "total_bytes": space.f_blocks * space.f_frsize,
        "device": existing.stat().st_dev,
    }


def time_synchronisation(run: Runner) -> tuple[bool | None, str | None]:
    """Whether the clock follows a time server, and who says so; ``None``: nobody here knows."""
    try:
        chrony = run(["chronyc", "-c", "tracking"], check=False)
        if chrony.returncode == 0:
            # The last field is the leap status; "Not synchronised" is one of its words.
            return not chrony.stdout.strip().endswith("Not synchronised"), "chrony"
    except MigrationError:
        pass  # chrony is not installed
    shown = run(["timedatectl", "show", "--property=NTP", "--property=NTPSynchronized"], check=False)
    values = dict(line.split("=", 1) for line in shown.stdout.splitlines() if "=" in line)
    if shown.returncode != 0 or "NTPSynchronized" not in values:
        return None, None
    if values["NTPSynchronized"] == "yes":
        return True, "timedatectl"
    # "no" of a host without a time service is ignorance, not knowledge: its clock may be kept by the hypervisor.
    return (False, "timedatectl") if values.get("NTP") == "yes" else (None, None)
