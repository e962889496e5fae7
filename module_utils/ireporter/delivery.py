"""A delivery host: which of its files have a link, since when, until when. nginx serves, a timer deletes (``delivery_expiry.py``)."""

from __future__ import annotations

import grp
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Final

from .clock import Clock
from .delivery_expiry import remove_link
from .delivery_link import checked_name, link, new_identity, new_secret_file, secret_in, token
from .delivery_record import RECORDS, DeliveryRecords, Record
from .errors import MigrationError

SECRET_FILE: Final = Path("/etc/nginx/ireporter-delivery/secret.conf")
WEB_GROUP: Final = "www-data"
"""Debian's nginx runs in it."""
_JAPAN: Final = timezone(timedelta(hours=9))
"""No summer time; a delivery host need not have time zone data."""


@dataclass(frozen=True)
class Places:
    """Where things are on a delivery host. ``folder`` is one file system: what nginx serves are hard links."""

    folder: Path
    records: Path = RECORDS
    secret_file: Path = SECRET_FILE
    web_group: str = WEB_GROUP

    @property
    def files(self) -> Path:
        """Below it lie the files to be delivered; for root only."""
        return self.folder / "files"

    @property
    def published(self) -> Path:
        """nginx may go through it, and cannot list it."""
        return self.folder / "published"


@dataclass(frozen=True)
class Wanted:
    """How a file is to be published."""

    public_name: str
    valid_seconds: int
    renew: bool = False
    """A new link in place of one that is still valid, which is dead at once."""
    sha256: str = ""
    """What the file must have; empty: whatever it has."""


@dataclass(frozen=True)
class Published:
    """A file with its link; ``link`` is empty where check mode only foretells one."""

    changed: bool
    why: str
    link: str
    expires: int
    bytes: int
    sha256: str


Prove = Callable[[str, int], None]
"""Asks for the link and its size in bytes as a customer would; raises MigrationError where the answer is not the file."""


@dataclass
class Delivery:
    """One delivery host, seen from itself."""

    places: Places
    clock: Clock
    records: DeliveryRecords = field(init=False)

    def __post_init__(self) -> None:
        self.records = DeliveryRecords(self.places.records)

    def prepare(self, *, check: bool) -> list[str]:
        """Folders and secret, as they have to be.

        :return: what was (or with ``check``, would be) done, in words; empty when nothing.
        """
        places = self.places
        did: list[str] = []
        for path, mode, for_web in (
            (places.folder, 0o755, False),
            (places.files, 0o700, False),
            (places.published, 0o710, True),
            (places.records, 0o700, False),
            (places.secret_file.parent, 0o755, False),
        ):
            if self._folder(path, mode, for_web=for_web, check=check):
                did.append(f"folder {path}")
        if self._secret() is None:
            did.append("a new secret")
            if not check:
                _write_private(places.secret_file, new_secret_file())
        elif stat.S_IMODE(places.secret_file.stat().st_mode) != 0o600:
            did.append(f"mode of {places.secret_file}")
            if not check:
                places.secret_file.chmod(0o600)
        return did

    def publish(self, path: Path, wanted: Wanted, prove: Prove, *, check: bool) -> Published:
        """Give a file its link, or leave it the one it has.

        :param path: absolute, below ``places.files``.
        :raises MigrationError: the host is not set up, the file is not one to publish, or the link does not lead to it.
        """
        with self.records.alone():
            secret = self._secret()
            if secret is None:
                if check:  # set up only by the run that follows
                    return Published(True, "this host is not set up yet", "", 0, 0, "")
                raise MigrationError(
                    f"This host delivers nothing yet: {self.places.secret_file} holds no secret",
                    check="delivery-setup",
                    action="Run the role ireporter_delivery (setup) for this host, then again",
                )
            if check and not os.path.lexists(path):
                return Published(True, "the file is not there yet", "", 0, 0, "")
            with self._opened(path) as descriptor:
                seen = os.fstat(descriptor)
                known = self.records.of(path)
                why = self._why_new(known[0] if known else None, seen, secret, wanted)
                record = self._record(path, descriptor, secret, wanted) if why else known[0]
            if wanted.sha256 and wanted.sha256.lower() != record.sha256:
                raise MigrationError(
                    f"{path} has the SHA-256 {record.sha256}, and {wanted.sha256} was promised",
                    check="delivery-checksum",
                    action="Copy the file to this host again",
                )
            unserved = self._unserved(record)
            outdated = known if why else known[1:]
            published = Published(
                bool(why or unserved or outdated),
                why
                or unserved
                or ("a link of a publication that was killed is gone" if outdated else "it has its link"),
                "" if check and why else self._link(record, wanted),
                record.expires,
                record.bytes,
                record.sha256,
            )
            if not check:
                if why:
                    self.records.write(record)
                self._serve(record)
                for other in outdated:
                    remove_link(self.records, other)
        if not (check and published.changed):
            prove(published.link, published.bytes)
        return published

    def withdraw(self, path: Path, *, check: bool) -> bool:
        """The file's link is dead and the file is gone; ``False`` when both was so."""
        with self.records.alone():
            self._checked(path)
            if path.is_dir() and not path.is_symlink():
                raise MigrationError(f"{path} is a folder", check="delivery-file", action="Withdraw the file itself")
            known = self.records.of(path)
            there = os.path.lexists(path)
            if not check:
                for record in known:
                    remove_link(self.records, record)
                path.unlink(missing_ok=True)
            return bool(known) or there

    def _why_new(self, known: Record | None, seen: os.stat_result, secret: str, wanted: Wanted) -> str:
        if known is None:
            return "it had no link"
        if wanted.renew:
            return "a new link was asked for"
        if known.expires <= self._now():
            return f"its link expired at {utc_text(known.expires)}"
        if not known.describes(seen):
            return "the file is another one than was published"
        name = Path(known.served).name
        if token(secret, identity=known.identity, expires=known.expires, name=name) != known.token:
            return "the secret of this host's links is another one now"
        return ""

    def _record(self, path: Path, descriptor: int, secret: str, wanted: Wanted) -> Record:
        """A new one; reads the file."""
        before = os.fstat(descriptor)
        with os.fdopen(os.dup(descriptor), "rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        after = os.fstat(descriptor)
        identity, name = new_identity(), checked_name(path.name)
        expires = self._now() + wanted.valid_seconds
        record = Record(
            identity=identity,
            path=str(path),
            served=str(self.places.published / identity / name),
            expires=expires,
            published=self._now(),
            token=token(secret, identity=identity, expires=expires, name=name),
            bytes=after.st_size,
            sha256=sha256,
            device=after.st_dev,
            inode=after.st_ino,
            modified_ns=after.st_mtime_ns,
        )
        if not record.describes(before):
            raise MigrationError(
                f"{path} was written to while it was read",
                check="delivery-file",
                action="Wait until it is whole, then publish it again",
            )
        return record

    def _link(self, record: Record, wanted: Wanted) -> str:
        return link(
            wanted.public_name,
            identity=record.identity,
            expires=record.expires,
            token=record.token,
            name=Path(record.served).name,
        )

    def _unserved(self, record: Record) -> str:
        """Why nginx cannot serve it; empty where it can."""
        served = Path(record.served)
        try:
            status = served.lstat()
        except FileNotFoundError:
            return "its link led nowhere"
        if not record.describes(status):
            return "its link led to another file"
        folder = served.parent.stat()
        if (stat.S_IMODE(folder.st_mode), folder.st_gid) != (
            0o710,
            self._web_gid(),
        ) or not status.st_mode & stat.S_IROTH:
            return "nginx could not read it"
        return ""

    def _serve(self, record: Record) -> None:
        if not self._unserved(record):
            return
        served, path = Path(record.served), Path(record.path)
        self._folder(served.parent, 0o710, for_web=True, check=False)
        served.unlink(missing_ok=True)
        try:
            os.link(path, served, follow_symlinks=False)
        except OSError as error:
            raise MigrationError(
                f"{path} cannot be linked into {self.places.published}: {error.strerror}",
                check="delivery-file",
                action=f"Keep {self.places.files} and {self.places.published} on one file system that has hard links",
            ) from error
        linked = served.lstat()
        if not record.describes(linked):
            raise MigrationError(
                f"{path} was replaced while it was published",
                check="delivery-file",
                action="Wait until it is whole, then publish it again",
            )
        mode = stat.S_IMODE(linked.st_mode)
        if not mode & stat.S_IROTH:
            # Owner and the rest stay, so that a later pass of the copy finds what it left. Only root gets into ``files``, only nginx into ``published``.
            served.chmod(mode | stat.S_IROTH)

    def _checked(self, path: Path) -> None:
        files = self.places.files
        if not path.is_absolute() or ".." in path.parts or files not in path.parents:
            raise MigrationError(
                f"{path} does not lie below {files}", check="delivery-file", action=f"Copy it to {files} first"
            )
        for folder in path.parents:
            if folder == files:
                break
            if folder.is_symlink():
                raise MigrationError(
                    f"{folder} is a symbolic link", check="delivery-file", action="Keep the file in a real folder"
                )

    @contextmanager
    def _opened(self, path: Path) -> Iterator[int]:
        """A descriptor of the file to publish, for reading."""
        self._checked(path)
        checked_name(path.name)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            raise MigrationError(
                f"{path} cannot be read on this host: {error.strerror}",
                check="delivery-file",
                action="Copy it here; a file whose link has expired is deleted, so export again",
            ) from error
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise MigrationError(f"{path} is no file", check="delivery-file", action="Publish one plain file")
            yield descriptor
        finally:
            os.close(descriptor)

    def _secret(self) -> str | None:
        try:
            return secret_in(self.places.secret_file.read_text(encoding="ascii"))
        except FileNotFoundError:
            return None

    def _folder(self, path: Path, mode: int, *, for_web: bool, check: bool) -> bool:
        try:
            before = path.stat()
        except FileNotFoundError:
            before = None
        if not check:
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(mode)
            if for_web:
                os.chown(path, -1, self._web_gid())
        if before is None:
            return True
        return stat.S_IMODE(before.st_mode) != mode or (for_web and before.st_gid != self._web_gid())

    def _web_gid(self) -> int:
        try:
            return grp.getgrnam(self.places.web_group).gr_gid
        except KeyError as error:
            raise MigrationError(
                f"There is no group {self.places.web_group} here", check="delivery-setup", action="Install nginx first"
            ) from error

    def _now(self) -> int:
        return int(self.clock.now().timestamp())


def utc_text(moment: int) -> str:
    """``2026-12-04T09:01:37Z``."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def japan_text(moment: int) -> str:
    """``2026-12-04 18:01``, for people."""
    return datetime.fromtimestamp(moment, _JAPAN).strftime("%Y-%m-%d %H:%M")


def _write_private(path: Path, content: str) -> None:
    """Whole or not at all, readable by its owner only."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    new.replace(path)
