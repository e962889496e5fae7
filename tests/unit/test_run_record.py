"""Run records: resumed, finished, mirrored, torn by a power cut, and never with a secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ireporter.errors import MigrationError
from ireporter.run_lock import RunLock
from ireporter.run_record import RunRecords
from ireporter.run_session import RunSession

from tests.unit.tenant_fakes import FakeClock
from tests.unit.test_lease import proc


class Bench:
    def __init__(self, folder: Path, *, check_mode: bool = False) -> None:
        self.clock = FakeClock()
        self.records = RunRecords(folder / "state", "acme", self.clock)
        lock = RunLock(folder / "state", "acme", self.clock, list, proc=proc(folder / "proc"))
        self.session = RunSession(self.records, lock, check_mode=check_mode)

    def start(self, session: str = "s1", **options: Any) -> dict[str, Any]:
        values = {"ttl_seconds": 100, "take_over": False, "versions": {}, **options}
        return self.session.start("shared_to_dedicated", "taro", session, **values)

    def record(self, run_id: str, *, finish: bool = False, session: str = "s1", **values: Any) -> dict[str, Any]:
        return self.session.record(run_id, session, finish=finish, **{"step": "copy", "status": "running", **values})


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_run_from_start_to_finish(bench: Bench) -> None:
    started = bench.start(versions={"core": "0.1.0"})
    assert started["id"] == "acme-d-20261123t120000z"
    assert not started["resumed"]
    bench.clock.seconds += 5
    known = bench.records._directory / str(started["id"]) / "known-contents"
    known.mkdir()
    (known / "output").touch()
    bench.record(started["id"], figures={"rows": 7}, details={"tables": 3})
    assert known.exists()
    done = bench.record(
        started["id"], finish=True, step="announce", status="succeeded", reason="Done", figures={"files": 2}
    )
    assert not known.exists()
    assert done["run"]["figures"] == {"rows": 7, "files": 2}
    assert done["run"]["finished_at"] is not None
    assert [event["event"] for event in done["content"]["events"]] == ["started", "copy running", "announce succeeded"]
    assert not bench.record(started["id"], finish=True, status="succeeded")["changed"]
    bench.clock.seconds += 5
    assert bench.start(session="s2")["id"] != started["id"]


def test_after_a_pause_another_session_goes_on_at_once(bench: Bench) -> None:
    first = bench.start()
    bench.record(first["id"], step="prepare")
    with pytest.raises(MigrationError, match=r"\(run-lock\)"):
        bench.start(session="s2")
    bench.record(first["id"], pause=True, step="prepare", event="prepared")
    again = bench.start(session="s2")
    assert (again["id"], again["resumed"]) == (first["id"], True)
    with pytest.raises(MigrationError, match=r"\(run-lock\)"):
        bench.record(first["id"])


def test_who_took_over_by_mistake_gives_the_lock_back_to_whom_it_was(bench: Bench) -> None:
    """The first session's lock went out on a busy controller, a second one took it and saw that there is nothing to do."""
    first = bench.start()
    bench.record(first["id"], step="open")
    bench.clock.seconds += 101
    second = bench.start(session="s2")
    assert (second["id"], second["resumed"]) == (first["id"], True)
    with pytest.raises(MigrationError, match=r"\(run-lock\)"):
        bench.record(first["id"])
    bench.session.withdraw(first["id"], "s2")
    assert not bench.session.withdraw(first["id"], "s2")["changed"]
    done = bench.record(first["id"], finish=True, step="announce", status="succeeded")
    assert done["run"]["status"] == "succeeded"


def test_a_lock_that_was_given_back_has_gone_out(bench: Bench) -> None:
    first = bench.start()
    bench.clock.seconds += 101
    bench.start(session="s2")
    bench.session.withdraw(first["id"], "s2")
    assert bench.start(session="s3")["resumed"]


def test_a_failed_run_is_resumed_as_the_next_attempt(bench: Bench) -> None:
    first = bench.start()
    bench.record(first["id"], status="failed", reason="The disk was full")
    bench.clock.seconds += 200
    again = bench.start(session="s2")
    assert again["resumed"]
    assert again["id"] == first["id"]
    assert again["run"]["attempt"] == 2
    assert again["run"]["reason"] is None
    assert not bench.start(session="s2")["changed"]


def test_a_run_that_was_undone_is_over(bench: Bench) -> None:
    first = bench.start()
    bench.record(first["id"], finish=True, status="undone")
    bench.clock.seconds += 1
    assert not bench.start()["resumed"]


def test_another_session_cannot_write(bench: Bench) -> None:
    first = bench.start()
    with pytest.raises(MigrationError) as caught:
        bench.record(first["id"], session="s2")
    assert caught.value.check == "run-lock"
    with pytest.raises(MigrationError):
        bench.start(session="s2")


@pytest.mark.parametrize(
    "values",
    [
        {"figures": {"db_password": "x"}},
        {"details": {"nested": [{"API-Key": "x"}]}},
        {"details": {"admit_secret": "x"}},
        {"reason": "postgresql://user:canary@host/"},
        {"event": "host=x password=canary"},
        {"versions": {"key": "-----BEGIN OPENSSH PRIVATE KEY-----"}},
    ],
)
def test_what_looks_like_a_secret_is_refused_and_nothing_is_written(
    bench: Bench, values: dict[str, Any], tmp_path: Path
) -> None:
    first = bench.start()
    with pytest.raises(MigrationError) as caught:
        bench.record(first["id"], **values)
    assert caught.value.check == "record-secret"
    assert "canary" not in str(caught.value)
    assert "canary" not in "".join(path.read_text() for path in tmp_path.rglob("*.json*"))


def test_an_event_torn_by_a_power_cut_is_not_glued_to_the_next(bench: Bench, tmp_path: Path) -> None:
    first = bench.start()
    path = tmp_path / "state/acme" / first["id"] / "events.jsonl"
    with path.open("a") as stream:
        stream.write('{"half": "a li')
    assert len(bench.records.events(first["id"])) == 1
    bench.record(first["id"])
    assert [event["event"] for event in bench.records.events(first["id"])] == ["started", "copy running"]


def test_the_mirror_is_the_same_byte_for_byte(bench: Bench, tmp_path: Path) -> None:
    first = bench.start()
    recorded = bench.record(first["id"], reason="表が大きい", figures={"seconds": 1.5})
    other = Bench(tmp_path / "target")
    assert other.session.mirror(recorded["content"])["changed"]
    assert not other.session.mirror(recorded["content"])["changed"]
    for name in ("run.json", "events.jsonl"):
        path = Path("state/acme") / first["id"] / name
        assert (tmp_path / path).read_bytes() == (tmp_path / "target" / path).read_bytes()


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"run": {"tenant": "bravo", "id": "x"}, "events": []},
        {"run": {"tenant": "acme", "id": "../x"}, "events": []},
    ],
)
def test_foreign_content_is_not_mirrored(bench: Bench, content: dict[str, Any]) -> None:
    with pytest.raises(MigrationError):
        bench.session.mirror(content)


def test_check_mode_writes_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path, check_mode=True)
    assert bench.start()["changed"]
    assert not (tmp_path / "state/acme").exists()


def test_a_broken_record_is_named(bench: Bench, tmp_path: Path) -> None:
    first = bench.start()
    (tmp_path / "state/acme" / first["id"] / "run.json").write_text("{")
    with pytest.raises(MigrationError) as caught:
        bench.records.list()
    assert caught.value.check == "run-record"


@given(reason=st.text(max_size=80), name=st.text(max_size=20))
def test_any_text_is_kept_as_it_is(reason: str, name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    bench = Bench(tmp_path_factory.mktemp("record"))
    first = bench.start()
    try:
        bench.record(first["id"], reason=reason, details={"name": name})
    except MigrationError as error:
        assert error.check == "record-secret"
        return
    event = bench.records.events(first["id"])[-1]
    assert (event["reason"], event["details"]["name"]) == (reason, name)
