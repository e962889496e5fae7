"""The data generator: valid content, the same from the same seed, and every difficult kind of file."""

from __future__ import annotations

import hashlib
import os
import random
import stat
import struct
import subprocess
import unicodedata
import zlib
from pathlib import Path

import pytest

from lab import generate


def test_a_photo_is_a_valid_png_that_does_not_compress() -> None:
    content = generate.png(random.Random(1), 20_000)
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert 18_000 < len(content) < 21_000
    assert len(zlib.compress(content)) > len(content) * 0.95
    width, height = struct.unpack(">II", content[16:24])
    start = content.index(b"IDAT") + 4
    length = struct.unpack(">I", content[start - 8 : start - 4])[0]
    assert len(zlib.decompress(content[start : start + length])) == (width + 1) * height


def test_a_pdf_has_a_true_cross_reference_table() -> None:
    content = generate.pdf(random.Random(1), 30_000, "報告 report")
    start = int(content.rsplit(b"startxref\n", 1)[1].split(b"\n")[0])
    assert content[start:].startswith(b"xref\n0 7\n")
    for number, line in enumerate(content[start:].split(b"\n")[3:9], 1):
        assert content[int(line[:10]) :].startswith(b"%d 0 obj" % number)


def test_the_same_seed_gives_the_same_content() -> None:
    assert generate.pdf(random.Random("1/x"), 9000, "t") == generate.pdf(random.Random("1/x"), 9000, "t")
    assert generate.png(random.Random(1), 9000) != generate.png(random.Random(2), 9000)


def test_copy_formats() -> None:
    assert generate.text_row(1, None, "a\tb\\c\nd") == "1\t\\N\ta\\tb\\\\c\\nd\n"
    assert generate.binary_row(b"ab", None) == b"\x00\x02\x00\x00\x00\x02ab\xff\xff\xff\xff"
    assert generate._array(["a", None, 'q"\\']) == '{"a",NULL,"q\\"\\\\"}'


def test_sizes_follow_what_is_asked_for_and_the_smallest_has_one_of_every_kind() -> None:
    assert generate.reports_for(0) == generate.reports_for(0.03) == generate.LEAST_REPORTS
    for gigabytes in (0.05, 0.5, 10):
        size = generate.BASE_BYTES + generate.reports_for(gigabytes) * generate.BYTES_PER_REPORT
        assert abs(size - gigabytes * 1e9) < generate.BYTES_PER_REPORT


def picture(root: Path) -> dict[bytes, tuple[object, ...]]:
    """Everything about every path that a copy must keep."""
    found: dict[bytes, tuple[object, ...]] = {}
    for folder, folders, files in os.walk(os.fsencode(root)):
        for name in folders + files:
            path = os.path.join(folder, name)
            info = os.lstat(path)
            content: object = None
            if stat.S_ISLNK(info.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(info.st_mode):
                content = hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest()
            found[os.path.relpath(path, os.fsencode(root))] = (
                info.st_mode,
                info.st_mtime_ns,
                info.st_size,
                info.st_nlink,
                content,
            )
    return found


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trees")
    generate.Trees(root, 7, None).make(100)
    return root


def test_trees_are_the_same_from_the_same_seed(tree: Path, tmp_path: Path) -> None:
    generate.Trees(tmp_path, 7, None).make(100)
    first, second = picture(tree), picture(tmp_path)
    # A link that names its own tree absolutely differs by definition; the three trees themselves are made by others.
    differing = {path for path in first if first[path] != second.get(path)}
    assert {os.path.basename(path) for path in differing} <= {b"absolute within", b"output", b"settings", b"webdav"}
    assert first.keys() == second.keys()


def test_trees_have_what_makes_real_ones_hard(tree: Path) -> None:
    found = picture(tree)
    names = {os.path.basename(path) for path in found}
    composed = unicodedata.normalize("NFC", "ガス点検 ポンプ.pdf").encode()
    assert {composed, unicodedata.normalize("NFD", "ガス点検 ポンプ.pdf").encode()} <= names
    assert any(len(name) == 255 for name in names)
    assert any(b"\n" in name for name in names)
    assert "日報.csv".encode("cp932") in names
    assert b"$(touch pwned)" in names
    modes = {info[0] & 0o7777 for info in found.values()}
    assert {0o000, 0o4755, 0o2775, 0o1777} <= modes
    assert {b"dangling", b"absolute", b"relative", b"loop"} <= names
    sparse = os.stat(os.path.join(tree, "output", "むずかしい もの", "kinds", "sparse"))
    assert sparse.st_blocks * 512 < sparse.st_size
    assert any(info[3] == 4 and stat.S_ISREG(info[0]) for info in found.values())
    assert any(info[1] % 1000 for info in found.values())
    assert 1 in {info[1] for info in found.values()}
    assert {b" leading", b"trailing ", b"double  space", b'quote".csv', b"apostrophe's.csv", b"back\\slash"} <= names


@pytest.mark.parametrize("name", ["output", "settings", "webdav"])
def test_each_tree_has_every_difficult_kind(tree: Path, name: str) -> None:
    base = os.fsencode(tree / name / "むずかしい もの")
    names, links, kinds = (os.path.join(base, part) for part in (b"names", b"links", b"kinds"))
    assert os.listdir(os.path.join(names, "空 フォルダー".encode())) == []
    assert os.listdir(os.path.join(names, "日本".encode("cp932"), b"empty\n")) == []
    assert os.readlink(os.path.join(links, b"newline")) == b"a\nb"
    assert os.path.samefile(os.path.join(links, b"target"), os.path.join(links, b"folder", b"hard 2"))
    assert os.path.samefile(os.path.join(links, b"other"), os.path.join(kinds, b"hard to other"))
    assert os.stat(os.path.join(kinds, b"time 2100")).st_mtime_ns == 4_102_444_800_000_000_001
    deepest = max((folder for folder, _, _ in os.walk(names)), key=len)
    assert len(deepest) - len(names) > 300
    assert os.listdir(deepest) == [b"bottom"]
    if os.geteuid() == 0:
        owners = {(info.st_uid, info.st_gid) for info in (os.lstat(entry.path) for entry in os.scandir(kinds))}
        assert {(0, 0), (generate.NO_NAME, generate.NO_NAME), (0, generate.NO_NAME)} <= owners


def test_access_lists_and_attributes_are_there_or_said_to_be_missing(tmp_path: Path) -> None:
    trees = generate.Trees(tmp_path, 7, None)
    trees.make(0)
    kinds = tmp_path / "webdav" / "むずかしい もの" / "kinds"
    without = " ".join(trees.unsupported)
    if "ACL" not in without:
        shown = subprocess.run(
            ["getfacl", "--numeric", "--absolute-names", kinds / "acl", kinds / "acl folder"],
            capture_output=True, check=True, text=True,
        ).stdout  # fmt: skip
        assert f"user:{generate.NO_NAME}:---" in shown
        assert "default:group::r" in shown
    if "extended attributes" not in without:
        assert os.getxattr(kinds / "xattr", "user.ireporter.note") == b"\x00\xff binary"
        assert os.getxattr(kinds / "xattr folder", "user.empty") == b""
    assert len(trees.unsupported) in (0, 6, 12)  # of each tree the same


def test_the_count_of_ordinary_files_is_what_was_asked_for(tree: Path) -> None:
    ordinary = [path for path in tree.rglob("*") if path.is_file() and "むずかしい もの" not in path.parts]
    assert len(ordinary) == 100


def test_a_tree_in_use_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "x").touch()
    with pytest.raises(generate.GenerateError, match="is not empty"):
        generate.Trees(tmp_path, 7, None).make(1)
