# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What SFTP says about a file, which names it may say, and what a source must be able to do. No network here."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from .errors import MigrationError
from .file_manifest import KINDS
from .file_verification import text_of

# Half-copied files, beside the file they become. The source may have no such names.
PARTIAL_PREFIX: Final = b".ireporter-partial-"
_NAME_BYTES: Final = 255

NOT_PROVEN: Final = (
    "owners and groups: SFTP gives numbers that mean nothing on another server, so new files take owner and group of the folder they are in",
    "access control lists: SFTP version 3 has none",
    "extended attributes and alternate data streams: SFTP version 3 has none",
    "setuid, setgid and, on files, sticky bits: they mean nothing without the owner, so they are not set",
    "modes of a Windows server: it makes them up from its access control lists",
    "fractions of a second, creation times, and times before 1970 or after 2106: SFTP version 3 counts seconds since 1970 in 32 bits",
    "hard links: every name becomes a file of its own",
    "holes: they arrive as zeros that take up space",
)
NOT_PROVEN_UNLESS_FINAL: Final = (
    "content of files whose size and time (in seconds) agree on both sides: only a final pass reads them again",
    "content of a resumed file before the last block of its earlier part: only a final pass reads it from the source again",
)


@dataclass(frozen=True)
class Entry:
    """One name in a folder of the source. ``size`` in bytes, ``mtime`` in seconds since 1970, both ``None`` where the server says nothing.

    ``kind``: ``file``, ``directory``, ``link``, or what it is instead; ``mode``: permission bits without type.
    """

    name: bytes
    kind: str
    mode: int | None
    size: int | None
    mtime: int | None

    def permissions(self) -> int | None:
        """The bits of ``mode`` that are set on the target: never more rights than the source gives, to whoever owns the copy."""
        if self.mode is None:
            return None
        return self.mode & (0o1777 if self.kind == "directory" else 0o777)


class Vanished(Exception):
    """It was listed a moment ago and is not there any more, or is something else now."""


class Refused(Exception):
    """It cannot be copied; the text says why, to follow "path: "."""


class SourceFile(Protocol):
    """A file of the source, open for reading."""

    def version(self) -> tuple[int, int | None]:
        """Size in bytes and mtime in seconds, asked for now."""
        ...

    def read(self, offset: int, length: int) -> bytes | bytearray:
        """``length`` bytes from ``offset``; fewer only where the file ends sooner."""
        ...

    def close(self) -> None:
        """Give the handle back."""
        ...


class Source(Protocol):
    """One SFTP session, used by one thread at a time. Paths are whole paths on the server, as bytes.

    All but ``close`` raise :class:`Vanished`, :class:`Refused`, or ``MigrationError`` where the connection is lost (check ``sftp-connection``).
    """

    def list(self, path: bytes) -> Iterator[Entry]:
        """What is in a folder, as the server sends it: unordered, unchecked, with ``.`` and ``..``. It is whole only when it ends without an error."""
        ...

    def look(self, path: bytes) -> Entry:
        """What ``path`` is; a link is not followed. Its ``name`` is empty."""
        ...

    def link_target(self, path: bytes) -> bytes:
        """Where a link points, exactly."""
        ...

    def open(self, path: bytes) -> SourceFile:
        """Open a file for reading."""
        ...

    def close(self) -> None:
        """End the session; never fails."""
        ...


def kind_of(mode: int | None) -> str:
    """What a whole ``st_mode`` says a file is; ``unknown`` where it says nothing."""
    return "unknown" if mode is None else KINDS.get(stat.S_IFMT(mode), "unknown")


def is_folder_itself(name: bytes) -> bool:
    """Whether this is the folder or the one above it: every server lists both, and neither is ever used as a name."""
    return name in (b".", b"..")


def check_name(name: bytes, folder: bytes) -> None:
    """Refuse what no honest server lists, before it becomes part of a path on this host.

    :raises MigrationError: it is empty, or holds a slash or a NUL (check ``sftp-name``).
    :raises Refused: it is honest, but cannot be a name here.
    """
    if not name or b"/" in name or b"\0" in name:
        raise MigrationError(
            f"The server listed {name!r} in the folder {text_of(folder)!r}, which is no name of a file",
            check="sftp-name",
            action="Do not trust this server: find out what answers there",
        )
    if len(name) > _NAME_BYTES:
        raise Refused(f"its name has {len(name)} bytes, and a name here at most {_NAME_BYTES}")
    if name.startswith(PARTIAL_PREFIX):
        raise Refused("its name is one of ours for half-copied files")
