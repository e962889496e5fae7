"""The benchmark itself, at its smallest: it runs, keeps everything it saw, and computes from that. No time is judged."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from bench import __main__ as command_line
from bench import playbook_output
from bench.commands import BenchError, Command
from bench.hashtext import sums
from bench.servers import Server, two_servers
from tests.integration.conftest import Cluster

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Every part that needs no lab, without pgcopydb, which only script/bench installs."""
    if os.geteuid() != 0:
        pytest.skip("files of several owners, as the generator makes them, can be read by root only")
    path = tmp_path_factory.mktemp("bench") / "bench.json"
    small = ["--gigabytes", "0", "--files", "100", "--runs", "1"]
    assert command_line.main(["copy", "verify", "files", *small, "--without-pgcopydb", "--json", str(path)]) == 0
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def test_it_says_on_what_and_with_what_it_was_measured(report: dict[str, Any]) -> None:
    assert len(report["project"]["commit"]) == 40
    assert report["machine"]["cores"] >= 1
    assert report["versions"]["postgresql"].startswith("postgres (PostgreSQL) ")
    assert report["server_settings"]["fsync"] == report["server_settings"]["full_page_writes"] == "on"
    assert report["options"]["parts"] == ["copy", "verify", "files"] == list(report["parts"])
    assert report["database"]["tables"] > 15
    assert report["trees"]["files"] > 100


def test_every_side_ran_once_a_round_and_every_figure_has_its_command(report: dict[str, Any]) -> None:
    for part in report["parts"].values():
        for name, measurement in part["measurements"].items():
            assert len(measurement["values"]) == report["options"]["runs"], name
            assert all(value > 0 for value in measurement["values"]), name
            assert measurement["median"] == statistics.median(measurement["values"])
            assert measurement["command"], name
            assert "ireporter-bench-" not in measurement["command"]


def test_ratios_are_computed_from_the_runs(report: dict[str, Any]) -> None:
    ratios = 0
    for part in report["parts"].values():
        for target in part["targets"]:
            ours = part["measurements"][target["ours"]]["values"]
            if target["peer"] in part["measurements"]:
                peer = part["measurements"][target["peer"]]["values"]
                assert target["ratio"] == statistics.median(ours) / statistics.median(peer)
                assert target["reached"] is (target["ratio"] <= target["most"])
                ratios += 1
            elif target["peer"] is None:
                assert target["reached"] is (statistics.median(ours) <= target["most"])
            else:
                assert target["peer"] == "pgcopydb clone"
                assert target["reached"] is None
    assert ratios == 5


def test_a_peers_copy_was_looked_at(report: dict[str, Any]) -> None:
    # pg_restore brings every row of every table, and not the settings of the database.
    kinds = report["parts"]["copy"]["details"]["differences_of_pg_restore_by_kind"]
    assert "table data" not in kinds
    assert kinds["database setting"] > 0


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The parts that export a tenant."""
    if os.geteuid() != 0:
        pytest.skip("files of several owners, as the generator makes them, can be read by root only")
    path = tmp_path_factory.mktemp("bench") / "bench.json"
    small = ["--gigabytes", "0", "--files", "100", "--runs", "1"]
    assert command_line.main(["export", "estimate", *small, "--json", str(path)]) == 0
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


@pytest.mark.slow
def test_a_bundle_is_measured_against_what_an_administrator_types(whole: dict[str, Any]) -> None:
    part = whole["parts"]["export"]
    assert list(part["measurements"]) == [
        "peak memory of our export", "our bundle, with digests, read back and signed", "size of our bundle",
        "pg_dump -Fd -j2, tar, gpg -c", "size of the administrator's",
    ]  # fmt: skip
    assert [(target["most"], target["peer"] is None) for target in part["targets"]] == [
        (0.3, False),
        (1.0, False),
        (300, True),
    ]
    assert all(target["reached"] in (True, False) for target in part["targets"])
    assert part["details"]["bundle"]["files"] > 60
    for measurement in part["measurements"].values():
        assert measurement["command"]
        assert "ireporter-bench-" not in measurement["command"]


@pytest.mark.slow
def test_the_error_of_an_estimate_is_computed_from_what_was_measured(whole: dict[str, Any]) -> None:
    part = whole["parts"]["estimate"]
    (one,) = part["details"]["rounds"]
    actual = sum(one["taken"].values())
    assert set(one["taken"]) == {"export", "download", "unpack", "restore", "prove"}
    assert one["error_percent"] == pytest.approx(abs(one["estimated"]["seconds"]["likely"] - actual) / actual * 100)
    assert part["targets"][0]["median_ours"] == one["error_percent"]
    assert {sample["part"] for sample in one["estimated"]["samples"]} >= {"pipeline", "read", "download", "restore"}


def test_a_server_does_not_outlive_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    start = Server.start

    def second_fails(server: Server) -> None:
        if server.directory.name == "target":
            raise BenchError("no second server")
        start(server)
        assert server.settings()["fsync"] == "on"

    monkeypatch.setattr(Server, "start", second_fails)
    with command_line._directory(None) as directory:
        source = Server(directory / "source")
        with pytest.raises(BenchError, match="no second server"), two_servers(directory):
            pass
        assert (source.data / "PG_VERSION").exists()
        assert not (source.data / "postmaster.pid").exists()
        with pytest.raises(psycopg.OperationalError):
            source.connect()
    assert not directory.exists()


def test_a_server_that_would_forget_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Server, "start", lambda self: None)
    monkeypatch.setattr(
        Server, "settings", lambda self: {"fsync": "off", "full_page_writes": "on", "synchronous_commit": "on"}
    )
    with pytest.raises(BenchError, match=r"unsafe: \['fsync'\]"), two_servers(Path("nowhere")):
        pass


def test_hashtext_reads_every_row_of_every_table_on_both_sides(cluster: Cluster) -> None:
    for side in ("left", "right"):
        cluster.execute("postgres", f"CREATE DATABASE hash_{side}")
        cluster.execute(
            f"hash_{side}", 'CREATE TABLE "a b" AS SELECT n FROM generate_series(1, 5000) n; CREATE TABLE none (n int)'
        )
    assert {table: rows for table, (rows, _) in sums(cluster.conninfo("hash_left"), 2).items()} == {
        ("public", "a b"): 5000, ("public", "none"): 0,
    }  # fmt: skip
    argv = [sys.executable, "-m", "bench.hashtext", cluster.conninfo("hash_left"), cluster.conninfo("hash_right"), "2"]
    root = Path(__file__).resolve().parents[2]
    assert subprocess.run(argv, cwd=root, capture_output=True, text=True, check=True).stdout.endswith(
        "different: none\n"
    )
    cluster.execute("hash_right", 'UPDATE "a b" SET n = 0 WHERE n = 4999')
    differing = subprocess.run(argv, cwd=root, capture_output=True, text=True, check=False)
    assert (differing.returncode, differing.stdout.strip()[-21:]) == (1, "different: public.a b")


def test_the_real_output_of_a_playbook_is_understood(tmp_path: Path) -> None:
    (tmp_path / "inventory").write_text(
        f"[all:vars]\nansible_python_interpreter={sys.executable}\n[all]\nacme\nserver ansible_connection=local\n"
    )
    (tmp_path / "play.yml").write_text(
        """
- hosts: acme
  gather_facts: false
  tasks:
    - {name: first, ansible.builtin.command: "true", delegate_to: server}
    - {name: fact, ansible.builtin.set_fact: {a: 1}}
    - {name: here, ansible.builtin.command: "true", delegate_to: localhost}
    - {name: secret, ansible.builtin.command: "true", delegate_to: server, no_log: true}
    - {name: skipped, ansible.builtin.command: "true", delegate_to: server, when: false}
    - {name: loop, ansible.builtin.command: "true", delegate_to: server, loop: [1, 2]}
    - {name: last, ansible.builtin.command: "true", delegate_to: server}
"""
    )
    completed = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", tmp_path / "inventory", tmp_path / "play.yml"],
        env=os.environ | {"ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"},
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    played = playbook_output.parse(completed.stdout)
    assert playbook_output.remote_tasks(played, "first", "last") == 5
    assert playbook_output.changed(played, "acme") == 5
    assert playbook_output.seconds_of(played, "skipped") == 0
    assert playbook_output.seconds_of(played, "loop") > 0
    assert str(Command(["a b"])) == "'a b'"
