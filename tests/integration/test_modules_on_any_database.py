"""``ansible localhost -m ireporter_database`` and ``ireporter_verification``, typed as the README has them, on a database of pgbench's."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.conftest import BINARIES, Cluster

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.integration


@pytest.fixture
def pgbench(cluster: Cluster) -> Iterator[str]:
    """A database nobody here designed."""
    cluster.execute("postgres", "CREATE DATABASE bench")
    command = [str(BINARIES / "pgbench"), "--initialize", "--foreign-keys", "--partitions=3", "--quiet", "bench"]
    subprocess.run(
        [*command, "--host", str(cluster.directory), "--username=postgres"], check=True, capture_output=True, cwd="/"
    )
    yield "bench"
    for name in ("bench", "bench_copy"):
        cluster.execute("postgres", f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def ansible(module: str, cluster: Cluster, source: str, target: str, *more: str) -> tuple[int, dict[str, Any]]:
    """Exit status and result of one module call."""
    where = f"host={cluster.directory} user=postgres"
    arguments = f"source='{where} dbname={source}' target='{where} dbname={target}' {' '.join(more)}"
    program = Path(sys.executable).with_name("ansible")
    done = subprocess.run(
        [str(program), "--one-line", "localhost", "-m", module, "-a", arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=300,
    )
    assert "=> {" in done.stdout, done.stdout + done.stderr
    return done.returncode, json.loads(done.stdout[done.stdout.index("=> {") + 3 :])


def test_copied_compared_and_a_difference_named(cluster: Cluster, pgbench: str) -> None:
    status, copied = ansible("ireporter_database", cluster, pgbench, "bench_copy", "state=copied")
    assert (status, copied["changed"], copied["rows"]) == (0, True, 100_011)
    status, again = ansible("ireporter_database", cluster, pgbench, "bench_copy", "state=copied")
    assert (status, again["changed"]) == (0, False)
    status, verified = ansible("ireporter_verification", cluster, pgbench, "bench_copy")
    assert (status, verified["differences"], verified["rows_verified"]) == (0, [], 100_011)

    cluster.execute("bench_copy", "UPDATE pgbench_accounts SET abalance = 1 WHERE aid = 4711")
    status, different = ansible("ireporter_verification", cluster, pgbench, "bench_copy")
    assert status != 0
    assert "4711" in json.dumps(different["differences"])
    assert "pgbench_accounts" in different["msg"]


def test_a_password_in_a_connection_string_is_refused_and_not_repeated(cluster: Cluster, pgbench: str) -> None:
    status, refused = ansible("ireporter_database", cluster, f"{pgbench} password=hunter2", "bench_copy")
    assert status != 0
    assert "password" in refused["msg"]
    assert "hunter2" not in refused["msg"]
