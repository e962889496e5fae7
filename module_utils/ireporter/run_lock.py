"""One operator per tenant: a lock that names its holder and is held by a heartbeat on this host's boot clock, or by a working unit.

No two hosts' clocks are compared: the lock lives on the server, and only that server's clock counts.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from .clock import Clock
from .errors import MigrationError
from .json_files import read_json_if_whole, write_json
from .lease import boot_identity
from .tenant_model import tenant_name

DEFAULT_TTL_SECONDS: Final = 120
_FILE: Final = "lock.json"


@dataclass(frozen=True)
class Lock:
    """Who holds the tenant. ``session`` is the playbook process, ``operator`` the person.

    :param before: the lock of the same run that had gone out when this one was taken, as it is written.
    """

    run_id: str
    operator: str
    session: str
    boot: str
    taken_at: str
    refreshed_boot_seconds: float
    ttl_seconds: int
    before: dict[str, object] | None = None

    def expires_in(self, clock: Clock, boot: str) -> float:
        """Seconds until the heartbeat has gone out; not positive when it has."""
        if boot != self.boot:
            return 0.0
        return self.refreshed_boot_seconds + self.ttl_seconds - clock.monotonic()


class RunLock:
    """The lock of one tenant on this host.

    :param working: names of the units that work for this tenant right now.
    """

    def __init__(
        self,
        state_directory: Path,
        tenant: str,
        clock: Clock,
        working: Callable[[], list[str]],
        *,
        proc: Path = Path("/proc"),
    ) -> None:
        self._tenant = tenant_name(tenant)
        self._directory = state_directory / self._tenant
        self._clock = clock
        self._working = working
        self._proc = proc

    def take(
        self,
        run_id: str,
        operator: str,
        session: str,
        *,
        ttl_seconds: int = DEFAULT_TTL_SECONDS,
        take_over: bool = False,
    ) -> bool:
        """Take or refresh the lock; ``False`` when this session held it already.

        :raises MigrationError: somebody else holds it (check ``run-lock``).
        """
        with _exclusive(self._directory):
            held = self.assert_free(operator, session, take_over=take_over)
            taken_at = self._clock.now().isoformat(timespec="seconds")
            same = held is not None and held.session == session and held.run_id == run_id
            self._write(
                Lock(
                    run_id,
                    operator,
                    session,
                    boot_identity(self._proc),
                    held.taken_at if same and held is not None else taken_at,
                    self._clock.monotonic(),
                    ttl_seconds,
                    _before(held, run_id, same=same),
                )
            )
            return not same

    def assert_free(self, operator: str, session: str, *, take_over: bool) -> Lock | None:
        """The lock as it is, when this session could take it.

        A lock that only a working unit still holds can be taken by the operator who started it: the unit is adopted.

        :raises MigrationError: somebody else holds it (check ``run-lock``).
        """
        held = self.read()
        if held is not None and held.session != session and not take_over:
            left = self._left(held)
            units = self._working()
            if left > 0 or (units and held.operator != operator):
                raise self._refusal(held, left, units)
        return held

    def assert_held(self, run_id: str, session: str) -> None:
        """Refresh the heartbeat of the lock we hold; one that went out meanwhile, and that nobody took, is ours again.

        :raises MigrationError: another session holds it (check ``run-lock``).
        """
        with _exclusive(self._directory):
            held = self.read()
            if held is not None and held.session != session:
                raise self._refusal(held, self._left(held), self._working())
            if held is None:
                raise MigrationError(
                    f"Nobody holds the lock of tenant {self._tenant}: this run has ended or was never started",
                    check="run-lock",
                    action="Start the playbook again",
                )
            self._write(
                Lock(
                    run_id,
                    held.operator,
                    session,
                    boot_identity(self._proc),
                    held.taken_at,
                    self._clock.monotonic(),
                    held.ttl_seconds,
                    held.before,
                )
            )

    def release(self, session: str) -> bool:
        """Give the lock back; ``False`` when this session does not hold it."""
        with _exclusive(self._directory):
            held = self.read()
            if held is None or held.session != session:
                return False
            (self._directory / _FILE).unlink()
            return True

    def give_back(self, session: str) -> bool:
        """As it was before this session took it: gone out, but whose run it is may go on. ``False`` when this session does not hold it."""
        with _exclusive(self._directory):
            held = self.read()
            if held is None or held.session != session:
                return False
            if held.before is None:
                (self._directory / _FILE).unlink()
            else:
                write_json(self._directory / _FILE, held.before)
            return True

    def read(self) -> Lock | None:
        """The lock as it was last written, expired or not; ``None``: nobody's, which one that cannot be understood is, too."""
        content = read_json_if_whole(self._directory / _FILE)
        if not isinstance(content, dict):
            return None
        try:
            return Lock(**content)
        except TypeError:
            return None

    def as_dict(self) -> dict[str, object]:
        """For module results: ``held``, ``by``, ``operator``, ``run_id``, ``since``, ``expires_in_seconds``, ``expires_at``."""
        held = self.read()
        if held is None:
            return {"held": False, "by": None}
        left = self._left(held)
        units = self._working()
        by = "heartbeat" if left > 0 else ("unit" if units else None)
        return {
            "held": by is not None,
            "by": by,
            "operator": held.operator,
            "run_id": held.run_id,
            "since": held.taken_at,
            "expires_in_seconds": round(max(left, 0.0)),
            "expires_at": self._at(left),
            "units": units,
        }

    def _left(self, held: Lock) -> float:
        return held.expires_in(self._clock, boot_identity(self._proc))

    def _at(self, left: float) -> str:
        return (self._clock.now() + timedelta(seconds=max(left, 0.0))).isoformat(timespec="seconds")

    def _refusal(self, held: Lock, left: float, units: list[str]) -> MigrationError:
        until = (
            f"until {self._at(left)} at the earliest" if left > 0 else f"as long as {', '.join(units) or 'it'} works"
        )
        return MigrationError(
            f"Tenant {self._tenant} is being migrated by {held.operator} since {held.taken_at} (run {held.run_id}); the lock is held {until}",
            check="run-lock",
            action=f"Talk to {held.operator}; if that run is dead, wait or take the lock over (take_over: true)",
        )

    def _write(self, lock: Lock) -> None:
        write_json(self._directory / _FILE, lock.__dict__)


def _before(held: Lock | None, run_id: str, *, same: bool) -> dict[str, object] | None:
    if held is None or held.run_id != run_id:
        return None
    return held.before if same else {**held.__dict__, "before": None}


def refresh(state_directory: Path, tenant: str, run_id: str, clock: Clock, *, proc: Path = Path("/proc")) -> None:
    """A sign of life of run ``run_id`` from the host itself; nothing happens when it does not hold the lock."""
    directory = state_directory / tenant_name(tenant)
    if not (directory / _FILE).exists():
        return
    with _exclusive(directory):
        content = read_json_if_whole(directory / _FILE)
        if isinstance(content, dict) and content.get("run_id") == run_id:
            content.update(boot=boot_identity(proc), refreshed_boot_seconds=clock.monotonic())
            # Durably: a power cut that left an empty file would leave a run that nobody is known to hold.
            write_json(directory / _FILE, content)


@contextlib.contextmanager
def kept_alive(
    state_directory: Path, tenant: str, run_id: str, clock: Clock, *, seconds: float = 10.0
) -> Iterator[None]:
    """Signs of life of run ``run_id`` for as long as the block works."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(seconds):
            refresh(state_directory, tenant, run_id, clock)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextlib.contextmanager
def _exclusive(directory: Path) -> Iterator[None]:
    """Held for a moment only: two operators that come at the same time see each other."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(directory / "lock.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
