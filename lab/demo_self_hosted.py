# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``script/demo self-hosted``: a tenant is exported under load, its data is imported on the customer's server, and everything is counted."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ireporter.throughput_earlier import read_runs

from lab.checkout import CHECKOUT, LabError
from lab.demo_parts import (
    LEAST_BYTES,
    LEAST_FILES,
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
from lab.load_configuration import lab_variables, write_load_configuration

LOGS = OUTPUT / "self-hosted"
SUMMARY = OUTPUT / "self-hosted.json"
CUSTOMER = "selfhost01"
INVENTORIES = ("-i", "inventories/lab", "-i", "lab/self_hosted.yml")
_LINK = re.compile(r"https://\S+")


def main() -> int:
    """Run the demo, print the summary, return the exit status."""
    arguments = _parser().parse_args()
    fresh_folder(LOGS)
    SUMMARY.unlink(missing_ok=True)
    began = time.monotonic()
    step("lab: fresh servers and data")
    size = ["--gigabytes", str(arguments.gigabytes), "--files", str(arguments.files)]
    run(["script/lab", "reset", *size], LOGS / "lab.log")
    run(["script/lab", "reset", "delivery01", CUSTOMER], LOGS / "lab-customer.log")
    configuration = write_load_configuration(LOGS / "load.json")
    journal = LOGS / "writes.jsonl"

    step("load: tablets and neighbours' tablets begin to work")
    load = start_load(LOGS, configuration, journal)
    try:
        time.sleep(SETTLE_SECONDS)
        # Under load: the export will have to share the processors with the tablets, too.
        step("assess: short samples of the export on shared01 (build/demo/self-hosted/assess.log)")
        measured = _assess()
        step("export: prepare, freeze, picture, resume, bundle, deliver (build/demo/self-hosted/export.log)")
        began_export = time.monotonic()
        export = _play("cloud_export", LOGS / "export.log", "-e", f"@{measured}")
        export_seconds = time.monotonic() - began_export
        time.sleep(SETTLE_SECONDS)
    finally:
        load_summary = stop_load(LOGS, load)
    record = _record("shared01", "s")
    contact = [mail for mail in mails() if mail["recipient"].startswith(f"contact-{TENANT}@")]

    step(
        f"import: download, verify, restore aside, verify, switch, open on {CUSTOMER} (build/demo/self-hosted/import.log)"
    )
    imported, import_seconds = 1, 0.0
    if export == 0 and contact:
        began_import = time.monotonic()
        imported = _import(contact[-1]["body"])
        import_seconds = time.monotonic() - began_import

    step("read back: every write acknowledged before the cut-off, through the customer's API")
    cut_off = record["figures"].get("cut_off", "1970-01-01T00:00:00Z").replace("Z", "+00:00")
    address = lab_variables()["lab_addresses"][CUSTOMER]
    read = readback(LOGS, configuration, journal, "--until", cut_off, "--address", address)
    summary = _summary(load_summary, read, record, _record(CUSTOMER, "i"))
    summary |= {
        "export_exit_status": export,
        "import_exit_status": imported,
        "export_seconds": round(export_seconds, 1),
        "import_seconds": round(import_seconds, 1),
        "duration_seconds": round(time.monotonic() - began, 1),
    }
    summary["shortcomings"] = [*shortcomings(summary), *load_shortcomings(load_summary)]
    SUMMARY.write_text(json.dumps(summary, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(_readable(summary))
    return 1 if summary["shortcomings"] else 0


def shortcomings(summary: dict[str, Any]) -> list[str]:
    """Everything of the export and the import for which the demo fails, one sentence each; empty when it kept its promise."""
    found: list[str] = []

    def demand(holds: bool, sentence: str) -> None:
        if not holds:
            found.append(sentence)

    demand(summary["export_exit_status"] == 0, "The export failed; see build/demo/self-hosted/export.log.")
    demand(summary["import_exit_status"] == 0, "The import failed; see build/demo/self-hosted/import.log.")
    demand(summary["acknowledged_writes"] > 0, "No write was acknowledged before the cut-off, so nothing was proved.")
    demand(
        summary["acknowledged_writes_lost"] == 0,
        f"{summary['acknowledged_writes_lost']} writes acknowledged before the cut-off are lost or different.",
    )
    demand(summary["differences"] == 0, f"Verification found {summary['differences']} differences.")
    demand(summary["rows_verified"] > 0, "No row was verified.")
    demand(summary["tenant_bytes"] >= LEAST_BYTES, f"The tenant has less than {LEAST_BYTES} bytes.")
    demand(summary["files_verified"] >= LEAST_FILES, f"Fewer than {LEAST_FILES} files were verified.")
    demand(len(summary["mails"]) >= 2, "Contact and partner did not both get their mail.")
    return found


def _play(playbook: str, log: Path, *more: str, stdin: str | None = None) -> int:
    with log.open("w", encoding="utf-8") as stream:
        return subprocess.run(
            ["ansible-playbook", *INVENTORIES, f"playbooks/{playbook}.yml", "--limit", TENANT, *more],
            cwd=CHECKOUT,
            input=stdin,
            text=True,
            stdout=stream,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode


def _assess() -> Path:
    """Measures how fast the export will be; returns variables with which gates and record take that instead of the lab's rough figures."""
    measurements, variables = LOGS / "measurements.json", LOGS / "samples.json"
    settings = {
        "ireporter_quote_measurements_file": str(measurements),
        "cloud_export_sample_count": 2,
        "cloud_export_sample_bytes": 16_000_000,
        # The customer's side is not measured here: its server is bare, and its download is one of the lab.
        "cloud_export_download_bytes_per_second": [75_000_000, 120_000_000],
        "cloud_export_restore_samples": [{"part": "restore", "bytes": 60_000_000, "seconds": s} for s in (4, 7)],
    }
    if _play("assess", LOGS / "assess.log", "-e", json.dumps(settings)) != 0:
        raise LabError("The assessment failed; see build/demo/self-hosted/assess.log.")
    found = json.loads(measurements.read_text(encoding="utf-8"))
    variables.write_text(
        json.dumps({"ireporter_quote_samples": found["samples"], "ireporter_quote_earlier": found["earlier"]}),
        encoding="utf-8",
    )
    return variables


def _import(mail: str) -> int:
    """As the customer does who has the mail: its three links go into a file that only this account can read."""
    links = list(dict.fromkeys(_LINK.findall(mail.split("■ 2.", maxsplit=1)[0])))
    if len(links) != 3:
        raise LabError(f"The mail to the contact has {len(links)} links, and 3 files were to be delivered.")
    variables = LOGS / "links.json"
    variables.touch(mode=0o600)
    names = ("bundle", "statement", "signature")
    variables.write_text(json.dumps({"selfhost_import_links": dict(zip(names, links, strict=True))}), encoding="utf-8")
    try:
        return _play("selfhost_import", LOGS / "import.log", "-e", f"@{variables}")
    finally:
        variables.unlink()


def _record(host: str, kind: str) -> dict[str, Any]:
    """The newest run record of that kind on ``host``."""
    process = subprocess.run(
        [
            *("script/lab", "shell", host, "--", "bash", "-c"),
            f"cat $(ls -t /var/lib/ireporter-migration/{TENANT}/*-{kind}-*/run.json | head -1)",
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


def _summary(
    load: dict[str, Any], read: dict[str, Any], record: dict[str, Any], imported: dict[str, Any]
) -> dict[str, Any]:
    exported, verified = record["figures"], imported["figures"]
    others = neighbours(load)
    seen = load["tenants"][TENANT]
    return {
        "downtime_seconds": seen["outage_seconds"],
        "cut_off": exported.get("cut_off"),
        "bundle_bytes": exported.get("bytes", 0),
        "tenant_bytes": exported.get("unpacked_bytes", 0),
        "rows_verified": verified.get("rows_verified", 0),
        "files_verified": verified.get("files_verified", 0),
        "differences": verified.get("differences", -1),
        "acknowledged_writes": read["acknowledged"],
        "acknowledged_writes_lost": len(read["lost"]) + len(read["different"]) + len(read["unreadable"]),
        "unknown_writes": read["unknown"],
        "estimate_seconds": exported.get("estimate_uncorrected_export_seconds", 0),
        "actual_seconds": round(sum(one["actual_seconds"] for one in read_runs([record])["earlier"]), 1),
        "neighbour_requests": sum(one["requests"] for one in others.values()),
        "neighbour_failed_requests": sum(one["failed_requests"] for one in others.values()),
        "tablets": load["tablets"],
        "writes_per_second": seen["writes_per_second_while_serving"],
        "mails": [{"recipient": mail["recipient"], "subject": mail["subject"]} for mail in mails()],
    }


def _readable(summary: dict[str, Any]) -> str:
    lines = [
        "",
        f"Tenant {TENANT} was exported from shared01 and imported on {CUSTOMER}.",
        f"  downtime as tablets saw it   {summary['downtime_seconds']:.1f} s",
        f"  bundle                       {summary['bundle_bytes']} bytes, of {summary['tenant_bytes']}",
        f"  acknowledged before cut-off  {summary['acknowledged_writes']}, lost {summary['acknowledged_writes_lost']}",
        f"  verified after the import    {summary['rows_verified']} rows, {summary['files_verified']} files, "
        f"{summary['differences']} differences",
        f"  neighbours                   {summary['neighbour_requests']} requests, "
        f"{summary['neighbour_failed_requests']} failed",
        f"  export, import               {summary['export_seconds']:.0f} s, {summary['import_seconds']:.0f} s",
        f"  freeze and bundle            {summary['actual_seconds']:.0f} s, estimated from samples "
        f"{summary['estimate_seconds']:.0f} s",
        f"  mails                        {', '.join(mail['recipient'] for mail in summary['mails']) or 'none'}",
        f"  whole demo                   {summary['duration_seconds']:.0f} s",
        f"  figures                      {SUMMARY.relative_to(CHECKOUT)}",
    ]
    lines += [f"FAILED: {sentence}" for sentence in summary["shortcomings"]]
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="script/demo self-hosted", description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=0.55)
    parser.add_argument("--files", type=int, default=25000)
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LabError as error:
        print(f"demo: {error}", file=sys.stderr)
        sys.exit(1)
