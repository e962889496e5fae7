"""A phase that was asked for alone does not have the roles of other phases check arguments that nobody has set yet."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("playbook", ["shared_to_dedicated", "cloud_export", "selfhost_import"])
def test_only_the_tenant_and_the_migration_itself_check_their_arguments_at_once(playbook: str) -> None:
    program = Path(sys.executable).with_name("ansible-playbook")
    listed = subprocess.run(
        [str(program), f"playbooks/{playbook}.yml", "--tags", "check", "--list-tasks"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(re.findall(r"(\w+) : Validating arguments", listed.stdout)) == {"ireporter_tenant", playbook}
