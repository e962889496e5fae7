"""Time, passed in, so that tests neither sleep nor depend on today."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


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
