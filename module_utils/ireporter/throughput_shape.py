# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shape of a tenant's data: kinds and widths of columns, indexes, size of files. It holds no name and no value of the tenant's.

Written by the sample of the source, read by the sample of a restore, which makes data of that shape on a server that must not see
the tenant's::

    {"tables": [{"share": 0.7, "row_bytes": 180.5, "columns": [{"type": "bigint", "bytes": 8.0, "empty": 0.0}], "indexes": [[0]]}],
     "files": {"files": 1000, "bytes": 10000000}}

``share`` is of the bytes of all rows, ``row_bytes`` with what lies in TOAST, ``empty`` the share of NULLs. An index is a list of
positions of columns. ``files`` is null where there is no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Final

from .database_catalog import Table, read_base_types
from .database_connection import identifier, query
from .errors import MigrationError
from .plan_facts import Facts
from .throughput_database import Piece, SampledDatabase

# What a made value may be. Whatever else a column is, its text has the same width.
TYPES: Final = (
    "smallint", "integer", "bigint", "boolean", "real", "double precision", "numeric", "date", "timestamp without time zone",
    "timestamp with time zone", "uuid", "bytea", "json", "jsonb", "text",
)  # fmt: skip
_LARGEST_TABLES: Final = 12
_LOOKED_AT: Final = 2000
# Of each row: its head, and its line pointer.
_HEAD_BYTES: Final = 28
_INDEXES = """
SELECT ARRAY(SELECT a.attname FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place)
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum ORDER BY k.place)
FROM pg_index i WHERE i.indrelid = %s::regclass AND i.indisvalid ORDER BY i.indexrelid
"""


@dataclass(frozen=True)
class ColumnShape:
    """``width`` in bytes as stored, of values that are not NULL."""

    type: str
    width: float
    empty: float


@dataclass(frozen=True)
class TableShape:
    """As the module's docstring says."""

    share: float
    row_bytes: float
    columns: tuple[ColumnShape, ...]
    indexes: tuple[tuple[int, ...], ...]

    def as_result(self) -> dict[str, object]:
        return {
            "share": round(self.share, 6),
            "row_bytes": round(self.row_bytes, 1),
            "columns": [
                {"type": column.type, "bytes": round(column.width, 1), "empty": round(column.empty, 4)}
                for column in self.columns
            ],
            "indexes": [list(index) for index in self.indexes],
        }


@dataclass(frozen=True)
class Shape:
    """``files``: number and bytes, or None."""

    tables: tuple[TableShape, ...]
    files: tuple[int, int] | None

    def as_result(self) -> dict[str, object]:
        return {
            "tables": [table.as_result() for table in self.tables],
            "files": None if self.files is None else {"files": self.files[0], "bytes": self.files[1]},
        }


# Where nobody looked at a source: reports' values, pictures and a log, as the public names of i-Reporter's tables suggest.
USUAL: Final = Shape(
    tables=(
        TableShape(
            0.6, 140.0,
            (
                ColumnShape("bigint", 8, 0), ColumnShape("bigint", 8, 0), ColumnShape("integer", 4, 0),
                ColumnShape("text", 60, 0.1), ColumnShape("timestamp with time zone", 8, 0),
            ),
            ((0,), (1, 2)),
        ),
        TableShape(0.4, 60_000.0, (ColumnShape("bigint", 8, 0), ColumnShape("bytea", 59_000, 0)), ((0,),)),
    ),
    files=(1000, 20_000_000),
)  # fmt: skip


def measure(database: SampledDatabase, pieces: Sequence[Piece], files: tuple[int, int] | None) -> Shape:
    """Look at a few rows of the largest tables among ``pieces``."""
    total = sum(table.total_bytes for table in database.tables)
    first = {piece.portion.table.identifier: piece for piece in reversed(pieces)}
    largest = sorted(first.values(), key=lambda piece: -piece.portion.table.total_bytes)[:_LARGEST_TABLES]
    shown = sum(piece.portion.table.total_bytes for piece in largest)
    tables = [_table(database, piece, piece.portion.table.total_bytes / shown) for piece in largest]
    return Shape(tuple(table for table in tables if table is not None) if total else (), files)


def _table(database: SampledDatabase, piece: Piece, share: float) -> TableShape | None:
    table = piece.portion.table
    columns = [column for column in table.columns if not column.generated]
    widths = "".join(
        f", avg(pg_column_size({identifier(column.name)}))::float8, count({identifier(column.name)})"
        for column in columns
    )
    inner = f"SELECT * FROM ONLY {table.identifier} {piece.portion.condition(database.version, piece.rows)} LIMIT {_LOOKED_AT}"  # noqa: S608
    with database.address.connect() as session:
        count, *found = query(session, f"SELECT count(*){widths} FROM ({inner}) AS looked_at")[0]  # noqa: S608
        indexes = [list(names) for (names,) in query(session, _INDEXES, (table.identifier,))]
    if not count:
        return None
    shapes = tuple(
        ColumnShape(_type(database, table, number), float(width or 0), 1 - filled / count)
        for number, (width, filled) in enumerate(zip(found[::2], found[1::2], strict=True))
    )
    numbers = {column.name: number for number, column in enumerate(columns)}
    # An expression has no column; its index costs about what one of the first column does.
    known = [tuple(numbers[name] for name in names if name in numbers) or (0,) for names in indexes]
    row = _HEAD_BYTES + sum(shape.width * (1 - shape.empty) for shape in shapes)
    return TableShape(share, row, shapes, tuple(known) if shapes else ())


def _type(database: SampledDatabase, table: Table, number: int) -> str:
    columns = [column for column in table.columns if not column.generated]
    base = read_base_types(database.types, columns[number].type.oid)
    return base.expression if base.expression in TYPES else "text"


def read_shape(given: object) -> Shape:
    """From what the sample of a source returned as ``shape``; nothing given means :data:`USUAL`.

    :raises MigrationError: it is something else (check ``throughput-shape``).
    """
    if not given:
        return USUAL
    facts = Facts(given)
    tables = facts.items("tables")
    if tables is None:
        raise _refuse("it has no list of tables")
    number, size = facts.number("files", "files"), facts.number("files", "bytes")
    files = None if not number or not size or number < 0 or size < 0 else (int(number), int(size))
    return Shape(tuple(map(_read_table, tables)), files)


def _read_table(facts: Facts) -> TableShape:
    columns = facts.items("columns")
    share, row = facts.number("share"), facts.number("row_bytes")
    indexes = facts.items("indexes")
    if columns is None or indexes is None or share is None or row is None or not 0 <= share <= 1 or row < 0:
        raise _refuse("a table has no share, row_bytes, columns or indexes")
    read = tuple(map(_read_column, columns))
    positions = []
    for index in indexes:
        members = index.content if isinstance(index.content, list | tuple) else ()
        if not members or not all(isinstance(one, int) and 0 <= one < len(read) for one in members):
            raise _refuse("an index is of columns that are not there")
        positions.append(tuple(int(one) for one in members))
    return TableShape(float(share), float(row), read, tuple(positions))


def _read_column(facts: Facts) -> ColumnShape:
    kind, width, empty = facts.text("type"), facts.number("bytes"), facts.number("empty")
    if kind not in TYPES or width is None or not isfinite(width) or not 0 <= width < 1 << 30:
        raise _refuse(f"a column is of type {kind!r} or has no width")
    return ColumnShape(str(kind), float(width), min(1.0, max(0.0, float(empty or 0))))


def _refuse(why: str) -> MigrationError:
    return MigrationError(
        f"The shape is none that a sample of a source returned: {why}",
        check="throughput-shape",
        action="Pass on what ireporter_throughput_info returned as shape on the source, or leave it out",
    )
