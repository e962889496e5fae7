"""A tree's root is opened as the folder it is: by no link that somebody else than root could have put there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from ireporter import file_trees
from ireporter.errors import MigrationError
from ireporter.file_trees import open_root


@pytest.fixture
def only_root_writes(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path | None], None]:
    """Have it that nobody but root can put a link anywhere, except in one folder."""

    def but_in(shared: Path | None) -> None:
        inode = shared.stat().st_ino if shared else None
        monkeypatch.setattr(file_trees, "_only_root_writes_in", lambda folder: os.fstat(folder).st_ino != inode)

    return but_in


def inode_of(root: Path) -> int | None:
    descriptor = open_root(root)
    if descriptor is None:
        return None
    try:
        return os.fstat(descriptor).st_ino
    finally:
        os.close(descriptor)


def test_a_folder_is_opened_and_what_is_missing_is_none(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    assert inode_of(tmp_path) == tmp_path.stat().st_ino
    assert inode_of(tmp_path / "missing") is None
    assert inode_of(tmp_path / "missing" / "below") is None
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_is_no_tree(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MigrationError, match="Not a directory") as refused:
        open_root(tmp_path / "file")
    assert refused.value.check == "file-tree"


def test_a_link_is_never_a_tree(tmp_path: Path, only_root_writes: Callable[[Path | None], None]) -> None:
    only_root_writes(None)
    (tmp_path / "neighbour").mkdir()
    (tmp_path / "output").symlink_to("neighbour")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(MigrationError, match="'output' is a link") as refused:
        open_root(tmp_path / "output")
    assert refused.value.check == "file-tree"
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("link", ["../disk/data", "{}/disk/data", "../disk/again"])
def test_above_a_tree_links_are_followed_where_only_root_can_put_them(
    tmp_path: Path, only_root_writes: Callable[[Path | None], None], link: str
) -> None:
    tree = tmp_path / "disk" / "data" / "acme" / "output"
    tree.mkdir(parents=True)
    (tmp_path / "disk" / "again").symlink_to(tmp_path / "disk" / "data")
    (tmp_path / "srv").mkdir()
    (tmp_path / "srv" / "data").symlink_to(link.format(tmp_path))
    only_root_writes(tree.parent)
    assert inode_of(tmp_path / "srv" / "data" / "acme" / "output") == tree.stat().st_ino
    for shared in (tmp_path / "srv", tmp_path):
        only_root_writes(shared)
        with pytest.raises(MigrationError, match="'data' is a link"):
            open_root(tmp_path / "srv" / "data" / "acme" / "output")


def test_links_in_a_circle_end(tmp_path: Path, only_root_writes: Callable[[Path | None], None]) -> None:
    only_root_writes(None)
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(MigrationError, match="'circle' is a link"):
        open_root(tmp_path / "circle" / "output")


def test_where_others_may_write_is_not_for_root_alone(tmp_path: Path) -> None:
    # /tmp itself is for everybody.
    (tmp_path / "elsewhere" / "output").mkdir(parents=True)
    (tmp_path / "acme").symlink_to("elsewhere")
    tmp_path.chmod(0o777)
    with pytest.raises(MigrationError, match="'acme' is a link"):
        open_root(tmp_path / "acme" / "output")
