"""Tests of the lab's networks: subnets that clash with nothing, rules that name every way."""

from __future__ import annotations

import json
import subprocess
from ipaddress import IPv4Network
from itertools import islice
from typing import Any

import pytest

from lab import networks


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """A machine with the given routes and podman networks."""
    made: dict[str, list[str]] = {"routes": ["default", "192.168.1.0/24", "fd00::/64"], "podman": []}

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        assert command[0] == "ip"
        routes = json.dumps([{"dst": destination} for destination in made["routes"]]).encode()
        return subprocess.CompletedProcess(command, 0, routes, b"")

    monkeypatch.setattr(networks.subprocess, "run", run)
    monkeypatch.setattr(networks, "podman", lambda *_, **__: " ".join(str(n) for n in range(len(made["podman"]))))
    monkeypatch.setattr(
        networks,
        "inspect",
        lambda _kind, name: {"subnets": [{"subnet": made["podman"][int(name)]}, {"subnet": "fd01::/64"}]},
    )
    return made


def test_three_different_subnets(machine: dict[str, list[str]]) -> None:
    first = list(islice(networks._free_subnets(), 3))
    assert len(set(first)) == 3
    assert all(subnet.prefixlen == 24 and subnet.is_private for subnet in first)


def test_the_same_checkout_gets_the_same_subnets(machine: dict[str, list[str]]) -> None:
    assert list(islice(networks._free_subnets(), 3)) == list(islice(networks._free_subnets(), 3))


def test_subnets_of_a_route_or_another_podman_network_are_left_alone(machine: dict[str, list[str]]) -> None:
    routed, used, *_ = islice(networks._free_subnets(), 3)
    machine["routes"].append(str(routed[17]))  # a single host of it
    machine["podman"].append(str(used.supernet(2)))
    for subnet in islice(networks._free_subnets(), 3):
        assert routed[17] not in subnet
        assert not subnet.overlaps(used.supernet(2))


def test_a_machine_without_any_private_network_is_told_so(machine: dict[str, list[str]]) -> None:
    machine["routes"].append("10.0.0.0/8")
    with pytest.raises(networks.LabError, match="No private network is free"):
        next(networks._free_subnets())


SUBNETS = networks.Networks(*(IPv4Network(f"10.{number}.0.0/24") for number in range(1, 6)))


@pytest.fixture
def firewall(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines of the firewall's rules."""
    written: list[str] = []
    monkeypatch.setattr(networks, "_nft", lambda *_, stdin: written.append(stdin))
    networks.apply_firewall(SUBNETS, [SUBNETS.address("services", 11), SUBNETS.address("services", 12)])
    (rules,) = written
    return [line.strip() for line in rules.splitlines()]


def test_the_firewall_replaces_itself_in_one_transaction(firewall: list[str]) -> None:
    lines = firewall
    assert lines[:2] == [f"table ip {networks._TABLE}", f"delete table ip {networks._TABLE}"]
    between_servers = [line for line in lines if "saddr 10.1.0.0/24 ip daddr 10.2.0.0/24" in line]
    assert between_servers == ["ip saddr 10.1.0.0/24 ip daddr 10.2.0.0/24 tcp dport 22 accept"]
    assert not [line for line in lines if "saddr 10.2.0.0/24 ip daddr 10.1.0.0/24" in line]
    assert lines.index("ip daddr @lab reject with icmp admin-prohibited") > lines.index(between_servers[0])


def test_every_network_is_closed_to_the_others_but_for_the_ways_named(firewall: list[str]) -> None:
    (closed,) = (line for line in firewall if line.startswith("set lab"))
    assert all(str(getattr(SUBNETS, name)) in closed for name in networks.NAMES)
    opened = [line for line in firewall if line.startswith("ip saddr") and line.endswith("accept")]
    between = [line for line in opened if line.split()[2] != line.split()[5]]
    assert len(opened) - len(between) == len(networks.NAMES)  # each to itself
    assert firewall.index("ip daddr @lab reject with icmp admin-prohibited") > max(map(firewall.index, opened))
    assert [line for line in between if "10.4.0.0/24" in line or "10.5.0.0/24" in line] == [
        "ip saddr { 10.1.0.0/24, 10.2.0.0/24 } ip daddr 10.4.0.0/24 tcp dport 22 accept",
        "ip saddr 10.5.0.0/24 ip daddr 10.4.0.0/24 tcp dport 443 accept",
        "ip saddr 10.5.0.0/24 ip daddr { 10.3.0.11, 10.3.0.12 } udp dport 53 accept",
        "ip saddr 10.5.0.0/24 ip daddr { 10.3.0.11, 10.3.0.12 } tcp dport 53 accept",
    ]


def test_a_customer_calls_nobody_of_the_vendors_not_even_the_control_node(firewall: list[str]) -> None:
    start = firewall.index("chain input {")
    assert firewall[start + 2 : start + 4] == [
        "ct state established,related accept",
        "ip saddr 10.5.0.0/24 reject with icmp admin-prohibited",
    ]
