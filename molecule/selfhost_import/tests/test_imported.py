"""What stands on the customer's server after an import."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import testinfra
from testinfra.host import Host

ROOT = Path(__file__).resolve().parents[3]
INVENTORY = ROOT / "inventories" / "lab"
TENANT = "bravo"


def _host(name: str) -> Host:
    return testinfra.get_host(f"ansible://{name}?ansible_inventory={INVENTORY}&force_ansible=false&sudo=true")


@pytest.fixture(scope="module")
def customer() -> Host:
    return _host("selfhost01")


@pytest.fixture(scope="module")
def record(customer: Host) -> dict[str, Any]:
    shown = customer.check_output(f"cat /var/lib/ireporter-migration/{TENANT}/{TENANT}-i-*/run.json")
    found: dict[str, Any] = json.loads(shown)
    return found


def test_the_application_serves_there(customer: Host) -> None:
    assert customer.service(f"ireporter-standin@{TENANT}.service").is_running
    assert customer.service(f"ireporter-standin@{TENANT}.service").is_enabled
    assert not customer.file(f"/etc/nginx/ireporter/{TENANT}.gate.conf").exists


def test_everything_was_verified_and_nothing_differs(customer: Host, record: dict[str, Any]) -> None:
    figures = record["figures"]
    assert (record["kind"], record["status"]) == ("selfhost_import", "succeeded")
    assert figures["rows_verified"] > 0
    assert figures["files_verified"] > 0
    assert figures["differences"] == 0
    accounts = customer.check_output("psql -XqAtU postgres -d irepodb_bravo -c 'SELECT count(*) FROM mst_user'")
    assert int(accounts) > 0


def test_the_server_has_a_licence_of_its_own(customer: Host) -> None:
    licence = customer.check_output("cat /srv/ireporter/bravo/settings/xml/License.xml")
    assert "selfhost01" in licence


def test_no_link_is_written_down() -> None:
    links = json.loads((ROOT / "build" / "molecule-links.json").read_text())
    places = "/var/lib/ireporter-import /var/lib/ireporter-migration /var/log"
    # Not by testinfra, whose sudo would write what is looked for into the journal.
    found = subprocess.run(
        [
            "script/lab",
            "shell",
            "selfhost01",
            "--",
            "bash",
            "-c",
            f"grep --recursive --text -l --fixed-strings --file=- {places}",
        ],
        cwd=ROOT,
        input="\n".join(link.split("/")[5] for link in links.values()),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.returncode, found.stdout) == (1, ""), found.stderr


def test_check_mode_announced_what_the_real_run_changed() -> None:
    lines = (ROOT / "build" / "molecule-changed-tasks.jsonl").read_text(encoding="utf-8").splitlines()
    playbooks = [json.loads(line) for line in lines]
    checked = [number for number, playbook in enumerate(playbooks) if playbook["check"]]
    announced, changed = playbooks[checked[0]], playbooks[checked[0] + 1]
    assert not changed["check"]
    assert set(announced["tasks"]) <= set(changed["tasks"])
