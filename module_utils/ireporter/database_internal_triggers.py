"""Whether foreign keys and deferred constraints are enforced: the state of their internal triggers, of which ``pg_dump`` knows nothing.

``ALTER TABLE … DISABLE TRIGGER ALL`` before a bulk load, and never undone, leaves a foreign key that checks no row.
"""

from __future__ import annotations

from collections.abc import Mapping

from .database_connection import Connection, identifier, query
from .errors import MigrationError

# A trigger's own name holds a number of the catalogue; what it does for which constraint on which table does not. Nor does the
# constraint's name where it is a part of a partitioned table's: that one counts its partitions in the order they were made.
_STATES = """
WITH RECURSIVE named (oid, top, name) AS (
    SELECT oid, conrelid, conname FROM pg_constraint WHERE {parent} = 0
    UNION ALL SELECT k.oid, n.top, n.name FROM pg_constraint k JOIN named n ON {parent} = n.oid AND {parent} <> 0)
SELECT n.nspname, c.relname, t.tgname, format('%I.%I', cn.nspname, cc.relname), coalesce(k.top, 0)::regclass::text,
       coalesce(k.name, ''), t.tgfoid::regproc::text, t.tgenabled
FROM pg_trigger t
JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN named k ON k.oid = t.tgconstraint LEFT JOIN pg_constraint o ON o.oid = k.oid
LEFT JOIN pg_class cc ON cc.oid = o.conrelid LEFT JOIN pg_namespace cn ON cn.oid = cc.relnamespace
WHERE t.tgisinternal AND t.tgconstraint <> 0 AND t.tgrelid >= 16384
ORDER BY 1, 2, 4, 5, 6, 7
"""
_WORDS = {"O": "ENABLE", "D": "DISABLE", "R": "ENABLE REPLICA", "A": "ENABLE ALWAYS"}

_Key = tuple[str, str, str, str, str, str]


def _read(connection: Connection) -> dict[_Key, tuple[str, str]]:
    """(schema, table, table of the constraint, table of the topmost one it is a part of, that one's name, function) → (name, state)."""
    parent = "conparentid" if connection.info.server_version >= 110000 else "0"
    return {
        (schema, table, constrained, top, constraint, function): (name, _text(state))
        for schema, table, name, constrained, top, constraint, function, state in query(
            connection, _STATES.format(parent=parent)
        )
    }


def _text(state: str | bytes) -> str:
    return state if isinstance(state, str) else state.decode()


def read_internal_triggers(connection: Connection) -> Mapping[str, str]:
    """``schema.table: constraint, function`` → ``enabled``-like words, for those that are not simply enabled."""
    return {
        f"{schema}.{table}: {constraint} ({function})": _WORDS[state].lower()
        for (schema, table, _, _, constraint, function), (_, state) in _read(connection).items()
        if state != "O"
    }


def set_internal_triggers(source: Connection, inside: Connection) -> None:
    """Give those of the target, made by their constraints, the source's states.

    :raises MigrationError: the target has not made one of them (check ``copy-failed``).
    """
    wanted = {key: state for key, (_, state) in _read(source).items() if state != "O"}
    if not wanted:
        return
    found = _read(inside)
    for key, state in wanted.items():
        if key not in found:
            raise MigrationError(
                f"The constraint {key[4]} of {key[3]} has no trigger on {key[0]}.{key[1]} on the target, as it has on the source",
                check="copy-failed",
                action="Run again; if it stays so, report it with the versions of both PostgreSQL",
            )
        inside.execute(
            f"ALTER TABLE ONLY {identifier(*key[:2])} {_WORDS[state]} TRIGGER {identifier(found[key][0])}".encode()
        )
