"""Two operators, one tenant: the second one's run never acts on what it saw before the first one moved the tenant."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from load import Load
from playing import ROOT, SHORT_LOCK, Lab

pytestmark = [
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.promise("A second operator hurts nobody: the run that comes later does nothing"),
]

# The second run observes the tenant on the shared server, then waits for the lock until the first one has moved it.
SECOND = (
    "env --unset=ANSIBLE_CALLBACKS_ENABLED ansible-playbook playbooks/shared_to_dedicated.yml --limit acme --tags cut_over"
    " -e shared_to_dedicated_operator=second-shift -e shared_to_dedicated_lock_seconds=300"
)


def test_a_run_that_waited_for_the_lock_looks_again(lab: Lab, tmp_path: Path) -> None:
    lab.prepare()
    log = tmp_path / "second.log"
    started = (
        f'cd {shlex.quote(str(ROOT))} && (({SECOND}; echo "exit status $?") >{shlex.quote(str(log))} 2>&1 </dev/null &)'
    )
    with Load(tmp_path) as load:
        first = lab.play_and_at(
            "Freeze | No write can happen on the source, and it is proved",
            started,
            *("shared_to_dedicated", "-e", "shared_to_dedicated_lock_seconds=120"),  # as in life; the lab's is short
        )
        assert first.returncode == 0, first.output[-5000:]
        lab.wait_until("the second run ends", lambda: "exit status" in log.read_text(), seconds=300)
        load.works_again()
        load.stop()
        assert load.lost() == []
        assert load.neighbours_failed() == 0
    said = log.read_text()
    assert "exit status 0" not in said, said[-4000:]
    assert "another run" in said, said[-4000:]
    assert lab.serves("dedicated01")
    assert not lab.serves("shared01")

    third = lab.play("shared_to_dedicated")
    assert (third.returncode, third.recap("acme")["changed"]) == (0, 0), third.output[-3000:]
    assert len(json.loads(lab.mails())) == 2
    assert lab.leftovers() == ""


def test_a_run_that_took_the_lock_of_one_that_was_further_gives_it_back(lab: Lab) -> None:
    lab.reset()
    assert lab.play("shared_to_dedicated", "--tags", "prepare").returncode == 0
    # The first one gives no sign of life any more, after the tenant serves from its new server.
    first = (
        f"cd {shlex.quote(str(ROOT))} && AT_TASK_NAME='Keep backup | Is it there already?' AT_TASK_COMMAND=SIGKILL"
        f" ansible-playbook playbooks/shared_to_dedicated.yml --limit acme --tags cut_over {shlex.join(SHORT_LOCK)} </dev/null; test $? = 137"
    )
    second = lab.play_and_at(
        "Begin | Run record and lock",
        first,
        *("shared_to_dedicated", "--tags", "cut_over", "-e", "shared_to_dedicated_operator=second-shift", *SHORT_LOCK),
    )
    assert second.returncode == 2, second.output[-5000:]
    assert '"source" when this run began, and another run has brought it to "target" since (run-lock)' in " ".join(
        second.output.split()
    )
    lock = json.loads(lab.on("shared01", "cat /var/lib/ireporter-migration/acme/lock.json"))
    assert lock["operator"] != "second-shift"
    assert lab.serves("dedicated01")
    assert not lab.serves("shared01")

    third = lab.play("shared_to_dedicated", *SHORT_LOCK)
    assert third.returncode == 0, third.output[-5000:]
    assert len(json.loads(lab.mails())) == 2
    assert lab.leftovers() == ""


def test_a_run_that_gave_no_sign_of_life_for_long_touches_nothing(lab: Lab) -> None:
    """A control node that slept in the gate: meanwhile another run moved the tenant, and users write on its new server."""
    lab.prepare()
    other = (
        f"cd {shlex.quote(str(ROOT))} && env --unset=ANSIBLE_CALLBACKS_ENABLED ansible-playbook playbooks/shared_to_dedicated.yml"
        f" --limit acme --tags cut_over -e shared_to_dedicated_operator=second-shift {shlex.join(SHORT_LOCK)} </dev/null"
    )
    asleep = lab.play_and_at(
        "Gate | This run's tenant still", other, "shared_to_dedicated", "--tags", "cut_over", *SHORT_LOCK
    )
    assert asleep.returncode == 2, asleep.output[-5000:]
    assert "touched nothing more" in " ".join(asleep.output.split()), asleep.output[-5000:]
    assert lab.serves("dedicated01")
    assert not lab.serves("shared01")
    assert lab.run_record("shared01")["status"] == "succeeded"
    assert len(json.loads(lab.mails())) == 2
    assert lab.leftovers() == ""
