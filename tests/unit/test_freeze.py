"""Freeze, disarm, thaw and close against a server in memory: every order of events, every crash."""

from __future__ import annotations

from pathlib import Path

import pytest
from ireporter import freeze as freezing
from ireporter import freeze_steps
from ireporter.errors import MigrationError
from ireporter.freeze import FreezeWish
from ireporter.freeze_record import ARMED, DISARMED
from ireporter.tenant_database import Session
from ireporter.tenant_state import observe

from tests.unit.tenant_fakes import Killed, Stage, stage


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    launcher = tmp_path / "ireporter-migration"
    launcher.touch()
    monkeypatch.setattr(freeze_steps, "LAUNCHER", str(launcher))
    return stage(tmp_path)


def failure(code: object) -> MigrationError:
    with pytest.raises(MigrationError) as caught:
        code()  # type: ignore[operator]
    return caught.value


def test_a_freeze_is_proven_and_thaw_brings_everything_back(acme: Stage) -> None:
    before = acme.world.facts()
    outcome = freezing.freeze(acme.server, FreezeWish())
    assert outcome.changed
    assert outcome.state_before == "open"
    assert observe(acme.server).state == "frozen"
    assert all(row["verified"] for row in outcome.proof)
    ways = {str(row["how"]) for row in outcome.proof}
    assert any("session opened before" in way for way in ways)
    assert any("default_transaction_read_only" in way for way in ways)
    assert any("WebDAV" in way for way in ways)
    assert any("Login" in way for way in ways)
    assert any("new file in tree output" in way for way in ways)
    reopened = freezing.reopen(acme.server)
    assert reopened.changed
    assert acme.world.facts() == before
    assert acme.server.records.read() is None
    assert not freezing.reopen(acme.server).changed


def test_the_lease_is_armed_before_anything_is_touched(acme: Stage) -> None:
    freezing.freeze(acme.server, FreezeWish())
    assert acme.world.steps[:2] == ["arm", "gate"]


def test_the_record_holds_no_password(acme: Stage) -> None:
    freezing.freeze(acme.server, FreezeWish())
    assert "canary-password" not in acme.server.records.path.read_text()


def test_frozen_again_changes_nothing_and_is_proven_again(acme: Stage) -> None:
    freezing.freeze(acme.server, FreezeWish())
    again = freezing.freeze(acme.server, FreezeWish())
    assert not again.changed
    assert again.proof
    assert not freezing.would_freeze(acme.server, FreezeWish())


def test_a_lease_is_renewed_when_less_than_half_is_left(acme: Stage) -> None:
    freezing.freeze(acme.server, FreezeWish(lease_seconds=100))
    acme.clock.seconds += 60
    assert freezing.would_freeze(acme.server, FreezeWish(lease_seconds=100))
    assert freezing.freeze(acme.server, FreezeWish(lease_seconds=100)).changed
    assert (observe(acme.server).lease_remaining_seconds or 0) > 99


def test_a_renewal_killed_before_its_timer_counts_leaves_the_old_deadline(acme: Stage) -> None:
    before = acme.world.facts()
    freezing.freeze(acme.server, FreezeWish(lease_seconds=100))
    acme.clock.seconds += 60
    acme.world.kill_at = "arm"
    with pytest.raises(Killed):
        freezing.freeze(acme.server, FreezeWish(lease_seconds=100))
    acme.world.kill_at = None
    acme.clock.seconds += 41
    acme.world.armed = False  # the old timer fires, once
    assert freezing.thaw(acme.server, by_lease=True, even_disarmed=False).changed
    assert acme.world.facts() == before


def test_a_renewal_killed_before_it_is_recorded_is_thawed_by_the_new_timer(
    acme: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    freezing.freeze(acme.server, FreezeWish(lease_seconds=100))
    acme.clock.seconds += 60

    def dead(*_arguments: object, **_changes: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(acme.server.records, "update", dead)
        with pytest.raises(Killed):
            freezing.freeze(acme.server, FreezeWish(lease_seconds=100))
    assert acme.world.steps.count("arm") == 2
    acme.clock.seconds += 101
    assert freezing.thaw(acme.server, by_lease=True, even_disarmed=False).changed


def test_the_lease_s_unit_fails_while_nothing_counts_the_time_that_is_left(acme: Stage) -> None:
    freezing.freeze(acme.server, FreezeWish(lease_seconds=100))
    acme.world.armed = False
    error = failure(lambda: freezing.thaw(acme.server, by_lease=True, even_disarmed=False))
    assert error.check == "lease"
    assert "ireporter-lease-acme.timer does not count" in error.happened
    assert acme.world.gate is not None
    acme.clock.seconds += 101
    assert freezing.thaw(acme.server, by_lease=True, even_disarmed=False).changed


@pytest.mark.parametrize(
    ("leak", "check"),
    [
        ("new session", "freeze-proof"),
        ("old session", "freeze-proof"),
        ("http", "freeze-proof"),
        ("output", "freeze-proof"),
    ],
)
def test_a_way_round_the_freeze_is_found_and_the_tenant_serves_again(acme: Stage, leak: str, check: str) -> None:
    before = acme.world.facts()
    acme.world.leaks.add(leak)
    error = failure(lambda: freezing.freeze(acme.server, FreezeWish()))
    assert error.check == check
    assert "serves again" in error.happened
    assert getattr(error, "figures")["proof"]  # noqa: B009
    assert acme.world.facts() == before


STEPS = [
    "arm",
    "gate",
    "stop report@acme.timer",
    "stop standin@acme.service",
    "limit 0",
    "terminate",
    "mount output",
    "mount webdav",
]


@pytest.mark.parametrize("step", STEPS)
def test_a_failing_step_is_undone(acme: Stage, step: str) -> None:
    before = acme.world.facts()
    acme.world.fail_at = step
    error = failure(lambda: freezing.freeze(acme.server, FreezeWish()))
    assert error.check == "test"
    assert "serves again" in error.happened
    assert acme.world.facts() == before
    assert acme.server.records.read() is None


@pytest.mark.parametrize("step", STEPS)
def test_a_freeze_killed_anywhere_is_undone_by_its_lease(
    acme: Stage, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = acme.world.facts()
    acme.world.kill_at = step

    def dead(*_arguments: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(freezing, "_undone", dead)  # a killed process undoes nothing
        with pytest.raises(Killed):
            freezing.freeze(acme.server, FreezeWish(lease_seconds=100))
    acme.world.kill_at = None
    assert acme.server.records.read() is not None
    if step == "arm":
        error = failure(lambda: freezing.thaw(acme.server, by_lease=True, even_disarmed=False))
        assert error.check == "lease"
    else:
        assert freezing.thaw(acme.server, by_lease=True, even_disarmed=False).state_before == "renewed"
    acme.clock.seconds += 101
    freezing.thaw(acme.server, by_lease=True, even_disarmed=False)
    assert acme.world.facts() == before
    assert acme.server.records.read() is None


@pytest.mark.parametrize("step", STEPS)
def test_a_killed_freeze_begins_anew(acme: Stage, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    acme.world.kill_at = step

    def dead(*_arguments: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(freezing, "_undone", dead)
        with pytest.raises(Killed):
            freezing.freeze(acme.server, FreezeWish())
    acme.world.kill_at = None
    assert freezing.freeze(acme.server, FreezeWish()).changed
    assert observe(acme.server).state == "frozen"


@pytest.mark.parametrize(
    "step", ["unmount output", "limit 37", "start standin@acme.service", "start report@acme.timer", "gate off"]
)
def test_a_thaw_that_fails_keeps_lease_and_record_and_can_be_repeated(acme: Stage, step: str) -> None:
    before = acme.world.facts()
    freezing.freeze(acme.server, FreezeWish(lease_seconds=100))
    acme.clock.seconds += 101
    acme.world.fail_at = step
    error = failure(lambda: freezing.thaw(acme.server, by_lease=True, even_disarmed=False))
    assert error.check == "thaw"
    assert acme.server.records.read() is not None
    assert acme.world.lease_files
    freezing.thaw(acme.server, by_lease=True, even_disarmed=False)
    assert acme.world.facts() == before


def test_after_a_reboot_the_lease_has_ended(acme: Stage) -> None:
    freezing.freeze(acme.server, FreezeWish(lease_seconds=900))
    acme.world.boot = "boot-2"
    acme.world.read_only.clear()
    assert freezing.thaw(acme.server, by_lease=True, even_disarmed=False).changed
    assert observe(acme.server).state == "open"


def test_disarmed_stays_frozen_and_the_lease_does_nothing(acme: Stage) -> None:
    freezing.freeze(acme.server, FreezeWish(lease_seconds=100))
    outcome = freezing.freeze(acme.server, FreezeWish(disarmed=True, moved_to="https://new.example/"))
    assert outcome.changed
    seen = observe(acme.server)
    assert (seen.state, seen.lease) == ("frozen", DISARMED)
    assert seen.gate is not None
    assert seen.gate.moved_to == "https://new.example/"
    acme.clock.seconds += 1000
    assert not freezing.thaw(acme.server, by_lease=True, even_disarmed=False).changed
    assert observe(acme.server).state == "frozen"
    assert not freezing.freeze(acme.server, FreezeWish(disarmed=True, moved_to="https://new.example/")).changed


def test_a_timer_that_fires_between_disarm_and_its_removal_does_nothing(acme: Stage) -> None:
    freezing.freeze(acme.server, FreezeWish(lease_seconds=100))
    record = acme.server.records.read()
    assert record is not None
    acme.server.records.update(record, lease=DISARMED)  # the power went right after this line
    acme.clock.seconds += 101
    assert not freezing.thaw(acme.server, by_lease=True, even_disarmed=False).changed
    assert not acme.world.lease_files
    assert observe(acme.server).state == "frozen"


def test_disarm_after_the_lease_fired_is_refused(acme: Stage) -> None:
    freezing.freeze(acme.server, FreezeWish(lease_seconds=100))
    acme.clock.seconds += 101
    assert failure(lambda: freezing.freeze(acme.server, FreezeWish(disarmed=True))).check == "lease-fired"
    freezing.thaw(acme.server, by_lease=True, even_disarmed=False)
    assert failure(lambda: freezing.freeze(acme.server, FreezeWish(disarmed=True))).check == "lease-fired"
    assert failure(lambda: freezing.would_freeze(acme.server, FreezeWish(disarmed=True))).check == "lease-fired"


def test_a_person_cannot_thaw_a_tenant_frozen_for_good_by_mistake(acme: Stage) -> None:
    freezing.freeze(acme.server, FreezeWish())
    freezing.freeze(acme.server, FreezeWish(disarmed=True))
    assert failure(lambda: freezing.thaw(acme.server, by_lease=False, even_disarmed=False)).check == "lease-disarmed"
    freezing.thaw(acme.server, by_lease=False, even_disarmed=True)
    assert observe(acme.server).state == "open"


def test_a_closure_somebody_altered_is_noticed_and_put_right_without_thawing(acme: Stage) -> None:
    freezing.freeze(acme.server, FreezeWish())
    freezing.freeze(acme.server, FreezeWish(disarmed=True))
    acme.world.limit = 10
    acme.world.steps.clear()
    assert freezing.would_freeze(acme.server, FreezeWish(disarmed=True))
    outcome = freezing.freeze(acme.server, FreezeWish(disarmed=True))
    assert outcome.changed
    assert "connection limit 10" in outcome.repaired[0]
    assert not any(step.startswith("start ") for step in acme.world.steps)
    assert acme.world.limit == 0
    freezing.reopen(acme.server)
    assert acme.world.limit == 37


def test_with_the_record_lost_the_frozen_tenant_is_left_alone_and_thawed_from_the_gate(acme: Stage) -> None:
    before = acme.world.facts()
    freezing.freeze(acme.server, FreezeWish())
    freezing.freeze(acme.server, FreezeWish(disarmed=True))
    acme.server.records.remove()
    assert not freezing.freeze(acme.server, FreezeWish(disarmed=True)).changed
    freezing.reopen(acme.server)
    assert acme.world.facts() == before


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"prepared": ["gid"]}, "prepared-transaction"),
        ({"sessions": [Session(7, "postgres", "pg_dump", superuser=True)]}, "superuser-session"),
        ({"superuser_roles": {"application"}}, "superuser-probe"),
        ({"leaks": {"no include"}}, "gate-include"),
    ],
)
def test_an_obstacle_is_refused_before_anything_is_touched(acme: Stage, change: dict[str, object], check: str) -> None:
    for name, value in change.items():
        setattr(acme.world, name, value)
    before = acme.world.facts()
    assert failure(lambda: freezing.freeze(acme.server, FreezeWish())).check == check
    assert acme.world.facts() == before
    assert "arm" not in acme.world.steps
    assert acme.server.records.read() is None


def test_without_the_program_that_the_lease_calls_nothing_is_frozen(acme: Stage) -> None:
    Path(freeze_steps.LAUNCHER).unlink()
    assert failure(lambda: freezing.freeze(acme.server, FreezeWish())).check == "tools-installed"
    assert "arm" not in acme.world.steps


def test_a_request_that_does_not_end_thaws(acme: Stage) -> None:
    before = acme.world.facts()
    acme.world.writing = [Session(9, "acme_app", "standin", superuser=False)]
    error = failure(lambda: freezing.freeze(acme.server, FreezeWish(drain_seconds=3)))
    assert error.check == "drain"
    assert acme.world.facts() == before


def test_sessions_of_the_tenant_are_ended_and_counted(acme: Stage) -> None:
    acme.world.sessions = [Session(number, "acme_app", "", superuser=False) for number in range(3)]
    assert freezing.freeze(acme.server, FreezeWish()).sessions_terminated == 3


def test_closed_refuses_everybody_and_open_brings_it_back(acme: Stage) -> None:
    before = acme.world.facts()
    outcome = freezing.close(acme.server, moved_to=None, admit_secret=None, drain_seconds=5, run_id=None)
    assert outcome.changed
    assert observe(acme.server).state == "closed"
    assert acme.world.limit == 0
    assert not freezing.would_close(acme.server, moved_to=None, admit_secret=None)
    assert not freezing.close(acme.server, moved_to=None, admit_secret=None, drain_seconds=5, run_id=None).changed
    freezing.reopen(acme.server)
    assert acme.world.facts() == before


def test_closed_from_frozen_takes_mounts_and_lease_away_and_remembers_what_was_before(acme: Stage) -> None:
    before = acme.world.facts()
    freezing.freeze(acme.server, FreezeWish())
    freezing.freeze(acme.server, FreezeWish(disarmed=True))
    freezing.close(acme.server, moved_to=None, admit_secret=None, drain_seconds=5, run_id=None)
    assert not acme.world.read_only
    assert not acme.world.held
    freezing.reopen(acme.server)
    assert acme.world.facts() == before


def test_closed_notices_an_alteration(acme: Stage) -> None:
    freezing.close(acme.server, moved_to=None, admit_secret=None, drain_seconds=5, run_id=None)
    acme.server.units.start("standin@acme.service")
    assert freezing.would_close(acme.server, moved_to=None, admit_secret=None)
    outcome = freezing.close(acme.server, moved_to=None, admit_secret=None, drain_seconds=5, run_id=None)
    assert outcome.changed
    assert "standin@acme.service runs" in outcome.repaired[0]


def test_only_the_smoke_client_is_admitted(acme: Stage) -> None:
    secret = "a" * 20
    freezing.close(acme.server, moved_to=None, admit_secret=None, drain_seconds=5, run_id=None)
    outcome = freezing.close(acme.server, moved_to=None, admit_secret=secret, drain_seconds=5, run_id=None)
    assert outcome.changed
    seen = observe(acme.server)
    assert seen.state == "closed"
    assert seen.admitting
    assert not freezing.would_close(acme.server, moved_to=None, admit_secret=secret)
    assert secret not in acme.server.records.path.read_text()


def test_nobody_is_admitted_to_a_frozen_source(acme: Stage) -> None:
    freezing.freeze(acme.server, FreezeWish())
    error = failure(
        lambda: freezing.close(acme.server, moved_to=None, admit_secret="a" * 20, drain_seconds=5, run_id=None)
    )
    assert error.check == "admit-secret"
    assert observe(acme.server).state == "frozen"


def test_a_new_target_is_closed_before_its_database_exists_and_opened_afterwards(acme: Stage) -> None:
    acme.world.limit = None
    acme.server.units.stop("standin@acme.service")
    acme.server.units.disable("standin@acme.service")
    acme.server.units.disable("report@acme.timer")
    acme.server.units.stop("report@acme.timer")
    assert observe(acme.server).state == "absent"
    freezing.close(acme.server, moved_to=None, admit_secret=None, drain_seconds=5, run_id=None)
    assert observe(acme.server).state == "closed"
    acme.world.limit = 25  # the copy
    freezing.close(acme.server, moved_to=None, admit_secret="s" * 20, drain_seconds=5, run_id=None)
    freezing.reopen(acme.server)
    assert acme.world.limit == 25
    assert observe(acme.server).state == "open"
    assert acme.server.units.state("standin@acme.service").enabled == "enabled"


def test_disagreements_are_named(acme: Stage) -> None:
    acme.world.limit = 0
    seen = observe(acme.server)
    assert seen.state == "partial"
    assert "connection limit 0" in seen.disagreements[0]
    assert failure(lambda: freezing.freeze(acme.server, FreezeWish())).check == "state-partial"


def test_a_lease_that_does_not_count_makes_the_freeze_partial(acme: Stage) -> None:
    freezing.freeze(acme.server, FreezeWish())
    acme.world.armed = False
    seen = observe(acme.server)
    assert seen.state == "partial"
    assert seen.lease == "lost"
    assert seen.record is not None
    assert seen.record.lease == ARMED


def test_a_foreign_gate_file_is_not_taken_for_ours(acme: Stage) -> None:
    acme.world.gate_foreign = True
    assert observe(acme.server).state == "partial"
