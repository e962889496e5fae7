"""``pg_dump`` into a folder that is emptied while it fills: a table's file is taken as soon as it is complete, so no second copy lies on disk.

A file's size has to be known before its content can go into the bundle, so a table lies on disk until it is complete. While one
is taken, everything else on disk may grow up to a limit; beyond it, ``pg_dump`` is halted until the taking is done. At worst that
is the largest table, what the other jobs wrote meanwhile, and the limit.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from .bundle_encryption import require_programs, said
from .bundle_places import disk_full
from .bundle_tar import READ_BYTES
from .database_connection import Address, program
from .database_schema import environment
from .errors import MigrationError

_DATA: Final = re.compile(r"\d+\.dat")
_POLL_SECONDS: Final = 0.05
_DYING_SECONDS: Final = 10.0
_LOOK_EVERY_BYTES: Final = 32 << 20


class Dump:
    """One run of ``pg_dump --format=directory``, uncompressed (the bundle's zstd does better in less time).

    :param folder: empty, ours, gone afterwards.
    :param limit: bytes beside the file being taken, at which ``pg_dump`` is halted.
    """

    def __init__(
        self, address: Address, versions: Sequence[int], folder: Path, *, jobs: int, limit: int, snapshot: str
    ) -> None:
        require_programs("setpriv")
        self.folder = Path(os.path.realpath(folder))
        self.most_on_disk = 0
        self._limit = limit
        self._taken: set[str] = set()
        self._halted = False
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._process = subprocess.Popen(
            [
                # A pg_dump that outlives us would go on filling the disk; halted, it would stay for ever.
                "setpriv", "--pdeathsig=KILL", "--",
                program("pg_dump", *versions), "--no-password", "--format=directory", f"--jobs={jobs}", "--compress=0",
                "--no-sync", "--no-tablespaces", "--no-subscriptions", f"--snapshot={snapshot}",
                f"--file={self.folder}", f"--dbname={address.string()}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            env=environment(),
            # Of its own, to be halted as a whole; in our session, so that the kernel wakes and ends it when we die.
            process_group=0,
        )  # fmt: skip

    def files(self) -> Generator[tuple[str, int, Iterator[bytes]]]:
        """Name, size and content of every file, each complete; to be read to its end, then it is gone.

        Closed, no file is open any more: left half read, one would hold its room on a disk that is full.

        :raises MigrationError: the dump failed.
        """
        while True:
            # Asked before looking: what it wrote before it ended is seen.
            ended = self._process.poll() is not None
            if ended and self._process.returncode != 0:
                raise self._failed()
            ready = sorted(set(_listed(self.folder)) - self._taken) if ended else self._complete()
            if ended and not ready:
                return
            if not ready:
                self._go_on()
                time.sleep(_POLL_SECONDS)
            for name in ready:
                self._measure(name)
                path = self.folder / name
                size = path.stat().st_size
                with closing(self._content(path)) as content:
                    yield name, size, content
                self._taken.add(name)
                path.unlink()

    def close(self) -> None:
        """End what still runs, the workers included: a dying one holds its files, and the folder is to be removed next."""
        workers = []
        if self._process.poll() is None:
            for number in self._numbers()[1:]:
                with suppress(ProcessLookupError):
                    workers.append(os.pidfd_open(int(number)))
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for worker in workers:
            # Readable as soon as it has ended, whoever its parent is by then.
            select.select([worker], [], [], _DYING_SECONDS)
            os.close(worker)
        self._errors.close()

    def _content(self, path: Path) -> Generator[bytes]:
        looked = 0
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(READ_BYTES):
                looked += len(chunk)
                if looked >= _LOOK_EVERY_BYTES:
                    looked = 0
                    self._throttle(path.name)
                yield chunk

    def _throttle(self, being_taken: str) -> None:
        beside = self._measure(being_taken)
        if beside > self._limit and not self._halted and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGSTOP)
            self._halted = True

    def _measure(self, being_taken: str) -> int:
        """Bytes of the other files; notes the most there ever were of all."""
        with os.scandir(self.folder) as found:
            sizes = {entry.name: entry.stat().st_size for entry in found}
        self.most_on_disk = max(self.most_on_disk, sum(sizes.values()))
        return sum(sizes.values()) - sizes.get(being_taken, 0)

    def _go_on(self) -> None:
        if self._halted:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGCONT)
            self._halted = False

    def _complete(self) -> list[str]:
        """Data files that were written and closed. ``pg_dump`` opens each once.

        One that holds something was opened before the folder was listed; open nowhere after that, it was closed.
        Files without content and the tables of contents wait for the end.
        """
        with os.scandir(self.folder) as found:
            filled = {
                entry.name
                for entry in found
                if _DATA.fullmatch(entry.name) and entry.name not in self._taken and entry.stat().st_size > 0
            }
        return sorted(filled - self._open_files()) if filled else []

    def _numbers(self) -> list[str]:
        """Of the processes: the leader, then its workers."""
        leader = self._process.pid
        numbers = [str(leader)]
        for task in _listed(Path(f"/proc/{leader}/task")):
            with suppress(FileNotFoundError, ProcessLookupError):
                numbers += Path(f"/proc/{leader}/task/{task}/children").read_text().split()
        return numbers

    def _open_files(self) -> set[str]:
        prefix = f"{self.folder}/"
        opened = set()
        for number in self._numbers():
            for descriptor in _listed(Path(f"/proc/{number}/fd")):
                with suppress(FileNotFoundError, ProcessLookupError):
                    target = str(Path(f"/proc/{number}/fd/{descriptor}").readlink())
                    if target.startswith(prefix):
                        opened.add(target.removeprefix(prefix))
        return opened

    def _failed(self) -> MigrationError:
        complaint = said(self._errors)
        if "No space left on device" in complaint:
            return disk_full(self.folder)
        return MigrationError(
            f"pg_dump of the picture failed: {complaint}",
            check="bundle-incomplete",
            action="Mend the cause that PostgreSQL names, then run again: the bundle is made anew",
        )


def _listed(folder: Path) -> list[str]:
    """Names in a folder; none when it is one of a process that has ended."""
    try:
        return [path.name for path in folder.iterdir()]
    except (FileNotFoundError, ProcessLookupError):
        return []
