"""Where a database keeps values of certain built-in types: in columns, and inside of their domains, arrays, ranges, composite types."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from .database_connection import Connection, identifier, query

_TYPES = """
SELECT t.oid, t.typname, t.typtype, t.typbasetype, t.typrelid,
       CASE WHEN EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid) THEN t.typelem ELSE 0 END,
       coalesce((SELECT rngsubtype FROM pg_range WHERE rngtypid = t.oid), 0), format_type(t.oid, -1), t.oid < 16384
FROM pg_type t
"""
_ATTRIBUTES = """
SELECT attrelid, attname, atttypid FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped ORDER BY attrelid, attnum
"""
_TABLES = """
SELECT c.oid, n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relpersistence <> 't' AND c.oid >= 16384 AND (c.relkind = 'r' OR c.relkind = 'm' AND c.relispopulated)
ORDER BY 2, 3
"""


@dataclass(frozen=True)
class Place:
    """Values of one built-in type in one column.

    :param type_name: of the built-in type.
    :param rows: what stands behind ``FROM``, with as many rows as there are values (some may be NULL).
    :param expression: one value of such a row.
    """

    schema: str
    table: str
    column: str
    type_name: str
    rows: str
    expression: str


@dataclass(frozen=True)
class _Type:
    name: str
    kind: str
    base: int
    relation: int
    element: int
    subtype: int
    expression: str
    built_in: bool


class _Places:
    def __init__(self, connection: Connection, wanted: Collection[str]) -> None:
        self._wanted = frozenset(wanted)
        self._types = {int(row[0]): _Type(*row[1:]) for row in query(connection, _TYPES)}
        self._attributes: dict[int, list[tuple[str, int]]] = {}
        for relation, name, number in query(connection, _ATTRIBUTES):
            self._attributes.setdefault(relation, []).append((name, number))

    def of_table(self, number: int, schema: str, table: str) -> Iterator[Place]:
        for column, type_number in self._attributes.get(number, ()):
            rows = f"ONLY {identifier(schema, table)} AS t"
            for name, more, expression in self._inside(type_number, f"t.{identifier(column)}", 1):
                yield Place(schema, table, column, name, rows + more, expression)

    def _inside(self, number: int, value: str, depth: int) -> Iterator[tuple[str, str, str]]:
        """Type, what comes behind the table in ``FROM``, expression, of everything wanted inside of ``value``.

        No type holds itself, PostgreSQL sees to that.
        """
        found = self._types[number]
        if found.built_in and found.name in self._wanted:
            yield found.name, "", value
        elif found.kind == "d":
            yield from self._inside(found.base, f"({value})::{self._types[found.base].expression}", depth)
        elif found.kind == "c":
            for name, attribute in self._attributes.get(found.relation, ()):
                yield from self._inside(attribute, f"({value}).{identifier(name)}", depth)
        elif found.element:
            for name, more, expression in self._inside(found.element, f"u{depth}.v", depth + 1):
                # In FROM itself, unnest would take composite values apart.
                yield name, f", LATERAL (SELECT unnest({value}) AS v) AS u{depth}{more}", expression
        elif found.subtype:
            for bound in ("lower", "upper"):
                yield from self._inside(found.subtype, f"{bound}({value})", depth)


def read_value_places(connection: Connection, wanted: Collection[str]) -> list[Place]:
    """Every place where tables and materialised views may hold values of the built-in types ``wanted``; sorted by table."""
    places = _Places(connection, wanted)
    return [place for row in query(connection, _TABLES) for place in places.of_table(*row)]
