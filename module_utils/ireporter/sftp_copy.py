# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies file trees from a server that offers nothing but SFTP into trees on this host, several files at a time."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from os import fsencode, fstat, readlink, stat_result
from stat import S_ISDIR, S_ISLNK, S_ISREG
from typing import Final

from .errors import MigrationError
from .file_manifest import mount_points_below
from .file_trees import FileTree, claim, parse_trees
from .file_verification import LICENCE_REASON, Difference, Progress, text_of
from .sftp_entry import (
    NOT_PROVEN,
    NOT_PROVEN_UNLESS_FINAL,
    PARTIAL_PREFIX,
    Entry,
    Refused,
    Source,
    Vanished,
    check_name,
    is_folder_itself,
)
from .sftp_partial import Copied, fetch, same_content
from .sftp_target import TargetTree, attributes_differ, look, names, set_mode, writing

_FILES_AHEAD: Final = 32
_NAMED_PATHS: Final = 5
_KEPT_REFUSALS: Final = 1000


@dataclass
class Figures:
    """Sums over all trees, as the result gives them. Changed under ``_Pass.lock`` only."""

    changed: bool = False
    files: int = 0
    bytes: int = 0
    bytes_sent: int = 0
    resumed: int = 0
    bytes_resumed: int = 0
    files_changed_meanwhile: int = 0
    repaired: int = 0
    files_verified: int = 0
    bytes_verified: int = 0
    items: dict[str, int] = field(default_factory=dict)
    refused: list[dict[str, str]] = field(default_factory=list)
    refused_total: int = 0

    def count(self, kind: str, number: int = 1) -> None:
        """Something is, or would be, changed."""
        if number:
            self.changed = True
            self.items[kind] = self.items.get(kind, 0) + number


def run(spec: dict[str, object], progress: Progress) -> dict[str, object]:
    """Make every target tree on this host equal to its source on an SFTP server, as far as SFTP tells.

    :param spec: ``file_trees`` [{name, source, target, licence_file}], ``sftp`` {host, port, user, key_file, known_hosts_file, channels},
        ``final`` (read every file of the source and compare), ``replace``, ``owner``, ``check`` as for ``file_copy.run``.
    :return: ``changed``, ``files``, ``bytes`` (of the source), ``bytes_sent`` (read from it), ``seconds``, ``resumed`` (files),
        ``bytes_resumed``, ``files_changed_meanwhile``, ``repaired``, ``items``, ``not_proven`` (sentences), with ``final`` also
        ``files_verified``, ``bytes_verified``, ``expected_differences``.
    :raises MigrationError: ``library-missing`` (no paramiko here), ``sftp-settings``, ``sftp-host-key``, ``sftp-login``,
        ``sftp-connection`` (also when it is lost: run again), ``sftp-name`` (a hostile server), ``files-refused`` (what cannot be
        copied; all else is; ``figures`` hold ``refused`` and ``refused_total``), ``target-empty``, ``target-disk``, ``files-copy``, ``files-differ``.
    """
    raw, sftp = spec.get("file_trees"), spec.get("sftp")
    if not isinstance(raw, list) or not isinstance(sftp, Mapping):
        raise MigrationError("The specification has no file trees", check="file-trees", action="Name the trees")
    trees = parse_trees(raw, chrooted=True)
    try:
        from . import sftp_source  # noqa: PLC0415 - paramiko is needed for this way of copying only
    except ModuleNotFoundError as error:
        if error.name != "paramiko":
            raise
        raise MigrationError(
            "Copying by SFTP needs Python's paramiko, which is not installed on this server",
            check="library-missing",
            action="Install python3-paramiko (role ireporter_migration_tools with ireporter_migration_tools_sftp: true)",
        ) from error
    server = sftp_source.SftpServer.parse(sftp)
    owner = str(spec.get("owner") or "")
    final, check = bool(spec.get("final")), bool(spec.get("check"))
    with contextlib.closing(sftp_source.Connection(server)) as connection:
        # Everything that can be refused is refused before the first byte moves.
        for tree in trees:
            claimant = owner or f"sftp://{server.user}@{server.host}:{server.port}{tree.source}"
            _must_be_copyable(tree, claimant, replace=bool(spec.get("replace")), change=not check)
        return copy_trees(
            trees,
            connection.session,
            channels=server.channels,
            final=final,
            check=check,
            progress=progress,
            hang_up=connection.close,
        )


def _must_be_copyable(tree: FileTree, owner: str, *, replace: bool, change: bool) -> None:
    for path in sorted(mount_points_below(tree.target)):
        raise MigrationError(
            f"{tree.target}/{text_of(path)} is another file system inside a file tree",
            check="file-system-boundary",
            action="Make it a file tree of its own, or unmount it",
        )
    with writing(tree.target, b""):
        if not replace:
            claim(tree.target, owner, licence_file=tree.licence_file, change=change)
        elif change:
            tree.target.mkdir(parents=True, exist_ok=True)


def copy_trees(
    trees: list[FileTree],
    open_session: Callable[[], Source],
    *,
    channels: int,
    final: bool,
    check: bool,
    progress: Progress,
    hang_up: Callable[[], None],
) -> dict[str, object]:
    """What :func:`run` does once it is known where from.

    :param open_session: called ``channels`` + 1 times: one session lists, the others read files.
    :param hang_up: ends all sessions at once, so that nobody waits for them after a failure.
    """
    started = time.monotonic()
    figures = Figures()
    sessions = [open_session()]
    try:
        if not check:
            sessions += [open_session() for _number in range(channels)]
        for tree in trees:
            _Pass(tree, sessions, figures, final=final, check=check, progress=progress, hang_up=hang_up).go()
        _judge(figures, final=final)
        if final and not check:
            # What came, went or changed while the copy ran would show as something to do.
            again = Figures()
            for tree in trees:
                _Pass(tree, sessions[:1], again, final=False, check=True, progress=progress, hang_up=hang_up).go()
            if again.changed or again.refused_total or again.files_changed_meanwhile:
                raise _differ(
                    f"The source is not what was copied a moment ago ({_in_words(again.items) or 'items came or went'})"
                )
    finally:
        for session in sessions:
            session.close()
    result: dict[str, object] = dict(figures.__dict__)
    for name in ("refused", "refused_total"):
        del result[name]
    result["not_proven"] = [*NOT_PROVEN, *(() if final and not check else NOT_PROVEN_UNLESS_FINAL)]
    if final and not check:
        result["expected_differences"] = [_licence(tree) for tree in trees if tree.licence_file is not None]
    else:
        del result["files_verified"], result["bytes_verified"]
    return {**result, "seconds": round(time.monotonic() - started, 3)}


def _judge(figures: Figures, *, final: bool) -> None:
    if figures.refused_total:
        named = "; ".join(
            f"{one['path']!r} of {one['tree']}: {one['reason']}" for one in figures.refused[:_NAMED_PATHS]
        )
        error = MigrationError(
            f"{figures.refused_total} items of the source cannot be copied by SFTP ({named})",
            check="files-refused",
            action="Remove or rename them on the source or make them readable, then run again; all else was looked at",
        )
        setattr(error, "figures", {"refused": figures.refused, "refused_total": figures.refused_total})  # noqa: B010
        raise error
    if final and figures.files_changed_meanwhile:
        raise _differ(f"{figures.files_changed_meanwhile} files or folders vanished or changed while they were copied")


def _differ(happened: str) -> MigrationError:
    return MigrationError(
        happened, check="files-differ", action="See that nobody writes to the source any more, then run again"
    )


def _in_words(items: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {kind}" for kind, number in sorted(items.items()))


def _licence(tree: FileTree) -> dict[str, object]:
    difference = Difference("licence file", tree.name, tree.licence_file or b"", "not looked at", "not looked at")
    return {**difference.as_dict(), "reason": LICENCE_REASON}


class _Folder:
    """A folder of the source whose content is not complete here yet. ``pending``: itself, its files at work, its sub folders."""

    def __init__(self, path: bytes, entry: Entry, parent: _Folder | None) -> None:
        self.path = path
        self.entry = entry
        self.parent = parent
        self.pending = 1
        self.keep_partial = False

    def child(self, name: bytes) -> bytes:
        return self.path + b"/" + name if self.path else name


class _Stopped(Exception):
    """Another thread failed; its error is the one to report."""


class _Pass:
    """One way through one tree. This thread lists folders and does what is small; the others copy files."""

    def __init__(
        self,
        tree: FileTree,
        sessions: list[Source],
        figures: Figures,
        *,
        final: bool,
        check: bool,
        progress: Progress,
        hang_up: Callable[[], None],
    ) -> None:
        self.tree = tree
        self.source_root = fsencode(tree.source)
        self.lister = sessions[0]
        self.idle: queue.SimpleQueue[Source] = queue.SimpleQueue()
        for session in sessions[1:]:
            self.idle.put(session)
        self.workers = len(sessions) - 1
        self.figures = figures
        self.final = final
        self.check = check
        self.progress = progress
        self.hang_up = hang_up
        self.lock = threading.RLock()
        self.error: BaseException | None = None
        self.pool: ThreadPoolExecutor | None = None
        self.places = threading.Semaphore(self.workers + _FILES_AHEAD)
        with writing(tree.target, b""):
            self.target = TargetTree(tree.target, tree.licence_file, change=not check)

    def go(self) -> None:
        """:raises MigrationError: the first thing that went wrong; what is copied stays, half-copied files are resumed by the next call."""
        try:
            if self.check:
                self._walk()
            else:
                self._walk_with_workers()
        finally:
            self.target.close()

    def _walk_with_workers(self) -> None:
        self.pool = ThreadPoolExecutor(self.workers, thread_name_prefix="sftp")
        try:
            self._walk()
        except BaseException as error:
            self._fail(error)
            # Whoever reads from the source must not wait for an answer that nobody needs.
            self.hang_up()
        finally:
            self.pool.shutdown(wait=True, cancel_futures=self.error is not None)
        if self.error is not None:
            raise self.error

    def _fail(self, error: BaseException) -> None:
        with self.lock:
            if self.error is None and not isinstance(error, _Stopped):
                self.error = error

    def _stop_after_error(self) -> None:
        if self.error is not None:
            raise _Stopped

    def _walk(self) -> None:
        try:
            entry = self.lister.look(self.source_root)
        except (Vanished, Refused) as error:
            raise self._no_tree(str(error)) from error
        if entry.kind != "directory":
            raise self._no_tree(f"it is no folder but a {entry.kind}")
        stack = [_Folder(b"", entry, None)]
        while stack:
            self._stop_after_error()
            folder = stack.pop()
            stack += self._folder(folder)
            self._done(folder)

    def _no_tree(self, why: str) -> MigrationError:
        return MigrationError(
            f"The SFTP server has no file tree {text_of(self.source_root)!r}: {why}",
            check="file-tree",
            action="Name the folder as the SFTP account sees it (in a chroot, from there)",
        )

    def _remote(self, path: bytes) -> bytes:
        return self.source_root.rstrip(b"/") + b"/" + path if path else self.source_root

    def _folder(self, folder: _Folder) -> list[_Folder]:
        """Everything in one folder but the content of its sub folders, which are returned."""
        below: list[_Folder] = []
        # All that is kept of a listing: needed to tell what to delete, and that no name comes twice.
        listed: set[bytes] = set()
        opened = self.target.folder if self.check else self.target.existing_folder
        with self._writing(folder.path), opened(folder.path) as here:
            try:
                for entry in self.lister.list(self._remote(folder.path)):
                    if is_folder_itself(entry.name):
                        continue
                    self._stop_after_error()
                    path = folder.child(entry.name)
                    try:
                        check_name(entry.name, folder.path)
                        self._must_be_new(entry.name, listed, folder)
                        listed.add(entry.name)
                        if path != self.tree.licence_file:
                            self._entry(folder, here, entry, path, below)
                    except Refused as error:
                        self._refuse(path, str(error))
                    except Vanished:
                        self._changed_meanwhile()
            except Refused as error:
                # It did not end: what is not in it may well exist.
                folder.keep_partial = True
                self._refuse(folder.path, str(error))
            except Vanished:
                self._changed_meanwhile()
            else:
                self._delete_others(folder, here, listed)
        return below

    def _must_be_new(self, name: bytes, listed: set[bytes], folder: _Folder) -> None:
        if name in listed:
            raise MigrationError(
                f"The server listed {text_of(name)!r} twice in the folder {text_of(folder.path)!r}",
                check="sftp-name",
                action="Do not trust this server: find out what answers there",
            )

    def _entry(self, folder: _Folder, here: int | None, entry: Entry, path: bytes, below: list[_Folder]) -> None:
        if entry.kind == "unknown":
            # Some servers leave the type out of listings.
            looked = self.lister.look(self._remote(path))
            entry = Entry(entry.name, looked.kind, looked.mode, looked.size, looked.mtime)
        seen = look(here, entry.name) if here is not None else None
        if entry.kind == "directory":
            self._directory(here, entry, path, seen)
            with self.lock:
                folder.pending += 1
            below.append(_Folder(path, entry, folder))
        elif entry.kind == "link":
            self._link(here, entry, path, seen)
        elif entry.kind == "file":
            self._file(folder, here, entry, path, seen)
        else:
            raise Refused(f"it is a {entry.kind}" if entry.kind != "unknown" else "the server does not say what it is")

    def _directory(self, here: int | None, entry: Entry, path: bytes, seen: stat_result | None) -> None:
        if seen is not None and S_ISDIR(seen.st_mode):
            return
        self._count("folders")
        if not self.check and here is not None:
            self.target.make_folder(here, entry.name, path)

    def _link(self, here: int | None, entry: Entry, path: bytes, seen: stat_result | None) -> None:
        wanted = self.lister.link_target(self._remote(path))
        if (
            here is not None
            and seen is not None
            and S_ISLNK(seen.st_mode)
            and fsencode(readlink(entry.name, dir_fd=here)) == wanted
            and not attributes_differ(seen, entry, with_time=True)
        ):
            return
        self._count("links")
        if not self.check and here is not None:
            self.target.make_link(here, entry, wanted, path)

    def _file(self, folder: _Folder, here: int | None, entry: Entry, path: bytes, seen: stat_result | None) -> None:
        with self.lock:
            self.figures.files += 1
            self.figures.bytes += entry.size or 0
        same = (
            seen is not None
            and S_ISREG(seen.st_mode)
            and seen.st_size == entry.size
            and not attributes_differ(seen, Entry(entry.name, "file", None, None, entry.mtime), with_time=True)
        )
        if not same:
            self._start(folder, entry, path, self._copy)
            return
        if seen is not None and attributes_differ(seen, entry, with_time=False):
            self._count("attributes")
            if not self.check and here is not None:
                set_mode(here, entry)
        if self.final or entry.mtime is None:
            # Where the server knows no times, content is all there is to compare.
            self._start(folder, entry, path, self._verify)

    def _start(
        self, folder: _Folder, entry: Entry, path: bytes, job: Callable[[Source, int, Entry, bytes], None]
    ) -> None:
        """Let a worker do it; in check mode, which reads no content, count what is known to be copied."""
        if self.pool is None:
            if job == self._copy:
                self._count("copied")
            return
        self.places.acquire()
        with self.lock:
            folder.pending += 1
        future = self.pool.submit(self._work, folder, entry, path, job)
        future.add_done_callback(self._free_place)

    def _free_place(self, _future: Future[None]) -> None:
        self.places.release()

    def _work(
        self, folder: _Folder, entry: Entry, path: bytes, job: Callable[[Source, int, Entry, bytes], None]
    ) -> None:
        """A worker's whole turn. It keeps its error for the thread that walks."""
        session = self.idle.get()
        try:
            self._stop_after_error()
            try:
                with self._writing(path), self.target.existing_folder(folder.path) as here:
                    job(session, here, entry, path)
            except Refused as error:
                folder.keep_partial = True
                self._refuse(path, str(error))
            except Vanished:
                self._changed_meanwhile()
            self._done(folder)
        except BaseException as error:
            # The thread that walks raises it.
            self._fail(error)
        finally:
            self.idle.put(session)

    def _copy(self, session: Source, here: int, entry: Entry, path: bytes) -> None:
        remote = session.open(self._remote(path))
        try:
            copied = fetch(remote, self.target, here, entry, path, whole=self.final, tell=self._tell)
        finally:
            remote.close()
        self._count("copied")
        with self.lock:
            self.figures.resumed += copied.resumed > 0
            self.figures.bytes_resumed += copied.resumed
            self._verified(copied)

    def _verify(self, session: Source, here: int, entry: Entry, path: bytes) -> None:
        remote = session.open(self._remote(path))
        try:
            equal = same_content(remote, here, entry, path, tell=self._tell)
        finally:
            remote.close()
        if equal:
            self._verified(Copied(entry.size or 0, 0))
            return
        with self.lock:
            self.figures.repaired += 1
        self._copy(session, here, entry, path)

    def _verified(self, copied: Copied) -> None:
        with self.lock:
            self.figures.files_verified += 1
            self.figures.bytes_verified += copied.size

    def _delete_others(self, folder: _Folder, here: int | None, listed: set[bytes]) -> None:
        if here is None:
            return
        for name in names(here):
            if name in listed:
                continue
            # Half-copied files are somebody's beginning until the folder is complete; a dry run says they will change.
            if self.check or not name.startswith(PARTIAL_PREFIX):
                self._count("deleted", self.target.delete(here, name, folder.child(name), change=not self.check))

    def _done(self, folder: _Folder) -> None:
        """One of the things a folder waited for is there. With the last, it gets its mode and time, and the folder above it is one nearer."""
        current: _Folder | None = folder
        while current is not None:
            with self.lock:
                current.pending -= 1
                if current.pending:
                    return
            self._finish(current)
            current = current.parent

    def _finish(self, folder: _Folder) -> None:
        with self._writing(folder.path):
            if self.check:
                with self.target.folder(folder.path) as here:
                    if here is None:
                        # Its own line counts it, but for the root, which has none.
                        self._count("folders", 0 if folder.path else 1)
                    elif attributes_differ(fstat(here), folder.entry, with_time=True):
                        self._count("attributes")
                return
            with self.target.existing_folder(folder.path) as here:
                if self.target.finish_folder(here, folder.entry, keep_partial=folder.keep_partial):
                    self._count("attributes")

    @contextlib.contextmanager
    def _writing(self, path: bytes) -> Iterator[None]:
        with writing(self.tree.target, path):
            yield

    def _count(self, kind: str, number: int = 1) -> None:
        with self.lock:
            self.figures.count(kind, number)

    def _changed_meanwhile(self) -> None:
        with self.lock:
            self.figures.files_changed_meanwhile += 1

    def _refuse(self, path: bytes, reason: str) -> None:
        with self.lock:
            self.figures.refused_total += 1
            if len(self.figures.refused) < _KEPT_REFUSALS:
                self.figures.refused.append(
                    {"tree": self.tree.name, "path": path.decode(errors="backslashreplace") or ".", "reason": reason}
                )

    def _tell(self, read: int) -> None:
        """Count what came from the source; also where a worker learns that another one failed."""
        self._stop_after_error()
        with self.lock:
            self.figures.bytes_sent += read
            now: dict[str, object] = {
                "step": "copy",
                "tree": self.tree.name,
                "bytes": self.figures.bytes_sent,
                "files": self.figures.items.get("copied", 0),
            }
            self.progress(now)
