"""Whether foreign keys and deferred constraints are enforced: the state of their internal triggers, of which ``pg_dump`` knows nothing.

``ALTER TABLE … DISABLE TRIGGER ALL`` before a bulk load, and never undone, leaves a foreign key that checks no row.
"""

from __future__ import annotations

from collections.abc import Mapping

from .database_connection import Connection, identifier, query

# A trigger's own name holds a number of the catalogue; what it does for which constraint on which table does not.
_STATES = """
SELECT n.nspname, c.relname, t.tgname, format('%I.%I', cn.nspname, cc.relname), coalesce(k.conname, ''),
       t.tgfoid::regproc::text, t.tgenabled
FROM pg_trigger t
JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_constraint k ON k.oid = t.tgconstraint
LEFT JOIN pg_class cc ON cc.oid = k.conrelid LEFT JOIN pg_namespace cn ON cn.oid = cc.relnamespace
WHERE t.tgisinternal AND t.tgrelid >= 16384
ORDER BY 1, 2, 4, 5, 6
"""
_WORDS = {"O": "ENABLE", "D": "DISABLE", "R": "ENABLE REPLICA", "A": "ENABLE ALWAYS"}

_Key = tuple[str, str, str, str, str]


def _read(connection: Connection) -> dict[_Key, tuple[str, str]]:
    """(schema, table, table of the constraint, constraint, function) → (name, state)."""
    return {
        (schema, table, constrained, constraint, function): (name, _text(state))
        for schema, table, name, constrained, constraint, function, state in query(connection, _STATES)
    }


def _text(state: str | bytes) -> str:
    return state if isinstance(state, str) else state.decode()


def read_internal_triggers(connection: Connection) -> Mapping[str, str]:
    """``schema.table: constraint, function`` → ``enabled``-like words, for those that are not simply enabled."""
    return {
        f"{schema}.{table}: {constraint} ({function})": _WORDS[state].lower()
        for (schema, table, _, constraint, function), (_, state) in _read(connection).items()
        if state != "O"
    }


def set_internal_triggers(source: Connection, inside: Connection) -> None:
    """Give those of the target, made by their constraints, the source's states."""
    wanted = {key: state for key, (_, state) in _read(source).items() if state != "O"}
    if not wanted:
        return
    found = _read(inside)
    for key, state in wanted.items():
        inside.execute(
            f"ALTER TABLE ONLY {identifier(*key[:2])} {_WORDS[state]} TRIGGER {identifier(found[key][0])}".encode()
        )
