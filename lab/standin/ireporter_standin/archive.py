# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ZIP of an ``xmlZip`` upload: one XML document and its pictures. Bounded; nothing is written to disk."""

from __future__ import annotations

import io
import lzma
import unicodedata
import zipfile
import zlib

from .errors import BAD_PARAMETER, TOO_LARGE, RefusedError

MAXIMUM_UNPACKED = 128 * 1024 * 1024
MAXIMUM_MEMBERS = 1000
_UTF8_NAME = 0x800  # flag of a member whose name says that it is UTF-8
_BROKEN = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, RuntimeError, OSError, EOFError, ValueError,
)  # fmt: skip

# By path and by base name. ``None``: several pictures have that base name, so it alone names none of them.
Pictures = dict[str, bytes | None]


def unpack(content: bytes) -> tuple[bytes, Pictures]:
    """The document and the pictures."""
    members = _members(content)
    documents = [path for path in members if path.lower().endswith(".xml")]
    if len(documents) != 1:
        raise RefusedError(BAD_PARAMETER, f"The ZIP must hold one XML document, it holds {len(documents)}")
    document = members.pop(documents[0])
    pictures: Pictures = {}
    for path, data in members.items():
        name = path.rsplit("/", 1)[-1]
        pictures[name] = None if name in pictures else data
    return document, pictures | members


def picture(pictures: Pictures, reference: str) -> bytes | None:
    """What an XML document refers to, by its path in the ZIP or – as it does mostly – by its base name."""
    path = _path(reference)
    found = path if path in pictures else path.rsplit("/", 1)[-1]
    if found in pictures and pictures[found] is None:
        raise RefusedError(BAD_PARAMETER, f"The ZIP holds more than one {found[:60]!r}")
    return pictures.get(found)


def _members(content: bytes) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    left = MAXIMUM_UNPACKED
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
        members = [member for member in archive.infolist() if not member.is_dir()]
        if len(members) > MAXIMUM_MEMBERS or sum(member.file_size for member in members) > MAXIMUM_UNPACKED:
            raise RefusedError(TOO_LARGE, "The ZIP holds too much")
        for member in members:
            with archive.open(member) as stream:
                data = stream.read(left + 1)  # the size in the directory may lie
            left -= len(data)
            if left < 0:
                raise RefusedError(TOO_LARGE, "The ZIP holds too much")
            path = _path(_name(member))
            if path in found:
                raise RefusedError(BAD_PARAMETER, f"The ZIP holds {path[:60]!r} twice")
            found[path] = data
    except _BROKEN as error:
        raise RefusedError(BAD_PARAMETER, "The file is not a readable ZIP") from error
    return found


def _name(member: zipfile.ZipInfo) -> str:
    """Names that do not say they are UTF-8 were read as code page 437; Japanese Windows means 932, macOS UTF-8."""
    if member.flag_bits & _UTF8_NAME:
        return member.filename
    raw = member.filename.encode("cp437")
    for encoding in ("utf-8", "cp932"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return member.filename


def _path(name: str) -> str:
    # Composed: a ZIP made on macOS has decomposed names, its document need not.
    return unicodedata.normalize("NFC", name).replace("\\", "/")
