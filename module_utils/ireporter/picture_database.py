"""The database of a picture: a template copy that nobody but superusers can enter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import errors

from .clock import Clock
from .database_connection import Address, Connection, identifier, literal, one_line, query
from .errors import MigrationError

_SUFFIX: Final = "_picture"
_NAME_BYTES: Final = 63
_TRIES: Final = 6
_BETWEEN_TRIES_SECONDS: Final = 1.0
_FILE_COPY_SINCE: Final = 150000
_FORCE_SINCE: Final = 130000


@dataclass(frozen=True)
class Copied:
    """``unlogged``: tables with rows that a crash of the server would empty, in the copy as in the original."""

    oid: int
    bytes: int
    seconds: float
    unlogged: list[str]


class PictureDatabase:
    """One database, made and dropped as superuser.

    :param admin: libpq string without password, to another database of the same server.
    """

    def __init__(self, admin: str, name: str, clock: Clock) -> None:
        self._address = Address.parse(admin, "admin")
        self.name = name
        self._clock = clock

    @staticmethod
    def name_for(database: str) -> str:
        """The picture's name. PostgreSQL would cut a longer one without a word."""
        kept = database.encode()[: _NAME_BYTES - len(_SUFFIX)].decode(errors="ignore")
        return kept + _SUFFIX

    def exists(self) -> bool:
        with self._address.connect() as session:
            return self._oid(session) is not None

    def create_from(self, database: str) -> Copied:
        """Copy a database nobody is connected to.

        :raises MigrationError: somebody is (check ``picture-sessions``), or the server refuses (``picture-copy``).
        """
        started = self._clock.monotonic()
        with self._address.connect() as session:
            statement = self._statement(session, database)
            self._execute(session, statement, database)
            ((oid, size),) = query(
                session, "SELECT oid, pg_database_size(oid) FROM pg_database WHERE datname = %s", (self.name,)
            )
        return Copied(int(oid), int(size), self._clock.monotonic() - started, self._unlogged())

    def holds(self, oid: int | None, unlogged: list[str]) -> bool:
        """Whether it is the database that was made, and no crash has emptied one of its unlogged tables."""
        with self._address.connect() as session:
            if oid is None or self._oid(session) != oid:
                return False
        return set(unlogged) <= set(self._unlogged())

    def drop(self) -> None:
        """Drop it, whoever is connected; nothing where there is none.

        :raises MigrationError: it could not be dropped (check ``picture-drop``).
        """
        name = identifier(self.name)
        with self._address.connect() as session:
            try:
                if session.info.server_version >= _FORCE_SINCE:
                    session.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
                    return
                query(
                    session, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (self.name,)
                )
                session.execute(f"DROP DATABASE IF EXISTS {name}".encode())
            except psycopg.Error as error:
                raise MigrationError(
                    f"The database {self.name} could not be dropped: {one_line(error)}",
                    check="picture-drop",
                    action="Mend the cause that PostgreSQL names; this host tries again at the picture's deadline",
                ) from error

    def _statement(self, session: Connection, database: str) -> bytes:
        clauses = [f"TEMPLATE {identifier(database)}", "CONNECTION LIMIT 0"]
        if session.info.server_version >= _FILE_COPY_SINCE:
            # Without every page in the log, which neighbours share.
            clauses.append("STRATEGY file_copy")
            version = query(session, "SELECT datcollversion FROM pg_database WHERE datname = %s", (database,))
            if version and version[0][0] is not None:
                # Said, because a template whose collation is older than the operating system's would be refused.
                clauses.append(f"COLLATION_VERSION {literal(version[0][0])}")
        return f"CREATE DATABASE {identifier(self.name)} {' '.join(clauses)}".encode()

    def _execute(self, session: Connection, statement: bytes, database: str) -> None:
        for left in reversed(range(_TRIES)):
            try:
                session.execute(statement)
            except errors.ObjectInUse as error:
                # Autovacuum comes and goes by itself.
                if left == 0:
                    raise MigrationError(
                        f"Somebody is connected to {database}, so no picture of it can be made: {self._sessions(session, database)}",
                        check="picture-sessions",
                        action="End these sessions (none belongs to the tenant, which is frozen), then run again",
                    ) from error
                self._clock.sleep(_BETWEEN_TRIES_SECONDS)
            except psycopg.Error as error:
                raise MigrationError(
                    f"No picture of {database} could be made: {one_line(error)}",
                    check="picture-copy",
                    action="Mend the cause that PostgreSQL names, then run again",
                ) from error
            else:
                return

    def _sessions(self, session: Connection, database: str) -> str:
        rows = query(
            session,
            "SELECT coalesce(usename, backend_type), coalesce(nullif(application_name, ''), backend_type)"
            " FROM pg_stat_activity WHERE datname = %s ORDER BY 1, 2",
            (database,),
        )
        return ", ".join(f"{user} ({application})" for user, application in rows) or "nobody any more"

    def _oid(self, session: Connection) -> int | None:
        rows = query(session, "SELECT oid FROM pg_database WHERE datname = %s", (self.name,))
        return int(rows[0][0]) if rows else None

    def _unlogged(self) -> list[str]:
        with self._address.connect(dbname=self.name) as session:
            rows = query(
                session,
                "SELECT n.nspname || '.' || c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
                " WHERE c.relpersistence = 'u' AND c.relkind IN ('r', 'S') AND pg_catalog.pg_relation_size(c.oid) > 0 ORDER BY 1",
            )
        return [str(row[0]) for row in rows]
