# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Part ``copy``: a tenant's database from one server to another, by us, by pgcopydb, by pg_dump with pg_restore."""

from __future__ import annotations

import itertools

from bench.commands import peak_megabytes, seconds
from bench.figures import MEGABYTES, Findings, Target
from bench.pair import Pair

OURS = "our copy"
VERIFIED = "our copy and full verification"
PGCOPYDB = "pgcopydb clone"
DUMP = "pg_dump -Fd -j2, pg_restore -j2"
MEMORY = "peak memory of our copy"
MEMORY_OF_VERIFICATION = "peak memory of our verification"
TARGETS = (
    Target(OURS, 0.75, PGCOPYDB),
    Target(VERIFIED, 1.0, PGCOPYDB),
    Target(OURS, 0.2, DUMP),
    Target(MEMORY, 300),
    Target(MEMORY_OF_VERIFICATION, 300),
)

_JOBS = ("2", "4")
# Ours cuts tables into ranges of 96 MiB; what pgcopydb can cut it gets the choice to.
_SPLITS: tuple[tuple[str, ...], ...] = ((), ("--split-tables-larger-than", "96MB"))


def measure(pair: Pair, runs: int, *, with_pgcopydb: bool) -> Findings:
    """All sides once a round, one after the other; before them what is not timed: memory, and pgcopydb's best settings."""
    found = Findings()
    # The first copy of all makes the roles and the target's write-ahead log files, which later ones find.
    typed = pair.typed()
    found.add(MEMORY, pair.copy(peak_megabytes), unit=MEGABYTES, command=typed["copy"])
    found.add(MEMORY_OF_VERIFICATION, pair.verify(peak_megabytes), unit=MEGABYTES, command=typed["verify"])
    best: tuple[str, ...] = ()
    if with_pgcopydb:
        tried = {settings: pair.pgcopydb(settings) for settings in _settings()}
        best = min(tried, key=lambda settings: tried[settings])
        found.details["pgcopydb_settings_tried"] = {" ".join(settings): time for settings, time in tried.items()}
        found.details["pgcopydb_settings_used"] = " ".join(best)
        found.details["differences_of_pgcopydb_by_kind"] = pair.differences()
    typed = pair.typed(best)
    for _round in range(runs):
        copied = pair.copy(seconds)
        found.add(OURS, copied, command=typed["copy"])
        found.add(VERIFIED, copied + pair.verify(seconds), command=f"{typed['copy']} && {typed['verify']}")
        if with_pgcopydb:
            found.add(PGCOPYDB, pair.pgcopydb(best), command=typed["pgcopydb"])
        found.add(DUMP, pair.dump_and_restore(), command=typed["dump_and_restore"])
    if runs:
        found.details["differences_of_pg_restore_by_kind"] = pair.differences()
    return found


def _settings() -> list[tuple[str, ...]]:
    return [
        ("--table-jobs", tables, "--index-jobs", indexes, *split)
        for tables, indexes, split in itertools.product(_JOBS, _JOBS, _SPLITS)
    ]
