"""A gate: one condition, what was measured against which limit, and what to do when it does not hold."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from .errors import MigrationError

Severity = Literal["refuse", "warn", "info"]
Measured = str | int | float | bool | None


@dataclass(frozen=True)
class Gate:
    """``rule``: R01 … R23, or empty for a check of our own. ``message``: for a person, with the next step."""

    id: str
    rule: str
    severity: Severity
    passed: bool
    measured: Measured
    limit: Measured
    action: str
    message: str

    def as_result(self) -> dict[str, object]:
        """Plain values for a module's result."""
        return asdict(self)


def passed(
    gate: str, said: str, *, rule: str = "", measured: Measured, limit: Measured, severity: Severity = "refuse"
) -> Gate:
    """The condition holds; ``said`` is what was seen."""
    return Gate(gate, rule, severity, True, measured, limit, "", f"{said.rstrip('.')} ({rule or gate}).")


def failed(
    gate: str,
    happened: str,
    action: str,
    *,
    rule: str = "",
    measured: Measured,
    limit: Measured,
    severity: Severity = "refuse",
) -> Gate:
    """The condition does not hold, or nobody could find out: "unknown" is a failed gate with ``measured`` None."""
    message = str(MigrationError(happened, check=rule or gate, action=action))
    return Gate(gate, rule, severity, False, measured, limit, action, message)


def refused(gate: str, error: MigrationError, *, rule: str = "", measured: Measured, limit: Measured) -> Gate:
    """The gate that an input's own check has already put into words."""
    return failed(gate, error.happened, error.action, rule=rule, measured=measured, limit=limit)
