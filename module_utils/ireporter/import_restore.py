"""Restores a bundle's database beside the tenant's own: roles, an empty database, ``pg_restore`` in parallel, statistics, settings."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import psycopg

from .bundle_encryption import require_programs
from .database_catalog import read_tables
from .database_connection import identifier, literal, program, query
from .database_extensions import empty_configuration_tables
from .database_load import asks_functions, loosen, tighten
from .database_schema import (
    EVENT_TRIGGER_ENTRY,
    FOREIGN_KEY_ENTRY,
    INDEX_ATTACH_ENTRY,
    SCHEMA_ENTRY,
    TRIGGER_COMMENT_ENTRY,
    archive_in_memory,
    call,
)
from .database_statistics import analyse
from .database_target import MARKER, locale_clauses
from .errors import MigrationError
from .import_bag import Bag
from .import_server import Server, refused

Step = Callable[[str], None]

_TRIGGER: Final = re.compile(rb"\d+; 2620 \d+ TRIGGER ")
_EXTENSION: Final = re.compile(rb"\d+; 3079 \d+ EXTENSION ")
_CREATE_EXTENSION: Final = re.compile(
    r'^CREATE EXTENSION IF NOT EXISTS (?P<name>\w+|"(?:[^"]|"")+") WITH SCHEMA (?P<schema>\w+|"(?:[^"]|"")+");$',
    re.MULTILINE,
)
_HEADING: Final = re.compile(rb"^-- Name: .*; Type: TRIGGER; ", re.MULTILINE)
_CREATES: Final = re.compile(rb"^CREATE ", re.MULTILINE)
# Triggers, and foreign keys of tables that came with an extension, do not fire on load.
_SESSION: Final = "-c synchronous_commit=off -c maintenance_work_mem=256MB -c session_replication_role=replica"


def make_roles(bag: Bag, server: Server, missing: list[str]) -> None:
    """Roles that are ``missing`` are made; comments, settings and memberships come to all. Attributes and password of one that exists stay."""
    with server.session.transaction():
        for statement in bag.role_statements():
            if statement.creates is None or statement.creates in missing:
                server.run(statement.text)


def restore(bag: Bag, server: Server, aside: str, *, jobs: int, step: Step) -> int:
    """Make the database ``aside`` out of the bag; what has this name goes away first.

    :return: its number (oid).
    :raises MigrationError: it could not be restored; the database carries the mark of an incomplete one.
    """
    require_programs("setpriv")
    name = identifier(aside)
    locale = locale_clauses(str(bag.database["encoding"]), bag.database["locale"])
    # Nobody but a superuser can connect until the tenant opens on it.
    create = f"CREATE DATABASE {name} TEMPLATE template0 {locale} CONNECTION LIMIT 0"
    server.drop(aside)
    try:
        server.run(create)
    except MigrationError as error:
        if not isinstance(error.__cause__, psycopg.errors.UniqueViolation | psycopg.errors.DuplicateDatabase):
            raise
        # A run that was killed while it made it: PostgreSQL finished that after we had looked.
        server.drop(aside)
        server.run(create)
    server.run(f"COMMENT ON DATABASE {name} IS {literal(MARKER)}")
    made = server.database(aside)
    assert made is not None  # noqa: S101 - it was made a moment ago
    if "plpgsql" not in bag.database["extensions"]:
        # A new database brings a language that the bundle's has not.
        with server.wish.address(aside).connect() as inside:
            inside.execute("DROP EXTENSION IF EXISTS plpgsql")
    step("restore")
    _restore_archive(bag, server, aside, jobs)
    step("statistics")
    try:
        with server.wish.address(aside).connect() as inside:
            analyse(inside)
    except psycopg.Error as error:
        raise refused(error) from error
    with server.session.transaction():
        server.run("SET LOCAL synchronous_commit = on")
        server.run(*bag.database_statements(name))
        if not any(text.startswith("COMMENT ON DATABASE") for text in bag.database_statements(name)):
            server.run(f"COMMENT ON DATABASE {name} IS NULL")
        server.run(*server.marks(aside, bag.migration_id))
    return made.number


def _restore_archive(bag: Bag, server: Server, aside: str, jobs: int) -> None:
    """By ``pg_restore``, in parallel, with what it would do wrong or cannot do put right.

    A dump does not say which version of an extension there was, and rows that an extension brings stand in the way of the dump's. So where
    there are extensions, schemas come first, then the extensions in their versions and without such rows, then the rest, which finds them there.

    A CHECK may call a function that reads a table which is not filled yet, or that finds nothing under the empty search path of a restore.
    Where there are such, rows are loaded without them.

    pg_dump writes down the state of a partition's trigger where it is not its parent's, and does not say that the parent's makes it, so a
    parallel restore may alter it before it is there. These entries come last, and with them what may speak of them: comments.

    Indexes of partitions are attached one after the other, foreign keys come after that, for the reason that :mod:`database_copy` gives.
    Event triggers come after all else: they would see what is made.
    """
    listing = call(
        [_program(server), "--list", str(bag.archive)], "Reading the dump's contents", check="import-restore"
    )
    lines = listing.splitlines(keepends=True)
    extensions = [line for line in lines if _EXTENSION.match(line)]
    if extensions:
        schemas = {line for line in lines if SCHEMA_ENTRY.match(line)}
        _run(bag, server, aside, [], only=[line for line in lines if line in schemas])
        _make_extensions(bag, server, aside, extensions)
        lines = [line for line in lines if line not in schemas]
    states = _states_of_triggers(bag, server, [line for line in lines if _TRIGGER.match(line)])
    event_triggers = [line for line in lines if EVENT_TRIGGER_ENTRY.match(line)]
    comments = [line for line in lines if states and TRIGGER_COMMENT_ENTRY.match(line) and line not in event_triggers]
    attachments = [line for line in lines if INDEX_ATTACH_ENTRY.match(line)]
    keys = [line for line in lines if attachments and FOREIGN_KEY_ENTRY.match(line)]
    later = {*states, *event_triggers, *comments, *attachments, *keys}
    rest = [line for line in lines if line not in later]
    # What is said about constraints that came with their tables is among the keys.
    _run(bag, server, aside, ["--section=pre-data"], only=[*rest, *keys])
    parallel = f"--jobs={jobs}"
    with server.wish.address(aside).connect() as inside:
        if asks_functions(inside):
            loosened = loosen(inside, generated_too=False)
            _run(bag, server, aside, [parallel, "--section=data"], only=rest)
            tighten(inside, loosened)
            _run(bag, server, aside, [parallel, "--section=post-data"], only=rest)
        else:
            _run(bag, server, aside, [parallel, "--section=data", "--section=post-data"], only=rest)
    for entries, options in ((attachments, []), (keys, [parallel]), ([*states, *comments, *event_triggers], [])):
        if entries:
            _run(bag, server, aside, [*options, "--section=post-data"], only=entries)


def _has_version(server: Server, name: str, version: str) -> bool:
    return bool(
        query(
            server.session,
            "SELECT FROM pg_available_extension_versions WHERE name = %s AND version = %s",
            (name, version),
        )
    )


def _make_extensions(bag: Bag, server: Server, aside: str, entries: list[bytes]) -> None:
    text = _definitions(bag, server, entries).decode(errors="surrogateescape")
    try:
        with server.wish.address(aside).connect() as inside:
            for found in _CREATE_EXTENSION.finditer(text):
                name = found["name"].strip('"').replace('""', '"')
                version = str(bag.database["extensions"].get(name, ""))
                words = f" VERSION {literal(version)}" if version and _has_version(server, name, version) else ""
                inside.execute(
                    f"CREATE EXTENSION IF NOT EXISTS {found['name']} WITH SCHEMA {found['schema']}{words}".encode()
                )
            empty_configuration_tables(inside, read_tables(inside))
    except psycopg.Error as error:
        raise refused(error) from error


def _states_of_triggers(bag: Bag, server: Server, triggers: list[bytes]) -> list[bytes]:
    """Entries that alter a trigger instead of making one."""
    if not triggers:
        return []
    definitions = _HEADING.split(_definitions(bag, server, triggers))[1:]
    if len(definitions) != len(triggers):
        # A definition that looks like a heading: all that may be altered comes last, in the dump's order.
        return triggers
    return [line for line, text in zip(triggers, definitions, strict=True) if not _CREATES.search(text)]


def _definitions(bag: Bag, server: Server, entries: list[bytes]) -> bytes:
    """The entries as ``pg_restore`` writes them for people, in their order."""
    with archive_in_memory() as chosen:
        with open(chosen, "wb", closefd=False) as file:
            file.write(b"".join(entries))
        return call(
            [_program(server), f"--use-list=/proc/self/fd/{chosen}", "--file=-", str(bag.archive)],
            "Reading the dump's definitions",
            chosen,
            check="import-restore",
        )


def _run(bag: Bag, server: Server, aside: str, options: list[str], *, only: list[bytes]) -> None:
    with archive_in_memory() as listing:
        with open(listing, "wb", closefd=False) as file:
            file.write(b"".join(only))
        try:
            call(
                [
                    # One that outlived us would go on writing into a database that the next run makes anew.
                    "setpriv", "--pdeathsig=KILL", "--",
                    _program(server), "--no-password", "--exit-on-error", "--no-tablespaces", *options,
                    f"--use-list=/proc/self/fd/{listing}",
                    f"--dbname={server.wish.address(aside).string(options=_SESSION)}", str(bag.archive),
                ],
                "Restoring the database",
                listing,
                check="import-restore",
            )  # fmt: skip
        except MigrationError as error:
            if "No space left on device" in error.happened:
                raise MigrationError(
                    "The disk of PostgreSQL is full",
                    check="disk-full",
                    action="Make room there, then run again: what was restored half is removed and made anew",
                ) from error
            raise


def _program(server: Server) -> str:
    return program("pg_restore", server.version)
