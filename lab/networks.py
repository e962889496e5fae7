# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Five networks, isolated as in production: which packets may cross, and addresses that clash with nothing here."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from lab.checkout import CHECKOUT, PREFIX, LabError
from lab.podman import inspect, podman

NAMES = ("shared", "dedicated", "services", "delivery", "customer")
_TABLE = PREFIX.replace("-", "_")


@dataclass(frozen=True)
class Networks:
    """The subnet of each network."""

    shared: IPv4Network
    dedicated: IPv4Network
    services: IPv4Network
    delivery: IPv4Network
    customer: IPv4Network
    """Not the vendor's: a customer's own."""

    def address(self, network: str, number: int) -> IPv4Address:
        """The ``number``-th address of a network."""
        subnet: IPv4Network = getattr(self, network)
        return subnet[number]


def ensure() -> Networks:
    """Make what is missing, take over what is there, write the firewall anew."""
    found: dict[str, IPv4Network] = {}
    for name in NAMES:
        known = inspect("network", f"{PREFIX}-{name}")
        if known and known.get("subnets"):
            found[name] = IPv4Network(known["subnets"][0]["subnet"])
    free = _free_subnets()
    for name in (name for name in NAMES if name not in found):
        # Half made, or with containers of an earlier run still in it.
        podman("network", "rm", "--force", f"{PREFIX}-{name}", check=False)
        subnet = next(free)
        podman(
            *("network", "create", "--disable-dns", "--subnet", str(subnet)),
            f"{PREFIX}-{name}",
        )
        found[name] = subnet
    return Networks(**found)


def apply_firewall(networks: Networks, name_servers: Sequence[IPv4Address]) -> None:
    """Write the lab's table, whole, in one transaction.

    Its chains come before netavark's, which let networks reach each other. Refused packets are answered, so that a
    closed way is told at once from a server that does not listen (connection refused) and from one that is down (silence).

    :param name_servers: what of the services a customer may reach.
    """
    every = ", ".join(str(getattr(networks, name)) for name in NAMES)
    within = "\n    ".join(
        f"ip saddr {getattr(networks, name)} ip daddr {getattr(networks, name)} accept" for name in NAMES
    )
    names = f"{{ {', '.join(map(str, name_servers))} }}"
    rules = f"""\
table ip {_TABLE}
delete table ip {_TABLE}
table ip {_TABLE} {{
  set lab {{ type ipv4_addr; flags interval; elements = {{ {every} }} }}

  chain forward {{
    type filter hook forward priority filter - 10; policy accept;
    ct state established,related accept
    {within}
    ip saddr {networks.shared} ip daddr {networks.dedicated} tcp dport 22 accept
    ip saddr {{ {networks.shared}, {networks.dedicated} }} ip daddr {networks.services} udp dport 53 accept
    ip saddr {{ {networks.shared}, {networks.dedicated} }} ip daddr {networks.services} tcp dport {{ 25, 53, 587 }} accept
    ip saddr {{ {networks.shared}, {networks.dedicated} }} ip daddr {networks.delivery} tcp dport 22 accept
    ip saddr {networks.customer} ip daddr {networks.delivery} tcp dport 443 accept
    ip saddr {networks.customer} ip daddr {names} udp dport 53 accept
    ip saddr {networks.customer} ip daddr {names} tcp dport 53 accept
    ip daddr @lab reject with icmp admin-prohibited
  }}

  # The control node is the vendor's, too: it calls the customer's server, never the other way round.
  chain input {{
    type filter hook input priority filter - 10; policy accept;
    ct state established,related accept
    ip saddr {networks.customer} reject with icmp admin-prohibited
  }}

  # A server of the lab sees the address of the one that called it, not that of a gateway.
  chain postrouting {{
    type nat hook postrouting priority srcnat - 10; policy accept;
    ip saddr @lab ip daddr @lab snat to ip saddr
  }}
}}
"""
    _nft("-f", "-", stdin=rules)


def reload_where_lost(networks: Networks, containers: dict[str, str]) -> None:
    """Let podman write its own rules again where someone flushed them.

    :param containers: running containers by the network they are in.
    """
    rules = subprocess.run(["iptables-save", "-t", "nat"], capture_output=True, text=True, check=False).stdout
    for network, container in containers.items():
        if f"-s {getattr(networks, network)} " not in rules:
            podman("network", "reload", container)


def cut(process: int, peers: Sequence[str], seconds: int, port: int | None = None) -> None:
    """For ``seconds``, silently drop what passes between ``peers`` (addresses or networks) and the network of a process; the kernel itself ends it.

    :param port: only TCP to or from this port.
    """
    which = [f"tcp {end} {port} drop" for end in ("sport", "dport")] if port else ["drop"]
    arriving = "; ".join(f"ip saddr @peers {packets}" for packets in which)
    leaving = "; ".join(f"ip daddr @peers {packets}" for packets in which)
    elements = ", ".join(f"{peer} timeout {seconds}s" for peer in peers)
    rules = f"""\
table inet {_TABLE}_cut
delete table inet {_TABLE}_cut
table inet {_TABLE}_cut {{
  set peers {{ type ipv4_addr; flags interval, timeout; elements = {{ {elements} }}; }}
  chain arriving {{ type filter hook input priority -300; policy accept; iifname "lo" accept; {arriving}; }}
  chain leaving {{ type filter hook output priority -300; policy accept; oifname "lo" accept; {leaving}; }}
}}
"""
    _nft("-f", "-", stdin=rules, inside=process)


def remove() -> None:
    """Take the networks and the firewall away."""
    for name in NAMES:
        podman("network", "rm", "--force", f"{PREFIX}-{name}", check=False)
    _nft("-f", "-", stdin=f"table ip {_TABLE}\ndelete table ip {_TABLE}\n")


def _nft(*arguments: str, stdin: str, inside: int | None = None) -> None:
    """``inside``: the process whose network is meant, where it is not this machine's."""
    entering = ["nsenter", "--net", f"--target={inside}"] if inside else []
    completed = subprocess.run([*entering, "nft", *arguments], input=stdin, capture_output=True, text=True, check=False)
    if completed.returncode != 0:
        raise LabError(f"The lab's firewall could not be written: {completed.stderr.strip()} Run script/bootstrap.")


def _free_subnets() -> Iterator[IPv4Network]:
    """Private /24s that no route, address or podman network of this machine overlaps, beginning at one derived from the checkout."""
    used = [IPv4Network("10.0.0.0/16"), IPv4Network("10.88.0.0/16")]  # home networks; podman's own default
    routes = json.loads(
        subprocess.run(["ip", "-json", "route", "show", "table", "all"], capture_output=True, check=True).stdout
    )
    for route in routes:
        destination = route.get("dst", "default")
        if destination != "default" and ":" not in destination:
            used.append(IPv4Network(destination, strict=False))
    for name in podman("network", "ls", "--format", "{{.Name}}").split():
        known = inspect("network", name)
        for subnet in (known or {}).get("subnets") or []:
            if ":" not in subnet["subnet"]:
                used.append(IPv4Network(subnet["subnet"]))
    start = int.from_bytes(hashlib.sha256(str(CHECKOUT).encode()).digest()[:2])
    everything = IPv4Network("10.0.0.0/8")
    for step in range(65536):
        number = (start + step) % 65536
        candidate = IPv4Network((int(everything.network_address) + number * 256, 24))
        if not any(candidate.overlaps(other) for other in used):
            used.append(candidate)
            yield candidate
    raise LabError(
        "No private network is free on this machine. Remove podman networks that nobody needs: podman network ls."
    )
