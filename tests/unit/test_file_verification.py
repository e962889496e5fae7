"""Merging two manifests: nothing is skipped, and a stream that is not whole is never a pass."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ireporter import file_verification
from ireporter.errors import MigrationError
from ireporter.file_manifest import order
from ireporter.file_manifest_command import lines
from ireporter.file_trees import claim, parse_trees
from ireporter.file_verification import _merged, compare

PATHS = st.lists(
    st.binary(min_size=1).filter(lambda path: b"\0" not in path and not path.startswith(b"/")), unique=True
)


@given(PATHS, PATHS)
def test_every_path_of_both_sides_comes_once(left: list[bytes], right: list[bytes]) -> None:
    left = sorted({order(path): path for path in left}.values(), key=order)
    right = sorted({order(path): path for path in right}.values(), key=order)
    merged = list(_merged(iter([(path, {}) for path in left]), iter([(path, {}) for path in right])))
    assert [path for path, entry, _other in merged if entry is not None] == left
    assert [path for path, _other, entry in merged if entry is not None] == right
    assert len(merged) == len({order(path) for path in left + right})


def test_a_stream_out_of_order_is_refused() -> None:
    with pytest.raises(MigrationError, match="out of order"):
        list(_merged(iter([(b"b", {}), (b"a", {})]), iter([])))


def far_side(monkeypatch: pytest.MonkeyPatch, text: str, status: int = 0) -> None:
    """A stand-in for ssh that writes ``text`` and exits."""
    real = file_verification.subprocess.Popen
    program = f"import sys; sys.stdout.write({text!r}); sys.exit({status})"
    monkeypatch.setattr(
        file_verification.subprocess, "Popen", lambda _argv, **more: real([sys.executable, "-c", program], **more)
    )


@pytest.mark.parametrize("cut", ["nothing", "no end", "too few", "not JSON", "bad status", "another tree"])
def test_what_breaks_off_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: str) -> None:
    whole = [line.decode() for line in lines(tmp_path)]
    text = {
        "nothing": "",
        "no end": "".join(whole[:-1]),
        "too few": whole[0] + whole[-1],
        "not JSON": whole[0] + "oops\n",
        "bad status": "".join(whole),
        "another tree": "".join(whole).replace(str(tmp_path), "/elsewhere"),
    }[cut]
    far_side(monkeypatch, text, status=1 if cut == "bad status" else 0)
    with pytest.raises(MigrationError) as refused:
        compare([{"name": "t", "source": tmp_path, "target": tmp_path}], channel={"directory": "/run/x"})
    assert refused.value.check == "files-unverified"
    # The error still refers to the comparison's frames: what reads files must not wait for the garbage collector.
    assert [thread.name for thread in threading.enumerate() if "ThreadPoolExecutor" in thread.name] == []


def test_a_whole_stream_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    far_side(monkeypatch, "".join(line.decode() for line in lines(tmp_path)))
    found = compare([{"name": "t", "source": tmp_path, "target": tmp_path}], channel={"directory": "/run/x"})
    assert (found.files, found.bytes, found.differences) == (1, 1, [])


@pytest.mark.parametrize(
    ("channel", "direction", "scope", "synced"),
    [
        (None, "push", "all", True),
        ({"directory": "/run/x"}, "pull", "all", True),
        # The far side does it.
        ({"directory": "/run/x"}, "push", "all", False),
        (None, "push", "structure", False),
    ],
)
def test_a_target_here_is_on_the_disk_before_it_is_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    channel: dict[str, str] | None,
    direction: str,
    scope: str,
    synced: bool,
) -> None:
    done: list[str] = []
    far_side(monkeypatch, "".join(line.decode() for line in lines(tmp_path)))
    read = file_verification.manifest
    monkeypatch.setattr(file_verification, "manifest", lambda *a, **more: (done.append("read"), read(*a, **more))[1])
    monkeypatch.setattr(os, "sync", lambda: done.append("sync"))
    trees = [{"name": "t", "source": tmp_path, "target": tmp_path}]
    assert compare(trees, channel=channel, direction=direction, scope=scope).differences == []
    assert done[0] == ("sync" if synced else "read")
    assert done.count("sync") == synced


def test_only_some_differences_are_kept_but_all_are_counted(tmp_path: Path) -> None:
    for side in ("a", "b"):
        (tmp_path / side).mkdir()
    for number in range(1500):
        (tmp_path / "a" / f"{number}").touch()
    found = compare([{"name": "t", "source": tmp_path / "a", "target": tmp_path / "b"}])
    assert len(found.differences) == 1000
    assert found.differences_total >= 1500
    assert json.dumps(found.differences)


def test_unreadable_is_not_the_same_even_on_both_sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"path": "x", "error": "Input/output error"}
    monkeypatch.setattr(file_verification, "manifest", lambda _root, **_more: (one for one in [(b"x", entry)]))
    found = compare([{"name": "t", "source": tmp_path, "target": tmp_path}])
    assert [one["kind"] for one in found.differences] == ["unreadable"]


@pytest.mark.parametrize(
    "trees",
    [
        [{"name": "a", "source": "relative", "target": "/x"}],
        [{"name": "a", "source": "/", "target": "/x"}],
        [{"name": "a", "source": "/s/../t", "target": "/x"}],
        [{"name": "A b", "source": "/s", "target": "/x"}],
        [{"name": "a", "source": "/s", "target": "/x", "licence_file": "../x"}],
        [{"name": "a", "source": "/s", "target": "/x"}, {"name": "a", "source": "/t", "target": "/y"}],
        [{"name": "a", "source": "/s", "target": "/x"}, {"name": "b", "source": "/s/inner", "target": "/y"}],
        [{"name": "a", "source": "/s", "target": "/x"}, {"name": "b", "source": "/t", "target": "/x"}],
    ],
)
def test_trees_that_cannot_be_copied_safely_are_refused(trees: list[dict[str, object]]) -> None:
    with pytest.raises(MigrationError) as refused:
        parse_trees(trees)
    assert refused.value.check == "file-trees"


def test_an_empty_tree_with_its_own_licence_is_claimed(tmp_path: Path) -> None:
    tree = tmp_path / "settings"
    (tree / "xml").mkdir(parents=True)
    (tree / "xml" / "License.xml").write_text("own")
    with pytest.raises(MigrationError):
        claim(tree, "acme")
    assert claim(tree, "acme", licence_file=b"xml/License.xml")
    (tree / "data").write_text("copied")
    assert not claim(tree, "acme", licence_file=b"xml/License.xml")
    with pytest.raises(MigrationError, match="not of bravo"):
        claim(tree, "bravo", licence_file=b"xml/License.xml")
