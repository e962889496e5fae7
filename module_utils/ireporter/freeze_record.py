"""freeze.json – what was before, and everything needed to thaw – and the lock under which freeze, disarm and thaw happen."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from .clock import Clock
from .errors import MigrationError
from .json_files import read_json, write_json
from .lease import Deadline

_FORMAT = 1
_FILE = "freeze.json"

ARMED = "armed"
DISARMED = "disarmed"
NONE = "none"


@dataclass(frozen=True)
class FreezeRecord:
    """What a server remembers while a tenant is frozen or closed there.

    :param tenant: the tenant dictionary without passwords.
    :param before: ``connection_limit`` (``None``: no database), ``application`` and ``scheduled`` (unit states), ``mounts`` (number per path).
    :param lease: ``armed``, ``disarmed`` or ``none`` (closed). ``disarmed`` here wins over a timer that still runs.
    """

    tenant: dict[str, object]
    before: dict[str, object]
    lease: str = NONE
    lease_seconds: int = 0
    deadline: Deadline | None = None
    deadline_at: str | None = None
    run_id: str | None = None
    frozen_at: str | None = None
    proof: list[dict[str, object]] = field(default_factory=list)


class Records:
    """freeze.json of one tenant and its lock, below the state directory."""

    def __init__(self, state_directory: Path, tenant: str, clock: Clock) -> None:
        self.directory = state_directory / tenant
        self._clock = clock

    @property
    def path(self) -> Path:
        return self.directory / _FILE

    def read(self) -> FreezeRecord | None:
        """What is remembered, or ``None``.

        :raises MigrationError: the file is there, but cannot be understood (check ``freeze-record``).
        """
        try:
            content = read_json(self.path)
            if content is None:
                return None
            if not isinstance(content, dict) or content.get("format") != _FORMAT:
                raise ValueError("unknown format")  # noqa: TRY301 - one sentence for all that can be wrong with it
            deadline = content["deadline"]
            return FreezeRecord(
                tenant=dict(content["tenant"]),
                before=dict(content["before"]),
                lease=str(content["lease"]),
                lease_seconds=int(content["lease_seconds"]),
                deadline=Deadline(str(deadline["boot"]), float(deadline["boot_seconds"])) if deadline else None,
                deadline_at=content["deadline_at"],
                run_id=content["run_id"],
                frozen_at=content["frozen_at"],
                proof=list(content["proof"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise MigrationError(
                f"{self.path} cannot be understood: {error}",
                check="freeze-record",
                action="Keep a copy of it, and reopen the tenant by hand as docs/by-hand.md says",
            ) from error

    def write(self, record: FreezeRecord) -> None:
        """Durably, before anything it speaks of is done."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        content: dict[str, object] = {
            "format": _FORMAT,
            "tenant": record.tenant,
            "before": record.before,
            "lease": record.lease,
            "lease_seconds": record.lease_seconds,
            "deadline": {"boot": record.deadline.boot, "boot_seconds": record.deadline.boot_seconds}
            if record.deadline
            else None,
            "deadline_at": record.deadline_at,
            "run_id": record.run_id,
            "frozen_at": record.frozen_at,
            "proof": record.proof,
        }
        write_json(self.path, content)

    def update(self, record: FreezeRecord, **changes: object) -> FreezeRecord:
        """Write ``record`` with ``changes`` and return it."""
        changed = replace(record, **changes)  # type: ignore[arg-type]
        self.write(changed)
        return changed

    def remove(self) -> bool:
        """Forget, durably; ``False`` when there was nothing."""
        try:
            self.path.unlink()
        except FileNotFoundError:
            return False
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return True

    @contextlib.contextmanager
    def lock(self, *, wait_seconds: float = 300.0) -> Iterator[None]:
        """One freeze, disarm, thaw or close of a tenant at a time; the kernel releases it when the process dies.

        :raises MigrationError: another one did not end in time (check ``freeze-lock``).
        """
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.directory / "freeze.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = self._clock.monotonic() + wait_seconds
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if self._clock.monotonic() >= deadline:
                        raise MigrationError(
                            f"Another freeze or thaw of tenant {self.directory.name} has not ended for {wait_seconds:.0f} s",
                            check="freeze-lock",
                            action="Find its process with: fuser -v " + str(self.directory / "freeze.lock"),
                        ) from None
                    self._clock.sleep(0.2)
            yield
        finally:
            os.close(descriptor)
