"""The tenant's database as a server object: who may enter, who is inside, and probes as the tenant's own roles."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import conninfo as libpq
from psycopg import sql

from .account_count import count_accounts
from .clock import Clock
from .database_settings import COPY_OF
from .errors import MigrationError
from .tenant_model import Probe, Tenant

_APPLICATION_NAME = "ireporter-migration"
_PROBE_NAME = "ireporter-migration probe"
_LONGEST_TERMINATION_SECONDS = 15.0
_STATEMENT_MILLISECONDS = 10_000

Connection = psycopg.Connection[Any]


@dataclass(frozen=True)
class Session:
    """A server process that works in the tenant's database."""

    pid: int
    user: str
    application: str
    superuser: bool


class Database:
    """One tenant's database, seen by the server's administrator and by the tenant's roles."""

    def __init__(self, tenant: Tenant, clock: Clock) -> None:
        self._tenant = tenant
        self._clock = clock

    @contextlib.contextmanager
    def administrator(self) -> Iterator[Connection]:
        """An autocommitting superuser session outside the tenant's database.

        :raises MigrationError: no connection, or the role is no superuser (check ``database-admin``).
        """
        connection = _connect(self._tenant.database_admin, "database_admin", application=_APPLICATION_NAME)
        try:
            row = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
            if row is None or not row[0]:
                raise MigrationError(
                    "database_admin connects as a role that is no superuser: it would be locked out with everybody else",
                    check="database-admin",
                    action="Let database_admin connect as a superuser, for instance by peer authentication",
                )
            yield connection
        finally:
            connection.close()

    def connection_limit(self) -> int | None:
        """``datconnlimit`` (-1: none), or ``None`` where the database does not exist."""
        with self.administrator() as connection:
            row = connection.execute(
                "SELECT datconnlimit FROM pg_database WHERE datname = %s", [self._tenant.database]
            ).fetchone()
        return None if row is None else int(row[0])

    def set_connection_limit(self, limit: int) -> None:
        """Superusers enter whatever the limit says."""
        with self.administrator() as connection:
            connection.execute(
                sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(
                    sql.Identifier(self._tenant.database), sql.Literal(limit)
                )
            )

    def forget_copy(self) -> bool:
        """Take away the mark that ``ireporter_database`` leaves on its copies; whether it was there."""
        with self.administrator() as connection:
            marked = connection.execute(
                "SELECT FROM pg_database d JOIN pg_db_role_setting s ON s.setdatabase = d.oid AND s.setrole = 0"
                " WHERE d.datname = %s AND EXISTS (SELECT FROM unnest(s.setconfig) c WHERE c LIKE %s)",
                [self._tenant.database, f"{COPY_OF}=%"],
            ).fetchone()
            if marked is None:
                return False
            connection.execute(
                sql.SQL(f"ALTER DATABASE {{}} RESET {COPY_OF}").format(sql.Identifier(self._tenant.database))
            )
        return True

    def sessions(self) -> list[Session]:
        """Everybody's sessions in the tenant's database, ours left out; autovacuum and other helpers write nothing of their own."""
        with self.administrator() as connection:
            rows = connection.execute(
                "SELECT a.pid, coalesce(a.usename, ''), coalesce(a.application_name, ''), coalesce(r.rolsuper, false)"
                " FROM pg_stat_activity a LEFT JOIN pg_roles r ON r.oid = a.usesysid"
                " WHERE a.datname = %s AND a.backend_type IN ('client backend', 'walsender')"
                " AND a.application_name NOT LIKE %s ORDER BY a.pid",
                [self._tenant.database, f"{_APPLICATION_NAME}%"],
            ).fetchall()
        return [Session(*row) for row in rows]

    def writing_sessions(self) -> list[Session]:
        """Sessions inside a transaction that has written something."""
        with self.administrator() as connection:
            rows = connection.execute(
                "SELECT a.pid, coalesce(a.usename, ''), coalesce(a.application_name, ''), coalesce(r.rolsuper, false)"
                " FROM pg_stat_activity a LEFT JOIN pg_roles r ON r.oid = a.usesysid"
                " WHERE a.datname = %s AND a.backend_xid IS NOT NULL AND a.backend_type = 'client backend'"
                " AND a.application_name NOT LIKE %s",
                [self._tenant.database, f"{_APPLICATION_NAME}%"],
            ).fetchall()
        return [Session(*row) for row in rows]

    def prepared_transactions(self) -> list[str]:
        """Transactions prepared for a two-phase commit: they outlive their session and could be committed in the freeze."""
        with self.administrator() as connection:
            rows = connection.execute(
                "SELECT gid FROM pg_prepared_xacts WHERE database = %s ORDER BY prepared", [self._tenant.database]
            ).fetchall()
        return [str(row[0]) for row in rows]

    def terminate_sessions(self) -> int:
        """End every session of a role that is no superuser, until none is left.

        :return: how many sessions of others were ended (our own probe sessions are ended, too, but not counted).
        :raises MigrationError: one does not go away (check ``session-termination``).
        """
        ended: set[int] = set()
        deadline = self._clock.monotonic() + _LONGEST_TERMINATION_SECONDS
        empty = 0
        with self.administrator() as connection:
            while True:
                rows = connection.execute(
                    "SELECT a.pid, a.application_name = %s, pg_terminate_backend(a.pid) FROM pg_stat_activity a"
                    " LEFT JOIN pg_roles r ON r.oid = a.usesysid WHERE a.datname = %s"
                    " AND a.backend_type IN ('client backend', 'walsender', 'parallel worker') AND NOT coalesce(r.rolsuper, false)",
                    [_PROBE_NAME, self._tenant.database],
                ).fetchall()
                ended.update(row[0] for row in rows if not row[1])
                # Twice: a session let in just before the limit was set may not have been listed yet.
                empty = 0 if rows else empty + 1
                if empty == 2:
                    return len(ended)
                if self._clock.monotonic() >= deadline:
                    raise MigrationError(
                        f"{len(rows)} sessions of database {self._tenant.database} do not end",
                        check="session-termination",
                        action=f"Look at pg_stat_activity, process {rows[0][0] if rows else '?'} first",
                    )
                self._clock.sleep(0.1)

    def count(self, query: str | None) -> int | None:
        """The one number that ``query`` (the operator's own, from the inventory) gives in the tenant's database; it cannot write.

        :raises MigrationError: it fails, or does not give one number (check ``accounts-query``).
        """
        if query is None:
            return None
        connection = _connect(
            self._tenant.database_admin, "database_admin", application=_APPLICATION_NAME, dbname=self._tenant.database
        )
        with contextlib.closing(connection):
            return count_accounts(connection, query)

    def is_superuser(self, connection: Connection) -> bool:
        """Whether the session's role is a superuser: a connection limit does not hold one."""
        row = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = session_user").fetchone()
        return row is not None and bool(row[0])

    def open_probe(self, probe: Probe) -> Connection:
        """A session as one of the tenant's roles, in the tenant's database.

        :raises MigrationError: it cannot be opened (check ``database-probe``).
        """
        return _connect(
            probe.conninfo,
            f"database_probes {probe.name}",
            application=_PROBE_NAME,
            dbname=self._tenant.database,
            check="database-probe",
        )

    def try_statement(self, connection: Connection, probe: Probe, *, read_write: bool = False) -> str:
        """Run the probe's statement in a transaction and roll it back.

        :param read_write: first take back any read-only default of the session.
        :return: ``accepted``, or how it was refused.
        """
        try:
            if read_write:
                connection.execute("SET default_transaction_read_only = off")
            connection.execute("BEGIN")
            # The statement is the operator's own, from the inventory, like any code there.
            connection.execute(probe.statement.encode())
            connection.execute("ROLLBACK")
        except psycopg.Error as error:
            with contextlib.suppress(psycopg.Error):
                connection.execute("ROLLBACK")
            return f"refused: {_sentence(error)}"
        return "accepted"

    def try_connection(self, probe: Probe, *, read_write: bool = False) -> str:
        """Open a new session as one of the tenant's roles and run its statement, rolled back.

        :return: ``accepted``, or how it was refused.
        """
        options = {"options": "-c default_transaction_read_only=off"} if read_write else {}
        try:
            connection = _connect(
                probe.conninfo, probe.name, application=_PROBE_NAME, dbname=self._tenant.database, **options
            )
        except MigrationError as error:
            return f"refused: {error.happened}"
        try:
            return self.try_statement(connection, probe)
        finally:
            connection.close()


def _connect(conninfo: str, label: str, *, application: str, check: str = "database-admin", **more: str) -> Connection:
    try:
        given = libpq.conninfo_to_dict(conninfo)
    except psycopg.Error as error:
        raise MigrationError(
            f"{label} is no libpq connection string: {_sentence(error)}",
            check="connection-string",
            action="Write it as key=value pairs or as a postgresql:// address",
        ) from error
    if given.get("password"):
        raise MigrationError(
            f"The connection string of {label} holds a password",
            check="connection-string",
            action="Use passfile=, service= or peer authentication instead, and change that password",
        )
    try:
        connection = psycopg.connect(
            libpq.make_conninfo(conninfo, **{"connect_timeout": "10", **more, "application_name": application}),
            autocommit=True,
        )
        connection.execute(f"SET statement_timeout = {_STATEMENT_MILLISECONDS}; SET lock_timeout = 5000")
    except psycopg.Error as error:
        raise MigrationError(
            f"{label}: {_sentence(error)}",
            check=check,
            action=f"Correct {label} of the tenant, or the server's access rules",
        ) from error
    return connection


def _sentence(error: psycopg.Error) -> str:
    return " ".join(str(error).split()) or type(error).__name__
