# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files a sample reads: of each size as many as the trees have, drawn by chance while the trees are walked once."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from .errors import MigrationError
from .estimate_samples import CHECK

# So many paths of each size are remembered: enough for samples, and a bound for the memory.
_REMEMBERED: Final = 8000
_READ_BYTES: Final = 1 << 20
_LOOK_AT_THE_CLOCK_EVERY: Final = 500


@dataclass
class _Class:
    """Files of about one size (up to twice the smallest), and their bytes."""

    files: int = 0
    size: int = 0
    known: list[tuple[bytes, int]] = field(default_factory=list)


@dataclass
class SampledTrees:
    """What a walk saw: number and bytes of files. ``whole``: it came to its end.

    :param classes: by the number of bits of the size.
    """

    files: int = 0
    size: int = 0
    whole: bool = True
    classes: dict[int, _Class] = field(default_factory=dict)

    def choose(self, wanted: int, chance: Random) -> list[tuple[bytes, int]]:
        """Paths, and how many bytes of each are to be read: about ``wanted`` together, small and large files as in the trees.

        Of a size of which even one whole file would be too much, a part of one is read.
        """
        chosen: list[tuple[bytes, int]] = []
        part = min(1.0, wanted / self.size) if self.size else 1.0
        for one in self.classes.values():
            number = part * one.files
            if number < 1 and one.size:
                path, length = chance.choice(one.known)
                chosen.append((path, min(length, max(1, round(part * one.size)))))
            else:
                members = chance.sample(one.known, min(len(one.known), round(number)))
                chosen += members
        chance.shuffle(chosen)
        return chosen


def look(trees: Sequence[Path], chance: Random, in_time: Callable[[], bool]) -> SampledTrees:
    """Walk the trees; links are not followed, other file systems not entered.

    :param in_time: asked now and then; when it says no, the walk ends where it is.
    :raises MigrationError: a tree cannot be read (R03).
    """
    seen = SampledTrees()
    for path, size in _walk(trees, chance):
        if seen.files % _LOOK_AT_THE_CLOCK_EVERY == _LOOK_AT_THE_CLOCK_EVERY - 1 and not in_time():
            seen.whole = False
            break
        seen.files += 1
        seen.size += size
        one = seen.classes.setdefault(size.bit_length(), _Class())
        one.files += 1
        one.size += size
        # Each file has the same chance to be among those that are remembered.
        if len(one.known) < _REMEMBERED:
            one.known.append((path, size))
        elif (place := chance.randrange(one.files)) < _REMEMBERED:
            one.known[place] = (path, size)
    return seen


def _walk(trees: Sequence[Path], chance: Random) -> Iterator[tuple[bytes, int]]:
    """In an order of chance, so that a walk that is cut short saw a bit of everything."""

    def stop(error: OSError) -> None:
        raise MigrationError(
            f"The file tree {error.filename!r} cannot be read: {error.strerror}",
            check=CHECK,
            action="Name existing folders that this account may read, then measure again",
        ) from error

    for tree in chance.sample(list(trees), len(trees)):
        if tree.is_symlink() or not tree.is_dir():
            stop(NotADirectoryError(20, "no folder, or a link to one", str(tree)))
        device = tree.stat().st_dev
        # What vanishes while a tenant works is no error; a root that cannot be read was found above.
        for folder, names, files in os.walk(os.fsencode(tree), onerror=lambda error: _pass_vanished(error, stop)):
            names[:] = [name for name in names if _device(os.path.join(folder, name)) == device]  # noqa: PTH118 - bytes
            chance.shuffle(names)
            for name in files:
                path = os.path.join(folder, name)  # noqa: PTH118 - bytes
                try:
                    found = os.lstat(path)
                except FileNotFoundError:
                    continue
                if stat.S_ISREG(found.st_mode):
                    yield path, found.st_size


def _pass_vanished(error: OSError, stop: Callable[[OSError], None]) -> None:
    if not isinstance(error, FileNotFoundError):
        stop(error)


def _device(path: bytes) -> int | None:
    try:
        return os.lstat(path).st_dev
    except FileNotFoundError:
        return None


def copy(chosen: Sequence[tuple[bytes, int]], folder: Path, clock: Callable[[], float]) -> tuple[int, float]:
    """Copy what was chosen into new files below ``folder``, as staging does; bytes, and seconds of reading alone.

    :param clock: gives seconds.
    """
    read, seconds = 0, 0.0
    for number, (path, size) in enumerate(chosen):
        place = folder / f"{number // 200}" / f"{number}"
        place.parent.mkdir(exist_ok=True)
        began = clock()
        try:
            source = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # gone since the walk, as files of a tenant at work go
        try:
            with place.open("xb") as file:
                left = size
                while left and (chunk := os.read(source, min(left, _READ_BYTES))):
                    seconds += clock() - began
                    left -= len(chunk)
                    read += len(chunk)
                    file.write(chunk)
                    began = clock()
                seconds += clock() - began
            kept = os.fstat(source)
            os.utime(place, ns=(kept.st_atime_ns, kept.st_mtime_ns))
        finally:
            os.close(source)
    return read, seconds
