"""A server in memory for the tests of freeze, thaw and close: every part remembers what it is, nothing sleeps."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ireporter.commands import Completed
from ireporter.errors import MigrationError
from ireporter.freeze_record import Records
from ireporter.gate import Gate
from ireporter.lease import Deadline
from ireporter.tenant_database import Session
from ireporter.tenant_http import Response
from ireporter.tenant_model import Tenant, parse
from ireporter.tenant_server import Server
from ireporter.tenant_units import UnitState


class FakeClock:
    """Time passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> datetime:
        return datetime(2026, 11, 23, 12, 0, tzinfo=UTC) + timedelta(seconds=self.seconds - 1000)

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def tenant_dictionary(root: Path, **changes: Any) -> dict[str, Any]:
    """A complete tenant whose file trees are below ``root``."""
    for name in ("output", "webdav"):
        (root / name).mkdir(parents=True, exist_ok=True)
    dictionary: dict[str, Any] = {
        "name": "acme",
        "suffix": "ACME",
        "public_name": "acme.ireporter.example",
        "database": "irepodb_acme",
        "database_admin": "host=/var/run/postgresql user=postgres dbname=postgres",
        "database_probes": [
            {"name": "application", "conninfo": "host=127.0.0.1 user=acme_app", "statement": "UPDATE t SET a = a"},
            {"name": "reporting", "conninfo": "host=127.0.0.1 user=acme_report", "statement": "SELECT 1"},
        ],
        "web": {
            "gate_file": str(root / "nginx" / "acme.gate.conf"),
            "login": {"user": "smoke", "password": "canary-password"},
            "webdav_path": "/webdav/",
        },
        "application": {"unit": "standin@acme.service"},
        "scheduled_units": ["report@acme.timer"],
        "file_trees": [
            {"name": "output", "path": str(root / "output"), "write_as": "root"},
            {"name": "webdav", "path": str(root / "webdav"), "write_as": "root"},
        ],
    }
    return {**dictionary, **changes}


@dataclass
class World:
    """The state of the fake server; ``fail_at`` names a step that raises, ``kill_at`` one that ends the process."""

    limit: int | None = 37
    units: dict[str, UnitState] = field(
        default_factory=lambda: {
            "standin@acme.service": UnitState(loaded=True, active=True, enabled="enabled"),
            "report@acme.timer": UnitState(loaded=True, active=True, enabled="enabled"),
        }
    )
    read_only: set[str] = field(default_factory=set)
    gate: Gate | None = None
    gate_foreign: bool = False
    armed: bool = False
    lease_files: bool = False
    held: bool = False
    sessions: list[Session] = field(default_factory=list)
    prepared: list[str] = field(default_factory=list)
    writing: list[Session] = field(default_factory=list)
    superuser_roles: set[str] = field(default_factory=set)
    leaks: set[str] = field(default_factory=set)
    boot: str = "boot-1"
    copy: bool = False
    steps: list[str] = field(default_factory=list)
    fail_at: str | None = None
    kill_at: str | None = None

    def step(self, name: str) -> None:
        self.steps.append(name)
        if self.kill_at == name:
            raise Killed
        if self.fail_at == name:
            self.fail_at = None
            raise MigrationError(f"{name} failed", check="test", action="Nothing")

    def serving(self) -> bool:
        return self.units["standin@acme.service"].active and self.limit != 0

    def facts(self) -> tuple[object, ...]:
        """What a thaw must bring back."""
        return (self.limit, dict(self.units), set(self.read_only), self.gate, self.armed, self.lease_files, self.held)


class Killed(BaseException):
    """SIGKILL: nothing after it may run, so the tests restore the world from a copy made at that moment."""


class FakeUnits:
    def __init__(self, world: World) -> None:
        self.world = world

    def state(self, unit: str) -> UnitState:
        return self.world.units.get(unit, UnitState(loaded=False, active=False, enabled="none"))

    def _set(self, unit: str, **changes: Any) -> None:
        self.world.units[unit] = UnitState(**{**self.state(unit).as_record(), **changes})  # type: ignore[arg-type]

    def triggered_by(self, unit: str) -> list[str]:
        return []

    def stop(self, unit: str) -> None:
        self.world.step(f"stop {unit}")
        self._set(unit, active=False)

    def start(self, unit: str) -> None:
        self.world.step(f"start {unit}")
        self._set(unit, active=True)

    def enable(self, unit: str) -> None:
        self._set(unit, enabled="enabled")

    def disable(self, unit: str) -> None:
        self._set(unit, enabled="disabled")


class FakeSession:
    def __init__(self, role: str, world: World) -> None:
        self.role = role
        self.alive = True
        world.open_sessions = [*getattr(world, "open_sessions", []), self]  # type: ignore[attr-defined]

    def close(self) -> None:
        self.alive = False


class FakeDatabase:
    def __init__(self, world: World) -> None:
        self.world = world

    def connection_limit(self) -> int | None:
        return self.world.limit

    def set_connection_limit(self, limit: int) -> None:
        self.world.step(f"limit {limit}")
        self.world.limit = limit

    def forget_copy(self) -> bool:
        forgotten, self.world.copy = self.world.copy, False
        return forgotten

    def sessions(self) -> list[Session]:
        return list(self.world.sessions)

    def writing_sessions(self) -> list[Session]:
        return list(self.world.writing)

    def prepared_transactions(self) -> list[str]:
        return list(self.world.prepared)

    def terminate_sessions(self) -> int:
        self.world.step("terminate")
        count = len([session for session in self.world.sessions if not session.superuser])
        self.world.sessions = [session for session in self.world.sessions if session.superuser]
        for session in getattr(self.world, "open_sessions", []):
            session.alive = "old session" in self.world.leaks
        return count

    def open_probe(self, probe: Any) -> FakeSession:
        return FakeSession(probe.name, self.world)

    def is_superuser(self, session: FakeSession) -> bool:
        return session.role in self.world.superuser_roles

    def try_statement(self, session: FakeSession, probe: Any, *, read_write: bool = False) -> str:
        return "accepted" if session.alive else "refused: terminated"

    def try_connection(self, probe: Any, *, read_write: bool = False) -> str:
        shut = self.world.limit == 0 and "new session" not in self.world.leaks
        return "refused: too many connections" if shut else "accepted"


class FakeWeb:
    def __init__(self, world: World) -> None:
        self.world = world

    def _status(self, headers: Mapping[str, str] | None = None) -> int:
        gate = self.world.gate
        admitted = (
            gate is not None and gate.secret is not None and (headers or {}).get("X-IReporter-Smoke") == gate.secret
        )
        if gate is not None and not admitted and "http" not in self.world.leaks:
            return gate.status
        return 200 if self.world.serving() or "http" in self.world.leaks else 502

    def request(
        self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Response:
        status = self._status(headers)
        return Response(status, {"x-ireporter-gate": "g"} if self.world.gate and status != 200 else {}, b"")

    def login(self, login: Any) -> str:
        status = self._status()
        return "accepted" if status == 200 else f"HTTP {status}"

    def webdav_write(self, path: str, login: Any) -> str:
        status = self._status()
        return "accepted" if status == 200 else f"HTTP {status}"


class FakeGate:
    def __init__(self, world: World, file: Path) -> None:
        self.world = world
        self.file = file

    def read(self) -> tuple[Gate | None, bool]:
        return (None, True) if self.world.gate_foreign else (self.world.gate, self.world.gate is not None)

    def obstacle(self) -> tuple[str, str] | None:
        return ("No nginx server block includes the gate", "Add it") if "no include" in self.world.leaks else None

    def put(self, gate: Gate) -> bool:
        self.world.step("gate")
        changed = self.world.gate != gate
        self.world.gate = gate
        self.world.gate_foreign = False
        return changed

    def remove(self) -> bool:
        self.world.step("gate off")
        had = self.world.gate is not None or self.world.gate_foreign
        self.world.gate = None
        self.world.gate_foreign = False
        return had


class FakeTrees:
    def __init__(self, world: World) -> None:
        self.world = world

    def mounts_at(self, path: Path) -> int:
        return int(str(path) in self.world.read_only)

    def read_only(self, path: Path) -> bool:
        return str(path) in self.world.read_only

    def make_read_only(self, path: Path) -> bool:
        self.world.step(f"mount {path.name}")
        changed = str(path) not in self.world.read_only
        self.world.read_only.add(str(path))
        return changed

    def make_writable(self, path: Path, *, mounts_before: int) -> bool:
        self.world.step(f"unmount {path.name}")
        changed = str(path) in self.world.read_only
        self.world.read_only.discard(str(path))
        return changed

    def writers(self, paths: list[Path]) -> list[Any]:
        return []

    def try_write(self, tree: Any) -> str:
        return "EROFS" if str(tree.path) in self.world.read_only and tree.name not in self.world.leaks else "created"


class FakeLease:
    timer = "ireporter-lease-acme.timer"

    def __init__(self, world: World, clock: FakeClock) -> None:
        self.world = world
        self.clock = clock

    def deadline(self, seconds: int) -> Deadline:
        return Deadline(self.world.boot, self.clock.monotonic() + seconds)

    def remaining(self, deadline: Deadline) -> float:
        return deadline.remaining(self.clock, self.world.boot)

    def arm(self, seconds: int) -> None:
        self.world.step("arm")
        self.world.armed = self.world.lease_files = True

    def armed(self) -> bool:
        return self.world.armed

    def present(self) -> bool:
        return self.world.lease_files

    def remove(self) -> bool:
        self.world.step("lease off")
        had = self.world.lease_files
        self.world.armed = self.world.lease_files = False
        return had

    def hold(self) -> bool:
        had = self.world.held
        self.world.held = True
        return not had

    def held(self) -> bool:
        return self.world.held

    def release(self) -> bool:
        had = self.world.held
        self.world.held = False
        return had


def fake_run(argv: Any, **_options: Any) -> Completed:
    """systemctl list-units finds nothing; everything else succeeds."""
    return Completed(0, "", "")


@dataclass
class Stage:
    """A fake server, its state and its clock."""

    world: World
    clock: FakeClock
    server: Server
    tenant: Tenant

    def copy_of_world(self) -> World:
        return copy.deepcopy(self.world)


def stage(root: Path, **changes: Any) -> Stage:
    """A tenant that is open on a fake server."""
    tenant = parse(tenant_dictionary(root, **changes))
    world = World()
    clock = FakeClock()
    server = Server(
        tenant=tenant,
        clock=clock,
        run=fake_run,
        units=FakeUnits(world),  # type: ignore[arg-type]
        database=FakeDatabase(world),  # type: ignore[arg-type]
        web=FakeWeb(world),  # type: ignore[arg-type]
        gate=FakeGate(world, tenant.web.gate_file),  # type: ignore[arg-type]
        trees=FakeTrees(world),  # type: ignore[arg-type]
        lease=FakeLease(world, clock),  # type: ignore[arg-type]
        records=Records(root / "state", "acme", clock),
    )
    return Stage(world, clock, server, tenant)
