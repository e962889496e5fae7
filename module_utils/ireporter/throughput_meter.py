# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes the time of steps, and rests after each, so that whoever shares the server has at least half of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from .clock import Clock
from .errors import MigrationError
from .estimate_samples import CHECK, OVERHEAD

# Shorter than any clock here tells; an estimate wants more than 0.
LEAST_SECONDS = 0.001


@dataclass
class Step:
    """``seconds`` of it, once it is done."""

    seconds: float = 0.0


@dataclass
class Samples:
    """What was measured, as :func:`estimate_samples.read_samples` takes it; ``notes`` are sentences about what was left out and why."""

    found: list[dict[str, object]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, part: str, kind: str, amount: float, seconds: float, output: int | None = None) -> None:
        """One sample. What moved nothing is none."""
        if round(amount) <= 0:
            return
        sample: dict[str, object] = {
            "part": part, "of": kind, "bytes": round(amount), "seconds": round(max(seconds, LEAST_SECONDS), 6),
        }  # fmt: skip
        self.found.append(sample if output is None else {**sample, "output_bytes": output})

    def add_overhead(self, phase: str, seconds: float) -> None:
        """One sample of what does not grow with the data."""
        self.found.append(
            {"part": OVERHEAD, "of": "all", "phase": phase, "seconds": round(max(seconds, LEAST_SECONDS), 6)}
        )


class Meter:
    """
    :param rest: so many times as long as a step took, nothing is done after it.
    :param limit_seconds: measuring and resting together.
    """

    def __init__(self, clock: Clock, *, rest: float, limit_seconds: float) -> None:
        self._clock = clock
        self._rest = rest
        self._limit = limit_seconds
        self._ends = clock.monotonic() + limit_seconds

    @contextmanager
    def step(self) -> Iterator[Step]:
        """Take the time of what is done inside, then rest.

        :raises MigrationError: the time for samples is over (R03).
        """
        self.must_have_time()
        step = Step()
        began = self._clock.monotonic()
        yield step
        step.seconds = self._clock.monotonic() - began
        self._clock.sleep(min(step.seconds * self._rest, max(0.0, self.left())))

    def left(self) -> float:
        """Seconds that are left; below 0 when they are over."""
        return self._ends - self._clock.monotonic()

    def must_have_time(self) -> None:
        """
        :raises MigrationError: the time for samples is over (R03).
        """
        if self.left() <= 0:
            raise MigrationError(
                f"The samples of throughput were not complete after {self._limit:g} s",
                check=CHECK,
                action="Give sample_bytes a smaller value or limit_seconds a larger one, then measure again",
            )
