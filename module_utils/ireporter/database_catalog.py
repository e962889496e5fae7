"""What a database holds that has contents: tables, materialised views, sequences; and how its types travel exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .database_connection import Connection, identifier, query

FIRST_USER_OID = 16384
_SIZE_OF_A_PAGE = 8192  # of nearly every server; only the cutting into parts depends on it

# Their binary form is the number of a catalogue row, which another database gives to another object.
_NUMBERED_TYPES = {
    "regclass", "regcollation", "regconfig", "regdictionary", "regnamespace", "regoper", "regoperator", "regproc",
    "regprocedure", "regrole", "regtype",
}  # fmt: skip

# Their text form is exact but for the bits of a NaN, which inf - inf makes with a sign that 'NaN' has not.
_FLOATS = {"float4", "float8", "point", "lseg", "path", "box", "polygon", "line", "circle"}
# Their output leaves the XML declaration out; as text they are what is stored.
_XML = {142: "xml::text", 143: "xml[]::text[]"}

_TYPES = """
SELECT t.oid, t.typname, n.nspname, t.typtype, t.typbasetype, t.typelem,
       (t.typelem <> 0 AND t.typlen = -1 AND EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)),
       coalesce(r.rngsubtype, m.rngsubtype, 0), t.typsend::oid, t.typreceive::oid,
       coalesce(sn.nspname, ''), coalesce(s.proname, ''), format_type(t.oid, -1)
FROM pg_type t
JOIN pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_range r ON r.rngtypid = t.oid
LEFT JOIN pg_range m ON {multirange} = t.oid
LEFT JOIN pg_proc s ON s.oid = t.typsend
LEFT JOIN pg_namespace sn ON sn.oid = s.pronamespace
"""

_TABLES = """
SELECT c.oid, n.nspname, c.relname, c.relkind, c.relpersistence, c.relispopulated, c.relam,
       pg_table_size(c.oid), pg_relation_size(c.oid),
       coalesce(cfg.condition, ''),
       d.objid IS NOT NULL
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0 AND d.deptype = 'e'
LEFT JOIN LATERAL (
    SELECT e.extcondition[k] AS condition, true AS listed
    FROM pg_extension e, generate_subscripts(e.extconfig, 1) k
    WHERE e.oid = d.refobjid AND e.extconfig[k] = c.oid
) cfg ON true
WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_toast%'
  AND n.nspname NOT LIKE 'pg\\_temp\\_%'
  AND (d.objid IS NULL OR cfg.listed)
ORDER BY n.nspname, c.relname
"""

_COLUMNS = """
SELECT a.attrelid, a.attname, a.atttypid, {stored}
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid
WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'm') AND c.oid >= 16384
  AND NOT {virtual}
ORDER BY a.attrelid, a.attnum
"""

_SEQUENCES = """
SELECT n.nspname, c.relname
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0 AND d.deptype = 'e'
WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND n.nspname NOT LIKE 'pg\\_temp\\_%'
  AND (d.objid IS NULL OR EXISTS (SELECT FROM pg_extension e WHERE e.oid = d.refobjid AND c.oid = ANY (e.extconfig)))
ORDER BY 1, 2
"""


@dataclass(frozen=True)
class Type:
    """One row of ``pg_type``, as far as exact copying needs it."""

    oid: int
    name: str
    schema: str
    kind: str
    base: int
    element: int
    is_array: bool
    range_subtype: int
    has_binary: bool
    send_function: str
    expression: str

    @property
    def built_in(self) -> bool:
        """Its number is the same in every PostgreSQL server."""
        return self.oid < FIRST_USER_OID


@dataclass(frozen=True)
class Column:
    """A column that is not dropped.

    :param generated: its value is computed from others, and stored.
    :param exact_text: an SQL expression for what is stored where the type's own output does not show it, else empty.
    """

    name: str
    type: Type
    generated: bool
    exact_text: str = ""


@dataclass(frozen=True)
class Table:
    """A table or materialised view whose rows are copied and compared.

    :param condition: ``WHERE …`` of an extension's configuration table, else empty.
    :param total_bytes: with TOAST, without indexes.
    :param pages: of the main part, where ``ctid`` counts.
    """

    schema: str
    name: str
    kind: str
    populated: bool
    total_bytes: int
    pages: int
    condition: str
    extension_member: bool
    columns: tuple[Column, ...]
    carries_numbers: frozenset[str] = field(default_factory=frozenset)

    @property
    def identifier(self) -> str:
        return identifier(self.schema, self.name)

    @property
    def label(self) -> str:
        """For messages: ``schema.name``."""
        return f"{self.schema}.{self.name}"

    @property
    def materialised_view(self) -> bool:
        return self.kind == "m"

    @property
    def travels_as_text(self) -> bool:
        """Whether a column's binary form does not say, in another database, what is stored."""
        return bool(self.carries_numbers) or any(column.exact_text for column in self.columns)

    def copied_columns(self) -> str:
        """``("a", "b")`` of every column; empty where there is none."""
        return f"({', '.join(identifier(column.name) for column in self.columns)})" if self.columns else ""

    def selected_columns(self) -> str:
        """What :meth:`copied_columns` are filled with: ``"a", "b"``."""
        return ", ".join(column.exact_text or identifier(column.name) for column in self.columns)


def carries_numbers(types: Mapping[int, Type], oid: int) -> bool:
    """Whether the type's binary form holds catalogue numbers (or does not exist), so that only its text is exact elsewhere."""
    wanted = types[oid]
    if not wanted.has_binary or (wanted.name in _NUMBERED_TYPES and wanted.schema == "pg_catalog"):
        return True
    if wanted.kind == "d":
        return carries_numbers(types, wanted.base)
    if wanted.kind == "c":
        return True
    if wanted.is_array:
        return wanted.element >= FIRST_USER_OID or carries_numbers(types, wanted.element)
    if wanted.kind in ("r", "m") and wanted.range_subtype:
        return carries_numbers(types, wanted.range_subtype)
    return False


def holds_floats(types: Mapping[int, Type], oid: int) -> bool:
    """Whether the values hold floating-point numbers anywhere, so that their text does not tell one NaN from another."""
    wanted = types[oid]
    if wanted.schema == "pg_catalog" and wanted.name in _FLOATS:
        return True
    below = (wanted.base if wanted.kind == "d" else 0, wanted.element if wanted.is_array else 0, wanted.range_subtype)
    return any(holds_floats(types, number) for number in below if number)


def read_types(connection: Connection) -> dict[int, Type]:
    """Every type of the database by its number."""
    multirange = "m.rngmultitypid" if connection.info.server_version >= 140000 else "0"
    types = {}
    for row in query(connection, _TYPES.format(multirange=multirange)):
        send = identifier(row[10], row[11]) if row[11] else ""
        types[row[0]] = Type(
            row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7], bool(row[8] and row[9]), send, row[12]
        )
    return types


def read_tables(connection: Connection) -> list[Table]:
    """Every table and materialised view with rows of its own, of the session's snapshot; sorted by name."""
    types = read_types(connection)
    stored, virtual = "false", "false"
    if connection.info.server_version >= 120000:
        stored, virtual = "a.attgenerated = 's'", "a.attgenerated = 'v'"
    columns: dict[int, list[Column]] = {}
    for relation, name, type_number, is_generated in query(connection, _COLUMNS.format(stored=stored, virtual=virtual)):
        cast = _XML.get(read_base_types(types, type_number).oid)
        exact_text = f"{identifier(name)}::{cast}" if cast else ""
        columns.setdefault(relation, []).append(Column(name, types[type_number], is_generated, exact_text))
    tables = []
    for row in query(connection, _TABLES):
        own = tuple(columns.get(row[0], ()))
        tables.append(
            Table(
                schema=row[1],
                name=row[2],
                kind=row[3],
                populated=row[5],
                total_bytes=row[7] or 0,
                pages=(row[8] or 0) // _SIZE_OF_A_PAGE,
                condition=row[9],
                extension_member=row[10],
                columns=own,
                carries_numbers=frozenset(c.name for c in own if carries_numbers(types, c.type.oid)),
            )
        )
    return tables


def read_base_types(types: Mapping[int, Type], oid: int) -> Type:
    """The type below any domains."""
    found = types[oid]
    while found.kind == "d":
        found = types[found.base]
    return found


def read_sequences(connection: Connection) -> dict[tuple[str, str], tuple[int, bool]]:
    """Last value and whether it was handed out, by schema and name."""
    names = [(str(schema), str(name)) for schema, name in query(connection, _SEQUENCES)]
    result = {}
    for start in range(0, len(names), 200):
        batch = names[start : start + 200]
        # Rolled back, so that the locks do not add up: a server has few for one per sequence.
        statement = " UNION ALL ".join(
            f"SELECT {position}, last_value, is_called FROM {identifier(*name)}"  # noqa: S608 - quoted by psycopg
            for position, name in enumerate(batch)
        )
        with connection.transaction(force_rollback=True):
            for position, last_value, is_called in query(connection, statement):
                result[batch[position]] = (last_value, is_called)
    return result
