"""A tenant that opened on its dedicated server comes back with everything written there, whatever dies on the way."""

from __future__ import annotations

import pytest
from playing import Lab

pytestmark = [
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.promise(
        "The way back loses nothing that was written on the new server, wherever it is killed, and when that server has crashed"
    ),
]


@pytest.fixture(scope="module")
def fresh(lab: Lab) -> Lab:
    lab.reset()
    return lab


def test_what_was_written_after_open_comes_back_through_every_kill(fresh: Lab) -> None:
    _moves(fresh)
    _write(fresh, "first")

    # Frozen on both servers, and only the target has the newest rows.
    assert fresh.play_and_at("Copy back | Database, beside the old one", "SIGKILL", "rollback").returncode == -9
    status = fresh.play("status")
    assert "on its way back" in status.output, status.output[-3000:]
    forward = fresh.play("shared_to_dedicated")
    assert forward.returncode != 0
    assert "rollback.yml" in forward.output
    assert not fresh.serves("shared01")

    # Back on the source already, but not open; then open, but the public name still leads to the target.
    for task in ("Roll back | Users can write on the source", "Switch | read the record"):
        killed = fresh.play_and_at(task, "SIGKILL", "rollback")
        assert killed.returncode == -9, killed.output[-5000:]

    back = fresh.play("rollback")
    assert back.returncode == 0, back.output[-5000:]
    _is_back(fresh, "first")

    again = fresh.play("rollback")
    assert again.returncode == 0, again.output[-5000:]
    assert again.recap("acme")["changed"] == 0


def test_a_target_that_crashed_is_still_the_truth(fresh: Lab) -> None:
    _moves(fresh)
    assert _written(fresh, "dedicated01", "first"), "the way forward lost what had come back"
    _write(fresh, "second")

    _crash(fresh)
    status = fresh.play("status")
    assert "its data is on dedicated01" in status.output, status.output[-3000:]
    mended = fresh.play("shared_to_dedicated")
    assert mended.returncode == 0, mended.output[-5000:]
    assert fresh.serves("dedicated01")
    assert not fresh.serves("shared01")
    assert _written(fresh, "dedicated01", "second")

    _crash(fresh)
    back = fresh.play("rollback")
    assert back.returncode == 0, back.output[-5000:]
    _is_back(fresh, "second")


def test_an_earlier_attempt_is_not_taken_for_the_way_back(fresh: Lab) -> None:
    """The first attempt ends after the databases changed places, users go on writing, the second one is killed just before they do."""
    _moves(fresh)
    _write(fresh, "third")
    unit = "ireporter-standin@acme.service"
    fresh.on("shared01", f"systemctl mask --runtime {unit}")
    try:
        stopped = fresh.play("rollback")
    finally:
        fresh.on("shared01", f"systemctl unmask --runtime {unit}")
    assert stopped.returncode != 0
    assert fresh.serves("dedicated01"), stopped.output[-5000:]
    assert not fresh.serves("shared01")

    _write(fresh, "fourth")
    places = "Copy back | The returned database takes the place of the old one, which is kept"
    assert fresh.play_and_at(places, "SIGKILL", "rollback").returncode == -9
    back = fresh.play("rollback")
    assert back.returncode == 0, back.output[-5000:]
    _is_back(fresh, "fourth")


def _moves(lab: Lab) -> None:
    moved = lab.play("shared_to_dedicated")
    assert moved.returncode == 0, moved.output[-5000:]
    assert lab.serves("dedicated01")


def _crash(lab: Lab) -> None:
    """The application ended, and nothing starts it again."""
    lab.on("dedicated01", "systemctl stop ireporter-standin@acme.service")
    assert not lab.serves("dedicated01")


def _write(lab: Lab, mark: str) -> None:
    """A row and a file, as users leave them."""
    lab.sql(
        "dedicated01",
        "irepodb_acme",
        f"UPDATE mst_group SET group_name = '{mark} after open' WHERE group_id = (SELECT min(group_id) FROM mst_group)",
    )
    install = "install -o ireporter-acme -g ireporter-acme -m 0640 /dev/stdin"
    lab.on("dedicated01", f"{install} '/srv/ireporter/acme/output/{mark} after open.csv' <<< {mark}")


def _written(lab: Lab, host: str, mark: str) -> bool:
    rows = lab.sql(host, "irepodb_acme", f"SELECT count(*) FROM mst_group WHERE group_name = '{mark} after open'")
    return rows == "1" and lab.on(host, f"cat '/srv/ireporter/acme/output/{mark} after open.csv'") == f"{mark}\n"


def _is_back(lab: Lab, mark: str) -> None:
    assert lab.serves("shared01")
    assert not lab.serves("dedicated01")
    assert _written(lab, "shared01", mark)
    addresses = {lab.on(server, "dig +short @127.0.0.1 acme.ireporter.example A").strip() for server in ("ns1", "ns2")}
    assert addresses == {lab.on("shared01", "hostname -I").split()[0]}
    assert lab.leftovers() == ""
