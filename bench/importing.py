# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Part ``import``: an unpacked bundle restored and fully verified by us, against bare ``pg_restore -j2`` and ``tar``."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from bench import caches, worker
from bench.commands import ROOT, BenchError, Command, peak_megabytes, run, seconds, shown
from bench.data import DATABASE, OWNER
from bench.figures import MEGABYTES, Findings, Target
from bench.pair import Measure
from bench.servers import Server, programs

OURS = "our import with full verification"
BARE = "pg_restore -j2 and tar"
MEMORY = "peak memory of our import"
TARGETS = (Target(OURS, 1.3, BARE), Target(MEMORY, 300))
TREES = ("output", "settings")
_TENANT = "bench"
_MIGRATION = "bench-s-20260101t000000z"


class Site:
    """A customer's server: the bundle of ``source``'s database and of ``trees``, unpacked; what is imported goes to ``target``."""

    def __init__(self, source: Server, target: Server, directory: Path, trees: Path, jobs: int) -> None:
        self._source, self._target = source, target
        self._directory = directory
        self._trees = trees
        self._jobs = jobs
        self._work = directory / "work"
        self._place = directory / "site"
        self._bare = directory / "bare-site"
        self._unpacked = directory / "unpacked"
        self._imports = 0

    @property
    def bag(self) -> Path:
        """What was unpacked."""
        return self._unpacked / "ireporter-bundle"

    def make_bundle(self) -> None:
        """Not timed: by the same commands as in a migration."""
        folder = self._directory / "bundle"
        folder.mkdir()
        run(Command(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "signer")]))
        made = subprocess.run(["age-keygen"], capture_output=True, text=True, check=True)
        identity = folder / "identity"
        identity.write_text(made.stdout)
        recipient = next(line for line in made.stdout.splitlines() if "public key" in line).rpartition(" ")[2]
        common = {"tenant": _TENANT, "migration_id": _MIGRATION}
        trees = [{"name": name, "path": str(self._trees / name)} for name in TREES]
        worker.do(
            self._work,
            "bundle",
            {
                **common, "state": "present", "directory": str(folder), "picture": self._source.conninfo(DATABASE),
                "file_trees": trees, "cut_off": "2026-01-01T00:00:00Z", "recipient": recipient, "signing_key": str(folder / "signer"),
                "readme": (ROOT / "docs" / "import-by-hand.md").read_text(encoding="utf-8"),
            },
            seconds,
        )  # fmt: skip
        signer = (folder / "signer.pub").read_text().strip()
        path = folder / f"{_MIGRATION}.tar.zst.age"
        worker.do(
            self._work,
            "bundle",
            {
                **common, "state": "unpacked", "path": str(path), "signer": signer, "identity": str(identity),
                "target": str(self._unpacked),
            },
            seconds,
        )  # fmt: skip
        shutil.rmtree(folder)
        self._place.mkdir()

    def ours(self, measure: Measure) -> float:
        """Restored aside and verified; then taken away, which is not timed.

        :raises BenchError: it failed, or verified nothing.
        """
        self._imports += 1
        self._settle()
        cost, result = worker.do(self._work, "import", self._spec("restored"), measure)
        if result["phase"] != "verified" or not result["verified"]["tables"]:
            raise BenchError(f"Our import is {result['phase']}")
        worker.do(self._work, "import", self._spec("absent"), seconds)
        return cost

    def bare(self) -> float:
        """What an administrator would type; the empty database is made before the clock starts. Nothing is verified."""
        self._target.create(DATABASE, OWNER)
        for name in TREES:
            (self._bare / name).mkdir(parents=True)
        self._settle()
        try:
            return seconds(*self._commands())
        finally:
            self._target.drop(DATABASE)
            shutil.rmtree(self._bare)

    def typed(self) -> tuple[str, str]:
        """Our command and theirs, for people."""
        hide = self._directory
        return shown(worker.command(self._work, "import"), hide=hide), shown(*self._commands(), hide=hide)

    def _spec(self, state: str) -> dict[str, object]:
        return {
            "state": state,
            "tenant": _TENANT,
            "import_id": f"bench-i-{self._imports}",
            "bag": str(self.bag),
            "database": self._target.conninfo(DATABASE),
            "file_trees": [{"name": name, "path": str(self._place / name)} for name in TREES],
            "jobs": self._jobs,
            "state_directory": str(self._directory / "state"),
        }

    def _commands(self) -> tuple[Command, ...]:
        environment = {"PATH": f"{programs()}:{os.environ['PATH']}"}
        restore = [
            "pg_restore",
            f"-j{self._jobs}",
            "-d",
            self._target.conninfo(DATABASE),
            str(self.bag / "data/database"),
        ]
        tars = [
            ["tar", "-xf", str(self.bag / f"data/files/{name}.tar"), "-C", str(self._bare / name)] for name in TREES
        ]
        return (Command(restore, environment), *(Command(one) for one in tars))

    def _settle(self) -> None:
        caches.settle(servers=(self._target,), read=[self.bag])


def measure(site: Site, runs: int) -> Findings:
    """Both once a round; before them ours once that is not timed: memory, and roles that all later ones find."""
    found = Findings()
    site.make_bundle()
    ours, bare = site.typed()
    found.add(MEMORY, site.ours(peak_megabytes), unit=MEGABYTES, command=ours)
    for _round in range(runs):
        found.add(OURS, site.ours(seconds), command=ours)
        found.add(BARE, site.bare(), command=bare)
    return found
