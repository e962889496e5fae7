# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls podman, with a containers.conf of our own only where its defaults do not work."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from lab.checkout import STATE, LabError

_OWN_CONFIGURATION = STATE / "containers.conf"
# Where CAP_SYS_RESOURCE is missing, raising limits fails; on hybrid cgroups crun does. Neither is true of an ordinary host.
_CAUTIOUS = """\
[engine]
runtime = "runc"
[containers]
default_ulimits = ["nofile=16384:16384", "nproc=8192:8192"]
"""


def environment() -> dict[str, str]:
    """Ours, with ``CONTAINERS_CONF`` where this machine needs it."""
    if _OWN_CONFIGURATION.exists():
        return {**os.environ, "CONTAINERS_CONF": str(_OWN_CONFIGURATION)}
    return dict(os.environ)


def podman(*arguments: str, stdin: bytes | None = None, check: bool = True, timeout_seconds: float = 600) -> str:
    """Run ``podman arguments…``.

    :return: its standard output.
    :raises LabError: it failed (only with ``check``) or did not end in time.
    """
    completed = attempt(*arguments, stdin=stdin, timeout_seconds=timeout_seconds)
    if check and completed.returncode != 0:
        said = completed.stderr.decode(errors="replace").strip() or completed.stdout.decode(errors="replace").strip()
        raise LabError(f"podman {' '.join(arguments[:4])} … exited {completed.returncode}: {said[-3000:]}")
    return completed.stdout.decode(errors="replace")


def attempt(
    *arguments: str, stdin: bytes | None = None, timeout_seconds: float = 600
) -> subprocess.CompletedProcess[bytes]:
    """Like :func:`podman`, for callers that look at the exit status themselves."""
    try:
        return subprocess.run(
            ["podman", *arguments],
            input=stdin if stdin is not None else b"",
            capture_output=True,
            env=environment(),
            timeout=timeout_seconds,
            check=False,
        )
    except FileNotFoundError as error:
        raise LabError("podman is not installed. Run script/bootstrap.") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"podman {' '.join(arguments[:4])} … did not end within {timeout_seconds:.0f} s.") from error


def inspect(kind: str, name: str) -> dict[str, Any] | None:
    """What podman knows of one ``container``, ``network``, ``volume`` or ``image``; ``None`` if it does not exist (or is half made)."""
    completed = attempt(kind, "inspect", name)
    if completed.returncode != 0:
        return None
    found: list[dict[str, Any]] = json.loads(completed.stdout)
    return found[0] if found else None


def choose_runtime(image: str) -> None:
    """Find out once whether podman's defaults start a container here; write our own containers.conf if they do not."""
    decided = STATE / "runtime-chosen"
    if decided.exists():
        return
    probe = ("run", "--rm", "--network=none", image, "true")
    _OWN_CONFIGURATION.unlink(missing_ok=True)
    if attempt(*probe).returncode != 0:
        _write(_OWN_CONFIGURATION, _CAUTIOUS)
        podman(*probe)
    _write(decided, "")


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
