"""Digests of rows that are equal only if the rows' exact representations are.

Representation. Each row becomes one byte string: ``record_send`` of the whole row, the binary form of every column with
its length and a mark for NULL. It tells ``-0`` from ``0``, ``1.0`` from ``1.00``, ``1 day`` from ``24:00``, and white space
in ``json``. It also holds the numbers of the columns' types, which another database gives to another type, so a column
whose type is not PostgreSQL's own goes in by its type's own send function (OID-free), and one whose binary form holds
catalogue numbers anywhere (composite types, arrays of own types, ``regclass``) by the text of its output function and
a separate mark for NULL. So do floating-point columns beside such ones, because rows that travel as text lose the bits of a
NaN, and no more. XML goes in as the text that is stored, which its output shortens by the XML declaration. The binary form
is self-delimiting, so two different rows never share one. A ``bytea`` has two places in its row: a long one's SHA-256, or NULL;
and a short one itself, or NULL. So a short value that is the SHA-256 of a long one is not mistaken for it.

Digest of a row. Two 64-bit hashes (``hash_array_extended``, PostgreSQL's own Jenkins hash) with two seeds drawn anew for
every run, after the data is there: nobody can choose data for them. 128 bits. A row that is still long is replaced by its SHA-256 first. Long bytes are
so read once, where they were put together from TOAST, instead of copied through the row and hashed twice; no two different
ones are known to share a SHA-256.

Digest of a table. The number of rows and, for each seed, the exact sum (no modulus) over all rows. Addition does not care
for the order and counts duplicates, which an exclusive-or would cancel. For two different multisets the sums differ by a
non-zero combination of hashes; as far as these behave like independent random numbers of 2**64 values, which is a model of
Jenkins' hash and not a proof, the sums agree with probability at most 2**-64 per seed, 2**-128 for both. Values swapped between rows change the rows, so they change their hashes.
"""

from __future__ import annotations

import secrets
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from queue import Empty, SimpleQueue

import psycopg

from .database_catalog import Column, Table, Type, carries_numbers, holds_floats, read_base_types
from .database_connection import Address, Connection, identifier, keep_bytes, literal, one_line, query, value
from .errors import MigrationError

_PART_BYTES = 96 << 20
# A byte of rows takes about so many times longer than one of TOAST: rows are many and short there.
_WEIGHT_OF_ROWS = 8
_PAGE_BYTES = 8192
_COLUMNS_PER_RECORD = 1000
_NAMED_ROWS = 20
_LONG_BYTES = 1024
_BYTEA = 17
_ROWS_PER_BUCKET = 2000


@dataclass(frozen=True)
class Digest:
    """Of a table or of a part; parts add up."""

    rows: int = 0
    first: int = 0
    second: int = 0
    bytes: int = 0

    def __add__(self, other: Digest) -> Digest:
        return Digest(
            self.rows + other.rows, self.first + other.first, self.second + other.second, self.bytes + other.bytes
        )

    def same(self, other: Digest) -> bool:
        """Whether the contents are equal."""
        return (self.rows, self.first, self.second) == (other.rows, other.first, other.second)

    def __str__(self) -> str:
        mixed = (self.first % (1 << 64)) << 64 | self.second % (1 << 64)
        return f"{self.rows} rows, digest {mixed:032x}"


@dataclass(frozen=True)
class Seeds:
    """Of one run's hashes; the same on both sides."""

    first: int
    second: int

    @classmethod
    def draw(cls) -> Seeds:
        return cls(secrets.randbits(63), secrets.randbits(63))


def _alias(table: Table) -> str:
    """A name for the row that no column has."""
    alias = "row_of_table"
    while any(column.name == alias for column in table.columns):
        alias += "_"
    return identifier(alias)


def column_expressions(column: Column, types: dict[int, Type], *, text_floats: bool) -> list[str]:
    """SQL expressions whose binary forms hold the column's exact value and no catalogue number.

    :param text_floats: the table may have travelled as text, which tells no NaN from another: floats go in as text.
    """
    name = identifier(column.name)
    if column.exact_text:
        return [column.exact_text]
    if carries_numbers(types, column.type.oid) or (text_floats and holds_floats(types, column.type.oid)):
        return [f"num_nulls({name})", f"concat({name})"]
    long = _long_value(column, types)
    if long:
        bare = _as_base_type(column, types)
        return [f"sha256({long})", f"CASE WHEN octet_length({bare}) <= {_LONG_BYTES} THEN {bare} END"]
    base = read_base_types(types, column.type.oid)
    return [_as_base_type(column, types) if base.built_in else f"{base.send_function}({_as_base_type(column, types)})"]


def _as_base_type(column: Column, types: dict[int, Type]) -> str:
    name = identifier(column.name)
    return f"{name}::{read_base_types(types, column.type.oid).expression}" if column.type.kind == "d" else name


def _long_value(column: Column, types: dict[int, Type]) -> str:
    """An SQL expression that is the column's value where that is a long ``bytea``, else NULL; empty for other types.

    The length is that of the value, not of what is stored, which may be compressed otherwise on the other side.
    """
    if read_base_types(types, column.type.oid).oid != _BYTEA:
        return ""
    bare = _as_base_type(column, types)
    return f"CASE WHEN octet_length({bare}) > {_LONG_BYTES} THEN {bare} END"


def representation(table: Table, types: dict[int, Type]) -> str:
    """An SQL expression of type ``bytea`` for one row."""
    # Never record_send of the row as such: PostgreSQL would put every long value together for it.
    text_floats = table.travels_as_text or any(not column.type.built_in for column in table.columns)
    expressions = [
        expression
        for column in table.columns
        for expression in column_expressions(column, types, text_floats=text_floats)
    ]
    records = [
        f"record_send(ROW({', '.join(expressions[start : start + _COLUMNS_PER_RECORD])}))"
        for start in range(0, max(1, len(expressions)), _COLUMNS_PER_RECORD)
    ]
    return " || ".join(records)


def _rows_statement(table: Table, types: dict[int, Type], condition: str, place: str = "") -> str:
    """Rows ``(r, size, place)``: what is hashed, bytes of the whole representation, and (only with ``place``) where the row is."""
    long = [expression for expression in (_long_value(column, types) for column in table.columns) if expression]
    size = "".join(f" + coalesce(octet_length({expression}), 0)" for expression in long)
    more = f", {place} AS place" if place else ""
    # OFFSET 0 keeps the planner from pulling the sub-queries up, and so from computing the representation twice.
    return (
        f"SELECT ARRAY[CASE WHEN octet_length(r) > {_LONG_BYTES} THEN sha256(r) ELSE r END] AS r, "  # noqa: S608
        f"octet_length(r) + longs AS size{', place' if place else ''} "
        f"FROM (SELECT {representation(table, types)} AS r, 0::bigint{size} AS longs{more} "
        f"FROM ONLY {table.identifier} AS {_alias(table)} {condition} OFFSET 0) AS whole OFFSET 0"
    )


def hashes(seeds: Seeds) -> tuple[str, str]:
    """SQL expressions of the two hashes of ``r``, a representation as the only element of an array.

    Only of one element: hashes of several are multiplied and added, so what is swapped between two rows would cancel in their sum.
    """
    return f"hash_array_extended(r, {seeds.first})", f"hash_array_extended(r, {seeds.second})"


def digest_statement(table: Table, types: dict[int, Type], seeds: Seeds, pages: tuple[int, int | None] | None) -> str:
    """A statement that gives the four numbers of a :class:`Digest`."""
    condition = table.condition
    if pages is not None:
        condition = f"WHERE ctid >= '({pages[0]},0)'::tid"
        if pages[1] is not None:
            condition += f" AND ctid < '({pages[1]},0)'::tid"
    first, second = hashes(seeds)
    return (
        f"SELECT count(*), coalesce(sum({first}), 0), coalesce(sum({second}), 0), coalesce(sum(size), 0) "  # noqa: S608
        f"FROM ({_rows_statement(table, types, condition)}) AS contents"
    )


@dataclass(frozen=True)
class _Piece:
    side: int
    number: int
    pages: tuple[int, int | None] | None
    bytes: int
    cost: int


class Side:
    """One database with a snapshot that its workers share."""

    def __init__(
        self, name: str, address: Address, snapshot: str, tables: dict[tuple[str, str], Table], version: int
    ) -> None:
        self.name = name
        self.address = address
        self.snapshot = snapshot
        self.tables = tables
        self.version = version

    def session(self) -> tuple[Connection, str]:
        """A session inside the snapshot that gets text as it is stored, and the Python codec for its statements."""
        connection = self.address.connect(options="-c max_parallel_workers_per_gather=0 -c jit=off")
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        connection.execute(f"SET TRANSACTION SNAPSHOT {literal(self.snapshot)}".encode())
        return connection, keep_bytes(connection, str(value(connection, "SHOW server_encoding")))


def _pieces(side: int, database: Side, names: Sequence[tuple[str, str]], jobs: int) -> list[_Piece]:
    pieces = []
    for number, name in enumerate(names):
        table = database.tables[name]
        cost = table.total_bytes + (_WEIGHT_OF_ROWS - 1) * table.pages * _PAGE_BYTES
        count = 1
        if jobs > 1 and database.version >= 140000 and not table.condition:
            count = max(1, min(cost // _PART_BYTES, table.pages))
        bounds = [table.pages * piece // count for piece in range(count)]
        for piece, start in enumerate(bounds):
            end = bounds[piece + 1] if piece + 1 < count else None
            pages = None if count == 1 else (start, end)
            pieces.append(_Piece(side, number, pages, table.total_bytes // count, cost // count))
    return sorted(pieces, key=lambda piece: -piece.cost)


def digest_tables(
    sides: Sequence[Side],
    types: dict[int, Type],
    names: Sequence[tuple[str, str]],
    *,
    seeds: Seeds,
    jobs: int,
    progress: Callable[[int], None],
) -> list[tuple[Digest, ...]]:
    """Digests of the tables ``names`` (columns and types as on the first side) on every side, ``jobs`` sessions per side.

    :param progress: gets bytes as they were read.
    :raises MigrationError: a table could not be read (check ``verification-incomplete``).
    """
    results = [[Digest() for _ in names] for _ in sides]
    failure: list[BaseException] = []
    lock = threading.Lock()
    queues: list[SimpleQueue[_Piece]] = []
    for number, database in enumerate(sides):
        queue: SimpleQueue[_Piece] = SimpleQueue()
        for piece in _pieces(number, database, names, jobs):
            queue.put(piece)
        queues.append(queue)

    def work(side: int) -> None:
        try:
            connection, codec = sides[side].session()
            with connection:
                # What is rolled back to it gives its locks back: a server has few for one per table and index.
                connection.execute("SAVEPOINT piece")
                while not failure:
                    try:
                        piece = queues[side].get_nowait()
                    except Empty:
                        return
                    table = sides[0].tables[names[piece.number]]
                    statement = digest_statement(table, types, seeds, piece.pages)
                    try:
                        row = query(connection, statement.encode(codec))[0]
                        connection.execute("ROLLBACK TO SAVEPOINT piece")
                    except psycopg.Error as error:
                        raise MigrationError(
                            f"The rows of {table.label} could not be compared on the {sides[side].name}: {one_line(error)}",
                            check="verification-incomplete",
                            action="Mend the cause that PostgreSQL names, then verify again",
                        ) from error
                    found = Digest(int(row[0]), int(row[1]), int(row[2]), int(row[3]))
                    with lock:
                        results[side][piece.number] += found
                        progress(piece.bytes)
        except BaseException as error:  # raised again by the thread that waits
            failure.append(error)

    threads = [
        threading.Thread(target=work, args=(side,), daemon=True) for side in range(len(sides)) for _ in range(jobs)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failure:
        raise failure[0]
    return list(zip(*results, strict=True))


_KEY = """
SELECT array_agg(a.attname ORDER BY array_position(i.indkey::int2[], a.attnum))
FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
WHERE i.indrelid = %s::regclass AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL
  AND NOT EXISTS (SELECT FROM unnest(i.indkey) k JOIN pg_attribute n ON n.attrelid = i.indrelid AND n.attnum = k
                  WHERE NOT n.attnotnull)
GROUP BY i.indexrelid, i.indisprimary, i.indnatts ORDER BY i.indisprimary DESC, i.indnatts LIMIT 1
"""


def differing_rows(
    sides: tuple[Side, Side], types: dict[int, Type], name: tuple[str, str], seeds: Seeds, rows: int
) -> list[dict[str, str]]:
    """The first few rows of table ``name`` that are not on both sides, by key, or by place where the table has none.

    Never shows a value outside of the key. Rows are grouped by their hash first, so that no table is too large.
    """
    table = sides[0].tables[name]
    with ExitStack() as stack:
        opened = [side.session() for side in sides]
        sessions = [(stack.enter_context(connection), codec) for connection, codec in opened]
        with sides[0].address.connect() as catalogue:
            found = query(catalogue, _KEY, (table.identifier,))
        key = [str(column) for column in found[0][0]] if found else []
        place = ", ".join(f"{identifier(column)}::text" for column in key) or "ctid::text"
        mask = (1 << (min(1 << 20, rows // _ROWS_PER_BUCKET)).bit_length()) - 1
        first, second = hashes(seeds)
        rows_statement = _rows_statement(table, types, table.condition, f"ARRAY[{place}]")
        grouped = (
            f"SELECT h & {mask} AS bucket, count(*), sum(h), sum(g) FROM "  # noqa: S608
            f"(SELECT {first} AS h, {second} AS g FROM ({rows_statement}) AS contents) AS hashed GROUP BY 1"
        )
        sums = [{row[0]: row[1:] for row in query(session, grouped.encode(codec))} for session, codec in sessions]
        different = sorted(
            bucket for bucket in sums[0].keys() | sums[1].keys() if sums[0].get(bucket) != sums[1].get(bucket)
        )[: _NAMED_ROWS * 2]
        wanted = literal("{" + ",".join(str(bucket) for bucket in different) + "}")
        picked = (
            f"SELECT h, g, place FROM (SELECT {first} AS h, {second} AS g, place FROM ({rows_statement}) AS contents) "  # noqa: S608
            f"AS hashed WHERE h & {mask} = ANY ({wanted}::bigint[])"
        )
        contents: list[Counter[tuple[int, int]]] = []
        places: list[dict[tuple[int, int], list[str]]] = []
        for session, codec in sessions:
            counter: Counter[tuple[int, int]] = Counter()
            where: dict[tuple[int, int], list[str]] = {}
            for h, g, found_at in query(session, picked.encode(codec)):
                counter[h, g] += 1
                spot = [_text(part) for part in found_at]
                where.setdefault((h, g), []).append(
                    ", ".join(f"{column}={text}" for column, text in zip(key, spot, strict=True))
                    if key
                    else f"at {spot[0]}"
                )
            contents.append(counter)
            places.append(where)
    return _name(table, contents, places, keyed=bool(key))


def _text(stored: str | bytes) -> str:
    """Of SQL_ASCII, psycopg gives bytes."""
    return stored if isinstance(stored, str) else stored.decode(errors="backslashreplace")


def _name(
    table: Table,
    contents: list[Counter[tuple[int, int]]],
    places: list[dict[tuple[int, int], list[str]]],
    *,
    keyed: bool,
) -> list[dict[str, str]]:
    only: list[dict[str, str]] = [{}, {}]
    for side in (0, 1):
        for digest, extra in (contents[side] - contents[1 - side]).items():
            text = f"digest {digest[0] % (1 << 64):016x}{digest[1] % (1 << 64):016x}"
            for spot in places[side][digest][-extra:]:
                only[side][spot] = text
    rows = []
    if keyed:
        for spot in sorted(only[0].keys() | only[1].keys()):
            rows.append((spot, only[0].get(spot, "absent"), only[1].get(spot, "absent")))
    else:
        rows += [(f"{spot} on the source", text, "absent") for spot, text in sorted(only[0].items())]
        rows += [(f"{spot} on the target", "absent", text) for spot, text in sorted(only[1].items())]
    return [
        {"kind": "row", "object": f"{table.label}: {spot}", "source": source, "target": target}
        for spot, source, target in rows[:_NAMED_ROWS]
    ]
