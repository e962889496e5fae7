# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people would compare two databases with: ``hashtext(row::text)`` of every row. 32 bits, and not exact.

``python -m bench.hashtext SOURCE TARGET SESSIONS_PER_SIDE``: exit status 1 where a table differs.
"""

from __future__ import annotations

import itertools
import sys
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue

import psycopg
from psycopg import sql

Table = tuple[str, str]
Sums = dict[Table, tuple[int, int]]

# Tables are read in ranges, like ours: one large table must not leave a session alone at the end.
_PART_BYTES = 96 << 20
_TABLES = """
SELECT n.nspname, c.relname, pg_table_size(c.oid), pg_relation_size(c.oid) / current_setting('block_size')::bigint
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND c.relispopulated AND n.nspname NOT IN ('pg_catalog', 'information_schema')
ORDER BY 3 DESC
"""
_SUM = """
SELECT count(*), coalesce(sum(hashtext(row_of_table::text)::bigint), 0) FROM ONLY {} AS row_of_table
WHERE ctid >= {}::tid AND ctid < {}::tid
"""
_END = 1 << 31  # no table has that many pages here


def sums(conninfo: str, sessions: int) -> Sums:
    """Rows and sum of hashes of every table, from ``sessions`` sessions at a time."""
    parts: SimpleQueue[tuple[Table, int, int]] = SimpleQueue()
    found: Sums = {}
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for schema, name, size, pages in connection.execute(_TABLES).fetchall():
            found[schema, name] = (0, 0)
            count = max(1, min(size // _PART_BYTES, pages))
            bounds = [*(pages * part // count for part in range(count)), _END]
            for first, end in itertools.pairwise(bounds):
                parts.put(((schema, name), first, end))

    def work() -> list[tuple[Table, int, int]]:
        done: list[tuple[Table, int, int]] = []
        # As ours: the sessions are the parallelism.
        with psycopg.connect(
            conninfo, autocommit=True, options="-c max_parallel_workers_per_gather=0 -c jit=off"
        ) as connection:
            while True:
                try:
                    table, first, end = parts.get_nowait()
                except Empty:
                    return done
                statement = sql.SQL(_SUM).format(
                    sql.Identifier(*table), sql.Literal(f"({first},0)"), sql.Literal(f"({end},0)")
                )
                row = connection.execute(statement).fetchone()
                assert row is not None
                done.append((table, int(row[0]), int(row[1])))

    with ThreadPoolExecutor(sessions) as pool:
        for job in [pool.submit(work) for _ in range(sessions)]:
            for table, rows, total in job.result():
                found[table] = (found[table][0] + rows, found[table][1] + total)
    return found


def main() -> int:
    """Compare both sides at the same time."""
    source, target, sessions = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with ThreadPoolExecutor(2) as pool:
        left, right = (job.result() for job in [pool.submit(sums, side, sessions) for side in (source, target)])
    different = sorted(".".join(table) for table in left.keys() | right.keys() if left.get(table) != right.get(table))
    print(
        f"{len(left)} tables, {sum(rows for rows, _ in left.values())} rows, different: {', '.join(different) or 'none'}"
    )
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
