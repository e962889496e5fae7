"""Connections to one database: libpq strings without a password, sessions with settings that copying and comparing need."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from .errors import MigrationError

Connection = psycopg.Connection[tuple[Any, ...]]

_PASSWORD_WORDS = ("password", "sslpassword")
_URI = re.compile(r"^postgres(ql)?://", re.IGNORECASE)

# In the start-up packet, so they win over settings of the role and the database. Exact text of every type, no limit
# of time, no row hidden, no name found by accident.
_OPTIONS = (
    "-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0 "
    "-c default_transaction_read_only=off -c default_transaction_isolation=read\\ committed "
    "-c default_transaction_deferrable=off -c row_security=off -c search_path= "
    "-c extra_float_digits=3 -c datestyle=ISO -c intervalstyle=postgres -c bytea_output=hex -c lc_monetary=C "
    "-c timezone=UTC -c xmloption=content -c standard_conforming_strings=on -c check_function_bodies=off "
    "-c client_min_messages=warning -c quote_all_identifiers=off "
    "-c role=none -c array_nulls=on -c transform_null_equals=off"
)


@dataclass(frozen=True)
class Address:
    """Where one database is: a libpq connection string without a password, with a database name.

    :param conninfo: as given; safe to show and to pass to ``psql`` and ``pg_dump`` as an argument.
    """

    conninfo: str
    database: str

    @classmethod
    def parse(cls, conninfo: str, option: str) -> Address:
        """Understand ``conninfo``, the value of the module's option ``option``.

        :raises MigrationError: unreadable, with a password, or without a database name (check ``connection-string``).
        """
        try:
            words = psycopg.conninfo.conninfo_to_dict(conninfo)
        except psycopg.Error:
            # libpq's message quotes the string, which may hold a password.
            raise MigrationError(
                f"The option {option} is not a libpq connection string",
                check="connection-string",
                action='Write it like "host=/var/run/postgresql user=postgres dbname=irepodb", without a password',
            ) from None
        if any(words.get(word) for word in _PASSWORD_WORDS):
            raise MigrationError(
                f"The option {option} contains a password",
                check="connection-string",
                action="Take it out and name a passfile or a service instead, or connect through a Unix socket",
            )
        if not words.get("dbname"):
            # Also with service=…: what it names is read by libpq alone, and a copy needs to know what it makes.
            raise MigrationError(
                f"The option {option} names no database",
                check="connection-string",
                action="Add dbname=… to it (beside service=…, too)",
            )
        return cls(conninfo, str(words["dbname"]))

    def string(self, *, dbname: str | None = None, options: str = "", application: str = "ireporter-migration") -> str:
        """The string to connect with: our session settings come last, so they hold."""
        words = psycopg.conninfo.conninfo_to_dict(self.conninfo)
        merged = " ".join(part for part in (str(words.get("options", "")), _OPTIONS, options) if part)
        changes: dict[str, str] = {"options": merged, "application_name": application}
        if dbname is not None:
            changes["dbname"] = dbname
        return psycopg.conninfo.make_conninfo(self.conninfo, **changes)

    def connect(self, *, dbname: str | None = None, options: str = "") -> Connection:
        """A session in autocommit mode.

        :raises MigrationError: no connection (check ``database-connection``).
        """
        try:
            return self.connect_raw(dbname=dbname, options=options)
        except psycopg.Error as error:
            raise MigrationError(
                f"No connection to the database ({self.conninfo}): {one_line(error)}",
                check="database-connection",
                action="Check that the server runs and that this account may connect, then run again",
            ) from error

    def connect_raw(self, *, dbname: str | None = None, options: str = "") -> Connection:
        """Like :meth:`connect`, but psycopg's own errors pass through."""
        connection = psycopg.connect(
            self.string(dbname=dbname, options=options), autocommit=True, client_encoding="UTF8", prepare_threshold=None
        )
        if connection.info.server_version >= 140000:
            connection.execute("SET idle_session_timeout = 0")
        if connection.info.server_version >= 170000:
            connection.execute("SET transaction_timeout = 0")
        return connection


def unlimited(version: int) -> str:
    """Options for a program's session, of limits that only newer servers know; ``version``: of the server, which refuses unknown ones."""
    return "-c transaction_timeout=0" if version >= 170000 else ""


def one_line(error: BaseException) -> str:
    """The error's text as one line."""
    return " ".join(str(error).split())


def query(connection: Connection, statement: str | bytes, parameters: Any = None) -> list[tuple[Any, ...]]:
    """Rows of a statement written in this project (never one that was built from outside input)."""
    return connection.execute(statement, parameters).fetchall()


def value(connection: Connection, statement: str, parameters: Any = None) -> Any:
    """First column of the only row."""
    return query(connection, statement, parameters)[0][0]


def keep_bytes(connection: Connection, encoding: str) -> str:
    """Exchange text with the server as it stores it, without conversion; returns the Python codec for statements."""
    connection.execute(f"SET client_encoding = {literal(encoding)}".encode())
    # SQL_ASCII is no encoding: names were read, and are written, as the bytes they are.
    return "utf-8" if encoding == "SQL_ASCII" else connection.info.encoding


def identifier(*names: str) -> str:
    """``"schema"."name"``. psycopg's own quoting wants a connection before 3.2, and servers have 3.1."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def literal(text: str) -> str:
    """A quoted string constant that means the same whatever ``standard_conforming_strings`` is."""
    return sql.Literal(text).as_string(None).strip()


def program(name: str, *versions: int) -> str:
    """The path of a PostgreSQL client program that understands servers of these versions (``server_version``).

    :raises MigrationError: none is installed (check ``server-programs``).
    """
    wanted = max(versions) // 10000
    found = sorted(
        (int(path.parent.parent.name), path)
        for path in Path("/usr/lib/postgresql").glob(f"*/bin/{name}")
        if path.parent.parent.name.isdigit() and int(path.parent.parent.name) >= wanted
    )
    if found:
        return str(found[0][1])
    on_path = shutil.which(name)
    if on_path is None:
        raise MigrationError(
            f"The program {name} of PostgreSQL {wanted} or newer is not installed here",
            check="server-programs",
            action=f"Install the package postgresql-client-{wanted}",
        )
    return on_path


def require_superuser(connection: Connection, side: str) -> None:
    """
    :raises MigrationError: the session is not a superuser's: password verifiers and every row could not be read.
    """
    if not value(connection, "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user"):
        raise MigrationError(
            f"The connection to the {side} is not a superuser's ({connection.info.user})",
            check=f"{side}-superuser",
            action=f"Give a connection string of a superuser of the {side}",
        )


@contextmanager
def exported_snapshot(connection: Connection) -> Iterator[str]:
    """One consistent state of the database, that other sessions can take as theirs while this is open."""
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        yield str(value(connection, "SELECT pg_export_snapshot()"))
    finally:
        if not connection.closed and not connection.broken:
            connection.execute("ROLLBACK")
