"""The lock of a tenant: who is refused, with what words, and until when."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ireporter.errors import MigrationError
from ireporter.run_lock import RunLock, refresh

from tests.unit.tenant_fakes import FakeClock
from tests.unit.test_lease import proc


class Bench:
    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.units: list[str] = []
        self.state = folder / "state"
        self.proc = proc(folder / "proc")
        self.lock = RunLock(self.state, "acme", self.clock, lambda: self.units, proc=self.proc)

    def take(self, operator: str, session: str, **options: object) -> bool:
        return self.lock.take("acme-d-1", operator, session, **options)  # type: ignore[arg-type]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def refused(bench: Bench, operator: str, session: str) -> str:
    with pytest.raises(MigrationError) as caught:
        bench.take(operator, session)
    assert caught.value.check == "run-lock"
    return str(caught.value)


def test_a_second_operator_is_told_who_since_when_and_until_when(bench: Bench) -> None:
    assert bench.take("taro", "s1", ttl_seconds=100)
    assert not bench.take("taro", "s1", ttl_seconds=100)
    message = refused(bench, "hanako", "s2")
    assert "taro" in message
    assert "2026-11-23T12:00:00" in message
    assert "2026-11-23T12:01:40" in message
    refused(bench, "taro", "s2")


def test_it_expires_on_this_hosts_own_clock(bench: Bench) -> None:
    bench.take("taro", "s1", ttl_seconds=100)
    bench.clock.seconds += 99
    refused(bench, "hanako", "s2")
    bench.clock.seconds += 2
    assert bench.take("hanako", "s2")


def test_a_sign_of_life_of_the_run_keeps_it(bench: Bench) -> None:
    bench.take("taro", "s1", ttl_seconds=100)
    bench.clock.seconds += 90
    refresh(bench.state, "acme", "acme-d-other", bench.clock, proc=bench.proc)
    refresh(bench.state, "acme", "acme-d-1", bench.clock, proc=bench.proc)
    bench.clock.seconds += 90
    refused(bench, "hanako", "s2")


def test_a_working_unit_holds_it_against_others_but_its_operator_adopts_it(bench: Bench) -> None:
    bench.take("taro", "s1", ttl_seconds=100)
    bench.units = ["ireporter-migration-acme-d-1-database.service"]
    bench.clock.seconds += 200
    assert "ireporter-migration-acme-d-1-database.service" in refused(bench, "hanako", "s2")
    assert bench.lock.as_dict()["by"] == "unit"
    assert bench.take("taro", "s3")


def test_it_can_be_taken_over_on_purpose(bench: Bench) -> None:
    bench.take("taro", "s1")
    assert bench.take("hanako", "s2", take_over=True)
    with pytest.raises(MigrationError):
        bench.lock.assert_held("acme-d-1", "s1")


def test_a_reboot_ends_it(bench: Bench, tmp_path: Path) -> None:
    bench.take("taro", "s1")
    proc(tmp_path / "proc", boot="another")
    assert bench.lock.as_dict()["held"] is False
    assert bench.take("hanako", "s2")


@pytest.mark.parametrize("content", [b"", b'{"run_id": "acme-d-1", ', b"\xff\xfe", b"[]", b'{"run_id": "acme-d-1"}'])
def test_a_lock_that_cannot_be_understood_is_nobodys(bench: Bench, content: bytes) -> None:
    bench.take("taro", "s1")
    file = bench.state / "acme" / "lock.json"
    file.write_bytes(content)
    refresh(bench.state, "acme", "acme-d-1", bench.clock, proc=bench.proc)
    assert bench.lock.as_dict() == {"held": False, "by": None}
    with pytest.raises(MigrationError) as caught:
        bench.lock.assert_held("acme-d-1", "s1")
    assert caught.value.check == "run-lock"
    assert not bench.lock.release("s1")
    assert not bench.lock.give_back("s1")
    assert bench.take("hanako", "s2", take_over=True)
    file.write_bytes(content)
    assert bench.take("taro", "s1")


def test_a_sign_of_life_is_on_the_disk(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.take("taro", "s1")
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    refresh(bench.state, "acme", "acme-d-1", bench.clock, proc=bench.proc)
    assert synced


def test_released_only_by_its_holder(bench: Bench) -> None:
    bench.take("taro", "s1")
    assert not bench.lock.release("s2")
    assert bench.lock.release("s1")
    assert bench.lock.as_dict() == {"held": False, "by": None}
    with pytest.raises(MigrationError):
        bench.lock.assert_held("acme-d-1", "s1")
