"""The outer tar of a bundle: plain files in one fixed form, written and read as a stream. Whatever else a tar may hold is refused."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from .bundle_format import BASE, content_error, is_member

READ_BYTES = 1 << 20
_BLOCK = tarfile.BLOCKSIZE


class Sink(Protocol):
    """What can be written to."""

    def write(self, data: bytes, /) -> object: ...


class Source(Protocol):
    """What can be read to its end."""

    def read(self, size: int, /) -> bytes: ...


def _header(name: str, size: int, moment: int) -> bytes:
    """The one block before a file: GNU format, because it alone holds 8 GiB and more without a second header."""
    info = tarfile.TarInfo(f"{BASE}/{name}")
    info.size, info.mtime, info.mode = size, moment, 0o600
    return info.tobuf(tarfile.GNU_FORMAT, "ascii", "strict")


class Writer:
    """Writes members and remembers their digests.

    :param moment: time of every member, seconds since 1970.
    """

    def __init__(self, stream: Sink, moment: int, progress: Callable[[int], None]) -> None:
        self._stream = stream
        self._moment = moment
        self._progress = progress
        self.digests: dict[str, str] = {}
        self.bytes = 0

    def add(self, name: str, size: int, chunks: Iterable[bytes]) -> None:
        """Write one file of exactly ``size`` bytes.

        :raises MigrationError: the chunks are more or fewer (check ``bundle-source-changed``), or the name is used up.
        """
        if not is_member(name) or name in self.digests:
            raise content_error(f"{name!r} cannot be added to the bundle")
        self._stream.write(_header(name, size, self._moment))
        digest = hashlib.sha256()
        written = 0
        for chunk in chunks:
            written += len(chunk)
            if written > size:
                break
            digest.update(chunk)
            self._stream.write(chunk)
            self._progress(len(chunk))
        if written != size:
            raise content_error(f"{name} was {size} bytes and changed while it was read")
        self._stream.write(b"\0" * (-size % _BLOCK))
        self.digests[name] = digest.hexdigest()
        self.bytes += size

    def add_bytes(self, name: str, content: bytes) -> None:
        """Write one small file."""
        self.add(name, len(content), [content])

    def end(self) -> None:
        """Write the end mark; nothing may follow."""
        self._stream.write(b"\0" * (2 * _BLOCK))


class Member:
    """One file of the tar, to be read to its end before the next. Hashes what is read."""

    def __init__(self, name: str, size: int, stream: Source) -> None:
        self.name = name
        self.size = size
        self._stream = stream
        self._left = size
        self._digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes (one chunk by default), nothing at the end.

        :raises MigrationError: the tar ends early (check ``bundle-content``).
        """
        wanted = min(self._left, READ_BYTES if size < 0 else size)
        if wanted == 0:
            return b""
        data = _exactly(self._stream, wanted)
        self._left -= wanted
        self._digest.update(data)
        return data

    def chunks(self) -> Iterator[bytes]:
        """The rest of the file."""
        while chunk := self.read():
            yield chunk

    def sha256(self) -> str:
        """Of the whole file; reads what was not read yet."""
        for _rest in self.chunks():
            pass
        return self._digest.hexdigest()


def members(stream: Source, limit: int | None) -> Iterator[Member]:
    """Every file of the tar, each refused before its content is looked at when a bundle cannot have it.

    :param limit: sum of all sizes as the sender states it.
    :raises MigrationError: anything but the plain, expected files in the one form of :class:`Writer` (check ``bundle-content``).
    """
    seen: set[str] = set()
    total = 0
    while True:
        block = _exactly(stream, _BLOCK)
        if not block.strip(b"\0"):
            if _exactly(stream, _BLOCK).strip(b"\0") or stream.read(1):
                raise content_error("Something follows the end of the bundle's tar")
            return
        name, size = _parse_header(block)
        if name in seen:
            raise content_error(f"The bundle has {name} twice")
        seen.add(name)
        total += size
        if limit is not None and total > limit:
            raise content_error(f"The bundle holds more than the {limit} bytes its statement speaks of")
        member = Member(name, size, stream)
        yield member
        for _rest in member.chunks():
            pass
        if _exactly(stream, -size % _BLOCK).strip(b"\0"):
            raise content_error(f"Something is hidden behind {name}")


def _parse_header(block: bytes) -> tuple[str, int]:
    try:
        info = tarfile.TarInfo.frombuf(block, "ascii", "surrogateescape")
    except tarfile.TarError as error:
        raise content_error("The bundle's tar is damaged: a header has no valid form") from error
    name = info.name.removeprefix(f"{BASE}/")
    if info.type != tarfile.REGTYPE:
        raise content_error(f"The bundle's tar has {info.name!r}, which is no plain file")
    if name == info.name or not is_member(name):
        raise content_error(f"The bundle's tar has {info.name!r}, which no bundle has")
    # Nothing in a header that its writer did not put there: owners, modes, other notations of the same.
    if info.size < 0 or _header(name, info.size, int(info.mtime)) != block:
        raise content_error(f"The header of {name} is not in the form in which bundles have it")
    return name, info.size


def _exactly(stream: Source, size: int) -> bytes:
    data = stream.read(size) if size else b""
    while len(data) < size:
        more = stream.read(size - len(data))
        if not more:
            raise content_error("The bundle ends early")
        data += more
    return data
