# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Part ``files``: a tenant's file trees, by us and by bare rsync, at first and when nothing has changed since."""

from __future__ import annotations

import shutil
from pathlib import Path

from bench import caches, worker
from bench.commands import BenchError, Command, peak_megabytes, seconds, shown
from bench.data import TREES
from bench.figures import MEGABYTES, Findings, Target
from bench.pair import Measure

FIRST = "our first pass with full verification"
SECOND = "our unchanged second pass"
BARE_FIRST = "rsync -aHAX, first"
BARE_SECOND = "rsync -aHAX, unchanged"
MEMORY = "peak memory of our first pass"
TARGETS = (Target(FIRST, 2.0, BARE_FIRST), Target(SECOND, 1.3, BARE_SECOND), Target(MEMORY, 300))


class Trees:
    """The source's trees, and a copy of them of each side."""

    def __init__(self, source: Path, directory: Path) -> None:
        self._source = source
        self._directory = directory
        self._ours = directory / "ours"
        self._bare = directory / "bare"
        self._work = directory / "work"

    def first(self, measure: Measure) -> float:
        """Ours, into nothing, and everything compared afterwards.

        :raises BenchError: it failed, or the copy differs.
        """
        _remove(self._ours)
        self._ours.mkdir()
        caches.settle(read=[self._source])
        cost, result = worker.do(self._work, "files", self._spec(final=True), measure)
        if not result["files_verified"]:
            raise BenchError("Our pass verified no file")
        return cost

    def second(self, measure: Measure) -> float:
        """Ours once more: what a first pass costs that finds nothing to do (only the last pass of a migration verifies)."""
        caches.settle(read=[self._source, self._ours])
        cost, result = worker.do(self._work, "files", self._spec(final=False), measure)
        if result["changed"]:
            raise BenchError(f"Our second pass changed something: {result['items']}")
        return cost

    def bare_first(self) -> float:
        """Bare rsync, into nothing."""
        _remove(self._bare)
        caches.settle(read=[self._source])
        return seconds(self._rsync())

    def bare_second(self) -> float:
        """Bare rsync once more."""
        caches.settle(read=[self._source, self._bare])
        return seconds(self._rsync())

    def remove_copies(self) -> None:
        """Before the other side's turn: the disk is as full for both."""
        _remove(self._ours)
        _remove(self._bare)

    def typed(self) -> tuple[str, str]:
        """Our command and bare rsync's, for people."""
        hide = self._directory
        return shown(worker.command(self._work, "files"), hide=hide), shown(self._rsync(), hide=hide)

    def _spec(self, *, final: bool) -> dict[str, object]:
        trees = [{"name": name, "source": str(self._source / name), "target": str(self._ours / name)} for name in TREES]
        return {"file_trees": trees, "final": final}

    def _rsync(self) -> Command:
        return Command(["rsync", "-aHAX", f"{self._source}/", f"{self._bare}/"])


def measure(trees: Trees, runs: int) -> Findings:
    """Both passes of both sides once a round; before them our first pass that is not timed."""
    found = Findings()
    ours, bare = trees.typed()
    found.add(MEMORY, trees.first(peak_megabytes), unit=MEGABYTES, command=f"{ours} (final: true)")
    trees.remove_copies()
    for _round in range(runs):
        found.add(FIRST, trees.first(seconds), command=f"{ours} (final: true)")
        found.add(SECOND, trees.second(seconds), command=f"{ours} (final: false)")
        trees.remove_copies()
        found.add(BARE_FIRST, trees.bare_first(), command=bare)
        found.add(BARE_SECOND, trees.bare_second(), command=bare)
        trees.remove_copies()
    return found


def _remove(directory: Path) -> None:
    if directory.exists():
        shutil.rmtree(directory)
