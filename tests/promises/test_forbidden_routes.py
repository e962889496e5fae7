"""Promise: between a shared and a tenant's own server only SSH from the shared one gets through, to a customer's server nothing but a download."""

from __future__ import annotations

import json
import shlex
import socket
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = [
    pytest.mark.lab,
    pytest.mark.promise("The shared server accepts nothing from a tenant's server"),
]

ROOT = Path(__file__).resolve().parents[2]

# Tells apart: somebody answers, nobody listens, a firewall says no. It says so in words or, when it has said it often
# within a second (the kernel's limit), by silence; a host without a firewall would answer each knock with a reset.
PROBE = """
import errno, json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def knock(target):
    host, port = target
    try:
        with socket.create_connection((host, port), timeout=4):
            return "open"
    except ConnectionRefusedError:
        return "nobody listens"
    except TimeoutError:
        return "forbidden"
    except OSError as error:
        return "forbidden" if error.errno == errno.EHOSTUNREACH else str(error)
targets = json.loads(sys.argv[1])
with ThreadPoolExecutor(80) as pool:
    print(json.dumps(list(pool.map(knock, targets))))
"""

INTERESTING_PORTS = (21, 22, 25, 53, 80, 111, 443, 445, 873, 3389, 5432, 5433, 8080, 8443)


@pytest.fixture(scope="module")
def addresses() -> dict[str, str]:
    """Address by host, as the lab wrote it for Ansible."""
    found: dict[str, str] = lab_variables()["lab_addresses"]
    return found


def lab_variables() -> dict[str, Any]:
    """What the lab wrote for Ansible."""
    found: dict[str, Any] = yaml.safe_load(
        (ROOT / "inventories/lab/group_vars/all/lab.yml").read_text(encoding="utf-8")
    )
    return found


def knock(lab: Any, source: str, targets: list[tuple[str, int]]) -> dict[tuple[str, int], str]:
    """What each target answers when ``source`` knocks."""
    answer = lab.on(source, f"python3 -c {shlex.quote(PROBE)} {shlex.quote(json.dumps(targets))}")
    return dict(zip(targets, json.loads(answer), strict=True))


def test_ssh_from_the_shared_server_gets_through(lab: Any, addresses: dict[str, str]) -> None:
    """The control: the probe can see an open way, and it ends at a real sshd."""
    target = (addresses["dedicated01"], 22)
    assert knock(lab, "shared01", [target]) == {target: "open"}
    banner = f"import socket; print(socket.create_connection({target!r}, 4).recv(7).decode())"
    assert lab.on("shared01", f"python3 -c {shlex.quote(banner)}").strip() == "SSH-2.0"


def test_the_services_forbidden_below_do_listen(lab: Any, addresses: dict[str, str]) -> None:
    """The other control: what the dedicated server must not reach is there to be reached."""
    own = addresses["shared01"]
    assert knock(lab, "shared01", [(own, 22), (own, 443), ("127.0.0.1", 5432)]) == {
        (own, 22): "open",
        (own, 443): "open",
        ("127.0.0.1", 5432): "open",
    }


def test_nothing_from_the_dedicated_to_the_shared_server(lab: Any, addresses: dict[str, str]) -> None:
    """Neither SSH nor web nor PostgreSQL nor any other port."""
    targets = [(addresses["shared01"], port) for port in (*INTERESTING_PORTS, *range(1024, 65536, 1499))]
    assert set(knock(lab, "dedicated01", targets).values()) == {"forbidden"}


def test_nothing_but_ssh_from_the_shared_to_the_dedicated_server(lab: Any, addresses: dict[str, str]) -> None:
    """PostgreSQL and web of the tenant's own server are not the shared server's business."""
    ports = [port for port in (*INTERESTING_PORTS, *range(1024, 65536, 1499)) if port != 22]
    targets = [(addresses["dedicated01"], port) for port in ports]
    assert set(knock(lab, "shared01", targets).values()) == {"forbidden"}


@pytest.mark.parametrize("source", ["shared01", "dedicated01"])
def test_name_servers_and_mail_are_reached_and_are_no_way_round(
    lab: Any, addresses: dict[str, str], source: str
) -> None:
    """Both sides resolve names and send mail; nobody gets a shell on the servers in between."""
    wanted = {
        (addresses["ns1"], 53): "open",
        (addresses["ns2"], 53): "open",
        (addresses["mail01"], 25): "open",
        (addresses["mail01"], 587): "open",
        **{(addresses[name], 22): "forbidden" for name in ("ns1", "ns2", "mail01")},
    }
    assert knock(lab, source, list(wanted)) == wanted


@pytest.mark.parametrize("source", ["ns1", "mail01"])
def test_the_servers_in_between_reach_neither_side(lab: Any, addresses: dict[str, str], source: str) -> None:
    """Not even SSH."""
    targets = [(addresses[name], port) for name in ("shared01", "dedicated01") for port in (22, 443, 5432)]
    assert set(knock(lab, source, targets).values()) == {"forbidden"}


def test_the_ways_of_a_delivery_are_open(lab: Any, addresses: dict[str, str]) -> None:
    """The control: the server a tenant leaves pushes its bundle by SSH, the customer fetches it by HTTPS."""
    pushing, fetching = (addresses["delivery01"], 22), (addresses["delivery01"], 443)
    for source in ("shared01", "dedicated01"):
        assert knock(lab, source, [pushing]) == {pushing: "open"}
    assert knock(lab, "selfhost01", [fetching]) == {fetching: "open"}


def test_a_customers_server_reaches_nothing_else_of_the_vendors(lab: Any, addresses: dict[str, str]) -> None:
    """No other port of the delivery host, no other host, and not the control node."""
    ports = (*INTERESTING_PORTS, *range(1024, 65536, 9973))
    vendors = [address for name, address in addresses.items() if name != "selfhost01"]
    gateways = [str(next(IPv4Network(network).hosts())) for network in lab_variables()["lab_networks"].values()]
    allowed = {(addresses["delivery01"], 443), (addresses["ns1"], 53), (addresses["ns2"], 53)}
    answers = knock(lab, "selfhost01", [(address, port) for address in (*vendors, *gateways) for port in ports])
    assert {target for target, answer in answers.items() if answer != "forbidden"} == allowed
    assert {answers[target] for target in allowed} == {"open"}


@pytest.mark.parametrize("source", ["shared01", "dedicated01", "ns1", "mail01", "delivery01"])
def test_nobody_of_the_vendors_hosts_reaches_a_customers_server(
    lab: Any, addresses: dict[str, str], source: str
) -> None:
    """Its sshd listens, for the control node."""
    targets = [(addresses["selfhost01"], port) for port in (22, 443, 5432)]
    assert set(knock(lab, source, targets).values()) == {"forbidden"}
    socket.create_connection((addresses["selfhost01"], 22), timeout=4).close()


def test_the_delivery_host_reaches_nobody(lab: Any, addresses: dict[str, str]) -> None:
    """Whoever took it over from the internet is no step nearer."""
    others = [name for name in addresses if name != "delivery01"]
    targets = [(addresses[name], port) for name in others for port in (22, 25, 53, 443, 5432)]
    assert set(knock(lab, "delivery01", targets).values()) == {"forbidden"}


def test_nothing_but_ssh_from_the_vendors_servers_to_the_delivery_host(lab: Any, addresses: dict[str, str]) -> None:
    """They push, and do not fetch."""
    targets = [(addresses["delivery01"], port) for port in INTERESTING_PORTS if port != 22]
    for source in ("shared01", "dedicated01", "mail01"):
        assert set(knock(lab, source, targets).values()) == {"forbidden"}


def test_the_tenants_databases_are_closed_to_everybody_outside(lab: Any, addresses: dict[str, str]) -> None:
    """PostgreSQL of the shared server listens on loopback only: not even the control node gets to it."""
    own = addresses["shared01"]
    assert knock(lab, "shared01", [(own, 5432)]) == {(own, 5432): "nobody listens"}
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((own, 5432), timeout=3)
    socket.create_connection((own, 22), timeout=4).close()
