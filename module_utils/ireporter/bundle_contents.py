"""What a bundle says about itself: versions, counts, digests, roles, settings, what was left out and why."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from .bundle_format import FORMAT_VERSION, PAYLOAD_MANIFEST
from .bundle_trees import LICENCE_REASON, SPECIAL_REASON, Packed
from .database_catalog import read_sequences, read_tables, read_types
from .database_connection import Address, Connection, identifier, literal, query, value
from .database_roles import SERVER_POWERS, Role, creation_statements, read_named_roles, read_roles
from .database_settings import COPY_OF, grant_statements, set_clause, setting_name
from .database_target import Properties, creation_clauses, read_properties
from .errors import MigrationError
from .verification_rows import Seeds, Side, digest_tables

_METHOD: Final = (
    "As ireporter_verification computes them: rows, and for two seeds the exact sums of the rows' 64-bit hashes"
    " (docs/verification.md). Numbers are text, because they do not fit a 64-bit float."
)
Left = dict[str, object]


def database_facts(
    address: Address,
    session: Connection,
    snapshot: str,
    *,
    seeds: Seeds,
    jobs: int,
    progress: Callable[[int], None],
) -> dict[str, object]:
    """Counts and digests of everything that has contents, from the snapshot of ``session``."""
    tables = {(table.schema, table.name): table for table in read_tables(session)}
    side = Side("picture", address, snapshot, tables, session.info.server_version)
    names = [name for name, table in tables.items() if not table.materialised_view or table.populated]
    digests = digest_tables((side,), read_types(session), names, seeds=seeds, jobs=jobs, progress=progress)
    return {
        "method": _METHOD,
        "seeds": [str(seeds.first), str(seeds.second)],
        "tables": [
            {
                "schema": schema, "name": name, "rows": digest.rows,
                "first": str(digest.first), "second": str(digest.second), "bytes": digest.bytes,
                # pg_restore computes it anew: where it was out of date, it is not any more.
                "computed_by_restore": tables[schema, name].materialised_view,
            }
            for (schema, name), (digest,) in zip(names, digests, strict=True)
        ],
        "sequences": [
            {"schema": schema, "name": name, "value": str(number), "handed_out": called}
            for (schema, name), (number, called) in read_sequences(session).items()
        ],
        "large_objects": _large_objects(session, seeds),
        "extensions": dict(query(session, "SELECT extname, extversion FROM pg_extension ORDER BY 1")),
    }  # fmt: skip


def _large_objects(session: Connection, seeds: Seeds) -> dict[str, list[str]]:
    """By number: bytes and two digests of the content, which do not tell a hole from zeros, because a dump does not either."""
    page, content = "current_setting('block_size')::int / 4", r"rtrim(data, '\x00'::bytea)"
    sums = ", ".join(
        f"coalesce(sum(hash_record_extended(ROW(pageno, {content}), {seed})) FILTER (WHERE {content} <> ''), 0)::text"
        for seed in (seeds.first, seeds.second)
    )
    size = f"coalesce(max(pageno::bigint * ({page}) + octet_length(data)), 0)::text"
    statement = f"SELECT m.oid::text, {size}, {sums} FROM pg_largeobject_metadata m LEFT JOIN pg_largeobject ON loid = m.oid GROUP BY 1"  # noqa: S608
    return {number: numbers for number, *numbers in query(session, statement)}


class Surroundings:
    """What belongs to a database but not into its dump: roles, settings, owner, grants.

    :param session: of the picture.
    :param original: a session of the tenant's own database, which has the settings that a picture lacks.
    """

    def __init__(self, session: Connection, original: Connection) -> None:
        self.properties: Properties = read_properties(original)
        self.roles: list[Role] = read_named_roles(session, self.properties.name)
        known = {role.name for role in self.roles}
        self.roles += [role for role in read_named_roles(original) if role.name not in known]
        self.roles.sort(key=lambda role: role.name)
        self.unnamed = len(
            {role.name for role in read_roles(original) if not role.bootstrap} - {role.name for role in self.roles}
        )
        self.passwords = sum(role.verifier is not None for role in self.roles)
        self.powers = sum(bool(role.attributes[power]) for role in self.roles for power in SERVER_POWERS)
        self.subscriptions = int(
            value(
                session,
                "SELECT count(*) FROM pg_subscription WHERE subdbid ="
                " (SELECT oid FROM pg_database WHERE datname = current_database())",
            )
        )

    def roles_sql(self) -> bytes:
        """For ``psql``, on a server that has none of these roles."""
        head = (
            "-- Roles that objects of this database name. No passwords: set new ones afterwards (\\password in psql).\n"
        )
        return _script(head, creation_statements(self.roles))

    def creation_sql(self) -> bytes:
        """For ``psql`` with the variable ``name``, connected to any database of the server."""
        head = "-- The empty database, to be restored into: psql --set name=NAME_OF_THE_DATABASE --file=database-create.sql\n"
        return _script(head, [f'CREATE DATABASE :"name" TEMPLATE template0 {creation_clauses(self.properties)}'])

    def settings_sql(self) -> bytes:
        """For ``psql``, connected to the restored database, whatever its name is there."""
        database = ':"DBNAME"'
        statements = [f"ALTER DATABASE {database} OWNER TO {identifier(self.properties.owner)}"]
        if self.properties.comment is not None:
            statements.append(f"COMMENT ON DATABASE {database} IS {literal(self.properties.comment)}")
        if not self.properties.default_grants:
            statements += grant_statements(f"DATABASE {database}", self.properties.owner, self.properties.grants)
        statements += [
            f"ALTER DATABASE {database} {set_clause(setting)}"
            for setting in self.properties.settings
            if setting_name(setting) != COPY_OF
        ]
        for role in self.roles:
            statements += [
                f"ALTER ROLE {identifier(role.name)} IN DATABASE {database} {set_clause(setting)}"
                for setting in role.database_settings
            ]
        head = "-- Owner, grants and settings of the database itself, which a dump does not hold. Run it connected to the database.\n"
        return _script(head, ["BEGIN", *statements, "COMMIT"])


def _script(head: str, statements: Iterable[str]) -> bytes:
    # A value may hold what psql would take for a variable; between quotes it takes nothing.
    return (head + "SET standard_conforming_strings = on;\n" + "".join(f"{text};\n" for text in statements)).encode(
        errors="surrogateescape"
    )


def left_out(trees: Sequence[Packed], webdav: Sequence[Path], surroundings: Surroundings) -> list[Left]:
    """Everything that stays behind, each with reason and count, also where the count is 0."""
    files, size = _count(webdav)
    found: list[Left] = [
        {"what": "WebDAV files", "reason": "R09: they are not migrated, the customer downloads them", "count": files, "bytes": size},
        {"what": "passwords of database roles", "reason": "secrets are new on a new server", "count": surroundings.passwords},
        {
            "what": "attributes of roles: " + ", ".join(SERVER_POWERS),
            "reason": "power over the server, not over this database", "count": surroundings.powers,
        },
        {
            "what": "roles that no object of the database names",
            "reason": "accounts and groups of the server; grant a new account membership in the role it needs",
            "count": surroundings.unnamed,
        },
        {
            "what": "subscriptions",
            "reason": "they connect to servers of the vendor, with secrets", "count": surroundings.subscriptions,
        },
    ]  # fmt: skip
    for what, reason in (("licence files", LICENCE_REASON), ("special files", SPECIAL_REASON)):
        paths = [
            f"{packed.tree.name}:{path.decode(errors='backslashreplace')}"
            for packed in trees
            for path in packed.without.get(reason, [])
        ]
        found.append({"what": what, "reason": reason, "count": len(paths), "names": paths})
    return found


def _count(folders: Sequence[Path]) -> tuple[int, int]:
    """Files and bytes below the folders; links are not followed."""
    files = size = 0

    def stop(error: OSError) -> None:
        raise MigrationError(
            f"The WebDAV folder {error.filename} cannot be counted: {error.strerror}",
            check="file-tree",
            action="Name the folder as it is on this server",
        ) from error

    for folder in folders:
        for above, _names, found in os.walk(folder, onerror=stop):
            for name in found:
                files += 1
                size += (Path(above) / name).lstat().st_size
    return files, size


def about(
    *,
    identity: Mapping[str, object],
    made_at: str,
    versions: Mapping[str, object],
    accounts: int | None,
    properties: Properties,
    facts: Mapping[str, object],
    trees: Sequence[Packed],
    without: Sequence[Left],
) -> bytes:
    """The file ``migration.json``; :func:`bundle_read.parse_about` reads it.

    :param identity: ``tenant``, ``migration_id`` and ``cut_off``.
    :param accounts: how many user accounts there are, ``None`` where nobody said how they are counted.
    """
    content = {
        "format": "ireporter-bundle",
        "version": FORMAT_VERSION,
        **identity,
        "made_at": made_at,
        "versions": dict(versions),
        "accounts": accounts,
        "database": {
            "owner": properties.owner,
            "encoding": properties.encoding,
            "locale": dict(properties.locale),
            **facts,
        },
        "file_trees": [
            {
                "name": packed.tree.name, "entries": packed.entries, "files": packed.files, "bytes": packed.file_bytes,
                "names_ntfs_cannot_hold": packed.renamed,
            }
            for packed in trees
        ],
        "left_out": list(without),
    }  # fmt: skip
    return (json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True) + "\n").encode()


def bag_info(identity: Mapping[str, object], made_on: str, payload_bytes: int, payload_files: int) -> bytes:
    """The file ``bag-info.txt``."""
    return (
        f"Bagging-Date: {made_on}\n"
        f"External-Identifier: {identity['migration_id']}\n"
        f"External-Description: i-Reporter data of tenant {identity['tenant']} as of {identity['cut_off']}\n"
        f"Payload-Oxum: {payload_bytes}.{payload_files}\n"
        f"Bag-Software-Agent: ireporter-migration, bundle format {FORMAT_VERSION}, {PAYLOAD_MANIFEST}\n"
    ).encode()
