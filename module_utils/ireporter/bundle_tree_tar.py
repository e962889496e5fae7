"""Reads a file tree's tar as a stream, in the one form in which GNU tar writes it (``--format=pax``). Whatever else a tar may hold is refused.

Not by tarfile: it takes every form that tar ever had, so what it understands and what GNU tar will unpack may differ, and a tree of
100,000 files cost it most of the time in which a bundle is read back (``script/bench export``). The form: POSIX.1-2017, pax, "ustar
Interchange Format" and "pax Extended Header"; the names of ACLs and attributes: GNU tar's ``xheader.c``.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from .bundle_format import content_error
from .bundle_tar import READ_BYTES, Source
from .file_manifest import attribute_name

_BLOCK: Final = 512
# name, mode, uid, gid, size, mtime, checksum, type, link name, magic and version, user, group, device (2), prefix
_HEADER: Final = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_FORM: Final = b"ustar\x0000"
_EXTENDED: Final = b"x"
_FOLDER: Final = b"5"
_KINDS: Final = {
    b"0": "file",
    b"1": "hard link",
    b"2": "link",
    b"3": "special file",
    b"4": "special file",
    _FOLDER: "directory",
    b"6": "special file",
}
# Names and attributes are small; a header that claims more is meant to fill the memory.
_LARGEST_HEADER: Final = 1 << 20
_XATTR: Final = b"SCHILY.xattr."
_ACLS: Final = {b"SCHILY.acl.access": "access", b"SCHILY.acl.default": "default"}
_FIELDS: Final = frozenset({b"path", b"linkpath", b"size", b"mtime", b"uid", b"gid", b"uname", b"gname"})
_NANOSECONDS: Final = 9


@dataclass(slots=True)
class Entry:
    """One name of the tree.

    :param kind: ``file``, ``directory``, ``link``, ``hard link``, or ``special file``.
    :param mode: the twelve bits, as four octal digits.
    :param link: what a link of either kind says.
    :param sha256: of a file's content; empty for what has none.
    """

    name: bytes
    kind: str
    mode: str
    uid: int
    gid: int
    owner: str
    group: str
    mtime_ns: int
    size: int
    link: bytes
    sha256: str = ""
    xattrs: dict[str, bytes] = field(default_factory=dict)
    acl: dict[str, list[str]] = field(default_factory=dict)


def entries(tree: str, tar: Source) -> Iterator[Entry]:
    """Everything in the tar, in its order; it is read to its end.

    :raises MigrationError: it is damaged, ends early, or is not in the form (check ``bundle-content``).
    """
    stream = _Stream(tree, tar)
    extended: dict[bytes, bytes] = {}
    while True:
        block = stream.take(_BLOCK)
        if block[0] == 0 and not block.strip(b"\0"):
            if extended or not stream.only_zeros_follow():
                raise damaged(tree, "something follows its end")
            return
        kind, size = _kind_and_size(tree, block)
        if kind == _EXTENDED:
            if extended or not 0 < size <= _LARGEST_HEADER:
                raise damaged(tree, "it has an extended header that is empty, oversize or a second one")
            extended = _records(tree, stream.take(size))
            stream.pad(size)
            continue
        entry = _entry(tree, block, extended)
        extended = {}
        if entry.kind == "file":
            entry.sha256 = stream.digest(entry.size)
            stream.pad(entry.size)
        elif entry.size:
            raise damaged(tree, f"{_shown(entry.name)} has content and is no file")
        yield entry


def damaged(tree: str, how: str) -> Exception:
    """What is raised: the tar cannot be one that GNU tar has written for a bundle."""
    return content_error(f"The tar of file tree {tree} is damaged: {how}")


class _Stream:
    """Exact pieces of the tar."""

    def __init__(self, tree: str, source: Source) -> None:
        self._tree = tree
        self._source = source
        self._data = b""
        self._at = 0

    def take(self, size: int) -> bytes:
        end = self._at + size
        while end > len(self._data):
            more = self._source.read(READ_BYTES)
            if not more:
                raise damaged(self._tree, "it ends early")
            self._data = self._data[self._at :] + more
            self._at, end = 0, size
        piece = self._data[self._at : end]
        self._at = end
        return piece

    def pad(self, size: int) -> None:
        """Pass what fills up the last block of ``size`` bytes."""
        if self.take(-size % _BLOCK).strip(b"\0"):
            raise damaged(self._tree, "something is hidden behind a content")

    def digest(self, size: int) -> str:
        """SHA-256 of the next ``size`` bytes."""
        digest = hashlib.sha256()
        while size:
            if self._at == len(self._data):
                self._data, self._at = self._source.read(READ_BYTES), 0
                if not self._data:
                    raise damaged(self._tree, "it ends early")
            piece = memoryview(self._data)[self._at : self._at + size]
            digest.update(piece)
            self._at += len(piece)
            size -= len(piece)
        return digest.hexdigest()

    def only_zeros_follow(self) -> bool:
        """To its end: a second block at least."""
        left = self._data[self._at :]
        zeros, size = not left.strip(b"\0"), len(left)
        while more := self._source.read(READ_BYTES):
            zeros, size = zeros and not more.strip(b"\0"), size + len(more)
        return zeros and size >= _BLOCK


def _kind_and_size(tree: str, block: bytes) -> tuple[bytes, int]:
    # The sum is over the block with blanks in the sum's own place.
    if sum(block) - sum(block[148:156]) + 256 != _octal(tree, block[148:156]) or block[257:265] != _FORM:
        raise damaged(tree, "a header has no valid form")
    return block[156:157], _octal(tree, block[124:136])


def _octal(tree: str, raw: bytes) -> int:
    digits = raw.rstrip(b"\0 ")
    if not digits.isdigit() or b"8" in digits or b"9" in digits:
        raise damaged(tree, "a header has no valid form")
    return int(digits, 8)


def _records(tree: str, raw: bytes) -> dict[bytes, bytes]:
    """``length key=value`` and a newline, again and again."""
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(raw):
        blank = raw.find(b" ", at, at + 20)
        length = raw[at:blank] if blank > 0 else b""
        end = at + int(length) if length.isdigit() else 0
        key, equals, value = raw[blank + 1 : end - 1].partition(b"=")
        if not blank < end <= len(raw) or raw[end - 1 : end] != b"\n" or not equals or key in found:
            raise damaged(tree, "an extended header has no valid form")
        if key not in _FIELDS and key not in _ACLS and not key.startswith(_XATTR):
            raise damaged(tree, f"an extended header has {_shown(key)}, which no bundle has")
        found[key] = value
        at = end
    return found


def _entry(tree: str, block: bytes, extended: dict[bytes, bytes]) -> Entry:
    if block[156:157] not in _KINDS:
        raise damaged(tree, f"it has an entry of the kind {_shown(block[156:157])}, which no bundle has")
    name, mode, uid, gid, size, mtime, _sum, kind, link, _form, user, group, _major, _minor, prefix = _HEADER.unpack(
        block
    )
    name = _text(name)
    if prefix[0]:
        name = _text(prefix) + b"/" + name
    path = extended.get(b"path", name)
    moment = extended.get(b"mtime")
    entry = Entry(
        # Folders are written with a slash at their end. Anything else with one would be a folder to GNU tar: it keeps it, and no name has it.
        name=path.rstrip(b"/") if kind == _FOLDER else path,
        kind=_KINDS[kind],
        mode=f"{_octal(tree, mode) & 0o7777:04o}",
        uid=_number(tree, extended, b"uid", uid),
        gid=_number(tree, extended, b"gid", gid),
        owner=extended.get(b"uname", _text(user)).decode("utf-8", "surrogateescape"),
        group=extended.get(b"gname", _text(group)).decode("utf-8", "surrogateescape"),
        mtime_ns=_octal(tree, mtime) * 10**_NANOSECONDS if moment is None else _nanoseconds(tree, moment),
        size=_number(tree, extended, b"size", size),
        link=extended.get(b"linkpath", _text(link)),
    )
    for key, value in extended.items():
        if key.startswith(_XATTR):
            # GNU tar writes what would end a key, and what it writes that with, as numbers.
            raw = key.removeprefix(_XATTR).replace(b"%3D", b"=").replace(b"%25", b"%")
            entry.xattrs[attribute_name(raw)] = value
        elif key in _ACLS:
            text = value.decode("utf-8", "surrogateescape")
            rows = sorted(row.strip() for row in text.replace("\n", ",").split(",") if row.strip())
            # Beside a default ACL, GNU tar writes the three rows of an access ACL that say no more than the mode.
            if rows and not (key == b"SCHILY.acl.access" and len(rows) == 3):
                entry.acl[_ACLS[key]] = rows
    return entry


def _text(raw: bytes) -> bytes:
    return raw.partition(b"\0")[0]


def _number(tree: str, extended: dict[bytes, bytes], key: bytes, raw: bytes) -> int:
    """Of the extended header where it is there: the field is too small for it then."""
    value = extended.get(key)
    if value is None:
        return _octal(tree, raw)
    if not value.isdigit():
        raise damaged(tree, "an extended header has no valid form")
    return int(value)


def _nanoseconds(tree: str, raw: bytes) -> int:
    """``1764000000.123456789``, also with fewer digits, and negative before 1970."""
    sign = -1 if raw.startswith(b"-") else 1
    whole, _point, part = raw.removeprefix(b"-").partition(b".")
    if not whole.isdigit() or len(part) > _NANOSECONDS or (part and not part.isdigit()):
        raise damaged(tree, "an extended header has no valid form")
    return sign * (int(whole) * 10**_NANOSECONDS + int(part.ljust(_NANOSECONDS, b"0")))


def _shown(raw: bytes) -> str:
    return repr(raw.decode(errors="backslashreplace"))
