# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rows a sample reads: pieces at even distances over all tables, by their bytes, from a random start. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from .database_catalog import Table

# A piece is read like the rest of its table is, from one end to the other; so few are enough to meet small tables, too.
PIECES = 16
# More line pointers than any page of 8 kB holds.
_ROWS_OF_A_PAGE = 292
_TID_RANGES_SINCE = 140000


@dataclass(frozen=True)
class Portion:
    """Rows of ``table`` from page ``first`` up to and without page ``end``.

    :param bytes: of the whole database (as ``pg_database_size`` counts, with indexes and catalogues) for which they stand.
    :param share: of a single page's rows that is wanted, where even one page holds too much (long values lie beside it).
    """

    table: Table
    first: int
    end: int
    bytes: Fraction
    share: Fraction = Fraction(1)

    def condition(self, version: int, rows: int | None = None) -> str:
        """As ``WHERE …``.

        :param version: of the server. Before 14 it would read the whole table to find a range, so every place is named there.
        :param rows: only places below this one of the only page.
        """
        until = f"({self.end},0)" if rows is None else f"({self.first},{rows})"
        if version >= _TID_RANGES_SINCE:
            return f"WHERE ctid >= '({self.first},0)'::tid AND ctid < '{until}'::tid"
        rows = _ROWS_OF_A_PAGE if rows is None else rows
        return (
            "WHERE ctid = ANY (ARRAY(SELECT pg_catalog.format('(%s,%s)', page, place)::tid FROM "  # noqa: S608 - numbers
            f"pg_catalog.generate_series({self.first}, {self.end - 1}) AS page, "
            f"pg_catalog.generate_series(1, {rows - 1}) AS place))"
        )

    def limited(self, version: int, rows: int | None = None) -> Table:
        """The table as :func:`verification_rows.digest_statement` takes it, with these rows only."""
        return replace(self.table, condition=self.condition(version, rows))


def with_rows(tables: Sequence[Table]) -> list[Table]:
    """The tables that samples are taken from. Configuration tables of extensions are small, and only part of them is moved."""
    return [table for table in tables if table.pages and table.populated and not table.condition]


def choose(tables: Sequence[Table], database_bytes: int, wanted: int, start: Fraction) -> list[Portion]:
    """Portions that stand for about ``wanted`` of the ``database_bytes``; all rows where these are fewer.

    :param tables: of :func:`with_rows`.
    :param start: at least 0 and below 1; where in the first stretch the first piece lies.
    """
    total = sum(table.total_bytes for table in tables)
    if not total:
        return []
    scale = Fraction(database_bytes, total)
    if database_bytes <= wanted:
        return [Portion(table, 0, table.pages, table.total_bytes * scale) for table in tables]
    stretch = Fraction(total, PIECES)
    width = Fraction(wanted) / scale / PIECES
    chosen: list[Portion] = []
    for number in range(PIECES):
        place = (number + start) * stretch
        for table in tables:
            if place < table.total_bytes:
                portion = _portion(table, place, width, scale)
                if not chosen or (portion.table, portion.first) != (chosen[-1].table, chosen[-1].first):
                    chosen.append(portion)
                break
            place -= table.total_bytes
    return chosen


def _portion(table: Table, place: Fraction, width: Fraction, scale: Fraction) -> Portion:
    of_a_page = Fraction(table.total_bytes, table.pages)
    pages = min(table.pages, max(1, round(width / of_a_page)))
    first = min(int(place / of_a_page), table.pages - pages)
    if of_a_page > width:
        share = width / of_a_page
        return Portion(table, first, first + 1, of_a_page * share * scale, share)
    return Portion(table, first, first + pages, pages * of_a_page * scale)
