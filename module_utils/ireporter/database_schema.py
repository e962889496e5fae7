"""Schema objects by the programs that know every kind: ``pg_dump`` and ``pg_restore``. Rows never pass through here."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from .database_connection import Address, program
from .errors import MigrationError

_COMMON = ["--no-password"]
# Like a person's session would not: messages in English, no start-up file, nothing inherited that changes libpq.
_ENVIRONMENT_KEPT = (
    "PATH",
    "HOME",
    "PGPASSFILE",
    "PGSERVICEFILE",
    "PGSYSCONFDIR",
    "PGSSLROOTCERT",
    "PGSSLCERT",
    "PGSSLKEY",
    "KRB5CCNAME",
)


def environment() -> dict[str, str]:
    """For PostgreSQL's programs: what finds passfile, service and certificates, and nothing else."""
    return {name: os.environ[name] for name in _ENVIRONMENT_KEPT if name in os.environ} | {"LC_ALL": "C.UTF-8"}


def _call(argv: Sequence[str], what: str, archive: int | None = None) -> bytes:
    completed = subprocess.run(
        argv,
        capture_output=True,
        check=False,
        env=environment(),
        stdin=subprocess.DEVNULL,
        pass_fds=() if archive is None else (archive,),
    )
    if completed.returncode != 0:
        lines = completed.stderr.decode(errors="backslashreplace").strip().splitlines()
        raise MigrationError(
            f"{what} failed: {' '.join(lines[:4]) or f'exit status {completed.returncode}'}",
            check="copy-failed",
            action="Mend the cause that PostgreSQL names, then run again",
        )
    return completed.stdout


@contextmanager
def archive_in_memory() -> Iterator[int]:
    """A file (its descriptor) for :func:`dump` and :func:`restore` that nobody else can open and no crash leaves behind."""
    archive = os.memfd_create("schema")
    try:
        yield archive
    finally:
        os.close(archive)


def dump(source: Address, versions: Sequence[int], snapshot: str, archive: int) -> None:
    """Write the schema of ``source`` as an archive for :func:`restore`: definitions only, a few MB at most."""
    _call(
        [
            program("pg_dump", *versions), *_COMMON, "--format=custom", "--compress=0", "--schema-only",
            "--no-tablespaces", f"--snapshot={snapshot}", f"--file=/proc/self/fd/{archive}", f"--dbname={source.string()}",
        ],
        "Reading the schema of the source",
        archive,
    )  # fmt: skip


def restore(target: Address, versions: Sequence[int], archive: int, section: str, jobs: int = 1) -> None:
    """Make the objects of ``section`` (``pre-data``, ``post-data``); the first error ends it."""
    parallel = [f"--jobs={jobs}"] if jobs > 1 else []
    _call(
        [
            program("pg_restore", *versions), *_COMMON, "--exit-on-error", "--no-tablespaces", f"--section={section}",
            *parallel, f"--dbname={target.string(options='-c synchronous_commit=off -c maintenance_work_mem=256MB')}",
            f"/proc/self/fd/{archive}",
        ],
        f"Making the schema ({section}) on the target",
        archive,
    )  # fmt: skip


def text(address: Address, versions: Sequence[int], snapshot: str, encoding: str) -> str:
    """The whole schema as ``pg_dump`` writes it for people.

    :param encoding: of the database; text that has none (SQL_ASCII) comes as the bytes it is.
    """
    readable = [] if encoding == "SQL_ASCII" else ["--encoding=UTF8"]
    output = _call(
        [
            program("pg_dump", *versions), *_COMMON, "--schema-only", "--no-tablespaces",
            f"--snapshot={snapshot}", *readable, f"--dbname={address.string()}",
        ],
        f"Reading the schema ({address.database})",
    )  # fmt: skip
    return output.decode(errors="surrogateescape")
