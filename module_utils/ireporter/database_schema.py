"""Schema objects by the programs that know every kind: ``pg_dump`` and ``pg_restore``. Rows never pass through here."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from .database_connection import Address, program
from .errors import MigrationError

_COMMON = ["--no-password"]
SCHEMA_ENTRY = re.compile(rb"\d+; \d+ \d+ SCHEMA - ")
EVENT_TRIGGER_ENTRY = re.compile(rb"\d+; \d+ \d+ (?:EVENT TRIGGER - |(?:COMMENT|SECURITY LABEL) - EVENT TRIGGER )")
"""With what is said about them."""
INDEX_ATTACH_ENTRY = re.compile(rb"\d+; 0 0 INDEX ATTACH ")
FOREIGN_KEY_ENTRY = re.compile(rb"\d+; (?:2606 \d+ FK CONSTRAINT |\d+ \d+ COMMENT .* CONSTRAINT )")
"""With what is said about constraints of any kind: the line does not say of which."""
TRIGGER_COMMENT_ENTRY = re.compile(rb"\d+; \d+ \d+ COMMENT .* TRIGGER ")
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
# A user mapping and a subscription hold passwords: no log and no statistics of the target get a statement, whatever the
# server logs else, and what pg_restore quotes of one that failed is left out.
_UNLOGGED = (
    "-c log_statement=none -c log_min_duration_statement=-1 -c log_min_error_statement=panic "
    "-c pg_stat_statements.track_utility=off"
)
_QUOTED_STATEMENT = re.compile(r"^(Command was:|LINE \d+:).*", re.MULTILINE | re.DOTALL)


def environment() -> dict[str, str]:
    """For PostgreSQL's programs: what finds passfile, service and certificates, and nothing else."""
    return {name: os.environ[name] for name in _ENVIRONMENT_KEPT if name in os.environ} | {"LC_ALL": "C.UTF-8"}


def call(argv: Sequence[str], what: str, *files: int, check: str = "copy-failed") -> bytes:
    """Standard output of one of PostgreSQL's programs.

    :param files: descriptors it inherits.
    :raises MigrationError: it failed; the message has PostgreSQL's words, and nothing of a statement.
    """
    completed = subprocess.run(
        argv,
        capture_output=True,
        check=False,
        env=environment(),
        stdin=subprocess.DEVNULL,
        pass_fds=files,
    )
    if completed.returncode != 0:
        lines = _QUOTED_STATEMENT.sub("", completed.stderr.decode(errors="backslashreplace")).strip().splitlines()
        raise MigrationError(
            f"{what} failed: {' '.join(lines[:4]) or f'exit status {completed.returncode}'}",
            check=check,
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
    call(
        [
            program("pg_dump", *versions), *_COMMON, "--format=custom", "--compress=0", "--schema-only",
            "--no-tablespaces", f"--snapshot={snapshot}", f"--file=/proc/self/fd/{archive}", f"--dbname={source.string()}",
        ],
        "Reading the schema of the source",
        archive,
    )  # fmt: skip


def split_entries(versions: Sequence[int], archive: int, *wanted: re.Pattern[bytes]) -> list[bytes]:
    """Lists for :func:`restore`: for each of ``wanted`` the entries whose lines it matches first, and at the end all others."""
    listing = call(
        [program("pg_restore", *versions), "--list", f"/proc/self/fd/{archive}"],
        "Reading the schema's contents",
        archive,
    )
    lists: list[list[bytes]] = [[] for _ in range(len(wanted) + 1)]
    for line in listing.splitlines(keepends=True):
        lists[next((n for n, pattern in enumerate(wanted) if pattern.match(line)), -1)].append(line)
    return [b"".join(lines) for lines in lists]


def trigger_entries(numbers: Collection[int]) -> re.Pattern[bytes]:
    """Matches the entries of triggers by their numbers on the source; no entry where there is no number."""
    return re.compile(rb"\d+; 2620 (?:%s) TRIGGER " % b"|".join(b"%d" % number for number in numbers or (0,)))


def foreign_key_entries(numbers: Collection[int]) -> re.Pattern[bytes]:
    """Matches the entries of foreign keys by their numbers on the source."""
    return re.compile(rb"\d+; 2606 (?:%s) FK CONSTRAINT " % b"|".join(b"%d" % number for number in numbers))


def restore(
    target: Address, versions: Sequence[int], archive: int, section: str, *, jobs: int = 1, only: bytes | None = None
) -> None:
    """Make the objects of ``section`` (``pre-data``, ``post-data``), or the entries ``only`` of them; the first error ends it."""
    options = [f"--jobs={jobs}"] if jobs > 1 else []
    if only is None:
        _restore(target, versions, (archive,), section, options)
        return
    with archive_in_memory() as listing:
        with open(listing, "wb", closefd=False) as file:
            file.write(only)
        _restore(target, versions, (archive, listing), section, [*options, f"--use-list=/proc/self/fd/{listing}"])


def _restore(
    target: Address, versions: Sequence[int], files: tuple[int, ...], section: str, options: list[str]
) -> None:
    settings = f"-c synchronous_commit=off -c maintenance_work_mem=256MB {_unlogged(versions[1])}"
    call(
        [
            program("pg_restore", *versions), *_COMMON, "--exit-on-error", "--no-tablespaces", f"--section={section}",
            *options, f"--dbname={target.string(options=settings)}", f"/proc/self/fd/{files[0]}",
        ],
        f"Making the schema ({section}) on the target",
        *files,
    )  # fmt: skip


def _unlogged(version: int) -> str:
    """Options of a session; ``version``: of the server, which refuses those it does not know."""
    sampled = (120000, "-c log_transaction_sample_rate=0"), (130000, "-c log_min_duration_sample=-1")
    return " ".join([_UNLOGGED, *(option for since, option in sampled if version >= since)])


def text(address: Address, versions: Sequence[int], snapshot: str, encoding: str) -> str:
    """The whole schema as ``pg_dump`` writes it for people.

    :param encoding: of the database; text that has none (SQL_ASCII) comes as the bytes it is.
    """
    readable = [] if encoding == "SQL_ASCII" else ["--encoding=UTF8"]
    output = call(
        [
            program("pg_dump", *versions), *_COMMON, "--schema-only", "--no-tablespaces",
            f"--snapshot={snapshot}", *readable, f"--dbname={address.string()}",
        ],
        f"Reading the schema ({address.database})",
    )  # fmt: skip
    return output.decode(errors="surrogateescape")
