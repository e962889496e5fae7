"""The server's databases as an import sees them: which is which, whose they are, who is inside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import psycopg

from .clock import Clock
from .database_connection import Connection, identifier, one_line, query, require_superuser, value
from .database_settings import COPY_OF, set_clause
from .database_target import CONTENTS
from .errors import MigrationError
from .import_wish import MAINTENANCE, Wish

IMPORTED: Final = "ireporter_migration.imported"
"""Setting of a database that an import made: ``tenant/bundle/import``. It stays when the tenant opens, and goes with the database when it is renamed."""
REWRITTEN: Final = "ireporter_migration.rewritten"
"""Setting that the rules' own transaction makes: whoever reads it knows that they were applied. It goes at the swap."""
_WAIT_SECONDS: Final = 15.0


@dataclass(frozen=True)
class Database:
    """One database of the server, from outside.

    :param settings: ``name`` → value.
    """

    number: int
    name: str
    connection_limit: int
    settings: dict[str, str]

    @property
    def tenant(self) -> str | None:
        """Whose import made it."""
        return self.settings.get(IMPORTED, "").partition("/")[0] or None


class Server:
    """A superuser's session outside of the tenant's databases."""

    def __init__(self, wish: Wish, session: Connection) -> None:
        self.wish = wish
        self.session = session

    @classmethod
    @contextmanager
    def connected(cls, wish: Wish) -> Iterator[Server]:
        """:raises MigrationError: no connection, or none of a superuser."""
        if wish.database.database == MAINTENANCE:
            raise MigrationError(
                f"The database {MAINTENANCE} cannot be a tenant's",
                check="import-database",
                action="Name the database that the application uses",
            )
        with wish.database.connect(dbname=MAINTENANCE) as session:
            require_superuser(session, "server")
            yield cls(wish, session)

    @property
    def version(self) -> int:
        """``server_version_num``."""
        return self.session.info.server_version

    def database(self, name: str) -> Database | None:
        """The database of this name."""
        return next((one for one in self._databases("datname = %s", name)), None)

    def numbered(self, number: int | None) -> Database | None:
        """The database of this number, whatever its name is now."""
        return None if number is None else next((one for one in self._databases("d.oid = %s", number)), None)

    def _databases(self, condition: str, key: object) -> list[Database]:
        rows = query(
            self.session,
            "SELECT d.oid::bigint, datname, datconnlimit, s.setconfig FROM pg_database d"  # noqa: S608 - one of two constants
            f" LEFT JOIN pg_db_role_setting s ON s.setdatabase = d.oid AND s.setrole = 0 WHERE {condition}",
            (key,),
        )
        return [
            Database(int(number), str(name), int(limit), dict(str(one).split("=", 1) for one in settings or ()))
            for number, name, limit, settings in rows
        ]

    def empty(self, name: str) -> bool:
        """Whether nobody made anything in it."""
        with self.wish.address(name).connect() as inside:
            return not value(inside, CONTENTS)

    def marks(self, name: str, bundle: str) -> list[str]:
        """Statements that say whose the database is, and that nobody has written in it since."""
        wish = self.wish
        return [
            f"ALTER DATABASE {identifier(name)} {set_clause(f'{COPY_OF}=bundle/{bundle}')}",
            f"ALTER DATABASE {identifier(name)} {set_clause(f'{IMPORTED}={wish.tenant}/{bundle}/{wish.import_id}')}",
        ]

    def drop(self, name: str) -> None:
        """Drop a database whoever is inside; where there is none, nothing happens."""
        self.run(f"DROP DATABASE IF EXISTS {identifier(name)} WITH (FORCE)")

    def wait_until_empty_of_sessions(self, names: list[str], clock: Clock) -> None:
        """End the sessions of ordinary roles in the databases, and wait for superusers' to end by themselves (a backup, for instance).

        :raises MigrationError: one stays (check ``import-sessions``).
        """
        deadline = clock.monotonic() + _WAIT_SECONDS
        while True:
            rows = query(
                self.session,
                "SELECT a.pid, a.datname, coalesce(a.usename, ''), coalesce(a.application_name, ''),"
                " CASE WHEN NOT coalesce(r.rolsuper, false) THEN pg_terminate_backend(a.pid) END"
                " FROM pg_stat_activity a LEFT JOIN pg_roles r ON r.oid = a.usesysid"
                " WHERE a.datname = ANY (%s) AND a.backend_type = 'client backend' AND a.pid <> pg_backend_pid()",
                (names,),
            )
            if not rows:
                return
            if clock.monotonic() >= deadline:
                pid, database, user, application, _ended = rows[0]
                raise MigrationError(
                    f"A session of {user} ({application or 'nameless'}, process {pid}) stays in the database {database}",
                    check="import-sessions",
                    action="Wait for it (it may be a backup) or end it, then run again",
                )
            clock.sleep(0.2)

    def run(self, *statements: str) -> None:
        """Each by itself; more of them in the transaction of the caller.

        :raises MigrationError: PostgreSQL refuses (check ``import-database``).
        """
        for statement in statements:
            try:
                self.session.execute(statement.encode(errors="surrogateescape"))
            except psycopg.Error as error:
                raise refused(error) from error


def refused(error: psycopg.Error) -> MigrationError:
    """What PostgreSQL says, as one sentence. A full disk is said as such."""
    if isinstance(error, psycopg.errors.DiskFull):
        return MigrationError(
            f"The disk of PostgreSQL is full: {one_line(error)}",
            check="disk-full",
            action="Make room there, then run again: what was restored half is removed and made anew",
        )
    return MigrationError(
        f"PostgreSQL refuses: {one_line(error)}",
        check="import-database",
        action="Mend the cause that it names, then run again",
    )
