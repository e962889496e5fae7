# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""On what and with what was measured."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

from bench.commands import ROOT, BenchError
from bench.servers import programs


def machine(directory: Path) -> dict[str, object]:
    """Processor, memory, kernel, the file system of ``directory``."""
    model = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"^MemTotal: +(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return {
        "processor": model[1] if model else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": int(memory[1]) * 1024 if memory else None,
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release()["PRETTY_NAME"],
        "file_system": file_system(directory),
    }


def file_system(directory: Path) -> str:
    """Its type as stat names it, for instance ``ext2/ext3`` (also for ext4). Mounts may lie over one another: the path itself is asked."""
    return _said("stat", "--file-system", "--format=%T", str(directory))


def load() -> float:
    """Processes that wanted to run in the last minute, on average: how busy the machine is with other things before we begin."""
    return os.getloadavg()[0]


def versions() -> dict[str, str | None]:
    """Of every program that is measured; ``None`` where it is not installed."""
    return {
        "postgresql": _said(str(programs() / "postgres"), "--version"),
        "pgcopydb": _said("pgcopydb", "--version").splitlines()[0] if shutil.which("pgcopydb") else None,
        "rsync": _said("rsync", "--version").splitlines()[0] if shutil.which("rsync") else None,
        "python": platform.python_version(),
        "psycopg": importlib.metadata.version("psycopg"),
        "ansible-core": importlib.metadata.version("ansible-core"),
    }


def project() -> dict[str, object]:
    """The commit, and whether files differ from it."""
    # Where this runs through sudo, the checkout belongs to somebody else.
    git = ("git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT))
    return {
        "commit": _said(*git, "rev-parse", "HEAD"),
        "altered": bool(_said(*git, "status", "--porcelain")),
    }


def _said(*argv: str) -> str:
    completed = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if completed.returncode != 0:
        raise BenchError(f"{' '.join(argv)} exited {completed.returncode}: {completed.stderr.strip()}")
    return completed.stdout.strip()
