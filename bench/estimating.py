# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Part ``estimate``: how wrong the estimate from samples is. Sample, estimate, then do all of it and compare."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from ireporter.database_catalog import read_tables, read_types
from ireporter.database_connection import Address, exported_snapshot
from ireporter.estimate_input import EstimateInput, Throughput
from ireporter.plan_facts import Facts
from ireporter.verification_rows import Seeds, Side, digest_tables

from bench import worker
from bench.commands import BenchError, Command, seconds, shown
from bench.data import DATABASE
from bench.figures import Findings, Target
from bench.https_server import Site
from bench.pair import stock_programs
from bench.servers import Server
from bench.tenant import Tenant

PERCENT = "%"
WORST = "largest error of an estimate"
ESTIMATED = "estimated"
ACTUAL = "actual: export, download, import"
TARGETS = (Target(WORST, 25),)
RUNS = 5
# A fast line; what it takes is only time.
BYTES_PER_SECOND = 40e6
_SAMPLE_FILE = "sample"
_SAMPLE_BYTES = 32_000_000


class Whole:
    """The whole way of one tenant: from its server to another, through a bundle that is downloaded."""

    def __init__(self, tenant: Tenant, target: Server, directory: Path, site: Site) -> None:
        self._tenant = tenant
        self._target = target
        self._directory = directory
        self._received = directory / "received"
        self._site = site
        self._work = directory / "sample-work"

    def estimate(self) -> dict[str, Any]:
        """Seconds (low, likely, high) from new samples; the samples with it.

        :raises BenchError: a sample failed.
        """
        self._tenant.settle()
        common: dict[str, object] = {"count": 3, "sample_bytes": _SAMPLE_BYTES, "rest": 0.5, "limit_seconds": 600}
        source = self._sample(
            {
                "measure": "source", "database": self._tenant.database,
                "file_trees": [str(path) for path in self._tenant.trees.values()], **common,
            }
        )  # fmt: skip
        restore = self._sample(
            {"measure": "restore", "admin": self._target.conninfo(), "shape": source["shape"], **common}
        )
        samples = [*source["samples"], *restore["samples"], *self._download_samples()]
        found = EstimateInput(Facts(self._assessment(source)), "none", Throughput(samples)).estimate()
        return {"seconds": {name: float(getattr(found.uncorrected, name)) for name in ("low", "likely", "high")},
                "parts": [part.as_result() for part in found.parts], "samples": samples}  # fmt: skip

    def do(self) -> dict[str, float]:
        """All of it; seconds of each step.

        :raises BenchError: a step failed.
        """
        self._target.drop(DATABASE)
        if self._received.exists():
            shutil.rmtree(self._received)
        self._received.mkdir()
        taken = {"export": self._tenant.export(seconds)[0]}
        taken["download"] = seconds(self._fetch(self._tenant.bundle.name))
        for suffix in (".sha256", ".sha256.sig"):
            shutil.copy(f"{self._tenant.bundle}{suffix}", self._received)
        taken["unpack"], _result = worker.do(self._work, "bundle", self._unpack_spec(), seconds)
        began = time.perf_counter()
        self._target.create(DATABASE, "postgres")
        data = self._received / "unpacked/ireporter-bundle/data"
        # From the second round on the roles are there, which psql says and passes over.
        roles = ["psql", "-X", "-q", "-d", self._target.conninfo(), "-f", str(data / "database-roles.sql")]
        seconds(Command(roles, stock_programs()))
        restore = ["pg_restore", "-j2", "-d", self._target.conninfo(DATABASE), str(data / "database")]
        seconds(Command(restore, stock_programs()))
        taken["restore"] = time.perf_counter() - began
        began = time.perf_counter()
        self._prove()
        taken["prove"] = time.perf_counter() - began
        return taken

    def _sample(self, spec: dict[str, object]) -> dict[str, Any]:
        spec["directory"] = str(self._tenant.bundles if spec["measure"] == "source" else self._directory)
        return worker.do(self._work, "throughput", spec, seconds)[1]

    def _assessment(self, source: dict[str, Any]) -> dict[str, object]:
        with self._tenant.server.connect(DATABASE) as connection:
            row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        assert row is not None
        files = {"name": "trees", "files": source["walked"]["files"], "bytes": source["walked"]["bytes"]}
        return {"database": {"bytes": row[0], "groups": {}}, "file_trees": [files]}

    def _download_samples(self) -> list[dict[str, object]]:
        sample = self._tenant.bundles / _SAMPLE_FILE
        sample.write_bytes(b"\0" * _SAMPLE_BYTES)
        found: list[dict[str, object]] = []
        for _number in range(2):
            began = time.perf_counter()
            seconds(self._fetch(_SAMPLE_FILE))
            found.append({"part": "download", "bytes": _SAMPLE_BYTES, "seconds": time.perf_counter() - began})
        return found

    def _fetch(self, name: str) -> Command:
        self._received.mkdir(exist_ok=True)
        return Command(
            [
                *("curl", "--silent", "--show-error", "--fail", "--cacert", str(self._site.ca_file)),
                *("--output", str(self._received / name), self._site.link(name)),
            ]
        )

    def _unpack_spec(self) -> dict[str, object]:
        return {
            "state": "unpacked", "tenant": "bench", "path": str(self._received / self._tenant.bundle.name),
            "signer": self._tenant.signer.with_suffix(".pub").read_text().strip(), "identity": str(self._tenant.identity),
            "target": str(self._received / "unpacked"), "trees": True,
        }  # fmt: skip

    def _prove(self) -> None:
        """Statistics, and every row read for its digest, as the import's verification does."""
        address = Address.parse(self._target.conninfo(DATABASE), "target")
        with address.connect() as session:
            session.execute("ANALYZE")
            with exported_snapshot(session) as snapshot:
                tables = {(table.schema, table.name): table for table in read_tables(session)}
                side = Side("target", address, snapshot, tables, session.info.server_version)
                digest_tables(
                    (side,), read_types(session), list(tables), seeds=Seeds.draw(), jobs=2, progress=lambda _size: None
                )


def measure(whole: Whole, tenant: Tenant, runs: int, directory: Path) -> Findings:
    """Sample and do, in turn.

    :raises BenchError: a step failed.
    """
    found = Findings()
    command = shown(worker.command(tenant.work, "throughput"), hide=directory)
    errors = []
    rounds = []
    for _round in range(runs):
        estimated = whole.estimate()
        taken = whole.do()
        actual = sum(taken.values())
        if actual <= 0:
            raise BenchError("The whole way took no time, so no error can be told")
        likely = estimated["seconds"]["likely"]
        errors.append(abs(likely - actual) / actual * 100)
        found.add(ESTIMATED, likely, command=command)
        found.add(ACTUAL, actual, command=command)
        rounds.append({"estimated": estimated, "taken": taken, "error_percent": errors[-1]})
        print(f"bench: estimated {likely:.1f} s, took {actual:.1f} s, error {errors[-1]:.0f} %", flush=True)
    found.add(WORST, max(errors), unit=PERCENT, command=command)
    found.details["rounds"] = rounds
    return found
