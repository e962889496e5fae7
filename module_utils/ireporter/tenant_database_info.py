"""Facts about the tenant's database, read from the catalogue as superuser. Reads only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
from psycopg import conninfo as libpq
from psycopg import sql

from .database_groups import LINKAGE, TableGroups
from .database_settings import COPY_OF
from .database_target import ABSENT, CONTENTS, COPY, EMPTY, INCOMPLETE, MARKER
from .errors import MigrationError
from .tenant_model import Tenant

Connection = psycopg.Connection[Any]

OWN = "own"
_SCAN_MILLISECONDS = 120_000


def server_version(tenant: Tenant) -> tuple[int, str]:
    """``server_version_num`` and the data directory.

    :raises MigrationError: the query failed (check ``database-facts``).
    """
    with _looking_at(tenant, None) as connection:
        row = connection.execute(
            "SELECT current_setting('server_version_num')::int, current_setting('data_directory')"
        ).fetchone()
    if row is None:
        raise MigrationError("The server does not say its version", check="database-admin", action="Look at its log")
    return int(row[0]), str(row[1])


def database_content(tenant: Tenant) -> str:
    """What the tenant's database is: ``absent``, ``empty``, ``incomplete`` or ``copy`` (ours, nobody has written in it), else ``own``.

    On a target ``own`` means that the tenant was opened there: its rows exist nowhere else.

    :raises MigrationError: a query failed (check ``database-facts``).
    """
    with _looking_at(tenant, None) as connection:
        row = connection.execute(
            "SELECT coalesce(shobj_description(d.oid, 'pg_database'), ''), s.setconfig FROM pg_database d"
            " LEFT JOIN pg_db_role_setting s ON s.setdatabase = d.oid AND s.setrole = 0 WHERE d.datname = %s",
            [tenant.database],
        ).fetchone()
    if row is None:
        return ABSENT
    comment, settings = row
    if comment == MARKER:
        return INCOMPLETE
    if any(str(setting).startswith(f"{COPY_OF}=") for setting in settings or ()):
        return COPY
    with _looking_at(tenant, tenant.database) as connection:
        contents = connection.execute(CONTENTS.encode()).fetchone()
    return OWN if contents and contents[0] else EMPTY


def database_facts(
    tenant: Tenant, *, patterns: Sequence[str], path_scan_rows: int, table_groups: TableGroups
) -> dict[str, object]:
    """Everything of the database that a migration is planned from.

    :param patterns: texts that would still point at this server after a move.
    :param path_scan_rows: rows searched per table.
    :raises MigrationError: a query failed (check ``database-facts``).
    """
    with _looking_at(tenant, tenant.database) as connection:
        return _facts(connection, patterns, path_scan_rows, table_groups)


def is_lost_connection(error: MigrationError) -> bool:
    """Whether looking failed because the database, or the session in it, went away: a run that is just ending drops its copy so."""
    lost = error.__cause__
    return isinstance(lost, psycopg.OperationalError) and not isinstance(lost, psycopg.errors.QueryCanceled)


def _facts(
    connection: Connection, patterns: Sequence[str], path_scan_rows: int, table_groups: TableGroups
) -> dict[str, object]:
    general = _row(
        connection,
        "SELECT d.datname AS name, pg_database_size(d.oid) AS bytes, pg_encoding_to_char(d.encoding) AS encoding,"
        " d.datcollate AS collate, d.datctype AS ctype, pg_get_userbyid(d.datdba) AS owner,"
        " d.datconnlimit AS connection_limit FROM pg_database d WHERE d.datname = current_database()",
    )
    tables = _rows(
        connection,
        "SELECT n.nspname AS schema, c.relname AS name, pg_total_relation_size(c.oid) AS bytes,"
        " greatest(c.reltuples, 0)::bigint AS rows_estimate FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'm', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 3 DESC, 1, 2",
    )
    for table in tables:
        table["group"] = table_groups.of(str(table["name"]))
    objects = _row(
        connection,
        "SELECT (SELECT count(*) FROM pg_largeobject_metadata) AS count,"
        " (SELECT coalesce(sum(length(data)), 0) FROM pg_largeobject)::bigint AS bytes",
    )
    large_object_bytes = _row(
        connection,
        "SELECT pg_total_relation_size('pg_largeobject') + pg_total_relation_size('pg_largeobject_metadata') AS bytes",
    )["bytes"]
    sequences = _row(
        connection,
        "SELECT count(*) AS count FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind = 'S' AND n.nspname !~ '^pg_'",
    )
    return {
        **general,
        "tables": tables,
        "tables_count": len(tables),
        "groups": table_groups.add_up(
            int(general["bytes"]),
            [(str(table["group"]), int(table["bytes"])) for table in tables],
            int(large_object_bytes),
        ),
        "sequences": sequences["count"],
        "extensions": _rows(connection, "SELECT extname AS name, extversion AS version FROM pg_extension ORDER BY 1"),
        "large_objects": objects,
        "prepared_transactions": _row(
            connection, "SELECT count(*) AS count FROM pg_prepared_xacts WHERE database = current_database()"
        )["count"],
        "unlogged": [
            f"{row['schema']}.{row['name']}"
            for row in _rows(
                connection,
                "SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                " WHERE c.relpersistence = 'u' AND c.relkind IN ('r', 'S') ORDER BY 1, 2",
            )
        ],
        "roles": _roles(connection),
        "path_columns": _path_columns(connection, tables, patterns, path_scan_rows),
    }


def _roles(connection: Connection) -> list[dict[str, Any]]:
    """Roles that own or are granted something in this database, or are named by its own settings."""
    return _rows(
        connection,
        "SELECT r.rolname AS name, r.rolsuper AS superuser, r.rolcanlogin AS login,"
        " count(*) FILTER (WHERE s.deptype = 'o') AS owned, count(*) FILTER (WHERE s.deptype <> 'o') AS granted"
        " FROM pg_shdepend s JOIN pg_roles r ON r.oid = s.refobjid"
        " WHERE s.refclassid = 'pg_authid'::regclass AND (s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " OR (s.dbid = 0 AND s.classid = 'pg_database'::regclass"
        " AND s.objid = (SELECT oid FROM pg_database WHERE datname = current_database())))"
        " GROUP BY 1, 2, 3 ORDER BY 1",
    )


def _path_columns(
    connection: Connection, tables: list[dict[str, Any]], patterns: Sequence[str], limit: int
) -> list[dict[str, object]]:
    """Text columns in which one of ``patterns`` stands, with the number of such rows among the first ``limit`` of the table.

    Linkage tables are left out: they repeat what is in ``rep_*``. No value is shown, it may be a customer's.
    """
    if not patterns:
        return []
    columns: dict[tuple[str, str], list[str]] = {}
    for row in _rows(
        connection,
        "SELECT table_schema AS schema, table_name AS name, column_name AS column FROM information_schema.columns"
        " WHERE data_type IN ('text', 'character varying', 'character') AND table_schema !~ '^pg_'"
        " AND table_schema <> 'information_schema' ORDER BY 1, 2, ordinal_position",
    ):
        columns.setdefault((str(row["schema"]), str(row["name"])), []).append(str(row["column"]))
    found: list[dict[str, object]] = []
    connection.execute(f"SET statement_timeout = {_SCAN_MILLISECONDS}".encode())
    for table in tables:
        key = (str(table["schema"]), str(table["name"]))
        names = columns.get(key, [])
        if not names or LINKAGE.fullmatch(key[1]):
            continue
        counts = sql.SQL(", ").join(
            sql.SQL(
                "count(*) FILTER (WHERE EXISTS (SELECT 1 FROM unnest(%(patterns)s::text[]) p WHERE strpos({}::text, p) > 0))"
            ).format(sql.Identifier(name))
            for name in names
        )
        query = sql.SQL("SELECT {} FROM (SELECT {} FROM {} LIMIT {}) rows").format(
            counts,
            sql.SQL(", ").join(sql.Identifier(name) for name in names),
            sql.Identifier(*key),
            sql.Literal(limit),
        )
        hits = connection.execute(query, {"patterns": list(patterns)}).fetchone() or ()
        found += [
            {
                "schema": key[0],
                "table": key[1],
                "column": name,
                "rows": int(count),
                "complete": int(table["rows_estimate"]) <= limit,
            }
            for name, count in zip(names, hits, strict=True)
            if count
        ]
    return found


@contextlib.contextmanager
def _looking_at(tenant: Tenant, database: str | None) -> Iterator[Connection]:
    """A session in ``database``, without one in that of ``database_admin``; whatever fails in it is said in a sentence."""
    with _connect(tenant, database) as connection:
        try:
            yield connection
        except psycopg.Error as error:
            raise MigrationError(
                f"Database {tenant.database} could not be looked at: {' '.join(str(error).split())}",
                check="database-facts",
                action="Run again; if it stays, look at the PostgreSQL log",
            ) from error


def _connect(tenant: Tenant, database: str | None) -> Connection:
    more = {"dbname": database} if database is not None else {}
    try:
        return psycopg.connect(
            libpq.make_conninfo(
                tenant.database_admin, **more, application_name="ireporter-migration facts", connect_timeout="10"
            ),
            autocommit=True,
        )
    except psycopg.Error as error:
        raise MigrationError(
            f"database_admin: {' '.join(str(error).split())}",
            check="database-admin",
            action="Correct database_admin of the tenant, or the server's access rules",
        ) from error


def _rows(connection: Connection, query: str) -> list[dict[str, Any]]:
    cursor = connection.execute(query.encode())
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _row(connection: Connection, query: str) -> dict[str, Any]:
    return _rows(connection, query)[0]
