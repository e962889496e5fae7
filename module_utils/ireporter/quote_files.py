"""Quotes on the control node: one folder each, complete or not there. What was issued under a number is never changed."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path

from .errors import MigrationError
from .json_files import read_json, write_json
from .plan_facts import Facts

_CHECK = "quote-files"
RECORD = "quote.json"

Files = Mapping[str, bytes]


def issued_before(folder: Path, content_digest: str, today: date) -> date | None:
    """The day on which a quote of the same content was issued that is still valid today, the latest of them.

    :raises MigrationError: a quote's record cannot be read.
    """
    days = []
    for record in sorted(folder.glob(f"*/{RECORD}")):
        found = _record(record)
        issued, valid = found.text("date"), found.text("valid_until")
        if found.text("content_digest") == content_digest and issued and valid and valid >= today.isoformat():
            days.append(date.fromisoformat(issued))
    return max(days, default=None)


def present(
    folder: Path, quote: Mapping[str, object], make: Callable[[], Files], *, check_mode: bool
) -> tuple[bool, list[Path]]:
    """Let the quote's folder hold its files and its record; whether that changes anything, and the files.

    ``make`` is called when something has to be written, in check mode, too: what cannot be made is found out there.

    :param folder: of this quote alone; its parents are made, with mode 0700.
    :raises MigrationError: files were altered and cannot be made again as they were, or the folder cannot be written.
    """
    try:
        if not (folder / RECORD).exists():
            files = make()
            if not check_mode:
                _write_all(folder, quote, files)
            return True, [folder / name for name in files]
        digests = _digests(folder, quote)
        wanting = [name for name, digest in digests.items() if _digest_of(folder / name) != digest]
        if wanting:
            files = make()
            for name in wanting:
                if _digest(files.get(name, b"")) != digests[name]:
                    raise MigrationError(
                        f"{folder / name} was altered or removed, and these versions of the tools cannot make it again as it was issued",
                        check=_CHECK,
                        action="Take it back from a backup or from the mail",
                    )
                if not check_mode:
                    _write(folder / name, files[name])
        return bool(wanting), [folder / name for name in digests]
    except OSError as error:
        raise MigrationError(
            f"The quote could not be written to {folder}: {error.strerror}",
            check=_CHECK,
            action="Make the folder writable for who runs this, with room on its disk",
        ) from error


def _digests(folder: Path, quote: Mapping[str, object]) -> dict[str, str]:
    """Name and SHA-256 of each file as it was issued."""
    found = _record(folder / RECORD)
    digests = found.at("files")
    same = isinstance(found.content, dict) and {k: v for k, v in found.content.items() if k != "files"} == quote
    if not same or not isinstance(digests, dict) or not digests:
        raise MigrationError(
            f"{folder / RECORD} is not the record of the quote {folder.name} as it was issued",
            check=_CHECK,
            action="Take it back from a backup",
        )
    return {str(name): str(digest) for name, digest in digests.items()}


def _record(path: Path) -> Facts:
    try:
        return Facts(read_json(path))
    except (OSError, ValueError) as error:
        raise MigrationError(
            f"{path} cannot be read: {error}", check=_CHECK, action="Take it back from a backup"
        ) from error


def _write_all(folder: Path, quote: Mapping[str, object], files: Files) -> None:
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.exists():
        raise MigrationError(
            f"{folder} exists without {RECORD}, so it is not known what was issued",
            check=_CHECK,
            action="Take the record back from a backup, or move the folder away",
        )
    # Its name comes last: a run that dies leaves no folder that looks like a quote.
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".quote-"))
    try:
        for name, content in files.items():
            _write(temporary / name, content)
        write_json(temporary / RECORD, {**quote, "files": {name: _digest(content) for name, content in files.items()}})
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _write(path: Path, content: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest_of(path: Path) -> str | None:
    try:
        return _digest(path.read_bytes())
    except FileNotFoundError:
        return None
