# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything there is to know about a file tree, as sorted JSON lines.

One line per file::

    {"path": "xml/設定.xml", "type": "file", "mode": "0640", "owner": "ireporter-acme", "group": 1234,
     "mtime_ns": 1764000000123456789, "size": 512, "sha256": "…", "linked_to": "…", "xattrs": {…}, "acl": {…}}

``path`` is relative to the root, which is ``.`` itself. Text that is not UTF-8 stands as ``{"base64": "…"}``, so bytes are exact
either way. Owners are names, or numbers where a number has no name here. ``linked_to`` names the first path of a hard-link group
on all its other members: inode numbers mean nothing on another server. Order: a folder before its content, names by their bytes.
Links are never followed, other file systems never entered (``"mount_point": true``), what vanishes or changes meanwhile is
said (``"error"``).
"""

from __future__ import annotations

import base64
import errno
import functools
import grp
import hashlib
import json
import os
import pwd
import stat
import struct
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from .errors import MigrationError

Entry = dict[str, Any]
Text = str | dict[str, str]
# Inode, size, mtime and ctime in nanoseconds: a file that still has them has the content and the attributes it had.
Version = tuple[int, int, int, int]
# What cannot be had without opening a file, and is all that has to be remembered of one.
READ_FROM_FILES = ("sha256", "xattrs", "acl")
# Asked for each path in the order of the manifest: the version in which a file was read, and what was read from it.
Known = Callable[[bytes], tuple[Version, Entry] | None]

# Made once, not for each line.
_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))
_READ_BYTES = 1 << 20
_FILES_PER_BATCH = 64
_BATCHES_AHEAD = 24
_ATTEMPTS = 3
KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}
_ACLS = {"system.posix_acl_access": "access", "system.posix_acl_default": "default"}
_ACL_TAGS = {0x01: "user:", 0x02: "user:{}", 0x04: "group:", 0x08: "group:{}", 0x10: "mask:", 0x20: "other:"}


def to_text(raw: bytes) -> Text:
    """``raw`` as JSON can carry it: text where it is UTF-8, else base64. :func:`to_bytes` is the exact inverse."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw).decode()}


def to_bytes(text: Text) -> bytes:
    """The inverse of :func:`to_text`."""
    return text.encode() if isinstance(text, str) else base64.b64decode(text["base64"])


def order(path: bytes) -> tuple[bytes, ...]:
    """What manifests are sorted by."""
    return () if path == b"." else tuple(path.split(b"/"))


def manifest(
    root: Path, *, content: bool = True, workers: int = 2, known: Known | None = None, versions: bool = False
) -> Generator[tuple[bytes, Entry], None, None]:
    """Every file below ``root``, itself included, with its path as bytes. Who does not read to the end closes it: it owns threads.

    :param content: also read the files and give their SHA-256.
    :param workers: threads that read and hash.
    :param known: files that are as they were then are not opened.
    :param versions: each file's entry also says its ``version``, which means nothing on another server.
    :raises MigrationError: ``root`` is no folder (a link to one is none), or cannot be read.
    """
    walk = _Walk(root, content, workers, known=known, versions=versions)
    with closing(walk):
        yield from walk.entries()


def json_line(content: Entry) -> bytes:
    """One line of a manifest."""
    return _ENCODER.encode(content).encode() + b"\n"


class _Folder:
    """An open folder being walked: its descriptor, its path from the root, what is left of its names."""

    def __init__(self, descriptor: int, path: bytes) -> None:
        self.descriptor = descriptor
        self.path = path
        with os.scandir(descriptor) as found:
            listed = [(os.fsencode(item.name), item.is_dir(follow_symlinks=False)) for item in found]
        listed.sort()
        self.left = iter(listed)

    def child(self, name: bytes) -> bytes:
        return name if self.path == b"." else self.path + b"/" + name


class _Walk:
    """One walk. The caller's thread lists folders and yields in order; the workers look at files, a batch each."""

    def __init__(
        self, root: Path, content: bool, workers: int, *, known: Known | None = None, versions: bool = False
    ) -> None:
        self.root = root
        self.content = content
        self.known = known
        self.versions = versions
        self.pool = ThreadPoolExecutor(workers)
        self.open_folders: list[_Folder] = []
        self.mount_points = mount_points_below(root)
        self.first_link: dict[tuple[int, int], bytes] = {}
        self.digests: dict[Version, str] = {}
        self.pending: deque[Future[list[tuple[bytes, Entry]]]] = deque()

    def close(self) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)
        for folder in self.open_folders:
            os.close(folder.descriptor)
        self.open_folders.clear()

    def entries(self) -> Iterator[tuple[bytes, Entry]]:
        try:
            descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise MigrationError(
                f"{self.root} cannot be read as a file tree: {error.strerror}",
                check="file-tree",
                action="Name an existing folder (not a link to one) that root may read",
            ) from error
        self.root_device = os.fstat(descriptor).st_dev
        self._submit(descriptor, b"", [b"."])
        self.open_folders.append(_Folder(descriptor, b"."))
        while self.open_folders:
            self._next_batch(self.open_folders[-1])
            while len(self.pending) > _BATCHES_AHEAD:
                yield from self._done()
        while self.pending:
            yield from self._done()

    def _next_batch(self, folder: _Folder) -> None:
        """Hand out files up to and including the next sub folder, then go down into it."""
        names: list[bytes] = []
        for name, is_folder in folder.left:
            names.append(name)
            if is_folder:
                self._submit(folder.descriptor, folder.path, names)
                self._enter(folder, name)
                return
            if len(names) == _FILES_PER_BATCH:
                break
        else:
            self.open_folders.pop()
            if names:
                self._submit(folder.descriptor, folder.path, names)
            os.close(folder.descriptor)
            return
        self._submit(folder.descriptor, folder.path, names)

    def _enter(self, parent: _Folder, name: bytes) -> None:
        path = parent.child(name)
        if path in self.mount_points:
            return
        try:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(name, flags, dir_fd=parent.descriptor)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES):
                raise _unreadable(path, error) from error
            # Gone or replaced since it was listed: its own entry says so. Not ours to read: must not look empty.
            if error.errno == errno.EACCES:
                self.pending.append(_finished([(path, {"path": to_text(path), "error": "folder: Permission denied"})]))
            return
        if os.fstat(descriptor).st_dev != self.root_device:
            os.close(descriptor)
            return
        self.open_folders.append(_Folder(descriptor, path))

    def _submit(self, descriptor: int, folder: bytes, names: list[bytes]) -> None:
        paths = [name if folder in (b"", b".") else folder + b"/" + name for name in names]
        # Asked here and not by the workers: here is the manifest's order.
        known = [self.known(path) if self.known else None for path in paths]
        files = list(zip(names, paths, known, strict=True))
        # The worker's own descriptor: the walk may leave the folder before the batch is done.
        own = os.dup(descriptor)
        if self.known and known.count(None) <= 1:
            # Hardly more than a look at each, for which workers would only wait for each other. The one may be a folder.
            self.pending.append(_finished(self._describe_all(own, files)))
            return
        try:
            self.pending.append(self.pool.submit(self._describe_all, own, files))
        except BaseException:
            os.close(own)
            raise

    def _done(self) -> Iterator[tuple[bytes, Entry]]:
        for path, entry in self.pending.popleft().result():
            inode = entry.pop("inode", None)
            if inode is not None:
                first = self.first_link.setdefault(inode, path)
                if first != path:
                    entry["linked_to"] = to_text(first)
            yield path, entry

    def _describe_all(
        self, descriptor: int, files: list[tuple[bytes, bytes, tuple[Version, Entry] | None]]
    ) -> list[tuple[bytes, Entry]]:
        try:
            found = []
            for name, path, known in files:
                try:
                    entry = self._describe(descriptor, name, path, known)
                except FileNotFoundError:
                    entry = {"error": "vanished while it was looked at"}
                except OSError as error:
                    entry = {"error": os.strerror(error.errno or 0)}
                entry["path"] = to_text(path)
                found.append((path, entry))
            return found
        finally:
            os.close(descriptor)

    def _describe(self, folder: int, name: bytes, path: bytes, known: tuple[Version, Entry] | None) -> Entry:
        for _attempt in range(_ATTEMPTS):
            seen = os.stat(name, dir_fd=folder, follow_symlinks=False)
            kind = KINDS[stat.S_IFMT(seen.st_mode)]
            entry: Entry = {
                "type": kind,
                "mode": f"{stat.S_IMODE(seen.st_mode):04o}",
                "owner": _user(seen.st_uid),
                "group": _group(seen.st_gid),
                "mtime_ns": seen.st_mtime_ns,
            }
            if kind == "directory":
                if path in self.mount_points or seen.st_dev != self.root_device:
                    entry["mount_point"] = True
            elif seen.st_nlink > 1:
                entry["inode"] = (seen.st_dev, seen.st_ino)
            if kind == "file":
                entry["size"] = seen.st_size
                if known and known[0] == _version(seen):
                    entry.update(known[1])
                elif not self._read_file(folder, name, seen, entry):
                    continue
                if self.versions:
                    entry["version"] = _version(seen)
                return entry
            if kind == "link":
                entry["link_target"] = to_text(os.readlink(name, dir_fd=folder))
            elif kind.endswith("device"):
                entry["device"] = [os.major(seen.st_rdev), os.minor(seen.st_rdev)]
            _add_attributes(entry, b"/proc/self/fd/%d/%s" % (folder, name))
            return entry
        return {**entry, "error": "changed while it was read"}

    def _read_file(self, folder: int, name: bytes, seen: os.stat_result, entry: Entry) -> bool:
        """Add digest and attributes; False when it is not what was seen a moment ago, or did not hold still."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            descriptor = os.open(name, flags | os.O_NOATIME, dir_fd=folder)
        except PermissionError:
            # Only owner and root may ask for O_NOATIME.
            descriptor = os.open(name, flags, dir_fd=folder)
        try:
            _add_attributes(entry, descriptor)
            if self.content:
                entry["sha256"] = self._digest(descriptor, seen)
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        return _version(after) == _version(seen) and after.st_dev == seen.st_dev

    def _digest(self, descriptor: int, seen: os.stat_result) -> str:
        version = _version(seen)
        if seen.st_nlink > 1 and (known := self.digests.get(version)):
            return known
        # Most files fit one read.
        first = os.read(descriptor, min(seen.st_size + 1, _READ_BYTES))
        digest = hashlib.sha256(first)
        if len(first) == _READ_BYTES:
            buffer = bytearray(_READ_BYTES)
            view = memoryview(buffer)
            while count := os.readv(descriptor, [buffer]):
                digest.update(view[:count])
        if seen.st_nlink > 1:
            self.digests[version] = digest.hexdigest()
        return digest.hexdigest()


def _version(seen: os.stat_result) -> Version:
    return (seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)


def _finished(found: list[tuple[bytes, Entry]]) -> Future[list[tuple[bytes, Entry]]]:
    future: Future[list[tuple[bytes, Entry]]] = Future()
    future.set_result(found)
    return future


def _add_attributes(entry: Entry, where: int | bytes) -> None:
    """Extended attributes and ACLs, where there are any. ``where``: a descriptor, or a path whose last part is not followed."""
    follow = isinstance(where, int)
    try:
        names = os.listxattr(where, follow_symlinks=follow)
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.EPERM):
            return
        raise
    for name in sorted(names):
        value = b""
        try:
            value = os.getxattr(where, name, follow_symlinks=follow)
        except OSError as error:
            # Listed a moment ago and removed since.
            if error.errno != errno.ENODATA:
                raise
            continue
        if name in _ACLS:
            entry.setdefault("acl", {})[_ACLS[name]] = _acl(value)
        else:
            entry.setdefault("xattrs", {})[attribute_name(os.fsencode(name))] = to_text(value)


def attribute_name(attribute: bytes) -> str:
    """Attribute names are bytes to the kernel; JSON keys must be text."""
    text = to_text(attribute)
    return text if isinstance(text, str) else f"base64:{text['base64']}"


def _acl(value: bytes) -> list[str]:
    """``["group::r-x", "user:taro:rwx", …]``: the kernel's structure with names instead of numbers."""
    rows = []
    for tag, bits, number in struct.iter_unpack("<HHI", value[4:]):
        who = _ACL_TAGS.get(tag, f"tag {tag}:")
        name = _user(number) if tag == 0x02 else _group(number) if tag == 0x08 else ""
        letters = "".join(letter if bits & bit else "-" for letter, bit in (("r", 4), ("w", 2), ("x", 1)))
        rows.append(f"{who.format(name)}:{letters}")
    return sorted(rows)


@functools.cache
def _user(number: int) -> str | int:
    with suppress(KeyError):
        return pwd.getpwuid(number).pw_name
    return number


@functools.cache
def _group(number: int) -> str | int:
    with suppress(KeyError):
        return grp.getgrgid(number).gr_name
    return number


def mount_points_below(root: Path) -> frozenset[bytes]:
    """Relative paths at which something else is mounted, also when it is the same file system (a bind mount)."""
    above = os.fsencode(os.path.realpath(root)).rstrip(b"/") + b"/"
    found = set()
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        # Space, tab, newline and backslash stand as \040 and the like.
        mounted = line.split(b" ")[4]
        for code, character in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
            mounted = mounted.replace(code, character)
        if mounted.startswith(above):
            found.add(mounted[len(above) :])
    return frozenset(found)


def _unreadable(path: bytes, error: OSError) -> MigrationError:
    return MigrationError(
        f"{os.fsdecode(path)!r} cannot be read: {error.strerror}",
        check="file-tree",
        action="Mend the disk or the limits of this process, then run again",
    )
