"""Runs programs of the server: argument lists only, no shell, bounded in time."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from .errors import MigrationError


@dataclass(frozen=True)
class Completed:
    """What a finished program left: exit status and both outputs as text (undecodable bytes escaped)."""

    returncode: int
    stdout: str
    stderr: str


class Runner(Protocol):
    """Runs one program; tests pass a fake."""

    def __call__(
        self,
        argv: Sequence[str],
        *,
        check: bool = True,
        input_text: str | None = None,
        timeout_seconds: float = 60.0,
        environment: Mapping[str, str] | None = None,
    ) -> Completed: ...


def run(
    argv: Sequence[str],
    *,
    check: bool = True,
    input_text: str | None = None,
    timeout_seconds: float = 60.0,
    environment: Mapping[str, str] | None = None,
) -> Completed:
    """Run ``argv`` and wait at most ``timeout_seconds``.

    :raises MigrationError: the program is missing, did not end in time, or (with ``check``) exited non-zero.
    """
    try:
        process = subprocess.run(
            list(argv),
            input=input_text.encode() if input_text is not None else None,
            capture_output=True,
            timeout=timeout_seconds,
            check=False,
            env=dict(environment) if environment is not None else None,
        )
    except FileNotFoundError as error:
        raise MigrationError(
            f"The program {argv[0]} is not installed here", check="server-programs", action=f"Install {argv[0]}"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise MigrationError(
            f"{argv[0]} did not end within {timeout_seconds:.0f} s",
            check="command-timeout",
            action=f"Look at what holds it up, then run again: {' '.join(argv)}",
        ) from error
    completed = Completed(
        process.returncode,
        process.stdout.decode(errors="backslashreplace"),
        process.stderr.decode(errors="backslashreplace"),
    )
    if check and completed.returncode != 0:
        raise MigrationError(
            f"{argv[0]} exited {completed.returncode}: {completed.stderr.strip() or completed.stdout.strip()}",
            check="command-failed",
            action=f"Mend the cause, then run again: {' '.join(argv)}",
        )
    return completed
