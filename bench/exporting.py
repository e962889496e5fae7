# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Part ``export``: a tenant's bundle, by us and by what an administrator would type."""

from __future__ import annotations

import shutil
from pathlib import Path

from bench import worker
from bench.commands import Command, peak_megabytes, run, seconds, shown
from bench.figures import MEGABYTES, Findings, Target
from bench.pair import stock_programs
from bench.tenant import Tenant

OURS = "our bundle, with digests, read back and signed"
BY_HAND = "pg_dump -Fd -j2, tar, gpg -c"
OUR_SIZE = "size of our bundle"
SIZE_BY_HAND = "size of the administrator's"
MEMORY = "peak memory of our export"
TARGETS = (Target(OURS, 0.3, BY_HAND), Target(OUR_SIZE, 1.0, SIZE_BY_HAND), Target(MEMORY, 300))


class ByHand:
    """What an administrator would do with stock programs and their defaults."""

    def __init__(self, tenant: Tenant, directory: Path) -> None:
        self._tenant = tenant
        self._folder = directory / "by-hand"
        self._passphrase = directory / "passphrase"
        self._passphrase.write_text("a passphrase of the bench\n")

    @property
    def result(self) -> Path:
        return self._folder / "bundle.tar.gpg"

    @property
    def _home(self) -> dict[str, str]:
        return {"GNUPGHOME": str(self._folder / "gnupg")}

    def make(self) -> float:
        """Seconds of all three commands."""
        self.remove()
        (self._folder / "gnupg").mkdir(parents=True, mode=0o700)
        self._tenant.settle()
        return seconds(*self.commands())

    def remove(self) -> None:
        """The disk is as full before every run."""
        if self._folder.exists():
            # gpg leaves an agent running, for whoever asks next.
            run(Command(["gpgconf", "--kill", "gpg-agent"], self._home))
            shutil.rmtree(self._folder)

    def commands(self) -> tuple[Command, ...]:
        """One after the other."""
        dump, tar = str(self._folder / "dump"), str(self._folder / "bundle.tar")
        root = next(iter(self._tenant.trees.values())).parent
        return (
            Command(["pg_dump", "-Fd", "-j2", "-f", dump, "-d", self._tenant.database], stock_programs()),
            Command(["tar", "-cf", tar, "-C", str(self._folder), "dump", "-C", str(root), *self._tenant.trees]),
            Command(
                [
                    *("gpg", "--batch", "--quiet", "--pinentry-mode", "loopback"),
                    *("--passphrase-file", str(self._passphrase), "-o", str(self.result), "-c", tar),
                ],
                self._home,
            ),
        )


def measure(tenant: Tenant, directory: Path, runs: int) -> Findings:
    """Both sides once a round; before them what is not timed: memory."""
    found = Findings()
    by_hand = ByHand(tenant, directory)
    ours = shown(worker.command(tenant.work, "bundle"), hide=directory)
    typed = shown(*by_hand.commands(), hide=directory)
    memory, result = tenant.export(peak_megabytes)
    found.add(MEMORY, memory, unit=MEGABYTES, command=ours)
    found.details["bundle"] = {name: result[name] for name in ("tables", "rows", "files", "file_bytes", "tar_bytes")}
    for _round in range(runs):
        found.add(OURS, tenant.export(seconds)[0], command=ours)
        found.add(OUR_SIZE, tenant.bundle.stat().st_size / 1e6, unit=MEGABYTES, command=ours)
        tenant.remove_bundle()
        found.add(BY_HAND, by_hand.make(), command=typed)
        found.add(SIZE_BY_HAND, by_hand.result.stat().st_size / 1e6, unit=MEGABYTES, command=typed)
        by_hand.remove()
    return found
