# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One file on its way: half-copied, resumed, proven, and only then given its name.

Beside a half-copied file of more than one block lies its journal: size and time of the source, then the SHA-256 of every block as it
was read from the source. What is resumed is proven by it: blocks on the disk that do not have the digest they were read with are read
again; size and time of the source must be the same; and its last copied block is read once more (with ``whole``, every copied block),
because a server may lie about times. When all is there, the file is read back from the disk and every block compared with its digest.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from .errors import MigrationError
from .file_verification import text_of
from .sftp_entry import Entry, SourceFile, Vanished
from .sftp_target import TargetTree, look, partial_name, set_attributes

BLOCK_BYTES: Final = 4 << 20  # what one channel holds in memory, and what is lost of a copy that ended
JOURNAL_SUFFIX: Final = b".journal"
_OPEN: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK

# Called with the bytes read from the source since the last call; raises to end the copy.
Tell = Callable[[int], None]


@dataclass(frozen=True)
class Copied:
    """``size`` in bytes; ``resumed``: bytes of it that an earlier copy had left."""

    size: int
    resumed: int


def fetch(
    remote: SourceFile, target: TargetTree, folder: int, entry: Entry, path: bytes, *, whole: bool, tell: Tell
) -> Copied:
    """Copy one file into the open ``folder`` and give it its name.

    :param entry: its listing; size and time are asked again.
    :param whole: read what is resumed from the source again too, all of it.
    :raises Vanished: it changed while it was copied; nothing has its name that had not before.
    :raises MigrationError: the disk does not give back what was written (check ``files-copy``).
    :raises OSError: the target could not be written.
    """
    version = remote.version()
    entry = replace(entry, size=version[0], mtime=version[1])
    partial = _Partial(target, folder, entry, path)
    try:
        resumed = partial.resume(remote, version, whole=whole, tell=tell)
        partial.read_rest(remote, version, tell)
        if remote.version() != version:
            partial.discard()
            raise Vanished(text_of(path))
        partial.prove_and_place()
    finally:
        partial.close()
    return Copied(version[0], resumed)


def same_content(remote: SourceFile, folder: int, entry: Entry, path: bytes, *, tell: Tell) -> bool:
    """Whether the file in the open ``folder`` has the content of the source, both read to the end.

    :raises Vanished: the source changed while it was read.
    """
    version = remote.version()
    descriptor = os.open(entry.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder)
    try:
        equal = os.fstat(descriptor).st_size == version[0]
        for offset, length in _blocks(version[0]):
            if not equal:
                break
            theirs = remote.read(offset, length)
            tell(len(theirs))
            equal = hashlib.sha256(theirs).digest() == _digest(descriptor, offset, length)
    finally:
        os.close(descriptor)
    if remote.version() != version:
        raise Vanished(text_of(path))
    return equal


class _Partial:
    """The half-copied file and its journal, both open."""

    def __init__(self, target: TargetTree, folder: int, entry: Entry, path: bytes) -> None:
        self._target = target
        self._folder = folder
        self._entry = entry
        self._path = path
        self._name = partial_name(entry.name)
        self._journal_name = self._name + JOURNAL_SUFFIX
        self._size = entry.size or 0
        self._digests: list[bytes] = []
        self._journal: int | None = None
        self._content = self._open(self._name)
        if self._size > BLOCK_BYTES:
            try:
                self._journal = self._open(self._journal_name)
            except BaseException:
                self.close()
                raise

    def _open(self, name: bytes) -> int:
        """A file nobody else has a name for: a hard link laid here would let us write into another file."""
        try:
            descriptor = os.open(name, _OPEN, dir_fd=self._folder)
        except OSError:
            pass
        else:
            seen = os.fstat(descriptor)
            if stat.S_ISREG(seen.st_mode) and seen.st_nlink == 1:
                return descriptor
            os.close(descriptor)
        self._target.remove(self._folder, name, name)
        return os.open(name, _OPEN | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=self._folder)

    def close(self) -> None:
        for descriptor in (self._content, self._journal):
            if descriptor is not None:
                os.close(descriptor)

    def discard(self) -> None:
        for name in (self._name, self._journal_name):
            self._target.remove(self._folder, name, name)

    def resume(self, remote: SourceFile, version: tuple[int, int | None], *, whole: bool, tell: Tell) -> int:
        """Keep what is proven of an earlier attempt, forget the rest; how many bytes are kept."""
        if self._journal is None:
            os.ftruncate(self._content, 0)
            return 0
        head = json.dumps({"size": version[0], "mtime": version[1], "block": BLOCK_BYTES}).encode()
        first, *lines = _read_all(self._journal).split(b"\n")
        known = [line for line in lines if len(line) == 64] if first == head and version[1] is not None else []
        here = os.fstat(self._content).st_size
        for (offset, length), line in zip(_blocks(version[0]), known, strict=False):
            # A journal can be ahead of the content after a power cut.
            if offset + length > here or _digest(self._content, offset, length).hex().encode() != line:
                break
            self._digests.append(bytes.fromhex(line.decode()))
        for number in range(len(self._digests)) if whole else range(len(self._digests))[-1:]:
            again = remote.read(number * BLOCK_BYTES, min(BLOCK_BYTES, version[0] - number * BLOCK_BYTES))
            tell(len(again))
            if hashlib.sha256(again).digest() != self._digests[number]:
                self._digests.clear()
                break
        resumed = min(len(self._digests) * BLOCK_BYTES, version[0])
        os.ftruncate(self._content, resumed)
        os.ftruncate(self._journal, 0)
        _write_all(
            self._journal, b"".join(line + b"\n" for line in [head, *(one.hex().encode() for one in self._digests)]), 0
        )
        return resumed

    def read_rest(self, remote: SourceFile, version: tuple[int, int | None], tell: Tell) -> None:
        for number, (offset, length) in enumerate(_blocks(version[0])):
            if number < len(self._digests):
                continue
            content = remote.read(offset, length)
            if len(content) != length:
                self.discard()
                raise Vanished(text_of(self._path))
            digest = hashlib.sha256(content).digest()
            _write_all(self._content, content, offset)
            self._digests.append(digest)
            if self._journal is not None:
                _write_all(self._journal, digest.hex().encode() + b"\n", os.fstat(self._journal).st_size)
            tell(length)

    def prove_and_place(self) -> None:
        """Onto the disk, back from it, compare, and only then the name."""
        before = look(self._folder, self._entry.name)
        like = before if before is not None and stat.S_ISREG(before.st_mode) else os.fstat(self._folder)
        set_attributes(self._content, self._entry, like)
        os.fsync(self._content)
        # Else it would come from memory, which proves nothing about the disk.
        os.posix_fadvise(self._content, 0, 0, os.POSIX_FADV_DONTNEED)
        for (offset, length), digest in zip(_blocks(self._size), self._digests, strict=True):
            if _digest(self._content, offset, length) != digest:
                self.discard()
                raise MigrationError(
                    f"{text_of(self._path)!r} in {self._target.root} is not what was written there {length} bytes from {offset} on",
                    check="files-copy",
                    action="Have this server's disk and memory checked before anything else is copied to it",
                )
        self._target.place(self._folder, self._name, self._entry.name, self._path)
        if self._journal is not None:
            self._target.remove(self._folder, self._journal_name, self._journal_name)


def _blocks(size: int) -> Iterator[tuple[int, int]]:
    """Offset and length of every block of a file."""
    for offset in range(0, size, BLOCK_BYTES):
        yield offset, min(BLOCK_BYTES, size - offset)


def _digest(descriptor: int, offset: int, length: int) -> bytes:
    """SHA-256 of what is on this host's disk; of less where the file ends sooner."""
    digest = hashlib.sha256()
    while length > 0:
        part = os.pread(descriptor, min(length, 1 << 20), offset)
        if not part:
            break
        digest.update(part)
        offset += len(part)
        length -= len(part)
    return digest.digest()


def _read_all(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


def _write_all(descriptor: int, content: bytes | bytearray, offset: int) -> None:
    view = memoryview(content)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
