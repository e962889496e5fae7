"""script/demo: a tenant moves, or is exported and imported, under load; nothing is lost, no neighbour notices."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import bagit
import pytest
from playing import ROOT, Lab

from lab.load_configuration import lab_variables

pytestmark = [
    pytest.mark.lab,
    pytest.mark.promise("No acknowledged write is lost under load, and no neighbour notices"),
]

CUSTOMER = "selfhost01"
FOLDER = "/var/tmp/by-hand"
PORT = 5444
# Of all tables and materialised views, those of partitions once.
ALL_ROWS = """
SELECT sum((xpath('/row/c/text()', query_to_xml(format('SELECT count(*) AS c FROM %I.%I', nspname, relname), false, true, '')))[1]::text::bigint)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE relkind IN ('r', 'm') AND nspname !~ '^pg_' AND nspname <> 'information_schema'
"""


def demo(*arguments: str, result: str) -> tuple[int, dict[str, Any], str]:
    """Exit status, figures, and what was said."""
    process = subprocess.run(
        ["script/demo", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=1800, check=False
    )
    figures: dict[str, Any] = json.loads((ROOT / "build" / "demo" / result).read_text(encoding="utf-8"))
    return process.returncode, figures, process.stdout[-4000:] + process.stderr[-2000:]


@pytest.mark.slow
def test_nothing_is_lost_under_load() -> None:
    status, summary, said = demo(result="summary.json")
    assert (status, summary["shortcomings"]) == (0, []), said
    assert summary["acknowledged_writes"] > 1000


@pytest.fixture(scope="module")
def self_hosted() -> tuple[int, dict[str, Any], str]:
    return demo("self-hosted", result="self-hosted.json")


@pytest.mark.slow
def test_what_was_acknowledged_before_the_cut_off_is_on_the_customers_server(
    self_hosted: tuple[int, dict[str, Any], str],
) -> None:
    status, summary, said = self_hosted
    assert (status, summary["shortcomings"]) == (0, []), said
    assert summary["acknowledged_writes"] > 100
    assert summary["downtime_seconds"] <= 60
    assert summary["estimate_seconds"] > 0
    assert summary["actual_seconds"] > summary["downtime_seconds"]


@pytest.mark.slow
@pytest.mark.promise("A bundle can be read without anything of this project")
def test_the_bundle_of_the_demo_is_imported_by_hand_and_is_a_valid_bag(
    self_hosted: tuple[int, dict[str, Any], str], lab: Lab, tmp_path: Path
) -> None:
    """On the customer's server, with the files of the delivery, in a second PostgreSQL: the commands of the page, as they stand there."""
    _status, summary, _said = self_hosted
    page = (ROOT / "docs" / "import-by-hand.md").read_text(encoding="utf-8")
    commands = "set -eu\n" + "".join(block.partition("```")[0] for block in page.split("```sh import-by-hand\n")[1:])
    name = lab.on(CUSTOMER, "cd /var/lib/ireporter-import && ls *.tar.zst.age").strip().removesuffix(".tar.zst.age")
    assert "acme-s-20260101t000000z" in commands and name.startswith("acme-s-")
    lab.put(CUSTOMER, f"{FOLDER}/commands", commands.replace("acme-s-20260101t000000z", name))
    lab.put(CUSTOMER, f"{FOLDER}/signer.txt", lab_variables()["lab_signing_key"]["fingerprint"] + "\n")
    try:
        lab.on(CUSTOMER, f"ln /var/lib/ireporter-import/{name}.* {FOLDER}/ && cp /root/identity {FOLDER}/identity.txt")
        lab.on(CUSTOMER, f"pg_createcluster --port={PORT} --start 15 byhand -- --auth-local=trust >/dev/null")
        ways = f"PGHOST=/var/run/postgresql PGPORT={PORT} PGUSER=postgres"
        lab.on(CUSTOMER, f"cd {FOLDER} && {ways} bash commands", timeout=600)
        assert lab.on(CUSTOMER, f"{ways} psql -XqAtd irepodb -c {shlex.quote(ALL_ROWS)}").strip() == str(
            summary["rows_verified"]
        )
        files = lab.on(CUSTOMER, f"find {FOLDER}/file-trees -type f -printf x | wc --bytes").strip()
        assert files == str(summary["files_verified"])
        # Whoever wrote that library knows nothing of this project.
        with subprocess.Popen(
            ["script/lab", "shell", CUSTOMER, "--", "tar", "--create", f"--directory={FOLDER}", "ireporter-bundle"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        ) as sent:
            subprocess.run(["tar", "--extract", f"--directory={tmp_path}"], stdin=sent.stdout, check=True, timeout=600)
        bag = bagit.Bag(str(tmp_path / "ireporter-bundle"))
        bag.validate()
        with (tmp_path / "ireporter-bundle" / "data" / "README.md").open("a") as readme:
            readme.write("\n")
        with pytest.raises(bagit.BagError):
            bag.validate()
    finally:
        lab.on(CUSTOMER, f"rm -rf {FOLDER}; pg_dropcluster --stop 15 byhand", check=False)
