"""The tenant's dictionary, its file trees, its HTTP answers and its facts."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from ireporter import tenant_info
from ireporter.commands import run
from ireporter.database_groups import TableGroups
from ireporter.errors import MigrationError
from ireporter.tenant_http import TenantHttp, _result_code
from ireporter.tenant_info import tree_facts
from ireporter.tenant_model import Tree, parse
from ireporter.tenant_trees import Trees

from tests.unit.tenant_fakes import tenant_dictionary


def test_a_complete_tenant(tmp_path: Path) -> None:
    tenant = parse(tenant_dictionary(tmp_path))
    assert tenant.web.api_path == "/ConMasAPIACME/Rests/APIExecute.aspx"
    assert tenant.web.webdav_login == tenant.web.login
    assert "canary-password" not in str(tenant.without_secrets)
    assert "canary-password" not in repr(tenant)
    assert parse(tenant.without_secrets).web.login is None


@pytest.mark.parametrize(
    "change",
    [
        {"name": "Acme"},
        {"name": "../acme"},
        {"name": "a b"},
        {"public_name": "https://acme.example"},
        {"public_name": "acme.example; return 200"},
        {"application": {"unit": "standin"}},
        {"application": {"unit": "-standin.service x"}},
        {"scheduled_units": "report@acme.timer"},
        {"database_probes": []},
        {"file_trees": []},
        {"file_trees": [{"name": "x", "path": "relative"}]},
        {"file_trees": [{"name": "x", "path": "/srv/../etc"}]},
        {"web": {"gate_file": "/etc/nginx/x.conf"}},
        {"web": {"gate_file": "/etc/nginx/a;b.gate.conf"}},
        {"web": {"gate_file": "/n/a.gate.conf", "webdav_path": "/a b/"}},
        {"web": {"gate_file": "/n/a.gate.conf", "login": {"user": "x"}}},
        {"database": ""},
    ],
)
def test_what_could_not_be_used_safely_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(MigrationError) as caught:
        parse(tenant_dictionary(tmp_path, **change))
    assert caught.value.check == "tenant-settings"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"<conmas><loginResult><code>0</code><remark/></loginResult></conmas>", "0"),
        ("<conmas><loginResult><code>1</code><remark>違います</remark></loginResult></conmas>".encode(), "1"),
        (b"<conmas><error><code>9</code></error></conmas>", "9"),
        (b"<html>", "missing"),
        (b"<conmas/>", "missing"),
    ],
)
def test_login_answers(body: bytes, code: str) -> None:
    assert _result_code(body) == code


def test_no_answer_is_an_error_that_names_the_address(tmp_path: Path) -> None:
    web = {
        "gate_file": "/n/acme.gate.conf",
        "address": "127.0.0.1",
        "port": 1,
        "ca_file": "/etc/ssl/certs/ca-certificates.crt",
    }
    tenant = parse(tenant_dictionary(tmp_path, web=web))
    with pytest.raises(MigrationError) as caught:
        TenantHttp(tenant.public_name, tenant.web, timeout_seconds=1).request("GET", "/")
    assert caught.value.check == "https-request"
    assert "127.0.0.1" in caught.value.happened


def test_a_write_probe_leaves_nothing_behind(tmp_path: Path) -> None:
    os.utime(tmp_path, ns=(5_000_000_001, 6_000_000_001))
    tree = Tree("output", tmp_path, "root", "")
    assert Trees(run).try_write(tree) == "created"
    assert list(tmp_path.iterdir()) == []
    assert tmp_path.stat().st_mtime_ns == 6_000_000_001
    assert Trees(run).try_write(Tree("x", tmp_path / "missing", "root", "")) == "ENOENT"


def test_an_unknown_user_is_named(tmp_path: Path) -> None:
    with pytest.raises(MigrationError) as caught:
        Trees(run).try_write(Tree("output", tmp_path, "nobody-of-that-name", ""))
    assert "nobody-of-that-name" in str(caught.value)


@pytest.mark.parametrize(
    ("program", "seen"),
    [
        ("open('t/日本 \\x85 語.txt', 'w').close(); f = open('t/日本 \\x85 語.txt', 'a')", True),
        ("import os; f = os.open('t', os.O_RDONLY)", True),
        ("import os; os.chdir('t')", True),
        (
            "import mmap; f = open('t/m', 'w+b'); f.write(b'x' * 9); f.flush(); m = mmap.mmap(f.fileno(), 9); f.close()",
            True,
        ),
        ("open('t/r', 'w').close(); f = open('t/r')", False),
        ("f = open('t2', 'w')", False),
    ],
)
def test_who_could_write_past_a_mount_is_found(tmp_path: Path, program: str, seen: bool) -> None:
    (tmp_path / "t").mkdir()
    code = f"{program}\nprint('ready', flush=True)\nimport sys\nsys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        writers = [writer.pid for writer in Trees(run).writers([tmp_path / "t"])]
        process.communicate("")
    assert (process.pid in writers) is seen


def test_a_tree_is_counted_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "empty folder").mkdir()
    first = tmp_path / "a\nb"
    first.write_bytes(b"12345")
    (tmp_path / "hard link").hardlink_to(first)
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / os.fsdecode(b"\xff\xfe")).write_bytes(b"123")
    os.utime(first, (1, 4_000_000_000))
    facts = tree_facts("output", tmp_path)
    assert (facts["files"], facts["directories"]) == (4, 1)
    assert facts["bytes"] == 5 + 3 + len("nowhere")
    assert facts["newest_mtime"] == 4_000_000_000
    assert facts["newest_file_change"] == first.stat().st_ctime  # a time in the future is nothing to wait for
    assert tree_facts("x", tmp_path / "missing")["exists"] is False


def test_what_vanishes_while_a_tree_is_counted_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tenant serves: its temporary files come and go all the time."""
    for name in ("gone", "kept"):
        (tmp_path / name).write_text("12345")
    for name in ("folder gone", "folder, now a file", "folder kept"):
        (tmp_path / name).mkdir()
    (tmp_path / "folder kept/file").write_text("123")
    real = os.scandir

    class Late:
        """Lists first, and then things vanish."""

        def __init__(self, path: bytes) -> None:
            for name in ("folder gone", "folder, now a file"):
                if os.fsdecode(path).endswith(name):
                    (tmp_path / name).rmdir()
            if os.fsdecode(path).endswith("now a file"):
                (tmp_path / "folder, now a file").write_text("x")
            with real(path) as entries:
                self.entries = list(entries)
            (tmp_path / "gone").unlink(missing_ok=True)

        def __enter__(self) -> list[Any]:
            return self.entries

        def __exit__(self, *_error: object) -> None:
            pass

    monkeypatch.setattr(os, "scandir", Late)
    facts = tree_facts("output", tmp_path)
    assert (facts["files"], facts["bytes"], facts["directories"]) == (2, 8, 3)


def test_a_tree_that_vanishes_itself_does_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_dir", lambda _path: True)
    assert tree_facts("output", tmp_path / "gone")["exists"] is False


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("rep_top", "report"),
        ("report_12_s_1", "linkage"),
        ("report_notes", "other"),
        ("def_top", "definition"),
        ("mst_user", "master"),
        ("mst_Custom ラベル", "master"),
        ("log_login", "log"),
        ("tmp", "other"),
    ],
)
def test_groups_of_tables(name: str, group: str) -> None:
    assert TableGroups().of(name) == group


def test_groups_are_a_setting_and_the_first_that_fits_counts() -> None:
    groups = TableGroups.read({"photos": ["rep_cluster", "rep_*image*"], "reports": ["rep_*", "report_[0-9]*"]})
    assert [groups.of(name) for name in ("rep_cluster", "rep_top", "report_1_s_1", "REP_TOP", "def_top")] == [
        "photos", "reports", "reports", "other", "other",
    ]  # fmt: skip
    assert groups.add_up(100, [("photos", 30), ("other", 5), ("photos", 1)], 7) == {
        "photos": 31, "reports": 0, "other": 5, "large_objects": 7, "system": 57,
    }  # fmt: skip
    assert groups.add_up(10, [("photos", 30)], 0)["system"] == 0


@pytest.mark.parametrize(
    "given", [{"x": "rep_*"}, {"x": []}, {"x": [1]}, {"x": None}, {"other": ["a"]}, {"system": ["a"]}]
)
def test_groups_that_make_no_sense_are_refused(given: dict[str, object]) -> None:
    with pytest.raises(MigrationError, match="table-groups"):
        TableGroups.read(given)


def test_a_file_counts_as_new_from_when_it_was_put_there_and_a_folder_never(tmp_path: Path) -> None:
    begun = time.time() - 1
    assert tree_facts("webdav", tmp_path)["newest_file_change"] is None
    old = tmp_path / "old"
    old.write_text("x")
    os.utime(old, (1, 1))
    arrived = tree_facts("webdav", tmp_path)
    assert arrived["newest_file_change"] == old.stat().st_ctime >= begun  # type: ignore[operator]
    time.sleep(0.02)
    (tmp_path / "probe").write_text("x")
    (tmp_path / "probe").unlink()
    (tmp_path / "folder").mkdir()
    assert tree_facts("webdav", tmp_path)["newest_file_change"] == arrived["newest_file_change"]


def test_a_tenant_that_is_frozen_while_it_is_looked_at_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the beginning of another run's freeze would be taken for obstacles that somebody left."""
    states = iter(["open", "frozen", "frozen", "frozen"])
    monkeypatch.setattr(tenant_info, "observe", lambda _server: SimpleNamespace(state=next(states)))
    monkeypatch.setattr(tenant_info, "_facts", lambda _server, seen, **_more: {"state": seen.state})
    assert look_at_everything()["state"] == "frozen"
    assert next(states, None) is None


def test_a_tenant_that_does_not_stay_as_it_is_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    states = itertools.cycle(["open", "frozen"])
    monkeypatch.setattr(tenant_info, "observe", lambda _server: SimpleNamespace(state=next(states)))
    monkeypatch.setattr(tenant_info, "_facts", lambda _server, seen, **_more: {"state": seen.state})
    with pytest.raises(MigrationError, match=r"another run is at work on it \(tenant-changing\)"):
        look_at_everything()


def test_a_database_that_is_dropped_while_it_is_looked_at_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupted copy drops its database while the undoing looks at the target; that must not end the undoing."""
    looks = iter(
        [psycopg.errors.AdminShutdown("terminating connection"), psycopg.OperationalError("does not exist"), None]
    )

    def facts(_server: object, seen: SimpleNamespace, **_more: object) -> dict[str, object]:
        if error := next(looks):
            raise MigrationError("Database acme", check="database-facts", action="Run again") from error
        return {"state": seen.state}

    monkeypatch.setattr(tenant_info, "observe", lambda _server: SimpleNamespace(state="closed"))
    monkeypatch.setattr(tenant_info, "_facts", facts)
    assert look_at_everything()["state"] == "closed"


@pytest.mark.parametrize(
    ("error", "times"),
    [
        (psycopg.OperationalError("Connection refused"), 3),
        (psycopg.errors.QueryCanceled("statement timeout"), 1),
        (psycopg.errors.InsufficientPrivilege("denied"), 1),
        (None, 1),
    ],
)
def test_a_database_that_cannot_be_looked_at_is_unknown(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None, times: int
) -> None:
    looked = 0

    def facts(*_given: object, **_more: object) -> dict[str, object]:
        nonlocal looked
        looked += 1
        raise MigrationError("Database acme could not be looked at", check="database-facts", action="Run") from error

    monkeypatch.setattr(tenant_info, "observe", lambda _server: SimpleNamespace(state="closed"))
    monkeypatch.setattr(tenant_info, "_facts", facts)
    with pytest.raises(MigrationError, match="database-facts"):
        look_at_everything()
    assert looked == times


def look_at_everything() -> dict[str, object]:
    clock = SimpleNamespace(monotonic=lambda: 0.0, sleep=lambda _seconds: None)
    server: Any = SimpleNamespace(clock=clock, tenant=SimpleNamespace(name="acme"))
    return tenant_info.gather(server, everything=True, path_scan_rows=0, table_groups=TableGroups())
