"""What every plan says: its gates, the estimate, the window."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from .calendar_interval import Interval
from .plan_estimate import Part, Phase, seconds_of
from .plan_gate import Gate


def gates_result(gates: Sequence[Gate]) -> dict[str, object]:
    """``{gates, refusals, warnings_found, passed}``."""
    refusals = [gate.message for gate in gates if not gate.passed and gate.severity == "refuse"]
    return {
        "gates": [gate.as_result() for gate in gates],
        "refusals": refusals,
        "warnings_found": [gate.message for gate in gates if not gate.passed and gate.severity != "refuse"],
        "passed": not refusals,
    }


def estimate_result(
    parts: Sequence[Part], phases: Sequence[Phase], remaining_seconds: float | None
) -> dict[str, object]:
    """``{parts, <phase>_seconds …, remaining_seconds}``; seconds are None where sizes are unknown."""
    return {
        "parts": [part.as_result() for part in parts],
        **{f"{phase}_seconds": seconds_of(parts, phase) if parts else None for phase in phases},
        "remaining_seconds": remaining_seconds,
    }


def window_result(window: Interval | None, now: datetime) -> dict[str, object]:
    """``{start, end, seconds, seconds_until_start, seconds_left}``, empty without a window."""
    if window is None:
        return {}
    return {
        "start": window.start.isoformat(),
        "end": window.end.isoformat(),
        "seconds": window.seconds,
        "seconds_until_start": max(0.0, (window.start - now).total_seconds()),
        "seconds_left": max(0.0, (window.end - max(now, window.start)).total_seconds()),
    }
