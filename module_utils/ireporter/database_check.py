"""What the target must have before anything is made there: everything that would stop the copy later, named now."""

from __future__ import annotations

import psycopg

from .database_connection import Connection, literal, one_line, query, value
from .database_target import Properties
from .errors import MigrationError


def check_versions(source: Connection, target: Connection) -> None:
    """
    :raises MigrationError: the target is of an older major version (check ``target-version``).
    """
    versions = [connection.info.server_version for connection in (source, target)]
    if versions[1] // 10000 < versions[0] // 10000:
        raise MigrationError(
            f"The target runs PostgreSQL {versions[1] // 10000}, older than the source's {versions[0] // 10000}",
            check="target-version",
            action=f"Give the target PostgreSQL {versions[0] // 10000} or newer",
        )


def check_extensions(source: Connection, target: Connection) -> dict[str, str]:
    """Every extension, in the source's version.

    :returns: extensions whose default version on the target is another one, and the version to bring them to.
    :raises MigrationError: one is missing or cannot be had in that version (check ``extension-missing``).
    """
    updates = {}
    for name, version in query(source, "SELECT extname, extversion FROM pg_extension ORDER BY 1"):
        default = query(target, "SELECT default_version FROM pg_available_extensions WHERE name = %s", (name,))
        if not default:
            raise MigrationError(
                f"The extension {name} is not available on the target",
                check="extension-missing",
                action=f"Install the package with the extension {name} {version} on the target",
            )
        if default[0][0] != version:
            path = query(
                target,
                "SELECT path FROM pg_extension_update_paths(%s) WHERE source = %s AND target = %s AND path IS NOT NULL",
                (name, default[0][0], version),
            )
            if not path:
                raise MigrationError(
                    f"The target offers the extension {name} in version {default[0][0]}, the source uses {version}",
                    check="extension-missing",
                    action=f"Bring {name} to {default[0][0]} on the source, or install {version} on the target",
                )
            updates[name] = version
    return updates


def check_libraries(source: Connection, target: Connection) -> None:
    """
    :raises MigrationError: a function in C needs a library the target has not (check ``library-missing``).
    """
    rows = query(
        source,
        """
        SELECT p.probin, min(p.oid::regprocedure::text) FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
        WHERE l.lanname = 'c' AND p.oid >= 16384 AND p.probin IS NOT NULL
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid
                          AND d.deptype = 'e')
        GROUP BY 1
        """,
    )
    for library, function in rows:
        try:
            target.execute(f"LOAD {literal(library)}".encode())
        except psycopg.Error as error:
            raise MigrationError(
                f"The function {function} needs the library {library}, which the target cannot load: {one_line(error)}",
                check="library-missing",
                action=f"Install the library {library} on the target",
            ) from error


def check_locales(source: Connection, target: Connection, properties: Properties) -> None:
    """
    :raises MigrationError: the database's locale, or a collation's, is unknown on the target (check ``locale-missing``).
    """
    wanted = {(str(properties.locale["collate"]), str(properties.locale["ctype"]), f"database {properties.name}")}
    for collate, ctype, name in query(
        source,
        "SELECT collcollate, collctype, oid::regcollation::text FROM pg_collation"
        " WHERE oid >= 16384 AND collprovider = 'c' AND collcollate IS NOT NULL",
    ):
        wanted.add((collate, ctype, f"collation {name}"))
    for collate, ctype, name in sorted(wanted):
        try:
            with target.transaction(force_rollback=True):
                target.execute(
                    f"CREATE COLLATION pg_temp.ireporter_migration_probe "
                    f"(LC_COLLATE = {literal(collate)}, LC_CTYPE = {literal(ctype)})".encode()
                )
        except psycopg.Error as error:
            if "encoding" in str(error):  # the locale exists, with another encoding than the maintenance database's
                continue
            raise MigrationError(
                f"The target does not know the locale {collate} of the {name}: {one_line(error)}",
                check="locale-missing",
                action=f"Generate the locale {collate} on the target and restart its PostgreSQL",
            ) from error


def check_source(source: Connection) -> None:
    """
    :raises MigrationError: a prepared transaction's rows would be in neither database (check ``prepared-transactions``).
    """
    number = value(source, "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()")
    if number:
        raise MigrationError(
            f"The source has {number} prepared transaction(s) in the database",
            check="prepared-transactions",
            action="Commit or roll them back (pg_prepared_xacts names them), then run again",
        )


def check_hash_partitions(source: Connection) -> None:
    """
    :raises MigrationError: rows are spread by the hash of an enum, which is another one in another database, so that they
        would belong into other partitions there (check ``hash-partition``).
    """
    rows = query(
        source,
        """
        SELECT p.partrelid::regclass::text FROM pg_partitioned_table p
        JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = ANY (p.partattrs)
        JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_type e ON e.oid IN (t.typelem, t.typbasetype)
        WHERE p.partstrat = 'h' AND 'e' IN (t.typtype, e.typtype) ORDER BY 1
        """,
    )
    if rows:
        raise MigrationError(
            f"The table {rows[0][0]} is partitioned by the hash of an enum, which differs between databases",
            check="hash-partition",
            action=f"Partition {rows[0][0]} by the hash of a text column instead, then run again",
        )
