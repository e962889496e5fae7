"""What stands on the servers, and what the contact got, after a tenant was exported."""

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
EXPORT = f"/var/lib/ireporter-export/{TENANT}"
CANARY = "acme-canary-7f3d"


def _host(name: str) -> Host:
    return testinfra.get_host(f"ansible://{name}?ansible_inventory={INVENTORY}&force_ansible=false&sudo=true")


@pytest.fixture(scope="module")
def shared() -> Host:
    return _host("shared01")


@pytest.fixture(scope="module")
def delivery() -> Host:
    return _host("delivery01")


@pytest.fixture(scope="module")
def customer() -> Host:
    return _host("selfhost01")


@pytest.fixture(scope="module")
def record(shared: Host) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        shared.check_output(f"cat /var/lib/ireporter-migration/{TENANT}/{TENANT}-s-*/run.json")
    )
    return found


@pytest.fixture(scope="module")
def mails() -> dict[str, list[str]]:
    """Bodies by recipient."""
    shown = subprocess.run(["script/lab", "mails"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    found: dict[str, list[str]] = {}
    for mail in json.loads(shown):
        found.setdefault(mail["recipient"], []).append(mail["body"])
    return found


def test_the_tenant_and_its_neighbours_serve(shared: Host) -> None:
    for tenant in (TENANT, "acme", "charlie"):
        assert shared.service(f"ireporter-standin@{tenant}.service").is_running
    assert not shared.file("/etc/nginx/ireporter/bravo.gate.conf").exists


def test_nothing_but_the_encrypted_bundle_stays_on_the_source(shared: Host, record: dict[str, Any]) -> None:
    assert (
        shared.check_output("psql -XqAtU postgres -c \"SELECT datname FROM pg_database WHERE datname ~ 'picture'\"")
        == ""
    )
    assert shared.check_output(f"ls {EXPORT}") == record["id"]
    encrypted = shared.check_output(f"ls {EXPORT}/{record['id']}").split()
    assert encrypted == [f"{record['id']}.tar.zst.age{ending}" for ending in ("", ".sha256", ".sha256.sig")]
    assert (
        shared.check_output("ls /run/*.signing-key /etc/systemd/system/ireporter-picture-* 2>/dev/null || true") == ""
    )


def test_nothing_of_the_channel_is_left(shared: Host, delivery: Host) -> None:
    for host in (shared, delivery):
        assert host.run("/usr/local/sbin/ireporter-migration channel-leftovers").rc == 0


def test_the_record_says_what_was_exported_and_until_when(shared: Host, record: dict[str, Any]) -> None:
    figures = record["figures"]
    assert (record["kind"], record["status"], figures["announced"]) == ("cloud_export", "succeeded", "done")
    accounts = shared.check_output("psql -XqAtU postgres -d irepodb_bravo -c 'SELECT count(*) FROM mst_user'")
    assert figures["rows"] > int(accounts) > 0
    assert figures["files"] > 0
    cut_off, resumed = (figures[name].replace("Z", "+00:00") for name in ("cut_off", "resumed_at"))
    assert figures["frozen_at"] <= cut_off <= resumed
    assert figures["contract_end"]
    # What the next estimate learns from.
    assert figures["bundle_seconds"] > 0
    assert figures["estimate_uncorrected_export_seconds"] > 0
    assert figures["estimate_uncorrected_import_seconds"] > 0
    assert "https://" not in json.dumps(record)


def test_the_contact_alone_has_links_and_they_lead_to_the_bundle(
    customer: Host, record: dict[str, Any], mails: dict[str, list[str]]
) -> None:
    (contact,) = mails[f"contact-{TENANT}@example.com"]
    (partner,) = mails["partner@example.com"]
    links = list(dict.fromkeys(word for word in contact.split() if word.startswith("https://delivery01.")))
    assert len(links) == 3
    assert "https://delivery01" not in partner
    assert record["figures"]["sha256"] in contact
    fetch = (
        "import json, shutil, ssl, sys, urllib.request\n"
        "for link in json.loads(sys.argv[1]):\n"
        "    with urllib.request.urlopen(link, context=ssl.create_default_context(), timeout=60) as answer:\n"
        "        with open('/root/fetched/' + answer.headers.get_filename(), 'wb') as file:\n"
        "            shutil.copyfileobj(answer, file)\n"
    )
    customer.check_output("rm -rf /root/fetched && mkdir /root/fetched")
    customer.check_output("python3 -c %s %s", fetch, json.dumps(links))
    checked = customer.check_output("bash -c %s", "cd /root/fetched && sha256sum --check --strict *.sha256")
    assert checked.endswith(".tar.zst.age: OK")
    assert (
        record["figures"]["sha256"] == customer.check_output("bash -c %s", "sha256sum < /root/fetched/*.age").split()[0]
    )


def test_neither_a_neighbours_data_nor_webdav_is_in_the_bundle(customer: Host) -> None:
    customer.check_output("bash -c %s", "apt-get update -q && apt-get install -q -y --no-install-recommends age zstd")
    unpack = (
        "cd /root/fetched && rm -rf bag && mkdir bag && set -o pipefail && age --decrypt --identity /root/identity *.age"
        " | zstd --decompress --stdout | tar --extract --no-same-owner --directory=bag"
    )
    customer.check_output("bash -c %s", unpack)
    assert (
        customer.run("grep --recursive --binary-files=text --quiet --fixed-strings %s /root/fetched/bag", CANARY).rc
        == 1
    )
    about = json.loads(customer.check_output("bash -c %s", "cat /root/fetched/bag/*/data/migration.json"))
    left = {one["what"]: one["count"] for one in about["left_out"]}
    assert left["WebDAV files"] > 0
    assert left["licence files"] == 1
    assert customer.check_output("bash -c %s", "ls /root/fetched/bag/*/data/files/").split() == [
        "output.jsonl",
        "output.tar",
        "settings.jsonl",
        "settings.tar",
    ]


def test_check_mode_announced_what_the_real_run_changed() -> None:
    lines = (ROOT / "build" / "molecule-changed-tasks.jsonl").read_text(encoding="utf-8").splitlines()
    playbooks = [json.loads(line) for line in lines]
    checked = [number for number, playbook in enumerate(playbooks) if playbook["check"]]
    announced, changed = playbooks[checked[0]], playbooks[checked[0] + 1]
    assert not changed["check"]
    assert len(announced["tasks"]) > 10
    assert announced["tasks"] == changed["tasks"]
