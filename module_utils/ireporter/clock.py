"""Time, passed in, so that tests neither sleep nor depend on today."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

from .errors import MigrationError


class Clock(Protocol):
    """What waiting and recording code needs of time."""

    def now(self) -> datetime:
        """Wall clock, aware, UTC. For records only, never to compare two hosts."""
        ...

    def monotonic(self) -> float:
        """Seconds since boot of this host (``CLOCK_BOOTTIME``): comparable between processes, counts suspends."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class SystemClock:
    """The real one."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def read_instant(value: object, *, field: str, check: str) -> datetime:
    """Read ISO 8601 with offset.

    :raises MigrationError: it is anything else; without an offset nobody knows which instant is meant.
    """
    if isinstance(value, str):
        try:
            read = datetime.fromisoformat(value)
        except ValueError:
            read = None
        if read is not None and read.tzinfo is not None:
            return read
    raise MigrationError(
        f"{field} is {value!r}, which is no instant with an offset",
        check=check,
        action=f'Write {field} like "2026-11-28T13:00:00+09:00"',
    )


def instant_or_now(text: str | None, *, check: str) -> datetime:
    """The instant that the option ``now`` names, this machine's clock where it names none.

    :raises MigrationError: it is no instant.
    """
    return SystemClock().now() if text is None else read_instant(text, field="now", check=check)
