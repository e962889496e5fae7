"""Extensions come along in the source's version and with the source's owner, neither of which ``pg_dump`` writes down."""

from __future__ import annotations

from collections.abc import Iterable

from .database_catalog import Table
from .database_connection import Connection, identifier, literal, query
from .errors import MigrationError


def check_extensions(source: Connection, target: Connection) -> bool:
    """Every extension must be installable on the target, in the source's version.

    :returns: whether one has another default version on the target, so that :func:`create_extensions` is needed.
    :raises MigrationError: one is missing or cannot be had in that version (check ``extension-missing``).
    """
    other_versions = False
    for name, version in query(source, "SELECT extname, extversion FROM pg_extension ORDER BY 1"):
        default = query(target, "SELECT default_version FROM pg_available_extensions WHERE name = %s", (name,))
        if not default:
            raise MigrationError(
                f"The extension {name} is not available on the target",
                check="extension-missing",
                action=f"Install the package with the extension {name} {version} on the target",
            )
        if default[0][0] != version:
            other_versions = True
            if not query(
                target,
                "SELECT FROM pg_available_extension_versions WHERE name = %s AND version = %s",
                (name, version),
            ):
                raise MigrationError(
                    f"The target offers the extension {name} in version {default[0][0]}, the source uses {version}",
                    check="extension-missing",
                    action=f"Bring {name} to {default[0][0]} on the source, or install {version} on the target",
                )
    return other_versions


def create_extensions(source: Connection, inside: Connection) -> None:
    """Make all of them in the source's versions; their schemas are there. ``pg_restore`` then finds them and passes on."""
    for name, version, schema in query(
        source,
        "SELECT extname, extversion, nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace"
        " ORDER BY e.oid",  # what one needs was made before it
    ):
        inside.execute(
            f"CREATE EXTENSION IF NOT EXISTS {identifier(name)} SCHEMA {identifier(schema)} VERSION {literal(version)}".encode()
        )


def give_extensions_their_owners(source: Connection, inside: Connection) -> None:
    """There is no statement for it. Who owns an extension may update and drop it; a trusted one belongs to who made it."""
    for name, owner in query(source, "SELECT extname, pg_get_userbyid(extowner) FROM pg_extension"):
        with inside.transaction():
            changed = query(
                inside,
                "UPDATE pg_extension SET extowner = r.oid FROM pg_roles r"
                " WHERE extname = %s AND r.rolname = %s AND extowner <> r.oid RETURNING pg_extension.oid, r.oid",
                (name, owner),
            )
            for extension, role in changed:
                inside.execute(
                    "DELETE FROM pg_shdepend WHERE classid = 'pg_extension'::regclass AND objid = %s AND deptype = 'o'"
                    " AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())",
                    (extension,),
                )
                # The bootstrap superuser and predefined roles cannot be dropped, so no dependency on them is kept.
                inside.execute(
                    "INSERT INTO pg_shdepend (dbid, classid, objid, objsubid, refclassid, refobjid, deptype)"
                    " SELECT oid, 'pg_extension'::regclass, %(extension)s, 0, 'pg_authid'::regclass, %(role)s, 'o'"
                    " FROM pg_database WHERE datname = current_database() AND %(role)s::oid::bigint >= 16384",
                    {"extension": extension, "role": role},
                )


def empty_configuration_tables(inside: Connection, tables: Iterable[Table]) -> None:
    """``CREATE EXTENSION`` may have filled the rows that come from the source."""
    with inside.transaction():
        inside.execute("SET LOCAL session_replication_role = replica")
        for table in (table for table in tables if table.extension_member):
            inside.execute(f"DELETE FROM ONLY {table.identifier} {table.condition}".encode())  # noqa: S608 - quoted
