# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Databases on a server of the customer's for the time of a sample: dropped on every way out, and by the next run where one was killed."""

from __future__ import annotations

from typing import Final

import psycopg

from .database_connection import Address, Connection, identifier, literal, one_line, query, value
from .errors import MigrationError

MADE: Final = "ireporter_throughput_made"
RESTORED: Final = "ireporter_throughput_restored"
_NAMES: Final = (MADE, RESTORED)
_MARK: Final = "Made for a sample of throughput. May be dropped."
# Any number that nobody else uses for an advisory lock.
_LOCK: Final = 0x6972_6570_6F72_7473
_FIRST_OWN: Final = 16384


class ThrowAway:
    """
    :param admin: a superuser's session on the server, in any database.
    :raises MigrationError: another process takes samples there (check ``throughput-busy``), the account is no superuser
        (``throughput-superuser``), or a database of our name is somebody's (``throughput-database``).
    """

    def __init__(self, admin: Address) -> None:
        self._admin = admin
        self._session: Connection = admin.connect()

    def __enter__(self) -> ThrowAway:
        try:
            self._must_be_ours()
            self._drop_all()
        except BaseException:
            self._session.close()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        try:
            self._drop_all()
        finally:
            self._session.close()

    def address(self, name: str) -> Address:
        """Of one of the databases."""
        return Address.parse(psycopg.conninfo.make_conninfo(self._admin.conninfo, dbname=name), "admin")

    def create(self, name: str) -> Address:
        """A new, empty one in place of the old."""
        self._drop(name)
        self._session.execute(f"CREATE DATABASE {identifier(name)} TEMPLATE template0 ENCODING 'UTF8'".encode())
        self._session.execute(f"COMMENT ON DATABASE {identifier(name)} IS {literal(_MARK)}".encode())
        return self.address(name)

    def size(self, name: str) -> int:
        """Bytes, as an assessment counts them."""
        return int(value(self._session, "SELECT pg_database_size(%s::name)", (name,)))

    def _must_be_ours(self) -> None:
        if not value(self._session, "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user"):
            raise MigrationError(
                f"The account {self._session.info.user} is no superuser of the server on which a restore is sampled",
                check="throughput-superuser",
                action="Give a connection string of a superuser, as the import needs one, too",
            )
        if not value(self._session, "SELECT pg_try_advisory_lock(%s)", (_LOCK,)):
            raise MigrationError(
                "Another process takes samples of throughput on this PostgreSQL server",
                check="throughput-busy",
                action="Wait until it has ended, then run again",
            )

    def _drop_all(self) -> None:
        for name in _NAMES:
            self._drop(name)

    def _drop(self, name: str) -> None:
        found = query(
            self._session,
            "SELECT pg_catalog.shobj_description(oid, 'pg_database') FROM pg_catalog.pg_database WHERE datname = %s",
            (name,),
        )
        if not found:
            return
        # Killed between the two statements of create(), it is empty and has no mark.
        if found[0][0] != _MARK and not self._empty(name):
            raise MigrationError(
                f"There is a database {name} that no sample of throughput made",
                check="throughput-database",
                action="Look whether it is needed and rename it; the name is that of samples",
            )
        try:
            self._session.execute(f"DROP DATABASE {identifier(name)} WITH (FORCE)".encode())
        except psycopg.Error as error:
            raise MigrationError(
                f"The database {name} of a sample could not be dropped: {one_line(error)}",
                check="throughput-database",
                action=f"Drop {name} by hand, then measure again",
            ) from error

    def _empty(self, name: str) -> bool:
        with self.address(name).connect() as session:
            return not value(session, "SELECT count(*) FROM pg_catalog.pg_class WHERE oid >= %s", (_FIRST_OWN,))
