# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs whole commands and takes their time, or their memory."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.memory import proportional_bytes

ROOT = Path(__file__).resolve().parent.parent
_SAMPLE_SECONDS = 0.02
_GRACE_SECONDS = 10
_SHOWN_CHARACTERS = 3000


class BenchError(Exception):
    """The benchmark cannot go on; the message says why."""


@dataclass(frozen=True)
class Command:
    """One program with its arguments, and what its environment has beyond ours; it runs in ``directory``."""

    argv: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: Path = ROOT

    def __str__(self) -> str:
        return " ".join([*(f"{name}={value}" for name, value in self.environment.items()), shlex.join(self.argv)])


def shown(*commands: Command, hide: Path) -> str:
    """As one would type them in this checkout, without the temporary folder ``hide`` and what is this machine's own."""
    text = " && ".join(str(one) for one in commands)
    for found, written in (
        (str(hide), "DIRECTORY"),
        (os.environ["PATH"], "$PATH"),
        (f"{ROOT}/", ""),
        (f"PYTHONPATH={ROOT} ", ""),
    ):
        text = text.replace(found, written)
    return text


def seconds(*commands: Command) -> float:
    """How long the commands take, one after the other, from start to end of each process.

    :raises BenchError: one of them failed.
    """
    total = 0.0
    for command in commands:
        began = time.perf_counter()
        with _running(command) as process:
            process.wait()
        total += time.perf_counter() - began
    return total


def peak_megabytes(command: Command) -> float:
    """The most memory the command and its children held together (PSS, sampled), in 10**6 bytes. Sampling costs time: this run is not timed.

    :raises BenchError: it failed.
    """
    peak = 0
    with _running(command) as process:
        while process.poll() is None:
            peak = max(peak, proportional_bytes(process.pid))
            time.sleep(_SAMPLE_SECONDS)
    return peak / 1e6


def run(command: Command) -> None:
    """Run what is not measured.

    :raises BenchError: it failed.
    """
    seconds(command)


@contextlib.contextmanager
def _running(command: Command) -> Iterator[subprocess.Popen[bytes]]:
    """A session of its own, so that its memory can be told apart and all of it can be ended; its exit status is looked at afterwards."""
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                command.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **command.environment},
                cwd=command.directory,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise BenchError(f"{command.argv[0]} is not installed") from error
        try:
            yield process
        finally:
            if process.poll() is None:
                _end(process)
        if process.returncode != 0:
            output.seek(0)
            said = output.read().decode(errors="replace").strip()[-_SHOWN_CHARACTERS:]
            raise BenchError(f"{command} exited {process.returncode} and said:\n{said}")


def _end(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
