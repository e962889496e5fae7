"""Long work in a unit: started, adopted, replaced, followed, and its death told truthfully."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from ireporter import unit as units
from ireporter import work
from ireporter.commands import Completed
from ireporter.errors import MigrationError
from ireporter.json_files import read_json, write_json

from tests.unit.tenant_fakes import FakeClock

RUN_ID = "acme-d-20261123t120000z"


class Systemd:
    """``systemctl`` and ``systemd-run`` of a host: a unit is active until the script of what happens is used up."""

    def __init__(self) -> None:
        self.active: set[str] = set()
        self.calls: list[list[str]] = []
        self.while_followed: list[Callable[[], None]] = []
        self.listed: list[str] = []

    def __call__(self, argv: Sequence[str], **_options: object) -> Completed:
        self.calls.append(list(argv))
        if argv[0] == "systemd-run":
            self.active.add(next(word for word in argv if word.startswith("--unit=")).removeprefix("--unit="))
        elif argv[1] == "stop":
            self.active.discard(argv[2])
        elif argv[1] == "list-units":
            return Completed(0, "".join(f"{name} loaded active running x\n" for name in self.listed), "")
        elif argv[1] == "show":
            if argv[2] in self.active and self.while_followed:
                self.while_followed.pop(0)()
            state = "active" if argv[2] in self.active else "inactive"
            return Completed(
                0, f"ActiveState={state}\nLoadState=loaded\nUnitFileState=transient\nResult=oom-kill\n", ""
            )
        return Completed(0, "", "")


class Bench:
    def __init__(self, folder: Path) -> None:
        self.systemd = Systemd()
        self.launcher = folder / "launcher"
        self.launcher.touch(mode=0o755)
        self.state = folder / "state"
        self.folder = self.state / "acme" / RUN_ID
        self.unit = units.WorkUnit(
            "database",
            "acme",
            RUN_ID,
            state_directory=self.state,
            run=self.systemd,
            clock=FakeClock(),
            launcher=str(self.launcher),
        )

    def end(self, result: dict[str, object] | None) -> None:
        if result is not None:
            write_json(self.folder / "database.result.json", result)
        self.systemd.active.clear()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_without_a_migration_the_work_is_done_here() -> None:
    def double(spec: dict[str, object], progress: units.Progress) -> dict[str, object]:
        progress({"done": 1})
        return {"given": spec}

    seen: list[dict[str, object]] = []
    assert units.execute("database", double, {"a": 1}, run=None, progress=seen.append) == {"given": {"a": 1}}
    assert seen == [{"done": 1}]


def test_started_and_followed(bench: Bench) -> None:
    assert bench.unit.start({"source": "x"})
    spec = bench.folder / "database.spec.json"
    assert json.loads(spec.read_text()) == {"source": "x"}
    assert spec.stat().st_mode & 0o777 == 0o600
    bench.systemd.while_followed = [
        lambda: None,
        lambda: write_json(bench.folder / "database.progress.json", {"rows": 1}),
        lambda: None,
        lambda: bench.end({"failed": False, "rows": 5}),
    ]
    seen: list[dict[str, object]] = []
    assert bench.unit.follow(seen.append) == {"rows": 5}
    assert seen == [{"rows": 1}]
    command = next(call for call in bench.systemd.calls if call[0] == "systemd-run")
    assert {"--collect", "--property=CPUWeight=20", "--property=IOWeight=20", "--property=Nice=5"} <= set(command)
    assert command[-4:] == [str(bench.launcher), "work", "database", str(bench.folder)]


def test_progress_that_cannot_be_understood_is_none_that_is_known(bench: Bench) -> None:
    bench.unit.start({"source": "x"})
    (bench.folder / "database.progress.json").write_text("")
    assert units.status("acme", RUN_ID, state_directory=bench.state, run=bench.systemd)[0]["progress"] is None
    bench.systemd.while_followed = [lambda: None, lambda: None, lambda: bench.end({"failed": False, "rows": 5})]
    seen: list[dict[str, object]] = []
    assert bench.unit.follow(seen.append) == {"rows": 5}
    assert seen == []


def test_the_same_work_is_adopted_and_other_work_is_stopped_first(bench: Bench) -> None:
    bench.unit.start({"a": 1})
    assert not bench.unit.start({"a": 1})
    assert bench.unit.start({"a": 2})
    assert ["systemctl", "stop", bench.unit.name] in bench.systemd.calls


def test_a_result_of_an_earlier_attempt_is_not_taken_for_this_one(bench: Bench) -> None:
    bench.folder.mkdir(parents=True)
    bench.end({"failed": False, "rows": 1})
    bench.unit.start({"a": 1})
    bench.end(None)
    with pytest.raises(MigrationError):
        bench.unit.follow(lambda _now: None)


def test_the_works_own_error_comes_back_with_its_figures(bench: Bench) -> None:
    bench.unit.start({})
    bench.end(
        {"failed": True, "msg": "The disk is full", "check": "disk", "action": "Free some", "figures": {"rows": 3}}
    )
    with pytest.raises(MigrationError) as caught:
        bench.unit.follow(lambda _now: None)
    assert (caught.value.happened, caught.value.check) == ("The disk is full", "disk")
    assert getattr(caught.value, "figures") == {"rows": 3}  # noqa: B009


@pytest.mark.parametrize(("left", "wanted"), [("signal killed KILL\n", "killed KILL"), (None, "Result=oom-kill")])
def test_a_unit_that_died_says_how(bench: Bench, left: str | None, wanted: str) -> None:
    bench.unit.start({})
    if left:
        (bench.folder / "database.ended").write_text(left)
    bench.end(None)
    with pytest.raises(MigrationError) as caught:
        bench.unit.follow(lambda _now: None)
    assert caught.value.check == "unit-result"
    assert wanted in caught.value.happened


def test_without_the_tools_nothing_is_started(bench: Bench) -> None:
    bench.launcher.unlink()
    with pytest.raises(MigrationError) as caught:
        bench.unit.start({})
    assert caught.value.check == "tools-installed"
    assert not bench.folder.exists()


@pytest.mark.parametrize("name", ["../x", "a b", "", "A", "x;reboot"])
def test_names_that_could_not_stand_in_a_unit_are_refused(name: str) -> None:
    with pytest.raises(MigrationError):
        units.WorkUnit("database", "acme", name)


def test_units_of_a_tenant_with_a_similar_name_are_left_alone(bench: Bench) -> None:
    bench.systemd.listed = [
        f"ireporter-migration-{RUN_ID}-database.service",
        f"ireporter-migration-{RUN_ID}-channel.service",
        "ireporter-migration-acme-d-d-20261123t120000z-database.service",
        "ireporter-migration-acme-d-notatime-database.service",
    ]
    assert units.active_units("acme", run=bench.systemd) == bench.systemd.listed[:2]
    assert units.working_units("acme", run=bench.systemd) == bench.systemd.listed[:1], "a channel does no work"
    assert units.active_units("acme-d", run=bench.systemd) == [bench.systemd.listed[2]]
    assert units.stop_all("acme", run=bench.systemd) == bench.systemd.listed[:2]


def test_the_worker_leaves_a_result_whatever_happens(tmp_path: Path) -> None:
    def good(spec: dict[str, object], progress: units.Progress) -> dict[str, object]:
        progress({"rows": 1})
        return {"rows": spec["rows"]}

    def bad(_spec: dict[str, object], _progress: units.Progress) -> dict[str, object]:
        error = MigrationError("No", check="c", action="Do")
        error.figures = {"rows": 2}  # type: ignore[attr-defined]
        raise error

    write_json(tmp_path / "database.spec.json", {"rows": 9})
    assert work.do("database", tmp_path, FakeClock(), {"database": good}) == 0
    assert read_json(tmp_path / "database.result.json") == {"failed": False, "rows": 9}
    assert read_json(tmp_path / "database.progress.json") == {"rows": 1}
    assert work.do("database", tmp_path, FakeClock(), {"database": bad}) == 1
    assert read_json(tmp_path / "database.result.json") == {
        "failed": True,
        "msg": "No",
        "check": "c",
        "action": "Do",
        "figures": {"rows": 2},
    }
    assert work.do("unknown", tmp_path, FakeClock(), {}) == 1


def test_every_kind_of_work_is_there() -> None:
    assert set(work.table()) == {"bundle", "database", "files", "import", "picture", "throughput", "verification"}
    for module in work.WORKS.values():
        assert callable(importlib.import_module(f"ireporter.{module}").run)


def test_a_worker_does_what_the_module_of_its_work_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ireporter.verification.run", lambda spec, _progress: {"rows": spec["rows"]})
    write_json(tmp_path / "verification.spec.json", {"rows": 7})
    assert work.do("verification", tmp_path, FakeClock(), work.table()) == 0
    assert read_json(tmp_path / "verification.result.json") == {"failed": False, "rows": 7}
