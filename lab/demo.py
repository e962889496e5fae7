# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``script/demo``: a tenant moves from the shared to the dedicated server under load, and everything is counted."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from lab.checkout import CHECKOUT, LabError
from lab.demo_parts import (
    LEAST_BYTES,
    LEAST_FILES,
    LONGEST_SECONDS,
    OUTPUT,
    SETTLE_SECONDS,
    TENANT,
    fresh_folder,
    load_shortcomings,
    mails,
    neighbours,
    readback,
    run,
    start_load,
    step,
    stop_load,
)
from lab.load_configuration import write_load_configuration

AFTER_OPEN = "Open | Record the figures"


def main() -> int:
    """Run the demo, print the summary, return the exit status."""
    arguments = _parser().parse_args()
    fresh_folder(OUTPUT)
    began = time.monotonic()
    step("lab: fresh servers and data")
    run(
        ["script/lab", "reset", "--gigabytes", str(arguments.gigabytes), "--files", str(arguments.files)],
        OUTPUT / "lab.log",
    )
    configuration = write_load_configuration(OUTPUT / "load.json")
    journal = OUTPUT / "writes.jsonl"

    step("load: tablets and neighbours' tablets begin to work")
    load = start_load(OUTPUT, configuration, journal)
    try:
        time.sleep(SETTLE_SECONDS)
        step("migration: prepare and cut over (build/demo/migration.log)")
        migrating = _start_migration()
        _wait_until_open(migrating)
        time.sleep(SETTLE_SECONDS)
    finally:
        load_summary = stop_load(OUTPUT, load)
    step("migration: keep the backup, prove the target's own, tell contact and partner")
    try:
        migration = migrating.wait(timeout=LONGEST_SECONDS)
    except subprocess.TimeoutExpired:
        migrating.terminate()
        raise LabError("The migration does not end; see build/demo/migration.log.") from None

    step("read back: every acknowledged write, through the target's API")
    read = readback(OUTPUT, configuration, journal)
    record = _record()
    summary = _summary(load_summary, read, record, time.monotonic() - began)
    summary["migration_exit_status"] = migration
    summary["shortcomings"] = [*shortcomings(summary), *load_shortcomings(load_summary)]
    path = OUTPUT / "summary.json"
    path.write_text(json.dumps(summary, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(_readable(summary, path))
    return 1 if summary["shortcomings"] else 0


def shortcomings(summary: dict[str, Any]) -> list[str]:
    """Everything for which the demo fails, one sentence each; empty when it kept its promise."""
    found: list[str] = []

    def demand(holds: bool, sentence: str) -> None:
        if not holds:
            found.append(sentence)

    demand(summary["migration_exit_status"] == 0, "The migration failed; see build/demo/migration.log.")
    demand(summary["acknowledged_writes"] > 0, "No write was acknowledged, so nothing was proved.")
    demand(
        summary["acknowledged_writes_lost"] == 0,
        f"{summary['acknowledged_writes_lost']} acknowledged writes are lost or different.",
    )
    demand(summary["differences"] == 0, f"Verification found {summary['differences']} differences.")
    demand(summary["rows_verified"] > 0, "No row was verified.")
    demand(summary["tenant_bytes"] >= LEAST_BYTES, f"The tenant has less than {LEAST_BYTES} bytes.")
    demand(summary["files_verified"] >= LEAST_FILES, f"Fewer than {LEAST_FILES} files were verified.")
    demand(len(summary["mails"]) >= 2, "Contact and partner did not both get their mail.")
    return found


def _summary(load: dict[str, Any], read: dict[str, Any], record: dict[str, Any], seconds: float) -> dict[str, Any]:
    tenants = load["tenants"]
    others = neighbours(load)
    figures = record["figures"]
    return {
        "downtime_seconds": tenants[TENANT]["outage_seconds"],
        "acknowledged_writes": read["acknowledged"],
        "acknowledged_writes_lost": len(read["lost"]) + len(read["different"]) + len(read["unreadable"]),
        "unknown_writes": read["unknown"],
        "rows_verified": figures.get("rows_verified", 0),
        "files_verified": figures.get("files_verified", 0),
        "differences": figures.get("differences", -1),
        "neighbour_requests": sum(seen["requests"] for seen in others.values()),
        "neighbour_failed_requests": sum(seen["failed_requests"] for seen in others.values()),
        "neighbour_requests_per_second": {name: seen["requests_per_second"] for name, seen in others.items()},
        "tablets": load["tablets"],
        "writes_per_second": tenants[TENANT]["writes_per_second_while_serving"],
        "tenant_bytes": figures.get("bytes_verified", 0),
        "duration_seconds": round(seconds, 1),
        "mails": [{"recipient": mail["recipient"], "subject": mail["subject"]} for mail in mails()],
        "report": f"/var/lib/ireporter-migration/{TENANT}/{record['id']}/run.json on dedicated01",
    }


def _record() -> dict[str, Any]:
    """The run record as it stands on the server the tenant moved to."""
    process = subprocess.run(
        [
            "script/lab",
            "shell",
            "dedicated01",
            "--",
            "bash",
            "-c",
            f"cat /var/lib/ireporter-migration/{TENANT}/*-d-*/run.json",
        ],
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode:
        return {"id": "none", "figures": {}}
    content: dict[str, Any] = json.loads(process.stdout)
    return content


def _readable(summary: dict[str, Any], path: Path) -> str:
    lines = [
        "",
        f"Tenant {TENANT} moved from shared01 to dedicated01.",
        f"  downtime as tablets saw it   {summary['downtime_seconds']:.1f} s",
        f"  acknowledged writes          {summary['acknowledged_writes']}, lost {summary['acknowledged_writes_lost']}",
        f"  verified                     {summary['rows_verified']} rows, {summary['files_verified']} files, "
        f"{summary['differences']} differences",
        f"  neighbours                   {summary['neighbour_requests']} requests, "
        f"{summary['neighbour_failed_requests']} failed",
        f"  mails                        {', '.join(mail['recipient'] for mail in summary['mails']) or 'none'}",
        f"  whole demo                   {summary['duration_seconds']:.0f} s",
        f"  figures                      {path.relative_to(CHECKOUT)}",
    ]
    lines += [f"FAILED: {sentence}" for sentence in summary["shortcomings"]]
    return "\n".join(lines)


def _start_migration() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["ansible-playbook", "playbooks/shared_to_dedicated.yml", "--limit", TENANT],
        cwd=CHECKOUT,
        stdout=(OUTPUT / "migration.log").open("wb"),
        stderr=subprocess.STDOUT,
    )


def _wait_until_open(migrating: subprocess.Popen[bytes]) -> None:
    """Until users can write on the target, or the migration has ended otherwise."""
    log = OUTPUT / "migration.log"
    until = time.monotonic() + LONGEST_SECONDS
    while migrating.poll() is None and AFTER_OPEN not in log.read_text(encoding="utf-8", errors="replace"):
        if time.monotonic() > until:
            migrating.terminate()
            raise LabError("The migration does not end; see build/demo/migration.log.")
        time.sleep(0.5)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="script/demo", description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=0.55)
    parser.add_argument("--files", type=int, default=20500)
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LabError as error:
        print(f"demo: {error}", file=sys.stderr)
        sys.exit(1)
