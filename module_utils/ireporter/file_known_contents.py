# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a comparison by day read of a tree and of its copy, so that the one inside a freeze reads only what changed since.

A JSON line with :func:`lease.boot_identity` of source and target, then one for each file in which the same was read on both sides, in the
order of manifests::

    {"boots": ["…", "…"]}
    ["xml/設定.xml", {"sha256": …, "xattrs": …, "acl": …}, [inode, size, mtime_ns, ctime_ns] of the source, the same of the target]

With every change of a file's content or attributes the kernel moves its ctime, which nobody can set (``man 7 inode``). A program that writes
through a shared mapping is seen once per page until that page was written back, after half a minute at most
(``vm.dirty_expire_centisecs``): so a file of the source is known only if it had been left alone for longer than that when it was read.

A power cut may keep what was written into a file and lose the times that went with it: after it the file is another one and looks as it did.
So of a side that was started anew since nothing is known.

The side that compares keeps it: beside the copy, or in the folder of the migration's record until that has ended. To the other
server, where there is one, it sends the lines of each of its trees after a head, ``{"root": …, "boot": …}``.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import IO, Final

from .file_manifest import READ_FROM_FILES, Entry, Known, Version, order, to_bytes, to_text
from .lease import boot_identity
from .tenant_model import STATE_DIRECTORY
from .whole_files import writing_whole

READ: Final = "read"
"""Every file is read."""
KNOWN: Final = "known"
"""What is as it was when it was remembered is not read again."""
REMEMBERED: Final = "remembered"
"""The same, and what is found equal is remembered."""

FOLDER: Final = "known-contents"
SOURCE: Final = 0
TARGET: Final = 1
_SETTLED_SECONDS: Final = 120
_CTIME: Final = 3
# A path has 4 KB, the attributes of a file 64 KB. What is longer makes no sense, and must not fill the memory.
_LONGEST_LINE: Final = 1 << 20

Pair = tuple[bytes, Entry | None, Entry | None]


def folder_of(run: Mapping[str, object] | None) -> Path | None:
    """Where the migration ``{tenant, id}`` keeps it on this server."""
    return STATE_DIRECTORY / str(run["tenant"]) / str(run["id"]) / FOLDER if run else None


def place_of(target: Path) -> Path:
    """Where what is known of the tree ``target`` on this server stands: beside it, so that it is no data."""
    return target.parent / f".{target.name}.known-contents"


def forget(target: Path) -> None:
    """Nothing is known of it any more, also where a process was killed that wrote it down."""
    place = place_of(target)
    for path in (place, *place.parent.glob(f".{place.name}.*")):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def known(place: Path, side: int) -> Iterator[Known | None]:
    """For one manifest of ``SOURCE`` or ``TARGET`` here; ``None`` where nothing was remembered in ``place`` since this host was started.

    A line that makes no sense ends it: what is not known is read, which is always right.
    """
    try:
        with place.open("rb") as lines:
            yield _InOrder(lines, side).of if _boot(lines, side) == boot_identity() else None
    except FileNotFoundError:
        yield None


def remembering(pairs: Iterator[Pair], place: Path, target_boot: str) -> Generator[Pair, None, None]:
    """Pass ``pairs`` on, without the versions in them, and keep in ``place`` what is the same; only if all of them were passed on.

    To be closed by the caller.

    :param pairs: path, source, target; of manifests with versions. The source is here.
    :param target_boot: :func:`lease.boot_identity` where the target is; empty where that is not known.
    """
    settled = time.time_ns() - _SETTLED_SECONDS * 1_000_000_000
    with writing_whole(place, durable=False) as lines:
        lines.write(json.dumps({"boots": [boot_identity(), target_boot]}).encode() + b"\n")
        for path, left, right in pairs:
            of_source, of_target = (side.pop("version", None) if side else None for side in (left, right))
            if left and right and of_source and of_target and of_source[_CTIME] < settled:
                read = {name: left[name] for name in READ_FROM_FILES if name in left}
                if read == {name: right[name] for name in READ_FROM_FILES if name in right}:
                    lines.write(json.dumps([to_text(path), read, of_source, of_target]).encode() + b"\n")
            yield path, left, right


def send(places: Mapping[Path, Path], stream: IO[bytes]) -> None:
    """Write to ``stream`` what :class:`Received` reads.

    :param places: root on the other server, and where what is known of it stands here.
    """
    for root, place in places.items():
        with contextlib.suppress(FileNotFoundError), place.open("rb") as lines:
            head = {"root": to_text(os.fsencode(root)), "boot": _boot(lines, TARGET)}
            stream.write(json.dumps(head).encode() + b"\n")
            shutil.copyfileobj(lines, stream)


def _boot(lines: IO[bytes], side: int) -> str | None:
    """Take the first line: in which boot of that side its files were read; ``None`` where it makes no sense."""
    with contextlib.suppress(ValueError, TypeError, KeyError, IndexError):
        return str(json.loads(lines.readline(_LONGEST_LINE))["boots"][side])
    return None


class Received:
    """What another server knows of the trees here, to be asked for in the order in which it sent them.

    What makes no sense, or comes in another order, is not known: it is read, which is always right.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._root: Path | None = None
        self._boot: object = None
        self._lines = self._until_head()

    def of(self, root: Path) -> Known | None:
        """For the manifest of ``root`` here, which is a target; ``None`` where nothing of it comes next, or it is from before this host was started."""
        for _left in self._lines:
            pass
        if self._root != root:
            return None
        boot = self._boot
        self._lines = self._until_head()
        return _InOrder(self._lines, TARGET).of if boot == boot_identity() else None

    def _until_head(self) -> Iterator[bytes]:
        while line := self._stream.readline(_LONGEST_LINE):
            if line.startswith(b"{"):
                with contextlib.suppress(ValueError, TypeError, KeyError):
                    head = json.loads(line)
                    self._root, self._boot = Path(os.fsdecode(to_bytes(head["root"]))), head["boot"]
                return
            yield line
        self._root = None


class _InOrder:
    """Asked for one path after the other in the order of manifests, so that it never holds more than one line."""

    def __init__(self, lines: Iterator[bytes], side: int) -> None:
        self._lines = lines
        self._side = side
        self._path: bytes | None = None
        self._found: tuple[Version, Entry] | None = None
        self._next()

    def of(self, path: bytes) -> tuple[Version, Entry] | None:
        while self._path is not None and self._path != path and order(self._path) < order(path):
            self._next()
        return self._found if self._path == path else None

    def _next(self) -> None:
        self._path = self._found = None
        try:
            path, read, *versions = json.loads(next(self._lines, b"null"))
            inode, size, mtime_ns, ctime_ns = versions[self._side]
            if isinstance(read["sha256"], str):
                self._path, self._found = to_bytes(path), ((inode, size, mtime_ns, ctime_ns), read)
        except (ValueError, TypeError, IndexError, KeyError):
            return
