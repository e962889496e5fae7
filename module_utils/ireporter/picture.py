"""A picture: what a frozen tenant has, kept as it is at one instant while its users go on.

A template copy of its database, which survives a crash and locks nothing of the original, and its staged file trees. There is one
for each tenant. It is made inside the freeze; a first pass of the files is made by day. A deadline on this host drops what nobody does.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import fcntl
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from . import file_copy, file_known_contents
from .clock import Clock, SystemClock
from .commands import Runner
from .commands import run as run_command
from .database_check import check_for_dump
from .database_connection import Address
from .errors import MigrationError
from .file_trees import absolute, marker_of, parse_trees
from .freeze_record import ARMED, Records
from .json_files import read_json, write_json
from .lease import Lease
from .picture_database import PictureDatabase
from .picture_deadline import PictureDeadline
from .tenant_model import STATE_DIRECTORY, tenant_name
from .unit import stop_all

Progress = Callable[[dict[str, object]], None]

STAGED: Final = "staged"
"""Files of a first pass, no database."""
MAKING: Final = "making"
MADE: Final = "made"
NONE: Final = "none"
_FORMAT: Final = 1
_SYNC_SECONDS: Final = 3600.0


@dataclass(frozen=True)
class Order:
    """What is wanted.

    :param run_id: of the migration whose freeze it is.
    :param admin: libpq string of a superuser, to another database than the tenant's.
    :param trees: ``{name, source, target}``; the targets are the staged trees, below ``staging``.
    :param expires_in_seconds: after which this host drops everything by itself.
    """

    tenant: str
    run_id: str
    admin: str
    database: str
    trees: Sequence[Mapping[str, object]]
    staging: Path
    expires_in_seconds: int


@dataclass(frozen=True)
class Picture:
    """What is remembered of it. ``unlogged`` are tables whose rows a crash would take from the picture."""

    tenant: str
    run_id: str
    status: str
    admin: str
    database: str
    staging: str
    trees: list[dict[str, object]]
    oid: int | None = None
    cut_off: str | None = None
    unlogged: list[str] = field(default_factory=list)
    figures: dict[str, object] = field(default_factory=dict)


class PictureOf:
    """The picture of one tenant on this host."""

    def __init__(
        self,
        tenant: str,
        *,
        state_directory: Path = STATE_DIRECTORY,
        clock: Clock | None = None,
        run: Runner = run_command,
        deadline: PictureDeadline | None = None,
    ) -> None:
        self.tenant = tenant_name(tenant)
        self._directory = state_directory / self.tenant
        self._path = self._directory / "picture.json"
        self._clock = clock or SystemClock()
        self._run = run
        self._records = Records(state_directory, self.tenant, self._clock)
        self._lease = Lease(self.tenant, run, self._clock)
        self._deadline = deadline or PictureDeadline(self.tenant, run)

    def read(self) -> Picture | None:
        """What is remembered, or ``None``.

        :raises MigrationError: it cannot be understood (check ``picture-record``).
        """
        try:
            content = read_json(self._path)
            if content is None:
                return None
            if not isinstance(content, dict) or content.pop("format", None) != _FORMAT:
                raise ValueError("unknown format")  # noqa: TRY301 - one sentence for all that can be wrong with it
            return Picture(**content)
        except (ValueError, TypeError) as error:
            raise MigrationError(
                f"{self._path} cannot be understood: {error}",
                check="picture-record",
                action="Drop the database it names and the folder staged beside the bundles by hand, remove the file, then run again",
            ) from error

    def usable(self, run_id: str | None = None) -> Picture | None:
        """The picture (of that run), if all of it is there as it was made."""
        found = self.read()
        if found is None or found.status != MADE or run_id not in (None, found.run_id):
            return None
        whole = self._database(found).holds(found.oid, found.unlogged)
        return found if whole and all(Path(str(tree["target"])).is_dir() for tree in found.trees) else None

    def stage(self, order: Order, progress: Progress, *, check: bool) -> dict[str, object]:
        """A first pass of the files, while users work, after a look at what would stop the bundle when the freeze is over.

        :raises MigrationError: the files cannot be copied, or the database has what no dump can carry.
        """
        self._database_must_be_free(order, self.read())
        with Address.parse(order.admin, "admin").connect(dbname=order.database) as session:
            check_for_dump(session)
        spec = {"file_trees": list(order.trees), "owner": f"picture of {self.tenant}", "check": check, "remember": True}
        if check:
            return file_copy.run(spec, progress)
        with self._alone():
            known = self.read()
            if known is None or known.status not in (MAKING, MADE):
                self._write(self._begun(order, STAGED))
            self._deadline.arm(order.expires_in_seconds)
            return file_copy.run(spec, progress)

    def make(self, order: Order, progress: Progress) -> dict[str, object]:
        """Inside the freeze of ``order.run_id``: database, last pass of the files, and the proof that the freeze held until all was there.

        :raises MigrationError: the tenant is not frozen by this run (check ``picture-freeze``), or a part of it could not be made; no
            database of it stays.
        """
        with self._alone():
            found = self.usable(order.run_id)
            if found is not None:
                self._deadline.arm(order.expires_in_seconds)
                return {"changed": False, **_result(found)}
            frozen_at = self._frozen(order)
            known = self.read()
            self._database_must_be_free(order, known)
            if known is not None:
                self._database(known).drop()
            started = self._clock.monotonic()
            begun = self._begun(order, MAKING)
            self._write(begun)
            self._deadline.arm(order.expires_in_seconds)
            try:
                made = self._made(order, begun, frozen_at, started, progress)
            except BaseException:
                self._database(begun).drop()
                self._write(replace(begun, status=STAGED))
                raise
            self._write(made)
            return {"changed": True, **_result(made)}

    def drop(self, *, keep_staged: bool, check: bool = False) -> bool:
        """Remove the database, and with ``keep_staged=False`` everything; ``False`` when there was nothing.

        :raises MigrationError: the database could not be dropped.
        """
        with self._alone() if self._directory.is_dir() else contextlib.nullcontext():
            found = self.read()
            if found is None:
                changed = self._deadline.present()
                if changed and not check:
                    self._deadline.disarm()
                return changed
            if keep_staged and found.status == STAGED:
                return False
            if check:
                return True
            self._database(found).drop()
            if keep_staged:
                # Still under the deadline: a further attempt may never come.
                self._write(replace(found, status=STAGED, oid=None, cut_off=None))
                return True
            for tree in found.trees:
                path = absolute(tree["target"])
                if path.exists():
                    shutil.rmtree(path)
                marker_of(path).unlink(missing_ok=True)
                file_known_contents.forget(path)
            with contextlib.suppress(OSError):  # not empty: somebody else put something there
                Path(found.staging).rmdir()
            self._path.unlink()
            self._deadline.disarm()
            return True

    def _made(self, order: Order, begun: Picture, frozen_at: str, started: float, progress: Progress) -> Picture:
        database = self._database(begun)
        spec: dict[str, object] = {
            "file_trees": list(order.trees),
            "owner": f"picture of {self.tenant}",
            "final": True,
        }
        # Beside each other: the copy of the database waits for disks, that of the files for processors.
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            copying = pool.submit(database.create_from, order.database)
            files = file_copy.run(spec, progress)
            copied = copying.result()
        # rsync leaves it to the kernel when files reach the disk, and a picture has to survive a crash.
        self._run(["sync", "--file-system", str(order.staging)], timeout_seconds=_SYNC_SECONDS)
        still = self._frozen(order)
        if still != frozen_at:
            raise _not_frozen(order, "it was reopened and frozen again meanwhile")
        return replace(
            begun,
            status=MADE,
            oid=copied.oid,
            unlogged=copied.unlogged,
            cut_off=self._cut_off(frozen_at),
            figures={
                "database_bytes": copied.bytes,
                "database_seconds": round(copied.seconds, 3),
                "files": files["files"],
                "file_bytes": files["bytes"],
                "files_seconds": files["seconds"],
                "seconds": round(self._clock.monotonic() - started, 3),
            },
        )

    def _frozen(self, order: Order) -> str:
        """Since when this run has the tenant frozen, with its lease still counting.

        :raises MigrationError: it has not (check ``picture-freeze``).
        """
        record = self._records.read()
        if record is None or record.frozen_at is None:
            raise _not_frozen(order, "it is open")
        if record.run_id != order.run_id:
            raise _not_frozen(order, f"it was frozen by {record.run_id}")
        if record.lease != ARMED or record.deadline is None or self._lease.remaining(record.deadline) <= 0:
            raise _not_frozen(order, "the lease of the freeze has ended")
        return record.frozen_at

    def _cut_off(self, frozen_at: str) -> str:
        """The first whole second of the freeze: all that was acknowledged before it is in the picture, nothing later.

        The freeze holds now, so an instant between its begin and now will do; the next second is awaited if need be.
        """
        begun = datetime.fromisoformat(frozen_at).astimezone(UTC)
        whole = math.ceil(begun.timestamp())
        self._clock.sleep(max(0.0, whole - self._clock.now().timestamp()))
        return datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def _begun(self, order: Order, status: str) -> Picture:
        return Picture(
            tenant=self.tenant,
            run_id=order.run_id,
            status=status,
            admin=order.admin,
            database=PictureDatabase.name_for(order.database),
            staging=str(order.staging),
            trees=[dict(tree) for tree in order.trees],
        )

    def _database(self, picture: Picture) -> PictureDatabase:
        return PictureDatabase(picture.admin, picture.database, self._clock)

    def _database_must_be_free(self, order: Order, known: Picture | None) -> None:
        name = PictureDatabase.name_for(order.database)
        if known is not None and known.database == name and known.status in (MAKING, MADE):
            return
        if PictureDatabase(order.admin, name, self._clock).exists():
            raise MigrationError(
                f"There is a database {name} that no picture of tenant {self.tenant} made",
                check="picture-database",
                action="Look whose it is, rename or drop it, then run again",
            )

    def _write(self, picture: Picture) -> None:
        write_json(self._path, {"format": _FORMAT, **asdict(picture)})

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One at a time; the kernel releases it when the process dies.

        :raises MigrationError: another one is at work (check ``picture-lock``).
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._directory / "picture.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as error:
            raise MigrationError(
                f"The picture of tenant {self.tenant} is being made or dropped already",
                check="picture-lock",
                action="Wait until that has ended, then run again",
            ) from error
        finally:
            os.close(descriptor)


def run(spec: dict[str, object], progress: Progress) -> dict[str, object]:
    """Entry point of unit and module.

    :param spec: ``state`` (``staged``, ``present``, ``absent``, ``read``), ``tenant``, ``check``; the first two also ``run_id``, ``admin``,
        ``database``, ``file_trees`` (``{name, path}``), ``staging``, ``expires_in_seconds``; ``absent`` also ``keep_staged``;
        ``read`` also ``run_id``, when only the picture of that run counts.
    :returns: ``changed`` and, of ``staged``, what :func:`file_copy.run` gives; of ``present`` and ``read``, ``made``, ``run_id``, ``database``,
        ``cut_off``, ``file_trees`` (``{name, path}``), ``figures``.
    :raises MigrationError: it cannot be brought there.
    """
    picture = PictureOf(str(spec["tenant"]))
    check = bool(spec.get("check"))
    if spec["state"] == "read":
        wanted = spec.get("run_id")
        found = picture.usable(None if wanted is None else str(wanted))
        return {"changed": False, **(_result(found) if found else _nothing())}
    if spec["state"] == "absent":
        return {"changed": picture.drop(keep_staged=bool(spec.get("keep_staged")), check=check)}
    order = _order(spec)
    if spec["state"] == "staged":
        return picture.stage(order, progress, check=check)
    if check:
        found = picture.usable(order.run_id)
        return {"changed": found is None, **(_result(found) if found else _nothing())}
    return picture.make(order, progress)


def drop_main(arguments: list[str]) -> int:
    """``ireporter-migration drop-picture TENANT``: what the deadline and people call. What reads the picture ends first."""
    (tenant,) = arguments if len(arguments) == 1 else ("",)
    found = PictureOf(tenant)
    known = found.read()
    if known is not None:
        stop_all(found.tenant, migration_id=known.run_id)
    found.drop(keep_staged=False)
    return 0


def _order(spec: Mapping[str, Any]) -> Order:
    staging = absolute(spec["staging"])
    trees = [
        {"name": tree["name"], "source": tree["path"], "target": str(staging / str(tree["name"]))}
        for tree in spec["file_trees"]
    ]
    parse_trees(trees)
    return Order(
        tenant=str(spec["tenant"]),
        run_id=str(spec["run_id"]),
        admin=str(spec["admin"]),
        database=str(spec["database"]),
        trees=trees,
        staging=staging,
        expires_in_seconds=int(spec["expires_in_seconds"]),
    )


def _result(picture: Picture) -> dict[str, object]:
    return {
        "made": picture.status == MADE,
        "run_id": picture.run_id,
        "database": picture.database,
        "cut_off": picture.cut_off,
        "file_trees": [{"name": tree["name"], "path": tree["target"]} for tree in picture.trees],
        "figures": picture.figures,
    }


def _nothing() -> dict[str, object]:
    return {"made": False, "run_id": None, "database": None, "cut_off": None, "file_trees": [], "figures": {}}


def _not_frozen(order: Order, why: str) -> MigrationError:
    return MigrationError(
        f"Tenant {order.tenant} is not frozen by {order.run_id}: {why}",
        check="picture-freeze",
        action="Run the migration again: it freezes the tenant anew, inside its window",
    )
