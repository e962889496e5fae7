# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each host is made of: the files below ``lab/servers/``, rendered, and its script."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from lab import credentials
from lab.checkout import DOMAIN
from lab.hosts import HOSTS, Configuration, Host
from lab.networks import Networks
from lab.tenants import TENANTS

_SERVERS = Path(__file__).parent / "servers"
_FOLDERS = {
    "shared01": ("every_host", "shared_server"),
    "dedicated01": ("every_host",),
    "ns1": ("every_host", "name_server", "primary"),
    "ns2": ("every_host", "name_server", "secondary"),
    "mail01": ("every_host", "mail_server"),
    "delivery01": ("every_host", "delivery_server"),
    "selfhost01": ("every_host",),
}
_SERVICES = {
    "shared01": ("postgresql@15-main.service", "nginx.service"),
    "ns1": ("named.service",),
    "ns2": ("named.service",),
    "mail01": ("postfix@-.service",),
    "delivery01": ("nginx.service",),
}


def configuration(host: Host, networks: Networks, more: dict[str, tuple[bytes, int]] | None = None) -> Configuration:
    """Render a host's files. Each folder in order: a later file replaces an earlier one, scripts (``setup.sh``) follow each other.

    :param more: further files that are not templates.
    """
    values = _values(host, networks)
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    files: dict[str, tuple[bytes, int]] = {
        "/etc/ssh/ssh_host_ed25519_key": (credentials.ssh_key(host.name).read_bytes(), 0o600),
        "/etc/ssh/ssh_host_ed25519_key.pub": (f"{credentials.public_key(host.name)}\n".encode(), 0o644),
        "/usr/local/share/ca-certificates/lab.crt": (credentials.authority().certificate.read_bytes(), 0o644),
        **(more or {}),
    }
    if host.name == "mail01":
        made = credentials.certificate([f"mail01.{DOMAIN}", values["addresses"]["mail01"]])
        files["/etc/postfix/private-mail01.crt"] = (made.certificate.read_bytes(), 0o644)
        files["/etc/postfix/private-mail01.key"] = (made.key.read_bytes(), 0o600)
    if host.name == "delivery01":
        made = credentials.certificate([f"delivery01.{DOMAIN}"])
        files["/etc/ssl/private-delivery01.crt"] = (made.certificate.read_bytes(), 0o644)
        files["/etc/ssl/private-delivery01.key"] = (made.key.read_bytes(), 0o600)
    if host.name == "selfhost01":
        # The customer's own: the vendor knows the public half only.
        files["/root/identity"] = (credentials.ssh_key("customer").read_bytes(), 0o600)
    scripts = []
    for folder in _FOLDERS[host.name]:
        base = _SERVERS / folder
        for path in sorted(path for path in base.rglob("*") if path.is_file()):
            rendered = environment.from_string(path.read_text(encoding="utf-8")).render(values)
            if path == base / "setup.sh":
                scripts.append(rendered)
            else:
                files[f"/{path.relative_to(base)}"] = (rendered.encode(), 0o640 if "private" in path.name else 0o644)
    return Configuration(files, "\n".join([*scripts, 'wait "$authorities"']), _SERVICES.get(host.name, ()))


def addresses(networks: Networks) -> dict[str, str]:
    """Address by host."""
    return {host.name: str(networks.address(host.network, host.number)) for host in HOSTS}


def _values(host: Host, networks: Networks) -> dict[str, Any]:
    return {
        "host": host,
        "domain": DOMAIN,
        "networks": networks,
        "addresses": addresses(networks),
        "vendors_hosts": [host for host in HOSTS if host.network != "customer"],
        "ansible_public_key": credentials.public_key("ansible"),
        "tsig_name": credentials.TSIG_NAME,
        "tsig_secret": credentials.tsig_secret("update"),
        "powerless_tsig_name": credentials.POWERLESS_TSIG_NAME,
        "powerless_tsig_secret": credentials.tsig_secret("powerless"),
        "transfer_secret": credentials.tsig_secret("transfer"),
        "tenants": TENANTS,
    }
