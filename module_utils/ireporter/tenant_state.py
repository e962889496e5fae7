"""What a tenant is on this server, read from the server: gate, units, connection limit, mounts and lease – never from a note."""

from __future__ import annotations

from dataclasses import dataclass, field

from . import gate as gates
from .freeze_record import ARMED, DISARMED, NONE, FreezeRecord
from .gate import Gate
from .tenant_server import Server
from .tenant_units import UnitState

OPEN = "open"
FROZEN = "frozen"
CLOSED = "closed"
ABSENT = "absent"
PARTIAL = "partial"
LOST = "lost"


@dataclass(frozen=True)
class Observation:
    """One look at the server.

    :param state: open, frozen, closed, absent or partial.
    :param disagreements: why it is partial, one sentence each.
    :param connection_limit: ``None`` where the database does not exist.
    """

    state: str
    disagreements: list[str]
    gate: Gate | None
    gate_file_present: bool
    application: UnitState
    connection_limit: int | None
    read_only: dict[str, bool]
    lease: str
    lease_remaining_seconds: float | None
    record: FreezeRecord | None = field(repr=False)

    @property
    def admitting(self) -> bool:
        """Whether the smoke client, and nobody else, is let in."""
        return self.state == CLOSED and self.gate is not None and self.gate.variant == gates.ADMIT

    def lease_as_dict(self) -> dict[str, object]:
        """For module results."""
        record = self.record
        remaining = self.lease_remaining_seconds
        return {
            "status": self.lease,
            "deadline": record.deadline_at if record and self.lease == ARMED else None,
            "remaining_seconds": None if remaining is None else round(remaining, 1),
        }


def observe(server: Server) -> Observation:
    """Look at everything that makes the tenant open, frozen or closed here.

    :raises MigrationError: something cannot be looked at: unknown is a failure.
    """
    gate, present = server.gate.read()
    application = server.units.state(server.tenant.application.unit)
    limit = server.database.connection_limit()
    read_only = {
        str(tree.path): server.trees.read_only(tree.path) for tree in server.tenant.file_trees if tree.path.exists()
    }
    record = server.records.read()
    lease, remaining = _lease(server, record)
    state, disagreements = _judge(
        server, gate, present=present, application=application, limit=limit, read_only=read_only
    )
    if state == FROZEN and lease == LOST:
        state = PARTIAL
        disagreements = [f"the freeze has an armed lease, but {server.lease.timer} does not count"]
    return Observation(state, disagreements, gate, present, application, limit, read_only, lease, remaining, record)


def _lease(server: Server, record: FreezeRecord | None) -> tuple[str, float | None]:
    counting = server.lease.armed()
    if record is None:
        return (ARMED, None) if counting else (NONE, None)
    if record.lease != ARMED:
        return record.lease, None
    remaining = server.lease.remaining(record.deadline) if record.deadline else 0.0
    return (ARMED if counting and remaining > 0 else LOST), remaining


def _judge(
    server: Server,
    gate: Gate | None,
    *,
    present: bool,
    application: UnitState,
    limit: int | None,
    read_only: dict[str, bool],
) -> tuple[str, list[str]]:
    unit = server.tenant.application.unit
    database = server.tenant.database
    if present and gate is None:
        return PARTIAL, [f"the gate file {server.gate.file} is not as a migration writes it"]
    variant = gate.variant if gate else None
    if variant is None and limit is None and not application.active:
        return ABSENT, []
    wrong: list[str] = []
    if variant in (None, gates.ADMIT):
        if not application.active:
            wrong.append(f"{unit} does not run")
        if variant is None and application.enabled == "disabled":
            wrong.append(f"{unit} is disabled")
        if limit is None:
            wrong.append(f"database {database} does not exist")
        if limit == 0:
            wrong.append(f"database {database} lets nobody in (connection limit 0)")
        wrong += [f"{path} is read-only" for path, locked in read_only.items() if locked]
        return _result(
            OPEN if variant is None else CLOSED, "there is no gate" if variant is None else "the gate admits", wrong
        )
    if application.active:
        wrong.append(f"{unit} runs")
    if application.enabled in ("enabled", "enabled-runtime"):
        wrong.append(f"{unit} is enabled")
    if limit not in (0, None):
        wrong.append(f"database {database} has connection limit {limit}")
    scheduled = {name: server.units.state(name) for name in server.tenant.scheduled_units}
    wrong += [f"{name} runs" for name, state in scheduled.items() if state.active]
    wrong += [f"{name} is enabled" for name, state in scheduled.items() if state.enabled == "enabled"]
    if variant == gates.CLOSED:
        return _result(CLOSED, "the gate is closed", wrong)
    if limit is None:
        wrong.append(f"database {database} does not exist")
    wrong += [f"{path} is writable" for path, locked in read_only.items() if not locked]
    wrong += [f"{tree.path} does not exist" for tree in server.tenant.file_trees if str(tree.path) not in read_only]
    return _result(FROZEN, "the gate is frozen", wrong)


def _result(state: str, gate: str, wrong: list[str]) -> tuple[str, list[str]]:
    return (PARTIAL, [f"{gate}, but {sentence}" for sentence in wrong]) if wrong else (state, [])


__all__ = [
    "ABSENT",
    "ARMED",
    "CLOSED",
    "DISARMED",
    "FROZEN",
    "LOST",
    "NONE",
    "OPEN",
    "PARTIAL",
    "Observation",
    "observe",
]
