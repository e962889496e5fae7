"""The single steps of freezing and reopening a tenant. Each can be repeated, and stopped anywhere by a power cut."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from .errors import MigrationError
from .freeze_record import FreezeRecord
from .gate import Gate
from .tenant_model import LAUNCHER
from .tenant_server import Server
from .tenant_trees import real_path
from .tenant_units import UnitState
from .unit import stop_all

_POLL_SECONDS = 0.2
_LONGEST_START_SECONDS = 60.0
# Requests that the former nginx workers still read: worth waiting for, but a neighbour's long one must not lengthen the freeze.
_LONGEST_WORKER_WAIT_SECONDS = 5.0
_ENABLED = ("enabled", "enabled-runtime", "linked")
# Unit files that cannot be enabled or disabled; they run or not.
_FIXED = ("static", "indirect", "generated", "transient", "alias", "none")


def obstacles(server: Server) -> list[dict[str, str]]:
    """What forbids a freeze before anything is touched: check, message and action of each."""
    tenant = server.tenant
    found: list[dict[str, str]] = []

    def add(check: str, message: str, action: str) -> None:
        found.append({"check": check, "message": message, "action": action})

    gate = server.gate.obstacle()
    if gate is not None:
        add("gate-include", *gate)
    for unit in (tenant.application.unit, *tenant.scheduled_units):
        if not server.units.state(unit).loaded:
            add("unit-missing", f"The unit {unit} does not exist on this server", "Correct its name in the inventory")
    if tenant.web.webdav_path and tenant.web.webdav_login is None:
        add(
            "webdav-login",
            f"Tenant {tenant.name} has web.webdav_path, but no login to prove with that it is shut",
            "Set web.login or web.webdav_login",
        )
    for tree in tenant.file_trees:
        if not tree.path.is_dir():
            add(
                "file-tree", f"The file tree {tree.name} is missing: {tree.path}", "Correct file_trees in the inventory"
            )
        elif (real := real_path(tree.path)) is not None:
            add(
                "file-tree",
                f"The file tree {tree.name} is reached through a symbolic link: {tree.path} is {real} in truth",
                "Name the real folder in file_trees of the inventory",
            )
        elif server.trees.read_only(tree.path):
            add(
                "file-tree", f"The file tree {tree.path} is read-only already", "See findmnt for what lies on that path"
            )
    if server.database.connection_limit() is None:
        add("database-missing", f"The database {tenant.database} does not exist", "Correct database in the inventory")
        return found
    for gid in server.database.prepared_transactions():
        add(
            "prepared-transaction",
            f"Database {tenant.database} holds the prepared transaction {gid!r}, which a freeze cannot hold back",
            "Let the application commit it or roll it back (COMMIT PREPARED, ROLLBACK PREPARED)",
        )
    for session in server.database.sessions():
        if session.superuser:
            add(
                "superuser-session",
                f"The superuser {session.user} works in database {tenant.database} (process {session.pid}, {session.application or 'no name'})",
                "Wait for it or end it: a superuser cannot be locked out",
            )
    return found


def _missing_tool(server: Server) -> list[dict[str, str]]:
    """No obstacle of the tenant (the migration installs it), but without it the lease could not reopen the tenant."""
    tool = server.run([LAUNCHER, "freeze-status", server.tenant.name], check=False) if Path(LAUNCHER).exists() else None
    if tool is not None and tool.returncode == 0:
        return []
    return [
        {
            "check": "tools-installed",
            "message": f"{LAUNCHER}, which the lease of a freeze calls, {'is missing' if tool is None else 'does not work'} on this server",
            "action": "Apply the role ireporter_migration_tools to it",
        }
    ]


def refuse_obstacles(server: Server) -> None:
    """:raises MigrationError: the first obstacle; all of them are its ``figures``."""
    found = [*_missing_tool(server), *obstacles(server)]
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        error = MigrationError(found[0]["message"] + more, check=found[0]["check"], action=found[0]["action"])
        error.figures = {"obstacles": found}  # type: ignore[attr-defined]
        raise error


def state_before(server: Server) -> dict[str, object]:
    """What thawing must bring back: a dictionary fit for JSON."""
    tenant = server.tenant
    return {
        "connection_limit": server.database.connection_limit(),
        "application": server.units.state(tenant.application.unit).as_record(),
        "scheduled": {unit: server.units.state(unit).as_record() for unit in tenant.scheduled_units},
        "mounts": {str(tree.path): server.trees.mounts_at(tree.path) for tree in tenant.file_trees},
    }


def call_hook(server: Server, argv: tuple[str, ...], name: str) -> None:
    """:raises MigrationError: the hook failed (check ``monitoring-hook``)."""
    if not argv:
        return
    try:
        server.run(list(argv), timeout_seconds=60)
    except MigrationError as error:
        raise MigrationError(
            f"The hook {name} of tenant {server.tenant.name} failed: {error.happened}",
            check="monitoring-hook",
            action=f"Mend {name} in the inventory, then run again",
        ) from error


def stop_scheduled(server: Server) -> bool:
    """Nothing starts by itself any more; what a timer has started may still be running (see ``drain``)."""
    changed = False
    for unit in server.tenant.scheduled_units:
        changed = stop_unit(server, unit) or changed
    return changed


def stop_unit(server: Server, unit: str) -> bool:
    """Stop and disable; ``False`` when it was both."""
    state = server.units.state(unit)
    if state.enabled in _ENABLED:
        server.units.disable(unit)
    if state.active:
        server.units.stop(unit)
    return state.active or state.enabled in _ENABLED


def drain(server: Server, seconds: float) -> float:
    """Wait until no request is in flight and no scheduled job runs.

    :return: how long that took.
    :raises MigrationError: something was still in flight after ``seconds`` (check ``drain``).
    """
    begun = server.clock.monotonic()
    quiet = 0
    while True:
        busy = _in_flight(server)
        quiet = 0 if busy else quiet + 1
        waited = server.clock.monotonic() - begun
        old = _retiring_workers() if waited < min(seconds, _LONGEST_WORKER_WAIT_SECONDS) else 0
        if quiet >= 2 and not old:
            return waited
        if busy and waited >= seconds:
            raise MigrationError(
                f"Tenant {server.tenant.name} was still busy after {seconds:.0f} s: {busy}",
                check="drain",
                action="Find out what takes so long, wait for it, or raise drain_seconds",
            )
        server.clock.sleep(_POLL_SECONDS)


def _in_flight(server: Server) -> str | None:
    path = server.tenant.application.socket
    if path:
        output = server.run(["ss", "--unix", "--no-header", "--all"]).stdout
        connections = sum(1 for line in output.splitlines() if " ESTAB " in line and path in line.split())
        if connections:
            return f"{connections} requests in flight at {path}"
    writing = server.database.writing_sessions()
    if writing:
        return f"an uncommitted transaction of {writing[0].user}, process {writing[0].pid}"
    for timer in server.tenant.scheduled_units:
        for unit in server.units.triggered_by(timer):
            if server.units.state(unit).active:
                return f"the scheduled job {unit} runs"
    return None


def _retiring_workers() -> int:
    count = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                count += b"nginx: worker process is shutting down" in (entry / "cmdline").read_bytes()
    return count


def shut_database(server: Server) -> int:
    """Let nobody in and end everybody's sessions; returns how many sessions were ended.

    :raises MigrationError: a prepared transaction or a superuser's session has come up meanwhile.
    """
    if server.database.connection_limit() != 0:
        server.database.set_connection_limit(0)
    ended = server.database.terminate_sessions()
    for gid in server.database.prepared_transactions():
        raise MigrationError(
            f"The transaction {gid!r} was prepared while database {server.tenant.database} was being frozen",
            check="prepared-transaction",
            action="Let the application finish it, then run again",
        )
    return ended


def make_trees_read_only(server: Server, wait_seconds: float) -> bool:
    """Mount every tree read-only and wait until no process can write past the mount.

    :raises MigrationError: one still can (check ``open-files``).
    """
    changed = False
    for tree in server.tenant.file_trees:
        changed = server.trees.make_read_only(tree.path) or changed
    if not changed:
        return False
    paths = [tree.path for tree in server.tenant.file_trees]
    deadline = server.clock.monotonic() + wait_seconds
    while writers := server.trees.writers(paths):
        if server.clock.monotonic() >= deadline:
            raise MigrationError(
                f"Process {writers[0].pid} ({writers[0].program}) still holds {writers[0].path} open and could write there",
                check="open-files",
                action=f"End it or let it leave the folder (it was given {wait_seconds:.0f} s), then run again",
            )
        server.clock.sleep(_POLL_SECONDS)
    return True


def start_application(server: Server, *, enable: bool) -> bool:
    """Start the application and wait until its socket accepts; ``False`` when it ran already (and was enabled).

    :raises MigrationError: it does not come up (check ``application-start``).
    """
    unit = server.tenant.application.unit
    state = server.units.state(unit)
    if not state.loaded:
        raise MigrationError(
            f"The application's unit {unit} does not exist on this server",
            check="unit-missing",
            action="Install the application",
        )
    changed = False
    if enable and state.enabled not in (*_ENABLED, *_FIXED):
        server.units.enable(unit)
        changed = True
    if not state.active:
        server.units.start(unit)
        changed = True
    deadline = server.clock.monotonic() + _LONGEST_START_SECONDS
    while not _accepts(server.tenant.application.socket):
        if server.clock.monotonic() >= deadline or not server.units.state(unit).active:
            raise MigrationError(
                f"The application {unit} was started, but {server.tenant.application.socket} does not accept connections",
                check="application-start",
                action=f"See systemctl status {unit} and journalctl -u {unit}",
            )
        server.clock.sleep(_POLL_SECONDS)
    return changed


def _accepts(path: str | None) -> bool:
    if path is None:
        return True
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(5)
        try:
            client.connect(path)
        except OSError:
            return False
    return True


def undo(server: Server, record: FreezeRecord | None, gate: Gate | None) -> list[str]:
    """Bring everything back as it was, from any half-done freeze or closure; gate last, lease and record only when all else succeeded.

    :param record: freeze.json; where it is lost, the gate file remembers the same.
    :return: what was undone, one phrase each.
    :raises MigrationError: something could not be undone (check ``thaw``); all the rest was tried, and lease and record are kept.
    """
    tenant = server.tenant
    before: Mapping[str, object] = (record.before if record else (gate.before if gate else None)) or {}
    undone: list[str] = []
    failures: list[str] = []

    def step(what: str, work: Callable[[], bool]) -> None:
        try:
            if work():
                undone.append(what)
        except (MigrationError, OSError) as error:
            failures.append(f"{what}: {error.happened if isinstance(error, MigrationError) else error}")

    step("working units stopped", lambda: bool(stop_all(tenant.name, run=server.run)))
    mounts = _mapping(before, "mounts")
    for tree in tenant.file_trees:
        kept = mounts.get(str(tree.path), 0)
        writable = partial(server.trees.make_writable, tree.path, mounts_before=kept if isinstance(kept, int) else 0)
        step(f"{tree.path} writable", writable)
    step("connection limit restored", lambda: _restore_limit(server, before))
    application = _mapping(before, "application")
    # A tenant that was not running when it was closed (a new target) is to run now that somebody opens it.
    enable = not application.get("active") or application.get("enabled") in _ENABLED
    step(f"{tenant.application.unit} started", lambda: start_application(server, enable=enable))
    scheduled = _mapping(before, "scheduled")
    for unit in tenant.scheduled_units:
        step(f"{unit} restored", partial(_restore_unit, server, unit, scheduled.get(unit)))
    if not failures:
        # Behind the gate users write: the database must never again be taken for a copy that may be made anew. From here a target is the truth.
        step("copy mark removed", server.database.forget_copy)
    if not failures:
        step("gate removed", server.gate.remove)
    if not failures and record is not None:
        step("monitoring resumed", lambda: _resume(server))
    if failures:
        raise MigrationError(
            f"Tenant {tenant.name} could not be reopened: {'; '.join(failures)}",
            check="thaw",
            action="Mend that, then run ireporter-migration thaw (its lease does so by itself), or follow docs/by-hand.md",
        )
    if server.lease.release():
        undone.append("boot unit removed")
    if server.lease.remove():
        undone.append("lease removed")
    server.records.remove()
    return undone


def _resume(server: Server) -> bool:
    call_hook(server, server.tenant.resume_monitoring, "resume_monitoring")
    return bool(server.tenant.resume_monitoring)


def _restore_limit(server: Server, before: Mapping[str, object]) -> bool:
    now = server.database.connection_limit()
    wanted = before.get("connection_limit")
    if now is None:
        raise MigrationError(
            f"database {server.tenant.database} does not exist", check="database-missing", action="Copy it first"
        )
    if not isinstance(wanted, int):
        # Never ours to guess – but 0 is what a freeze sets, and with it nobody could be let in.
        wanted = -1 if now == 0 else now
    if now == wanted:
        return False
    server.database.set_connection_limit(wanted)
    return True


def _restore_unit(server: Server, unit: str, record: object) -> bool:
    wanted = record if isinstance(record, Mapping) else {}
    state: UnitState = server.units.state(unit)
    if not state.loaded:
        return False
    changed = False
    if wanted.get("enabled") in _ENABLED and state.enabled not in _ENABLED:
        server.units.enable(unit)
        changed = True
    if wanted.get("active") and not state.active:
        server.units.start(unit)
        changed = True
    return changed


def _mapping(values: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = values.get(key)
    return value if isinstance(value, Mapping) else {}
