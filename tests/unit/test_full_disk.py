"""A full disk of a server: every module that writes there says so in one sentence, and what is written stays as it was."""

from __future__ import annotations

import errno
import importlib.util
import os
import socket
from pathlib import Path
from types import ModuleType
from typing import Any

import ansible.module_utils
import pytest
from ireporter import __main__ as command_line
from ireporter.errors import MigrationError
from ireporter.freeze import FreezeWish, close, freeze, thaw
from ireporter.freeze_record import ARMED
from ireporter.json_files import unusable, write_json
from ireporter.run_lock import RunLock
from ireporter.run_record import RunRecords
from ireporter.run_session import RunSession

from tests.unit.tenant_fakes import FakeClock, Stage, stage

ROOT = Path(__file__).resolve().parents[2]


class Ended(Exception):
    """A module has given its result."""


class FakeModule:
    """What the modules use of ``AnsibleModule``: ``given`` are the parameters of the task."""

    given: dict[str, Any]
    check_mode = False

    def __init__(self, argument_spec: dict[str, dict[str, Any]], **_options: object) -> None:
        self.params = {name: self.given.get(name, spec.get("default")) for name, spec in argument_spec.items()}

    def fail_json(self, **result: object) -> None:
        raise Ended({"failed": True, **result})

    def exit_json(self, **result: object) -> None:
        raise Ended(result)


def fill(patch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    patch.setattr(os, "fsync", full)


def load(name: str, patch: pytest.MonkeyPatch) -> ModuleType:
    """The module as Ansible puts it together: our core is below ``ansible.module_utils``."""
    patch.setattr(ansible.module_utils, "__path__", [*ansible.module_utils.__path__, str(ROOT / "module_utils")])
    specification = importlib.util.spec_from_file_location(name, ROOT / "library" / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    patch.setattr(module, "AnsibleModule", FakeModule)
    return module


def result_of(module: ModuleType, patch: pytest.MonkeyPatch, **given: object) -> dict[str, Any]:
    patch.setattr(FakeModule, "given", given, raising=False)
    with pytest.raises(Ended) as ended:
        module.main()
    result: dict[str, Any] = ended.value.args[0]
    return result


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    launcher = tmp_path / "ireporter-migration"
    launcher.touch()
    monkeypatch.setattr("ireporter.freeze_steps.LAUNCHER", str(launcher))
    return stage(tmp_path)


def test_the_sentence_names_file_host_and_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "x.json"
    fill(monkeypatch)
    with pytest.raises(OSError, match="No space left") as caught:
        write_json(file, {})
    error = unusable(caught.value)
    host = socket.gethostname()
    assert str(error) == (
        f"{file} on {host} cannot be used: No space left on device (server-disk)."
        f" Make room on the file system of {tmp_path} on {host}, then run again."
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "check", "words"),
    [
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "server-disk", "A file on "),
        (PermissionError(errno.EACCES, "Permission denied", "/srv/x"), "server-file", "/srv/x on "),
        (TimeoutError("timed out"), "server-file", "timed out"),
        (OSError(errno.EIO, "Input/output error", 7), "server-file", "A file on "),
    ],
)
def test_whatever_is_refused_is_a_sentence(error: OSError, check: str, words: str) -> None:
    assert unusable(error).check == check
    assert words in unusable(error).happened


def test_a_disarmament_without_room_leaves_the_lease(acme: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    freeze(acme.server, FreezeWish(lease_seconds=100))
    with monkeypatch.context() as patch:
        fill(patch)
        with pytest.raises(OSError, match="No space left") as caught:
            freeze(acme.server, FreezeWish(disarmed=True))
    assert caught.value.filename == str(acme.server.records.path)
    record = acme.server.records.read()
    assert record is not None
    assert record.lease == ARMED
    acme.clock.seconds += 101
    assert thaw(acme.server, by_lease=True, even_disarmed=False).changed


def test_a_closure_of_a_frozen_tenant_without_room_names_its_record(
    acme: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    freeze(acme.server, FreezeWish())
    fill(monkeypatch)
    with pytest.raises(OSError, match="No space left") as caught:
        close(acme.server, moved_to=None, admit_secret=None, drain_seconds=5, run_id=None)
    assert caught.value.filename == str(acme.server.records.path)


def test_a_freeze_without_room_is_undone_and_says_why(acme: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    before = acme.world.facts()
    fill(monkeypatch)
    # freeze.json cannot be written: nothing is touched yet, and undoing it needs no room.
    with pytest.raises(MigrationError, match="serves again") as caught:
        freeze(acme.server, FreezeWish())
    assert caught.value.check == "server-disk"
    assert "freeze.json on " in str(caught.value)
    assert acme.world.facts() == before


@pytest.mark.parametrize(("fails_at", "file"), [(1, "run.json"), (3, "events.jsonl")])
def test_a_run_record_without_room_names_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int, file: str
) -> None:
    synced: list[int] = []

    def full(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == fails_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    records = RunRecords(tmp_path, "acme", FakeClock())
    with pytest.raises(OSError, match="No space left") as caught:
        records.start("shared_to_dedicated", "acme-d-1", "taro", resumed=False, versions={})
    assert caught.value.filename == str(tmp_path / "acme" / "acme-d-1" / file)


def test_a_run_whose_record_has_no_room_leaves_the_lock_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    records = RunRecords(tmp_path, "acme", clock)
    lock = RunLock(tmp_path, "acme", clock, list)
    session = RunSession(records, lock, check_mode=False)

    def full(*_arguments: object, **_named: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(records, "start", full)
        with pytest.raises(OSError, match="No space left"):
            session.start("rollback", "engineer", "s1", ttl_seconds=900, take_over=False, versions={})
    assert lock.as_dict()["held"] is False
    begun = session.start("rollback", "another engineer", "s2", ttl_seconds=900, take_over=False, versions={})
    assert begun["resumed"] is False


def test_a_command_says_it_in_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def full(*_arguments: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/var/lib/x/freeze.json")

    monkeypatch.setattr("ireporter.freeze_commands.run", full)
    assert command_line.main(["thaw", "acme"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("/var/lib/x/freeze.json on ")
    assert "(server-disk). Make room on the file system of /var/lib/x on " in said


def test_a_mirrored_record_without_room_names_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = RunRecords(tmp_path / "source", "acme", FakeClock())
    records.start("shared_to_dedicated", "acme-d-1", "taro", resumed=False, versions={})
    fill(monkeypatch)
    with pytest.raises(OSError, match="No space left") as caught:
        RunRecords(tmp_path / "target", "acme", FakeClock()).mirror(records.content("acme-d-1"))
    assert caught.value.filename == str(tmp_path / "target" / "acme" / "acme-d-1" / "events.jsonl")


def test_an_undoing_without_room_is_told_with_what_failed_first(acme: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    acme.world.fail_at = "gate"

    def full() -> bool:
        raise OSError(errno.ENOSPC, "No space left on device", "/var/lib/x")

    monkeypatch.setattr(acme.server.records, "remove", full)
    with pytest.raises(MigrationError, match="gate failed; undoing it failed too") as caught:
        freeze(acme.server, FreezeWish())
    assert caught.value.check == "test"
    assert "/var/lib/x on " in caught.value.happened


def test_the_run_s_module_says_it_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load("ireporter_run", monkeypatch)
    monkeypatch.setattr(module, "STATE_DIRECTORY", tmp_path)
    fill(monkeypatch)
    given = {"tenant": "acme", "state": "started", "kind": "rollback", "operator": "engineer", "session": "s1"}
    result = result_of(module, monkeypatch, **given)
    assert result["failed"]
    assert result["check"] == "server-disk"
    assert f"{tmp_path / 'acme' / 'lock.json'} on " in result["msg"]
    assert result["action"].startswith(f"Make room on the file system of {tmp_path / 'acme'} on ")


def test_the_tenant_s_module_says_it_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load("ireporter_tenant", monkeypatch)

    def change(*_arguments: object) -> None:
        write_json(tmp_path / "freeze.json", {})

    monkeypatch.setattr(module, "parse", lambda tenant: tenant)
    monkeypatch.setattr(module, "this_server", lambda tenant: tenant)
    monkeypatch.setattr(module, "_change", change)
    fill(monkeypatch)
    result = result_of(module, monkeypatch, tenant={}, state="frozen", lease="disarmed")
    assert result["failed"]
    assert result["check"] == "server-disk"
    assert f"{tmp_path / 'freeze.json'} on " in result["msg"]
