"""The parts of a bundle that need no program: names, statements, manifests, the outer tar, a tree's manifest."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ireporter import bundle_encryption, bundle_format, bundle_signature, bundle_tar, bundle_tree_check
from ireporter.bundle_format import BASE, Paths, Statement
from ireporter.bundle_names import Names
from ireporter.errors import MigrationError
from ireporter.file_manifest import json_line, order, to_bytes

STATEMENT = Statement("acme", "acme-s-20260101t000000z", "2026-01-01T03:00:00Z", 123, 456, "a" * 64, "b" * 64)
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKzt6KVVzkWZbJkvMm4xgQsSGLiylsqlRbKMotJLT9cS"


def replaced(paths: list[bytes]) -> dict[bytes, str]:
    """Replacements of the paths that NTFS cannot hold."""
    names = Names()
    for path in sorted(paths, key=order):
        names.look(path)
    return {to_bytes(one["path"]): str(one["replacement"]) for one in names.found}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("帳票 100%.pdf", None),
        ("a.b.c", None),
        ("console", None),
        (".hidden", None),
        ("a:b?.pdf", "a%3Ab%3F.pdf"),
        ("50%:", "50%25%3A"),
        ("line\nbreak", "line%0Abreak"),
        ("back\\slash", "back%5Cslash"),
        ("ends with dot.", "ends with dot%2E"),
        ("ends with space ", "ends with space%20"),
        ("NUL", "_NUL"),
        ("com1.txt", "_com1.txt"),
        ("LPT¹", "_LPT¹"),
        ("あ" * 85, None),
    ],
)
def test_names_ntfs_cannot_hold(name: str, expected: str | None) -> None:
    assert replaced([b".", name.encode()]) == ({} if expected is None else {name.encode(): expected})


def test_names_that_differ_in_case_only_get_numbers() -> None:
    found = replaced([b".", b"A.txt", b"a.TXT", b"a.txt", b"other/a.txt", b"other"])
    assert found == {b"a.TXT": "a~2.TXT", b"a.txt": "a~3.txt"}


def test_replacements_of_folders_hold_for_what_is_in_them() -> None:
    found = replaced([b".", b"a:", b"a:/fine", b"a:/b?", b"\xff", b"\xff/x "])
    assert found == {
        b"a:": "a%3A",
        b"a:/b?": "a%3A/b%3F",
        b"\xff": "%FF",
        b"\xff/x ": "%FF/x%20",
    }


@given(
    st.sets(
        st.binary(min_size=1, max_size=12).filter(lambda name: not set(name) & {0, 47} and name not in (b".", b"..")),
        max_size=12,
    )
)
def test_replacements_are_free_and_fit(names: set[bytes]) -> None:
    found = replaced([b".", *names])
    final = [found.get(name) or name.decode() for name in names]
    assert len({name.casefold() for name in final}) == len(names)
    for name in final:
        assert not set(name) & set('<>:"\\|?*/') and name[-1] not in " ." and min(name) >= " "
        assert len(name.encode("utf-16-le")) <= 510


def test_a_statement_is_what_it_says() -> None:
    assert Statement.parse(STATEMENT.render()) == STATEMENT
    assert STATEMENT.render().endswith(b"\n" + b"b" * 64 + b"  acme-s-20260101t000000z.tar.zst.age\n")


@pytest.mark.parametrize(
    "altered",
    [
        b"", b"\n", STATEMENT.render() + b"\n", STATEMENT.render()[:-1], STATEMENT.render().replace(b"\n", b"\r\n"),
        STATEMENT.render().replace(b"tenant: acme", b"tenant: ../x"), STATEMENT.render().replace(b"b" * 64, b"B" * 64),
        STATEMENT.render().replace(b"  acme-s", b"  /tmp/acme-s"), STATEMENT.render().replace(b"acme-s-20260101t000000z.tar", b"other.tar"),
    ],
)  # fmt: skip
def test_what_is_no_statement_is_refused(altered: bytes) -> None:
    with pytest.raises(MigrationError, match=r"\(bundle-statement\)"):
        Statement.parse(altered)


def test_paths_stand_side_by_side() -> None:
    paths = Paths.beside(Path("/srv/x.tar.zst.age"))
    assert [str(paths.statement), str(paths.signature)] == [
        "/srv/x.tar.zst.age.sha256", "/srv/x.tar.zst.age.sha256.sig",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["data/../x", "/data/README.md", "data/database/x.dat", "data/database/1.dat/x", "data/database/１.dat", "data/files/../x.tar",
     "data/files/UP.tar", "data/files/a.tar\n", "data/README.md ", "", "bagit.txt/", "fetch.txt", "data/database/1.dat.gz"],
)  # fmt: skip
def test_names_no_bundle_has(name: str) -> None:
    assert not bundle_format.is_member(name)


def test_manifests_have_one_form() -> None:
    digests = {"data/README.md": "0" * 64, "data/database/1.dat": "1" * 64}
    raw = bundle_format.manifest_lines(digests)
    assert bundle_format.parse_manifest(raw, "it") == digests
    lines = raw.splitlines(keepends=True)
    for altered in (
        raw[:-1],
        lines[1] + lines[0],
        raw + lines[0],
        raw.replace(b"  ", b" *"),
        raw + b"\n",
        raw.replace(b"0", b"A"),
    ):
        with pytest.raises(MigrationError, match=r"\(bundle-content\)"):
            bundle_format.parse_manifest(altered, "it")


def test_the_outer_tar_comes_back_and_is_read_by_tarfile() -> None:
    stream = io.BytesIO()
    writer = bundle_tar.Writer(stream, 1_767_225_600, lambda size: None)
    writer.add("data/database/1.dat", 700, iter([b"a" * 300, b"b" * 400]))
    writer.add_bytes("bagit.txt", b"")
    writer.end()
    stream.seek(0)
    found = [(one.name, b"".join(one.chunks()), one.sha256()) for one in bundle_tar.members(stream, 700)]
    assert found == [(name, content, writer.digests[name]) for name, content, _digest in found]
    assert [(name, len(content)) for name, content, _digest in found] == [
        ("data/database/1.dat", 700),
        ("bagit.txt", 0),
    ]
    stream.seek(0)
    with tarfile.open(fileobj=stream) as archive:
        assert archive.getnames() == [f"{BASE}/data/database/1.dat", f"{BASE}/bagit.txt"]


def test_a_header_says_more_than_8_gib_in_one_block() -> None:
    block = bundle_tar._header("data/database/1.dat", 20 << 30, 0)
    assert len(block) == 512
    assert bundle_tar._parse_header(block) == ("data/database/1.dat", 20 << 30)


@pytest.mark.parametrize("size", [699, 701])
def test_a_member_that_changes_size_ends_the_writing(size: int) -> None:
    writer = bundle_tar.Writer(io.BytesIO(), 0, lambda size: None)
    with pytest.raises(MigrationError, match="changed while it was read"):
        writer.add("data/README.md", 700, [b"x" * size])


@given(st.binary(max_size=3000))
def test_garbage_is_no_tar(content: bytes) -> None:
    with pytest.raises(MigrationError, match=r"\(bundle-content\)"):
        for _member in bundle_tar.members(io.BytesIO(content), None):
            pass


@given(st.data())
def test_a_changed_header_is_refused(data: st.DataObject) -> None:
    block = bytearray(bundle_tar._header("data/database/1.dat", 700, 1_767_225_600))
    place = data.draw(st.integers(0, 511))
    block[place] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(MigrationError, match=r"\(bundle-content\)"):
        bundle_tar._parse_header(bytes(block))


def manifest(*entries: dict[str, object], end: int | None = None) -> io.BytesIO:
    """A tree's manifest around the entries, the root first."""
    lines = [{"root": "output", "format": 1}, {"path": ".", "type": "directory"}, *entries]
    return io.BytesIO(
        b"".join(map(json_line, lines))
        + json_line({"end": "output", "entries": len(entries) + 1 if end is None else end})
    )


def test_a_tree_s_manifest_is_read() -> None:
    first = {"path": "a/b", "type": "file"}
    second = {"path": {"base64": "/w=="}, "type": "file", "linked_to": "a/b"}
    found = list(bundle_tree_check.read_manifest("output", manifest({"path": "a", "type": "directory"}, first, second)))
    assert [path for path, _entry in found] == [b".", b"a", b"a/b", b"\xff"]


@pytest.mark.parametrize(
    "broken",
    [
        io.BytesIO(b""),
        io.BytesIO(manifest().getvalue()[:-2]),
        io.BytesIO(manifest().getvalue() + b"{}\n"),
        manifest(end=5),
        io.BytesIO(json_line({"root": "settings", "format": 1})),
        io.BytesIO(b"[]\n"),
        manifest({"path": "a/b", "type": "file"}),
        manifest({"path": "a", "type": "link"}, {"path": "a/b", "type": "file"}),
        manifest({"path": "b", "type": "file"}, {"path": "a", "type": "file"}),
        manifest({"path": "a", "type": "file"}, {"path": "a", "type": "file"}),
        manifest({"path": "a", "type": "file", "linked_to": "b"}, {"path": "b", "type": "file"}),
        manifest({"path": "a", "type": "link"}, {"path": "b", "type": "file", "linked_to": "a"}),
        manifest({"path": "..", "type": "file"}),
        manifest({"path": "a\0b", "type": "file"}),
        manifest({"type": "file"}),
        manifest({"path": "a"}),
    ],
)
def test_a_manifest_that_is_not_whole_or_leads_out_is_refused(broken: io.BytesIO) -> None:
    with pytest.raises(MigrationError, match=r"\(bundle-content\)"):
        list(bundle_tree_check.read_manifest("output", broken))


def test_fingerprints() -> None:
    # As ssh-keygen -l prints it for this key.
    expected = "SHA256:7kMXvJVyuD+UBDOkXxPuHgG4E9VmTr441DRVeNDB7hg"
    assert bundle_signature.fingerprint(f"{KEY} Contact Person\n") == expected
    assert bundle_signature.fingerprint(expected) == expected
    for nothing in ("", "SHA256:short", "ssh-ed25519 ???", f"{KEY[:-1]}", "MD5:00:11"):
        with pytest.raises(MigrationError, match=r"\(bundle-signer\)"):
            bundle_signature.fingerprint(nothing)


def test_a_key_in_memory_is_not_shown() -> None:
    assert "SECRET" not in repr(bundle_encryption.Identity(secret=b"AGE-SECRET-KEY-1"))


def test_the_page_and_the_code_agree() -> None:
    page = (Path(__file__).parents[2] / "docs/import-by-hand.md").read_text()
    assert f"-n {bundle_format.NAMESPACE} " in page
    assert f"# ireporter-bundle {bundle_format.FORMAT_VERSION}'" in page
    for member in (bundle_format.ROLES, bundle_format.CREATION, bundle_format.SETTINGS, bundle_format.ABOUT):
        assert member in page
