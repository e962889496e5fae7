# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes rows and files of a given shape, whose content is chance: what a restore is sampled with where the tenant's own data may not be."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Final

from .throughput_shape import ColumnShape, TableShape

_DIFFERENT_ROWS: Final = 4096
_DIFFERENT_BYTES: Final = 8 << 20
_BLOCK_BYTES: Final = 1 << 18
# What a B-tree takes as it comes.
_WITHOUT_ORDER: Final = ("json", "jsonb", "bytea")
_WIDEST_KEY: Final = 500
_NUMBERED: Final = ("integer", "bigint")
_MOST_FILES: Final = 20_000

Made = Callable[[Random, int], str]


def create_statements(shape: TableShape, name: str) -> list[str]:
    """The table and its indexes, as SQL.

    :param name: ours, needs no quoting.
    """
    columns = ", ".join(f"c{number} {column.type}" for number, column in enumerate(shape.columns))
    statements = [f"CREATE TABLE public.{name} ({columns})"]
    for index in shape.indexes:
        keys = [number for number in index if _is_key(shape.columns[number])]
        if keys:
            statements.append(f"CREATE INDEX ON public.{name} ({', '.join(f'c{number}' for number in keys)})")
    return statements


def _is_key(column: ColumnShape) -> bool:
    return column.type not in _WITHOUT_ORDER and column.width <= _WIDEST_KEY


def row_count(shape: TableShape, size: int) -> int:
    """How many rows are this table's share of ``size`` bytes."""
    return max(1, round(shape.share * size / max(shape.row_bytes, 1.0)))


def rows(shape: TableShape, count: int, chance: Random) -> Iterator[bytes]:
    """``count`` rows as ``COPY`` reads them, in blocks. A first column of whole numbers counts, the rest repeats after a while."""
    if not shape.columns:
        yield b"\n" * count
        return
    counted = shape.columns[0].type in _NUMBERED
    rest = shape.columns[1:] if counted else shape.columns
    pool: list[str] = []
    size = 0
    while len(pool) < min(count, _DIFFERENT_ROWS) and (not pool or size < _DIFFERENT_BYTES):
        pool.append("\t".join(_value(column, chance) for column in rest) + "\n")
        size += len(pool[-1])
    block: list[str] = []
    waiting = 0
    for number, line in zip(range(count), cycle(pool), strict=False):
        text = f"{number}\t{line}" if counted and rest else f"{number}\n" if counted else line
        block.append(text)
        waiting += len(text)
        if waiting >= _BLOCK_BYTES:
            yield "".join(block).encode()
            block, waiting = [], 0
    yield "".join(block).encode()


def _value(column: ColumnShape, chance: Random) -> str:
    if column.empty and chance.random() < column.empty:
        return r"\N"
    return _MAKERS[column.type](chance, round(column.width * chance.uniform(0.6, 1.4)))


def _text(chance: Random, width: int) -> str:
    """Letters that compress to about half, as text does."""
    half = "".join(chance.choices(string.ascii_letters, k=max(1, width // 2)))
    return half + half


def _day(chance: Random) -> str:
    return f"{chance.randrange(2010, 2026)}-{chance.randrange(1, 13):02}-{chance.randrange(1, 29):02}"


def _moment(chance: Random) -> str:
    seconds = chance.randrange(86_400)
    return f"{_day(chance)} {seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{chance.randrange(10**6):06}"


def _number(chance: Random, width: int) -> str:
    """Stored in about 4 digits for 2 bytes, behind some bytes of head."""
    return f"{chance.randrange(10 ** max(2, 2 * width - 6))}"


_MAKERS: Final[dict[str, Made]] = {
    "smallint": lambda chance, _width: str(chance.randrange(1 << 15)),
    "integer": lambda chance, _width: str(chance.randrange(1 << 31)),
    "bigint": lambda chance, _width: str(chance.randrange(1 << 40)),
    "boolean": lambda chance, _width: chance.choice("tf"),
    "real": lambda chance, _width: f"{chance.uniform(0, 1000):.3f}",
    "double precision": lambda chance, _width: f"{chance.uniform(0, 1000):.6f}",
    "numeric": _number,
    "date": lambda chance, _width: _day(chance),
    "timestamp without time zone": lambda chance, _width: _moment(chance),
    "timestamp with time zone": lambda chance, _width: f"{_moment(chance)}+00",
    "uuid": lambda chance, _width: f"{chance.getrandbits(128):032x}",
    "bytea": lambda chance, width: r"\\x" + chance.randbytes(width).hex(),
    "json": lambda chance, width: f'{{"value": "{_text(chance, width)}"}}',
    "jsonb": lambda chance, width: f'{{"value": "{_text(chance, width)}"}}',
    "text": _text,
}


def make_files(folder: Path, files: tuple[int, int], size: int, chance: Random) -> int:
    """Files of about the average size of ``files`` (number, bytes), ``size`` bytes together, below ``folder``; bytes that were made."""
    average = max(1, files[1] // files[0])
    number = min(_MOST_FILES, max(1, round(size / average)))
    made = 0
    for one in range(number):
        place = folder / f"{one // 200}" / f"{one}"
        place.parent.mkdir(exist_ok=True)
        content = chance.randbytes(round(min(average, size) * (1 if number == 1 else chance.uniform(0.2, 1.8))))
        place.write_bytes(content)
        made += len(content)
    return made
