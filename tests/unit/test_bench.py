"""The benchmark's arithmetic, and what it says about it; nothing here takes a time."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bench import __main__ as command_line
from bench import commands, downtime, memory, migration, playbook_output
from bench.commands import BenchError, Command
from bench.figures import Findings, Measurement, Target, judge, medians, table


def measured(**values: list[float]) -> dict[str, Measurement]:
    return {name: Measurement("s", name, runs) for name, runs in values.items()}


def test_the_ratio_is_that_of_medians_and_its_spread_that_of_rounds() -> None:
    judgement = judge(measured(ours=[3, 1, 2], peer=[4, 4, 8]), Target("ours", 0.5, "peer"))
    assert (judgement.ours, judgement.peer, judgement.ratio) == (2, 4, 0.5)
    assert (judgement.lowest, judgement.highest) == (0.25, 0.75)
    assert judgement.reached is True


def test_one_slow_run_does_not_decide_and_a_median_above_the_target_misses_it() -> None:
    assert judge(measured(ours=[1, 1, 99], peer=[2, 2, 2]), Target("ours", 0.5, "peer")).reached is True
    assert judge(measured(ours=[1.01, 1.01, 0.1], peer=[2, 2, 2]), Target("ours", 0.5, "peer")).reached is False


def test_a_target_without_a_peer_is_an_amount() -> None:
    assert judge(measured(ours=[300, 310, 10]), Target("ours", 300)).reached is True
    assert judge(measured(ours=[301]), Target("ours", 300)).reached is False


@pytest.mark.parametrize("there", [{}, {"ours": [1.0]}, {"peer": [1.0]}])
def test_what_was_not_measured_is_not_reached(there: dict[str, list[float]]) -> None:
    judgement = judge(measured(**there), Target("ours", 0.5, "peer"))
    assert judgement.reached is None
    assert judgement.ratio is None
    assert "NOT MEASURED" in table([judgement])


def test_runs_that_are_no_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shorter|longer"):
        judge(measured(ours=[1, 2], peer=[1, 2, 3]), Target("ours", 0.5, "peer"))


def test_the_table_names_both_sides_the_target_and_whether_it_is_reached() -> None:
    runs = measured(ours=[1], peer=[4])
    lines = table([judge(runs, Target("ours", 0.3, "peer")), judge(runs, Target("ours", 0.2, "peer"))]).splitlines()
    assert lines[0].split() == ["ours", "peer", "ratio", "rounds", "target"]
    assert lines[1].split() == [
        "ours", ":", "peer", "1.00", "s", "4.00", "s", "0.250", "0.250–0.250", "<=", "0.3", "reached",
    ]  # fmt: skip
    assert lines[2].endswith("MISSED")


def test_findings_gather_runs_by_name() -> None:
    found = Findings()
    for value in (3, 1, 2):
        found.add("ours", value, command="run it")
    found.add("peak", 5, unit="MB")
    assert found.measurements["ours"].as_dict() == {
        "unit": "s", "command": "run it", "values": [3, 1, 2], "median": 2,
    }  # fmt: skip
    assert medians(found.measurements).splitlines()[2].split() == ["peak", "5.00", "MB", "5.00"]


# The command line -----------------------------------------------------------------------------------------------------
def report(reached: bool | None) -> dict[str, Any]:
    target = {
        "ours": "ours", "peer": "peer", "most": 1, "unit": "s", "median_ours": 1.0, "median_peer": 1.0, "ratio": 1.0,
        "lowest_ratio_of_a_round": 1.0, "highest_ratio_of_a_round": 1.0, "reached": reached,
    }  # fmt: skip
    return {
        "options": {"runs": 1, "gigabytes": 0.01, "files": 1},
        "machine": {"cores": 2, "processor": "a processor", "file_system": "ext4"},
        "project": {"commit": "0" * 40, "altered": False},
        "caches": "alike",
        "load_before": 0.0,
        "load_after": 0.0,
        "parts": {"copy": {"targets": [target]}},
    }


@pytest.mark.parametrize(
    ("reached", "usual", "strict"), [(True, 0, 0), (False, 0, 1), (None, 0, 1)], ids=["reached", "missed", "unknown"]
)
def test_only_strict_fails_for_a_target(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    reached: bool | None,
    usual: int,
    strict: int,
) -> None:
    monkeypatch.setattr(command_line, "measure", lambda options: report(reached))
    assert command_line.main(["copy", "--json", str(tmp_path / "new" / "bench.json")]) == usual
    assert command_line.main(["copy", "--strict"]) == strict
    assert (
        json.loads((tmp_path / "new" / "bench.json").read_text())["parts"]["copy"]["targets"][0]["reached"] is reached
    )
    # Whoever reads the table is told what it is worth.
    said = capsys.readouterr().out
    assert "they are no result" in said
    assert "this was less" in said


def test_a_failed_command_fails_and_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(options: argparse.Namespace) -> dict[str, Any]:
        raise BenchError("Our copy differs")

    monkeypatch.setattr(command_line, "measure", measure)
    assert command_line.main(["copy"]) == 1
    assert "Our copy differs" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no folder in memory on this machine")
def test_a_folder_in_memory_is_known_as_one() -> None:
    assert command_line.machine.file_system(Path("/dev/shm")) in command_line._IN_MEMORY


def test_a_folder_in_memory_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(command_line.machine, "file_system", lambda directory: "tmpfs")
    options = command_line._parser().parse_args(["files", "--directory", str(tmp_path)])
    with pytest.raises(BenchError, match="in memory"):
        command_line.measure(options)


# Commands and memory --------------------------------------------------------------------------------------------------
def test_a_command_that_fails_is_named_with_what_it_said() -> None:
    with pytest.raises(BenchError, match=r"exited 3 and said:\nno good"):
        commands.seconds(Command(["sh", "-c", "echo no good >&2; exit 3"]))
    with pytest.raises(BenchError, match="is not installed"):
        commands.seconds(Command(["no-such-program-here"]))


def test_memory_is_that_of_the_session_with_children_and_nothing_else(tmp_path: Path) -> None:
    holder = "held = bytearray(b'x' * (64 << 20)); print('holding', flush=True); input()"
    with subprocess.Popen(
        ["sh", "-c", f'{sys.executable} -c "$1"; true', "sh", holder],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == b"holding\n"
        held = memory.proportional_bytes(process.pid)
        process.communicate(b"\n")
    assert 64 << 20 <= held < 200 << 20
    assert memory.proportional_bytes(process.pid) == 0


def test_what_is_interrupted_leaves_no_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    child = tmp_path / "child"

    def interrupt(session: int) -> int:
        if child.exists() and child.read_text().endswith("\n"):
            raise KeyboardInterrupt
        return 0

    monkeypatch.setattr(commands, "proportional_bytes", interrupt)
    with pytest.raises(KeyboardInterrupt):
        commands.peak_megabytes(Command(["sh", "-c", f"sleep 600 & echo $! >{child}; wait"]))
    # Killed: it may take a moment to die where the processor is busy.
    until = time.monotonic() + 10
    while not _ended(Path("/proc", child.read_text().strip(), "stat")) and time.monotonic() < until:
        time.sleep(0.01)
    assert _ended(Path("/proc", child.read_text().strip(), "stat"))


def _ended(stat: Path) -> bool:
    """Whether its new parent has looked already is not ours."""
    try:
        return stat.read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_commands_are_shown_without_what_is_this_machines_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "/own/bin:/bin")
    command = Command([f"{commands.ROOT}/bin/it", f"{tmp_path}/in"], {"PATH": "/new:/own/bin:/bin"})
    assert commands.shown(command, command, hide=tmp_path) == (
        "PATH=/new:$PATH bin/it DIRECTORY/in && PATH=/new:$PATH bin/it DIRECTORY/in"
    )


# A playbook's output --------------------------------------------------------------------------------------------------
def task(name: str, action: str = "command", seconds: int = 1, **result: Any) -> dict[str, Any]:
    duration = {"start": "2026-01-01T00:00:00.500000Z", "end": f"2026-01-01T00:00:{seconds:02d}.500000Z"}
    return {"task": {"name": name, "duration": duration}, "hosts": {"acme": {"action": action, **result}}}


def there(host: str) -> dict[str, Any]:
    return {"_ansible_delegated_vars": {"ansible_delegated_host": host}}


def test_remote_tasks_are_those_that_ran_on_a_server() -> None:
    item = {"ansible_loop_var": "item", **there("one")}
    played = {
        "plays": [
            {
                "tasks": [
                    task("before", **there("one")),
                    task("role : first", **there("one")),  # 1
                    task("role : facts", "set_fact"),
                    task("role : asked", "ansible.builtin.assert", **there("one")),
                    task("role : skipped", skipped=True),
                    task("role : here", **there("localhost")),
                    task("role : loop", results=[item, item, item | {"skipped": True}]),  # 2
                    task("role : results of its own", results=[1, 2], **there("one")),  # 1
                    task("role : last", "ireporter_tenant", **there("two")),  # 1
                    task("role : after", **there("one")),
                ]
            }
        ]
    }
    assert playbook_output.remote_tasks(played, "first", "last") == 5
    with pytest.raises(BenchError, match="did not come to its task 'no such'"):
        playbook_output.remote_tasks(played, "first", "no such")


def test_waits_count_where_they_were_waited() -> None:
    played = {"plays": [{"tasks": [task("dns : wait", seconds=7), task("dns : wait", seconds=9, skipped=True)]}]}
    assert playbook_output.seconds_of(played, "wait") == 7
    assert playbook_output.seconds_of(played, "ait") == 0


def played_migration(changes: int) -> dict[str, Any]:
    tasks = [
        task(playbook_output.TTL_WAIT, seconds=30),
        task(playbook_output.FREEZE_BEGINS, **there("shared01")),
        task("copy", **there("shared01")),
        task(playbook_output.FREEZE_ENDS, **there("dedicated01")),
    ]
    return {"plays": [{"tasks": tasks}], "stats": {"acme": {"changed": changes}}}


def test_a_migration_is_measured_without_its_wait_on_fresh_servers_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    runs = iter([(50.0, 9), (100.0, 9), (20.0, 0), (50.0, 9), (110.0, 9), (22.0, 0)])

    def play(*arguments: str) -> tuple[float, dict[str, Any]]:
        done.append(" ".join(arguments))
        seconds, changes = next(runs)
        return seconds, played_migration(changes)

    monkeypatch.setattr(migration, "play", play)
    monkeypatch.setattr(migration, "run", lambda command: done.append(command.argv[1]))
    found = migration.measure(2).measurements
    assert found[migration.FULL].values == [70.0, 80.0]
    assert found[migration.AGAIN].values == [20.0, 22.0]
    assert found[migration.REMOTE_TASKS].values == [3, 3]
    whole = "playbooks/shared_to_dedicated.yml --limit acme"
    assert done == ["up", *["reset", f"{whole} --tags prepare", whole, whole] * 2]


def test_a_second_migration_that_changes_something_is_no_second_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migration, "play", lambda *arguments: (1.0, played_migration(2)))
    monkeypatch.setattr(migration, "run", lambda command: None)
    with pytest.raises(BenchError, match="second run changed 2 tasks"):
        migration.measure(1)


def load(*, outage: float, failed: int = 0) -> dict[str, Any]:
    """What the load client says, as far as it is asked."""
    tablets = {
        "role": "tablets",
        "outage_seconds": outage,
        "writes_per_second_while_serving": 21.0,
        "acknowledged_writes": 900,
    }
    neighbour = {"role": "neighbour", "failed_requests": failed, "requests_per_second": 11.0}
    return {"tablets": 20, "tenants": {"acme": tablets, "bravo": neighbour}}


def test_a_downtime_is_the_tablets_and_the_first_file_pass_comes_before(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    loads = iter([load(outage=18.5), load(outage=40.5), load(outage=20.5), load(outage=42.5)])

    def under_load(*arguments: str) -> tuple[float, dict[str, Any], dict[str, Any]]:
        done.append(" ".join(arguments[-5:]))
        return 100.0, next(loads), {"plays": []}

    monkeypatch.setattr(downtime, "run", lambda command: done.append(" ".join(command.argv[1:])))
    monkeypatch.setattr(downtime, "play", lambda *arguments: done.append(" ".join(arguments[-5:])))
    monkeypatch.setattr(downtime, "_under_load", under_load)
    found = downtime.measure(2, 10.0, 7).measurements
    assert found[downtime.DOWNTIME.format(downtime.EXPORT)].values == [18.5, 20.5]
    assert found[downtime.DOWNTIME.format(downtime.TO_DEDICATED)].values == [40.5, 42.5]
    assert found[downtime.WRITES.format(downtime.EXPORT)].values == [900, 900]
    lab = ["reset --gigabytes 10.0 --files 7", "reset delivery01"]
    one_round = [
        *[*lab, *(f"playbooks/cloud_export.yml --limit acme --tags {tag}" for tag in ("prepare", "cut_over"))],
        *[*lab, *(f"playbooks/shared_to_dedicated.yml --limit acme --tags {tag}" for tag in ("prepare", "cut_over"))],
    ]
    assert done == ["up", *one_round * 2]


def test_a_downtime_that_hurt_a_neighbour_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downtime, "run", lambda command: None)
    monkeypatch.setattr(downtime, "play", lambda *arguments: None)
    monkeypatch.setattr(downtime, "_under_load", lambda *arguments: (1.0, load(outage=1.0, failed=3), {"plays": []}))
    with pytest.raises(BenchError, match="3 requests of neighbour bravo failed"):
        downtime.measure(1, 2.0, 7)


def test_output_without_json_is_a_failure() -> None:
    assert playbook_output.parse('[WARNING]: {x}\n{\n "plays": []\n}\nbye\n') == {"plays": []}
    with pytest.raises(BenchError, match="printed no JSON: nothing"):
        playbook_output.parse("nothing")


def test_the_tasks_it_looks_for_are_in_the_roles() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (commands.ROOT / "roles").glob("*/tasks/*.yml"))
    for name in (playbook_output.FREEZE_BEGINS, playbook_output.FREEZE_ENDS, playbook_output.TTL_WAIT):
        assert f"- name: {name}\n" in text
