"""What a manifest says of a tree: exact bytes, one order, nothing followed, nothing hidden."""

from __future__ import annotations

import json
import os
import stat
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ireporter import file_manifest
from ireporter.errors import MigrationError
from ireporter.file_manifest import manifest, order, to_bytes, to_text


@given(st.binary())
def test_text_is_an_exact_inverse_and_fit_for_json(raw: bytes) -> None:
    assert to_bytes(json.loads(json.dumps(to_text(raw)))) == raw


def test_order_is_a_folder_then_its_content_by_bytes(tmp_path: Path) -> None:
    for name in ("a/x", "a/z/y", "a.txt", "a-b", "B", "ä"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / os.fsdecode(b"\xff")).touch()
    paths = [path for path, _entry in manifest(tmp_path)]
    assert paths == [b".", b"B", b"a", b"a/x", b"a/z", b"a/z/y", b"a-b", b"a.txt", "ä".encode(), b"\xff"]
    assert paths == sorted(paths, key=order)


def test_many_files_in_many_batches_come_in_order_and_once(tmp_path: Path) -> None:
    for folder in range(5):
        (tmp_path / f"{folder}").mkdir()
        for number in range(700):
            (tmp_path / f"{folder}" / f"{number}").write_text(f"{number}")
    paths = [path for path, _entry in manifest(tmp_path)]
    assert len(paths) == len(set(paths)) == 1 + 5 * 701
    assert paths == sorted(paths, key=order)


def test_links_are_never_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    root = tmp_path / "root"
    root.mkdir()
    (root / "to folder").symlink_to(tmp_path / "outside")
    found = dict(manifest(root))
    assert list(found) == [b".", b"to folder"]
    assert found[b"to folder"]["type"] == "link"
    assert found[b"to folder"]["link_target"] == str(tmp_path / "outside")
    (tmp_path / "link to root").symlink_to(root)
    with pytest.raises(MigrationError):
        list(manifest(tmp_path / "link to root"))


def test_a_hard_link_group_is_told_without_inode_numbers(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "b").write_text("x")
    os.link(tmp_path / "root" / "b", tmp_path / "root" / "a")
    os.link(tmp_path / "root" / "b", tmp_path / "root" / "c")
    os.link(tmp_path / "root" / "b", tmp_path / "outside")
    found = dict(manifest(tmp_path / "root"))
    assert "linked_to" not in found[b"a"]
    assert (found[b"b"]["linked_to"], found[b"c"]["linked_to"]) == ("a", "a")
    assert "inode" not in found[b"b"]
    assert found[b"a"]["sha256"] == found[b"c"]["sha256"]


def test_special_files_are_recorded_and_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    if os.geteuid() == 0:
        os.mknod(tmp_path / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    found = dict(manifest(tmp_path))
    assert found[b"fifo"]["type"] == "fifo"
    if os.geteuid() == 0:
        assert found[b"device"]["device"] == [1, 3]


def test_a_file_that_vanishes_is_said(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    walk = file_manifest._Walk(tmp_path, True, 1)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    walk.root_device = os.fstat(descriptor).st_dev
    (tmp_path / "a").unlink()
    assert walk._describe_all(descriptor, [(b"a", b"a", None)]) == [
        (b"a", {"path": "a", "error": "vanished while it was looked at"})
    ]
    walk.close()


def test_a_file_that_does_not_hold_still_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("a")
    digest = file_manifest._Walk._digest

    def write_meanwhile(self: file_manifest._Walk, descriptor: int, seen: os.stat_result) -> str:
        with (tmp_path / "a").open("a") as stream:
            stream.write("more")
        return digest(self, descriptor, seen)

    monkeypatch.setattr(file_manifest._Walk, "_digest", write_meanwhile)
    assert dict(manifest(tmp_path))[b"a"]["error"] == "changed while it was read"


def test_acl_entries_have_names() -> None:
    number = (
        struct.pack("<HHI", 0x02, 7, 0)
        + struct.pack("<HHI", 0x08, 4, 4_000_000)
        + struct.pack("<HHI", 0x20, 0, 2**32 - 1)
    )
    assert file_manifest._acl(struct.pack("<I", 2) + number) == ["group:4000000:r--", "other::---", "user:root:rwx"]
