"""The gates of an export as a playbook judges them from the example inventory, and keys as the real programs take them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from ireporter.errors import MigrationError
from ireporter.recipient_key import recipient

from tests.unit.cloud_export_example import SAMPLES, good_facts
from tests.unit.test_recipient_key import AGE, ssh

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[2]
CANARY = "AGE-SECRET-KEY-1CANARYCANARYCANARY"
PLAY = """
- hosts: bravo
  gather_facts: false
  tasks:
    - ansible.builtin.import_role: {name: ireporter_tenant}
    - ireporter_plan:
        kind: cloud_export
        facts: "{{ measured }}"
        contract: "{{ ireporter_tenant_cloud_contract }}"
        contact:
          name: "{{ ireporter_tenant_contact_name }}"
          company: "{{ ireporter_tenant_company_name }}"
          email: "{{ ireporter_tenant_contact_email }}"
          phone: "{{ ireporter_tenant_contact_phone }}"
          extension: "{{ ireporter_tenant_contact_phone_extension }}"
        partner: "{{ ireporter_tenant_partner }}"
        sales_representative: "{{ ireporter_tenant_sales_representative }}"
        window: "{{ ireporter_tenant_window }}"
        calendar: {maintenance: "{{ shared_to_dedicated_maintenance }}"}
        throughput: {samples: "{{ ireporter_quote_samples }}"}
        import_side: "{{ ireporter_tenant_import_side }}"
        public_key: "{{ ireporter_tenant_public_key }}"
        now: "2026-12-11T15:30:00+09:00"
      register: plan
      delegate_to: localhost
    - ansible.builtin.copy: {content: "{{ plan | to_json }}", dest: "{{ result_file }}", mode: "0600"}
      delegate_to: localhost
"""


def play(tmp_path: Path, **variables: object) -> tuple[dict[str, Any], str]:
    """The plan of the example's tenant bravo, and all that was shown at -vvv."""
    book, result = tmp_path / "play.yml", tmp_path / "result.json"
    book.write_text(PLAY)
    measured = good_facts()
    changed = datetime.fromisoformat("2026-12-11T14:59:00+09:00").timestamp()
    measured["source"]["file_trees"][2]["newest_file_change"] = changed
    given = tmp_path / "given.yml"
    given.write_text(
        yaml.safe_dump(
            {"measured": measured, "ireporter_quote_samples": SAMPLES, "result_file": str(result), **variables}
        )
    )
    program = Path(sys.executable).with_name("ansible-playbook")
    done = subprocess.run(
        [str(program), "-vvv", "-i", "inventories/example", str(book), "-e", f"@{given}", "-c", "local"],
        capture_output=True, text=True, check=False, cwd=ROOT, timeout=300, env={**os.environ, "ANSIBLE_ROLES_PATH": str(ROOT / "roles")},
    )  # fmt: skip
    assert result.exists(), done.stdout[-4000:] + done.stderr
    return json.loads(result.read_text()), done.stdout + done.stderr


def test_the_example_passes(tmp_path: Path) -> None:
    plan, _shown = play(tmp_path, ireporter_tenant_public_key=AGE)
    assert plan["refusals"] == []
    assert plan["warnings_found"] == []
    assert (plan["contract_end"], plan["changed"]) == ("2027-01-31", False)
    assert plan["estimate"]["remaining_seconds"] == plan["estimate"]["whole"]["seconds"]["high"] > 0


def test_the_example_is_refused_until_it_has_a_key(tmp_path: Path) -> None:
    plan, _shown = play(tmp_path)
    assert [said.split(" (")[-1].split(")")[0] for said in plan["refusals"]] == ["public-key"]


def test_a_private_key_is_refused_and_shown_nowhere(tmp_path: Path) -> None:
    plan, shown = play(tmp_path, ireporter_tenant_public_key=CANARY)
    assert [said.split(" (")[0] for said in plan["refusals"]] == [
        "What is given as the customer's public key is a private key"
    ]
    assert CANARY not in shown
    assert CANARY not in json.dumps(plan)


def _age_takes(key: str) -> bool:
    """Whether the program encrypts to it."""
    return subprocess.run(["age", "-r", key], input=b"x", capture_output=True, check=False).returncode == 0


def test_real_keys_pass_and_are_told_by_their_fingerprints(tmp_path: Path) -> None:
    made = subprocess.run(["age-keygen", "-o", tmp_path / "age"], capture_output=True, text=True, check=True)
    public = made.stderr.split("Public key: ")[1].strip()
    assert _age_takes(recipient(public).text)
    file = tmp_path / "ssh"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "Contact Person", "-f", file], check=True)
    key = recipient(file.with_suffix(".pub").read_text())
    assert _age_takes(key.text)
    shown = subprocess.run(["ssh-keygen", "-l", "-f", file], capture_output=True, text=True, check=True).stdout
    assert key.fingerprint == shown.split()[1]
    for private in (file, tmp_path / "age"):
        with pytest.raises(MigrationError, match="is a private key"):
            recipient(private.read_text())


@pytest.mark.parametrize(
    "key",
    [
        AGE,
        AGE[:-1] + "q",
        AGE.upper(),
        "age1",
        ssh(b"\x02" + bytes(31)),
        ssh(b"\x03" + bytes(31)),
        ssh(b"x" * 31),
        ssh(b"\xff" * 32),
    ],
)
def test_what_passes_is_what_age_encrypts_to(key: str) -> None:
    try:
        recipient(key)
        passes = True
    except MigrationError:
        passes = False
    # Where they differ we may only be the stricter one.
    assert _age_takes(key) or not passes
    if key not in (ssh(b"\x02" + bytes(31)), ssh(b"\xff" * 32)):
        assert passes == _age_takes(key)
