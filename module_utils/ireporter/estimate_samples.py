"""Measured throughput: samples of the real pipeline on the real hosts, and what earlier migrations took."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from .errors import MigrationError
from .plan_facts import Facts

CHECK = "R03"

Kind = Literal["all", "database", "files"]

# In the order of the work. What they are given is the data as it is, or the bundle that compression made of it.
ON_DATA = ("pipeline", "read", "compress", "restore")
ON_BUNDLE = ("encrypt", "write", "download")
PARTS = ("read", "compress", "encrypt", "write", "download", "restore")
OF_EXPORT = ("read", "compress", "encrypt", "write")
# The export as it really runs, all its parts at once on the processors there are, with digests and the reading back. May be left
# out; where it was measured it counts, because parts that were measured alone do not tell what they cost each other.
PIPELINE = "pipeline"
# Freeze, proofs, switch: seconds that do not grow with the data. May be left out.
OVERHEAD = "overhead"
KNOWN = (PIPELINE, *PARTS, OVERHEAD)

# What the vendor sees of a migration, and what the customer sees; the download is neither's doing. Parts and phases of overhead.
PHASES = {"export": (PIPELINE, *OF_EXPORT, "freeze", "export"), "import": ("restore", "import")}

# One sample has no spread, and an estimate without spread pretends to know.
FEWEST = 2


@dataclass(frozen=True)
class Sample:
    """``amount`` bytes went into the part in ``seconds``; ``output`` bytes came out of it, where that was measured.

    ``phase``, of overhead only: phases come one after the other, samples of one phase are of the same thing."""

    part: str
    kind: Kind
    amount: int
    seconds: Fraction
    output: int | None = None
    phase: str = ""


@dataclass(frozen=True)
class Earlier:
    """One phase (of :data:`PHASES`) of a migration that ended: what was estimated from samples alone, and what it took."""

    phase: str
    estimated: Fraction
    actual: Fraction

    @property
    def ratio(self) -> Fraction:
        return self.actual / self.estimated


def read_samples(given: object) -> list[Sample]:
    """From a list of ``{part, of, bytes, seconds, output_bytes}``; ``of`` is ``all`` where it is left out. One of overhead may have a ``phase``.

    :raises MigrationError: an entry is no measurement (R03).
    """
    if not isinstance(given, list | tuple) or not given:
        raise MigrationError(
            "There are no samples of throughput, so the time cannot be estimated",
            check=CHECK,
            action="Measure samples on the real hosts first",
        )
    return [_sample(Facts(entry), number) for number, entry in enumerate(given, start=1)]


def read_earlier(given: object) -> list[Earlier]:
    """From a list of ``{phase, uncorrected_seconds, actual_seconds}``, as run records and customers' reports hold them.

    :raises MigrationError: an entry is no pair of positive numbers, or of no phase (R03).
    """
    if not isinstance(given, list | tuple):
        raise MigrationError(
            "The earlier migrations are no list", check=CHECK, action="Give a list, [] when there are none"
        )
    earlier = []
    for number, entry in enumerate(map(Facts, given), start=1):
        phase = entry.text("phase")
        estimated, actual = entry.number("uncorrected_seconds"), entry.number("actual_seconds")
        if phase not in PHASES or estimated is None or actual is None or estimated <= 0 or actual <= 0:
            raise MigrationError(
                f"Earlier migration {number} does not say phase ({' or '.join(PHASES)}), uncorrected_seconds and actual_seconds, both above 0",
                check=CHECK,
                action="Correct the entry or remove it",
            )
        earlier.append(Earlier(phase, Fraction(estimated), Fraction(actual)))
    return earlier


def samples_of(samples: Iterable[Sample], part: str) -> dict[Kind, list[Sample]]:
    """The samples of one part by what was sampled, enough of each.

    :raises MigrationError: there are fewer than two, or some are of everything and some of one kind only (R03).
    """
    kinds: dict[Kind, list[Sample]] = {}
    for sample in samples:
        if sample.part == part:
            kinds.setdefault(sample.kind, []).append(sample)
    if "all" in kinds and len(kinds) > 1:
        raise MigrationError(
            f"Some samples of {part} are of all data and some of one kind only",
            check=CHECK,
            action="Sample either all data, or database and files each",
        )
    for kind, members in kinds.items():
        if len(members) < FEWEST:
            raise MigrationError(
                f"There is {len(members)} sample of {part} ({kind}), which tells no spread",
                check=CHECK,
                action=f"Measure at least {FEWEST} samples of each part",
            )
    return kinds


def phases_of_overhead(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    """The samples of overhead by phase, enough of each.

    :raises MigrationError: there are fewer than two of a phase (R03).
    """
    phases: dict[str, list[Sample]] = {}
    for sample in samples:
        if sample.part == OVERHEAD:
            phases.setdefault(sample.phase, []).append(sample)
    for phase, members in phases.items():
        if len(members) < FEWEST:
            raise MigrationError(
                f"There is {len(members)} sample of overhead{f' ({phase})' if phase else ''}, which tells no spread",
                check=CHECK,
                action=f"Measure at least {FEWEST} samples of each part",
            )
    return phases


def _sample(entry: Facts, number: int) -> Sample:
    part, kind = entry.text("part"), entry.at("of") or "all"
    if part not in KNOWN:
        raise MigrationError(
            f"Sample {number} is of {part!r}, which is no part of the work",
            check=CHECK,
            action=f"Use {', '.join(KNOWN)}",
        )
    if kind not in ("all", "database", "files") or (part == OVERHEAD and kind != "all"):
        raise MigrationError(
            f"Sample {number} of {part} is of {kind!r}", check=CHECK, action="Use all, database or files"
        )
    amount = 0 if part == OVERHEAD else _whole(entry, "bytes")
    seconds = entry.number("seconds")
    output = None if entry.at("output_bytes") is None else _whole(entry, "output_bytes")
    if amount is None or seconds is None or seconds <= 0 or (part != OVERHEAD and amount <= 0):
        raise MigrationError(
            f"Sample {number} of {part} does not say bytes and seconds, both above 0",
            check=CHECK,
            action="Measure it again",
        )
    phase = (entry.text("phase") or "") if part == OVERHEAD else ""
    return Sample(str(part), kind, amount, Fraction(seconds), output, phase)


def _whole(entry: Facts, name: str) -> int | None:
    number = entry.number(name)
    return int(number) if number is not None and number >= 0 else None
