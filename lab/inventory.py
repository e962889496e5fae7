# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes what Ansible needs to know of the lab: hosts, addresses, the lab's own secrets. Generated, never committed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from lab import credentials
from lab.checkout import CHECKOUT, DOMAIN, STATE
from lab.configuration import addresses
from lab.hosts import HOSTS
from lab.networks import NAMES, Networks
from lab.tenants import TENANTS, Package, licence, webdav_accounts

FOLDER = CHECKOUT / "inventories" / "lab"
"""Where Ansible finds the lab."""

_HEADER = (
    "# Written by script/lab up; edits are lost. Not committed: it names this machine and holds the lab's passwords.\n"
)
_GROUPS = {
    "shared_servers": ("shared01",),
    "dedicated_servers": ("dedicated01",),
    "name_servers": ("ns1", "ns2"),
    "mail_servers": ("mail01",),
    "delivery_servers": ("delivery01",),
    "selfhosted_servers": ("selfhost01",),
}
# By kind of migration, as in inventories/example. Who is in none stays where it is.
_MIGRATIONS = {"to_dedicated": ("acme",), "to_self_hosted": ("bravo",)}


def write_known_hosts(networks: Networks) -> None:
    """The host keys the lab made, so that host key checking stays on."""
    path = STATE / "ssh" / "known_hosts"
    path.parent.mkdir(parents=True, exist_ok=True)
    found = addresses(networks)
    lines = [f"{host.name},{found[host.name]} {credentials.public_key(host.name)}\n" for host in HOSTS]
    path.write_text("".join(lines), encoding="ascii")


def write(networks: Networks, package: Package) -> None:
    """``hosts.yml`` and ``group_vars/all/lab.yml`` of inventories/lab."""
    found = addresses(networks)
    groups: dict[str, Any] = {
        group: {"hosts": {name: {"ansible_host": found[name]} for name in members}}
        for group, members in _GROUPS.items()
    }
    # A tenant is an inventory host without a connection: its tasks are delegated to the servers its variables name.
    groups["tenants"] = {
        "hosts": {tenant.name: None for tenant in TENANTS},
        "children": {group: {"hosts": dict.fromkeys(members)} for group, members in _MIGRATIONS.items()},
    }
    groups["servers"] = {
        "children": dict.fromkeys(_GROUPS),
        "vars": {
            "ansible_user": "ansible",
            "ansible_ssh_private_key_file": str(credentials.ssh_key("ansible")),
            "ansible_ssh_common_args": f"-o IdentitiesOnly=yes -o UserKnownHostsFile='{STATE / 'ssh' / 'known_hosts'}'",
            "ansible_python_interpreter": "/usr/bin/python3",
        },
    }
    _write(FOLDER / "hosts.yml", groups)
    _write(FOLDER / "group_vars" / "all" / "lab.yml", _variables(networks, found, package))


def remove() -> None:
    """Take both files away: the hosts they name are gone."""
    (FOLDER / "hosts.yml").unlink(missing_ok=True)
    (FOLDER / "group_vars" / "all" / "lab.yml").unlink(missing_ok=True)


def _variables(networks: Networks, found: dict[str, str], package: Package) -> dict[str, Any]:
    certificates = {tenant.name: credentials.certificate(tenant.certificate_names) for tenant in TENANTS}
    certificates["delivery01"] = credentials.certificate([f"delivery01.{DOMAIN}"])
    return {
        "lab_domain": DOMAIN,
        "lab_addresses": found,
        "lab_networks": {name: str(getattr(networks, name)) for name in NAMES},
        "lab_ca_file": str(credentials.authority().certificate),
        "lab_certificates": {
            name: {"certificate": str(made.certificate), "key": str(made.key)} for name, made in certificates.items()
        },
        "lab_tsig_name": credentials.TSIG_NAME,
        "lab_tsig_algorithm": "hmac-sha256",
        "lab_tsig_secret": credentials.tsig_secret("update"),
        "lab_powerless_tsig_name": credentials.POWERLESS_TSIG_NAME,
        "lab_powerless_tsig_secret": credentials.tsig_secret("powerless"),
        "lab_name_servers": [found["ns1"], found["ns2"]],
        "lab_mail_relay": {"host": found["mail01"], "port": 25},
        "lab_standin_package": {
            "file": str(package.file),
            "checksum": f"sha256:{package.sha256}",
            "version": package.version,
        },
        "lab_licences": {tenant.name: str(licence(tenant, "dedicated01")) for tenant in TENANTS},
        "lab_selfhosted_licences": {tenant.name: str(licence(tenant, "selfhost01")) for tenant in TENANTS},
        "lab_customer_public_key": credentials.public_key("customer"),
        "lab_signing_key": {
            "file": str(credentials.ssh_key("bundle-signer")),
            "fingerprint": credentials.fingerprint("bundle-signer"),
        },
        "lab_user_password_files": {
            tenant.name: str(credentials.keep(f"passwords/{tenant.name}-users", tenant.secret("users")))
            for tenant in TENANTS
        },
        "lab_webdav_accounts_files": {tenant.name: str(webdav_accounts(tenant)) for tenant in TENANTS},
        "lab_smoke": {
            tenant.name: {"user": tenant.smoke_user, "password": tenant.secret("smoke")} for tenant in TENANTS
        },
        "lab_webdav": {
            tenant.name: {"user": tenant.webdav_user, "password": tenant.secret("webdav")} for tenant in TENANTS
        },
    }


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(
        _HEADER + "---\n" + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=150), encoding="utf-8"
    )
