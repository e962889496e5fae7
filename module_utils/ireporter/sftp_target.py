# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tree that becomes a copy, changed through open folders only: no link in it is ever followed, nothing outside it touched."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from .errors import MigrationError
from .file_verification import text_of
from .sftp_entry import PARTIAL_PREFIX, Entry

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_SECOND: Final = 10**9


class TargetTree:
    """One tree on this host. Paths are relative to it, as bytes, the tree itself is empty.

    :param licence: path that is neither replaced nor deleted.
    :param change: False where nothing may change (check mode).
    :raises MigrationError: another copy writes to it now (check ``files-copy``).
    """

    def __init__(self, root: Path, licence: bytes | None, *, change: bool) -> None:
        self.root = root
        self.licence = licence
        self._descriptor: int | None = None
        with contextlib.suppress(FileNotFoundError) if not change else contextlib.nullcontext():
            self._descriptor = os.open(root, _FOLDER)
        if change and self._descriptor is not None:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                self.close()
                raise MigrationError(
                    f"Another copy writes to {root} at this moment",
                    check="files-copy",
                    action="Wait for it or stop it, then run again",
                ) from error

    def close(self) -> None:
        """Let the tree go."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @contextlib.contextmanager
    def folder(self, path: bytes) -> Iterator[int | None]:
        """A descriptor of the folder ``path``; ``None`` where there is none."""
        if self._descriptor is None:
            yield None
            return
        current: int | None = os.dup(self._descriptor)
        try:
            for part in path.split(b"/") if path else ():
                above = current
                try:
                    current = os.open(part, _FOLDER, dir_fd=above)
                except OSError as error:
                    # Not a folder here (yet), or a link in its place, which is none.
                    if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                        raise
                    current = None
                    break
                finally:
                    if above is not None:
                        os.close(above)
            yield current
        finally:
            if current is not None:
                os.close(current)

    @contextlib.contextmanager
    def existing_folder(self, path: bytes) -> Iterator[int]:
        """Like :meth:`folder`, where it was made a moment ago.

        :raises MigrationError: somebody removed it meanwhile (check ``files-copy``).
        """
        with self.folder(path) as descriptor:
            if descriptor is None:
                raise MigrationError(
                    f"The folder {text_of(path)!r} of {self.root} was removed while it was copied",
                    check="files-copy",
                    action="See that nothing else changes the target, then run again",
                )
            yield descriptor

    def make_folder(self, folder: int, name: bytes, path: bytes) -> None:
        """Make a folder where there is none, in place of whatever has its name; closed to others until its mode is set."""
        self.remove(folder, name, path)
        os.mkdir(name, 0o700, dir_fd=folder)
        _take_owner_of(folder, name)

    def make_link(self, folder: int, entry: Entry, target: bytes, path: bytes) -> None:
        """Make or replace a symbolic link."""
        temporary = partial_name(entry.name)
        self.remove(folder, temporary, path)
        os.symlink(target, temporary, dir_fd=folder)
        _take_owner_of(folder, temporary)
        if entry.mtime is not None:
            moment = entry.mtime * _SECOND
            os.utime(temporary, ns=(moment, moment), dir_fd=folder, follow_symlinks=False)
        self.place(folder, temporary, entry.name, path)

    def place(self, folder: int, temporary: bytes, name: bytes, path: bytes) -> None:
        """Give what is complete its name, at once. A folder of that name is removed first."""
        try:
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError as error:
            if error.errno not in (errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST):
                raise
            self.remove(folder, name, path)
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)

    def remove(self, folder: int, name: bytes, path: bytes) -> bool:
        """Remove a file, a link, or a folder with all that is in it; whether there was one.

        :raises MigrationError: the licence is in it, so it has to stay (check ``files-copy``).
        """
        seen = look(folder, name)
        if seen is None:
            return False
        if not stat.S_ISDIR(seen.st_mode):
            os.unlink(name, dir_fd=folder)
            return True
        if self.holds_licence(path):
            raise MigrationError(
                f"{text_of(path)!r} is no folder in the source, but holds the licence in {self.root}",
                check="files-copy",
                action="Look where the source keeps its licence, and set licence_file",
            )
        shutil.rmtree(name, dir_fd=folder)
        return True

    def holds_licence(self, path: bytes) -> bool:
        """Whether the licence is, or would be, ``path`` or in it."""
        return self.licence is not None and (self.licence == path or self.licence.startswith(path + b"/"))

    def delete(self, folder: int, name: bytes, path: bytes, *, change: bool) -> int:
        """Remove what the source does not have, but for the licence; how many items that are (a folder with its content is one)."""
        seen = look(folder, name)
        if seen is None or path == self.licence:
            return 0
        if not (stat.S_ISDIR(seen.st_mode) and self.holds_licence(path)):
            if change:
                self.remove(folder, name, path)
            return 1
        descriptor = os.open(name, _FOLDER, dir_fd=folder)
        try:
            return sum(
                self.delete(descriptor, inner, path + b"/" + inner, change=change) for inner in names(descriptor)
            )
        finally:
            os.close(descriptor)

    def finish_folder(self, descriptor: int, entry: Entry, *, keep_partial: bool) -> bool:
        """What comes last for a folder: half-copied files nobody needs, mode, time; whether mode or time were others."""
        if not keep_partial:
            for name in names(descriptor):
                if name.startswith(PARTIAL_PREFIX):
                    self.remove(descriptor, name, name)
        # Whatever was done in it has changed its time.
        differs = attributes_differ(os.fstat(descriptor), entry, with_time=True)
        if differs:
            permissions = entry.permissions()
            if permissions is not None:
                os.fchmod(descriptor, permissions)
            if entry.mtime is not None:
                os.utime(descriptor, ns=(entry.mtime * _SECOND, entry.mtime * _SECOND))
        if differs or entry.mtime is None:
            os.fsync(descriptor)
        return differs


@contextlib.contextmanager
def writing(root: Path, path: bytes) -> Iterator[None]:
    """Say in a sentence what the target's file system refused. Nothing of the source raises ``OSError``.

    :raises MigrationError: the disk is full (check ``target-disk``) or something else (check ``files-copy``).
    """
    try:
        yield
    except OSError as error:
        where = f"{root}/{text_of(path)}" if path else str(root)
        if error.errno in _FULL:
            raise MigrationError(
                f"The disk of {root} has no room left, so {where} is not complete and has not got its name: {error.strerror}",
                check="target-disk",
                action="Make room and run again: the copy resumes from where it ended",
            ) from error
        raise MigrationError(
            f"{where} could not be written: {error.strerror}",
            check="files-copy",
            action="Mend the cause and run again: the copy resumes from where it ended",
        ) from error


def partial_name(name: bytes) -> bytes:
    """Where the file ``name`` is until it is complete: the same on every run, and short enough whatever the name is."""
    return PARTIAL_PREFIX + hashlib.sha256(name).hexdigest()[:32].encode()


def look(folder: int, name: bytes) -> os.stat_result | None:
    """What is there, links not followed; ``None`` for nothing."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def names(folder: int) -> list[bytes]:
    """What is in an open folder."""
    return [os.fsencode(name) for name in os.listdir(folder)]


def attributes_differ(seen: os.stat_result, entry: Entry, *, with_time: bool) -> bool:
    """Whether what SFTP tells of mode (and time, in whole seconds) is not what is here."""
    permissions = entry.permissions()
    if permissions is not None and stat.S_IMODE(seen.st_mode) != permissions and not stat.S_ISLNK(seen.st_mode):
        return True
    return with_time and entry.mtime is not None and seen.st_mtime_ns != entry.mtime * _SECOND


def set_attributes(descriptor: int, entry: Entry, like: os.stat_result) -> None:
    """Owner and group of ``like``, mode and time of the source."""
    if os.geteuid() == 0:
        os.fchown(descriptor, like.st_uid, like.st_gid)
    permissions = entry.permissions()
    if permissions is not None:
        os.fchmod(descriptor, permissions)
    if entry.mtime is not None:
        os.utime(descriptor, ns=(entry.mtime * _SECOND, entry.mtime * _SECOND))


def set_mode(folder: int, entry: Entry) -> None:
    """The mode alone, where the file is right already."""
    permissions = entry.permissions()
    if permissions is not None:
        descriptor = os.open(entry.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        try:
            os.fchmod(descriptor, permissions)
        finally:
            os.close(descriptor)


def _take_owner_of(folder: int, name: bytes) -> None:
    if os.geteuid() == 0:
        above = os.fstat(folder)
        os.chown(name, above.st_uid, above.st_gid, dir_fd=folder, follow_symlinks=False)
