"""JSON files, written whole or not at all, and what to say when a file cannot be written."""

from __future__ import annotations

import contextlib
import errno
import json
import socket
from collections.abc import Iterator
from pathlib import Path

from .errors import MigrationError
from .whole_files import write_whole


def write_json(path: Path, content: object, *, mode: int = 0o600, durable: bool = True) -> None:
    """Replace ``path`` atomically. ``durable``: on disk, name included, before this returns.

    :raises OSError: it could not be written; it names ``path``.
    """
    text = json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True)
    with naming(path):
        write_whole(path, f"{text}\n".encode(), mode=mode, durable=durable)


def read_json(path: Path) -> object | None:
    """The content, or ``None`` where there is no such file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))  # type: ignore[no-any-return]
    except FileNotFoundError:
        return None


def read_json_if_whole(path: Path) -> object | None:
    """The content, or ``None`` also where it is empty or no JSON: for what is written anew soon, and must never keep anybody away."""
    try:
        return read_json(path)
    except ValueError:
        return None


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """An ``OSError`` of the block names ``path``: one of a full disk names no file, or a temporary one."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def unusable(error: OSError) -> MigrationError:
    """What a file system of this server refused, in one sentence (check ``server-disk``: no room; ``server-file``: anything else)."""
    file = Path(error.filename) if isinstance(error.filename, str) else None
    happened = f"{file or 'A file'} on {socket.gethostname()} cannot be used: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f"the file system of {file.parent}" if file else "its file systems"
        return MigrationError(
            happened, check="server-disk", action=f"Make room on {where} on {socket.gethostname()}, then run again"
        )
    return MigrationError(happened, check="server-file", action="Mend the cause, then run again")
