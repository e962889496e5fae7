"""Bundles that are not what they should be: found out, said in one sentence, and nothing touched. Crafted ones are rightly signed."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ireporter import bundle_unpack
from ireporter.bundle_format import BASE, Paths
from ireporter.bundle_places import locked
from ireporter.errors import MigrationError

from .bundle_kit import MIGRATION, Kit, Members, member, outer_tar, renewed
from .conftest import Cluster

pytestmark = pytest.mark.integration

FLIPS = 200


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    return Kit.make(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def good(kit: Kit, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a good bundle of a small tenant."""
    cluster.execute("postgres", "CREATE DATABASE small")
    cluster.execute(
        "small", "CREATE TABLE t AS SELECT g AS a FROM generate_series(1, 9) g; CREATE TABLE empty_one (a int)"
    )
    tree = tmp_path_factory.mktemp("trees") / "output"
    (tree / "folder").mkdir(parents=True)
    (tree / "folder" / "report.pdf").write_text("PDF")
    (tree / "link").symlink_to("folder")
    directory = tmp_path_factory.mktemp("good")
    kit.run(kit.present(directory, cluster.conninfo("small"), [{"name": "output", "path": str(tree)}]))
    yield directory
    cluster.execute("postgres", "DROP DATABASE small")


@pytest.fixture(scope="module")
def members(kit: Kit, good: Path) -> Members:
    return kit.members_of(good)


def refused(kit: Kit, directory: Path, check: str, **more: object) -> str:
    """Verify and unpack refuse for the reason ``check`` and leave the folder as it was; returns the sentence."""
    before = sorted(path.name for path in directory.iterdir() if path.suffix != ".lock")
    message = ""
    for state in ("verified", "unpacked"):
        with pytest.raises(MigrationError) as caught:
            kit.run(kit.received(directory, state, **more))
        assert caught.value.check == check, caught.value
        message = str(caught.value)
        assert "\n" not in message
        assert caught.value.action
    assert sorted(path.name for path in directory.iterdir() if path.suffix != ".lock") == before
    return message


def copy_of(good: Path, directory: Path) -> Paths:
    """The three files, to be damaged."""
    ours, theirs = Paths.within(good, MIGRATION), Paths.within(directory, MIGRATION)
    for one, other in (
        (ours.ciphertext, theirs.ciphertext),
        (ours.statement, theirs.statement),
        (ours.signature, theirs.signature),
    ):
        other.write_bytes(one.read_bytes())
    return theirs


def test_a_crafted_bundle_that_is_right_is_taken(kit: Kit, members: Members, tmp_path: Path) -> None:
    """Or the tests below would prove nothing."""
    tar = outer_tar(renewed(members))
    size = sum(info.size for info, _content in renewed(members))
    kit.craft(tmp_path, tar, unpacked_bytes=size)
    assert kit.run(kit.received(tmp_path, "unpacked", trees=True))["changed"] is True


def test_bit_flips_are_found(kit: Kit, good: Path, tmp_path: Path) -> None:
    paths = copy_of(good, tmp_path)
    dice = random.Random(20260101)
    files = [paths.ciphertext] * 2 + [paths.statement, paths.signature]
    for _flip in range(FLIPS):
        path = dice.choice(files)
        content = path.read_bytes()
        place, bit = dice.randrange(len(content)), dice.randrange(8)
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
        with pytest.raises(MigrationError) as caught:
            kit.run(kit.received(tmp_path, "unpacked"))
        assert caught.value.check in ("bundle-signature", "bundle-checksum"), (path.name, place, bit)
        path.write_bytes(content)
    assert not (tmp_path / "unpacked").exists()
    assert kit.run(kit.received(tmp_path))["rows"] == 9


@pytest.mark.slow
def test_every_bit_of_statement_and_signature_counts(kit: Kit, good: Path, tmp_path: Path) -> None:
    paths = copy_of(good, tmp_path)
    for path in (paths.statement, paths.signature):
        content = path.read_bytes()
        for place in range(8 * len(content)):
            altered = bytearray(content)
            altered[place // 8] ^= 1 << place % 8
            path.write_bytes(altered)
            with pytest.raises(MigrationError, match=r"\(bundle-signature\)"):
                kit.run(kit.received(tmp_path))
        path.write_bytes(content)


@pytest.mark.parametrize("keep", [0, 1, 200, 0.5, -1])
def test_truncation_is_found(kit: Kit, good: Path, tmp_path: Path, keep: float) -> None:
    paths = copy_of(good, tmp_path)
    content = paths.ciphertext.read_bytes()
    paths.ciphertext.write_bytes(content[: int(keep * len(content)) if 0 < keep < 1 else int(keep)])
    assert "bytes" in refused(kit, tmp_path, "bundle-checksum")


def test_truncation_that_is_rightly_signed_is_found(kit: Kit, members: Members, tmp_path: Path) -> None:
    tar = outer_tar(renewed(members))
    for length in (len(tar) - 1024, len(tar) - 512, len(tar) // 2, 512, 100, 0):
        kit.craft(tmp_path, tar[:length])
        refused(kit, tmp_path, "bundle-content")


def test_wrong_senders_and_tenants(kit: Kit, good: Path, members: Members, tmp_path: Path) -> None:
    tar = outer_tar(renewed(members))
    kit.craft(tmp_path, tar, key="forger")
    assert "not by the expected signer" in refused(kit, tmp_path, "bundle-signature")
    kit.craft(tmp_path, tar, tenant="globex")
    assert "of tenant globex, not of acme" in refused(kit, tmp_path, "bundle-tenant")
    # Its statement says acme, its inside does not.
    inside = [
        (info, content.replace(b'"tenant": "acme"', b'"tenant": "evil"'))
        if info.name.endswith("migration.json")
        else (info, content)
        for info, content in members
    ]
    size = sum(info.size for info, _content in renewed(inside))
    kit.craft(tmp_path, outer_tar(renewed(inside)), unpacked_bytes=size)
    assert "another tenant" in refused(kit, tmp_path, "bundle-content")
    copy_of(good, tmp_path)
    refused(kit, tmp_path, "bundle-tenant", migration_id="acme-s-20270101t000000z")
    refused(kit, tmp_path, "bundle-recipient", identity=str(kit.folder / "stranger"))
    refused(kit, tmp_path, "bundle-identity", identity=str(kit.folder / "no such file"))
    refused(kit, tmp_path, "bundle-signer", signer="nobody")
    # Signed for something else by the right key.
    paths = Paths.within(tmp_path, MIGRATION)
    paths.signature.unlink()
    assert "not signed" in refused(kit, tmp_path, "bundle-signature")
    subprocess.run(
        ["ssh-keygen", "-q", "-Y", "sign", "-f", str(kit.signer), "-n", "file", str(paths.statement)],
        check=True, capture_output=True,
    )  # fmt: skip
    refused(kit, tmp_path, "bundle-signature")
    paths.ciphertext.unlink()
    copy_of(good, tmp_path).ciphertext.unlink()
    refused(kit, tmp_path, "bundle-missing")


@pytest.mark.parametrize(("version", "word"), [(0, "older"), (2, "newer"), (17, "newer")])
def test_other_formats_are_named(kit: Kit, good: Path, tmp_path: Path, version: int, word: str) -> None:
    paths = copy_of(good, tmp_path)
    statement = paths.statement.read_bytes().replace(
        b"# ireporter-bundle 1\n", b"# ireporter-bundle %d\nmore\n" % version
    )
    kit.put(tmp_path, paths.ciphertext.read_bytes(), statement)
    assert f"format {version}, {word}" in refused(kit, tmp_path, "bundle-format")
    kit.put(tmp_path, paths.ciphertext.read_bytes(), b"hello\n")
    refused(kit, tmp_path, "bundle-statement")


EXTRA: dict[str, tuple[tarfile.TarInfo, bytes]] = {
    "not listed": member(f"{BASE}/data/database/99.dat", b"x"),
    "another name": member(f"{BASE}/data/evil.sh", b"x"),
    "outside the bag": member("evil.sh", b"x"),
    "another bag": member("other-bundle/bagit.txt", b"x"),
    "dots": member(f"{BASE}/../../etc/cron.d/evil", b"x"),
    "dots within a known folder": member(f"{BASE}/data/database/../../../evil", b"x"),
    "absolute": member("/etc/cron.d/evil", b"x"),
    "dot": member(f"./{BASE}/data/database/99.dat", b"x"),
    "double slash": member(f"{BASE}//data/database/99.dat", b"x"),
    "backslash": member(f"{BASE}\\data\\database\\99.dat", b"x"),
    "symbolic link": member(f"{BASE}/data/database/99.dat", type=tarfile.SYMTYPE, linkname="/etc"),
    "hard link": member(f"{BASE}/data/database/99.dat", type=tarfile.LNKTYPE, linkname="/etc/passwd"),
    "folder": member(f"{BASE}/data/database", type=tarfile.DIRTYPE),
    "character device": member(f"{BASE}/data/database/99.dat", type=tarfile.CHRTYPE, devmajor=1, devminor=8),
    "block device": member(f"{BASE}/data/database/99.dat", type=tarfile.BLKTYPE, devmajor=8),
    "named pipe": member(f"{BASE}/data/database/99.dat", type=tarfile.FIFOTYPE),
    "contiguous file": member(f"{BASE}/data/database/99.dat", b"x", type=tarfile.CONTTYPE),
    "sparse file": member(f"{BASE}/data/database/99.dat", type=tarfile.GNUTYPE_SPARSE),
    "setuid": member(f"{BASE}/data/database/99.dat", b"x", mode=0o4755),
    "owner": member(f"{BASE}/data/database/99.dat", b"x", uid=1000, uname="somebody"),
    "oversize header": member(f"{BASE}/data/database/99.dat", type=tarfile.XHDTYPE, size=1 << 40),
    "oversize long name": member("././@LongLink", type=tarfile.GNUTYPE_LONGNAME, size=1 << 40),
    "global header": member("pax_global_header", b"10 path=x\n", type=tarfile.XGLTYPE),
    "larger than stated": member(f"{BASE}/data/database/99.dat", size=1 << 50),
}


@pytest.mark.parametrize("kind", EXTRA)
@pytest.mark.parametrize("place", ["first", "last"])
def test_members_no_bundle_has(kit: Kit, members: Members, tmp_path: Path, kind: str, place: str) -> None:
    bag = renewed(members)
    kit.craft(tmp_path, outer_tar([EXTRA[kind], *bag] if place == "first" else [*bag, EXTRA[kind]]))
    refused(kit, tmp_path, "bundle-content")
    assert not list(tmp_path.glob("**/evil*"))


@pytest.mark.parametrize("kind", ["as listed", "other content", "a link first"])
def test_duplicated_members(kit: Kit, members: Members, tmp_path: Path, kind: str) -> None:
    bag = renewed(members)
    info, content = next(one for one in bag if one[0].name.endswith("toc.dat"))
    twice = {
        "as listed": [*bag, (info, content)],
        "other content": [*bag, member(info.name, b"other")],
        "a link first": [member(info.name, type=tarfile.SYMTYPE, linkname="/tmp/evil"), *bag],
    }[kind]
    kit.craft(tmp_path, outer_tar(twice))
    refused(kit, tmp_path, "bundle-content")


def test_every_missing_member_is_found(kit: Kit, members: Members, tmp_path: Path) -> None:
    """Once with the manifest that still lists it, once with one that does not (then what every bundle has must be missed)."""
    bag = renewed(members)
    optional = 0
    for number, (info, _content) in enumerate(bag):
        kit.craft(tmp_path, outer_tar(bag[:number] + bag[number + 1 :]))
        refused(kit, tmp_path, "bundle-content")
        name = info.name.removeprefix(f"{BASE}/")
        if name.startswith("data/") and "/database/" in name and not name.endswith("toc.dat"):
            optional += 1
        elif name.startswith("data/"):
            kit.craft(tmp_path, outer_tar(renewed(bag[:number] + bag[number + 1 :])))
            refused(kit, tmp_path, "bundle-content")
    assert optional == 2


def test_altered_members_are_found(kit: Kit, members: Members, tmp_path: Path) -> None:
    """Content that does not fit its manifest, manifests that do not fit each other, in a tar that is rightly signed."""
    bag = renewed(members)
    for number, (info, content) in enumerate(bag):
        if content:
            altered = (info, content[:-1] + bytes([content[-1] ^ 1]))
            kit.craft(tmp_path, outer_tar([*bag[:number], altered, *bag[number + 1 :]]))
            refused(kit, tmp_path, "bundle-content")


def test_what_is_hidden_in_the_tar_is_found(kit: Kit, members: Members, tmp_path: Path) -> None:
    tar = outer_tar(renewed(members))
    at = next(
        number
        for number in range(0, len(tar), 512)
        if tar[number : number + 512].startswith(f"{BASE}/bagit.txt".encode())
    )
    padding = bytearray(tar)
    padding[at + 512 + 100] = 1
    for crafted in (tar + b"\0" * 512, tar + b"x", tar[:-1024] + b"\0" * 512 + b"x" * 512, bytes(padding)):
        kit.craft(tmp_path, crafted)
        refused(kit, tmp_path, "bundle-content")
    kit.craft(tmp_path, outer_tar(renewed(members), pax=True).replace(b"ustar\0" + b"00", b"ustar\0" + b"01"))
    refused(kit, tmp_path, "bundle-content")
    kit.craft(tmp_path, tar, unpacked_bytes=1000)
    assert "more than the 1000 bytes" in refused(kit, tmp_path, "bundle-content")
    kit.craft(tmp_path, tar, tag_manifest="0" * 64)
    refused(kit, tmp_path, "bundle-content")


def tree(*entries: tuple[dict[str, object], dict[str, object]]) -> Callable[[Members], Members]:
    """The members with another file tree: pairs of manifest line and tar header, the root first."""
    root = {"path": ".", "type": "directory"}, {"name": ".", "type": tarfile.DIRTYPE, "mode": 0o755}
    common = {"mode": "0755", "owner": 0, "group": 0, "mtime_ns": 0}
    lines: list[dict[str, object]] = [{"root": "output", "format": 1}]
    packed = []
    for line, header in (root, *entries):
        lines.append({**common, **line})
        packed.append(
            member(str(header["name"]), **{"mode": 0o755, **{k: v for k, v in header.items() if k != "name"}})
        )
    lines.append({"end": "output", "entries": len(packed)})
    manifest = b"".join(json.dumps(line).encode() + b"\n" for line in lines)

    def replaced(members: Members) -> Members:
        contents = {info.name: content for info, content in members}
        contents[f"{BASE}/data/files/output.jsonl"] = manifest
        contents[f"{BASE}/data/files/output.tar"] = outer_tar(packed, pax=True)
        about = json.loads(contents[f"{BASE}/data/migration.json"])
        about["file_trees"][0].update(entries=len(packed), files=0, bytes=0)
        contents[f"{BASE}/data/migration.json"] = json.dumps(about).encode()
        return renewed([member(name, content) for name, content in contents.items()])

    return replaced


def link(path: str, to: str) -> tuple[dict[str, object], dict[str, object]]:
    header = {"name": f"./{path}", "type": tarfile.SYMTYPE, "linkname": to}
    return {"path": path, "type": "link", "link_target": to}, header


def folder(path: str, **header: object) -> tuple[dict[str, object], dict[str, object]]:
    return {"path": path, "type": "directory"}, {"name": f"./{path}", "type": tarfile.DIRTYPE, **header}


def hard(path: str, to: str) -> tuple[dict[str, object], dict[str, object]]:
    header = {"name": f"./{path}", "type": tarfile.LNKTYPE, "linkname": f"./{to}"}
    return {"path": path, "type": "file", "size": 0, "sha256": "", "linked_to": to}, header


# Manifest and tar agree with each other, and lead out of the tree all the same.
TREES = {
    "through a link": [link("a", "/tmp"), folder("a/evil")],
    "through a link to here": [folder("a"), link("b", "a"), folder("b/evil")],
    "dots": [folder("../evil")],
    "dots below": [folder("a"), folder("a/../../evil")],
    "absolute": [folder("/tmp/evil", name="/tmp/evil")],
    "empty name": [folder("a"), folder("a//evil")],
    "hard link out": [hard("evil", "../../../etc/passwd")],
    "hard link through a link": [link("a", "/etc"), hard("evil", "a/passwd")],
    "hard link to a link": [link("a", "/etc/passwd"), hard("evil", "a")],
    "twice": [folder("a"), folder("a")],
    "folder replaced by a link": [folder("a"), link("a", "/tmp")],
    "device": [({"path": "a", "type": "block device"}, {"name": "./a", "type": tarfile.BLKTYPE})],
    "device instead of a folder": [folder("a", type=tarfile.CHRTYPE)],
    "other mode": [folder("a", mode=0o4777)],
    "other name": [folder("a", name="./b")],
    "no parent": [folder("a/b")],
    "oversize header": [folder("a", type=tarfile.XHDTYPE, size=1 << 40)],
}


@pytest.mark.parametrize("kind", TREES)
def test_trees_that_lead_out(kit: Kit, members: Members, tmp_path: Path, kind: str) -> None:
    crafted = tree(*TREES[kind])(members)
    kit.craft(tmp_path, outer_tar(crafted), unpacked_bytes=sum(info.size for info, _content in crafted))
    refused(kit, tmp_path, "bundle-content", trees=True)
    assert not Path("/tmp/evil").exists()


def test_a_crafted_tree_that_is_right_is_taken(kit: Kit, members: Members, tmp_path: Path) -> None:
    crafted = tree(folder("a"), link("b", "/etc/passwd"), link("c", "a"))(members)
    kit.craft(tmp_path, outer_tar(crafted), unpacked_bytes=sum(info.size for info, _content in crafted))
    kit.run(kit.received(tmp_path, "unpacked", trees=True))
    assert os.readlink(tmp_path / "unpacked/file-trees/output/b") == "/etc/passwd"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """4 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], check=False, capture_output=True
    ).returncode:
        pytest.skip("mounting is not allowed here")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("what", ["the dump", "the ciphertext"])
def test_disk_full_while_it_is_made(kit: Kit, cluster: Cluster, small_disk: Path, what: str) -> None:
    cluster.execute("postgres", "CREATE DATABASE random_bytes")
    width = 100 if what == "the ciphertext" else 12_000
    try:
        cluster.execute(
            "random_bytes",
            "CREATE EXTENSION pgcrypto;"
            + "".join(
                f"CREATE TABLE t{n} AS SELECT gen_random_bytes(1000) AS a FROM generate_series(1, {width}) g;"
                for n in range(60 if what == "the ciphertext" else 1)
            ),
        )
        with pytest.raises(MigrationError, match=r"is full \(disk-full\)"):
            kit.run(kit.present(small_disk, cluster.conninfo("random_bytes"), []))
    finally:
        cluster.execute("postgres", "DROP DATABASE random_bytes")
    assert [path.name for path in small_disk.iterdir()] == [f".{MIGRATION}.lock"]


def test_disk_full_while_it_is_unpacked(
    kit: Kit, good: Path, members: Members, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = random.Random(1).randbytes(5 << 20)
    bag = renewed([*members, member(f"{BASE}/data/database/99.dat", content)])
    directory = small_disk.parent / "big"
    kit.craft(directory, outer_tar(bag), unpacked_bytes=sum(info.size for info, _content in bag))
    spec = kit.received(directory, "unpacked", target=str(small_disk / "unpacked"))
    with pytest.raises(MigrationError, match=r"needs \d+ bytes unpacked.*\(disk-full\)"):
        kit.run(spec)
    # And when it fills up only meanwhile.
    monkeypatch.setattr(bundle_unpack, "_must_have_room", lambda *_arguments: None)
    with pytest.raises(MigrationError, match=r"is full \(disk-full\)"):
        kit.run(spec)
    assert [path.name for path in small_disk.iterdir()] == [".unpacked.lock"]


def test_what_cannot_be_exported_is_said_before_anything_is_written(
    kit: Kit, cluster: Cluster, good: Path, tmp_path: Path
) -> None:
    spec = kit.present(tmp_path, cluster.conninfo("small"), [])
    encrypted = kit.folder / "encrypted"
    if not encrypted.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(encrypted)], check=True)
    for more, check in (
        ({"recipient": "age1nothing"}, "public-key"),
        ({"recipient": "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAB"}, "public-key"),
        ({"recipient": f"{kit.customer} -o /tmp/evil"}, "public-key"),
        ({"signing_key": str(kit.folder / "no key")}, "bundle-signing-key"),
        ({"signing_key": str(encrypted)}, "bundle-signing-key"),
        ({"cut_off": "yesterday"}, "bundle-cut-off"),
        ({"tenant": "../acme"}, "bundle-name"),
        ({"migration_id": "a/b"}, "bundle-name"),
        ({"directory": str(tmp_path / "missing")}, "bundle-directory"),
        ({"file_trees": [{"name": "Up", "path": "/srv"}]}, "file-trees"),
        ({"file_trees": [{"name": "up", "path": "/srv/../etc"}]}, "file-trees"),
        ({"file_trees": [{"name": "up", "path": str(tmp_path / "missing")}]}, "file-tree"),
        ({"webdav": [str(tmp_path / "missing")]}, "file-tree"),
        ({"picture": cluster.conninfo("no_such_database")}, "database-connection"),
        ({"picture": "host=x dbname=y password=z"}, "connection-string"),
    ):
        with pytest.raises(MigrationError) as caught:
            kit.run({**spec, **more})
        assert caught.value.check == check, caught.value
    assert [path.name for path in tmp_path.iterdir()] in ([], [f".{MIGRATION}.lock"])


def test_two_at_a_time_are_refused(kit: Kit, cluster: Cluster, good: Path, tmp_path: Path) -> None:
    with locked(tmp_path, MIGRATION), pytest.raises(MigrationError, match=r"\(bundle-busy\)"):
        kit.run(kit.present(tmp_path, cluster.conninfo("small"), []))


def test_the_tar_of_a_good_bundle_is_in_our_one_form(kit: Kit, good: Path) -> None:
    assert outer_tar_again(kit.tar_of(good)) == kit.tar_of(good)


def outer_tar_again(tar: bytes) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return outer_tar([(info, archive.extractfile(info).read()) for info in archive])  # type: ignore[union-attr]
