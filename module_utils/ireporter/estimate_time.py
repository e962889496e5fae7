"""How long a cloud → self-hosted migration takes, from the total of the data (R03) and measured throughput. Pure and exact."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from .data_total import DataTotal
from .errors import MigrationError
from .estimate_samples import (
    CHECK,
    OF_EXPORT,
    ON_BUNDLE,
    OVERHEAD,
    PARTS,
    PHASES,
    PIPELINE,
    Earlier,
    Kind,
    Sample,
    phases_of_overhead,
    samples_of,
)

# What runs at the same time is as slow as its slowest member. The export is one pipeline; the customer downloads the
# bundle when it is complete, and restores when it has been verified.
FLOW: tuple[tuple[str, ...], ...] = (("read", "compress", "encrypt", "write"), ("download",), ("restore",))


@dataclass(frozen=True)
class Span:
    """Seconds: as the fastest sample has it, as all samples together have it, as the slowest has it."""

    low: Fraction
    likely: Fraction
    high: Fraction

    def __add__(self, other: Span) -> Span:
        return Span(self.low + other.low, self.likely + other.likely, self.high + other.high)

    def times(self, other: Span) -> Span:
        return Span(self.low * other.low, self.likely * other.likely, self.high * other.high)

    def slower_of(self, other: Span) -> Span:
        return Span(max(self.low, other.low), max(self.likely, other.likely), max(self.high, other.high))

    def whole(self) -> dict[str, int]:
        """Whole seconds, rounded up."""
        return {"low": ceil(self.low), "likely": ceil(self.likely), "high": ceil(self.high)}


_NOTHING = Span(Fraction(0), Fraction(0), Fraction(0))
_UNCHANGED = Span(Fraction(1), Fraction(1), Fraction(1))


@dataclass(frozen=True)
class PartTime:
    """One part of the work: how many bytes go into it, of how many samples, how long it takes alone. ``phase`` is one of :data:`PHASES`,
    empty where nobody learns how long it really took."""

    name: str
    amount: int
    samples: int
    span: Span
    phase: str = ""

    def corrected(self, corrections: Mapping[str, Span]) -> Span:
        return self.span.times(corrections.get(self.phase, _UNCHANGED))

    def as_result(self) -> dict[str, object]:
        speed = round(self.amount / self.span.likely) if self.span.likely and self.amount else None
        return {
            "name": self.name,
            "phase": self.phase,
            "bytes": self.amount,
            "samples": self.samples,
            "bytes_per_second": speed,
            "seconds": self.span.whole(),
        }


@dataclass(frozen=True)
class Estimate:
    """``uncorrected`` comes from samples alone; of each phase it is what a run record keeps beside the time it really took.
    ``total`` is corrected by what earlier migrations took, phase by phase. Seconds."""

    data: DataTotal
    bundle_bytes: int
    parts: tuple[PartTime, ...]
    flow: tuple[tuple[str, ...], ...]
    corrections: Mapping[str, Span]
    earlier: Mapping[str, int]

    @property
    def uncorrected(self) -> Span:
        return _together(self.parts, self.flow)

    @property
    def total(self) -> Span:
        return _together(self.parts, self.flow, self.corrections)

    def of_phase(self, phase: str) -> Span:
        """What samples alone say of one of :data:`PHASES`."""
        return _together([part for part in self.parts if part.phase == phase], self.flow)

    def window_seconds(self, remaining: Collection[str] | None = None) -> int:
        """What a window must hold (R11): the slow end, whole seconds rounded up; with ``remaining`` of the parts named there only."""
        wanted = set(remaining or ())
        if wanted & set(OF_EXPORT):
            wanted.add(PIPELINE)
        parts = [part for part in self.parts if remaining is None or part.name in wanted]
        return ceil(_together(parts, self.flow, self.corrections).high)

    def as_result(self) -> dict[str, object]:
        """Plain values; seconds are whole and rounded up."""
        return {
            **self.data.as_result(),
            "bundle_bytes": self.bundle_bytes,
            "parts": [part.as_result() for part in self.parts],
            "flow": [list(group) for group in self.flow],
            "uncorrected_seconds": self.uncorrected.whole(),
            "uncorrected_seconds_of": {phase: self.of_phase(phase).whole() for phase in PHASES},
            "earlier_migrations": dict(self.earlier),
            "seconds": self.total.whole(),
        }


def estimate(
    data: DataTotal,
    samples: Sequence[Sample],
    earlier: Sequence[Earlier] = (),
    flow: object = FLOW,
) -> Estimate:
    """Each part's bytes times the measured seconds per byte; groups of ``flow`` one after the other.

    Low and high are the fastest and the slowest sample of every part, likely is all samples of a part together. Earlier
    migrations multiply each phase: likely by the median of actual / estimated, low and high by the least and the greatest.

    :param flow: groups of parts; what is in one group runs at the same time.
    :raises MigrationError: a part has too few samples, ``flow`` has not each part once, or nothing takes any time (R03).
    """
    groups = read_flow(flow)
    ratios = _ratios(samples, data)
    measured = (PIPELINE,) if samples_of(samples, PIPELINE) else ()
    if measured:
        groups = _with_pipeline(groups)
    parts = [_time(part, data, samples, ratios) for part in (*measured, *PARTS)]
    parts += _overhead(samples)
    corrections = {}
    for phase in PHASES:
        taken = [one.ratio for one in earlier if one.phase == phase]
        if taken:
            corrections[phase] = _spread(taken, statistics.median(taken))
    bundle = ceil(sum(Fraction(size) * ratios[kind].likely for kind, size in _amounts(data).items()))
    known = {phase: sum(one.phase == phase for one in earlier) for phase in PHASES}
    found = Estimate(data, bundle, tuple(parts), groups, corrections, known)
    if not found.uncorrected.likely:
        raise MigrationError(
            "The migration is estimated at 0 seconds: there are 0 bytes to move and no overhead was measured",
            check=CHECK,
            action="Measure samples of the overhead",
        )
    return found


def read_flow(given: object) -> tuple[tuple[str, ...], ...]:
    """From a list of lists of parts.

    :raises MigrationError: it does not name each part once (R03).
    """
    lists = given if isinstance(given, list | tuple) else ()
    groups = tuple(tuple(map(str, group)) if isinstance(group, list | tuple) else () for group in lists)
    if sorted(part for group in groups for part in group) != sorted(PARTS):
        raise MigrationError(
            "The flow of the work does not name each part once",
            check=CHECK,
            action=f"Name {', '.join(PARTS)}, each once",
        )
    return groups


def _overhead(samples: Sequence[Sample]) -> list[PartTime]:
    """What does not grow with the data, one after the other; one part for each of :data:`PHASES`, and one for the rest."""
    found: dict[str, PartTime] = {}
    for name, members in phases_of_overhead(samples).items():
        phase = _phase_of(name)
        before = found.get(phase, PartTime(OVERHEAD, 0, 0, _NOTHING, phase))
        seconds = [sample.seconds for sample in members]
        span = before.span + _spread(seconds, sum(seconds, Fraction(0)) / len(seconds))
        found[phase] = PartTime(OVERHEAD, 0, before.samples + len(members), span, phase)
    return list(found.values())


def _phase_of(name: str) -> str:
    """The phase that a part, or a phase of overhead, belongs to; empty where nobody is to learn of it."""
    return next((phase for phase, members in PHASES.items() if name in members), "")


def _with_pipeline(groups: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
    """What was measured of the export as a whole runs at the same time as the first of its parts."""
    return tuple((PIPELINE, *group) if PARTS[0] in group else group for group in groups)


def _together(
    parts: Iterable[PartTime], flow: Iterable[Iterable[str]], corrections: Mapping[str, Span] | None = None
) -> Span:
    """Groups of ``flow`` one after the other, each as slow as its slowest part, and the overhead."""
    span, times = _NOTHING, {}
    for part in parts:
        corrected = part.corrected(corrections or {})
        if part.name == OVERHEAD:
            span += corrected
        else:
            times[part.name] = corrected
    for group in flow:
        slowest = _NOTHING
        for name in group:
            slowest = slowest.slower_of(times.get(name, _NOTHING))
        span += slowest
    return span


def _amounts(data: DataTotal) -> dict[Kind, int]:
    return {"database": data.database_bytes, "files": data.file_bytes}


def _ratios(samples: Sequence[Sample], data: DataTotal) -> dict[Kind, Span]:
    """What compression leaves of a byte, of each kind; all of it where nobody measured."""
    found: dict[Kind, Span] = {}
    kinds = samples_of(samples, "compress")
    for kind in _amounts(data):
        members = [one for one in kinds.get(kind, kinds.get("all", [])) if one.output is not None]
        left = [Fraction(one.output or 0, one.amount) for one in members]
        together = Fraction(sum(one.output or 0 for one in members), sum(one.amount for one in members) or 1)
        found[kind] = _spread(left, together) if left else _UNCHANGED
    return found


def _time(part: str, data: DataTotal, samples: Sequence[Sample], ratios: dict[Kind, Span]) -> PartTime:
    kinds = samples_of(samples, part)
    span, amount, used = _NOTHING, Fraction(0), 0
    for kind, size in _amounts(data).items():
        members = kinds.get(kind, kinds.get("all", []))
        if not members:
            if size == 0:
                continue
            raise MigrationError(
                f"There is no sample of {part} for the {'files' if kind == 'files' else 'database'}",
                check=CHECK,
                action="Measure samples of every part on the real hosts first",
            )
        shrunk = ratios[kind] if part in ON_BUNDLE else _UNCHANGED
        pace = _spread(
            [one.seconds / one.amount for one in members],
            sum((one.seconds for one in members), Fraction(0)) / sum(one.amount for one in members),
        )
        whole = Fraction(size)
        span += Span(whole, whole, whole).times(shrunk).times(pace)
        amount += whole * shrunk.likely
    used = sum(len(members) for members in kinds.values())
    return PartTime(part, ceil(amount), used, span, _phase_of(part))


def _spread(values: Sequence[Fraction], likely: Fraction) -> Span:
    return Span(min(values), likely, max(values))
