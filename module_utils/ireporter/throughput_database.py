# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads samples of a tenant's own rows as ``pg_dump`` does: ``COPY`` in text form, by two programs, into files. Nothing is written in the database."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import IO, Final

import psycopg

from .bundle_encryption import require_programs, said
from .database_catalog import Table, Type, read_tables, read_types
from .database_connection import Address, Connection, keep_bytes, literal, one_line, program, query, value
from .database_schema import environment
from .errors import MigrationError
from .estimate_samples import CHECK
from .throughput_portions import Portion, choose, with_rows
from .verification_rows import Seeds, digest_statement

_POLL_SECONDS: Final = 0.01
SESSIONS: Final = 2


@dataclass(frozen=True)
class Piece:
    """A portion whose end is known to the row."""

    portion: Portion
    rows: int | None

    @property
    def bytes(self) -> Fraction:
        return self.portion.bytes


class SampledDatabase:
    """The tenant's own database.

    :param address: as a role that may read all rows.
    :raises MigrationError: no connection, or no program that reads it.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        require_programs("setpriv")
        with address.connect() as session:
            self.version = session.info.server_version
            self.bytes = int(value(session, "SELECT pg_database_size(current_database())"))
            self.types: dict[int, Type] = read_types(session)
            self.tables: list[Table] = with_rows(read_tables(session))
            self.encoding = str(value(session, "SHOW server_encoding"))
        self._psql = program("psql", self.version)
        self._pg_dump = program("pg_dump", self.version)

    def pieces(self, wanted: int, start: Fraction) -> list[Piece]:
        """As :func:`throughput_portions.choose`; of a page that holds too much, so many rows as are wanted."""
        with self.address.connect() as session:
            return [self._piece(session, portion) for portion in choose(self.tables, self.bytes, wanted, start)]

    def _piece(self, session: Connection, portion: Portion) -> Piece:
        if portion.share == 1:
            return Piece(portion, None)
        statement = (
            f"SELECT (ctid::text::point)[1]::int FROM ONLY {portion.table.identifier} {portion.condition(self.version)} "  # noqa: S608
            "ORDER BY 1"
        )
        places = [int(place) for (place,) in query(session, statement)]
        if not places:
            return Piece(portion, 1)
        taken = ceil(portion.share * len(places))
        whole = portion.bytes / portion.share
        return Piece(replace(portion, bytes=whole * taken / len(places)), places[taken - 1] + 1)

    def copy(self, pieces: Sequence[Piece], folder: Path, limit_seconds: float) -> Iterator[Path]:
        """Files with the rows of the pieces, each as soon as it is complete; two programs read at the same time.

        :raises MigrationError: one of them failed (R03).
        """
        shares = [share for share in (pieces[number::SESSIONS] for number in range(SESSIONS)) if share]
        with _Readers() as readers:
            for number, share in enumerate(shares):
                script = "".join(
                    f"\\o {number}-{position}.copy\nCOPY (SELECT {_columns(piece.portion.table)} FROM ONLY "  # noqa: S608
                    f"{piece.portion.table.identifier} {piece.portion.condition(self.version, piece.rows)}) TO STDOUT;\n"
                    for position, piece in enumerate(share)
                )
                readers.start(self._reader(folder, script, limit_seconds, readers), number, len(share))
            yield from readers.files(folder)

    def _reader(self, folder: Path, script: str, limit_seconds: float, readers: _Readers) -> subprocess.Popen[bytes]:
        with self.address.connect() as session:
            codec = keep_bytes(session, self.encoding)
        head = f"SET client_encoding = {literal(self.encoding)};\nSET statement_timeout = {max(1, int(limit_seconds * 1000))};\n"
        standard_input = readers.file((head + script).encode(codec))
        return subprocess.Popen(
            [
                "setpriv", "--pdeathsig=KILL", "--", self._psql, "--no-psqlrc", "--quiet", "--no-password",
                "--set=ON_ERROR_STOP=1", f"--dbname={self.address.string()}", "--file=-",
            ],
            stdin=standard_input,
            stdout=subprocess.DEVNULL,
            stderr=readers.errors,
            cwd=folder,
            env=environment(),
        )  # fmt: skip

    def digest(self, pieces: Sequence[Piece], seeds: Seeds, limit_seconds: float) -> int:
        """Digests of the same rows as a bundle holds them; returns their number.

        :raises MigrationError: PostgreSQL refused (R03).
        """
        rows = 0
        options = (
            f"-c max_parallel_workers_per_gather=0 -c jit=off -c statement_timeout={max(1, int(limit_seconds * 1000))}"
        )
        with self.address.connect(options=options) as session:
            codec = keep_bytes(session, self.encoding)
            try:
                for piece in pieces:
                    table = piece.portion.limited(self.version, piece.rows)
                    statement = digest_statement(table, self.types, seeds, None)
                    rows += int(query(session, statement.encode(codec))[0][0])
            except psycopg.Error as error:
                raise _failed(one_line(error)) from error
        return rows

    def dump_schema(self) -> bytes:
        """What a dump reads whatever the amount of rows.

        :raises MigrationError: ``pg_dump`` failed (R03).
        """
        completed = subprocess.run(
            [
                self._pg_dump, "--no-password", "--schema-only", "--format=custom", "--compress=0", "--no-tablespaces",
                "--no-subscriptions", f"--dbname={self.address.string()}",
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            env=environment(),
        )  # fmt: skip
        if completed.returncode != 0:
            raise _failed(completed.stderr.decode(errors="backslashreplace").strip().partition("\n")[0])
        return completed.stdout


class _Readers:
    """Programs that write files ``<number>-<position>.copy``, one after the other; ended and forgotten when the block is left."""

    def __init__(self) -> None:
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the block is left
        self._inputs: list[IO[bytes]] = []
        self._running: list[tuple[subprocess.Popen[bytes], int, int]] = []

    def __enter__(self) -> _Readers:
        return self

    def __exit__(self, *_exception: object) -> None:
        for process, _number, _count in self._running:
            if process.poll() is None:
                process.kill()
            process.wait()
        for file in (self.errors, *self._inputs):
            file.close()

    def file(self, content: bytes) -> IO[bytes]:
        """A file that nobody else can open."""
        made: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the block is left
        self._inputs.append(made)
        made.write(content)
        made.seek(0)
        return made

    def start(self, process: subprocess.Popen[bytes], number: int, count: int) -> None:
        """Look after a program that will write ``count`` files."""
        self._running.append((process, number, count))

    def files(self, folder: Path) -> Iterator[Path]:
        """Each file once it is complete: the next one was begun, or the program has ended."""
        left = {number: 0 for _process, number, _count in self._running}
        while left:
            ready = []
            for process, number, count in self._running:
                if number not in left:
                    continue
                # Asked before looking: what it wrote before it ended is seen.
                ended = process.poll() is not None
                if ended and process.returncode != 0:
                    raise _failed(said(self.errors))
                while left[number] < count and (ended or (folder / f"{number}-{left[number] + 1}.copy").exists()):
                    ready.append(folder / f"{number}-{left[number]}.copy")
                    left[number] += 1
                if left[number] == count:
                    del left[number]
            yield from ready
            if not ready:
                time.sleep(_POLL_SECONDS)


def _columns(table: Table) -> str:
    """Those that ``pg_dump`` takes along."""
    copied = replace(table, columns=tuple(column for column in table.columns if not column.generated))
    return copied.selected_columns()


def _failed(why: str) -> MigrationError:
    return MigrationError(
        f"A sample of the database could not be read: {why}",
        check=CHECK,
        action="Mend the cause that PostgreSQL names, then measure again",
    )
