"""The target database as a whole: what stands there now, making it, and giving it the source's properties at the end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

from .database_connection import Address, Connection, identifier, literal, one_line, query, value
from .database_roles import Role, apply_database_settings
from .database_settings import COPY_OF, Grant, explode, grant_statements, set_clause, setting_name
from .errors import MigrationError

MARKER = "ireporter-migration: incomplete copy"
_MAINTENANCE = "postgres"
_INVALID = -2  # the connection limit of a database whose DROP was interrupted: nothing but DROP can be done to it
_OF_THE_SERVER = frozenset({_MAINTENANCE, "template0", "template1"})

ABSENT, EMPTY, INCOMPLETE, COPY, FOREIGN = "absent", "empty", "incomplete", "copy", "foreign"

# Anything made after initdb that is not part of an extension every database has.
CONTENTS = """
SELECT EXISTS (SELECT FROM pg_class c WHERE c.oid >= 16384 AND NOT starts_with(c.relname, 'pg_toast')
               AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e'))
    OR EXISTS (SELECT FROM pg_proc p WHERE p.oid >= 16384
               AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e'))
    OR EXISTS (SELECT FROM pg_namespace WHERE oid >= 16384 AND nspname NOT LIKE 'pg\\_%')
    OR EXISTS (SELECT FROM pg_type t WHERE t.oid >= 16384
               AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = t.oid AND d.deptype = 'e'))
    OR EXISTS (SELECT FROM pg_extension WHERE oid >= 16384)
    OR EXISTS (SELECT FROM pg_largeobject_metadata)
    OR EXISTS (SELECT FROM pg_operator WHERE oid >= 16384) OR EXISTS (SELECT FROM pg_opfamily WHERE oid >= 16384)
    OR EXISTS (SELECT FROM pg_cast WHERE oid >= 16384) OR EXISTS (SELECT FROM pg_language WHERE oid >= 16384)
    OR EXISTS (SELECT FROM pg_conversion WHERE oid >= 16384) OR EXISTS (SELECT FROM pg_am WHERE oid >= 16384)
    OR EXISTS (SELECT FROM pg_collation WHERE oid >= 16384 AND collnamespace <> 'pg_catalog'::regnamespace)
    OR EXISTS (SELECT FROM pg_ts_config WHERE oid >= 16384) OR EXISTS (SELECT FROM pg_ts_dict WHERE oid >= 16384)
    OR EXISTS (SELECT FROM pg_foreign_data_wrapper) OR EXISTS (SELECT FROM pg_foreign_server)
    OR EXISTS (SELECT FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = current_database())
    OR EXISTS (SELECT FROM pg_default_acl) OR EXISTS (SELECT FROM pg_publication) OR EXISTS (SELECT FROM pg_event_trigger)
"""


@dataclass(frozen=True)
class Properties:
    """A database from outside.

    :param identity: ``system identifier/oid``: no other database anywhere has the same.
    :param creation: clauses of ``CREATE DATABASE`` that fix encoding and locale.
    """

    name: str
    owner: str
    identity: str
    comment: str | None
    connection_limit: int
    is_template: bool
    encoding: str
    locale: dict[str, object]
    settings: tuple[str, ...]
    grants: tuple[Grant, ...]
    default_grants: bool
    tablespace: str


def read_properties(connection: Connection) -> Properties:
    """Of the session's database."""
    # to_jsonb: the columns on locales differ between versions.
    row: dict[str, Any]
    row, owner, encoding, comment, tablespace, identifier_of_server = query(
        connection,
        """
        SELECT to_jsonb(d), pg_get_userbyid(d.datdba), pg_encoding_to_char(d.encoding),
               shobj_description(d.oid, 'pg_database'), t.spcname,
               (SELECT system_identifier::text FROM pg_control_system())
        FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace WHERE d.datname = current_database()
        """,
    )[0]
    settings = query(
        connection,
        "SELECT setconfig FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase"
        " WHERE d.datname = current_database() AND s.setrole = 0",
    )
    grants = explode(
        connection, "1, coalesce(datacl, acldefault('d', datdba))", "pg_database", "datname = current_database()"
    )
    return Properties(
        name=row["datname"],
        owner=owner,
        identity=f"{identifier_of_server}/{row['oid']}",
        comment=comment,
        connection_limit=row["datconnlimit"],
        is_template=row["datistemplate"],
        encoding=encoding,
        locale={
            "provider": row.get("datlocprovider", "c"),
            "collate": row["datcollate"],
            "ctype": row["datctype"],
            "locale": row.get("datlocale", row.get("daticulocale")),
            "rules": row.get("daticurules"),
        },
        settings=tuple(settings[0][0]) if settings else (),
        grants=tuple(grants.get(1, [])),
        default_grants=row["datacl"] is None,
        tablespace=tablespace,
    )


def creation_clauses(properties: Properties) -> str:
    """Encoding and locale of ``CREATE DATABASE``, as text of SQL."""
    return locale_clauses(properties.encoding, properties.locale)


def locale_clauses(encoding: str, locale: Mapping[str, object]) -> str:
    """The same, of a database that is described elsewhere (:attr:`Properties.locale`)."""
    words = [
        f"ENCODING {literal(encoding)}",
        f"LC_COLLATE {literal(str(locale['collate']))}",
        f"LC_CTYPE {literal(str(locale['ctype']))}",
    ]
    if locale["provider"] == "i":
        words.append(f"LOCALE_PROVIDER icu ICU_LOCALE {literal(str(locale['locale']))}")
        if locale["rules"]:
            words.append(f"ICU_RULES {literal(str(locale['rules']))}")
    elif locale["provider"] == "b":
        words.append(f"LOCALE_PROVIDER builtin BUILTIN_LOCALE {literal(str(locale['locale']))}")
    return " ".join(words)


class Target:
    """The target server's maintenance session, and the target database seen from it."""

    def __init__(self, address: Address) -> None:
        """:raises MigrationError: the name is of a database that every server needs as it is (check ``connection-string``)."""
        if address.database in _OF_THE_SERVER:
            raise MigrationError(
                f"The target database {address.database} belongs to the server itself",
                check="connection-string",
                action="Name another target database; this one is never touched",
            )
        self.address = address
        self.name = address.database
        self.connection = address.connect(dbname=_MAINTENANCE)

    def close(self) -> None:
        """Ends the session, and with it the lock."""
        self.connection.close()

    def lock(self, seconds: float = 15.0) -> None:
        """Keep other copies into the same database away until :meth:`close`.

        :raises MigrationError: one is running (check ``copy-running``).
        """
        deadline = time.monotonic() + seconds
        while not value(
            self.connection, "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (f"{MARKER} {self.name}",)
        ):
            if time.monotonic() > deadline:
                raise MigrationError(
                    f"Another copy into the database {self.name} is running",
                    check="copy-running",
                    action="Wait until it has finished, then run again",
                )
            time.sleep(0.5)  # a killed copy's session ends as soon as the server notices

    def exists(self) -> bool:
        """Whether the server has the database."""
        return bool(value(self.connection, "SELECT count(*) FROM pg_database WHERE datname = %s", (self.name,)))

    def state(self, source: Properties) -> str:
        """``absent``, ``empty``, ``incomplete`` (ours), ``copy`` (ours, of this source, complete) or ``foreign``."""
        if not self.exists():
            return ABSENT
        rows = query(
            self.connection,
            """
            SELECT coalesce(shobj_description(d.oid, 'pg_database'), ''), s.setconfig, d.datconnlimit
            FROM pg_database d LEFT JOIN pg_db_role_setting s ON s.setdatabase = d.oid AND s.setrole = 0
            WHERE d.datname = %s
            """,
            (self.name,),
        )
        comment, settings, limit = rows[0]
        if comment == MARKER:
            return INCOMPLETE
        if f"{COPY_OF}={source.identity}" in (settings or ()):
            return INCOMPLETE if limit == _INVALID else COPY
        with self.address.connect() as inside:
            return FOREIGN if value(inside, CONTENTS) else EMPTY

    def create(self, source: Properties) -> None:
        """Make the database, empty, marked as incomplete; what stands there (ours, or empty) goes away first."""
        name = identifier(self.name)
        self._free()
        self._run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        # Nobody but a superuser can connect while it is incomplete.
        self._run(
            f"CREATE DATABASE {name} TEMPLATE template0 {creation_clauses(source)} "
            f"OWNER {identifier(source.owner)} CONNECTION LIMIT 0"
        )
        self._run(f"COMMENT ON DATABASE {name} IS {literal(MARKER)}")

    def _free(self) -> None:
        """Take away what keeps a database of ours from being dropped."""
        limits = query(self.connection, "SELECT datconnlimit FROM pg_database WHERE datname = %s", (self.name,))
        if not limits or limits[0][0] == _INVALID:
            return
        self._run(f"ALTER DATABASE {identifier(self.name)} IS_TEMPLATE false")
        with self.address.connect() as inside:
            subscriptions = query(
                inside,
                "SELECT subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = current_database()",
            )
            for (subscription,) in subscriptions:
                # The slot on the publishing server is the source's.
                for words in ("ALTER SUBSCRIPTION {} DISABLE", "ALTER SUBSCRIPTION {} SET (slot_name = NONE)", "DROP SUBSCRIPTION {}"):  # fmt: skip
                    inside.execute(words.format(identifier(subscription)).encode())

    def finish(self, source: Properties, roles: list[Role], connection_limit: int | None) -> None:
        """Give the database the source's grants, settings and comment; from here on it is complete. One transaction.

        :param connection_limit: of the source before it was frozen; ``None``: as it is on the source now.
        """
        name = identifier(self.name)
        limit = source.connection_limit if connection_limit is None else connection_limit
        with self.connection.transaction():
            self._run("SET LOCAL synchronous_commit = on")
            if not source.default_grants:
                for statement in grant_statements(f"DATABASE {name}", source.owner, source.grants):
                    self._run(statement)
            for setting in source.settings:
                if setting_name(setting) != COPY_OF:
                    self._run(f"ALTER DATABASE {name} {set_clause(setting)}")
            self._run(f"ALTER DATABASE {name} {set_clause(f'{COPY_OF}={source.identity}')}")
            apply_database_settings(self.connection, roles, self.name)
            self._run(f"ALTER DATABASE {name} CONNECTION LIMIT {limit}")
            self._run(f"ALTER DATABASE {name} IS_TEMPLATE {str(source.is_template).lower()}")
            comment = "NULL" if source.comment is None else literal(source.comment)
            self._run(f"COMMENT ON DATABASE {name} IS {comment}")

    def _run(self, statement: str) -> None:
        try:
            self.connection.execute(statement.encode())
        except psycopg.Error as error:
            raise MigrationError(
                f"The target refused for the database {self.name}: {one_line(error)}",
                check="copy-failed",
                action="Mend the cause on the target, then run again",
            ) from error
