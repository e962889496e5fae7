"""Spans of time, half-open: the first instant belongs to them, the last one does not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True)
class Interval:
    """From ``start`` up to, not including, ``end``; both aware."""

    start: datetime
    end: datetime
    what: str = ""

    @property
    def seconds(self) -> float:
        return (self.end - self.start).total_seconds()

    def contains(self, instant: datetime) -> bool:
        return self.start <= instant < self.end

    def overlaps(self, other: Interval) -> bool:
        """Neighbours that merely touch do not overlap, and an empty span overlaps nothing."""
        return max(self.start, other.start) < min(self.end, other.end)


def first_fit(inside: Interval, seconds: float, blocked: Iterable[Interval]) -> Interval | None:
    """The earliest span of ``seconds`` in ``inside`` that overlaps none of ``blocked``, if there is one."""
    length = timedelta(seconds=seconds)
    start = inside.start
    for obstacle in sorted(blocked, key=lambda interval: interval.start):
        if Interval(start, start + length).overlaps(obstacle):
            start = obstacle.end
    candidate = Interval(start, start + length, inside.what)
    return candidate if candidate.end <= inside.end else None
