"""A controller that ends inside the cut-over leaves a tenant that serves again by itself; the next run completes."""

from __future__ import annotations

import pytest
from playing import SHORT_LOCK, Lab

pytestmark = pytest.mark.lab

LEASE_SECONDS = 45


@pytest.fixture(scope="module")
def prepared(lab: Lab) -> Lab:
    lab.prepare()
    return lab


def test_ctrl_c_inside_the_freeze_undoes_at_once(prepared: Lab) -> None:
    played = prepared.play_and_at("Copy | Database", "SIGINT", "shared_to_dedicated", "--tags", "cut_over")
    assert played.returncode == 99, played.output[-5000:]
    assert "Interrupted. Undoing now" in played.output
    _serves_from_the_source_again(prepared)
    record = prepared.run_record("shared01")
    assert (record["status"], record["step"]) == ("undone", "rollback")
    assert prepared.leftovers() == ""


def test_killed_inside_the_freeze(prepared: Lab) -> None:
    lease = ("-e", f"shared_to_dedicated_lease_seconds={LEASE_SECONDS}")
    played = prepared.play_and_at("Copy | Database", "SIGKILL", "shared_to_dedicated", *lease, *SHORT_LOCK)
    assert played.returncode == -9, played.output[-5000:]
    assert not prepared.serves("shared01"), "it was not frozen when the controller died"
    assert prepared.serves("shared01", "bravo")

    prepared.wait_until(
        "the lease reopens acme on shared01", lambda: prepared.serves("shared01"), seconds=LEASE_SECONDS + 60
    )
    _serves_from_the_source_again(prepared)

    again = prepared.play("shared_to_dedicated")
    assert again.returncode == 0, again.output[-5000:]
    assert prepared.serves("dedicated01")
    assert not prepared.serves("shared01")
    assert prepared.leftovers() == ""


@pytest.mark.slow
def test_killed_between_switch_and_open(lab: Lab) -> None:
    lab.prepare()
    played = lab.play_and_at("Open | Users can write on the target", "SIGKILL")
    assert played.returncode == -9, played.output[-5000:]
    status = lab.play("status")
    assert "nowhere: the tenant is down" in status.output
    again = lab.play("shared_to_dedicated", "-e", "shared_to_dedicated_operator=second-shift")
    assert again.returncode == 0, again.output[-5000:]
    assert lab.serves("dedicated01")
    assert not lab.serves("shared01")
    assert lab.leftovers() == ""


def _serves_from_the_source_again(lab: Lab) -> None:
    assert lab.serves("shared01")
    assert not lab.serves("dedicated01")
    assert (
        lab.sql("shared01", "postgres", "SELECT datconnlimit FROM pg_database WHERE datname = 'irepodb_acme'") == "-1"
    )
