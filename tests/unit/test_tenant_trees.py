"""File trees made read-only: what is mounted where, with a kernel in memory. With the real one: tests/integration/test_tenant_trees.py."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from ireporter.commands import Completed, run
from ireporter.errors import MigrationError
from ireporter.freeze_steps import obstacles
from ireporter.tenant_model import Tree
from ireporter.tenant_trees import Trees

from tests.unit.tenant_fakes import stage as fake_server


class Killed(BaseException):
    """What SIGKILL does to the migration: nothing of it runs any more."""


class Kernel:
    """Mounts, made by mount and umount; the last one on a path is the one that counts."""

    def __init__(self, proc: Path) -> None:
        self.proc = proc
        self.mounts: list[tuple[str, bool]] = []  # where, and whether read-only
        self.commands: list[list[str]] = []
        self.killed_after: int | None = None
        self.before_each: Callable[[list[str]], object] = lambda _argv: None
        (proc / "self").mkdir(parents=True)
        self.write()

    def __call__(self, argv: Sequence[str], **_options: Any) -> Completed:
        if self.killed_after is not None and len(self.commands) >= self.killed_after:
            raise Killed
        self.commands.append(list(argv))
        self.before_each(list(argv))
        point = self.place(argv[-1])
        if argv[0] == "umount":
            del self.mounts[max(index for index, mount in enumerate(self.mounts) if mount[0] == point)]
        elif "--bind" in argv:
            self.mounts.append((point, self.read_only(Path(self.place(argv[-2])))))
        elif "remount,bind,ro" in argv:
            self.mounts[-1] = (point, True)
        self.write()
        return Completed(0, "", "")

    def place(self, path: str) -> str:
        return str(Path(path.removesuffix("/.")).readlink()) if path.startswith("/proc/") else path

    def read_only(self, path: Path) -> bool:
        return next((ro for point, ro in reversed(self.mounts) if point == os.path.realpath(path)), False)

    def write(self) -> None:
        lines = [f"{100 + at} 1 8:1 / {point} rw - ext4 x rw\n" for at, (point, _) in enumerate(self.mounts)]
        (self.proc / "self/mountinfo").write_text("".join(lines))


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel(tmp_path / "proc")
    monkeypatch.setattr(Trees, "read_only", lambda _trees, path: kernel.read_only(path))
    return kernel


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    path = tmp_path / "srv/acme/output"
    path.mkdir(parents=True)
    (path.parent / "neighbour").mkdir()
    return path


def trees(kernel: Kernel, tree: Path) -> Trees:
    return Trees(kernel, kernel.proc, tree.parents[2] / "run")


def left(tree: Path) -> list[Path]:
    return list((tree.parents[2] / "run").iterdir())


def test_a_tree_becomes_read_only_and_writable_again(kernel: Kernel, tree: Path) -> None:
    assert trees(kernel, tree).make_read_only(tree)
    assert kernel.mounts == [(str(tree), True)]
    assert not trees(kernel, tree).make_read_only(tree)
    assert trees(kernel, tree).make_writable(tree, mounts_before=0)
    assert kernel.mounts == left(tree) == []
    assert not trees(kernel, tree).make_writable(tree, mounts_before=0)
    assert not trees(kernel, tree / "missing").make_writable(tree / "missing", mounts_before=0)


@pytest.mark.parametrize("link", ["the tree", "a folder above"])
def test_a_tree_behind_a_link_is_refused(kernel: Kernel, tree: Path, link: str) -> None:
    if link == "the tree":
        path = tree.parent / "link"
        path.symlink_to(tree.parent / "neighbour")
    else:
        (tree.parents[1] / "link").symlink_to(tree.parent)
        path = tree.parents[1] / "link/output"
    with pytest.raises(MigrationError) as caught:
        trees(kernel, tree).make_read_only(path)
    assert caught.value.check == "file-tree"
    assert caught.value.happened.endswith(os.path.realpath(path))
    assert kernel.commands == []


def test_a_tree_behind_a_link_is_an_obstacle(tmp_path: Path) -> None:
    server = fake_server(tmp_path).server
    path = server.tenant.file_trees[0].path
    assert obstacles(server) == []
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    (found,) = obstacles(server)
    assert found["check"] == "file-tree"
    assert found["message"].endswith(f"symbolic link: {path} is {tmp_path / 'elsewhere'} in truth")


@pytest.mark.parametrize("swapped_before", range(4))
def test_a_tree_that_is_swapped_meanwhile_never_shuts_a_neighbour(
    kernel: Kernel, tree: Path, swapped_before: int
) -> None:
    def swap(_argv: list[str]) -> None:
        if len(kernel.commands) == swapped_before + 1:
            tree.rename(tree.parent / "renamed")
            tree.symlink_to(tree.parent / "neighbour")

    kernel.before_each = swap
    with pytest.raises(MigrationError, match="was renamed while it was mounted"):
        trees(kernel, tree).make_read_only(tree)
    assert kernel.mounts == left(tree) == []


def test_a_tree_that_stays_read_only_is_not_passed_over(kernel: Kernel, tree: Path) -> None:
    """As after a freeze of an earlier version through a link: the mount lies on another path than the tree's."""
    link = tree.parent / "link"
    link.symlink_to(tree)
    kernel.mounts = [(str(tree), True)]
    kernel.write()
    with pytest.raises(MigrationError) as caught:
        trees(kernel, tree).make_writable(link, mounts_before=0)
    assert caught.value.check == "read-only-mount"
    assert str(link) in caught.value.happened


@pytest.mark.parametrize("commands", range(6))
@pytest.mark.parametrize("then", ["thaw", "freeze"])
def test_what_was_killed_half_way_leaves_no_second_way(kernel: Kernel, tree: Path, commands: int, then: str) -> None:
    kernel.killed_after = commands
    with pytest.raises(Killed):
        trees(kernel, tree).make_read_only(tree)
        raise Killed
    kernel.killed_after = None
    if then == "freeze":
        trees(kernel, tree).make_read_only(tree)
        assert kernel.mounts == [(str(tree), True)]
        assert left(tree) == []
    trees(kernel, tree).make_writable(tree, mounts_before=0)
    assert kernel.mounts == left(tree) == []


def test_nobody_but_root_comes_to_the_stage(kernel: Kernel, tree: Path) -> None:
    modes = []
    kernel.before_each = lambda _argv: modes.extend(stat.S_IMODE(folder.stat().st_mode) for folder in left(tree))
    trees(kernel, tree).make_read_only(tree)
    assert modes == [0o700] * 5


def test_a_probe_gives_its_time_back_to_the_folder_it_wrote_in_only(tmp_path: Path) -> None:
    """Root sets that time, and the tenant's user may put a link to another folder in the place of its own."""
    mine, other = tmp_path / "mine", tmp_path / "other"
    mine.mkdir()
    other.mkdir()
    os.utime(mine, ns=(5, 6))

    def swap_afterwards(argv: Sequence[str], **_options: Any) -> Completed:
        answer = run(argv)
        mine.rename(tmp_path / "renamed")
        mine.symlink_to(other)
        os.utime(other, ns=(7, 8))
        return answer

    assert Trees(swap_afterwards).try_write(Tree("output", mine, "root", "")) == "created"
    assert other.stat().st_mtime_ns == 8
    assert (tmp_path / "renamed").stat().st_mtime_ns == 6
    assert Trees(run).try_write(Tree("output", mine, "root", "")) == "ENOTDIR"
    assert other.stat().st_mtime_ns == 8
