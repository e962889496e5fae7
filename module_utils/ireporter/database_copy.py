"""Copies one PostgreSQL database, whole and exact: roles, schema, rows, large objects, sequences, properties."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import psycopg

from . import database_check, database_schema
from .database_catalog import Table, read_sequences, read_tables
from .database_connection import (
    Address,
    Connection,
    exported_snapshot,
    identifier,
    one_line,
    query,
    require_superuser,
    value,
)
from .database_extensions import (
    check_extensions,
    create_extensions,
    empty_configuration_tables,
    give_extensions_their_owners,
)
from .database_internal_triggers import set_internal_triggers
from .database_large_objects import copy_large_objects
from .database_load import loosen, tighten
from .database_roles import Role, apply_roles, read_roles, refuse_clashes, rehearse_roles
from .database_statistics import analyse
from .database_target import COPY, FOREIGN, Properties, Target, read_properties
from .database_transfer import Transfer, cut
from .errors import MigrationError

Progress = Callable[[dict[str, object]], None]


@dataclass(frozen=True)
class Request:
    """What to copy, read from a specification (``spec``) that may come from a JSON file.

    :param connection_limit: of the source before it was frozen; ``None``: as it is now.
    """

    source: Address
    target: Address
    replace: bool
    keep_role_passwords: tuple[str, ...]
    connection_limit: int | None
    jobs: int
    check_mode: bool

    @classmethod
    def parse(cls, spec: dict[str, object]) -> Request:
        """:raises MigrationError: a connection string is not usable."""
        limit = spec.get("connection_limit")
        passwords = spec.get("keep_role_passwords") or ()
        assert isinstance(passwords, (list, tuple))  # noqa: S101 - the module's argument specification says so
        return cls(
            source=Address.parse(str(spec["source"]), "source"),
            target=Address.parse(str(spec["target"]), "target"),
            replace=bool(spec.get("replace", False)),
            keep_role_passwords=tuple(str(name) for name in passwords),
            connection_limit=None if limit is None else int(str(limit)),
            jobs=max(1, int(str(spec.get("jobs", 2)))),
            check_mode=bool(spec.get("check_mode", False)),
        )


def run(spec: dict[str, object], progress: Progress) -> dict[str, object]:
    """Make the target database a copy of the source database.

    :param spec: ``source``, ``target`` (libpq strings), ``replace``, ``keep_role_passwords``, ``connection_limit``, ``jobs``,
        ``check_mode``.
    :param progress: gets ``{phase, bytes, total_bytes, rows, seconds}`` as the work goes on.
    :returns: ``changed``, ``bytes``, ``rows``, ``tables``, ``sequences``, ``large_objects``, ``seconds``, ``parts``,
        ``roles_created``, ``roles_changed``, ``notes``, ``target_before``.
    :raises MigrationError: it cannot be copied, and nothing was touched; or copying failed, and the target is marked incomplete.
    """
    request = Request.parse(spec)
    with ExitStack() as stack:
        source = stack.enter_context(request.source.connect())
        require_superuser(source, "source")
        properties = read_properties(source)
        target = Target(request.target)
        stack.callback(target.close)
        require_superuser(target.connection, "target")
        _refuse_itself(properties, target)
        target.lock()
        database_check.check_versions(source, target.connection)
        database_check.check_source(source)
        before = target.state(properties)
        if before == FOREIGN:
            raise MigrationError(
                f"The target database {target.name} holds data that is not a copy of {properties.name} made by this project",
                check="target-empty",
                action="Name another target database, or move that one away; it is never touched",
            )
        if before == COPY:
            figures = _compare(request, progress)
            if figures is not None:
                return {"changed": False, "target_before": before, **figures}
            if not request.replace:
                raise MigrationError(
                    f"The target database {target.name} is a complete copy of {properties.name}, and differs from it now",
                    check="target-differs",
                    action="Verify to see what differs; give replace: true to copy anew where the target is not in use",
                )
        roles = read_roles(source)
        refuse_clashes(roles, read_roles(target.connection, [role.name for role in roles], target.name))
        with _refusal(f"The database {properties.name}"):
            other_versions = _refuse_what_cannot_be_copied(source, target, properties, roles, request)
        notes = _notes(source, properties)
        if request.check_mode:
            return {"changed": True, "target_before": before, "notes": notes, **_figures(read_tables(source))}
        # Also what no part of it expects: a server that is restarted ends the sessions that only hold the snapshot or the lock.
        with _refusal(f"The database {properties.name}"):
            copied = _copy(
                request,
                source=source,
                target=target,
                properties=properties,
                roles=roles,
                other_versions=other_versions,
                progress=progress,
            )
        return {"changed": True, "target_before": before, "notes": notes, **copied}


def _refuse_what_cannot_be_copied(
    source: Connection, target: Target, properties: Properties, roles: list[Role], request: Request
) -> bool:
    """Every check before the first change; returns whether extensions have other default versions on the target."""
    other_versions = check_extensions(source, target.connection)
    database_check.check_libraries(source, target.connection)
    database_check.check_encoding(source, properties)
    database_check.check_locales(source, target.connection, properties)
    database_check.check_collations(source, target.connection, properties)
    database_check.check_for_dump(source)
    database_check.check_security_labels(source, target.connection, roles)
    database_check.check_settings(target.connection, properties, roles)
    rehearse_roles(target.connection, roles, database=target.name, keep_passwords=request.keep_role_passwords)
    return other_versions


def _refuse_itself(properties: Properties, target: Target) -> None:
    rows = query(
        target.connection,
        "SELECT (SELECT system_identifier::text FROM pg_control_system()) || '/' || oid FROM pg_database WHERE datname = %s",
        (target.name,),
    )
    if rows and rows[0][0] == properties.identity:
        raise MigrationError(
            f"Source and target are the same database, {properties.name}",
            check="connection-string",
            action="Name another target",
        )


def _compare(request: Request, progress: Progress) -> dict[str, object] | None:
    """Figures where the complete copy is equal, else ``None``."""
    from . import verification  # noqa: PLC0415 - it is only needed here, and the modules ship separately

    result = verification.run(
        {
            "source": request.source.conninfo,
            "target": request.target.conninfo,
            "scope": "all",
            "connection_limit": request.connection_limit,
            "jobs": request.jobs,
        },
        progress,
    )
    if result["differences"]:
        return None
    return {
        "rows": result["rows_verified"],
        "tables": result["tables_verified"],
        "sequences": result["sequences_verified"],
        "large_objects": result["large_objects_verified"],
        "bytes": 0,
        "seconds": result["seconds"],
        "parts": {},
        "roles_created": [],
        "roles_changed": [],
        "notes": [],
    }


def _figures(tables: list[Table]) -> dict[str, object]:
    return {
        "bytes": sum(table.total_bytes for table in tables),
        "rows": 0,
        "tables": len(tables),
        "sequences": 0,
        "large_objects": 0,
        "seconds": 0.0,
        "parts": {},
        "roles_created": [],
        "roles_changed": [],
    }


def _notes(source: Connection, properties: Properties) -> list[str]:
    """Sentences about what is left behind on purpose."""
    notes = []
    spaces = query(
        source,
        "SELECT DISTINCT spcname FROM pg_class c JOIN pg_tablespace t ON t.oid = c.reltablespace"
        " WHERE c.oid >= 16384 ORDER BY 1",
    )
    names = [str(row[0]) for row in spaces]
    if properties.tablespace != "pg_default":
        names.append(properties.tablespace)
    if names:
        notes.append(
            f"Tablespaces are ignored ({', '.join(names)}): everything lies in the target's default tablespace."
        )
    invalid = query(
        source,
        # A partitioned index is invalid until every partition has its part, and comes along like that.
        "SELECT indexrelid::regclass::text FROM pg_index JOIN pg_class c ON c.oid = indexrelid"
        " WHERE NOT indisvalid AND indexrelid >= 16384 AND c.relkind = 'i' ORDER BY 1",
    )
    if invalid:
        notes.append(f"Invalid indexes are not copied: {', '.join(str(row[0]) for row in invalid)}.")
    return notes


class _Stages:
    """Seconds of each stage, and progress."""

    def __init__(self, report: Progress, total_bytes: int) -> None:
        self._report = report
        self._total = total_bytes
        self._bytes = 0
        self._rows = 0
        self._started = time.monotonic()
        self.seconds: dict[str, float] = {}
        self._name = ""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self._name = name
        started = time.monotonic()
        self.passed(0, 0)
        yield
        self.seconds[name] = round(time.monotonic() - started, 3)

    def passed(self, size: int, rows: int) -> None:
        self._bytes += size
        self._rows += rows
        self._report(
            {
                "phase": self._name,
                "bytes": self._bytes,
                "total_bytes": self._total,
                "rows": self._rows,
                "seconds": round(time.monotonic() - self._started, 1),
            }
        )

    @property
    def elapsed(self) -> float:
        return round(time.monotonic() - self._started, 3)


def _copy(
    request: Request,
    *,
    source: Connection,
    target: Target,
    properties: Properties,
    roles: list[Role],
    other_versions: bool,
    progress: Progress,
) -> dict[str, object]:
    versions = (source.info.server_version, target.connection.info.server_version)
    with ExitStack() as stack:
        snapshot = stack.enter_context(exported_snapshot(source))
        tables = read_tables(source)
        stages = _Stages(progress, sum(table.total_bytes for table in tables))
        with stages.stage("schema"):
            archive = stack.enter_context(database_schema.archive_in_memory())
            database_schema.dump(request.source, versions, snapshot, archive)
            created, changed = apply_roles(
                target.connection, roles, database=target.name, keep_passwords=request.keep_role_passwords
            )
            target.create(properties)
            inside = stack.enter_context(request.target.connect(options="-c synchronous_commit=off"))
            with _refusal("The schema"):
                _drop_what_the_source_has_not(source, inside)
                if other_versions:
                    schemas, rest = database_schema.split_entries(versions, archive, database_schema.SCHEMA_ENTRY)
                    database_schema.restore(request.target, versions, archive, "pre-data", only=schemas)
                    create_extensions(source, inside)
                    database_schema.restore(request.target, versions, archive, "pre-data", only=rest)
                else:
                    database_schema.restore(request.target, versions, archive, "pre-data")
                give_extensions_their_owners(source, inside)
                empty_configuration_tables(inside, tables)
                loosened = loosen(inside)
        transfer = Transfer(
            request.source,
            request.target,
            snapshot=snapshot,
            encoding=properties.encoding,
            versions=versions,
            progress=stages.passed,
        )
        with stages.stage("data"):
            with _refusal("The schema"):
                late = _not_yet_there(inside, tables)
            at_once = [table for table in tables if table not in late]
            rows = transfer.run(cut(at_once, ranges=versions[0] >= 140000, jobs=request.jobs), request.jobs)
        with stages.stage("large_objects"), _refusal("The large objects"):
            large_objects = copy_large_objects(source, inside, lambda size: stages.passed(size, 0))
        with stages.stage("post_data"), _refusal("What follows the rows"):
            tighten(inside, loosened)
            sequences = _set_sequences(source, inside)
            event_triggers = _restore_post_data(request, source, versions, archive)
            if late:
                loosened = loosen(inside)
                rows += transfer.run(cut(late, ranges=False, jobs=1), 1)
                tighten(inside, loosened)
            set_internal_triggers(source, inside)
            if event_triggers:  # nothing that the copy does may fire them
                database_schema.restore(request.target, versions, archive, "post-data", only=event_triggers)
        with stages.stage("statistics"), _refusal("The statistics"):
            analyse(inside)
        target.finish(properties, roles, request.connection_limit)
        return {
            "bytes": sum(table.total_bytes for table in tables),
            "rows": rows,
            "tables": len(tables),
            "sequences": sequences,
            "large_objects": large_objects,
            "seconds": stages.elapsed,
            "parts": stages.seconds,
            "roles_created": created,
            "roles_changed": changed,
        }


@contextmanager
def _refusal(what: str) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise MigrationError(
            f"{what} could not be copied: {one_line(error)}",
            check="copy-failed",
            action="Mend the cause that PostgreSQL names, then run again: it starts over by itself",
        ) from error


def _not_yet_there(inside: Connection, tables: list[Table]) -> list[Table]:
    """Materialised views that need more than the tables: grouped by a primary key, they are made after it, with what follows the rows."""
    views = {table.identifier: table for table in tables if table.materialised_view}
    missing = query(inside, "SELECT v FROM unnest(%s::text[]) v WHERE to_regclass(v) IS NULL", (list(views),))
    return [views[name] for (name,) in missing]


def _drop_what_the_source_has_not(source: Connection, inside: Connection) -> None:
    """A new database brings a schema and a language that the source may have dropped."""
    if not value(source, "SELECT count(*) FROM pg_namespace WHERE nspname = 'public'"):
        inside.execute("DROP SCHEMA public")
    if not value(source, "SELECT count(*) FROM pg_extension WHERE extname = 'plpgsql'"):
        inside.execute("DROP EXTENSION plpgsql")


def _restore_post_data(request: Request, source: Connection, versions: tuple[int, int], archive: int) -> bytes:
    """Indexes, constraints, triggers, policies and the rest; returns the list of what is left for the very end: event triggers.

    pg_dump writes down the triggers of partitions whose state is not their parent's. They come last, and with them what is said
    about triggers, as it does not say that the parent's must be made before. Those that constraints made have other names on
    the target, so these entries are left out: :func:`set_internal_triggers` gives them their states.

    A partition's own foreign key comes before those of its parents, which give theirs another name where it has the same.

    Indexes of partitions are attached to their parents' one after the other, and only then come foreign keys: attached at the same
    time on two levels, a parent's index was once in some hundred times left without its mark of being whole (PostgreSQL 15.18,
    ``pg_restore --jobs=8``), and a foreign key to such a table is refused.
    """
    of_constraints, of_partitions = (
        [
            [row[0] for row in query(source, f"SELECT oid FROM pg_trigger WHERE tgparentid <> 0 AND {condition}")]  # noqa: S608
            # PostgreSQL 13 and 14 call all triggers of partitions internal.
            for condition in ("tgconstraint <> 0", "tgconstraint = 0")
        ]
        if versions[0] >= 130000
        else ([], [])
    )
    own_keys = _foreign_keys_of_partitions(source) if versions[0] >= 110000 else []
    *own, _, event_triggers, states, trigger_comments, attachments, foreign_keys, first = database_schema.split_entries(
        versions,
        archive,
        *(database_schema.foreign_key_entries(numbers) for numbers in own_keys),
        database_schema.trigger_entries(of_constraints),
        database_schema.EVENT_TRIGGER_ENTRY,
        database_schema.trigger_entries(of_partitions),
        database_schema.TRIGGER_COMMENT_ENTRY,
        database_schema.INDEX_ATTACH_ENTRY,
        database_schema.FOREIGN_KEY_ENTRY,
    )
    jobs = max(2, request.jobs)
    in_order = [(first, jobs), (attachments, 1), *((entries, 1) for entries in own), (foreign_keys, jobs)]
    if not attachments and not own:
        in_order = [(first + foreign_keys, jobs)]
    for entries, at_once in (*in_order, (states + trigger_comments, 1)):
        if entries:
            database_schema.restore(request.target, versions, archive, "post-data", jobs=at_once, only=entries)
    return event_triggers


def _foreign_keys_of_partitions(source: Connection) -> list[list[int]]:
    """Numbers of those that are no part of a parent's, by the level of their tables: the deepest first."""
    found = query(
        source,
        "WITH RECURSIVE above(key, relation, level) AS ("
        "SELECT k.oid, k.conrelid, 0 FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid"
        " WHERE k.contype = 'f' AND k.conparentid = 0 AND c.relispartition"
        " UNION ALL SELECT key, inhparent, level + 1 FROM above JOIN pg_inherits ON inhrelid = relation)"
        ", levels AS (SELECT key, max(level) AS level FROM above GROUP BY key)"
        " SELECT array_agg(key) FROM levels GROUP BY level ORDER BY level DESC",
    )
    return [keys for (keys,) in found]


def _set_sequences(source: Connection, inside: Connection) -> int:
    values = read_sequences(source)
    items = list(values.items())
    # In batches: each sequence stays locked until the end of its transaction, and a server has few thousands of locks.
    for start in range(0, len(items), 500):
        with inside.transaction():
            for (schema, name), (last_value, is_called) in items[start : start + 500]:
                inside.execute("SELECT setval(%s::regclass, %s, %s)", (identifier(schema, name), last_value, is_called))
    return len(values)
