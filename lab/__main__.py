# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``script/lab``: brings the lab up, takes it down, tells how it is, opens a shell, puts its data back."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import sys
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from lab import configuration, hosts, images, inventory, networks, podman, services, tenants, wall_clock
from lab import publish as publishing
from lab.checkout import PREFIX, STATE, LabError


def main() -> int:
    """Parse the command line, do it."""
    arguments = _parser().parse_args()
    try:
        return int(arguments.run(arguments))
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1


def up(arguments: argparse.Namespace) -> int:
    """Bring everything up."""
    with _alone():
        _bring_up(_size(arguments), as_new=False)
    return 0


def reset(arguments: argparse.Namespace) -> int:
    """Put the servers, the zone and the mailboxes back to how they were made, or only the hosts that are named."""
    named = {hosts.host(name) for name in arguments.hosts}
    for host in named:
        if host.name not in hosts.SELF_HOSTED:
            raise LabError(f"{host.name} is not put back alone. Run script/lab reset without a name.")
    with _alone():
        _bring_up(_size(arguments), as_new=not named, these=named)
    return 0


def _size(arguments: argparse.Namespace) -> tenants.Size | None:
    if arguments.gigabytes is None and arguments.files is None:
        return None
    default = tenants.Size()
    return tenants.Size(arguments.gigabytes or default.gigabytes, arguments.files or default.files)


def _bring_up(wanted: tenants.Size | None, *, as_new: bool, these: Collection[hosts.Host] = ()) -> None:
    """Mend what can be mended; otherwise the lab as a whole is as new.

    A migration leaves its traces on both servers and in the zone: one of them anew beside the others as they were
    would be a state no real servers can be in. What was delivered to a customer stands by itself.

    :param these: made anew in any case, of those that stand by themselves.
    """
    began = time.monotonic()
    made = images.ensure()
    nets = networks.ensure()
    name_servers = [hosts.host(name) for name in hosts.NAME_SERVERS]
    networks.apply_firewall(nets, [nets.address(server.network, server.number) for server in name_servers])
    inventory.write_known_hosts(nets)
    for volume in ("archives", "archives-customer"):
        images.seed_archives(f"{PREFIX}-{volume}")
    package = tenants.build_package()
    files = {"shared01": tenants.files(package)}
    plans = {
        host: hosts.Plan(host, made[host.image], nets, configuration.configuration(host, nets, files.get(host.name)))
        for host in hosts.HOSTS
    }
    servers = {hosts.host(name) for name in hosts.MIGRATED}
    shared_image = made[hosts.host("shared01").image]
    missing = tenants.what_is_missing(shared_image, wanted)
    _say("images, networks, firewall", began)

    with ThreadPoolExecutor() as pool:
        as_new = as_new or missing is not None
        anew = {*these, *(servers if as_new else ())}
        mended = dict(pool.map(lambda host: (host, None if host in anew else hosts.mend(plans[host])), hosts.HOSTS))
        as_new = as_new or any(mended[host] is None for host in hosts.HOSTS if host.name not in hosts.SELF_HOSTED)
        if as_new:
            missing = missing or "restored"
            _say(f"everything as new; shared01's data has to be {missing}", began)

        def bring(host: hosts.Host) -> str:
            if not (as_new and host in servers):
                return mended[host] or hosts.make(plans[host])
            hosts.remove(host)
            if host.name == "shared01":
                tenants.restore() if missing == "restored" else tenants.discard()
            done = hosts.make(plans[host])
            if host.name == "shared01" and missing == "generated":
                tenants.generate(host, shared_image, wanted or tenants.Size())
            return done

        done = list(pool.map(bring, hosts.HOSTS))
    if as_new:
        services.restore_zone()
        services.empty_mailboxes()
    networks.reload_where_lost(nets, {host.network: host.container for host in hosts.HOSTS})
    inventory.write(nets, package)
    _say(", ".join(f"{host.name} {what}" for host, what in zip(hosts.HOSTS, done, strict=True)), began)


def down(arguments: argparse.Namespace) -> int:
    """Remove everything."""
    with _alone():
        for host in hosts.HOSTS:
            hosts.remove(host)
        networks.remove()
        for volume in podman.podman("volume", "ls", "--quiet", "--filter", f"name={PREFIX}-").split():
            podman.podman("volume", "rm", "--force", volume)
        inventory.remove()
        if arguments.images:
            images.remove()
    return 0


def status(arguments: argparse.Namespace) -> int:  # noqa: ARG001
    """One line per host; exit 1 unless all are up."""
    lines = [(host, hosts.answers(host)) for host in hosts.HOSTS]
    for host, well in lines:
        print(f"{host.name:<12} {hosts.address_of(host) or '-':<16} {'up' if well else 'down'}")
    print(tenants.described())
    return 0 if all(well for _, well in lines) else 1


def mails(arguments: argparse.Namespace) -> int:  # noqa: ARG001
    """Every mail mail01 holds, as JSON, oldest first."""
    print(json.dumps(services.mails(), ensure_ascii=False, indent=1))
    return 0


def publish(arguments: argparse.Namespace) -> int:
    """Publish a definition of a tenant, as its designers do in normal operation."""
    print(
        publishing.publish(
            arguments.tenant,
            server=arguments.server,
            new_revision_of=arguments.new_revision_of,
            definition=arguments.id,
        )
    )
    return 0


def cut(arguments: argparse.Namespace) -> int:
    """Let no packet pass between a host and one other, or all others, for a while."""
    host = hosts.host(arguments.host)
    peers = [hosts.address_of(hosts.host(arguments.other))] if arguments.other else ["0.0.0.0/0"]
    if peers[0] is None:
        raise LabError(f"{arguments.other} is not running. Run script/lab up.")
    networks.cut(hosts.first_process(host), [str(peers[0])], arguments.seconds, arguments.port)
    return 0


def clock(arguments: argparse.Namespace) -> int:
    """Set a host's wall clock, for every program that starts there from now on."""
    host = hosts.host(arguments.host)
    if not hosts.running(host):
        raise LabError(f"{host.name} is not running. Run script/lab up.")
    wall_clock.set_later(host.container, arguments.days)
    return 0


def shell(arguments: argparse.Namespace) -> int:
    """Become a root shell on a host."""
    host = hosts.host(arguments.host)
    if not hosts.running(host):
        raise LabError(f"{host.name} is not running. Run script/lab up.")
    terminal = ["--tty"] if sys.stdin.isatty() else []
    os.execvpe(
        "podman",
        ["podman", "exec", "--interactive", *terminal, host.container, *(arguments.command or ["bash", "-l"])],
        podman.environment(),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="script/lab", description="The lab: real servers in containers.")
    commands = parser.add_subparsers(required=True, metavar="up|down|status|shell|reset|mails|publish|cut|clock")
    size = argparse.ArgumentParser(add_help=False)
    size.add_argument(
        "--gigabytes", type=float, help="size of acme's database; as it is where not given (at first 0.05)"
    )
    size.add_argument("--files", type=int, help="number of acme's files; as it is where not given (at first 2000)")
    command = commands.add_parser(
        "up", parents=[size], help="make, mend or start whatever is missing; from any state; twice changes nothing"
    )
    command.set_defaults(run=up)
    command = commands.add_parser(
        "reset", parents=[size], help="servers, tenants' data, zone and mailboxes as new, in seconds"
    )
    command.add_argument("hosts", nargs="*", metavar="HOST", help=f"only these, of {' and '.join(hosts.SELF_HOSTED)}")
    command.set_defaults(run=reset)
    command = commands.add_parser("status", help="one line per host; exit 1 unless all are up")
    command.set_defaults(run=status)
    command = commands.add_parser("mails", help="the mails mail01 holds, as JSON")
    command.set_defaults(run=mails)
    command = commands.add_parser(
        "publish", help="publish a definition: linkage tables and a view are made; prints its id"
    )
    command.add_argument("tenant")
    command.add_argument("--server", default="shared01", help="shared01 or dedicated01")
    which = command.add_mutually_exclusive_group()
    which.add_argument("--id", type=int, help="a definition that is not published yet")
    which.add_argument(
        "--new-revision-of", type=int, metavar="ORIGINAL", help="a copy of it (default: of definition 1)"
    )
    command.set_defaults(run=publish)
    command = commands.add_parser(
        "cut", help="drop every packet between a host and another, or all others, for a while"
    )
    command.add_argument("host")
    command.add_argument("other", nargs="?", help="without it: everybody, the control node too")
    command.add_argument("--port", type=int, help="only TCP to or from this port")
    command.add_argument("--seconds", type=int, default=30)
    command.set_defaults(run=cut)
    command = commands.add_parser("clock", help="set a host's wall clock, for what starts there from now on")
    command.add_argument("host")
    command.add_argument("days", type=int, help="days later than it is; 0: right again")
    command.set_defaults(run=clock)
    command = commands.add_parser("down", help="remove containers, networks, volumes and firewall rules")
    command.add_argument("--images", action="store_true", help="also the images and the package cache")
    command.set_defaults(run=down)
    command = commands.add_parser("shell", help="a root shell on a host")
    command.add_argument("host")
    command.add_argument("command", nargs="*", help="a command instead of a shell")
    command.set_defaults(run=shell)
    return parser


@contextmanager
def _alone() -> Iterator[None]:
    """One change of the lab at a time."""
    STATE.mkdir(parents=True, exist_ok=True)
    with (STATE / "lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        try:
            yield
        finally:
            _hand_over()


def _hand_over() -> None:
    """Give what root wrote to whoever called sudo: Ansible runs as that user."""
    if "SUDO_UID" not in os.environ:
        return
    user, group = int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"])
    for top in (STATE.parent, inventory.FOLDER):
        for path in (top, *top.rglob("*")):
            if path.lstat().st_uid == 0:
                os.lchown(path, user, group)


def _say(what: str, began: float) -> None:
    print(f"lab: {time.monotonic() - began:5.1f} s  {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
