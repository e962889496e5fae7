"""Folders in which bundles are made and unpacked: one process at a time, on disk before it counts, nothing half left."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from .errors import MigrationError


def disk_full(where: Path) -> MigrationError:
    """Nothing that was written half stays."""
    return MigrationError(
        f"The disk of {where} is full",
        check="disk-full",
        action="Make room there, then run again: what was written half is removed and made anew",
    )


@contextmanager
def locked(directory: Path, name: str) -> Iterator[None]:
    """Nobody else works on the same bundle in ``directory``. The kernel gives the lock back when this process ends.

    :raises MigrationError: somebody does (check ``bundle-busy``), or there is no such folder (``bundle-directory``).
    """
    try:
        descriptor = os.open(directory / f".{name}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise disk_full(directory) from error
        raise MigrationError(
            f"{directory} cannot be written: {error.strerror}",
            check="bundle-directory",
            action="Name an existing folder on a disk with room",
        ) from error
    with os.fdopen(descriptor, "rb+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise MigrationError(
                f"Another process works on {name} in {directory}",
                check="bundle-busy",
                action="Wait until it has ended, then run again",
            ) from error
        yield


def sync_folder(folder: Path) -> None:
    """Names of files are on disk, too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file_system(folder: Path) -> None:
    """All of it is on disk. One call for the file system beats one for each of 100,000 files."""
    subprocess.run(["sync", "--file-system", str(folder)], check=True, stdin=subprocess.DEVNULL)


def create(path: Path, buffering: int = -1) -> IO[bytes]:
    """A new file that is its owner's only; what is there already, a link included, is refused."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o600), "wb", buffering)


def remove_folder(folder: Path) -> None:
    """With everything in it; where there is none, nothing happens."""
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)
