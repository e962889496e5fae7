"""A tenant that opened on its dedicated server comes back with everything written there."""

from __future__ import annotations

import pytest
from playing import Lab

pytestmark = pytest.mark.lab


@pytest.mark.slow
def test_what_was_written_between_open_and_rollback_comes_back(lab: Lab) -> None:
    lab.reset()
    moved = lab.play("shared_to_dedicated")
    assert moved.returncode == 0, moved.output[-5000:]

    lab.sql(
        "dedicated01",
        "irepodb_acme",
        "UPDATE mst_group SET group_name = 'written after open' WHERE group_id = (SELECT min(group_id) FROM mst_group)",
    )
    lab.on(
        "dedicated01",
        "install -o ireporter-acme -g ireporter-acme -m 0640 /dev/stdin '/srv/ireporter/acme/output/written after open.csv' <<< 1,2,3",
    )

    back = lab.play("rollback")
    assert back.returncode == 0, back.output[-5000:]
    assert lab.serves("shared01")
    assert not lab.serves("dedicated01")
    assert (
        lab.sql("shared01", "irepodb_acme", "SELECT count(*) FROM mst_group WHERE group_name = 'written after open'")
        == "1"
    )
    assert lab.on("shared01", "cat '/srv/ireporter/acme/output/written after open.csv'") == "1,2,3\n"
    assert lab.leftovers() == ""

    again = lab.play("rollback")
    assert again.returncode == 0, again.output[-5000:]
    assert again.recap("acme")["changed"] == 0

    forward = lab.play("shared_to_dedicated")
    assert forward.returncode == 0, forward.output[-5000:]
    assert lab.serves("dedicated01")
    assert (
        lab.sql("dedicated01", "irepodb_acme", "SELECT count(*) FROM mst_group WHERE group_name = 'written after open'")
        == "1"
    )
