"""File trees made read-only without touching one attribute in them: a read-only bind mount of each tree onto itself."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import pwd
import re
import secrets
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .commands import Runner
from .errors import MigrationError
from .tenant_model import Tree

# Runs as the tree's own user. Prints "created" or the symbolic name of the refusal.
_PROBE = """
import errno, os, sys
try:
    os.close(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    os.unlink(sys.argv[1])
    print("created")
except OSError as error:
    print(errno.errorcode.get(error.errno, str(error.errno)))
"""


# Not below /run/ireporter-migration, where every folder is a channel's.
_STAGES = Path("/run")
# Never through a link: who owns the folder above could put one there that leads to a neighbour's tree.
_FOLDER_ITSELF = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Writer:
    """A process that could still write in a tree although the tree's path is read-only."""

    pid: int
    program: str
    path: str


class Trees:
    """Mounts, and who could go round them."""

    def __init__(self, run: Runner, proc: Path = Path("/proc"), stages: Path = _STAGES) -> None:
        self._run = run
        self._proc = proc
        self._stages = stages

    def mounts_at(self, path: Path) -> int:
        """How many mounts lie on this very path."""
        # The kernel writes bytes; octal escapes stand for blanks, tabs, newlines and backslashes only.
        return sum(
            re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), mount[4]) == str(path)
            for mount in self._mounts()
        )

    def _mounts(self) -> Iterator[list[str]]:
        """Every mount that this process sees, as the fields of mountinfo (proc(5))."""
        for line in (self._proc / "self/mountinfo").read_text(errors="surrogateescape").split("\n")[:-1]:
            yield line.split(" ")

    def read_only(self, path: Path) -> bool:
        """Whether a write below this path is refused by the mount, seen from this process."""
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)

    def make_read_only(self, path: Path) -> bool:
        """Bind ``path`` read-only onto itself; ``False`` when it is read-only already.

        The mount is made in a place of its own, turned read-only there, and then bound over the tree: a bind mount of a read-only mount is born
        read-only. (Turned read-only in place, it would stay writable in the mount namespaces of services, which get mounts but not changes of them.)

        :raises MigrationError: ``path`` is no folder or is reached through a symbolic link (check ``file-tree``); or what was mounted does not lie
            on ``path``, or it is writable all the same (check ``read-only-mount``).
        """
        self._clear_stage(path)
        folder = _open_tree(path)
        try:
            if self.read_only(path):
                return False
            # What was opened and looked at is what is mounted, whatever has this name by then. The dot: the newer mount calls do not
            # follow a link at the end of a name, not even this one.
            self._bind_read_only(path, f"/proc/{os.getpid()}/fd/{folder}/.")
        finally:
            os.close(folder)
        if not self.read_only(path):
            raise MigrationError(
                f"{path} is still writable after it was mounted read-only",
                check="read-only-mount",
                action="See findmnt for what lies on that path",
            )
        return True

    def _bind_read_only(self, path: Path, opened: str) -> None:
        stage = self._stage(path)
        before = self.mounts_at(path)
        try:
            # Only root comes through the upper folder: until it is read-only, the stage is a second way to write.
            stage.parent.mkdir(mode=0o700)
            stage.mkdir()
            self._run(["mount", "--no-canonicalize", "--bind", opened, str(stage)])
            self._run(["mount", "--make-private", str(stage)])
            self._run(["mount", "-o", "remount,bind,ro", str(stage)])
            self._run(["mount", "--no-canonicalize", "--bind", str(stage), opened])
        finally:
            self._clear_stage(path)
        if self.mounts_at(path) <= before:
            self._run(["umount", "--lazy", "--no-canonicalize", opened])
            raise MigrationError(
                f"{path} was renamed while it was mounted read-only",
                check="read-only-mount",
                action="Find out who renames it or a folder above it, then run again",
            )

    def _stage(self, path: Path) -> Path:
        """Where the mount of ``path`` is made: always the same place, so that what a killed run left there is found."""
        name = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
        return self._stages / f"ireporter-migration-stage-{name}" / "tree"

    def _clear_stage(self, path: Path) -> None:
        stage = self._stage(path)
        while self.mounts_at(stage):
            self._run(["umount", "--lazy", str(stage)])
        for folder in (stage, stage.parent):
            with contextlib.suppress(FileNotFoundError):
                folder.rmdir()

    def make_writable(self, path: Path, *, mounts_before: int) -> bool:
        """Take our mounts off ``path`` again, down to ``mounts_before``; ``False`` when there were none of ours.

        :raises MigrationError: ``path`` is still read-only, and not because its whole file system is (check ``read-only-mount``).
        """
        self._clear_stage(path)
        undone = False
        while self.mounts_at(path) > mounts_before and self.read_only(path):
            # Lazily: whoever still stands in the read-only mount keeps it, and must not hold up the tenant.
            self._run(["umount", "--lazy", str(path)])
            undone = True
        if path.exists() and self.read_only(path) and not self._file_system_read_only(path):
            raise MigrationError(
                f"{path} is still read-only, by a mount that is not on this path or was there before the freeze",
                check="read-only-mount",
                action=f"Take the mount that findmnt --target {path} shows off by hand (umount --lazy), then run again",
            )
        return undone

    def _file_system_read_only(self, path: Path) -> bool:
        """Whether the file system itself was mounted read-only (or turned so after errors), not only the mount through which we see it."""
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            about = Path(f"/proc/self/fdinfo/{opened}").read_text()
        finally:
            os.close(opened)
        found = re.search(r"^mnt_id:\s*(\d+)$", about, re.MULTILINE)
        return found is not None and any(
            mount[0] == found.group(1) and "ro" in mount[-1].split(",") for mount in self._mounts()
        )

    def writers(self, paths: list[Path]) -> list[Writer]:
        """Processes that hold something open under ``paths`` through which they could still write.

        That is: a file opened for writing, a shared writable mapping, an open folder, or a working or root directory there (relative names below
        them do not pass through the new mount). Kernel threads and this process are left out.
        """
        prefixes = [str(path) for path in paths]
        found: list[Writer] = []
        for entry in self._proc.iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            for target in self._writable_paths(entry):
                if any(target == prefix or target.startswith(f"{prefix}/") for prefix in prefixes):
                    found.append(Writer(int(entry.name), _program(entry), target))
                    break
        return found

    def _writable_paths(self, process: Path) -> list[str]:
        paths = [str(target) for name in ("cwd", "root") if (target := _link(process / name)) is not None]
        try:
            descriptors = list((process / "fd").iterdir())
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return paths
        for descriptor in descriptors:
            target = _link(descriptor)
            if target is None or not target.startswith("/") or target.startswith(("/dev/", "/proc/", "/sys/")):
                continue
            try:
                flags = re.search(
                    r"^flags:\s*([0-7]+)", (process / "fdinfo" / descriptor.name).read_text(), re.MULTILINE
                )
                folder = stat.S_ISDIR(descriptor.stat().st_mode)
            except OSError:
                continue  # closed meanwhile
            if folder or (flags is not None and int(flags.group(1), 8) & os.O_ACCMODE != os.O_RDONLY):
                paths.append(target)
        try:
            for line in (process / "maps").read_text(errors="surrogateescape").split("\n"):
                fields = line.split(maxsplit=5)
                if len(fields) == 6 and fields[1][1] == "w" and fields[1][3] == "s" and fields[5].startswith("/"):
                    paths.append(fields[5])
        except OSError:
            pass  # ended meanwhile
        return paths

    def try_write(self, tree: Tree) -> str:
        """Create a file in the tree as the user who writes there, and remove it again.

        :return: ``created``, or the refusal by name (``EROFS``, ``EACCES``, …).
        """
        path = tree.path / tree.write_in / f".ireporter-migration-probe-{secrets.token_hex(8)}"
        argv = [sys.executable or "/usr/bin/python3", "-I", "-c", _PROBE, str(path)]
        if tree.write_as != "root":
            user = _user(tree)
            argv = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--init-groups", "--", *argv]
        try:
            folder = os.open(path.parent, os.O_RDONLY | _FOLDER_ITSELF)
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, str(error))
        try:
            before = os.fstat(folder)
            answer = self._run(argv, check=False).stdout.strip() or "no answer"
            if answer == "created":
                # A probe leaves nothing behind, not even a newer time of the folder: of this one, whatever has its name by now.
                os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))
        finally:
            os.close(folder)
        return answer


def real_path(path: Path) -> Path | None:
    """Where ``path`` really leads if it is, or passes through, a symbolic link; ``None`` when it does not.

    Mounts lie on real paths only: on another one, what a freeze mounts would never be found again.
    """
    real = os.path.realpath(path)
    return None if real == str(path) else Path(real)


def _open_tree(path: Path) -> int:
    """A descriptor (``O_PATH``) of the folder that has this very path.

    :raises MigrationError: there is none, or only through a symbolic link (check ``file-tree``).
    """
    wrong: object
    try:
        folder = os.open(path, os.O_PATH | _FOLDER_ITSELF)
    except OSError as error:
        wrong = real_path(path) or error.strerror
    else:
        # The kernel's own word on what was opened: nobody can put a link there any more.
        wrong = Path(f"/proc/self/fd/{folder}").readlink()
        if wrong == path:
            return folder
        os.close(folder)
    raise MigrationError(
        f"{path} cannot be mounted read-only, as it is no folder of that path: {wrong}",
        check="file-tree",
        action="Name the real folder, without symbolic links, in file_trees of the inventory",
    )


def _user(tree: Tree) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(tree.write_as)
    except KeyError:
        raise MigrationError(
            f"The user {tree.write_as}, who writes in the file tree {tree.name}, does not exist here",
            check="tree-user",
            action="Correct write_as of the file tree, or create the user",
        ) from None


def _link(path: Path) -> str | None:
    try:
        return str(path.readlink())
    except OSError:
        return None


def _program(process: Path) -> str:
    try:
        return (process / "comm").read_text(errors="replace").strip()
    except OSError:
        return "ended"
