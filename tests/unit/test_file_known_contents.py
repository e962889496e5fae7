"""A comparison by day remembers what it read; the next one reads only what changed since, and finds every difference all the same."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from ireporter import file_known_contents, file_manifest
from ireporter.file_known_contents import KNOWN, READ, REMEMBERED, Received, place_of
from ireporter.file_verification import FileComparison, compare
from ireporter.lease import boot_identity

NAMES = ("a", "b/c", "b.d", "b/e/f", "z", "設定 'x'\n", os.fsdecode(b"\xff"))


@pytest.fixture
def trees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    source, target = tmp_path / "source", tmp_path / "target"
    for name in NAMES:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(f"content of {name!r}")
    os.link(source / "a", source / "linked")
    shutil.copytree(source, target, copy_function=shutil.copy2)
    (target / "linked").unlink()
    os.link(target / "a", target / "linked")
    shutil.copystat(source, target)
    monkeypatch.setattr(file_known_contents, "_SETTLED_SECONDS", -1)
    return source, target


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Inodes of the files that were read."""
    inodes: list[int] = []
    digest = file_manifest._Walk._digest

    def noting(self: file_manifest._Walk, descriptor: int, seen: os.stat_result) -> str:
        inodes.append(seen.st_ino)
        return digest(self, descriptor, seen)

    monkeypatch.setattr(file_manifest._Walk, "_digest", noting)
    return inodes


def compared(trees: tuple[Path, Path], contents: str) -> FileComparison:
    return compare([{"name": "t", "source": trees[0], "target": trees[1]}], contents=contents)


def alter_keeping_size_and_time(path: Path) -> None:
    before = path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_keeping_size_and_time(path: Path) -> None:
    before = path.stat()
    other = path.with_name("other")
    other.write_bytes(path.read_bytes()[::-1])
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


def test_nothing_is_read_twice(trees: tuple[Path, Path], read: list[int]) -> None:
    assert compared(trees, REMEMBERED).differences_total == 0
    assert len(set(read)) == 2 * len(NAMES)
    read.clear()
    found = compared(trees, KNOWN)
    assert (found.differences_total, found.files, read) == (0, len(NAMES) + 1, [])
    # Remembering again goes on from what is known; who reads all does not care.
    compared(trees, REMEMBERED)
    assert read == []
    assert compared(trees, KNOWN).differences_total == 0
    assert read == []
    compared(trees, READ)
    assert len(set(read)) == 2 * len(NAMES)


@pytest.mark.parametrize("change", [alter_keeping_size_and_time, replace_keeping_size_and_time])
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("name", NAMES)
def test_what_changed_since_is_read_and_found(
    trees: tuple[Path, Path], read: list[int], name: str, side: int, change: Callable[[Path], None]
) -> None:
    compared(trees, REMEMBERED)
    read.clear()
    path = trees[side] / name
    change(path)
    found = compared(trees, KNOWN)
    assert "content" in [one["kind"] for one in found.differences]
    assert set(read) <= {path.stat().st_ino, (trees[side] / "linked").stat().st_ino}


def test_an_attribute_that_changed_since_is_found(trees: tuple[Path, Path], read: list[int]) -> None:
    os.setxattr(trees[0] / "a", "user.kept", b"kept")
    os.setxattr(trees[1] / "a", "user.kept", b"kept")
    compared(trees, REMEMBERED)
    read.clear()
    assert compared(trees, KNOWN).differences_total == 0
    assert read == []
    os.setxattr(trees[1] / "a", "user.kept", b"other")
    (trees[0] / "z").chmod(0o600)
    assert [(one["kind"], one["object"]) for one in compared(trees, KNOWN).differences] == [
        ("xattr", "file t:a"),
        ("xattr", "file t:linked"),
        ("mode", "file t:z"),
    ]


def test_files_that_came_and_went_do_not_disturb_what_is_known(trees: tuple[Path, Path], read: list[int]) -> None:
    compared(trees, REMEMBERED)
    read.clear()
    (trees[0] / "b" / "c").unlink()
    (trees[0] / "0").write_text("new")
    (trees[0] / "b" / "d").mkdir()
    (trees[0] / "b" / "d" / "new").write_text("new")
    found = compared(trees, KNOWN)
    assert sorted(one["kind"] for one in found.differences if one["kind"] != "mtime") == ["extra"] + ["missing"] * 3
    assert len(read) == 2


def test_a_difference_is_not_remembered_as_equal(trees: tuple[Path, Path]) -> None:
    alter_keeping_size_and_time(trees[1] / "z")
    for contents in (REMEMBERED, KNOWN, REMEMBERED, KNOWN):
        assert [one["kind"] for one in compared(trees, contents).differences] == ["content"]


def test_a_file_that_was_written_just_now_is_read_again(
    trees: tuple[Path, Path], read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program may still write through a mapping that it has of it, which the kernel does not tell before the page was written back."""
    monkeypatch.setattr(file_known_contents, "_SETTLED_SECONDS", 120)
    compared(trees, REMEMBERED)
    read.clear()
    compared(trees, KNOWN)
    assert len(set(read)) == 2 * len(NAMES)


@pytest.mark.parametrize("contents", [KNOWN, REMEMBERED])
def test_after_a_start_of_this_server_everything_is_read(
    trees: tuple[Path, Path], read: list[int], monkeypatch: pytest.MonkeyPatch, contents: str
) -> None:
    """A power cut may keep new content and lose the times that went with it, so that the file looks as it did."""
    compared(trees, REMEMBERED)
    read.clear()
    monkeypatch.setattr(file_known_contents, "boot_identity", lambda: "another boot")
    assert compared(trees, contents).differences_total == 0
    assert len(set(read)) == 2 * len(NAMES)


@pytest.mark.parametrize("side", [0, 1])
def test_of_the_side_that_was_started_anew_everything_is_read(
    trees: tuple[Path, Path], read: list[int], side: int
) -> None:
    compared(trees, REMEMBERED)
    read.clear()
    head, *lines = place_of(trees[1]).read_bytes().splitlines(keepends=True)
    boots = json.loads(head)["boots"]
    boots[side] = "another boot"
    place_of(trees[1]).write_bytes(b"".join([json.dumps({"boots": boots}).encode() + b"\n", *lines]))
    assert compared(trees, KNOWN).differences_total == 0
    assert set(read) == {(trees[side] / name).stat().st_ino for name in NAMES}


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"not JSON\n",
        b"[]\n",
        b"null\n",
        b"{}\n",
        b'{"boots": []}\n',
        b'{"boots": {}}\n',
        b'{"boots": [null, null]}\n',
    ],
)
def test_what_does_not_say_in_which_boot_it_was_read_is_not_known(
    trees: tuple[Path, Path], read: list[int], head: bytes
) -> None:
    compared(trees, REMEMBERED)
    read.clear()
    _head, *lines = place_of(trees[1]).read_bytes().splitlines(keepends=True)
    place_of(trees[1]).write_bytes(head + b"".join(lines))
    assert compared(trees, KNOWN).differences_total == 0
    assert len(set(read)) == 2 * len(NAMES)
    assert Received(sent(trees, Path("/srv"))).of(Path("/srv")) is None


@pytest.mark.parametrize(
    "spoilt",
    [
        b"",
        b"not JSON\n",
        b"[]\n",
        b"null\n",
        b'["a", {"sha256": "0"}]\n',
        b'["a", {"sha256": "0"}, [1, 2, 3], [1, 2, 3]]\n',
        b'["a", "0", [1, 2, 3, 4], [1, 2, 3, 4]]\n',
        b'["a", {}, [1, 2, 3, 4], [1, 2, 3, 4]]\n',
        b'[7, {"sha256": "0"}, [1, 2, 3, 4], [1, 2, 3, 4]]\n',
        b'["a", {"sha256": "0"}, null, 3]\n',
        b"\xff\xfe\n",
    ],
)
def test_what_makes_no_sense_is_not_known(trees: tuple[Path, Path], read: list[int], spoilt: bytes) -> None:
    place_of(trees[1]).write_bytes(json.dumps({"boots": [boot_identity()] * 2}).encode() + b"\n" + spoilt)
    assert compared(trees, KNOWN).differences_total == 0
    assert len(set(read)) == 2 * len(NAMES)


def test_a_comparison_that_ends_half_way_leaves_what_was_known(trees: tuple[Path, Path]) -> None:
    compared(trees, REMEMBERED)
    before = place_of(trees[1]).read_bytes()
    assert [json.loads(line)[0] for line in before.splitlines()[1:]][:2] == ["a", "b/c"]
    alter_keeping_size_and_time(trees[1] / "a")

    def stop(_difference: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare([{"name": "t", "source": trees[0], "target": trees[1]}], contents=REMEMBERED, on_difference=stop)
    assert place_of(trees[1]).read_bytes() == before
    assert {path.name for path in trees[1].parent.iterdir()} == {"source", "target", place_of(trees[1]).name}
    unfinished = trees[1].parent / f".{place_of(trees[1]).name}.killed"
    unfinished.touch()
    file_known_contents.forget(trees[1])
    file_known_contents.forget(trees[1])
    assert not unfinished.exists()
    assert not place_of(trees[1]).exists()


def sent(trees: tuple[Path, Path], *roots: Path) -> io.BytesIO:
    """What the other server gets, for ``roots`` of it, all of which were remembered as the same."""
    stream = io.BytesIO()
    file_known_contents.send(dict.fromkeys(roots, place_of(trees[1])), stream)
    stream.seek(0)
    return stream


def test_another_server_is_told_what_is_known_of_each_of_its_trees(trees: tuple[Path, Path]) -> None:
    compared(trees, REMEMBERED)
    odd, second = Path("/srv") / NAMES[-2] / NAMES[-1], Path("/srv/second")
    received = Received(sent(trees, odd, second))
    for root in (odd, second):
        known = received.of(root)
        assert known is not None
        found = known(b"b/c")
        assert found is not None
        assert found[0][0] == (trees[1] / "b" / "c").stat().st_ino
        assert found[1]["sha256"] == hashlib.sha256((trees[1] / "b" / "c").read_bytes()).hexdigest()
        assert known(b"zz") is None
    assert received.of(second) is None


def test_another_server_that_was_started_anew_knows_nothing(
    trees: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    compared(trees, REMEMBERED)
    first, second = Path("/srv/first"), Path("/srv/second")
    stream = sent(trees, first, second)
    monkeypatch.setattr(file_known_contents, "boot_identity", lambda: "another boot")
    # The second was read after that start.
    again = sent(trees, second).read().replace(json.dumps(boot_identity()).encode(), b'"another boot"')
    received = Received(io.BytesIO(stream.read() + again))
    assert received.of(first) is None
    assert received.of(second) is None
    assert received.of(second) is not None


def test_of_a_tree_that_does_not_come_next_nothing_is_known(trees: tuple[Path, Path]) -> None:
    compared(trees, REMEMBERED)
    first, second = Path("/srv/first"), Path("/srv/second")
    received = Received(sent(trees, first, second))
    assert received.of(second) is None
    assert received.of(first) is not None  # without asking for any of its files
    assert received.of(second) is not None
    assert Received(sent(trees)).of(first) is None
    place_of(trees[1]).unlink()
    assert Received(sent(trees, first)).of(first) is None


@pytest.mark.parametrize(
    "spoilt",
    [
        b"",
        b"noise",
        b"{}\n",
        b'{"root": 7}\n',
        b'{"root": "/srv"}\n',
        b"{\n",
        b'{"root": "/srv/other"}\n',
        b"x" * (3 << 20),
    ],
)
def test_noise_from_another_server_is_not_known(spoilt: bytes) -> None:
    assert Received(io.BytesIO(spoilt)).of(Path("/srv")) is None


def test_noise_after_a_head_ends_what_is_known(trees: tuple[Path, Path]) -> None:
    compared(trees, REMEMBERED)
    head, first, *rest = sent(trees, Path("/srv")).read().splitlines(keepends=True)
    known = Received(io.BytesIO(b"".join([head, first, b"x" * (3 << 20), b"\n", *rest]))).of(Path("/srv"))
    assert known is not None
    assert known(b"a") is not None
    assert known(b"z") is None
