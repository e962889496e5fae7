# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder in which samples of throughput are made: one process at a time, gone afterwards, emptied first where one was killed in it."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from .bundle_places import disk_full
from .errors import MigrationError

NAME: Final = ".ireporter-throughput"
_RESERVE_BYTES: Final = 256 << 20


@contextmanager
def scratch(directory: Path, needed_bytes: int) -> Iterator[Path]:
    """An empty folder below ``directory``, where the bundle will be written, too.

    What an earlier run left that was killed is removed. The kernel gives the lock back when this process ends.

    :param needed_bytes: what will lie there at most.
    :raises MigrationError: another process takes samples there (check ``throughput-busy``), the folder cannot be used
        (``throughput-directory``), or its disk has too little room (``disk-full``).
    """
    folder = directory / NAME
    with _held(directory, folder) as lock:
        for entry in os.scandir(folder):
            _remove(Path(entry.path))
        room = os.statvfs(folder)
        try:
            if room.f_bavail * room.f_frsize < needed_bytes + _RESERVE_BYTES:
                raise disk_full(directory)
            yield folder
        finally:
            shutil.rmtree(folder)
            os.close(lock)


@contextmanager
def _held(directory: Path, folder: Path) -> Iterator[int]:
    """A lock on the folder that has the name now; the caller closes it after the folder is gone."""
    while True:
        try:
            with suppress(FileExistsError):
                folder.mkdir(mode=0o700)
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise MigrationError(
                f"{directory} cannot be written: {error.strerror}",
                check="throughput-directory",
                action="Name the existing folder in which the bundle will be made",
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise MigrationError(
                f"Another process takes samples of throughput in {directory}",
                check="throughput-busy",
                action="Wait until it has ended, then run again",
            ) from error
        # Between opening and locking, the one who had it may have removed it.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), folder.lstat()):
                break
        os.close(lock)
    yield lock


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
