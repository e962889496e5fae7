# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A tenant's database on one server, and every way to copy it to the other and to compare the two."""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from bench import caches, worker
from bench.commands import ROOT, BenchError, Command, seconds, shown
from bench.data import DATABASE, OWNER
from bench.servers import Server, programs

Measure = Callable[[Command], float]


class Pair:
    """Two servers, of which the first has the tenant's database. Every copy is made anew, with settled caches."""

    def __init__(self, source: Server, target: Server, directory: Path, jobs: int) -> None:
        self.source, self.target = source, target
        self._directory = directory
        self._work = directory / "work"
        self._spec: dict[str, object] = {
            "source": source.conninfo(DATABASE),
            "target": target.conninfo(DATABASE),
            "jobs": jobs,
        }
        self._copied = False

    def copy_once(self) -> None:
        """One copy that is not timed, unless there was one: it makes roles and write-ahead log files that all later ones find."""
        if not self._copied:
            self.copy(seconds)
            self.verify(seconds)

    def copy(self, measure: Measure) -> float:
        """Our copy. It makes the database itself, and the roles where the target has not got them.

        :raises BenchError: it failed.
        """
        self.target.drop(DATABASE)
        self._settle()
        cost, result = worker.do(self._work, "database", self._spec, measure)
        if not result["changed"]:
            raise BenchError("Our copy was there already, so nothing was measured")
        self._copied = True
        return cost

    def verify(self, measure: Measure) -> float:
        """Our full verification of our copy, right after it as in a migration.

        :raises BenchError: it failed, or the copy differs.
        """
        cost, result = worker.do(self._work, "verification", self._spec, measure)
        if result["differences"]:
            raise BenchError(
                f"Our copy differs in {len(result['differences'])} points, for one {result['differences'][0]}"
            )
        return cost

    def verify_settled(self, measure: Measure) -> float:
        """The same by itself: both sides' caches are settled before."""
        self._settle(both=True)
        return self.verify(measure)

    def hashtext(self) -> float:
        """The peer of our verification: ``hashtext(row::text)`` of the same tables on both sides.

        :raises BenchError: it failed, or found a difference.
        """
        self._settle(both=True)
        return seconds(self._hashtext())

    def pgcopydb(self, settings: tuple[str, ...]) -> float:
        """The copy of ``pgcopydb clone``."""
        return self._peer(self._directory / "pgcopydb", self._pgcopydb(settings))

    def dump_and_restore(self) -> float:
        """The copy of PostgreSQL's own programs."""
        return self._peer(self._directory / "dump", *self._dump_and_restore())

    def differences(self) -> dict[str, int]:
        """How many differences of each kind there are now. A peer's copy lacks what the peer leaves out, so this is no failure."""
        _, result = worker.do(self._work, "verification", self._spec, seconds)
        return dict(Counter(str(one["kind"]) for one in result["differences"]))

    def typed(self, settings: tuple[str, ...] = ()) -> dict[str, str]:
        """Every command, for people."""
        commands = {
            "copy": (worker.command(self._work, "database"),),
            "verify": (worker.command(self._work, "verification"),),
            "hashtext": (self._hashtext(),),
            "pgcopydb": (self._pgcopydb(settings),),
            "dump_and_restore": self._dump_and_restore(),
        }
        return {name: shown(*parts, hide=self._directory) for name, parts in commands.items()}

    def _settle(self, *, both: bool = False) -> None:
        servers = (self.source, self.target)
        caches.settle(servers=servers, read=[caches.rows(server) for server in (servers if both else servers[:1])])

    def _peer(self, folder: Path, *commands: Command) -> float:
        self.target.drop(DATABASE)
        # Made before the clock starts; ours is made by our command.
        self.target.create(DATABASE, OWNER)
        self._settle()
        try:
            return seconds(*commands)
        finally:
            if folder.exists():
                shutil.rmtree(folder)

    def _pgcopydb(self, settings: tuple[str, ...]) -> Command:
        return Command(
            [
                *("pgcopydb", "clone", "--source", _uri(self.source), "--target", _uri(self.target)),
                *("--dir", str(self._directory / "pgcopydb"), *settings),
            ],
            stock_programs(),
        )

    def _dump_and_restore(self) -> tuple[Command, ...]:
        folder = str(self._directory / "dump")
        source, target = self.source.conninfo(DATABASE), self.target.conninfo(DATABASE)
        return (
            Command(["pg_dump", "-Fd", "-j2", "-f", folder, "-d", source], stock_programs()),
            Command(["pg_restore", "-j2", "-d", target, folder], stock_programs()),
        )

    def _hashtext(self) -> Command:
        arguments = [str(self._spec[name]) for name in ("source", "target", "jobs")]
        return Command([sys.executable, "-m", "bench.hashtext", *arguments], {"PYTHONPATH": str(ROOT)})


def stock_programs() -> dict[str, str]:
    """Environment for PostgreSQL's own programs, without Debian's wrappers."""
    # Debian's wrappers of these programs look for a version first: time that peers need not lose.
    return {"PATH": f"{programs()}:{os.environ['PATH']}"}


def _uri(server: Server) -> str:
    return f"postgresql:///{DATABASE}?host={quote(str(server.directory))}&user=postgres"
