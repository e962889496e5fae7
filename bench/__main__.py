# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``script/bench``: measure what is asked for, print the targets and whether they are reached, write everything as JSON."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import caches, copying, downtime, estimating, exporting, files, importing, machine, migration, verifying
from bench.commands import BenchError
from bench.data import make_database, make_trees
from bench.figures import Findings, Judgement, Target, judge, medians, table
from bench.https_server import serving
from bench.pair import Pair
from bench.servers import two_servers, used_settings
from bench.tenant import Tenant

PARTS = ("copy", "verify", "files", "export", "import", "estimate", "downtime", "run")
GIGABYTES = 2.0
FILES_PER_GIGABYTE = 50_000
LEAST_RUNS = 3
TARGETS: dict[str, Sequence[Target]] = {
    "copy": copying.TARGETS,
    "verify": verifying.TARGETS,
    "files": files.TARGETS,
    "export": exporting.TARGETS,
    "import": importing.TARGETS,
    "estimate": estimating.TARGETS,
    "downtime": downtime.TARGETS,
    "run": migration.TARGETS,
}
_ON_THE_LAB = ("downtime", "run")
_IN_MEMORY = ("tmpfs", "ramfs")


def main(arguments: Sequence[str] | None = None) -> int:
    """0, or 1 where a command failed, a copy differs, or (with ``--strict``) a target is not reached."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _ended)
    try:
        report = measure(options)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(readable(report))
    if options.json is not None:
        _write(options.json, report)
    reached = all(target["reached"] for part in report["parts"].values() for target in part["targets"])
    return 1 if options.strict and not reached else 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Everything that is asked for.

    :raises BenchError: a command failed, or a copy differs.
    """
    parts = PARTS if "all" in options.parts else [part for part in PARTS if part in options.parts]
    wanted_files = round(options.gigabytes * FILES_PER_GIGABYTE) if options.files is None else options.files
    with _directory(options.directory) as directory:
        report: dict[str, Any] = {
            "format": 1,
            "began": _now(),
            "options": {
                "parts": list(parts),
                "gigabytes": options.gigabytes,
                "files": wanted_files,
                "runs": options.runs,
                "jobs": options.jobs,
            },
            "project": machine.project(),
            "machine": machine.machine(directory),
            "versions": machine.versions(),
            "load_before": machine.load(),
            "caches": caches.HOW,
            "parts": {},
        }
        if {"copy", "verify", "import"} & set(parts):
            _databases(options, parts, directory, report)
        if "files" in parts:
            _say(f"files: {wanted_files} are made")
            source = directory / "source-trees"
            report["trees"] = make_trees(source, wanted_files)
            _part(report, "files", files.measure(files.Trees(source, directory), options.runs))
        if "export" in parts or "estimate" in parts:
            _whole_tenant(options, parts, directory, report)
        if "downtime" in parts:
            _say("downtime: the lab")
            _part(report, "downtime", downtime.measure(options.runs, options.gigabytes, wanted_files))
        if "run" in parts:
            _say("run: the lab")
            _part(report, "run", migration.measure(options.runs))
        report["load_after"] = machine.load()
        report["ended"] = _now()
    return report


def _databases(options: argparse.Namespace, parts: Sequence[str], directory: Path, report: dict[str, Any]) -> None:
    with two_servers(directory) as (source, target):
        report["server_settings"] = used_settings(source)
        _say(f"database: {options.gigabytes:g} GB are made")
        report["database"] = make_database(source, options.gigabytes)
        pair = Pair(source, target, directory, options.jobs)
        if "copy" in parts:
            _say("copy")
            _part(report, "copy", copying.measure(pair, options.runs, with_pgcopydb=not options.without_pgcopydb))
        if "verify" in parts:
            _say("verify")
            _part(report, "verify", verifying.measure(pair, options.runs))
        if "import" in parts:
            _say(f"import: {report['options']['files']} files are made, and a bundle")
            trees = directory / "import-trees"
            make_trees(trees, report["options"]["files"])
            site = importing.Site(source, target, directory, trees, options.jobs)
            _part(report, "import", importing.measure(site, options.runs))


def _whole_tenant(options: argparse.Namespace, parts: Sequence[str], directory: Path, report: dict[str, Any]) -> None:
    place = directory / "tenant"
    place.mkdir(mode=0o711)
    with two_servers(place) as (source, target):
        report["server_settings"] = used_settings(source)
        _say(f"tenant: {options.gigabytes:g} GB and {report['options']['files']} files are made")
        report["database"] = make_database(source, options.gigabytes)
        report["trees"] = make_trees(place / "trees", report["options"]["files"])
        tenant = Tenant(source, place / "trees", place, options.jobs)
        if "export" in parts:
            _say("export")
            _part(report, "export", exporting.measure(tenant, place, options.runs))
        if "estimate" in parts:
            # Whoever asks for so few only tries it out.
            runs = options.runs if options.runs < LEAST_RUNS else max(options.runs, estimating.RUNS)
            _say("estimate")
            with serving(tenant.bundles, place, estimating.BYTES_PER_SECOND) as site:
                whole = estimating.Whole(tenant, target, place, site)
                _part(report, "estimate", estimating.measure(whole, tenant, runs, place))


def _part(report: dict[str, Any], part: str, found: Findings) -> None:
    judgements = [judge(found.measurements, target) for target in TARGETS[part]]
    report["parts"][part] = {
        "measurements": {name: one.as_dict() for name, one in found.measurements.items()},
        "targets": [one.as_dict() for one in judgements],
        "details": found.details,
    }
    _say(f"{part}: medians\n{medians(found.measurements)}")


def readable(report: dict[str, Any]) -> str:
    """The table of targets, and what a reader must know to judge it."""
    options, where = report["options"], report["machine"]
    judgements = [_judgement(target) for part in report["parts"].values() for target in part["targets"]]
    lines = [
        "",
        table(judgements),
        "",
        *_what_ours_is(report["parts"]),
        f"Ratios are those of medians; runs: {options['runs']}.",
        f"Machine: {where['cores']} x {where['processor']}, {where['file_system']}; load {report['load_before']:.2f} before, "
        f"{report['load_after']:.2f} after. Commit {report['project']['commit'][:12]}{', altered' if report['project']['altered'] else ''}.",
    ]
    if "copy" in report["parts"] or "verify" in report["parts"]:
        lines.append(
            "Ours loads with synchronous_commit off in its own sessions and ends with a synchronous commit, so its end is durable, too."
        )
    if options["runs"] < LEAST_RUNS:
        lines.append(f"Fewer than {LEAST_RUNS} runs: these figures try the benchmark out, they are no result.")
    if options["gigabytes"] < GIGABYTES or options["files"] < GIGABYTES * FILES_PER_GIGABYTE:
        lines.append(
            f"The targets are meant for {GIGABYTES:g} GB and {GIGABYTES * FILES_PER_GIGABYTE:.0f} files; this was less."
        )
    return "\n".join(lines)


def _what_ours_is(parts: Container[str]) -> list[str]:
    said = []
    if any(part in parts for part in PARTS if part not in _ON_THE_LAB):
        said += [
            "Ours is the worker command, without Ansible and systemd around it.",
            f"Caches: {caches.HOW}.",
        ]
    if any(part in parts for part in _ON_THE_LAB):
        said.append(
            f"{' and '.join(part for part in _ON_THE_LAB if part in parts)}: playbooks as an engineer types them, on the lab."
        )
    return said


def _judgement(one: dict[str, Any]) -> Judgement:
    return Judgement(
        Target(one["ours"], one["most"], one["peer"]),
        ours=one["median_ours"],
        peer=one["median_peer"],
        unit=one["unit"],
        ratio=one["ratio"],
        lowest=one["lowest_ratio_of_a_round"],
        highest=one["highest_ratio_of_a_round"],
        reached=one["reached"],
    )


@contextmanager
def _directory(parent: Path | None) -> Iterator[Path]:
    """A new folder on a disk, removed on every way out."""
    if parent is None:
        usual = Path(tempfile.gettempdir())
        parent = Path("/var/tmp") if machine.file_system(usual) in _IN_MEMORY else usual
    if machine.file_system(parent) in _IN_MEMORY:
        raise BenchError(f"{parent} is in memory, not on a disk; name another folder with --directory")
    with tempfile.TemporaryDirectory(prefix="ireporter-bench-", dir=parent) as name:
        Path(name).chmod(0o711)  # PostgreSQL's own account passes through
        yield Path(name)


def _write(path: Path, report: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    if "SUDO_UID" in os.environ:
        os.chown(path, int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="script/bench", description=__doc__)
    parser.add_argument("parts", nargs="+", choices=(*PARTS, "all"), metavar="|".join((*PARTS, "all")))
    parser.add_argument(
        "--gigabytes", type=float, default=GIGABYTES, help="size of the database (0: an empty tenant's)"
    )
    parser.add_argument("--files", type=int, help="number of files, of about 10 KB each (default: 50,000 per gigabyte)")
    parser.add_argument(
        "--runs", type=int, default=LEAST_RUNS, help="rounds; in each, every side runs once (0: memory only)"
    )
    parser.add_argument("--jobs", type=int, default=2, help="our streams, and sessions per side of both comparisons")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything here")
    parser.add_argument(
        "--directory", type=Path, help="a folder on a disk, where servers and trees are made for as long as it takes"
    )
    parser.add_argument("--strict", action="store_true", help="exit 1 when a target is missed or was not measured")
    parser.add_argument("--without-pgcopydb", action="store_true", help="leave it out, and do not install it")
    return parser


def _ended(_number: int, _frame: object) -> None:
    raise SystemExit("bench: ended by a signal; what it made is removed")


def _say(what: str) -> None:
    print(f"bench: {what}", flush=True)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


if __name__ == "__main__":
    sys.exit(main())
