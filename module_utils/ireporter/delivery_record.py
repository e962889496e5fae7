"""What a delivery host knows of each link it gave out: one JSON file per link, readable by root only, gone with the link."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, get_type_hints

from .delivery_link import IDENTITY
from .errors import MigrationError
from .json_files import read_json, write_json

RECORDS: Final = Path("/var/lib/ireporter-delivery")


@dataclass(frozen=True)
class Record:
    """One link. Times are seconds since 1970 by this host's clock."""

    identity: str
    path: str
    """The file, absolute."""
    served: str
    """Where nginx finds it: a hard link, alone in its folder."""
    expires: int
    published: int
    token: str
    bytes: int
    sha256: str
    device: int
    inode: int
    modified_ns: int

    def describes(self, seen: os.stat_result) -> bool:
        """Whether ``seen`` is the very file that was published, unchanged."""
        return (self.device, self.inode, self.bytes, self.modified_ns) == (
            seen.st_dev,
            seen.st_ino,
            seen.st_size,
            seen.st_mtime_ns,
        )


class DeliveryRecords:
    """The records of this host."""

    def __init__(self, folder: Path = RECORDS) -> None:
        self.folder = folder

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One change at a time: the timer's deletion and a publication do not meet. Where nothing was set up yet, there is nothing to lock."""
        if not self.folder.is_dir():
            yield
            return
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def all(self) -> list[Record]:
        """Every record, newest first.

        :raises MigrationError: one is not readable as what it should be (check ``delivery-record``).
        """
        found = [_parsed(path) for path in sorted(self.folder.glob("*.json")) if IDENTITY.fullmatch(path.stem)]
        return sorted(found, key=lambda record: (record.published, record.identity), reverse=True)

    def of(self, path: Path) -> list[Record]:
        """Those of one file, newest first; more than one only where a publication was killed."""
        return [record for record in self.all() if record.path == str(path)]

    def write(self, record: Record) -> None:
        """Durably."""
        write_json(self._file(record), asdict(record))

    def forget(self, record: Record) -> None:
        """Remove the record."""
        self._file(record).unlink(missing_ok=True)

    def _file(self, record: Record) -> Path:
        return self.folder / f"{record.identity}.json"


def _parsed(path: Path) -> Record:
    fields = get_type_hints(Record)
    try:
        content = read_json(path)
    except ValueError as error:
        raise _broken(path, str(error)) from error
    if not isinstance(content, dict) or set(content) != set(fields):
        raise _broken(path, f"it should have the fields {', '.join(fields)}")
    for name, kind in fields.items():
        if type(content[name]) is not kind:
            raise _broken(path, f"{name} is no {kind.__name__}")
    return Record(**content)


def _broken(path: Path, why: str) -> MigrationError:
    return MigrationError(
        f"{path} is no record of a link: {why}",
        check="delivery-record",
        action="Move it away; the file it stands for has to be published again",
    )
