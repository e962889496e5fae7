# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A tenant's data of any size, from the lab's generator: the same seed, the same data."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from bench.commands import ROOT, Command, run
from bench.servers import Server

DATABASE = "irepodb_bench"
OWNER = "bench_owner"
TREES = ("output", "settings", "webdav")
_ADMIN = str(ROOT / "lab" / "standin" / "bin" / "ireporter-standin-admin")
_GENERATOR = str(ROOT / "lab" / "generate.py")


def make_database(server: Server, gigabytes: float) -> dict[str, object]:
    """Fill a new tenant's database; what there is in it. With 0 it stays as empty as a new tenant's."""
    run(
        Command(
            [
                *(sys.executable, _ADMIN, "create-database", "--admin", server.conninfo()),
                *("--database", DATABASE, "--prefix", OWNER.removesuffix("_owner")),
            ]
        )
    )
    if gigabytes > 0:
        run(
            Command(
                [sys.executable, _GENERATOR, "--database", server.conninfo(DATABASE), "--gigabytes", str(gigabytes)],
            )
        )
    with server.connect(DATABASE) as connection:
        # Otherwise autovacuum and the hint bits of the first readers would fall into some run.
        connection.execute("VACUUM (ANALYZE)")
        row = connection.execute(
            "SELECT count(*), sum(pg_table_size(c.oid))::bigint, pg_database_size(current_database()) "
            "FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind IN ('r', 'm') AND nspname = 'public'"
        ).fetchone()
    assert row is not None
    return {"tables": row[0], "table_bytes": row[1], "database_bytes": row[2]}


def make_trees(directory: Path, files: int) -> dict[str, object]:
    """Fill the three file trees below ``directory``; what there is in them."""
    run(Command([sys.executable, _GENERATOR, "--trees", str(directory), "--files", str(files)]))
    for tree in TREES:
        # One 64 MB hole a tree: a bare rsync would write it out and we would not, which is no comparison at any size.
        (directory / tree / "むずかしい もの" / "kinds" / "sparse").unlink()
    sizes = [Path(folder, name).lstat().st_size for folder, _, names in os.walk(directory) for name in names]
    return {"files": len(sizes), "bytes": sum(sizes)}
