"""The controller is killed inside the freeze, nobody is present: the tenant serves again by itself; the next run completes."""

from __future__ import annotations

import pytest
from playing import Lab

pytestmark = pytest.mark.lab

LEASE_SECONDS = 45


def test_killed_inside_the_freeze(lab: Lab) -> None:
    lab.reset()
    lease = ("-e", f"shared_to_dedicated_lease_seconds={LEASE_SECONDS}")
    played = lab.play_and_at("Copy | Database", "SIGKILL", "shared_to_dedicated", *lease)
    assert played.returncode == -9, played.output[-5000:]
    assert not lab.serves("shared01"), "it was not frozen when the controller died"
    assert lab.serves("shared01", "bravo")

    lab.wait_until("the lease reopens acme on shared01", lambda: lab.serves("shared01"), seconds=LEASE_SECONDS + 60)
    assert (
        lab.sql("shared01", "postgres", "SELECT datconnlimit FROM pg_database WHERE datname = 'irepodb_acme'") == "-1"
    )

    again = lab.play("shared_to_dedicated")
    assert again.returncode == 0, again.output[-5000:]
    assert lab.serves("dedicated01")
    assert not lab.serves("shared01")
    assert lab.leftovers() == ""


@pytest.mark.slow
def test_killed_between_switch_and_open(lab: Lab) -> None:
    lab.reset()
    played = lab.play_and_at("Open | Users can write on the target", "SIGKILL")
    assert played.returncode == -9, played.output[-5000:]
    status = lab.play("status")
    assert "nowhere: the tenant is down" in status.output
    again = lab.play("shared_to_dedicated", "-e", "shared_to_dedicated_operator=second-shift")
    if again.returncode != 0 and "run-lock" in again.output:
        pytest.fail("the lock of a dead controller did not expire in time:\n" + again.output[-2000:])
    assert again.returncode == 0, again.output[-5000:]
    assert lab.serves("dedicated01")
    assert not lab.serves("shared01")
    assert lab.leftovers() == ""
