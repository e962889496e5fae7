"""Copying from a source in memory: what is resumed, refused, deleted and kept, without a network."""

from __future__ import annotations

import os
import stat
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ireporter import file_copy, sftp_copy, sftp_partial, sftp_source
from ireporter.errors import MigrationError
from ireporter.file_trees import FileTree, parse_trees
from ireporter.sftp_entry import PARTIAL_PREFIX, Entry, Refused, Vanished, check_name, kind_of
from ireporter.sftp_target import TargetTree, partial_name, writing

NOW = 1_700_000_000
BLOCK = 1000


class MemoryFile:
    """An open file of :class:`Memory`."""

    def __init__(self, source: Memory, path: bytes) -> None:
        self.source = source
        self.path = path

    def version(self) -> tuple[int, int | None]:
        content = self.source.files[self.path]
        return len(content), self.source.times.get(self.path, NOW)

    def read(self, offset: int, length: int) -> bytes:
        self.source.reads.append((self.path, offset, length))
        self.source.before_read(self.path, offset)
        return self.source.files[self.path][offset : offset + length]

    def close(self) -> None:
        self.source.closed += 1


class Memory:
    """A source that is a dictionary; folders are what the paths say. Hooks stand for what others do meanwhile."""

    def __init__(self, files: dict[bytes, bytes]) -> None:
        self.files = files
        self.times: dict[bytes, int | None] = {}
        self.extra: dict[bytes, list[Entry]] = {}
        self.reads: list[tuple[bytes, int, int]] = []
        self.closed = 0
        self.before_read: Callable[[bytes, int], None] = lambda _path, _offset: None
        self.after_list: Callable[[bytes], None] = lambda _path: None

    def list(self, path: bytes) -> Iterator[Entry]:
        inside = path.rstrip(b"/") + b"/"
        names = dict.fromkeys(one[len(inside) :].split(b"/")[0] for one in self.files if one.startswith(inside))
        for name in [b".", b"..", *names]:
            content = self.files.get(inside + name)
            if content is None:
                yield Entry(name, "directory", 0o755, 4096, NOW)
            else:
                yield Entry(name, "file", 0o640, len(content), self.times.get(inside + name, NOW))
        yield from self.extra.get(path, [])
        self.after_list(path)

    def look(self, path: bytes) -> Entry:
        return Entry(b"", "directory", 0o755, 4096, NOW)

    def link_target(self, path: bytes) -> bytes:
        raise Vanished

    def open(self, path: bytes) -> MemoryFile:
        if path not in self.files:
            raise Vanished
        return MemoryFile(self, path)

    def close(self) -> None:
        """Nothing to give back."""


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sftp_partial, "BLOCK_BYTES", BLOCK)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "tree"
    path.mkdir()
    return path


Copy = Callable[..., dict[str, object]]


@pytest.fixture
def copy(target: Path) -> Copy:
    def run(source: Memory, *, final: bool = False, check: bool = False, channels: int = 1) -> dict[str, object]:
        return sftp_copy.copy_trees(
            [FileTree("output", Path("/tree"), target, None)],
            lambda: source,
            channels=channels,
            final=final,
            check=check,
            progress=lambda _now: None,
            hang_up=lambda: None,
        )

    return run


def content(blocks: int) -> bytes:
    return os.urandom(blocks * BLOCK - BLOCK // 2)


def leave_half_copied(source: Memory, copy: Copy, path: bytes, blocks: int) -> None:
    """Like a copy that lost its connection after so many blocks."""

    def lose(at: bytes, offset: int) -> None:
        if at == path and offset >= blocks * BLOCK:
            raise MigrationError("lost", check="sftp-connection", action="Run again")

    source.before_read = lose
    with pytest.raises(MigrationError, match="lost"):
        copy(source)
    source.before_read = lambda _path, _offset: None
    source.reads.clear()


def files_in(folder: Path) -> dict[bytes, bytes]:
    return {os.fsencode(path.name): path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("name", [b"", b"a/b", b"/", b"../x", b"a\0b", b"/etc/passwd"])
def test_names_that_would_leave_their_folder_are_a_hostile_server(name: bytes) -> None:
    with pytest.raises(MigrationError, match="sftp-name") as refused:
        check_name(name, b"folder")
    assert "\0" not in str(refused.value)


@pytest.mark.parametrize("name", [b"a" * 256, PARTIAL_PREFIX, PARTIAL_PREFIX + b"x"])
def test_honest_names_that_cannot_be_here_are_refused_alone(name: bytes) -> None:
    with pytest.raises(Refused):
        check_name(name, b"folder")


@given(st.binary(min_size=1, max_size=255).filter(lambda name: not set(name) & {0, 0x2F}))
def test_every_other_name_is_good_and_has_a_short_name_while_half_copied(name: bytes) -> None:
    if not name.startswith(PARTIAL_PREFIX):
        check_name(name, b"")
    partial = partial_name(name)
    assert partial.startswith(PARTIAL_PREFIX)
    assert len(partial + sftp_partial.JOURNAL_SUFFIX) <= 255
    assert b"/" not in partial


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        (stat.S_IFREG | 0o644, "file"),
        (stat.S_IFDIR, "directory"),
        (stat.S_IFLNK | 0o777, "link"),
        (stat.S_IFIFO, "fifo"),
        (stat.S_IFSOCK, "socket"),
        (stat.S_IFBLK, "block device"),
        (0o644, "unknown"),
        (None, "unknown"),
    ],
)
def test_kinds(mode: int | None, kind: str) -> None:
    assert kind_of(mode) == kind


def test_rights_that_depend_on_the_owner_are_not_given() -> None:
    assert Entry(b"x", "file", 0o7755, 1, 1).permissions() == 0o755
    assert Entry(b"x", "directory", 0o7755, 1, 1).permissions() == 0o1755
    assert Entry(b"x", "file", None, 1, 1).permissions() is None


def test_a_half_copied_file_is_resumed_after_its_last_block_was_read_again(copy: Copy, target: Path) -> None:
    source = Memory({b"/tree/big": content(10), b"/tree/small": b"x"})
    leave_half_copied(source, copy, b"/tree/big", 6)
    assert b"big" not in files_in(target)
    result = copy(source)
    assert (result["resumed"], result["bytes_resumed"]) == (1, 6 * BLOCK)
    assert [offset for path, offset, _length in source.reads if path == b"/tree/big"] == [
        number * BLOCK for number in (5, 6, 7, 8, 9)
    ]
    assert files_in(target) == {b"big": source.files[b"/tree/big"], b"small": b"x"}
    assert result["bytes"] == len(source.files[b"/tree/big"]) + 1
    assert not copy(source)["changed"]


def test_a_final_pass_reads_every_resumed_block_again(copy: Copy, target: Path) -> None:
    source = Memory({b"/tree/big": content(10)})
    leave_half_copied(source, copy, b"/tree/big", 6)
    old = source.files[b"/tree/big"]
    source.files[b"/tree/big"] = old[: 2 * BLOCK] + b"changed" + old[2 * BLOCK + 7 :]
    result = copy(source, final=True)
    assert (result["resumed"], result["files_verified"]) == (0, 1)
    assert files_in(target) == {b"big": source.files[b"/tree/big"]}


@pytest.mark.parametrize("what", ["size", "time", "no time", "tail", "journal", "no journal"])
def test_what_is_not_proven_is_not_resumed(copy: Copy, target: Path, what: str) -> None:
    path = b"/tree/big"
    source = Memory({path: content(10)})
    if what == "no time":
        source.times[path] = None
    leave_half_copied(source, copy, path, 6)
    journal = target / os.fsdecode(partial_name(b"big") + sftp_partial.JOURNAL_SUFFIX)
    if what == "size":
        source.files[path] += b"more"
    elif what == "time":
        source.times[path] = NOW + 1
    elif what == "tail":
        source.files[path] = source.files[path][: 5 * BLOCK] + content(5)
    elif what == "journal":
        journal.write_bytes(b"\xff\n" * 20)
    elif what == "no journal":
        journal.unlink()
    assert copy(source)["resumed"] == 0
    assert files_in(target) == {b"big": source.files[path]}


def test_only_as_much_is_resumed_as_the_disk_still_has(copy: Copy, target: Path) -> None:
    source = Memory({b"/tree/big": content(10)})
    leave_half_copied(source, copy, b"/tree/big", 6)
    partial = target / os.fsdecode(partial_name(b"big"))
    os.truncate(partial, 3 * BLOCK + 10)
    assert copy(source)["bytes_resumed"] == 3 * BLOCK
    assert files_in(target) == {b"big": source.files[b"/tree/big"]}


def test_a_disk_that_does_not_give_back_what_was_written_is_found(
    copy: Copy, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (target / "big").write_bytes(b"older")

    def lose(descriptor: int) -> None:
        os.pwrite(descriptor, b"?", 2 * BLOCK)

    monkeypatch.setattr(sftp_partial.os, "fsync", lose)
    with pytest.raises(MigrationError, match="is not what was written there") as found:
        copy(Memory({b"/tree/big": content(4)}))
    assert found.value.check == "files-copy"
    assert files_in(target) == {b"big": b"older"}


@pytest.mark.parametrize("how", ["grows", "shrinks", "is touched", "goes"])
def test_what_changes_while_it_is_read_is_not_copied_half(copy: Copy, target: Path, how: str) -> None:
    path = b"/tree/big"
    (target / "big").write_bytes(b"older")
    source = Memory({path: content(4), b"/tree/other": b"x"})

    def change(at: bytes, offset: int) -> None:
        if at == path and offset == 2 * BLOCK:
            if how == "grows":
                source.files[path] += b"more"
            elif how == "shrinks":
                source.files[path] = source.files[path][: 2 * BLOCK + 1]
            else:
                source.times[path] = NOW + 5

    if how == "goes":
        source.extra[b"/tree"] = [Entry(b"gone", "file", 0o644, 3, NOW)]
    else:
        source.before_read = change
    result = copy(source)
    assert result["files_changed_meanwhile"] == 1
    assert files_in(target)[b"big"] == (source.files[path] if how == "goes" else b"older")
    assert files_in(target).keys() == {b"big", b"other"}
    source.before_read = lambda _path, _offset: None
    if how == "goes":
        with pytest.raises(MigrationError, match="files-differ"):
            copy(source, final=True)
    else:
        copy(source, final=True)
        assert files_in(target)[b"big"] == source.files[path]


def test_a_source_that_goes_on_changing_is_no_final_copy(copy: Copy) -> None:
    source = Memory({b"/tree/one": b"1"})
    listed = []

    def add(_path: bytes) -> None:
        listed.append(1)
        source.files[b"/tree/new %d" % len(listed)] = b"new"

    source.after_list = add
    with pytest.raises(MigrationError, match="not what was copied a moment ago") as found:
        copy(source, final=True)
    assert found.value.check == "files-differ"


def test_a_listing_that_breaks_off_deletes_nothing(copy: Copy, target: Path) -> None:
    (target / "not listed yet").write_text("precious")
    source = Memory({b"/tree/one": b"1"})
    for trouble in (MigrationError("lost", check="sftp-connection", action="x"), Refused("Failure")):

        def fail(_path: bytes, trouble: Exception = trouble) -> None:
            raise trouble

        source.after_list = fail
        with pytest.raises(MigrationError, match=r"lost|Failure"):
            copy(source)
        assert (target / "not listed yet").read_text() == "precious"
    source.after_list = lambda _path: None
    assert copy(source)["items"]["deleted"] == 1  # type: ignore[index]


def test_the_first_error_ends_the_copy_and_every_file_is_closed(copy: Copy, target: Path) -> None:
    source = Memory({b"/tree/%03d" % number: b"x" * 3 * BLOCK for number in range(400)})

    def fail(path: bytes, _offset: int) -> None:
        if path == b"/tree/005":
            raise MigrationError("lost", check="sftp-connection", action="x")

    source.before_read = fail
    opened: list[bytes] = []
    real = source.open
    source.open = lambda path: (opened.append(path), real(path))[1]  # type: ignore[method-assign]
    with pytest.raises(MigrationError, match="lost"):
        copy(source, channels=3)
    assert len(opened) == source.closed < 100


def test_left_over_half_copies_go_when_nobody_needs_them(copy: Copy, target: Path) -> None:
    source = Memory({b"/tree/one": b"1"})
    copy(source)
    (target / os.fsdecode(PARTIAL_PREFIX + b"whatever")).write_bytes(b"half")
    os.utime(target, (NOW, NOW))
    assert copy(source, check=True)["changed"]
    assert copy(source)["changed"]
    assert files_in(target) == {b"one": b"1"}
    assert not copy(source, check=True)["changed"]


def test_an_empty_tree_that_is_not_here_yet_is_foretold(copy: Copy, target: Path) -> None:
    target.rmdir()
    assert copy(Memory({}), check=True)["items"] == {"folders": 1}
    target.mkdir()
    copy(Memory({}))
    assert not copy(Memory({}), check=True)["changed"]


def test_where_a_server_tells_no_times_content_decides(copy: Copy, target: Path) -> None:
    source = Memory({b"/tree/one": b"content"})
    source.times[b"/tree/one"] = None
    copy(source)
    assert not copy(source)["changed"]
    source.files[b"/tree/one"] = b"CONTENT"
    assert copy(source)["repaired"] == 1
    assert files_in(target) == {b"one": b"CONTENT"}


def test_a_file_is_never_whole_in_memory(copy: Copy, monkeypatch: pytest.MonkeyPatch, target: Path) -> None:
    block, blocks = 1 << 18, 64
    monkeypatch.setattr(sftp_partial, "BLOCK_BYTES", block)

    class Endless(Memory):
        def open(self, path: bytes) -> MemoryFile:
            opened = super().open(path)
            opened.version = lambda: (block * blocks, NOW)  # type: ignore[method-assign]
            opened.read = lambda offset, length: bytes([offset // block]) * length  # type: ignore[method-assign]
            return opened

    tracemalloc.start()
    try:
        copy(Endless({b"/tree/big": b""}))
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (target / "big").stat().st_size == block * blocks
    assert peak < 8 * block + (1 << 20)


def test_a_full_disk_is_told_from_other_trouble(tmp_path: Path) -> None:
    with pytest.raises(MigrationError, match="no room left") as full, writing(tmp_path, b"a/b"):
        raise OSError(28, "No space left on device")
    assert full.value.check == "target-disk"
    with pytest.raises(MigrationError, match="a/b could not be written") as other, writing(tmp_path, b"a/b"):
        raise PermissionError(13, "Permission denied")
    assert other.value.check == "files-copy"


def test_the_target_is_never_left_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "tree" / "up").symlink_to("..")
    tree = TargetTree(tmp_path / "tree", None, change=True)
    try:
        for path in (b"link", b"up", b"up/outside"):
            with tree.folder(path) as descriptor:
                assert descriptor is None
            with pytest.raises(MigrationError, match="was removed"), tree.existing_folder(path):
                pytest.fail("there is no such folder")
    finally:
        tree.close()


@pytest.mark.parametrize("name", [partial_name(b"big"), partial_name(b"big") + sftp_partial.JOURNAL_SUFFIX])
@pytest.mark.parametrize("lay", [os.symlink, os.link])
def test_a_link_laid_where_a_half_copied_file_goes_is_not_written_through(
    copy: Copy, target: Path, tmp_path: Path, name: bytes, lay: Callable[[Path, Path], None]
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    lay(precious, target / os.fsdecode(name))
    source = Memory({b"/tree/big": content(4)})
    copy(source)
    assert precious.read_text() == "precious"
    assert files_in(target) == {b"big": source.files[b"/tree/big"]}
    assert not (target / "big").samefile(precious)


GOOD = {"host": "files.example.com", "user": "acme"}


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, object]:
    key, known = tmp_path / "key", tmp_path / "known_hosts"
    key.touch(mode=0o600)
    known.write_text("files.example.com ssh-ed25519 AAAA\n")
    return {**GOOD, "key_file": str(key), "known_hosts_file": str(known)}


def test_settings_of_a_server(settings: dict[str, object]) -> None:
    server = sftp_source.SftpServer.parse(settings)
    assert (server.port, server.channels) == (22, 4)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"host": None}, "host is missing"),
        ({"user": ""}, "user is missing"),
        ({"port": 0}, "no port"),
        ({"port": "22"}, "no port"),
        ({"channels": 9}, "number of channels"),
        ({"key_file": "/nowhere/key"}, "cannot be read"),
        ({"known_hosts_file": "/nowhere/known"}, "cannot be read"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, object], wrong: dict[str, object], said: str) -> None:
    with pytest.raises(MigrationError, match=said) as refused:
        sftp_source.SftpServer.parse({**settings, **wrong})
    assert refused.value.check == "sftp-settings"


def test_a_key_others_can_read_and_a_revoked_host_key_are_refused(settings: dict[str, object]) -> None:
    Path(str(settings["key_file"])).chmod(0o640)
    with pytest.raises(MigrationError, match="read by others"):
        sftp_source.SftpServer.parse(settings)
    Path(str(settings["key_file"])).chmod(0o600)
    Path(str(settings["known_hosts_file"])).write_text(
        "x ssh-ed25519 AAAA\n@revoked files.example.com ssh-ed25519 AAAA\n"
    )
    with pytest.raises(MigrationError, match="@revoked"):
        sftp_source.SftpServer.parse(settings)


def test_without_paramiko_it_is_said_what_to_install(
    settings: dict[str, object], target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "paramiko", None)
    monkeypatch.delitem(sys.modules, "ireporter.sftp_source")
    monkeypatch.delattr(sys.modules["ireporter"], "sftp_source")
    tree = {"name": "output", "source": "/tree", "target": str(target)}
    with pytest.raises(MigrationError, match="python3-paramiko") as missing:
        file_copy.run({"file_trees": [tree], "sftp": settings}, lambda _now: None)
    assert missing.value.check == "library-missing"


def test_a_source_may_be_the_top_of_a_chroot_only() -> None:
    tree = {"name": "output", "source": "/", "target": "/srv/copy"}
    assert parse_trees([tree], chrooted=True)[0].source == Path("/")
    with pytest.raises(MigrationError, match="file-trees"):
        parse_trees([tree])
    with pytest.raises(MigrationError, match="file-trees"):
        parse_trees([{**tree, "target": "/"}], chrooted=True)


class Wire(sftp_source._Client):
    """The client without a connection: every request is answered from a file in memory, at most ``most`` bytes at a time."""

    def __init__(self, file: bytes, most: int) -> None:
        self.file, self.most = file, most
        self.waiting: list[tuple[object, int, bytes]] = []
        self.requests = 0

    def _async_request(self, waiter: object, _kind: int, _handle: bytes, offset: int, size: int) -> int:
        self.requests += 1
        self.waiting.append((waiter, self.requests, self.file[offset : offset + min(size, self.most)]))
        return self.requests

    def _read_response(self) -> None:
        waiter, number, part = self.waiting.pop()  # in another order than asked
        message = paramiko.Message()
        if part:
            message.add_string(part)
        else:
            message.add_int(1)
            message.add_string(b"\xffEnd of file")
        message.rewind()
        waiter._async_response(103 if part else 101, message, number)  # type: ignore[attr-defined]


class Handle:
    handle = b"1"


@pytest.mark.parametrize("most", [1 << 20, 32768, 10_000, 700])
@pytest.mark.parametrize("size", [0, 1, 32768, 100_001])
def test_what_is_asked_for_together_arrives_in_order(most: int, size: int) -> None:
    file = os.urandom(size)
    wire = Wire(file, most)
    for offset, length in ((0, size), (0, size + 50_000), (size // 2, size), (size, 10)):
        assert wire.read_at(Handle(), offset, length) == file[offset : offset + length]  # type: ignore[arg-type]


def test_a_server_that_gives_less_is_not_asked_in_vain_for_ever() -> None:
    file = os.urandom(1 << 20)
    wire = Wire(file, 10_000)
    assert wire.read_at(Handle(), 0, len(file)) == file  # type: ignore[arg-type]
    # 32 requests that were too large, then one for each 10,000 bytes.
    assert wire.requests < 32 + 2 * len(file) / 10_000


def test_the_end_of_a_file_is_no_reason_to_ask_for_less() -> None:
    wire = Wire(b"x" * 100, 32768)
    assert wire.read_at(Handle(), 0, 200) == b"x" * 100  # type: ignore[arg-type]
    assert wire._request_bytes == 32768
