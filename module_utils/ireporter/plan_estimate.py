"""How long a migration takes: pure functions of measured sizes and of throughputs that are settings."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from typing import Literal

from .data_total import DataTotal
from .errors import MigrationError
from .plan_settings import PlanSettings

Phase = Literal["prepare", "freeze"]


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


def estimate(sizes: DataTotal, settings: PlanSettings) -> list[Part]:
    """The parts of a shared → dedicated migration by cold copy, in the order in which they run.

    The first file pass runs by day, so its bytes are not part of the freeze; in the freeze every file is looked at
    once more, and everything is read once more on both sides by the verification.
    """

    part = _parts(settings)
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


def estimate_picture(sizes: DataTotal, settings: PlanSettings) -> list[Part]:
    """The parts of a cloud → self-hosted migration by day and in the freeze, in the order in which they run.

    The freeze holds only what makes the picture; everything after it is done from the picture while users work (R15). How long all of it
    takes, up to the customer's verified import, is measured (:mod:`estimate_time`).
    """
    part = _parts(settings)
    return [
        part("files-first-pass", "prepare", sizes.file_bytes, "bytes", settings.file_bytes_per_second),
        part("freeze-and-resume", "freeze", settings.fixed_seconds, "seconds", 1.0),
        part("database-picture", "freeze", sizes.database_bytes, "bytes", settings.picture_bytes_per_second),
        part("files-last-pass", "freeze", sizes.files, "files", settings.files_per_second),
    ]


def _parts(settings: PlanSettings) -> Callable[[str, Phase, float, str, float], Part]:
    def part(name: str, phase: Phase, quantity: float, unit: str, per_second: float) -> Part:
        seconds = quantity / per_second * settings.estimate_factor
        return Part(name, phase, quantity, unit, per_second, round(seconds, 1))

    return part


def seconds_of(parts: Collection[Part], phase: Phase, remaining: Collection[str] | None = None) -> float:
    """Seconds of one phase; with ``remaining`` only the parts named there.

    :raises MigrationError: a name in ``remaining`` is no part's name.
    """
    refuse_unknown_parts(remaining or (), {part.name for part in parts})
    return round(
        sum(part.seconds for part in parts if part.phase == phase and (remaining is None or part.name in remaining)), 1
    )


def refuse_unknown_parts(remaining: Collection[str], known: Collection[str]) -> None:
    """
    :raises MigrationError: a name in ``remaining`` is no part's name.
    """
    unknown = sorted(set(remaining) - set(known))
    if unknown:
        raise MigrationError(
            f"{unknown[0]!r} is no part of the estimate",
            check="plan-estimate",
            action=f"Use {', '.join(sorted(known))}",
        )
