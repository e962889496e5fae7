# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What both demos are made of: the load, reading acknowledged writes back, mails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from lab.checkout import CHECKOUT, LabError

OUTPUT = CHECKOUT / "build" / "demo"
"""Of the demo of a dedicated server; the other has a folder in it."""
TENANT = "acme"
LEAST_BYTES = 500_000_000
LEAST_FILES = 20_000
LEAST_TABLETS = 20
LEAST_WRITES_PER_SECOND = 20.0
LEAST_NEIGHBOUR_REQUESTS_PER_SECOND = 10.0
SETTLE_SECONDS = 10  # of load before the migration and after it, so that both ends are seen to work
LONGEST_SECONDS = 1800


def load_shortcomings(load: dict[str, Any]) -> list[str]:
    """Where the load was less than it has to be, or hurt a neighbour, one sentence each.

    :param load: the load client's summary.
    """
    found = []
    if load["tablets"] < LEAST_TABLETS:
        found.append(f"Fewer than {LEAST_TABLETS} tablets worked.")
    rate = load["tenants"][TENANT]["writes_per_second_while_serving"]
    if rate < LEAST_WRITES_PER_SECOND:
        found.append(f"Tablets wrote {rate:.1f} times a second, less than {LEAST_WRITES_PER_SECOND:.0f}.")
    for name, seen in neighbours(load).items():
        if seen["failed_requests"]:
            found.append(f"{seen['failed_requests']} requests of neighbour {name} failed.")
        if seen["requests_per_second"] < LEAST_NEIGHBOUR_REQUESTS_PER_SECOND:
            found.append(
                f"Neighbour {name} made {seen['requests_per_second']:.1f} requests a second,"
                f" less than {LEAST_NEIGHBOUR_REQUESTS_PER_SECOND:.0f}."
            )
    return found


def fresh_folder(output: Path) -> Path:
    """``output``, without files of an earlier run."""
    output.mkdir(parents=True, exist_ok=True)
    for old in output.iterdir():
        if old.is_file():
            old.unlink()
    return output


def neighbours(load: dict[str, Any]) -> dict[str, Any]:
    """The part of the load client's summary that is about the other tenants."""
    return {name: seen for name, seen in load["tenants"].items() if seen["role"] == "neighbour"}


def step(what: str) -> None:
    """Say what comes now."""
    print(f"demo: {what}", flush=True)


def run(argv: list[str], log: Path, *, check: bool = True) -> int:
    """One command, its output in ``log``.

    :raises LabError: it failed.
    """
    with log.open("w", encoding="utf-8") as stream:
        status = subprocess.run(argv, cwd=CHECKOUT, stdout=stream, stderr=subprocess.STDOUT, check=False).returncode
    if check and status:
        raise LabError(f"{' '.join(argv)} exited {status}; see {log.relative_to(CHECKOUT)}.")
    return status


def start_load(output: Path, configuration: Path, journal: Path) -> subprocess.Popen[bytes]:
    """Tablets and neighbours' tablets begin to work; logs and summary below ``output``."""
    return subprocess.Popen(
        [
            sys.executable,
            "lab/load_client.py",
            "run",
            "--config",
            str(configuration),
            "--journal",
            str(journal),
            "--summary",
            str(output / "load-summary.json"),
            "--seconds",
            str(LONGEST_SECONDS),
        ],
        cwd=CHECKOUT,
        stdout=subprocess.DEVNULL,
        stderr=(output / "load.log").open("wb"),
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )


def stop_load(output: Path, load: subprocess.Popen[bytes]) -> dict[str, Any]:
    """The load ends; its summary.

    :raises LabError: it does not.
    """
    load.send_signal(signal.SIGTERM)
    try:
        load.wait(timeout=60)
    except subprocess.TimeoutExpired:
        load.kill()
        raise LabError(f"The load client did not stop; see {output.relative_to(CHECKOUT)}/load.log.") from None
    summary: dict[str, Any] = json.loads((output / "load-summary.json").read_text(encoding="utf-8"))
    return summary


def readback(output: Path, configuration: Path, journal: Path, *more: str) -> dict[str, Any]:
    """Every acknowledged write, read through the API at the address the name servers give now, unless ``more`` says otherwise."""
    process = subprocess.run(
        [
            sys.executable,
            "lab/load_client.py",
            "readback",
            "--config",
            str(configuration),
            "--journal",
            str(journal),
            "--tenant",
            TENANT,
            *more,
        ],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode not in (0, 1) or not process.stdout:
        raise LabError(f"The acknowledged writes could not be read back: {process.stderr.strip()}")
    content: dict[str, Any] = json.loads(process.stdout)
    (output / "readback.json").write_text(process.stdout, encoding="utf-8")
    return content


def mails() -> list[dict[str, Any]]:
    """Everything mail01 delivered, oldest first, as ``script/lab mails`` has it."""
    process = subprocess.run(["script/lab", "mails"], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    found: list[dict[str, Any]] = json.loads(process.stdout)
    return found
