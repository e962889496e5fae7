"""A bundle of a database with one of nearly everything and of trees as hard as real ones: made, read back, verified, unpacked, restored."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import bagit
import pytest
from ireporter import bundle, bundle_dump, bundle_encryption, file_manifest, verification
from ireporter.bundle_contents import database_facts
from ireporter.bundle_format import BASE, Paths
from ireporter.bundle_tar import Writer
from ireporter.database_connection import Address, exported_snapshot
from ireporter.errors import MigrationError
from ireporter.verification_rows import Seeds

from .bundle_kit import MIGRATION, README, ROOT, Kit, quiet
from .conftest import Cluster
from .test_file_copy import make_hard_tree

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="owners can be given to files by root only"),
]


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    return Kit.make(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    root = tmp_path_factory.mktemp("trees")
    make_hard_tree(root / "output")
    os.mkfifo(root / "output" / "pipe")
    (root / "settings" / "xml").mkdir(parents=True)
    (root / "settings" / "xml" / "License.xml").write_text("LICENCE-CANARY")
    os.link(root / "settings" / "xml" / "License.xml", root / "settings" / "xml" / "another name of it")
    os.link(root / "settings" / "xml" / "License.xml", root / "settings" / "xml" / "third name")
    (root / "settings" / "xml" / "設定.xml").write_text("<x/>")
    (root / "webdav").mkdir()
    (root / "webdav" / "file").write_text("WEBDAV-CANARY")
    return [
        {"name": "output", "path": str(root / "output")},
        {"name": "settings", "path": str(root / "settings"), "licence_file": "xml/License.xml"},
    ]


@pytest.fixture(scope="module")
def made(
    kit: Kit, trees: list[dict[str, object]], cluster: Cluster, nasty: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, dict[str, object]]]:
    """The folder with the bundle, and what making it returned."""
    directory = tmp_path_factory.mktemp("bundle")
    webdav = [str(Path(str(trees[0]["path"])).parent / "webdav")]
    result = kit.run(kit.present(directory, cluster.conninfo(nasty), trees, webdav=webdav))
    yield directory, result


def test_three_files_appear_and_nothing_else(made: tuple[Path, dict[str, object]]) -> None:
    directory, result = made
    paths = Paths.within(directory, MIGRATION)
    shown = {path.name for path in directory.iterdir() if not path.name.endswith(".lock")}
    assert shown == {paths.ciphertext.name, paths.statement.name, paths.signature.name}
    assert result["changed"] is True
    assert result["rows"] == 2535
    assert result["bytes"] == paths.ciphertext.stat().st_size
    assert {path.stat().st_mode & 0o077 for path in directory.iterdir()} == {0}
    left = {str(one["what"]).partition(":")[0]: one for one in result["left_out"]}  # type: ignore[attr-defined]
    assert left["WebDAV files"]["count"] == 1
    assert left["licence files"]["names"] == ["settings:xml/License.xml"]
    assert left["special files"]["names"] == ["output:pipe"]
    assert left["passwords of database roles"]["count"] == 2


def test_a_second_run_changes_nothing(
    kit: Kit, made: tuple[Path, dict[str, object]], trees: list[dict[str, object]], cluster: Cluster, nasty: str
) -> None:
    directory, result = made
    before = {path: path.stat().st_mtime_ns for path in directory.iterdir() if path.suffix != ".lock"}
    spec = kit.present(directory, cluster.conninfo(nasty), trees)
    for more in ({"check": True}, {}):
        again = kit.run({**spec, **more})
        assert again["changed"] is False
        assert again["sha256"] == result["sha256"]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    with pytest.raises(MigrationError, match=r"\(bundle-exists\)"):
        kit.run({**spec, "cut_off": "2026-01-01T04:00:00Z"})


def test_check_mode_makes_nothing(kit: Kit, cluster: Cluster, nasty: str, tmp_path: Path) -> None:
    assert kit.run({**kit.present(tmp_path, cluster.conninfo(nasty), []), "check": True})["changed"] is True
    assert list(tmp_path.iterdir()) == []


def test_secrets_and_what_is_left_out_are_not_in_it(kit: Kit, made: tuple[Path, dict[str, object]]) -> None:
    tar = kit.tar_of(made[0])
    for canary in (b"LICENCE-CANARY", b"WEBDAV-CANARY", b"SCRAM-SHA-256", b"owner-secret", b"nasty_stranger"):
        assert (canary in tar) == (canary == b"LICENCE-CANARY"), canary
    # The content of the licence is there under its other name only, which is a file like any other.
    assert tar.count(b"LICENCE-CANARY") == 1


def test_only_the_customer_and_the_run_can_open_it(kit: Kit, made: tuple[Path, dict[str, object]]) -> None:
    header = Paths.within(made[0], MIGRATION).ciphertext.read_bytes().partition(b"\n---")[0]
    assert header.count(b"\n-> X25519") == 2
    with pytest.raises(MigrationError, match=r"another recipient.*\(bundle-recipient\)"):
        kit.run({**kit.received(made[0]), "identity": str(kit.folder / "stranger")})


def test_it_verifies(kit: Kit, made: tuple[Path, dict[str, object]]) -> None:
    directory, result = made
    steps: list[object] = []
    found = bundle.run(kit.received(directory), lambda progress: steps.append(progress["step"]))
    assert found["changed"] is False
    for name in ("sha256", "rows", "files", "file_bytes", "tables", "members", "cut_off"):
        assert found[name] == result[name], name
    assert sorted(set(steps)) == ["checksum", "verify"]
    public = kit.signer.with_suffix(".pub").read_text()
    assert kit.run({**kit.received(directory), "signer": public})["sha256"] == result["sha256"]


@pytest.fixture(scope="module")
def unpacked(kit: Kit, made: tuple[Path, dict[str, object]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("customer") / "data"
    spec = kit.received(made[0], "unpacked", target=str(target), trees=True)
    assert kit.run({**spec, "check": True})["changed"] is True
    assert not target.exists()
    assert kit.run(spec)["changed"] is True
    assert {path.name for path in target.parent.iterdir()} == {"data", ".data.lock"}
    return target


def test_the_unpacked_bag_is_valid_for_an_independent_validator(unpacked: Path) -> None:
    bag = bagit.Bag(str(unpacked / BASE))
    bag.validate()
    assert bag.info["External-Identifier"] == MIGRATION
    (unpacked / BASE / "data/README.md").write_text("altered")
    try:
        with pytest.raises(bagit.BagValidationError):
            bagit.Bag(str(unpacked / BASE)).validate()
    finally:
        (unpacked / BASE / "data/README.md").write_text(README)


def test_the_unpacked_trees_are_the_staged_ones(unpacked: Path, trees: list[dict[str, object]]) -> None:
    for tree in trees:
        name = str(tree["name"])
        ours = dict(file_manifest.manifest(Path(str(tree["path"]))))
        theirs = dict(file_manifest.manifest(unpacked / "file-trees" / name))
        for path in (b"pipe", b"xml/License.xml"):
            ours.pop(path, None)
        if name == "settings":
            # Without the licence's own name, the next one is the first of the group.
            assert ours[b"xml/another name of it"].pop("linked_to") == "xml/License.xml"
            ours[b"xml/third name"]["linked_to"] = "xml/another name of it"
        assert theirs == ours


def test_unpacking_again_changes_nothing_and_notices_changes(
    kit: Kit, made: tuple[Path, dict[str, object]], unpacked: Path
) -> None:
    spec = kit.received(made[0], "unpacked", target=str(unpacked), trees=True)
    assert kit.run(spec)["changed"] is False
    assert kit.run({**spec, "check": True})["changed"] is False
    changed = unpacked / "file-trees/output/zero"
    changed.write_bytes(b"x")
    with pytest.raises(MigrationError, match=r"does not hold this bundle.*\(bundle-target\)"):
        kit.run(spec)
    assert changed.read_bytes() == b"x"
    changed.write_bytes(b"")


def test_digests_are_those_of_the_verification(unpacked: Path, cluster: Cluster, nasty: str) -> None:
    about = json.loads((unpacked / BASE / "data/migration.json").read_text())
    tables = {(one["schema"], one["name"]): one for one in about["database"]["tables"]}
    assert tables["public", "keyless"]["rows"] == 503
    seeds = [int(seed) for seed in about["database"]["seeds"]]
    first, second = (f"sum(hash_array_extended(ARRAY[record_send(r)], {seed}))::text" for seed in seeds)
    with cluster.connect(nasty) as session:
        found = session.execute(f"SELECT {first}, {second} FROM keyless r").fetchone()  # type: ignore[call-overload]
    assert found == (tables["public", "keyless"]["first"], tables["public", "keyless"]["second"])
    assert {one["name"]: (one["value"], one["handed_out"]) for one in about["database"]["sequences"]}["set_back"] == (
        "40",
        False,
    )
    assert "4711" in about["database"]["large_objects"]
    renamed = {json.dumps(one["path"]) for tree in about["file_trees"] for one in tree["names_ntfs_cannot_hold"]}
    assert json.dumps("new\nline") in renamed
    assert any("base64" in name for name in renamed)


def by_hand() -> str:
    """The commands of the page, literally."""
    blocks = README.split("```sh import-by-hand\n")[1:]
    return "set -eu\n" + "".join(block.partition("```")[0] for block in blocks)


def must_have_come_back(bag: Path, cluster: Cluster) -> int:
    """Every digest of ``migration.json`` is that of the restored database; number of tables."""
    about = json.loads((bag / "data/migration.json").read_text())
    address = Address.parse(cluster.conninfo("irepodb"), "target")
    seeds = Seeds(*(int(seed) for seed in about["database"]["seeds"]))
    with address.connect() as session, exported_snapshot(session) as snapshot:
        restored = database_facts(address, session, snapshot, seeds=seeds, jobs=2, progress=lambda size: None)
    for what in ("sequences", "large_objects", "extensions"):
        assert restored[what] == about["database"][what], what
    ours, theirs = (
        [one for one in side["tables"] if not one["computed_by_restore"]] for side in (about["database"], restored)
    )
    assert theirs == ours
    return len(ours)


def test_import_by_hand_with_stock_tools(
    kit: Kit,
    made: tuple[Path, dict[str, object]],
    trees: list[dict[str, object]],
    cluster: Cluster,
    nasty: str,
    clean_second: Cluster,
    tmp_path: Path,
) -> None:
    for path in made[0].glob(f"{MIGRATION}*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "identity.txt").write_bytes((kit.folder / "customer").read_bytes())
    (tmp_path / "signer.txt").write_text(kit.fingerprint + "\n")
    environment = {"PATH": os.environ["PATH"], "PGHOST": str(clean_second.directory), "PGUSER": "postgres"}

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", by_hand()], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    # Another signer ends it before anything is unpacked.
    (tmp_path / "signer.txt").write_text("SHA256:" + "A" * 43 + "\n")
    assert run().returncode != 0
    assert not (tmp_path / BASE).exists()
    (tmp_path / "signer.txt").write_text(kit.fingerprint + "\n")
    done = run()
    assert done.returncode == 0, done.stderr
    found = verification.run(
        {"source": cluster.conninfo(nasty), "target": clean_second.conninfo("irepodb"), "connection_limit": -1}, quiet
    )
    # What migration.json says is left out, what pg_restore computes anew, a hole that became zeros. Nothing else, to the last grant.
    assert {(one["kind"], one["object"].partition(":")[0]) for one in found["differences"]} == {  # type: ignore[attr-defined]
        ("role password", "nasty_owner"),
        ("role password", "nasty App"),
        ("role", "nasty_group"),
        ("role", "nasty_member"),
        ("role membership", "nasty_owner in nasty_group"),
        ("materialised view", "public.stale"),
        ("row", "public.stale"),
        ("large object", "4713"),
    }
    assert must_have_come_back(tmp_path / BASE, clean_second) == 19
    output = dict(file_manifest.manifest(Path(str(trees[0]["path"]))))
    del output[b"pipe"]
    assert dict(file_manifest.manifest(tmp_path / "file-trees/output")) == output
    assert (tmp_path / BASE / "data/README.md").read_text() == (ROOT / "docs/import-by-hand.md").read_text()


def test_an_openssh_key_is_a_recipient_too(kit: Kit, cluster: Cluster, nasty: str, tmp_path: Path) -> None:
    key = tmp_path / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "Contact Person", "-f", str(key)], check=True)
    spec = kit.present(tmp_path, cluster.conninfo(nasty), [], recipient=key.with_suffix(".pub").read_text())
    assert kit.run(spec)["changed"] is True
    assert kit.run({**kit.received(tmp_path), "identity": str(key)})["rows"] == 2535


@pytest.mark.parametrize("member", ["data/database/", "data/files/"])
def test_nothing_is_left_open_when_it_fails_half_way(
    kit: Kit,
    cluster: Cluster,
    nasty: str,
    trees: list[dict[str, object]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    member: str,
) -> None:
    """Of a file that is still open, a full disk would get nothing back. The error, kept here, holds whatever it went through."""
    full = OSError(errno.ENOSPC, "No space left on device")
    add = Writer.add

    def failing(writer: Writer, name: str, size: int, chunks: Iterable[bytes]) -> None:
        def fails() -> Iterator[bytes]:
            for chunk in chunks:
                yield chunk
                raise full

        content = name.startswith(member) and name.endswith((".dat", ".tar")) and size
        add(writer, name, size, fails() if content else chunks)

    monkeypatch.setattr(Writer, "add", failing)
    with pytest.raises(MigrationError, match=r"is full \(disk-full\)") as raised:
        kit.run(kit.present(tmp_path, cluster.conninfo(nasty), trees))
    assert raised.value.__cause__ is full
    opened = [os.readlink(descriptor) for descriptor in Path("/proc/self/fd").iterdir() if descriptor.is_symlink()]
    assert [path for path in opened if path.startswith(str(tmp_path))] == []
    programs = [path.read_text() for path in Path("/proc/self/task").glob("*/children")]
    assert not any(Path(f"/proc/{number}/comm").read_text() == "tar\n" for text in programs for number in text.split())


def test_what_waits_on_disk_is_bounded(
    kit: Kit, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pg_dump is halted as soon as more than the limit waits, and goes on; the dump is whole all the same."""
    cluster.execute("postgres", "CREATE DATABASE many")
    tables = "".join(
        f"CREATE TABLE t{n} AS SELECT repeat(md5(g::text), 30) AS a FROM generate_series(1, 3000) g;" for n in range(30)
    )
    cluster.execute(
        "many", f"{tables} CREATE TABLE big AS SELECT repeat(md5(g::text), 30) AS a FROM generate_series(1, 60000) g;"
    )
    halted: list[int] = []
    real = os.killpg

    def killpg(group: int, signal_number: int) -> None:
        halted.append(signal_number)
        real(group, signal_number)

    monkeypatch.setattr(bundle_dump, "_LOOK_EVERY_BYTES", 1 << 20)
    monkeypatch.setattr(os, "killpg", killpg)
    monkeypatch.setattr("ireporter.bundle_write._WAITING_BYTES", 4 << 20)
    made = kit.run(kit.present(tmp_path, cluster.conninfo("many"), []))
    assert made["rows"] == 150_000
    assert len(halted) >= 2
    assert made["unencrypted_bytes_on_disk"] < 90 << 20  # type: ignore[operator]
    names = [info.name for info, _content in kit.members_of(tmp_path)]
    assert sum(name.endswith(".dat") for name in names) == 32


def test_the_outer_tar_is_read_by_stock_tar(kit: Kit, made: tuple[Path, dict[str, object]]) -> None:
    listed = subprocess.run(["tar", "-tf", "-"], input=kit.tar_of(made[0]), capture_output=True, check=True)
    assert listed.stderr == b""
    assert f"{BASE}/data/database/toc.dat" in listed.stdout.decode().splitlines()
    assert all(info.type == tarfile.REGTYPE for info, _content in kit.members_of(made[0]))


def ansible(*arguments: str) -> tuple[int, dict[str, object]]:
    """Exit status and result of one call of the module, as a person types it."""
    program = Path(sys.executable).with_name("ansible")
    done = subprocess.run(
        [str(program), "--one-line", "localhost", "-m", "ireporter_bundle", *arguments],
        capture_output=True, text=True, check=False, cwd=ROOT, timeout=300,
    )  # fmt: skip
    assert "=> {" in done.stdout, done.stdout + done.stderr
    return done.returncode, json.loads(done.stdout[done.stdout.index("=> {") + 3 :])


def test_the_module(kit: Kit, cluster: Cluster, nasty: str, tmp_path: Path) -> None:
    wanted = json.dumps(kit.present(tmp_path, cluster.conninfo(nasty), []))
    for check, expected in (("--check", True), ("--diff", True), ("--check", False)):
        status, made = ansible("-a", wanted, check)
        assert (status, made["changed"]) == (0, expected), made
    unpacked = dict(kit.received(tmp_path, "unpacked").items())
    for check, expected in (("--diff", True), ("--diff", False)):
        status, result = ansible("-a", json.dumps(unpacked), check)
        assert (status, result["changed"], result["sha256"]) == (0, expected, made["sha256"]), result
    status, result = ansible("-a", json.dumps({**unpacked, "state": "verified", "tenant": "globex"}))
    assert (status, result["check"]) == (2, "bundle-tenant")
    assert "of tenant acme, not of globex" in str(result["msg"])


def test_a_private_key_given_by_mistake_is_shown_nowhere(
    kit: Kit, cluster: Cluster, nasty: str, tmp_path: Path
) -> None:
    canary = "AGE-SECRET-KEY-1CANARYCANARYCANARY"
    wanted = {**kit.present(tmp_path, cluster.conninfo(nasty), []), "recipient": canary}
    status, result = ansible("-vvv", "-a", json.dumps(wanted))
    assert (status, result["check"]) == (2, "public-key")
    assert canary not in json.dumps(result)


def test_the_customer_s_side_needs_no_psycopg(kit: Kit, made: tuple[Path, dict[str, object]]) -> None:
    code = "import json, sys\nsys.modules['psycopg'] = None\nfrom ireporter import bundle\n"
    code += "print(bundle.run(json.load(sys.stdin), lambda progress: None)['rows'])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(kit.received(made[0])), capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "module_utils")},
    )  # fmt: skip
    assert done.stdout == "2535\n", done.stderr


@pytest.mark.parametrize("program", ["age", "zstd"])
def test_a_program_ended_from_outside_is_no_fault_of_the_bundle(
    kit: Kit, made: tuple[Path, dict[str, object]], program: str
) -> None:
    def progress(now: dict[str, object]) -> None:
        if now["step"] == "verify":
            for path in Path("/proc").glob("[0-9]*/stat"):
                with contextlib.suppress(OSError):
                    name, parent = path.read_text().partition("(")[2].rpartition(")")[::2]
                    if name == program and int(parent.split()[1]) == os.getpid():
                        os.kill(int(path.parent.name), signal.SIGKILL)

    with pytest.raises(MigrationError, match=r"\(bundle-incomplete\)"):
        bundle.run(kit.received(made[0]), progress)


def test_the_run_s_key_is_in_no_file_argument_or_environment(
    kit: Kit, cluster: Cluster, nasty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked for, in every process there is, while age has it: at the moment the bundle is read back."""
    looked: list[int] = []
    real, secrets = bundle_encryption.make_key, []

    def make_key() -> tuple[bundle_encryption.Identity, str]:
        identity, public = real()
        assert identity.secret is not None
        secrets.append(identity.secret.split()[-1])
        return identity, public

    def progress(now: dict[str, object]) -> None:
        if now["step"] != "read back" or looked:
            return
        processes = list(Path("/proc").glob("[0-9]*"))
        looked.append(len(processes))
        for process in processes:
            for what in ("cmdline", "environ"):
                with contextlib.suppress(OSError):
                    assert secrets[0] not in (process / what).read_bytes()
        for path in [*tmp_path.rglob("*"), *Path("/tmp").glob("tmp*")]:
            if path.is_file():
                assert secrets[0] not in path.read_bytes(), path

    monkeypatch.setattr("ireporter.bundle_write.make_key", make_key)
    bundle.run(kit.present(tmp_path, cluster.conninfo(nasty), []), progress)
    assert looked[0] > 5
    assert secrets[0].startswith(b"AGE-SECRET-KEY-1")
