"""The inventory people copy: groups by kind of migration, prices where they are rightful, and a tenant of the other kind is told so."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ireporter.plan_contract import price_gate

from tests.unit.cloud_export_example import SAMPLES, good_facts

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[2]


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name(program)), "-i", "inventories/example", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def inventory() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("ansible-inventory", "--list").stdout)
    return found


def test_all_tenants_of_one_kind_are_named_by_a_group(inventory: dict[str, Any]) -> None:
    variables = inventory["_meta"]["hostvars"]
    assert inventory["tenants"]["children"] == ["to_dedicated", "to_self_hosted"]
    targets = {
        group: [variables[name].get("ireporter_target") for name in inventory[group]["hosts"]]
        for group in ("to_dedicated", "to_self_hosted")
    }
    assert targets == {"to_dedicated": ["dedicated01"], "to_self_hosted": [None]}


def test_only_a_paid_migration_has_variables_of_a_price(inventory: dict[str, Any]) -> None:
    for group, passes in (("to_dedicated", True), ("to_self_hosted", False)):
        for name in inventory[group]["hosts"]:
            assert price_gate({}, inventory["_meta"]["hostvars"][name]).passed == passes, name


@pytest.mark.parametrize(
    ("playbook", "tenant", "says"),
    [
        *(
            (
                playbook,
                "bravo",
                "msg: bravo has no target (ireporter_target), so it is none of the tenants that move from a shared to a dedicated server"
                " (tenant-kind). Leave it out of --limit, or name its target.",
            )
            for playbook in ("shared_to_dedicated", "verify")
        ),
        (
            "cloud_export",
            "acme",
            "msg: acme has a target (ireporter_target), so it is none of the tenants that move to a self-hosted server (tenant-kind)."
            " Leave it out of --limit, or take its target out of the inventory.",
        ),
    ],
)
def test_a_tenant_of_the_other_kind_is_refused_before_any_server_is_asked(
    playbook: str, tenant: str, says: str
) -> None:
    done = run("ansible-playbook", f"playbooks/{playbook}.yml", "--limit", tenant)
    assert done.returncode == 2
    shown = " ".join(done.stdout.split())
    assert says in shown
    assert "unreachable=0 failed=1" in shown
    assert f"{tenant} ->" not in shown


def test_a_tenant_of_the_paid_kind_is_quoted_once_and_one_of_the_other_not_at_all(tmp_path: Path) -> None:
    measured = tmp_path / "measured.json"
    measured.write_text(json.dumps({"assessment": good_facts()["source"], "samples": SAMPLES}))
    given = {
        "ireporter_quote_folder": str(tmp_path / "quotes"),
        "ireporter_quote_measurements_file": str(measured),
        "ireporter_quote_signer_fingerprint": "SHA256:" + "a" * 43,
        "ireporter_quote_send": False,
        # The example's is over one day.
        "ireporter_tenant_window": {"start": "2099-12-12 00:00", "end": "2099-12-14 00:00"},
    }
    for changed in (1, 0):
        done = run("ansible-playbook", "playbooks/quote.yml", "--limit", "bravo", "-e", json.dumps(given))
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"changed={changed} " in done.stdout
        assert "WebDAV files stay behind and take no time: webdav (5.00 GB) (R09)." in " ".join(done.stdout.split())
    (quote,) = (tmp_path / "quotes" / "bravo").glob("Q-bravo-*/quote.json")
    assert json.loads(quote.read_text())["estimate"]["data_bytes"] == 3_000_001_000
    free = run("ansible-playbook", "playbooks/quote.yml", "--limit", "acme")
    assert free.returncode == 2
    assert "but a move to a dedicated server is free of charge (R02). Do not quote it." in " ".join(free.stdout.split())


def test_a_quote_before_anything_was_measured_says_what_comes_first(tmp_path: Path) -> None:
    given = {
        "ireporter_quote_folder": str(tmp_path / "quotes"),
        "ireporter_quote_measurements_file": str(tmp_path / "measurements" / "bravo.json"),
        "ireporter_quote_signer_fingerprint": "SHA256:" + "a" * 43,
        "ireporter_tenant_window": {"start": "2099-12-12 00:00", "end": "2099-12-14 00:00"},
    }
    done = run("ansible-playbook", "playbooks/quote.yml", "--limit", "bravo", "-e", json.dumps(given))
    assert done.returncode == 2
    assert (
        "The total amount of data is unknown: the size of the database was not measured (R03). Assess the tenant first;"
        in " ".join(done.stdout.split())
    )


PLAN = """
- hosts: bravo
  gather_facts: false
  roles: [ireporter_tenant]
  tasks:
    - ansible.builtin.include_vars: {file: "{{ role }}/vars/main.yml"}
    - ansible.builtin.include_tasks: "{{ role }}/tasks/plan.yml"
      vars:
        __cloud_export_phase: check
        __cloud_export_source: {}
        __cloud_export_variables: []
        __cloud_export_known_variables: []
        cloud_export_plan_settings: {}
    - ansible.builtin.copy: {content: "{{ __cloud_export_plan.refusals | to_json }}", dest: "{{ result_file }}", mode: "0600"}
      delegate_to: localhost
"""


def test_what_an_export_lacks_is_refused_all_at_once(tmp_path: Path) -> None:
    copy = tmp_path / "inventory"
    shutil.copytree(ROOT / "inventories/example", copy)
    for name in ("group_vars/tenants/main.yml", "host_vars/bravo/main.yml"):
        left = yaml.safe_load((copy / name).read_text())
        for what in ("partner", "sales_representative", "window", "plan_change_submitted"):
            left.pop(f"ireporter_tenant_{what}", None)
        (copy / name).write_text(yaml.safe_dump(left))
    book, result = tmp_path / "play.yml", tmp_path / "result.json"
    book.write_text(PLAN)
    given = json.dumps({"role": str(ROOT / "roles/cloud_export"), "result_file": str(result)})
    program = Path(sys.executable).with_name("ansible-playbook")
    done = subprocess.run(
        [str(program), "-i", str(copy), str(book), "-e", given],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert result.exists(), done.stdout[-4000:] + done.stderr
    said = " ".join(json.loads(result.read_text()))
    for refusal in (
        "The total amount of data is unknown",
        "No window is named (R10)",
        "The partner or distributor is missing (R21)",
        "The sales representative's name is missing (R23)",
    ):
        assert refusal in said
