"""Which hosts a reset of the lab makes anew: what only deliveries need stays as it is, so that it costs nothing."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from lab import __main__ as lab
from lab import hosts
from lab.networks import Networks

NETWORKS = Networks(*(IPv4Network(f"10.{number}.0.0/24") for number in range(1, 6)))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A machine on which every host is well but the ``broken``; what is made anew is noted, as is whether the zone was put back."""
    seen: dict[str, Any] = {"broken": set(), "made": set(), "zone": 0}
    for module, name, value in (
        (lab.images, "ensure", lambda: {"base": "base", "server": "server"}),
        (lab.images, "seed_archives", lambda _volume: None),
        (lab.networks, "ensure", lambda: NETWORKS),
        (lab.networks, "apply_firewall", lambda *_: None),
        (lab.networks, "reload_where_lost", lambda *_: None),
        (lab.inventory, "write_known_hosts", lambda _networks: None),
        (lab.inventory, "write", lambda *_: None),
        (lab.tenants, "build_package", lambda: lab.tenants.Package(Path("x.deb"), "0")),
        (lab.tenants, "files", lambda _package: {}),
        (lab.tenants, "what_is_missing", lambda *_: None),
        (lab.tenants, "restore", lambda: None),
        (lab.configuration, "configuration", lambda *_: hosts.Configuration({}, "")),
        (lab.services, "restore_zone", lambda: seen.update(zone=seen["zone"] + 1)),
        (lab.services, "empty_mailboxes", lambda: None),
        (hosts, "remove", lambda _host: None),
        (hosts, "mend", lambda plan: None if plan.host.name in seen["broken"] else "well"),
        (hosts, "make", lambda plan: seen["made"].add(plan.host.name) or "made"),
        (lab, "_alone", nullcontext),
    ):
        monkeypatch.setattr(module, name, value)
    return seen


def reset(*names: str) -> None:
    lab.reset(argparse.Namespace(hosts=list(names), gigabytes=None, files=None))


def test_a_reset_leaves_what_only_deliveries_need(machine: dict[str, Any]) -> None:
    reset()
    assert machine["made"] == {"shared01", "dedicated01"}
    assert machine["zone"] == 1


@pytest.mark.parametrize("names", [["delivery01"], ["selfhost01", "delivery01"]])
def test_a_reset_of_named_hosts_leaves_the_others(machine: dict[str, Any], names: list[str]) -> None:
    reset(*names)
    assert machine["made"] == set(names)
    assert machine["zone"] == 0


def test_servers_of_a_migration_are_not_put_back_alone(machine: dict[str, Any]) -> None:
    with pytest.raises(lab.LabError, match="shared01 is not put back alone"):
        reset("shared01")
    assert machine["made"] == set()


@pytest.mark.parametrize(
    ("broken", "made"),
    [("selfhost01", {"selfhost01"}), ("dedicated01", {"shared01", "dedicated01"})],
)
def test_a_broken_host_takes_with_it_only_what_belongs_to_it(
    machine: dict[str, Any], broken: str, made: set[str]
) -> None:
    machine["broken"].add(broken)
    lab.up(argparse.Namespace(gigabytes=None, files=None))
    assert machine["made"] == made
