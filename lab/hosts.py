# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts: containers with systemd that Ansible reaches by SSH, made, mended or made anew until each of them answers."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.checkout import DOMAIN, PREFIX, STATE, LabError
from lab.credentials import ssh_key
from lab.networks import Networks
from lab.podman import attempt, inspect, podman

_CONFIGURED = "/etc/lab-configured"
# Beyond podman's own: bind mounts, firewall, looking into other users' processes, nice values. Every real server's root has them.
_CAPABILITIES = ("SYS_ADMIN", "NET_ADMIN", "NET_RAW", "SYS_PTRACE", "SYS_NICE", "AUDIT_WRITE", "MKNOD")
# Podman's AppArmor profile and SELinux label would forbid mounts that the capabilities allow.
_SECURITY = ("apparmor=unconfined", "label=disable")
_BOOT_SECONDS = 90.0


@dataclass(frozen=True)
class Host:
    """One host of the lab."""

    name: str
    network: str
    number: int
    """Which address of its network."""
    image: str
    """``base`` or ``server``."""
    volumes: tuple[str, ...] = ()
    """``volume:folder``, volumes named without the lab's prefix."""

    @property
    def container(self) -> str:
        """Its name in podman."""
        return f"{PREFIX}-{self.name}"


HOSTS = (
    Host(
        *("shared01", "shared", 10, "server"),
        ("postgresql:/var/lib/postgresql", "postgresql-settings:/etc/postgresql", "trees:/srv/ireporter"),
    ),
    Host("dedicated01", "dedicated", 10, "base", ("archives:/var/cache/apt/archives",)),
    Host("ns1", "services", 11, "server"),
    Host("ns2", "services", 12, "server"),
    Host("mail01", "services", 13, "server"),
    Host("delivery01", "delivery", 10, "server"),
    Host("selfhost01", "customer", 10, "base", ("archives-customer:/var/cache/apt/archives",)),
)

NAME_SERVERS = ("ns1", "ns2")
MIGRATED = ("shared01", "dedicated01")
"""Made anew together: a migration leaves its traces on both."""
SELF_HOSTED = ("delivery01", "selfhost01")
"""Each made anew only when asked for, or when it cannot be mended: what was delivered stands by itself."""


def host(name: str) -> Host:
    """Look a host up.

    :raises LabError: there is none of that name.
    """
    for known in HOSTS:
        if known.name == name:
            return known
    raise LabError(f"The lab has no host {name}. It has {', '.join(known.name for known in HOSTS)}.")


@dataclass(frozen=True)
class Configuration:
    """What makes a host of an image: files by absolute path with their mode, then a script run as root."""

    files: dict[str, tuple[bytes, int]]
    script: str
    services: tuple[str, ...] = field(default=())
    """Units that must be active for the host to count as well."""

    def digest(self) -> str:
        """Changes with anything of it."""
        parts = [repr((path, *self.files[path])) for path in sorted(self.files)]
        return hashlib.sha256("\n".join([*parts, self.script]).encode()).hexdigest()[:16]

    def archive(self) -> bytes:
        """The files as a tar owned by root."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for path, (content, mode) in sorted(self.files.items()):
                member = tarfile.TarInfo(path.lstrip("/"))
                member.size, member.mode, member.mtime = len(content), mode, int(time.time())
                archive.addfile(member, io.BytesIO(content))
        return buffer.getvalue()


@dataclass(frozen=True)
class Plan:
    """How a host has to be."""

    host: Host
    image: str
    networks: Networks
    configuration: Configuration

    @property
    def address(self) -> str:
        """Where it answers."""
        return str(self.networks.address(self.host.network, self.host.number))

    @property
    def recipe(self) -> str:
        """Changes with anything the host is made of; written on its container and, when it is finished, on its disk."""
        parts = (
            self.image,
            self.address,
            self.networks,
            self.host,
            _CAPABILITIES,
            _SECURITY,
            self.configuration.digest(),
        )
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def mend(plan: Plan) -> str | None:
    """See whether a host is as planned; start it where podman knows that it is stopped.

    :return: ``well`` or ``started``; ``None`` where it has to be made anew.
    """
    known = inspect("container", plan.host.container)
    if known is None or known["Config"]["Labels"].get("lab.recipe") != plan.recipe:
        return None
    if known["State"].get("Running") and not _first_process_lives(known):
        # Ended behind podman's back: podman 4.3 never gets such a container out of "stopping" again.
        return None
    if _first_process_lives(known) and _well(plan):
        return "well"
    attempt("stop", "--time", "5", plan.host.container, timeout_seconds=60)
    if attempt("start", plan.host.container, timeout_seconds=120).returncode != 0:
        return None
    finished = attempt("exec", plan.host.container, "grep", "-qx", plan.recipe, _CONFIGURED).returncode == 0
    return "started" if finished and _wait_until_well(plan) else None


def make(plan: Plan) -> str:
    """Make a host anew; what its disk held is lost.

    :return: ``made``.
    :raises LabError: it does not come up.
    """
    remove(plan.host)
    _run(plan)
    _configure(plan)
    if not _wait_until_well(plan):
        raise LabError(f"{plan.host.name} does not come up. Look with: script/lab shell {plan.host.name} journalctl -b")
    return "made"


def remove(wanted: Host) -> None:
    """Take a host away; what its disk held is lost. Connections to it end at once rather than by a time-out."""
    if running(wanted):
        stop = "systemctl stop ssh.socket ssh; pkill -x sshd"
        attempt("exec", wanted.container, "sh", "-c", stop, timeout_seconds=20)
    removal = ("rm", "--force", "--ignore", "--time", "0", wanted.container)
    # Where its monitor died with it (the machine was switched off), podman only notices by trying: the first removal fails, the second works.
    if attempt(*removal).returncode != 0:
        podman(*removal)


def running(wanted: Host) -> bool:
    """Whether its first process lives."""
    known = inspect("container", wanted.container)
    return known is not None and bool(known["State"].get("Running")) and _first_process_lives(known)


def address_of(wanted: Host) -> str | None:
    """The address its container was given; ``None`` if there is no container."""
    known = inspect("container", wanted.container)
    if known is None:
        return None
    attached = known["NetworkSettings"]["Networks"].get(f"{PREFIX}-{wanted.network}", {})
    return attached.get("IPAddress") or None


def first_process(wanted: Host) -> int:
    """Its id on this machine.

    :raises LabError: the host is not running.
    """
    known = inspect("container", wanted.container)
    if known is None or not _first_process_lives(known):
        raise LabError(f"{wanted.name} is not running. Run script/lab up.")
    return int(known["State"]["Pid"])


def answers(wanted: Host) -> bool:
    """Whether it takes Ansible's connection now."""
    address = address_of(wanted)
    return address is not None and running(wanted) and _ask(address, "true")


def execute(wanted: Host, *command: str, stdin: bytes | None = None, timeout_seconds: float = 600) -> str:
    """Run a command as root on a host, by podman (Ansible comes by SSH; the lab itself does not depend on it).

    :raises LabError: it failed.
    """
    return podman("exec", "--interactive", wanted.container, *command, stdin=stdin, timeout_seconds=timeout_seconds)


def ssh_command(address: str, *, user: str = "ansible") -> list[str]:
    """How the control node calls a host."""
    return [
        "ssh",
        *("-i", str(ssh_key("ansible")), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "ConnectTimeout=2"),
        *("-o", f"UserKnownHostsFile={STATE / 'ssh' / 'known_hosts'}", "-o", "StrictHostKeyChecking=yes"),
        f"{user}@{address}",
    ]


def _run(plan: Plan) -> None:
    names = [
        f"--add-host={name}:{plan.networks.address(other.network, other.number)}"
        for other in HOSTS
        for name in (other.name, f"{other.name}.{DOMAIN}")
    ]
    podman(
        *("run", "--detach", "--systemd=always", "--name", plan.host.container, "--hostname", plan.host.name),
        *("--label", f"lab.recipe={plan.recipe}", "--label", f"lab={PREFIX}", "--pids-limit", "-1"),
        *("--shm-size", "512m", "--network", f"{PREFIX}-{plan.host.network}", "--ip", plan.address, *names),
        *(f"--cap-add={capability}" for capability in _CAPABILITIES),
        *(f"--security-opt={option}" for option in _SECURITY),
        *(f"--volume={PREFIX}-{volume}" for volume in plan.host.volumes),
        plan.image,
    )


def _configure(plan: Plan) -> None:
    container = plan.host.container
    deadline = time.monotonic() + _BOOT_SECONDS
    while True:  # "degraded" will do: sshd has no host key yet
        state = attempt("exec", container, "systemctl", "is-system-running", timeout_seconds=30).stdout.strip()
        if state in (b"running", b"degraded"):
            break
        if time.monotonic() > deadline:
            raise LabError(
                f"systemd of {plan.host.name} did not boot in {_BOOT_SECONDS:.0f} s; it says {state.decode()!r}."
            )
        time.sleep(0.2)
    files = plan.configuration.archive()
    execute(plan.host, "tar", "--extract", "--preserve-permissions", "--directory=/", stdin=files)
    script = f"set -euo pipefail\n{plan.configuration.script}\necho {plan.recipe} > {_CONFIGURED}\n"
    execute(plan.host, "bash", "-s", stdin=script.encode())


def _first_process_lives(known: dict[str, Any]) -> bool:
    pid = int(known["State"].get("Pid") or 0)
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def _well(plan: Plan) -> bool:
    """Asked the way Ansible will ask: by SSH."""
    question = f"test $(cat {_CONFIGURED}) = {plan.recipe}"
    if plan.configuration.services:
        question += f" && systemctl is-active --quiet {' '.join(plan.configuration.services)}"
    return _ask(plan.address, question)


def _ask(address: str, question: str) -> bool:
    command = [*ssh_command(address), question]
    try:
        completed = subprocess.run(command, capture_output=True, timeout=15, stdin=subprocess.DEVNULL, check=False)
    except subprocess.TimeoutExpired:
        return False
    return completed.returncode == 0


def _wait_until_well(plan: Plan) -> bool:
    deadline = time.monotonic() + _BOOT_SECONDS
    while time.monotonic() < deadline:
        if not running(plan.host):
            return False
        if _well(plan):
            return True
        time.sleep(0.3)
    return False
