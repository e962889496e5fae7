"""Rows on their way: many binary COPY streams from one snapshot into bare tables, nothing stored in between.

Large parts go through a pair of ``psql`` joined by a pipe (measured: nothing in Python comes near, and rows never enter this
process); small ones through two sessions that are open anyway, because starting two programs costs more than a small table.
A stream that was cut short looks complete to the receiving side, so a part counts only if the sending side ended well, and
a copy in which one part does not count is an incomplete copy: the database keeps its marker and is dropped by the next run.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import IO

import psycopg

from .database_catalog import Table
from .database_connection import Address, Connection, keep_bytes, literal, one_line, program, unlimited
from .database_schema import environment
from .errors import MigrationError

_PIPE_BYTES = 1 << 20
_SMALL_BYTES = 1 << 20
_PART_BYTES = 96 << 20
# As a replica: the tables of extensions have their triggers and foreign keys from the start, and those must not act.
_TARGET_OPTIONS = "-c synchronous_commit=off -c session_replication_role=replica"


@dataclass(frozen=True)
class Part:
    """A table, or the range of its pages from ``first`` up to but without ``end`` (``None``: open)."""

    table: Table
    first: int | None
    end: int | None
    bytes: int

    def source_statement(self, text: bool) -> str:
        """``COPY … TO STDOUT``."""
        condition = self.table.condition
        if self.first is not None:
            condition = f"WHERE ctid >= '({self.first},0)'::pg_catalog.tid"
            if self.end is not None:
                condition += f" AND ctid < '({self.end},0)'::pg_catalog.tid"
        plain = not any(column.generated or column.exact_text for column in self.table.columns)
        if not condition and not self.table.materialised_view and plain:
            return f"COPY {self.table.identifier} {self.table.copied_columns()} TO STDOUT (FORMAT {_format(text)})"
        rows = f"SELECT {self.table.selected_columns()} FROM ONLY {self.table.identifier} {condition}"  # noqa: S608 - quoted by psycopg
        return f"COPY ({rows}) TO STDOUT (FORMAT {_format(text)})"

    def target_statement(self, text: bool) -> str:
        """``COPY … FROM STDIN``."""
        return f"COPY {self.table.identifier} {self.table.copied_columns()} FROM STDIN (FORMAT {_format(text)})"


def _format(text: bool) -> str:
    return "text" if text else "binary"


def cut(tables: list[Table], *, ranges: bool, jobs: int) -> list[Part]:
    """The parts, largest first. ``ranges``: the source finds rows by page number without reading the whole table."""
    parts = []
    for table in tables:
        if table.materialised_view and not table.populated:
            continue
        pieces = 1
        if ranges and jobs > 1 and not table.condition and not table.materialised_view and table.copied_columns():
            pieces = max(1, min(table.total_bytes // _PART_BYTES, table.pages))
        if pieces == 1:
            parts.append(Part(table, None, None, table.total_bytes))
            continue
        bounds = [table.pages * piece // pieces for piece in range(pieces)]
        for piece, first in enumerate(bounds):
            end = bounds[piece + 1] if piece + 1 < pieces else None
            parts.append(Part(table, first, end, table.total_bytes // pieces))
    return sorted(parts, key=lambda part: -part.bytes)


def needs_text(table: Table, *, same_major: bool) -> bool:
    """Whether the table travels as text: a column's binary form means nothing (or may mean another thing) on the target."""
    if table.travels_as_text:
        return True
    return not same_major and any(not column.type.built_in for column in table.columns)


class Transfer:
    """Copies parts with ``jobs`` workers; the first failure stops all of them."""

    def __init__(
        self,
        source: Address,
        target: Address,
        *,
        snapshot: str,
        encoding: str,
        versions: tuple[int, int],
        progress: Callable[[int, int], None],
    ) -> None:
        """:param progress: called with bytes and rows whenever a part has arrived; from any thread."""
        self._source = source
        self._target = target
        self._snapshot = snapshot
        self._encoding = encoding
        self._versions = versions
        self._progress = progress
        self._failure: BaseException | None = None
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()

    def run(self, parts: list[Part], jobs: int) -> int:
        """Returns the number of rows.

        :raises MigrationError: a part did not arrive (check ``copy-failed``).
        """
        queue: SimpleQueue[Part] = SimpleQueue()
        for part in parts:
            queue.put(part)
        rows = [0] * jobs
        threads = [
            threading.Thread(target=self._work, args=(queue, rows, number), name=f"copy-{number}", daemon=True)
            for number in range(jobs)
        ]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except BaseException as interruption:
            self._fail(interruption)
            raise
        if self._failure is not None:
            raise self._failure
        return sum(rows)

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            if self._failure is None:
                self._failure = error
            for process in self._running:
                process.terminate()

    def _work(self, queue: SimpleQueue[Part], rows: list[int], number: int) -> None:
        try:
            with self._source.connect() as source, self._target.connect(options=_TARGET_OPTIONS) as target:
                source.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                source.execute(f"SET TRANSACTION SNAPSHOT {literal(self._snapshot)}".encode())
                codec = keep_bytes(source, self._encoding)
                keep_bytes(target, self._encoding)
                # What is rolled back to it gives its locks back: a server has few for one per table.
                source.execute("SAVEPOINT part")
                while self._failure is None:
                    try:
                        part = queue.get_nowait()
                    except Empty:
                        return
                    try:
                        arrived = self._copy(part, source, target, codec)
                        source.execute("ROLLBACK TO SAVEPOINT part")
                    except psycopg.Error as error:
                        raise MigrationError(
                            f"The rows of {part.table.label} could not be copied: {one_line(error)}",
                            check="copy-failed",
                            action="Mend the cause that PostgreSQL names, then run again: it starts over by itself",
                        ) from error
                    rows[number] += arrived
                    with self._lock:
                        self._progress(part.bytes, arrived)
        except BaseException as error:  # handed to the thread that waits
            self._fail(error)

    def _copy(self, part: Part, source: Connection, target: Connection, codec: str) -> int:
        text = needs_text(part.table, same_major=self._versions[0] // 10000 == self._versions[1] // 10000)
        if part.table.materialised_view or part.bytes <= _SMALL_BYTES:
            return _copy_small(part, source, target, codec=codec, text=text)
        return self._copy_large(
            part, part.source_statement(text).encode(codec), part.target_statement(text).encode(codec)
        )

    def _copy_large(self, part: Part, sending: bytes, receiving: bytes) -> int:
        sending_options, receiving_options = (
            f"-c client_encoding={self._encoding} {unlimited(version)}" for version in self._versions
        )
        sender_argv: list[str | bytes] = [
            program("psql", self._versions[0]), "--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1",
            f"--dbname={self._source.string(options=sending_options)}",
            "--command=BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            f"--command=SET TRANSACTION SNAPSHOT {literal(self._snapshot)}",
            b"--command=" + sending,
        ]  # fmt: skip
        receiver_argv: list[str | bytes] = [
            program("psql", self._versions[1]), "--no-psqlrc", "--no-password", "--set=ON_ERROR_STOP=1",
            f"--dbname={self._target.string(options=f'{_TARGET_OPTIONS} {receiving_options}')}",
            b"--command=" + receiving,
        ]  # fmt: skip
        reading, writing = os.pipe()
        with contextlib.suppress(OSError):  # beyond this account's limit: the pipe works, a little slower
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        # A file, not a second pipe with a thread that empties it: a thread that memory does not suffice to start never says so.
        with tempfile.TemporaryFile() as said:
            try:
                sender = self._start(sender_argv, stdin=subprocess.DEVNULL, stdout=writing, stderr=said)
            finally:
                os.close(writing)
            try:
                receiver = self._start(receiver_argv, stdin=reading, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            finally:
                os.close(reading)
            output, receiver_errors = receiver.communicate()
            sender.wait()
            said.seek(0)
            sender_errors = said.read()
        with self._lock:
            self._running -= {sender, receiver}
        if sender.returncode != 0 or receiver.returncode != 0:
            # Where one side fails, the other one's broken pipe says nothing.
            messages = [
                " ".join(errors.decode(errors="backslashreplace").split())
                for errors, process in ((receiver_errors, receiver), (sender_errors, sender))
                if process.returncode != 0
            ]
            why = (
                " / ".join(m for m in messages if m)
                or f"psql ended with status {receiver.returncode or sender.returncode}"
            )
            raise MigrationError(
                f"The rows of {part.table.label} could not be copied: {why}",
                check="copy-failed",
                action="Mend the cause that PostgreSQL names, then run again: it starts over by itself",
            )
        return int(output.split()[-1])

    def _start(
        self, argv: Sequence[str | bytes], *, stdin: int, stdout: int, stderr: int | IO[bytes]
    ) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._failure is not None:
                raise self._failure
            process = subprocess.Popen(
                argv, stdin=stdin, stdout=stdout, stderr=stderr, env=environment(), close_fds=True
            )
            self._running.add(process)
            return process


def _copy_small(part: Part, source: Connection, target: Connection, *, codec: str, text: bool) -> int:
    with target.transaction():
        if part.table.materialised_view:
            # Refreshing would compute today's rows, not the ones that are there (and could take hours). Nobody ever
            # sees the intermediate kind: it is changed back in the same transaction.
            _set_kind(target, part.table, "r", "m", codec)
        with (
            source.cursor().copy(part.source_statement(text).encode(codec)) as sender,
            (arrived := target.cursor()).copy(part.target_statement(text).encode(codec)) as receiver,
        ):
            for data in sender:
                receiver.write(data)
        if part.table.materialised_view:
            _set_kind(target, part.table, "m", "r", codec)
    return arrived.rowcount


def _set_kind(target: Connection, table: Table, kind: str, before: str, codec: str) -> None:
    updated = target.execute(
        f"UPDATE pg_catalog.pg_class SET relkind = '{kind}', relispopulated = true"  # noqa: S608
        f" WHERE oid = {literal(table.identifier)}::pg_catalog.regclass AND relkind = '{before}'".encode(codec)
    ).rowcount
    if updated != 1:
        raise MigrationError(
            f"The materialised view {table.label} is not on the target",
            check="copy-failed",
            action="Run again; if it stays so, report it with the version of PostgreSQL",
        )
