"""Samples of throughput on real servers: what they read, what estimates make of them, and that nothing of them stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ireporter import throughput
from ireporter.clock import SystemClock
from ireporter.commands import run as run_command
from ireporter.errors import MigrationError
from ireporter.estimate_input import EstimateInput, Throughput
from ireporter.estimate_samples import OF_EXPORT, PIPELINE, read_samples
from ireporter.plan_facts import Facts
from ireporter.throughput_download import agreed, fetched
from ireporter.throughput_shape import read_shape

from bench.https_server import serving

from .conftest import Cluster

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
LEAST = 1 << 16

# Ends itself without warning when ATTRIBUTE of MODULE is called for the Nth time.
_VICTIM = """
import importlib, json, os, signal, sys
specification, module, path, number = json.load(sys.stdin)
from ireporter import throughput
owner = importlib.import_module(module)
*outer, name = path.split(".")
for part in outer:
    owner = getattr(owner, part)
real = getattr(owner, name)
calls = 0
def deadly(*arguments, **named):
    global calls
    calls += 1
    if calls == number:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **named)
setattr(owner, name, deadly)
throughput.run(specification, lambda progress: None)
"""


def quiet(_progress: dict[str, object]) -> None:
    """Nobody watches."""


def run(spec: dict[str, object]) -> dict[str, Any]:
    return throughput.run({"count": 2, "rest": 0, **spec}, quiet)


def kill(spec: dict[str, object], module: str, attribute: str, number: int = 1) -> None:
    """Run it in a process of its own, which must die there."""
    done = subprocess.run(
        [sys.executable, "-c", _VICTIM],
        input=json.dumps([{"count": 2, "rest": 0, **spec}, module, attribute, number]).encode(),
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'module_utils'}:{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


@pytest.fixture(scope="module")
def database(cluster: Cluster) -> Iterator[str]:
    cluster.execute("postgres", "CREATE DATABASE sampled")
    cluster.execute(
        "sampled",
        """
        CREATE TABLE narrow (id bigint PRIMARY KEY, a text, at timestamptz);
        INSERT INTO narrow SELECT n, md5(n::text), now() FROM generate_series(1, 20000) n;
        CREATE TABLE wide (id int PRIMARY KEY, picture bytea);
        INSERT INTO wide SELECT n, (SELECT string_agg(sha512((n * 100 + m)::text::bytea), '') FROM generate_series(1, 1000) m)
            FROM generate_series(1, 40) n;
        CREATE TABLE none (a int);
        CREATE MATERIALIZED VIEW "of it" AS SELECT id, a FROM narrow WHERE id < 500;
        ANALYZE
        """,
    )
    yield cluster.conninfo("sampled")
    cluster.execute("postgres", "DROP DATABASE sampled WITH (FORCE)")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trees") / "output"
    (root / "a").mkdir(parents=True)
    for number in range(60):
        (root / ("a" if number % 2 else ".") / f"帳票 {number}.bin").write_bytes(os.urandom(1000 + number * 500))
    (root / "link").symlink_to("nowhere")
    return root


def source(database: str, directory: Path, *trees: Path, **more: object) -> dict[str, object]:
    return {
        "measure": "source", "database": database, "directory": str(directory), "file_trees": [str(one) for one in trees],
        **more,
    }  # fmt: skip


def of(found: dict[str, Any], part: str, kind: str) -> list[dict[str, Any]]:
    return [sample for sample in found["samples"] if (sample["part"], sample["of"]) == (part, kind)]


def test_everything_is_sampled_of_rows_and_of_files_and_nothing_stays(
    cluster: Cluster, database: str, tree: Path, tmp_path: Path
) -> None:
    written = "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_all_tables"
    before = cluster.value("sampled", written)
    found = run(source(database, tmp_path, tree))
    for part in (PIPELINE, *OF_EXPORT):
        for kind in ("database", "files"):
            assert len(of(found, part, kind)) == 2, (part, kind)
    size = cluster.value("sampled", "SELECT pg_database_size('sampled')")
    file_bytes = sum(path.stat().st_size for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
    # Both are no larger than a sample, so each sample is of all of it, and it is said.
    # PostgreSQL's own housekeeping may add a page or two meanwhile.
    for sample in of(found, "read", "database"):
        assert sample["bytes"] == pytest.approx(size, rel=0.01)
    assert {sample["bytes"] for sample in of(found, PIPELINE, "files")} == {file_bytes}
    assert [note.partition(" no larger")[0] for note in found["notes"]] == ["The database is", "The file trees are"]
    assert all(0 < sample["output_bytes"] < size for sample in of(found, "compress", "database"))
    assert found["walked"] == {"files": 60, "bytes": file_bytes, "whole": True}
    assert list(tmp_path.iterdir()) == []
    assert cluster.value("sampled", written) == before


def test_a_small_sample_of_a_larger_tenant_stands_for_so_much(
    cluster: Cluster, database: str, tree: Path, tmp_path: Path
) -> None:
    found = run(source(database, tmp_path, tree, sample_bytes=4 * LEAST))
    for sample in of(found, "read", "database"):
        assert LEAST < sample["bytes"] < 8 * LEAST
    for sample in of(found, "read", "files"):
        assert LEAST < sample["bytes"] < 8 * LEAST
    assert found["notes"] == []


def test_the_shape_tells_kinds_and_widths_and_no_name_and_no_value(database: str, tmp_path: Path) -> None:
    shape = run(source(database, tmp_path))["shape"]
    tables = {tuple(column["type"] for column in one["columns"]): one for one in shape["tables"]}
    assert set(tables) == {
        ("bigint", "text", "timestamp with time zone"),
        ("integer", "bytea"),
        ("bigint", "text"),
    }
    wide = tables["integer", "bytea"]
    assert 60_000 < wide["row_bytes"] < 70_000
    assert wide["indexes"] == [[0]]
    assert sum(one["share"] for one in shape["tables"]) == pytest.approx(1, abs=0.01)
    assert shape["files"] is None
    assert not {"narrow", "wide", "picture"} & set(json.dumps(shape).replace('"', " ").split())
    assert read_shape(shape).tables


def test_a_tenant_without_rows_and_files(cluster: Cluster, tmp_path: Path) -> None:
    cluster.execute("postgres", "CREATE DATABASE nothing_in_it")
    try:
        found = run(source(cluster.conninfo("nothing_in_it"), tmp_path))
        size = cluster.value("nothing_in_it", "SELECT pg_database_size('nothing_in_it')")
    finally:
        cluster.execute("postgres", "DROP DATABASE nothing_in_it WITH (FORCE)")
    for part in (PIPELINE, *OF_EXPORT):
        assert len(of(found, part, "database")) == 2
        assert not of(found, part, "files")
    assert of(found, "read", "database")[0]["bytes"] == size
    assert found["shape"] == {"tables": [], "files": None}
    assert [note.partition(":")[0] for note in found["notes"]] == [
        "The database has no row",
        "The file trees hold no byte",
    ]


def test_any_table_can_be_sampled(cluster: Cluster, nasty: str, any_database: str, tmp_path: Path) -> None:
    for name in (nasty, any_database):
        found = run(source(cluster.conninfo(name), tmp_path))
        assert len(of(found, PIPELINE, "database")) == 2
        assert found["shape"]["tables"]
        assert run(source(cluster.conninfo(name), tmp_path, sample_bytes=LEAST))["samples"]


@pytest.mark.parametrize(
    ("module", "attribute"),
    [
        ("ireporter.throughput_source", "add_file"),
        ("ireporter.throughput_pipeline", "Pipeline.encrypt"),
        ("ireporter.throughput_pipeline", "read_back"),
        ("ireporter.throughput_source", "add_tree"),
    ],
)
def test_what_a_killed_run_left_is_removed_by_the_next(
    database: str, tree: Path, tmp_path: Path, module: str, attribute: str
) -> None:
    kill(source(database, tmp_path, tree), module, attribute)
    assert [path.name for path in tmp_path.iterdir()] == [".ireporter-throughput"]
    assert run(source(database, tmp_path, tree))["samples"]
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_measured_is_an_error_and_nothing_stays(database: str, tree: Path, tmp_path: Path) -> None:
    with pytest.raises(MigrationError, match=r"not complete after .*\(R03\)"):
        run(source(database, tmp_path, tree, limit_seconds=0.05))
    with pytest.raises(MigrationError, match="cannot be read"):
        run(source(database, tmp_path, tree / "none"))
    with pytest.raises(MigrationError) as secret:
        run(source(f"{database} password=hunter2", tmp_path))
    assert "hunter2" not in str(secret.value)
    assert list(tmp_path.iterdir()) == []


# Restore ---------------------------------------------------------------------------------------------------------------
def restore(cluster: Cluster, directory: Path, **more: object) -> dict[str, object]:
    return {
        "measure": "restore", "admin": cluster.conninfo(), "directory": str(directory), "sample_bytes": 1 << 20, **more,
    }  # fmt: skip


def databases(cluster: Cluster) -> set[str]:
    with cluster.connect() as connection:
        return {str(name) for (name,) in connection.execute("SELECT datname FROM pg_database").fetchall()}


def test_an_import_is_sampled_in_the_shape_of_the_source_and_an_estimate_made(
    cluster: Cluster, clean_second: Cluster, database: str, tree: Path, tmp_path: Path
) -> None:
    exported = run(source(database, tmp_path, tree))
    before = databases(clean_second)
    imported = run(restore(clean_second, tmp_path, shape=exported["shape"]))
    assert len(of(imported, "restore", "database")) == len(of(imported, "restore", "files")) == 2
    assert all(sample["bytes"] > 500_000 for sample in imported["samples"] if sample["part"] == "restore")
    assert (databases(clean_second), list(tmp_path.iterdir())) == (before, [])

    samples = [*exported["samples"], *imported["samples"], *agreed([1e6, 2e6])["samples"]]
    assert len(read_samples(samples)) == len(samples)
    size = cluster.value("sampled", "SELECT pg_database_size('sampled')")
    assessed = {
        "database": {"bytes": size, "groups": {}},
        "file_trees": [{"name": "output", "files": 60, "bytes": exported["walked"]["bytes"]}],
    }
    found = EstimateInput(Facts(assessed), "none", Throughput(samples)).estimate()
    assert 0 < found.total.low <= found.total.likely <= found.total.high
    assert {part.name for part in found.parts} == {
        PIPELINE, *OF_EXPORT, "download", "restore", "overhead",
    }  # fmt: skip


def test_without_a_shape_rows_and_files_are_of_usual_kinds(clean_second: Cluster, tmp_path: Path) -> None:
    found = run(restore(clean_second, tmp_path))
    assert len(of(found, "restore", "database")) == len(of(found, "restore", "files")) == 2
    nothing = run(restore(clean_second, tmp_path, shape={"tables": [], "files": None}))
    assert len(of(nothing, "restore", "database")) == 2
    assert not of(nothing, "restore", "files")
    assert len(nothing["notes"]) == 2


@pytest.mark.parametrize(
    ("module", "attribute", "number"),
    [
        ("ireporter.throughput_restore", "make_bundle", 3),
        ("ireporter.throughput_restore", "exported_snapshot", 1),
        ("ireporter.throughput_throwaway", "literal", 1),
    ],
    ids=["rows made", "restored", "no mark yet"],
)
def test_databases_of_a_killed_run_are_dropped_by_the_next(
    clean_second: Cluster, tmp_path: Path, module: str, attribute: str, number: int
) -> None:
    before = databases(clean_second)
    kill(restore(clean_second, tmp_path), module, attribute, number)
    assert databases(clean_second) - before
    assert run(restore(clean_second, tmp_path))["samples"]
    assert (databases(clean_second), list(tmp_path.iterdir())) == (before, [])


def test_a_database_of_somebody_else_is_never_dropped(clean_second: Cluster, tmp_path: Path) -> None:
    clean_second.execute("postgres", "CREATE DATABASE ireporter_throughput_made")
    clean_second.execute("ireporter_throughput_made", "CREATE TABLE theirs AS SELECT 1 AS a")
    with pytest.raises(MigrationError) as refused:
        run(restore(clean_second, tmp_path))
    assert refused.value.check == "throughput-database"
    assert clean_second.value("ireporter_throughput_made", "SELECT a FROM theirs") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_account_that_is_no_superuser_is_refused_before_anything_is_made(
    clean_second: Cluster, tmp_path: Path
) -> None:
    clean_second.execute("postgres", "CREATE ROLE somebody LOGIN CREATEDB")
    with pytest.raises(MigrationError) as refused:
        run({**restore(clean_second, tmp_path), "admin": clean_second.conninfo(user="somebody")})
    assert refused.value.check == "throughput-superuser"
    assert list(tmp_path.iterdir()) == []


# Download, and the module -----------------------------------------------------------------------------------------------
def test_a_file_is_fetched_over_https_and_its_bandwidth_found(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    (files / "sample").write_bytes(os.urandom(1_000_000))
    with serving(files, tmp_path, 2e6) as site:
        more: dict[str, Any] = {
            "run": run_command, "clock": SystemClock(), "count": 2, "rest": 0, "limit_seconds": 30, "ca_file": site.ca_file,
        }  # fmt: skip
        found = fetched(site.link("sample"), size=400_000, **more)
        for sample in found["samples"]:
            assert sample["bytes"] == 400_000
            assert 0.15 < sample["seconds"] < 1
        with pytest.raises(MigrationError, match="HTTP status 404"):
            fetched(site.link("other"), size=400_000, **more)
        with pytest.raises(MigrationError, match="curl exited 60"):
            fetched(site.link("sample"), size=400_000, **{**more, "ca_file": None})


def module(*arguments: str, check: bool = False) -> tuple[int, dict[str, Any]]:
    """Exit status and result of one call."""
    program = Path(sys.executable).with_name("ansible")
    done = subprocess.run(
        [
            str(program), "--one-line", "localhost", "-m", "ireporter_throughput_info", "-a", " ".join(arguments),
            *(["--check"] if check else []),
        ],
        capture_output=True, text=True, check=False, cwd=ROOT, timeout=300,
    )  # fmt: skip
    assert "=> {" in done.stdout, done.stdout + done.stderr
    return done.returncode, json.loads(done.stdout[done.stdout.index("=> {") + 3 :])


def test_the_module_measures_in_check_mode_too_and_changes_nothing(database: str, tmp_path: Path) -> None:
    common = ["measure=source", f"database='{database}'", f"directory={tmp_path}", "count=2", "rest=0"]
    for check in (False, True):
        status, found = module(*common, check=check)
        assert (status, found["changed"]) == (0, False)
        assert len(of(found, PIPELINE, "database")) == 2
    status, refused = module("measure=source", f"database='{database} password=hunter2'", f"directory={tmp_path}")
    assert status != 0
    assert "hunter2" not in refused["msg"]
    assert list(tmp_path.iterdir()) == []


def test_the_module_reads_records_and_takes_agreed_bandwidths(tmp_path: Path) -> None:
    assert module("measure=earlier", f"state_directory={tmp_path}")[1]["earlier"] == []
    status, found = module("measure=download", "bytes_per_second=1000000,2500000")
    assert (status, [sample["seconds"] for sample in found["samples"]]) == (0, [60, 60])
    status, refused = module("measure=download", "bytes_per_second=1000000")
    assert (status != 0, refused["check"]) == (True, "throughput-download")
    status, refused = module("measure=download", "link=http://delivery.example.com/secret-token")
    assert status != 0
    assert "secret-token" not in json.dumps(refused)
