"""Trees copied from the real OpenSSH with a chrooted internal-sftp account, killed on either side, and from a server that lies."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ireporter import file_copy, sftp_partial
from ireporter.errors import MigrationError
from ireporter.sftp_entry import PARTIAL_PREFIX

from tests.integration.sftp_servers import ChrootedSftp, LyingSftp, can_be_chrooted

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not can_be_chrooted(), reason="only root can start an sshd that changes its root"),
]

MEGABYTE = 1 << 20
BIG_BYTES = 50 * MEGABYTE + 12345
# One block, give or take: what a killed copy may have read for nothing.
BLOCK = sftp_partial.BLOCK_BYTES


def quiet(_progress: dict[str, object]) -> None:
    """Nobody watches."""


@pytest.fixture(scope="module")
def running() -> Iterator[ChrootedSftp]:
    server = ChrootedSftp()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def server(running: ChrootedSftp) -> Iterator[ChrootedSftp]:
    if running.process is None:
        running.start()
    yield running
    shutil.rmtree(running.root / "tree", ignore_errors=True)


@pytest.fixture
def source(server: ChrootedSftp) -> Path:
    root = server.root / "tree"
    root.mkdir(mode=0o755)
    return root


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target" / "tree"


Copy = Callable[..., dict[str, object]]


def specification(server: ChrootedSftp | LyingSftp, target: Path, **more: object) -> dict[str, object]:
    tree = {"name": "output", "source": "/tree", "target": str(target)}
    return {"file_trees": [tree], "sftp": server.settings(), **more}


@pytest.fixture
def copy(server: ChrootedSftp, target: Path) -> Copy:
    def run(progress: Callable[[dict[str, object]], None] = quiet, **more: object) -> dict[str, object]:
        return file_copy.run(specification(server, target, **more), progress)

    return run


def what_sftp_tells(root: Path) -> dict[bytes, object]:
    """Path to all that SFTP can carry: type, mode, time in seconds, link target, content."""
    found: dict[bytes, object] = {}
    top = os.fsencode(root)
    for folder, folders, files in os.walk(top):
        for name in [b".", *folders, *files] if folder == top else [*folders, *files]:
            path = os.path.join(folder, name)
            seen = os.lstat(path)
            content: object = None
            if stat.S_ISLNK(seen.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(seen.st_mode):
                content = hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest()
            mode = None if stat.S_ISLNK(seen.st_mode) else stat.S_IMODE(seen.st_mode) & 0o1777
            found[os.path.relpath(path, top)] = (stat.S_IFMT(seen.st_mode), mode, int(seen.st_mtime), content)
    return found


def exact(root: Path) -> dict[Path, tuple[int, int]]:
    """Inode and time of the last change of anything, by path."""
    return {path: (path.lstat().st_ino, path.lstat().st_ctime_ns) for path in [root, *root.rglob("*")]}


def partials(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if os.fsencode(path.name).startswith(PARTIAL_PREFIX)]


def write_at(path: Path, offset: int, content: bytes) -> None:
    """Change bytes and leave the time as it was."""
    seen = path.stat()
    with path.open("r+b") as stream:
        stream.seek(offset)
        stream.write(content)
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


NAMES = [
    b"\xff\xfe not utf-8",
    b"new\nline",
    b"quote\"'`$(x);{{ y }}%",
    b"-rf",
    b"a" * 255,
    "が".encode(),
    b"\xe3\x81\x8b\xe3\x82\x99",  # the same letter, decomposed
    b"back\\slash #012",
    b"star*[q]?",
    b" leading and trailing ",
    b"\x93\xfa\x96\x7b.xls",  # Shift JIS
]


def make_hard_tree(root: Path) -> None:
    raw = os.fsencode(root)
    for number, name in enumerate(NAMES):
        Path(os.fsdecode(raw + b"/" + name)).write_bytes(b"content %d" % number)
        folder = Path(os.fsdecode(raw + b"/folders/" + name))
        folder.mkdir(parents=True)
        (folder / "in it").write_bytes(b"x")
    (root / "empty").mkdir(mode=0o1777)
    root.joinpath("deep", *["level"] * 40).mkdir(parents=True)
    (root / "zero").write_bytes(b"")
    (root / "one block").write_bytes(os.urandom(BLOCK))
    (root / "two blocks and a byte").write_bytes(os.urandom(2 * BLOCK + 1))
    (root / "only to read").mkdir()
    (root / "only to read" / "file").write_bytes(b"x")
    (root / "program").write_bytes(b"#!/bin/sh\n")
    os.chmod(root / "program", 0o6755)
    (root / "to nowhere").symlink_to("nowhere at all")
    Path(os.fsdecode(raw + b"/to bytes")).symlink_to(os.fsdecode(b"\xff/../\xfe"))
    (root / "to outside").symlink_to("/etc/passwd")
    (root / "to folder").symlink_to("folders")
    (root / "loop").symlink_to(".")
    for number, path in enumerate(sorted(root.rglob("*"))):
        os.utime(path, ns=(1, 1_700_000_000_123_456_789 + number * 10**9), follow_symlinks=False)
    os.chmod(root / "only to read", 0o555)
    os.utime(root, ns=(1, 1_600_000_000_000_000_001))


def test_a_hard_tree_arrives_and_a_second_pass_changes_nothing(copy: Copy, source: Path, target: Path) -> None:
    make_hard_tree(source)
    first = copy()
    assert first["changed"]
    assert what_sftp_tells(target) == what_sftp_tells(source)
    assert first["files"] == sum(stat.S_ISREG(path.lstat().st_mode) for path in source.rglob("*"))
    assert (
        first["bytes"]
        == first["bytes_sent"]
        == sum(path.lstat().st_size for path in source.rglob("*") if stat.S_ISREG(path.lstat().st_mode))
    )
    assert first["resumed"] == 0
    assert partials(target) == []
    assert stat.S_IMODE((target / "program").stat().st_mode) == 0o755  # setuid root is nobody's gift
    before = exact(target)
    second = copy()
    assert (second["changed"], second["items"], second["bytes_sent"]) == (False, {}, 0)
    final = copy(final=True)
    assert (final["changed"], final["repaired"], final["files_verified"]) == (False, 0, first["files"])
    assert final["bytes_verified"] == final["bytes_sent"] == first["bytes"]
    assert exact(target) == before


def test_what_sftp_cannot_prove_is_listed(copy: Copy, source: Path) -> None:
    (source / "one").write_bytes(b"x")
    os.link(source / "one", source / "two")
    first, final = copy(), copy(final=True)
    said = "\n".join(first["not_proven"])  # type: ignore[arg-type]
    for word in ("owners", "access control lists", "extended attributes", "second", "hard links", "holes", "setuid"):
        assert word in said
    assert set(final["not_proven"]) < set(first["not_proven"])  # type: ignore[call-overload]


def test_check_mode_is_truthful_from_the_first_run_on(copy: Copy, source: Path, target: Path) -> None:
    make_hard_tree(source)
    foretold = copy(check=True)
    assert foretold["changed"]
    assert list(target.parent.iterdir()) == []
    done = copy()
    # All that was foretold was done; folders also got their times.
    for kind in ("copied", "links"):
        assert foretold["items"][kind] == done["items"][kind]  # type: ignore[index]
    assert not copy(check=True)["changed"]
    (target / "zero").chmod(0o600)
    (target / "extra").touch()
    before = exact(target)
    assert copy(check=True)["items"] == {"attributes": 2, "deleted": 1}
    assert exact(target) == before


def test_what_changed_or_went_meanwhile_follows(copy: Copy, source: Path, target: Path, tmp_path: Path) -> None:
    make_hard_tree(source)
    copy()
    shutil.rmtree(source / "deep")
    (source / "new").write_text("new")
    (source / "to folder").unlink()
    (source / "to folder").mkdir()
    (source / "zero").unlink()
    (source / "zero").symlink_to("program")
    (source / "to nowhere").unlink()
    (source / "to nowhere").write_text("somewhere")
    shutil.rmtree(source / "empty")
    (source / "empty").write_text("a file now")
    (source / "program").chmod(0o700)
    (source / "program").chmod(0o744)
    (target / "folders" / "surplus").mkdir()
    (target / "folders" / "surplus" / "file").touch()
    result = copy(final=True)
    assert result["changed"]
    assert what_sftp_tells(target) == what_sftp_tells(source)
    assert not copy(final=True)["changed"]


def test_same_size_and_time_but_other_content_is_found_by_the_final_pass(
    copy: Copy, source: Path, target: Path
) -> None:
    (source / "small").write_bytes(b"content")
    (source / "large").write_bytes(os.urandom(3 * BLOCK))
    copy()
    write_at(target / "small", 3, b"X")
    write_at(source / "large", 2 * BLOCK, b"changed")
    assert not copy()["changed"]
    result = copy(final=True)
    assert (result["changed"], result["repaired"]) == (True, 2)
    assert what_sftp_tells(target) == what_sftp_tells(source)


def test_nothing_is_written_through_a_link_of_the_target(
    copy: Copy, source: Path, target: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("precious")
    (source / "folder").mkdir()
    (source / "folder" / "precious").write_text("from the source")
    (source / "file").write_text("from the source")
    copy()
    shutil.rmtree(target / "folder")
    (target / "file").unlink()
    (target / "folder").symlink_to(elsewhere)
    (target / "file").symlink_to(elsewhere / "precious")
    # Where a half-copied file would be opened.
    (target / os.fsdecode(sftp_partial.partial_name(b"file"))).symlink_to(elsewhere / "precious")
    copy()
    assert (elsewhere / "precious").read_text() == "precious"
    assert [path.name for path in elsewhere.iterdir()] == ["precious"]
    assert what_sftp_tells(target) == what_sftp_tells(source)


def test_owners_come_from_the_folder_or_the_file_that_is_replaced(copy: Copy, source: Path, target: Path) -> None:
    (source / "old").write_text("1")
    copy()
    os.chown(target, 1234, 1235)
    os.chown(target / "old", 1236, 1237)
    (source / "old").write_text("22")
    (source / "new").write_text("3")
    (source / "folder").mkdir()
    copy()
    owners = {path.name: (path.stat().st_uid, path.stat().st_gid) for path in target.iterdir()}
    assert owners == {"old": (1236, 1237), "new": (1234, 1235), "folder": (1234, 1235)}


def test_what_is_no_file_folder_or_link_is_refused_by_name(copy: Copy, source: Path, target: Path) -> None:
    (source / "fine").write_text("fine")
    os.mkfifo(source / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(source / "socket"))
    (source / "secret").write_text("secret")
    (source / "secret").chmod(0o600)
    (source / "closed").mkdir(mode=0o700)
    wanted = {"pipe": "fifo", "socket": "socket", "secret": "let the account", "closed": "let the account"}
    try:
        os.mknod(source / "device", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        wanted["device"] = "character device"
    except PermissionError:
        pass  # not in every container
    target.mkdir()
    for check in (True, False):
        with pytest.raises(MigrationError) as refused:
            copy(check=check)
        assert refused.value.check == "files-refused"
        named = {one["path"]: one["reason"] for one in getattr(refused.value, "figures")["refused"]}  # noqa: B009
        if check:
            # It opens no file, so it cannot know whether it may.
            assert named.keys() == wanted.keys() - {"secret"}
        else:
            assert named.keys() == wanted.keys()
            assert all(word in named[name] for name, word in wanted.items())
            assert all(name in str(refused.value) for name in named)
    assert (target / "fine").read_text() == "fine"
    assert sorted(path.name for path in target.iterdir()) == ["closed", "fine"]


def test_a_folder_that_cannot_be_listed_loses_nothing_here(copy: Copy, source: Path, target: Path) -> None:
    (source / "folder").mkdir()
    (source / "folder" / "file").write_text("x")
    copy()
    (source / "folder").chmod(0o700)
    with pytest.raises(MigrationError, match="files-refused"):
        copy()
    assert (target / "folder" / "file").read_text() == "x"


def test_the_licence_stays_where_it_is(server: ChrootedSftp, source: Path, target: Path) -> None:
    for root, text in ((source, "licence of the source"), (target, "licence of the target")):
        (root / "xml").mkdir(parents=True)
        (root / "xml" / "License.xml").write_text(text)
    (source / "xml" / "Other.xml").write_text("other")
    spec = specification(server, target, final=True)
    spec["file_trees"][0]["licence_file"] = "xml/License.xml"  # type: ignore[index]
    result = file_copy.run(spec, quiet)
    assert (target / "xml" / "License.xml").read_text() == "licence of the target"
    assert (target / "xml" / "Other.xml").read_text() == "other"
    assert [one["object"] for one in result["expected_differences"]] == ["file output:xml/License.xml"]  # type: ignore[attr-defined]
    shutil.rmtree(source / "xml")
    file_copy.run(spec, quiet)
    assert [path.name for path in target.rglob("*")] == ["xml", "License.xml"]
    assert not file_copy.run(spec, quiet)["changed"]


def test_foreign_data_is_not_deleted(copy: Copy, source: Path, target: Path) -> None:
    target.mkdir()
    (target / "somebody's").write_text("precious")
    with pytest.raises(MigrationError, match="target-empty"):
        copy()
    assert (target / "somebody's").read_text() == "precious"
    copy(replace=True)
    assert list(target.iterdir()) == []


def test_three_thousand_small_files(copy: Copy, source: Path, target: Path) -> None:
    for number in range(3000):
        folder = source / f"day {number // 500}"
        folder.mkdir(exist_ok=True)
        (folder / f"報告書 {number}.pdf").write_bytes(b"%PDF " + str(number).encode() * (number % 700))
    first = copy()
    assert (first["files"], first["items"]["copied"]) == (3000, 3000)  # type: ignore[index]
    assert what_sftp_tells(target) == what_sftp_tells(source)
    before = exact(target)
    second = copy()
    assert (second["changed"], second["bytes_sent"], second["files"]) == (False, 0, 3000)
    assert exact(target) == before


# Runs a copy in a process of its own, which kills itself when it has read as much as it is told.
KILLED = """
import json, os, signal, sys
from ireporter import file_copy
spec, limit = json.load(sys.stdin)
def progress(now):
    if now["bytes"] >= limit:
        os.kill(os.getpid(), signal.SIGKILL)
file_copy.run(spec, progress)
"""


def copy_until_killed(server: ChrootedSftp, target: Path, limit: int) -> None:
    core = str(Path(file_copy.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", KILLED],
        input=json.dumps([specification(server, target), limit]).encode(),
        env={**os.environ, "PYTHONPATH": os.pathsep.join([core, os.environ.get("PYTHONPATH", "")])},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert not (target / "big").exists()
    assert len(partials(target)) == 2


@pytest.fixture
def big(source: Path) -> Path:
    path = source / "big"
    path.write_bytes(os.urandom(BIG_BYTES))
    return path


def test_a_killed_copy_is_resumed_where_it_ended(
    server: ChrootedSftp, copy: Copy, big: Path, source: Path, target: Path
) -> None:
    copy_until_killed(server, target, 30 * MEGABYTE)
    assert copy(check=True)["changed"]
    result = copy()
    assert result["resumed"] == 1
    assert result["bytes_resumed"] >= 30 * MEGABYTE - 2 * BLOCK  # type: ignore[operator]
    # What was missing, and one block once more as proof.
    assert result["bytes_sent"] == BIG_BYTES - result["bytes_resumed"] + BLOCK  # type: ignore[operator]
    assert what_sftp_tells(target) == what_sftp_tells(source)
    assert partials(target) == []
    assert not copy(final=True)["changed"]


def test_what_is_resumed_in_a_final_pass_is_read_from_the_source_again(
    server: ChrootedSftp, copy: Copy, big: Path, source: Path, target: Path
) -> None:
    copy_until_killed(server, target, 30 * MEGABYTE)
    write_at(big, 0, b"changed, and the time put back")
    result = copy(final=True)
    assert result["resumed"] == 0
    assert what_sftp_tells(target) == what_sftp_tells(source)


def test_nothing_is_resumed_when_the_source_has_changed(
    server: ChrootedSftp, copy: Copy, big: Path, source: Path, target: Path
) -> None:
    copy_until_killed(server, target, 30 * MEGABYTE)
    write_at(big, 0, b"changed")
    os.utime(big, ns=(1, 1_700_000_000 * 10**9))
    result = copy()
    assert (result["resumed"], result["bytes_sent"]) == (0, BIG_BYTES)
    assert what_sftp_tells(target) == what_sftp_tells(source)


def test_a_tail_that_is_not_the_sources_any_more_is_not_resumed(
    server: ChrootedSftp, copy: Copy, big: Path, source: Path, target: Path
) -> None:
    copy_until_killed(server, target, 30 * MEGABYTE)
    (content,) = (path for path in partials(target) if not path.name.endswith(".journal"))
    whole_blocks = content.stat().st_size // BLOCK
    write_at(big, whole_blocks * BLOCK - 1, b"!!")
    result = copy()
    assert result["resumed"] == 0
    assert what_sftp_tells(target) == what_sftp_tells(source)


def test_blocks_that_the_disk_lost_are_copied_again(
    server: ChrootedSftp, copy: Copy, big: Path, source: Path, target: Path
) -> None:
    copy_until_killed(server, target, 30 * MEGABYTE)
    (content,) = (path for path in partials(target) if not path.name.endswith(".journal"))
    write_at(content, 3 * BLOCK + 5, b"lost")
    result = copy()
    assert (result["resumed"], result["bytes_resumed"]) == (1, 3 * BLOCK)
    assert what_sftp_tells(target) == what_sftp_tells(source)


def test_a_server_that_dies_is_one_sentence_and_the_next_copy_resumes(
    server: ChrootedSftp, copy: Copy, big: Path, source: Path, target: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for number in range(50):
        (source / f"small {number}").write_bytes(os.urandom(1000))

    def kill(now: dict[str, object]) -> None:
        if int(str(now["bytes"])) >= 20 * MEGABYTE:
            server.kill()

    with pytest.raises(MigrationError) as lost:
        copy(kill)
    assert lost.value.check == "sftp-connection"
    assert "resumes" in lost.value.action
    assert str(lost.value).count("\n") == 0
    assert not (target / "big").exists()
    assert capfd.readouterr().err == ""
    with pytest.raises(MigrationError, match="No SSH connection"):
        copy()
    server.start()
    result = copy()
    assert (result["changed"], result["resumed"]) == (True, 1)
    assert what_sftp_tells(target) == what_sftp_tells(source)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk"
    path.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", path], check=False, capture_output=True
    ).returncode:
        pytest.skip("this machine does not let us mount")
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


def test_a_full_disk_is_one_sentence_and_nothing_incomplete_has_its_name(
    server: ChrootedSftp, big: Path, source: Path, small_disk: Path
) -> None:
    for number in range(20):
        (source / f"small {number:02}").write_bytes(os.urandom(500_000))
    target = small_disk / "tree"
    spec = specification(server, target)
    with pytest.raises(MigrationError) as full:
        file_copy.run(spec, quiet)
    assert full.value.check == "target-disk"
    assert str(target) in full.value.happened
    for path in set(target.iterdir()) - set(partials(target)):
        assert path.read_bytes() == (source / path.name).read_bytes()
    assert not (target / "big").exists()
    subprocess.run(["mount", "-o", "remount,size=100m", small_disk], check=True)
    assert file_copy.run(spec, quiet)["resumed"] == 1
    assert what_sftp_tells(target) == what_sftp_tells(source)


def test_another_file_system_inside_the_target_is_refused(copy: Copy, source: Path, target: Path) -> None:
    (target / "mounted").mkdir(parents=True)
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", target / "mounted"], check=False).returncode:
        pytest.skip("this machine does not let us mount")
    try:
        with pytest.raises(MigrationError, match="file-system-boundary"):
            copy()
    finally:
        subprocess.run(["umount", target / "mounted"], check=True)


def test_two_copies_do_not_write_to_one_tree(copy: Copy, big: Path, target: Path) -> None:
    told = []

    def second(_now: dict[str, object]) -> None:
        if not told:
            told.append(True)
            with pytest.raises(MigrationError, match="Another copy writes"):
                copy()
            told.append(True)

    copy(second)
    assert told == [True, True]


def test_a_server_without_a_known_key_is_not_talked_to(
    server: ChrootedSftp, source: Path, target: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    known = tmp_path / "known_hosts"
    for line, said in (
        ("", "has no key of"),
        (f"[127.0.0.1]:{server.port} {other.with_suffix('.pub').read_text()}", "another host key"),
    ):
        known.write_text(line)
        spec = specification(server, target)
        spec["sftp"] = server.settings(known_hosts_file=str(known))
        with pytest.raises(MigrationError, match=said) as refused:
            file_copy.run(spec, quiet)
        assert refused.value.check == "sftp-host-key"
    known.write_text(server.known_hosts.read_text())
    spec["sftp"] = server.settings(key_file=str(other))
    with pytest.raises(MigrationError, match="does not let nobody in") as refused:
        file_copy.run(spec, quiet)
    assert refused.value.check == "sftp-login"
    assert not target.exists()


def test_a_chroot_that_is_the_tree(server: ChrootedSftp, source: Path, target: Path) -> None:
    (source / "file").write_text("x")
    spec = specification(server, target)
    spec["file_trees"][0]["source"] = "/"  # type: ignore[index]
    file_copy.run(spec, quiet)
    assert (target / "tree" / "file").read_text() == "x"


def test_a_tree_that_is_not_there_is_said(server: ChrootedSftp, target: Path) -> None:
    with pytest.raises(MigrationError, match="no file tree '/tree'"):
        file_copy.run(specification(server, target), quiet)


def run_module(*options: str, arguments: dict[str, object]) -> tuple[int, dict[str, object], str]:
    """Exit status, result and everything that ``ansible`` said."""
    root = Path(__file__).parents[2]
    ansible = Path(sys.executable).with_name("ansible")
    interpreter = f"ansible_python_interpreter={sys.executable}"
    done = subprocess.run(
        [
            ansible,
            "localhost",
            "-i",
            "localhost,",
            "-c",
            "local",
            "-e",
            interpreter,
            "-vvv",
            "-m",
            "ireporter_files",
            *options,
            "-a",
            json.dumps(arguments),
        ],
        cwd=root,
        env={**os.environ, "ANSIBLE_CALLBACK_RESULT_FORMAT": "json", "ANSIBLE_NOCOLOR": "1"},
        check=False,
        capture_output=True,
        text=True,
    )
    said = done.stdout + done.stderr
    return done.returncode, json.loads(done.stdout[done.stdout.index("=> {") + 3 : done.stdout.rindex("}") + 1]), said


@pytest.mark.skipif(not Path(sys.executable).with_name("ansible").exists(), reason="Ansible is not installed here")
def test_the_module_says_what_the_core_does(server: ChrootedSftp, source: Path, target: Path) -> None:
    make_hard_tree(source)
    arguments = {name: value for name, value in specification(server, target).items() if name != "check"}
    status, foretold, _said = run_module("--check", arguments=arguments)
    assert (status, foretold["changed"], target.exists()) == (0, True, False)
    status, first, said = run_module(arguments={**arguments, "final": True})
    assert (status, first["changed"]) == (0, True)
    assert {"not_proven", "files", "bytes", "seconds", "resumed", "files_verified"} <= first.keys()
    assert what_sftp_tells(target) == what_sftp_tells(source)
    secret = server.key.read_text().splitlines()[1]
    assert secret not in said
    status, second, _said = run_module(arguments=arguments)
    assert (status, second["changed"], second["items"]) == (0, False, {})
    server.kill()
    status, failed, said = run_module(arguments=arguments)
    assert status != 0
    assert failed["check"] == "sftp-connection"
    assert "Traceback" not in said
    absent = {**arguments, "sftp": server.settings(key_file=str(target / "no such key"))}
    status, foretold, said = run_module("--check", arguments=absent)
    assert (status, foretold["changed"]) == (0, True)
    assert "is assumed" in said


HOSTILE = [b"../above", b"/etc/cron.d/evil", b"a/b", b"", b"nul\0byte", b"sub/../../above"]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("kind", [stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK])
@pytest.mark.parametrize("check", [False, True])
def test_names_of_a_hostile_server_are_refused(
    tmp_path: Path, target: Path, name: bytes, kind: int, check: bool
) -> None:
    server = LyingSftp(tmp_path, [b".", b"..", name], kind)
    try:
        with pytest.raises(MigrationError) as refused:
            file_copy.run(specification(server, target, check=check), quiet)
    finally:
        server.close()
    assert refused.value.check == "sftp-name"
    assert {path.name for path in tmp_path.rglob("*")} <= {
        "key", "key.pub", "known_hosts", "target", "tree", ".tree.ireporter-migration"
    }  # fmt: skip


def test_a_name_listed_twice_is_refused_and_the_folders_themselves_are_no_names(tmp_path: Path, target: Path) -> None:
    server = LyingSftp(tmp_path, [b".", b"..", b"..", b"same", b"same"])
    try:
        with pytest.raises(MigrationError, match="twice"):
            file_copy.run(specification(server, target), quiet)
        server.names = [b".", b"..", b"..", b"same"]
        file_copy.run(specification(server, target), quiet)
    finally:
        server.close()
    assert (target / "same").read_bytes() == LyingSftp.CONTENT


def test_a_name_no_file_here_can_have_is_refused_and_all_else_copied(tmp_path: Path, target: Path) -> None:
    too_long, ours = "長".encode() * 100, PARTIAL_PREFIX + b"x"
    server = LyingSftp(tmp_path, [b"fine", too_long, ours])
    try:
        with pytest.raises(MigrationError, match="files-refused") as refused:
            file_copy.run(specification(server, target), quiet)
    finally:
        server.close()
    named = {one["path"].encode() for one in getattr(refused.value, "figures")["refused"]}  # noqa: B009
    assert named == {too_long, ours}
    assert [path.name for path in target.iterdir()] == ["fine"]
