"""The reader of a file tree's tar: what GNU tar writes of a hard tree it reads as tarfile does; whatever is altered it refuses or tells."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
from collections.abc import Callable

import pytest
from ireporter import bundle_tree_check, bundle_trees
from ireporter.bundle_tree_tar import Entry, entries
from ireporter.errors import MigrationError
from ireporter.file_trees import FileTree

from .bundle_kit import member, outer_tar
from .test_file_copy import make_hard_tree

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="owners can be given to files by root only"),
]
MODE = {"mode": 0o644}
ZEROS = b"\0" * 1024


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> bundle_trees.Packed:
    root, work = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("work")
    make_hard_tree(root / "output")
    output = root / "output"
    for name in (b"a=b%3D c", b"per%cent", b"n" * 200, "長い名前".encode() * 20, b"\xff\xfe", b"new\nline"):
        place = os.path.join(os.fsencode(output), name)
        with open(place, "wb") as file:
            file.write(name)
        os.utime(place, ns=(0, -1_500_000_001))
        os.chown(place, 3_000_000_000, 2_500_000)
    os.setxattr(output / "per%cent", "user.a=b%3D", b"=")
    subprocess.run(["setfacl", "-m", "u:12345:rw,g:daemon:r", output / "per%cent"], check=True)
    os.symlink("t" * 300, output / "far")
    (output / "exactly a block").write_bytes(b"x" * 512)
    return bundle_trees.look(FileTree("output", output, output, None), work)


@pytest.fixture(scope="module")
def tar(packed: bundle_trees.Packed) -> bytes:
    return b"".join(bundle_trees.content(packed))


def test_a_hard_tree_agrees_with_its_manifest(packed: bundle_trees.Packed, tar: bytes) -> None:
    with packed.manifest.open("rb") as lines:
        found = bundle_tree_check.check_tree("output", io.BytesIO(tar), lines)
    assert found == (packed.entries, packed.files, packed.file_bytes)
    assert len(tar) == packed.tar_bytes


def test_it_is_read_as_tarfile_reads_it(tar: bytes) -> None:
    ours = list(entries("output", io.BytesIO(tar)))
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        theirs = archive.getmembers()
    kinds = {
        tarfile.REGTYPE: "file",
        tarfile.DIRTYPE: "directory",
        tarfile.SYMTYPE: "link",
        tarfile.LNKTYPE: "hard link",
    }
    assert {entry.kind for entry in ours} == set(kinds.values())
    for entry, info in zip(ours, theirs, strict=True):
        assert (entry.name, entry.link) == (os.fsencode(info.name), os.fsencode(info.linkname))
        assert (entry.kind, int(entry.mode, 8), entry.size) == (kinds[info.type], info.mode & 0o7777, info.size)
        assert (entry.uid, entry.gid, entry.owner, entry.group) == (info.uid, info.gid, info.uname, info.gname)
        assert entry.mtime_ns == pytest.approx(float(info.mtime) * 1e9, abs=1e3)


def crafted(*infos: tuple[tarfile.TarInfo, bytes]) -> bytes:
    return outer_tar(infos, pax=True)


def extended(name: str, records: dict[str, str]) -> bytes:
    return crafted(member(name, b"", **MODE, pax_headers=records))


def first(raw: bytes) -> Entry:
    return next(iter(entries("output", io.BytesIO(raw))))


def test_a_prefix_is_a_part_of_the_name() -> None:
    assert first(crafted(member("d" * 90 + "/" + "n" * 90, b"", **MODE))).name == b"d" * 90 + b"/" + b"n" * 90


def test_an_extended_header_counts() -> None:
    entry = first(extended("a", {"path": "b", "mtime": "-1.5", "SCHILY.xattr.user.a%3Db%253D": "v"}))
    assert (entry.name, entry.mtime_ns, entry.xattrs) == (b"b", -1_500_000_000, {"user.a=b%3D": b"v"})


def test_only_a_folder_loses_the_slash_at_its_end() -> None:
    """GNU tar would make a folder of a file that has one; the manifest, which has none, then refuses it."""
    assert first(crafted(member("a", b"", type=tarfile.DIRTYPE))).name == b"a"
    assert first(extended("a", {"path": "b/"})).name == b"b/"


def test_a_size_too_large_for_its_field_stands_in_the_extended_header() -> None:
    """As GNU tar writes it from 8 GiB on, with 0 in the field."""
    raw = extended("a", {"size": "7"})[:1536] + b"content".ljust(512, b"\0") + ZEROS
    assert (first(raw).size, first(raw).sha256) == (7, hashlib.sha256(b"content").hexdigest())


def set_at(place: int, value: bytes) -> Callable[[bytes], bytes]:
    """With a checksum that is right again."""

    def alter(raw: bytes) -> bytes:
        block = bytearray(raw[:512])
        block[place : place + len(value)] = value
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        return bytes(block) + raw[512:]

    return alter


PLAIN = crafted(member("a", b"content", **MODE))
REFUSED = {
    "nothing": b"",
    "cut in a header": PLAIN[:300],
    "cut in the content": PLAIN[:515],
    "cut in the padding": PLAIN[:600],
    "no end": PLAIN[:1024],
    "one block at the end": PLAIN[: 1024 + 512],
    "something after the end": PLAIN + b"x" * 512,
    "something in the last block": PLAIN[:-1] + b"x",
    "wrong sum": PLAIN[:5] + b"x" + PLAIN[6:],
    "GNU form": outer_tar([member("a", b"content", **MODE)]),
    "another version": set_at(263, b"01")(PLAIN),
    "no size": set_at(124, b"\0" * 12)(PLAIN),
    "a size that is no number": set_at(124, b"+0000000007\0")(PLAIN),
    "a size in base 256": set_at(124, b"\x80" + b"\0" * 10 + b"\x07")(PLAIN),
    "a size with a prefix": set_at(124, b"0o7\0")(PLAIN),
    "a number beyond octal": set_at(124, b"8\0")(PLAIN),
    "a folder with content": set_at(156, b"5")(PLAIN),
    "a link with content": set_at(156, b"2")(PLAIN),
    "a global header": crafted(member("a", b"", type=tarfile.XGLTYPE)),
    "an oversize extended header": set_at(124, b"77777777777\0")(extended("a", {"path": "b"})),
    "an empty extended header": set_at(124, b"0\0")(extended("a", {"path": "b"})),
    "two extended headers": extended("a", {"path": "b"})[:1024] + extended("a", {"path": "b"}),
    "an extended header and nothing": extended("a", {"path": "b"})[:1024] + ZEROS,
    "an unknown record": extended("a", {"GNU.sparse.major": "1"}),
    "a comment": extended("a", {"comment": "hidden"}),
    "a size that is negative": extended("a", {"size": "-1"}),
    "a time that is none": extended("a", {"mtime": "1e9"}),
    "a time too exact": extended("a", {"mtime": "1.0123456789"}),
    "records that overlap": extended("a", {"path": "b"}).replace(b"9 path=b\n", b"8 path=b\n"),
    "records that do not end": extended("a", {"path": "b"}).replace(b"9 path=b\n", b"9 path=bb"),
    "a record without a length": extended("a", {"path": "b"}).replace(b"9 path=b\n", b"x path=b\n"),
    "a record of no length": extended("a", {"path": "b"}).replace(b"9 path=b\n", b"0 path=b\n"),
    "the same twice": extended("a", {"path": "b", "mtime": "1"}).replace(b"11 mtime=1\n", b"11 path=bc\n"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_whatever_is_not_in_the_form_is_refused(kind: str) -> None:
    with pytest.raises(MigrationError, match=r"The tar of file tree output is damaged: .*\(bundle-content\)"):
        list(entries("output", io.BytesIO(REFUSED[kind])))


def test_the_plain_ones_are_read() -> None:
    """What the broken ones were made of is right."""
    for raw in (PLAIN, extended("a", {"path": "b"}), extended("a", {"path": "b", "mtime": "1"}), PLAIN + ZEROS):
        assert len(list(entries("output", io.BytesIO(raw)))) == 1


class Trickle:
    """Gives a few bytes at a time, as a pipe may."""

    def __init__(self, raw: bytes) -> None:
        self._raw = io.BytesIO(raw)

    def read(self, _size: int) -> bytes:
        return self._raw.read(7)


def test_pieces_of_any_size_are_put_together(tar: bytes) -> None:
    small = tar[: tar.index(b"x" * 512) + 512]
    cut = [entry.name for entry in _until_cut(io.BytesIO(small))]
    assert len(cut) > 3
    assert [entry.name for entry in _until_cut(Trickle(small))] == cut


def _until_cut(stream: io.BytesIO | Trickle) -> list[Entry]:
    found = []
    with pytest.raises(MigrationError, match="ends early"):
        for entry in entries("output", stream):
            found.append(entry)
    return found


def test_every_bit_of_a_header_counts(packed: bundle_trees.Packed, tar: bytes) -> None:
    """Of the first folder, a file and its extended header: flipped, it is refused or said to differ from the manifest."""
    at = tar.index(b"./per%cent\0")
    for place in [*range(0, 512, 7), *range(at - 1024, at + 512, 5)]:
        altered = bytearray(tar)
        altered[place] ^= 1
        with packed.manifest.open("rb") as lines, pytest.raises(MigrationError, match=r"\(bundle-content\)"):
            bundle_tree_check.check_tree("output", io.BytesIO(bytes(altered)), lines)
