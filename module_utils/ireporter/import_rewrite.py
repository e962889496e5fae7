"""Carries out the rules for what must not come along, on what was restored and verified, beside the tenant's own. Counted, once."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql

from .database_connection import Connection, identifier, query
from .database_settings import set_clause
from .errors import MigrationError
from .import_rules import Condition, FileRule, ValueRule
from .import_server import REWRITTEN, Server, refused

_COMPARISONS: Final = {
    "equals": "{} IS NOT DISTINCT FROM %s",
    "starts_with": "starts_with({}::text, %s)",
    "contains": "strpos({}::text, %s) > 0",
    "is_null": "{} IS NULL",
    "is_not_null": "{} IS NOT NULL",
}


def count(server: Server, database: str, rules: Sequence[ValueRule]) -> list[dict[str, Any]]:
    """What the rules would change, as they are carried out one after the other; nothing is changed."""
    return _carry_out(server, database, rules, keep=False)


def values(server: Server, database: str, rules: Sequence[ValueRule], import_id: str) -> list[dict[str, Any]]:
    """Carry them out in one transaction, which also marks the database: a run that was killed sees whether it was done.

    :returns: per rule ``rule``, ``reason``, ``rows``; where it was done before, without ``rows``.
    """
    found = server.database(database)
    if found is not None and found.settings.get(REWRITTEN) == import_id:
        return [{"rule": rule.name, "reason": rule.reason} for rule in rules]
    return _carry_out(server, database, rules, keep=True, mark=f"{REWRITTEN}={import_id}")


def _carry_out(
    server: Server, database: str, rules: Sequence[ValueRule], *, keep: bool, mark: str = ""
) -> list[dict[str, Any]]:
    done = []
    try:
        with (
            server.wish.address(database).connect() as session,
            session.transaction(force_rollback=not keep),
        ):
            # No trigger of the tenant's notes this down, and no foreign key follows: only what the rules name changes.
            session.execute("SET LOCAL session_replication_role = replica")
            for rule in rules:
                done.append({"rule": rule.name, "reason": rule.reason, "rows": _update(session, rule)})
            if keep:
                session.execute("SET LOCAL synchronous_commit = on")
                session.execute(f"ALTER DATABASE {identifier(database)} {set_clause(mark)}".encode())
    except psycopg.Error as error:
        raise refused(error) from error
    return done


def _update(session: Connection, rule: ValueRule) -> int:
    """:raises MigrationError: there is no such table or column, or it cannot hold the value (check ``import-rules``)."""
    names = {
        str(name)
        for (name,) in query(
            session,
            "SELECT a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped",
            (rule.schema, rule.table),
        )
    }
    for name in (rule.column, *(condition.column for condition in rule.conditions)):
        if name not in names:
            what = (
                f"the column {name} of {rule.schema}.{rule.table}" if names else f"the table {rule.schema}.{rule.table}"
            )
            raise MigrationError(
                f"The rule {rule.name!r} names {what}, which the bundle's database has not",
                check="import-rules",
                action="Correct the rule, or remove it",
            )
    column = _identifier(rule.column)
    parameters: list[str | None] = []
    if rule.part is not None:
        new: sql.Composable = sql.SQL("replace({}, %s, %s)").format(column)
        parameters += [rule.part, rule.by]
    else:
        new = sql.SQL("%s")
        parameters.append(rule.value)
    where, compared = _where(rule.conditions)
    statement = sql.SQL("UPDATE {} SET {} = {} WHERE {}").format(
        _identifier(rule.schema, rule.table), column, new, where
    )
    # Only what becomes another value: the count says what the rule did. Compared as text, because json has no equality.
    different = sql.SQL(" AND {}::text IS DISTINCT FROM ({})::text").format(column, new)
    try:
        return session.execute(statement + different, [*parameters, *compared, *parameters]).rowcount
    except psycopg.Error as error:
        raise MigrationError(
            f"The rule {rule.name!r} cannot be carried out: {' '.join(str(error).split())}",
            check="import-rules",
            action="Correct the rule, or remove it",
        ) from error


def _identifier(*names: str) -> sql.Identifier:
    # psycopg looks for placeholders in quoted names, too.
    return sql.Identifier(*(name.replace("%", "%%") for name in names))


def _where(conditions: Sequence[Condition]) -> tuple[sql.Composable, list[str]]:
    parts = [
        sql.SQL(_COMPARISONS[condition.comparison]).format(_identifier(condition.column)) for condition in conditions
    ]
    parameters = [condition.text for condition in conditions if condition.text is not None]
    return sql.SQL(" AND ").join(parts) if parts else sql.SQL("true"), parameters


def files(trees: Mapping[str, Path], rules: Sequence[FileRule], *, keep: bool) -> list[dict[str, Any]]:
    """Put the server's own files into the imported trees, and take others away.

    :param trees: name → folder of the imported tree.
    :param keep: False only says what would be changed.
    :returns: per rule ``rule``, ``reason``, ``files`` (1 where it changes something, else 0).
    :raises MigrationError: a file cannot be put there (check ``import-rules``).
    """
    return [
        {"rule": rule.name, "reason": rule.reason, "files": int(_file(trees[rule.tree], rule, keep=keep))}
        for rule in rules
    ]


def _file(tree: Path, rule: FileRule, *, keep: bool) -> bool:
    target = tree / rule.path
    for above in list(target.relative_to(tree).parents)[:-1]:
        folder = tree / above
        if folder.is_symlink() or (os.path.lexists(folder) and not folder.is_dir()):
            raise MigrationError(
                f"{folder} is a link or a file in the bundle, so the rule {rule.name!r} would lead out of its tree",
                check="import-rules",
                action="Correct the rule's path",
            )
    if rule.source is None:
        there = os.path.lexists(target)
        if there and keep:
            if target.is_dir() and not target.is_symlink():
                raise MigrationError(
                    f"{rule.path} in the file tree {rule.tree} is a folder; the rule {rule.name!r} takes away files only",
                    check="import-rules",
                    action="Name the files",
                )
            target.unlink()
        return there
    if _same(rule.source, target):
        return False
    if keep:
        _place(rule.source, tree, target)
    return True


def _place(source: Path, tree: Path, target: Path) -> None:
    """A whole copy with owner, mode and times, under its name only when it is complete."""
    root = tree.stat()
    for folder in reversed(list(_missing(target.parent))):
        folder.mkdir(mode=stat.S_IMODE(root.st_mode))
        os.chown(folder, root.st_uid, root.st_gid)
    beside = target.with_name(f".{target.name}.unfinished")
    with suppress(FileNotFoundError):
        beside.unlink()
    # The name was checked to be no link a moment ago; should it have become one, this refuses it.
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as read, beside.open("xb") as written:
        shutil.copyfileobj(read, written)
        seen = os.fstat(read.fileno())
        os.fchown(written.fileno(), seen.st_uid, seen.st_gid)
        os.fchmod(written.fileno(), stat.S_IMODE(seen.st_mode))
        written.flush()
        os.utime(written.fileno(), ns=(seen.st_atime_ns, seen.st_mtime_ns))
        os.fsync(written.fileno())
    beside.replace(target)


def _missing(folder: Path) -> Iterator[Path]:
    while not folder.exists():
        yield folder
        folder = folder.parent


def _same(source: Path, target: Path) -> bool:
    if target.is_symlink() or not target.is_file():
        return False
    ours, theirs = source.stat(), target.stat()
    return (ours.st_size, ours.st_mode, ours.st_uid, ours.st_gid) == (
        theirs.st_size,
        theirs.st_mode,
        theirs.st_uid,
        theirs.st_gid,
    ) and source.read_bytes() == target.read_bytes()
