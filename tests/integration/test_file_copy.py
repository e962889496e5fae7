"""Trees as hard as real ones, copied by the real rsync, here and through the real OpenSSH and rrsync."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ireporter import file_copy, file_known_contents, file_manifest, file_verification
from ireporter.errors import MigrationError

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="owners can be given to files by root only"),
]

NAMELESS = 54321


def quiet(_progress: dict[str, object]) -> None:
    """Nobody watches."""


def make_hard_tree(root: Path) -> None:
    """Everything a name, a type or an attribute can be."""
    root.mkdir(parents=True)
    raw = os.fsencode(root)
    names = [
        b"\xff\xfe not utf-8",
        b"new\nline",
        b"quote\"'`$(x);{{ y }}%",
        b"-rf",
        b"a" * 255,
        "が".encode(),
        "が".encode(),
    ]
    names += [b"back\\slash #012", b"star*[q]?", b" leading and trailing "]
    for number, name in enumerate(names):
        Path(os.fsdecode(raw + b"/" + name)).write_bytes(b"content %d" % number)
    (root / "empty").mkdir()
    (root / "deep").joinpath(*["level"] * 40).mkdir(parents=True)
    (root / "setgid").mkdir()
    (root / "zero").write_bytes(b"")
    (root / "big").write_bytes(os.urandom(3 << 20))
    with (root / "sparse").open("wb") as sparse:
        sparse.truncate(5 << 20)
        sparse.seek(4 << 20)
        sparse.write(b"end of a hole")
    (root / "one").mkdir()
    (root / "two").mkdir()
    (root / "one" / "linked").write_bytes(b"linked across folders")
    os.link(root / "one" / "linked", root / "two" / "linked too")
    os.link(root / "one" / "linked", root / "two" / "linked three")
    (root / "to nowhere").symlink_to("nowhere at all")
    Path(os.fsdecode(raw + b"/to bytes")).symlink_to(os.fsdecode(b"\xff/../\xfe"))
    (root / "to outside").symlink_to("/etc/passwd")
    (root / "to folder").symlink_to("one")
    (root / "secret").write_bytes(b"")
    (root / "read only").mkdir()
    (root / "read only" / "file").write_bytes(b"x")
    nobody = [root / "zero", root / "setgid"]
    for path in nobody:
        os.chown(path, NAMELESS, NAMELESS)
    os.chown(root / "big", 1, 2)
    os.chown(root / "to nowhere", 1, 2, follow_symlinks=False)
    os.chmod(root / "setgid", 0o2771)
    os.chmod(root / "empty", 0o1777)
    os.chmod(root / "secret", 0o000)
    os.chmod(root / "big", 0o6755)
    os.setxattr(root / "zero", "user.comment", b"\x00\xffbinary")
    os.setxattr(root / "empty", "user.of folder", "値".encode())
    subprocess.run(["setfacl", "-m", "u:daemon:rwx,g:bin:r", root / "one" / "linked"], check=True)
    subprocess.run(["setfacl", "-d", "-m", "u:daemon:rx", root / "one"], check=True)
    for number, path in enumerate(sorted(root.rglob("*"))):
        os.utime(path, ns=(1, 1_700_000_000_123_456_789 + number), follow_symlinks=False)
    os.chmod(root / "read only", 0o500)
    os.utime(root, ns=(1, 1_600_000_000_000_000_001))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source" / "tree"
    make_hard_tree(root)
    return root


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target" / "tree"


Copy = Callable[..., dict[str, object]]


@pytest.fixture
def copy(source: Path, target: Path) -> Copy:
    def run(**more: object) -> dict[str, object]:
        spec: dict[str, object] = {
            "file_trees": [{"name": "output", "source": str(source), "target": str(target)}],
            **more,
        }
        return file_copy.run(spec, quiet)

    return run


def all_of(root: Path) -> list[tuple[bytes, dict[str, object]]]:
    return list(file_manifest.manifest(root))


def test_a_hard_tree_arrives_whole_and_a_second_run_changes_nothing(copy: Copy, source: Path, target: Path) -> None:
    first = copy(final=True)
    assert first["changed"]
    assert first["repaired"] == 0
    assert all_of(target) == all_of(source)
    assert (target / "sparse").stat().st_blocks * 512 < 3 << 20
    before = {path: path.lstat().st_ctime_ns for path in target.rglob("*")}
    second = copy(final=True)
    assert not second["changed"]
    assert second["items"] == {}
    assert {path: path.lstat().st_ctime_ns for path in target.rglob("*")} == before
    assert second["files"] == sum(1 for _path, entry in all_of(source) if entry["type"] == "file")


def test_access_times_of_the_source_are_left_alone(copy: Copy, source: Path) -> None:
    copy(final=True)
    assert (source / "big").stat().st_atime_ns == 1


def test_check_mode_says_what_would_change_and_changes_nothing(copy: Copy, target: Path) -> None:
    assert copy(check=True)["changed"]
    assert not target.exists()
    copy(final=True)
    assert not copy(check=True)["changed"]
    (target / "zero").chmod(0o600)
    assert copy(check=True)["changed"]
    assert stat.S_IMODE((target / "zero").stat().st_mode) == 0o600


def test_what_was_added_or_deleted_meanwhile_follows(copy: Copy, source: Path, target: Path) -> None:
    copy()
    shutil.rmtree(source / "deep")
    (source / "new").write_text("new")
    (source / "to folder").unlink()
    (source / "to folder").mkdir()
    copy(final=True)
    assert all_of(target) == all_of(source)


def change_content_keep_time(path: Path) -> None:
    seen = path.stat()
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def test_same_size_and_time_but_other_content_is_found_and_mended(copy: Copy, source: Path, target: Path) -> None:
    copy()
    name = os.fsdecode(b"\xff\xfe not utf-8")
    change_content_keep_time(target / name)
    change_content_keep_time(target / "big")
    result = copy(final=True)
    assert result["repaired"] == 2
    assert all_of(target) == all_of(source)


def test_nanoseconds_and_hard_links_rsync_does_not_look_at_are_mended(copy: Copy, source: Path, target: Path) -> None:
    copy()
    seen = (target / "zero").stat()
    os.utime(target / "zero", ns=(seen.st_atime_ns, seen.st_mtime_ns // 10**9 * 10**9))
    # Linked on the target, two files on the source.
    (source / "two" / "twin").write_bytes(b"twin")
    (source / "one" / "twin").write_bytes(b"twin")
    for path in (source / "two" / "twin", source / "one" / "twin"):
        os.utime(path, ns=(1, 5_000_000_000))
    copy()
    (target / "two" / "twin").unlink()
    os.link(target / "one" / "twin", target / "two" / "twin")
    # A group that fell apart.
    moved = (target / "two" / "linked three").read_bytes()
    (target / "two" / "linked three").unlink()
    (target / "two" / "linked three").write_bytes(moved)
    shutil.copystat(target / "one" / "linked", target / "two" / "linked three")
    result = copy(final=True)
    assert result["changed"]
    assert all_of(target) == all_of(source)


def test_the_licence_stays_where_it_is_and_nothing_else_is_left_out(source: Path, target: Path) -> None:
    for root, text in ((source, "licence of the source"), (target, "licence of the target")):
        (root / "xml").mkdir(parents=True)
        (root / "xml" / "Lic[e]nse.xml").write_text(text)
    (source / "xml" / "Other.xml").write_text("other")
    tree = {"name": "settings", "source": str(source), "target": str(target), "licence_file": "xml/Lic[e]nse.xml"}
    result = file_copy.run({"file_trees": [tree], "final": True}, quiet)
    assert (target / "xml" / "Lic[e]nse.xml").read_text() == "licence of the target"
    assert (target / "xml" / "Other.xml").read_text() == "other"
    assert [one["object"] for one in result["expected_differences"]] == ["file settings:xml/Lic[e]nse.xml"]


def test_foreign_data_is_not_deleted(copy: Copy, target: Path) -> None:
    target.mkdir()
    (target / "folder").mkdir()
    (target / "folder" / "somebody's").write_text("precious")
    with pytest.raises(MigrationError) as refused:
        copy()
    assert refused.value.check == "target-empty"
    assert (target / "folder" / "somebody's").read_text() == "precious"
    copy(replace=True)
    assert not (target / "folder").exists()


def test_a_copy_of_another_source_is_not_overwritten(copy: Copy, target: Path) -> None:
    copy(owner="acme")
    with pytest.raises(MigrationError, match="is a copy of acme, not of bravo"):
        copy(owner="bravo")


def test_a_link_in_place_of_the_target_is_refused(copy: Copy, target: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target.symlink_to(tmp_path / "elsewhere")
    for replace in (False, True):
        with pytest.raises(MigrationError, match="'tree' is a link") as refused:
            copy(replace=replace)
        assert refused.value.check == "file-tree"
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("linked", ["tree", "above"])
def test_a_link_to_a_neighbour_is_not_followed(
    copy: Copy, source: Path, target: Path, tmp_path: Path, side: str, linked: str
) -> None:
    """The tenant's users own the folder above the tree; we are root."""
    neighbour = tmp_path / "neighbour" / "tree"
    neighbour.mkdir(parents=True)
    (neighbour / "precious").write_text("precious")
    target.mkdir()
    root = source if side == "source" else target
    planted = root if linked == "tree" else root.parent
    planted.rename(tmp_path / "aside")
    planted.symlink_to(neighbour if linked == "tree" else neighbour.parent)
    with pytest.raises(MigrationError, match=f"'{planted.name}' is a link") as refused:
        copy(replace=True, final=True)
    assert refused.value.check == "file-tree"
    assert [path.name for path in neighbour.iterdir()] == ["precious"]
    assert side == "target" or list(target.iterdir()) == []


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_link_put_in_place_of_a_tree_while_rsync_starts_is_not_followed(
    copy: Copy, source: Path, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    neighbour = tmp_path / "neighbour"
    neighbour.mkdir()
    (neighbour / "precious").write_text("precious")
    target.mkdir()
    expected = all_of(source)
    root = source if side == "source" else target
    start = subprocess.Popen

    def swapping(argv: list[str], **more: object) -> object:
        if argv[0] == "rsync":
            root.rename(tmp_path / "aside")
            root.symlink_to(neighbour)
        return start(argv, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(file_copy.subprocess, "Popen", swapping)
    copy(replace=True)
    assert [path.name for path in neighbour.iterdir()] == ["precious"]
    assert all_of(target if side == "source" else tmp_path / "aside") == expected


def test_times_are_not_set_through_a_link(tmp_path: Path) -> None:
    for name in ("tree/folder", "neighbour"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").touch()
    before = (tmp_path / "neighbour" / "file").stat().st_mtime_ns
    file_copy._set_time(tmp_path / "tree", b"folder/file", 7)
    file_copy._set_time(tmp_path / "tree", b".", 8)
    assert (tmp_path / "tree" / "folder" / "file").stat().st_mtime_ns == 7
    assert (tmp_path / "tree").stat().st_mtime_ns == 8
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "neighbour")
    with pytest.raises(NotADirectoryError):
        file_copy._set_time(tmp_path / "tree", b"link/file", 7)
    assert (tmp_path / "neighbour" / "file").stat().st_mtime_ns == before


def test_what_rsync_says_names_the_tree(copy: Copy, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = subprocess.Popen

    def vanishing(argv: list[str], **more: object) -> object:
        return start([*argv[:-2], f"{argv[-2]}missing", argv[-1]] if argv[0] == "rsync" else argv, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(file_copy.subprocess, "Popen", vanishing)
    with pytest.raises(MigrationError, match=f'"{source}/missing" failed'):
        copy()


def test_a_missing_source_is_named_and_nothing_is_deleted(copy: Copy, source: Path, target: Path) -> None:
    copy()
    source.rename(source.with_name("aside"))
    with pytest.raises(MigrationError, match="tree is missing") as refused:
        copy()
    assert refused.value.check == "file-tree"
    assert (target / "big").exists()


def test_another_file_system_inside_a_tree_is_refused(copy: Copy, source: Path) -> None:
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", source / "empty"], check=False, capture_output=True).returncode:
        pytest.skip("this machine does not let us mount")
    try:
        with pytest.raises(MigrationError) as refused:
            copy()
    finally:
        subprocess.run(["umount", source / "empty"], check=True)
    assert refused.value.check == "file-system-boundary"


def touch_owner(root: Path) -> None:
    os.chown(root / "zero", 1, NAMELESS)


def touch_group(root: Path) -> None:
    os.chown(root / "zero", NAMELESS, 1)


def touch_acl(root: Path) -> None:
    subprocess.run(["setfacl", "-x", "u:daemon", root / "one" / "linked"], check=True)


def touch_link(root: Path) -> None:
    seen = (root / "to nowhere").lstat()
    (root / "to nowhere").unlink()
    (root / "to nowhere").symlink_to("nowhere at ALL")
    os.chown(root / "to nowhere", 1, 2, follow_symlinks=False)
    os.utime(root / "to nowhere", ns=(1, seen.st_mtime_ns), follow_symlinks=False)


def touch_hard_link(root: Path) -> None:
    path = root / "two" / "linked too"
    shutil.copy2(path, root / "two" / "copy")
    (root / "two" / "copy").rename(path)


MUTATIONS: dict[str, Callable[[Path], object]] = {
    "content": lambda root: change_content_keep_time(root / "big"),
    "mode": lambda root: (root / "zero").chmod(0o777),
    "owner": touch_owner,
    "group": touch_group,
    "mtime": lambda root: os.utime(root / "zero", ns=(1, 1)),
    "link target": touch_link,
    "hard link": touch_hard_link,
    "xattr": lambda root: os.setxattr(root / "zero", "user.comment", b"other"),
    "acl": touch_acl,
    "missing": lambda root: (root / "new\nline").unlink(),
    "extra": lambda root: (root / "surplus").touch(),
    "type": lambda root: ((root / "secret").unlink(), os.mkfifo(root / "secret")),
}


@pytest.mark.parametrize("kind", MUTATIONS)
def test_every_kind_of_difference_is_found_and_named(copy: Copy, source: Path, target: Path, kind: str) -> None:
    copy(final=True)
    MUTATIONS[kind](target)
    found = file_verification.compare([{"name": "output", "source": source, "target": target}])
    assert kind in {difference["kind"] for difference in found.differences}
    assert found.differences_total == len(found.differences)


def test_structure_looks_at_rights_not_at_data(copy: Copy, source: Path, target: Path) -> None:
    copy(final=True)
    trees = [{"name": "output", "source": source, "target": target}]
    (target / "written after the opening").write_text("new")
    (target / "zero").unlink()
    (target / "-rf").write_text("changed by a user")
    assert file_verification.compare(trees, scope="structure").differences == []
    (target / "big").chmod(0o644)
    os.chown(target, 1, 1)
    found = file_verification.compare(trees, scope="structure")
    assert {(one["kind"], one["object"]) for one in found.differences} == {
        ("mode", "file output:big"),
        ("owner", "file output:."),
        ("group", "file output:."),
    }


@pytest.fixture(params=["push"])
def channel(request: pytest.FixtureRequest, tmp_path: Path, source: Path, target: Path) -> Iterator[dict[str, object]]:
    """A real sshd on a loopback port with the two forced commands of the channel, this user instead of sudo."""
    daemon = shutil.which("sshd", path="/usr/sbin:/usr/bin")
    if daemon is None or shutil.which("rrsync") is None:
        pytest.skip("OpenSSH's server and rrsync are not installed here")
    Path("/run/sshd").mkdir(exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    keys = tmp_path / "keys"
    keys.mkdir(mode=0o700)
    for name in ("host", "files", "manifest"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", keys / name], check=True)
    core = Path(file_manifest.__file__).parent.parent
    manifest = keys / "manifest-command"
    manifest.write_text(f'#!/bin/sh\nPYTHONPATH={core} exec python3 -m ireporter manifest "$@"\n')
    manifest.chmod(0o755)
    far, may = (source, "-ro") if request.param == "pull" else (target, "-wo")
    lines = {"files": f"rrsync {may} {far.parent}", "manifest": f"{manifest} {far}"}
    (keys / "authorized").write_text(
        "".join(f'restrict,command="{command}" {(keys / f"{key}.pub").read_text()}' for key, command in lines.items())
    )
    (keys / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {keys}/host\nAuthorizedKeysFile {keys}/authorized\nStrictModes no\n"
        "PidFile none\nPermitRootLogin yes\nUsePAM no\n"
    )
    (keys / "known_hosts").write_text("the-far-side " + (keys / "host.pub").read_text())
    (keys / "ssh_config").write_text(
        f"Host files manifest\n HostName 127.0.0.1\n Port {port}\n User root\n IdentityFile {keys}/%n\n IdentitiesOnly yes\n"
        f" UserKnownHostsFile {keys}/known_hosts\n HostKeyAlias the-far-side\n BatchMode yes\n"
    )
    (keys / "channel.json").write_text(f'{{"root": "{far.parent}"}}')
    server = subprocess.Popen([daemon, "-D", "-e", "-f", keys / "sshd_config"], stderr=subprocess.DEVNULL)
    try:
        for _attempt in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None
            time.sleep(0.05)
        yield {"id": "test", "directory": str(keys)}
    finally:
        server.terminate()
        server.wait()


def test_a_hard_tree_goes_through_the_channel(
    copy: Copy, source: Path, target: Path, channel: dict[str, object]
) -> None:
    target.mkdir()
    result = copy(channel=channel, final=True)
    assert result["changed"]
    assert all_of(target) == all_of(source)
    change_content_keep_time(target / "big")
    result = copy(channel=channel, final=True)
    assert result["repaired"] == 1
    assert all_of(target) == all_of(source)
    again = copy(channel=channel, final=True)
    assert not again["changed"]
    assert not copy(channel=channel, check=True)["changed"]


def test_what_was_read_by_day_is_not_read_in_the_freeze_on_either_side_of_the_channel(
    copy: Copy, source: Path, target: Path, channel: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_known_contents, "_SETTLED_SECONDS", -1)
    target.mkdir()
    folder = tmp_path / "known-contents"
    copy(channel=channel, remember=True, known_contents=str(folder))
    place = folder / "output"
    remembered = place.read_bytes()
    assert copy(channel=channel, final=True, known_contents=str(folder))["repaired"] == 0

    # A side that is told something wrong of a file which is as it was says the wrong thing: so it did not read it.
    head, *known = [json.loads(line) for line in remembered.splitlines()]
    assert len(known) > 10
    for version_of in (2, 3):
        wrong = [[path, {"sha256": "wrong"}, *([0] * 4, [0] * 4)] for path, *_rest in known]
        for line, right in zip(wrong, known, strict=True):
            line[version_of] = right[version_of]
        place.write_text("".join(json.dumps(line) + "\n" for line in [head, *wrong]))
        assert len(differing(source, target, channel, folder)) >= len(known)
        # Unless it was started anew since: then it reads all.
        boots = [None if number == version_of - 2 else boot for number, boot in enumerate(head["boots"])]
        place.write_text("".join(json.dumps(line) + "\n" for line in [{"boots": boots}, *wrong]))
        assert differing(source, target, channel, folder) == set()

    # What was changed since, though it has its size and time, is read on the side where it changed, and mended.
    place.write_bytes(remembered)
    change_content_keep_time(source / "-rf")
    change_content_keep_time(target / "big")
    assert differing(source, target, channel, folder) == {"file output:-rf", "file output:big"}
    assert copy(channel=channel, final=True, known_contents=str(folder))["repaired"] == 2
    assert all_of(target) == all_of(source)


def test_what_a_power_cut_left_looking_as_it_was_is_read_and_mended(
    copy: Copy, source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New content under the old size, mtime and ctime, which neither rsync nor what is known can tell."""
    monkeypatch.setattr(file_known_contents, "_SETTLED_SECONDS", -1)
    copy(remember=True)
    change_content_keep_time(source / "big")
    place = file_known_contents.place_of(target)
    head, *known = [json.loads(line) for line in place.read_bytes().splitlines()]
    for line in known:
        if line[0] == "big":
            # Nobody can set a ctime back, so what is remembered is set forward.
            line[2][3] = (source / "big").stat().st_ctime_ns
    place.write_text("".join(json.dumps(line) + "\n" for line in [head, *known]))
    trees = [{"name": "output", "source": source, "target": target}]
    assert file_verification.compare(trees, contents=file_known_contents.KNOWN).differences_total == 0
    monkeypatch.setattr(file_known_contents, "boot_identity", lambda: "after the power cut")
    assert copy(final=True)["repaired"] == 1
    assert all_of(target) == all_of(source)


def differing(source: Path, target: Path, channel: dict[str, object], known: Path) -> set[object]:
    """What a comparison says that reads only what is not known."""
    trees = [{"name": "output", "source": source, "target": target}]
    found = file_verification.compare(trees, channel=channel, contents=file_known_contents.KNOWN, known_contents=known)
    return {one["object"] for one in found.differences}


@pytest.mark.parametrize("channel", ["pull"], indirect=True)
def test_a_hard_tree_comes_back_through_the_channel(
    copy: Copy, source: Path, target: Path, channel: dict[str, object]
) -> None:
    target.mkdir()
    (target / "the tenant's own").write_text("older")
    with pytest.raises(MigrationError, match="target-empty"):
        copy(channel=channel, direction="pull")
    copy(channel=channel, direction="pull", replace=True)
    change_content_keep_time(target / "big")
    for path in (target / "zero", target / "empty", target):
        seen = path.stat()
        os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns // 10**9 * 10**9))
    result = copy(channel=channel, direction="pull", replace=True, final=True)
    assert result["repaired"] == 4
    assert all_of(target) == all_of(source)
    assert not copy(channel=channel, direction="pull", replace=True, final=True)["changed"]


def test_the_files_key_reaches_nothing_else(
    copy: Copy, source: Path, channel: dict[str, object], tmp_path: Path
) -> None:
    tree = {"name": "output", "source": str(source), "target": str(tmp_path / "elsewhere")}
    with pytest.raises(MigrationError, match="all that the channel may reach"):
        file_copy.run({"file_trees": [tree], "channel": channel}, quiet)
    config = f"{channel['directory']}/ssh_config"
    for key in ("files", "manifest"):
        done = subprocess.run(
            ["ssh", "-F", config, key, "touch", str(tmp_path / "made")], capture_output=True, check=False
        )
        assert done.returncode != 0 or key == "manifest"
    assert not (tmp_path / "made").exists()


def test_a_manifest_that_breaks_off_is_no_verification(source: Path, target: Path, channel: dict[str, object]) -> None:
    # The target does not exist: the forced command fails before its first line.
    with pytest.raises(MigrationError) as refused:
        file_verification.compare([{"name": "output", "source": source, "target": target}], channel=channel)
    assert refused.value.check == "files-unverified"
