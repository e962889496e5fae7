"""How long a migration takes: pure functions of measured sizes and of throughputs that are settings."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Literal

from .errors import MigrationError
from .plan_settings import PlanSettings

Phase = Literal["prepare", "freeze"]


@dataclass(frozen=True)
class Sizes:
    """What there is to move."""

    database_bytes: float
    files: float
    file_bytes: float


@dataclass(frozen=True)
class Part:
    """One piece of work: ``seconds`` = ``quantity`` / ``per_second`` (both in ``unit``) x the safety factor."""

    name: str
    phase: Phase
    quantity: float
    unit: str
    per_second: float
    seconds: float

    def as_result(self) -> dict[str, object]:
        """Plain values for a module's result."""
        return asdict(self)


def estimate(sizes: Sizes, settings: PlanSettings) -> list[Part]:
    """The parts of a shared → dedicated migration by cold copy, in the order in which they run.

    The first file pass runs by day, so its bytes are not part of the freeze; in the freeze every file is looked at
    once more, and everything is read once more on both sides by the verification.
    """

    def part(name: str, phase: Phase, quantity: float, unit: str, per_second: float) -> Part:
        seconds = quantity / per_second * settings.estimate_factor
        return Part(name, phase, quantity, unit, per_second, round(seconds, 1))

    return [
        part("files-first-pass", "prepare", sizes.file_bytes, "bytes", settings.file_bytes_per_second),
        part("switch-and-services", "freeze", settings.fixed_seconds, "seconds", 1.0),
        part("database-copy", "freeze", sizes.database_bytes, "bytes", settings.database_bytes_per_second),
        part("files-last-pass", "freeze", sizes.files, "files", settings.files_per_second),
        part(
            "verification",
            "freeze",
            sizes.database_bytes + sizes.file_bytes,
            "bytes",
            settings.verification_bytes_per_second,
        ),
    ]


def seconds_of(parts: Collection[Part], phase: Phase, remaining: Collection[str] | None = None) -> float:
    """Seconds of one phase; with ``remaining`` only the parts named there.

    :raises MigrationError: a name in ``remaining`` is no part's name.
    """
    names = {part.name for part in parts}
    unknown = sorted(set(remaining or ()) - names)
    if unknown:
        raise MigrationError(
            f"{unknown[0]!r} is no part of the estimate",
            check="plan-estimate",
            action=f"Use {', '.join(sorted(names))}",
        )
    return round(
        sum(part.seconds for part in parts if part.phase == phase and (remaining is None or part.name in remaining)), 1
    )
