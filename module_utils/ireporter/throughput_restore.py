# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Samples of an import, on the customer's server or one like it: a small bundle of made data is verified, unpacked, restored and proved."""

from __future__ import annotations

import os
import statistics
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

import psycopg

from .bundle import run as make_bundle
from .bundle_encryption import make_key
from .bundle_format import BASE, Paths
from .bundle_places import create, sync_file_system
from .bundle_signature import public_fingerprint
from .bundle_unpack import unpack
from .bundle_verify import Received
from .clock import Clock
from .database_catalog import read_tables, read_types
from .database_connection import Address, exported_snapshot, one_line, program
from .database_schema import environment
from .errors import MigrationError
from .estimate_samples import CHECK, FEWEST
from .throughput_meter import Meter, Samples
from .throughput_rows import create_statements, make_files, row_count, rows
from .throughput_scratch import scratch
from .throughput_shape import Shape
from .throughput_throwaway import MADE, RESTORED, ThrowAway
from .verification_rows import Seeds, Side, digest_tables

Progress = Callable[[dict[str, object]], None]

_ON_DISK: Final = 6
_TENANT: Final = "sample"
_ID: Final = "sample-s-20000101t000000z"
_JOBS: Final = 2


@dataclass(frozen=True)
class RestoreOrder:
    """What is wanted.

    :param directory: a folder on the disk where a bundle is received and unpacked.
    :param admin: a superuser of the server into which is restored.
    :param size: bytes of database, and of files, in each of ``count`` samples.
    """

    directory: Path
    admin: Address
    shape: Shape
    count: int
    size: int
    level: int
    rest: float
    limit_seconds: float


def sample_restore(order: RestoreOrder, clock: Clock, chance: Random, progress: Progress) -> dict[str, Any]:
    """Measure; nothing of it stays.

    An import of nothing comes first: what it takes is the overhead, and no part of the other samples.

    :return: ``samples`` and ``notes``.
    :raises MigrationError: something could not be measured.
    """
    meter = Meter(clock, rest=order.rest, limit_seconds=order.limit_seconds)
    with scratch(order.directory, _ON_DISK * order.size * order.count) as folder, ThrowAway(order.admin) as databases:
        sampler = _Sampler(order, meter, chance, folder, databases, clock)
        empty = [sampler.imported(0, with_files=False)[0] for _ in range(FEWEST)]
        fixed = statistics.median(empty)
        for seconds in empty:
            sampler.samples.add_overhead("import", seconds)
        for number in range(order.count):
            progress({"step": "samples", "number": number + 1, "of": order.count})
            if order.shape.tables:
                seconds, grown, _files = sampler.imported(order.size, with_files=False)
                sampler.samples.add("restore", "database", grown, seconds - fixed)
            else:
                # Nothing grows with it but what the catalogues of an empty database are.
                sampler.samples.add("restore", "database", databases.size(RESTORED), empty[number % FEWEST])
            if order.shape.files is not None:
                seconds, _grown, made = sampler.imported(0, with_files=True)
                sampler.samples.add("restore", "files", made, seconds - fixed)
    notes = []
    if not order.shape.tables:
        notes.append("The source has no row: the samples of the database are of restoring an empty one.")
    if order.shape.files is None:
        notes.append("The source's file trees hold no byte: there are no samples of files.")
    return {"samples": sampler.samples.found, "notes": notes}


@dataclass
class _Sampler:
    order: RestoreOrder
    meter: Meter
    chance: Random
    folder: Path
    databases: ThrowAway
    clock: Clock

    def __post_init__(self) -> None:
        self.samples = Samples()
        self._imports = 0
        identity, self._recipient = make_key()
        self._identity, self._signer = self.folder / "identity", self.folder / "signer"
        with create(self._identity) as file:
            file.write(identity.secret or b"")
        _keygen(self._signer)

    def imported(self, row_bytes: int, *, with_files: bool) -> tuple[float, int, int]:
        """Make a bundle (this takes no time), then take the time of its import.

        :return: seconds, bytes by which the database grew, bytes of files.
        """
        # It stays until all samples are taken: an import deletes nothing, and a file system that tells its disk of what was deleted
        # (mount option discard) is slow for a while after thousands of files.
        self._imports += 1
        place = self.folder / f"import-{self._imports}"
        place.mkdir(mode=0o700)
        made = self._make(place, row_bytes, with_files=with_files)
        # An import syncs the file system, which must not be kept waiting by what was made for it.
        sync_file_system(place)
        with self.meter.step() as step:
            grown = self._import(place)
        return step.seconds, grown, made

    def _make(self, place: Path, row_bytes: int, *, with_files: bool) -> int:
        address = self.databases.create(MADE)
        if row_bytes:
            self._fill(address, row_bytes)
        trees: list[dict[str, object]] = []
        made = 0
        if with_files and self.order.shape.files is not None:
            tree = place / "tree"
            tree.mkdir()
            made = make_files(tree, self.order.shape.files, self.order.size, self.chance)
            trees = [{"name": "sample", "path": str(tree)}]
        spec: dict[str, object] = {
            "state": "present", "tenant": _TENANT, "migration_id": _ID, "directory": str(place),
            "picture": address.conninfo, "file_trees": trees, "cut_off": "2000-01-01T00:00:00Z",
            "recipient": self._recipient, "signing_key": str(self._signer), "readme": "A sample.\n",
            "jobs": _JOBS, "level": self.order.level,
        }  # fmt: skip
        make_bundle(spec, _nobody, self.clock)
        return made

    def _fill(self, address: Address, size: int) -> None:
        with address.connect(options="-c synchronous_commit=off") as session:
            for number, shape in enumerate(self.order.shape.tables):
                statements = create_statements(shape, f"t{number}")
                session.execute(statements[0].encode())
                with session.cursor().copy(f"COPY public.t{number} FROM STDIN".encode()) as copy:
                    for block in rows(shape, row_count(shape, size), self.chance):
                        copy.write(block)
                for statement in statements[1:]:
                    session.execute(statement.encode())

    def _import(self, place: Path) -> int:
        received = Received(Paths.within(place, _ID), public_fingerprint(self._signer), _TENANT, None, self._identity)
        target = place / "unpacked"
        unpack(received, target, _nobody, trees=True)
        address = self.databases.create(RESTORED)
        empty = self.databases.size(RESTORED)
        with address.connect() as session:
            version = session.info.server_version
        completed = subprocess.run(
            [
                program("pg_restore", version), "--no-password", "--exit-on-error", f"--jobs={_JOBS}",
                f"--dbname={address.string()}", str(target / BASE / "data/database"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
            env=environment(),
        )  # fmt: skip
        if completed.returncode != 0:
            raise _failed("pg_restore", completed.stderr.decode(errors="backslashreplace"))
        try:
            self._prove(address)
        except psycopg.Error as error:
            raise _failed("PostgreSQL", one_line(error)) from error
        return self.databases.size(RESTORED) - empty

    def _prove(self, address: Address) -> None:
        """Statistics, and a digest of every row, as the verification after an import takes them."""
        with address.connect() as session:
            session.execute("ANALYZE")
            with exported_snapshot(session) as snapshot:
                tables = {(table.schema, table.name): table for table in read_tables(session)}
                side = Side("sample", address, snapshot, tables, session.info.server_version)
                digest_tables(
                    (side,), read_types(session), list(tables), seeds=Seeds.draw(), jobs=_JOBS, progress=_no_bytes
                )


def _keygen(path: Path) -> None:
    completed = subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "sample", "-f", str(path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
    )
    if completed.returncode != 0:
        raise _failed("ssh-keygen", completed.stderr.decode(errors="backslashreplace"))


def _nobody(_progress: dict[str, object]) -> None:
    """Nobody watches the bytes of a sample."""


def _no_bytes(_size: int) -> None:
    """As above."""


def _failed(name: str, why: str) -> MigrationError:
    return MigrationError(
        f"{name} failed while a restore was sampled: {why.strip().partition(chr(10))[0]}",
        check=CHECK,
        action="Mend the cause, then measure again",
    )
