# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells the load client which tenants of the lab to play, and as whom."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from lab.checkout import CHECKOUT
from lab.tenants import TENANTS

_TABLET_ACCOUNTS = 20


def lab_variables() -> dict[str, Any]:
    """What ``script/lab up`` wrote for Ansible."""
    path = CHECKOUT / "inventories" / "lab" / "group_vars" / "all" / "lab.yml"
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


def write_load_configuration(path: Path) -> Path:
    """Write the load client's configuration: acme's tablets, the other tenants as neighbours."""
    variables = lab_variables()
    tenants = []
    for number, tenant in enumerate(TENANTS):
        tenants.append(
            {
                "name": tenant.name,
                "role": "neighbour" if number else "tablets",
                "url": f"https://{tenant.public_name}/ConMasAPI{tenant.name.upper()}/Rests/APIExecute.aspx",
                "users": [f"user{account:03}" for account in range(1, min(tenant.accounts, _TABLET_ACCOUNTS + 1))],
                "password_file": variables["lab_user_password_files"][tenant.name],
            }
        )
    content = {"name_servers": variables["lab_name_servers"], "ca_file": variables["lab_ca_file"], "tenants": tenants}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path
