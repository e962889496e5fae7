"""File trees made read-only without touching one attribute in them: a read-only bind mount of each tree onto itself."""

from __future__ import annotations

import os
import pwd
import re
import secrets
import stat
import sys
import tempfile
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


@dataclass(frozen=True)
class Writer:
    """A process that could still write in a tree although the tree's path is read-only."""

    pid: int
    program: str
    path: str


class Trees:
    """Mounts, and who could go round them."""

    def __init__(self, run: Runner, proc: Path = Path("/proc")) -> None:
        self._run = run
        self._proc = proc

    def mounts_at(self, path: Path) -> int:
        """How many mounts lie on this very path."""
        count = 0
        for line in (self._proc / "self/mountinfo").read_text(errors="surrogateescape").split("\n")[:-1]:
            point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), line.split(" ")[4])
            # The kernel writes bytes; octal escapes stand for blanks, tabs, newlines and backslashes only.
            count += point == str(path)
        return count

    def read_only(self, path: Path) -> bool:
        """Whether a write below this path is refused by the mount, seen from this process."""
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)

    def make_read_only(self, path: Path) -> bool:
        """Bind ``path`` read-only onto itself; ``False`` when it is read-only already.

        The mount is made in a place of its own, turned read-only there, and then bound over the tree: a bind mount of a read-only mount is born
        read-only. (Turned read-only in place, it would stay writable in the mount namespaces of services, which get mounts but not changes of them.)
        """
        if self.read_only(path):
            return False
        stage = Path(tempfile.mkdtemp(prefix="ireporter-migration-"))
        try:
            self._run(["mount", "--bind", str(path), str(stage)])
            try:
                self._run(["mount", "--make-private", str(stage)])
                self._run(["mount", "-o", "remount,bind,ro", str(stage)])
                self._run(["mount", "--bind", str(stage), str(path)])
            finally:
                self._run(["umount", "--lazy", str(stage)])
        finally:
            stage.rmdir()
        if not self.read_only(path):
            raise MigrationError(
                f"{path} is still writable after it was mounted read-only",
                check="read-only-mount",
                action="See findmnt for what lies on that path",
            )
        return True

    def make_writable(self, path: Path, *, mounts_before: int) -> bool:
        """Take our mounts off ``path`` again, down to ``mounts_before``; ``False`` when there were none of ours."""
        undone = False
        while self.mounts_at(path) > mounts_before and self.read_only(path):
            # Lazily: whoever still stands in the read-only mount keeps it, and must not hold up the tenant.
            self._run(["umount", "--lazy", str(path)])
            undone = True
        return undone

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
        folder = path.parent
        try:
            before = folder.stat()
        except FileNotFoundError:
            return "ENOENT"
        answer = self._run(argv, check=False).stdout.strip() or "no answer"
        if answer == "created":
            # A probe leaves nothing behind, not even a newer time of the folder.
            os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))
        return answer


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
