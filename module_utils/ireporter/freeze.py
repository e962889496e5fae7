"""A tenant open, frozen or closed on this server. Freeze, disarm, thaw and close happen under one lock per tenant."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from . import gate as gates
from . import tenant_state as states
from .errors import MigrationError
from .freeze_proof import ACCEPTED, Proof, Row
from .freeze_record import ARMED, DISARMED, NONE, FreezeRecord
from .freeze_steps import (
    call_hook,
    drain,
    make_trees_read_only,
    refuse_obstacles,
    shut_database,
    start_application,
    state_before,
    stop_scheduled,
    stop_unit,
    undo,
)
from .gate import Gate
from .json_files import unusable
from .tenant_server import Server
from .tenant_state import Observation, observe

_LONGEST_OPENING_SECONDS = 30.0


@dataclass
class Outcome:
    """What was found, what was done, and the proof."""

    state_before: str
    changed: bool = False
    proof: list[dict[str, object]] = field(default_factory=list)
    seconds: float = 0.0
    sessions_terminated: int = 0
    drained_seconds: float = 0.0
    undone: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)

    def as_dict(self, server: Server) -> dict[str, object]:
        """For module results; looks at the server once more."""
        seen = observe(server)
        return {
            "changed": self.changed,
            "state_before": self.state_before,
            "state": seen.state,
            "disagreements": seen.disagreements,
            "admitting": seen.admitting,
            "lease": seen.lease_as_dict(),
            "deadline": seen.lease_as_dict()["deadline"],
            "frozen_at": seen.record.frozen_at if seen.record else None,
            "proof": self.proof,
            "seconds": round(self.seconds, 3),
            "sessions_terminated": self.sessions_terminated,
            "drained_seconds": round(self.drained_seconds, 3),
            "undone": self.undone,
            "repaired": self.repaired,
        }


@dataclass(frozen=True)
class FreezeWish:
    """What a freeze is to be.

    :param disarmed: without a lease, for good: only for a tenant that is frozen already.
    :param moved_to: the new address for the maintenance page; ``None`` keeps what stands there.
    """

    lease_seconds: int = 900
    disarmed: bool = False
    moved_to: str | None = None
    drain_seconds: float = 20.0
    run_id: str | None = None


def freeze(server: Server, wish: FreezeWish) -> Outcome:
    """Make every write impossible, prove it, and let a lease on this host undo it.

    :raises MigrationError: an obstacle (nothing was touched), or a step failed: then everything was undone and the tenant serves again.
    :raises OSError: a tenant that is frozen stays so, with its lease: its record cannot be written.
    """
    with server.records.lock():
        seen = observe(server)
        outcome = Outcome(seen.state)
        if seen.state == states.FROZEN:
            return _keep_frozen(server, wish, seen, outcome)
        if wish.disarmed:
            if _was_committed(seen):
                return _repair(server, wish, seen, outcome)
            raise _lease_fired(server, seen)
        if seen.record is not None and seen.record.lease == ARMED:
            # A freeze that was killed half-way: nothing of it can be trusted, so it begins anew.
            outcome.undone = undo(server, seen.record, seen.gate)
            seen = observe(server)
        if seen.state != states.OPEN:
            raise _not_from(server, seen, states.FROZEN)
        return _freeze_open(server, wish, outcome)


def would_freeze(server: Server, wish: FreezeWish) -> bool:
    """Check mode: whether ``freeze`` would change something.

    :raises MigrationError: it would be refused.
    """
    seen = observe(server)
    if seen.state == states.FROZEN:
        return _lease_differs(server, wish, seen) or _moved(wish, seen)
    if wish.disarmed:
        if _was_committed(seen):
            return True
        raise _lease_fired(server, seen)
    if seen.record is not None and seen.record.lease == ARMED:
        return True
    if seen.state != states.OPEN:
        raise _not_from(server, seen, states.FROZEN)
    refuse_obstacles(server)
    return True


def reopen(server: Server) -> Outcome:
    """Open the tenant again exactly as it was before it was frozen or closed; a new target: let it serve.

    :raises MigrationError: something could not be undone, or the tenant does not serve although everything was.
    """
    with server.records.lock():
        seen = observe(server)
        outcome = Outcome(seen.state)
        if seen.state == states.ABSENT:
            raise _not_from(server, seen, states.OPEN)
        begun = server.clock.monotonic()
        if not _is_settled_open(server, seen):
            outcome.undone = undo(server, seen.record, seen.gate)
            outcome.changed = True
        outcome.proof = prove_open(server, login=outcome.changed)
        # Of a tenant that somebody opened without us; otherwise undoing took the mark away before the gate.
        outcome.changed |= server.database.forget_copy()
        outcome.seconds = server.clock.monotonic() - begun
        return outcome


def would_reopen(server: Server) -> bool:
    """Check mode: whether ``reopen`` would change something."""
    # A tenant that is absent is one that check mode did not copy here.
    return not _is_settled_open(server, observe(server))


def thaw(server: Server, *, by_lease: bool, even_disarmed: bool) -> Outcome:
    """What the lease and people call on the server: undo a freeze.

    :param by_lease: do nothing when the lease was disarmed or renewed meanwhile.
    :param even_disarmed: reopen although the lease was disarmed: the target may be open.
    :raises MigrationError: the lease was renewed but nothing counts it (check ``lease``), or the tenant could not be reopened (check ``thaw``).
    """
    with server.records.lock():
        record = server.records.read()
        if by_lease and record is not None:
            if record.lease != ARMED:
                # Disarmed, and then the power went before the timer was removed.
                server.lease.remove()
                return Outcome("not armed")
            if record.deadline is not None and server.lease.remaining(record.deadline) > 0:
                if not server.lease.armed():
                    raise _nothing_counts(server, record)
                return Outcome("renewed")
        if not by_lease and not even_disarmed and record is not None and record.lease != ARMED:
            raise MigrationError(
                f"Tenant {server.tenant.name} was frozen or closed for good: its other server may be serving, and its writes would be lost",
                check="lease-disarmed",
                action="Make sure the other server is not open, then add --disarmed",
            )
        gate, _present = server.gate.read()
        if record is None and gate is None and not server.lease.present():
            return Outcome("open")
        outcome = Outcome("thawed", changed=True)
        begun = server.clock.monotonic()
        outcome.undone = undo(server, record, gate)
        outcome.proof = prove_open(server, login=False)
        outcome.seconds = server.clock.monotonic() - begun
        return outcome


def hold(server: Server) -> bool:
    """At boot: the mounts of a freeze whose lease was disarmed. ``False`` when they are there, or the tenant is not frozen for good."""
    with server.records.lock():
        record = server.records.read()
        gate, _present = server.gate.read()
        if (record is not None and record.lease != DISARMED) or gate is None or gate.variant != gates.FROZEN:
            return False
        return make_trees_read_only(server, wait_seconds=10)


def close(
    server: Server, *, moved_to: str | None, admit_secret: str | None, drain_seconds: float, run_id: str | None
) -> Outcome:
    """Let nobody in any more – or, with ``admit_secret``, only the smoke client of a target that is about to open.

    :raises MigrationError: a step failed; a tenant that was open before serves again.
    :raises OSError: a file of a tenant that was not open cannot be written.
    """
    with server.records.lock():
        seen = observe(server)
        outcome = Outcome(seen.state)
        record = _record_for_closing(server, seen, run_id)
        wanted = _closed_gate(server, seen, record, moved_to, admit_secret)
        if admit_secret is not None and _is_frozen_source(seen):
            raise _no_admission(server)
        if seen.gate != wanted or seen.record != record or seen.state != states.CLOSED:
            outcome.repaired = list(seen.disagreements) if seen.state == states.PARTIAL else []
        begun = server.clock.monotonic()
        try:
            if seen.record != record:
                server.records.write(record)
                outcome.changed = True
            _close_steps(server, seen, wanted, outcome, drain_seconds)
            outcome.proof = _prove_closed(server, wanted)
        except BaseException as error:
            if seen.state == states.OPEN:
                raise _undone(server, error) from error
            raise
        outcome.seconds = server.clock.monotonic() - begun
        return outcome


def would_close(server: Server, *, moved_to: str | None, admit_secret: str | None) -> bool:
    """Check mode: whether ``close`` would change something."""
    seen = observe(server)
    if admit_secret is not None and _is_frozen_source(seen):
        raise _no_admission(server)
    record = _record_for_closing(server, seen, None)
    wanted = _closed_gate(server, seen, record, moved_to, admit_secret)
    mounts = any(seen.read_only.values())
    return (
        seen.state != states.CLOSED or seen.gate != wanted or seen.record != record or mounts or server.lease.present()
    )


def _freeze_open(server: Server, wish: FreezeWish, outcome: Outcome) -> Outcome:
    refuse_obstacles(server)
    if wish.moved_to is not None:
        gates.check_url(wish.moved_to)
    proof = Proof(server)
    try:
        proof.before()
        before = state_before(server)
        now = server.clock.now()
        record = FreezeRecord(
            tenant=server.tenant.without_secrets,
            before=before,
            lease=ARMED,
            lease_seconds=wish.lease_seconds,
            deadline=server.lease.deadline(wish.lease_seconds),
            deadline_at=(now + timedelta(seconds=wish.lease_seconds)).isoformat(timespec="seconds"),
            run_id=wish.run_id,
        )
        begun = server.clock.monotonic()
        try:
            server.records.write(record)
            server.lease.arm(wish.lease_seconds)
            call_hook(server, server.tenant.silence_monitoring, "silence_monitoring")
            server.gate.put(
                Gate(gates.FROZEN, server.tenant.web.retry_after_seconds, moved_to=wish.moved_to, before=before)
            )
            stop_scheduled(server)
            outcome.drained_seconds = drain(server, wish.drain_seconds)
            stop_unit(server, server.tenant.application.unit)
            outcome.sessions_terminated = shut_database(server)
            _refuse_superusers(server)
            make_trees_read_only(server, wish.drain_seconds)
            outcome.proof = proof.after(status=503)
            _must_be_frozen(server)
            server.records.update(
                record, proof=outcome.proof, frozen_at=server.clock.now().isoformat(timespec="milliseconds")
            )
        except BaseException as error:
            raise _undone(server, error) from error
        outcome.changed = True
        outcome.seconds = server.clock.monotonic() - begun
        return outcome
    finally:
        proof.close()


def _keep_frozen(server: Server, wish: FreezeWish, seen: Observation, outcome: Outcome) -> Outcome:
    begun = server.clock.monotonic()
    record = seen.record
    if wish.disarmed and record is not None and record.lease == ARMED and (seen.lease_remaining_seconds or 0) <= 0:
        raise _lease_fired(server, seen)
    proof = Proof(server)
    proof.again(record.proof if record else [])
    outcome.proof = proof.after(status=503)
    if _moved(wish, seen) and seen.gate is not None:
        server.gate.put(
            Gate(gates.FROZEN, seen.gate.retry_after_seconds, moved_to=wish.moved_to, before=seen.gate.before)
        )
        outcome.changed = True
    if _lease_differs(server, wish, seen):
        outcome.changed = True
        if wish.disarmed:
            _disarm(server, record)
        else:
            _rearm(server, wish, seen, record)
    outcome.seconds = server.clock.monotonic() - begun
    return outcome


def _disarm(server: Server, record: FreezeRecord | None) -> None:
    # freeze.json decides: the timer that fires after this line finds "disarmed" there and does nothing.
    if record is not None and record.lease == ARMED:
        server.records.update(record, lease=DISARMED)
    server.lease.hold()
    server.lease.remove()


def _rearm(server: Server, wish: FreezeWish, seen: Observation, record: FreezeRecord | None) -> None:
    deadline = server.lease.deadline(wish.lease_seconds)
    at = (server.clock.now() + timedelta(seconds=wish.lease_seconds)).isoformat(timespec="seconds")
    if record is None:
        before = dict(seen.gate.before) if seen.gate and seen.gate.before else {}
        record = FreezeRecord(tenant=server.tenant.without_secrets, before=before, run_id=wish.run_id)
    # The timer first: killed in between, it finds the old deadline over and thaws. A new deadline without a timer would be one nobody watches.
    server.lease.arm(wish.lease_seconds)
    server.records.update(record, lease=ARMED, lease_seconds=wish.lease_seconds, deadline=deadline, deadline_at=at)
    server.lease.release()


def _repair(server: Server, wish: FreezeWish, seen: Observation, outcome: Outcome) -> Outcome:
    """A tenant that was frozen for good and has been opened a crack: shut it again. It must not be thawed, its other server may be open."""
    begun = server.clock.monotonic()
    before = seen.record.before if seen.record else (dict(seen.gate.before) if seen.gate and seen.gate.before else {})
    moved_to = wish.moved_to or (seen.gate.moved_to if seen.gate else None)
    server.gate.put(Gate(gates.FROZEN, server.tenant.web.retry_after_seconds, moved_to=moved_to, before=before))
    stop_scheduled(server)
    stop_unit(server, server.tenant.application.unit)
    outcome.sessions_terminated = shut_database(server)
    make_trees_read_only(server, wish.drain_seconds)
    _disarm(server, seen.record)
    proof = Proof(server)
    proof.again(seen.record.proof if seen.record else [])
    outcome.proof = proof.after(status=503)
    outcome.repaired = seen.disagreements
    outcome.changed = True
    outcome.seconds = server.clock.monotonic() - begun
    return outcome


def _was_committed(seen: Observation) -> bool:
    if seen.record is not None:
        return seen.record.lease == DISARMED
    return seen.state == states.PARTIAL and seen.gate is not None and seen.gate.variant == gates.FROZEN


def _moved(wish: FreezeWish, seen: Observation) -> bool:
    return wish.moved_to is not None and seen.gate is not None and seen.gate.moved_to != gates.check_url(wish.moved_to)


def _lease_differs(server: Server, wish: FreezeWish, seen: Observation) -> bool:
    if wish.disarmed:
        return seen.lease == ARMED or server.lease.present() or not server.lease.held()
    # Half of the lease is left: long enough to go on with, and a second run changes nothing.
    return seen.lease != ARMED or (seen.lease_remaining_seconds or 0) < wish.lease_seconds / 2


def _must_be_frozen(server: Server) -> None:
    seen = observe(server)
    if seen.state != states.FROZEN:
        raise MigrationError(
            f"Tenant {server.tenant.name} is {seen.state} after every step of the freeze: {'; '.join(seen.disagreements)}",
            check="freeze-proof",
            action="Find out what changes it back, or make the lease longer",
        )


def _refuse_superusers(server: Server) -> None:
    for session in server.database.sessions():
        raise MigrationError(
            f"{session.user} came into database {server.tenant.database} during the freeze (process {session.pid}, {session.application})",
            check="superuser-session",
            action="Keep superusers out of it until the migration is over, then run again",
        )


def _undone(server: Server, error: BaseException) -> MigrationError:
    """Undo the half-done freeze, and say both what happened and how it stands now."""
    if isinstance(error, OSError):
        error = unusable(error)
    happened = error.happened if isinstance(error, MigrationError) else f"{type(error).__name__}: {error}".rstrip(": ")
    check = error.check if isinstance(error, MigrationError) else "interrupted"
    action = error.action if isinstance(error, MigrationError) else "Run again"
    seen_gate, _present = server.gate.read()
    try:
        undo(server, server.records.read(), seen_gate)
        prove_open(server, login=False)
        end = "everything was undone and the tenant serves again"
    except (MigrationError, OSError) as caught:
        second = unusable(caught) if isinstance(caught, OSError) else caught
        end = f"undoing it failed too ({second.happened}); its lease tries again"
    result = MigrationError(f"{happened}; {end}", check=check, action=action)
    result.figures = getattr(error, "figures", {})  # type: ignore[attr-defined]
    return result


def _lease_fired(server: Server, seen: Observation) -> MigrationError:
    detail = f": {'; '.join(seen.disagreements)}" if seen.disagreements else ""
    return MigrationError(
        f"Tenant {server.tenant.name} is not frozen any more but {seen.state}{detail}; its lease has fired, or it was never frozen",
        check="lease-fired",
        action="Do not open the target; start the cut-over again, with a longer lease if it was too short",
    )


def _nothing_counts(server: Server, record: FreezeRecord) -> MigrationError:
    """Ends the lease's unit as failed, so that systemd starts it again every few seconds until the deadline is over."""
    return MigrationError(
        f"The lease of tenant {server.tenant.name} was renewed until {record.deadline_at}, but {server.lease.timer} does not count",
        check="lease",
        action="Wait: its unit tries again until that moment and thaws then; ireporter-migration thaw does so at once",
    )


def _not_from(server: Server, seen: Observation, wanted: str) -> MigrationError:
    detail = f" ({'; '.join(seen.disagreements)})" if seen.disagreements else ""
    return MigrationError(
        f"Tenant {server.tenant.name} is {seen.state} on this server{detail} and cannot become {wanted} from there",
        check="state-partial" if seen.state == states.PARTIAL else "tenant-state",
        action="Bring it to state open first" if wanted == states.FROZEN else "Install it on this server first",
    )


def _is_settled_open(server: Server, seen: Observation) -> bool:
    return seen.state == states.OPEN and seen.record is None and not server.lease.present() and not server.lease.held()


def _is_frozen_source(seen: Observation) -> bool:
    return (seen.gate is not None and seen.gate.variant == gates.FROZEN) or (
        seen.record is not None and seen.record.lease != NONE
    )


def _no_admission(server: Server) -> MigrationError:
    return MigrationError(
        f"Tenant {server.tenant.name} is frozen on this server, and nobody is admitted to a frozen tenant",
        check="admit-secret",
        action="Admit the smoke client to the target, before it opens",
    )


def _record_for_closing(server: Server, seen: Observation, run_id: str | None) -> FreezeRecord:
    if seen.record is not None:
        before = dict(seen.record.before)
        if before.get("connection_limit") is None and seen.connection_limit not in (None, 0):
            before["connection_limit"] = seen.connection_limit
        return FreezeRecord(
            tenant=server.tenant.without_secrets,
            before=before,
            lease=NONE,
            run_id=seen.record.run_id,
            frozen_at=seen.record.frozen_at,
            proof=seen.record.proof,
        )
    before = dict(seen.gate.before) if seen.gate and seen.gate.before else state_before(server)
    return FreezeRecord(tenant=server.tenant.without_secrets, before=before, lease=NONE, run_id=run_id)


def _closed_gate(
    server: Server, seen: Observation, record: FreezeRecord, moved_to: str | None, admit_secret: str | None
) -> Gate:
    url = gates.check_url(moved_to) if moved_to is not None else (seen.gate.moved_to if seen.gate else None)
    retry = server.tenant.web.retry_after_seconds
    if admit_secret is None:
        return Gate(gates.CLOSED, retry, moved_to=url, before=record.before)
    return Gate(gates.ADMIT, retry, moved_to=url, secret=gates.check_secret(admit_secret), before=record.before)


def _close_steps(server: Server, seen: Observation, wanted: Gate, outcome: Outcome, drain_seconds: float) -> None:
    def done(changed: bool) -> None:
        outcome.changed = changed or outcome.changed

    done(server.gate.put(wanted))
    done(stop_scheduled(server))
    if seen.state == states.OPEN:
        outcome.drained_seconds = drain(server, drain_seconds)
    if wanted.variant == gates.CLOSED:
        done(stop_unit(server, server.tenant.application.unit))
        if seen.connection_limit is not None:
            done(seen.connection_limit != 0)
            outcome.sessions_terminated = shut_database(server)
    mounts = wanted.before.get("mounts") if wanted.before else None
    for tree in server.tenant.file_trees:
        kept = mounts.get(str(tree.path), 0) if isinstance(mounts, dict) else 0
        if tree.path.exists():
            done(server.trees.make_writable(tree.path, mounts_before=kept))
    done(server.lease.remove())
    done(server.lease.release())
    if wanted.variant == gates.ADMIT:
        if server.database.connection_limit() == 0:
            limit = wanted.before.get("connection_limit") if wanted.before else None
            server.database.set_connection_limit(limit if isinstance(limit, int) else -1)
            done(changed=True)
        done(start_application(server, enable=False))


def _prove_closed(server: Server, gate: Gate) -> list[dict[str, object]]:
    """New requests meet the gate, and database probes are refused (closed) or accepted (admitting)."""
    rows: list[Row] = []
    answer = server.web.request("GET", "/")
    rows.append(Row("anybody", "HTTPS, GET /", "", f"HTTP {answer.status}", answer.status == gate.status))
    admitting = gate.variant == gates.ADMIT
    if admitting:
        let_in = server.web.request("GET", "/", headers={"X-IReporter-Smoke": gate.secret or ""})
        passed = let_in.status < 500 and "x-ireporter-gate" not in let_in.headers
        rows.append(Row("smoke client", "HTTPS, GET /", "", f"HTTP {let_in.status}", passed))
    if server.database.connection_limit() is not None:
        for probe in server.tenant.database_probes:
            after = server.database.try_connection(probe)
            expected = after == ACCEPTED if admitting else after.startswith("refused")
            rows.append(Row(probe.name, "database, new session", "", after, expected))
    _all_verified(server, rows, "closed" if not admitting else "closed for all but the smoke client")
    return [row.as_dict() for row in rows]


def prove_open(server: Server, *, login: bool) -> list[dict[str, object]]:
    """The tenant's roles can write in database and trees, and its name is answered by the application.

    :param login: also log in through the API (writes a row of the login history).
    :raises MigrationError: it does not serve (check ``open-proof``).
    """
    rows: list[Row] = []
    for probe in server.tenant.database_probes:
        after = server.database.try_connection(probe)
        rows.append(Row(probe.name, "database, new session", "", after, after == ACCEPTED))
    for tree in server.tenant.file_trees:
        after = server.trees.try_write(tree)
        rows.append(Row(tree.write_as, f"new file in tree {tree.name}", "", after, after == "created"))
    deadline = server.clock.monotonic() + _LONGEST_OPENING_SECONDS
    while True:
        answer = server.web.request("GET", "/")
        served = answer.status < 500 and "x-ireporter-gate" not in answer.headers
        if served or server.clock.monotonic() >= deadline:
            break
        server.clock.sleep(0.2)
    rows.append(Row("anybody", "HTTPS, GET /", "", f"HTTP {answer.status}", served))
    account = server.tenant.web.login
    if login and account is not None:
        after = server.web.login(account)
        rows.append(Row(account.user, "HTTPS, API Login", "", after, after == ACCEPTED))
    _all_verified(server, rows, "open")
    return [row.as_dict() for row in rows]


def _all_verified(server: Server, rows: list[Row], state: str) -> None:
    for row in rows:
        if not row.verified:
            error = MigrationError(
                f"Tenant {server.tenant.name} should be {state} now, but {row.how} as {row.as_} gave: {row.after}",
                check="open-proof" if state == "open" else "closed-proof",
                action="See the application's and nginx's logs and the tenant's probes, then run again",
            )
            error.figures = {"proof": [r.as_dict() for r in rows]}  # type: ignore[attr-defined]
            raise error
