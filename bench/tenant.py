# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A tenant as its export sees it: a database on a server, the file trees that move, and the keys of both sides."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import caches, worker
from bench.commands import BenchError, Command, run
from bench.data import DATABASE, TREES
from bench.servers import Server

MIGRATION = "bench-s-20000101t000000z"
# The WebDAV storage is not migrated (R09).
MOVED = tuple(tree for tree in TREES if tree != "webdav")


class Tenant:
    """
    :param trees: folder that holds the file trees, all of them.
    :param directory: ours, for bundles, keys and the worker's files.
    """

    def __init__(self, server: Server, trees: Path, directory: Path, jobs: int) -> None:
        self.server = server
        self.trees = {name: trees / name for name in MOVED}
        self.bundles = directory / "bundles"
        self.work = directory / "export-work"
        self._jobs = jobs
        self.identity = directory / "identity"
        self.signer = directory / "signer"
        self.bundles.mkdir()
        with self.identity.open("xb") as file:
            subprocess.run(["age-keygen"], stdout=file, stderr=subprocess.DEVNULL, check=True)
        run(Command(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f", str(self.signer)]))

    @property
    def database(self) -> str:
        """As a libpq string."""
        return self.server.conninfo(DATABASE)

    @property
    def bundle(self) -> Path:
        """The ciphertext."""
        return self.bundles / f"{MIGRATION}.tar.zst.age"

    def settle(self) -> None:
        """Caches as before every run."""
        caches.settle(servers=[self.server], read=[caches.rows(self.server), *self.trees.values()])

    def export(self, measure: Callable[[Command], float]) -> tuple[float, dict[str, Any]]:
        """Our bundle, made anew, read back and signed.

        :raises BenchError: it failed.
        """
        self.remove_bundle()
        self.settle()
        cost, result = worker.do(self.work, "bundle", self._spec(), measure)
        if not result["changed"] or not self.bundle.exists():
            raise BenchError("Our bundle was there already, so nothing was measured")
        return cost, result

    def remove_bundle(self) -> None:
        """The disk is as full before every run."""
        shutil.rmtree(self.bundles)
        self.bundles.mkdir()

    def _spec(self) -> dict[str, object]:
        public = next(line for line in self.identity.read_text().splitlines() if "public key" in line)
        return {
            "state": "present", "tenant": "bench", "migration_id": MIGRATION, "directory": str(self.bundles),
            "picture": self.database, "file_trees": [{"name": name, "path": str(path)} for name, path in self.trees.items()],
            "cut_off": "2000-01-01T00:00:00Z", "recipient": public.rpartition(" ")[2], "signing_key": str(self.signer),
            "readme": "How to import it by hand.\n", "jobs": self._jobs,
        }  # fmt: skip
