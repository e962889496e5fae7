# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The channel of one migration: how the source server reaches the target server, and how every trace of it goes away again.

The source makes three keys that never leave it. The target admits them until a deadline, from the source's address only, each for
one purpose: ``database`` (a forward to PostgreSQL's socket), ``files`` (rsync restricted to the folder of the file trees) and
``manifest`` (reads the file trees' manifests). On both servers a timer closes the channel at the deadline, whoever is watching.

Opening takes three calls of ``ireporter-migration open-channel``, each with one JSON object on standard input:
``{"step": "keys", …}`` on the source, ``{"step": "admit", …}`` on the target, ``{"step": "connect", …}`` on the source.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
import pwd
import re
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from .commands import Runner
from .commands import run as run_program
from .errors import MigrationError
from .file_trees import absolute, claim, relative
from .json_files import read_json, write_json

USER = "ireporter-migration"
KEYS = ("database", "files", "manifest")

_LAUNCHER = "/usr/local/sbin/ireporter-migration"
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,80}")
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:-]*")
# What needs no quoting in sudoers, authorized_keys and ssh_config alike.
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9._/-]+")
_PUBLIC_KEY = re.compile(r"ssh-ed25519 [A-Za-z0-9+/=]+(?: [a-z0-9-]+)?")
_HOST_KEY = re.compile(r"[a-z0-9@.-]+ [A-Za-z0-9+/=]+")
_ANSWER_WITHIN_SECONDS = 30.0
_END_WITHIN_SECONDS = 5.0


@dataclass(frozen=True)
class Machine:
    """The server this runs on; tests give another root folder and a runner that only writes down what it was asked."""

    run: Runner = run_program
    root: Path = Path("/")
    sleep: Callable[[float], None] = time.sleep

    def path(self, absolute_path: str) -> Path:
        return self.root / absolute_path.lstrip("/")


@dataclass(frozen=True)
class Places:
    """Every file a channel makes."""

    machine: Machine
    id: str

    @property
    def directory(self) -> Path:
        return self.machine.path(f"/run/ireporter-migration/{self.id}")

    @property
    def record(self) -> Path:
        """Written before anything else is made and removed after everything else: half a channel can always be closed."""
        return self.machine.path(f"/var/lib/ireporter-migration/channel-{self.id}.json")

    @property
    def forward_unit(self) -> str:
        """A transient unit: systemd knows it without a file, and without reading all its files anew."""
        return f"ireporter-migration-{self.id}-channel.service"

    @property
    def deadline_units(self) -> tuple[Path, Path]:
        base = self.machine.path("/etc/systemd/system")
        return base / f"ireporter-channel-{self.id}.timer", base / f"ireporter-channel-{self.id}.service"

    @property
    def after_boot(self) -> Path:
        """The link by which the timer starts with the server."""
        timer, _service = self.deadline_units
        return timer.parent / "timers.target.wants" / timer.name

    @property
    def keys(self) -> Path:
        return self.machine.path("/etc/ssh/ireporter-migration.keys")

    @property
    def sshd(self) -> Path:
        # First in the folder: sshd takes the first value it reads for a user.
        return self.machine.path("/etc/ssh/sshd_config.d/00-ireporter-migration.conf")

    @property
    def sudoers(self) -> Path:
        return self.machine.path("/etc/sudoers.d/ireporter-migration")


def make_keys(spec: Mapping[str, object], machine: Machine) -> dict[str, object]:
    """On the source: three key pairs, and the deadline after which they are gone.

    :param spec: ``id``, ``target_address``, ``target_port``, ``expires_in_seconds``, ``source_address`` (optional).
    :return: ``changed``, ``public_keys`` by name, ``source_address`` (what the target will see, unless there is a NAT between).
    """
    places = Places(machine, _id(spec.get("id")))
    host, port = _host(spec.get("target_address")), _number(spec, "target_port", 22)
    given = spec.get("source_address")
    address = _address(given) if given else _own_address(host, port)
    _stop_closing(places)
    changed = _arm(places, spec, {"side": "source"})
    places.directory.mkdir(parents=True, exist_ok=True)
    places.directory.chmod(0o700)
    public = {}
    for name in KEYS:
        private = places.directory / name
        if not private.with_suffix(".pub").exists():
            private.unlink(missing_ok=True)
            comment = f"ireporter-migration-{places.id}-{name}"
            machine.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(private)])
            changed = True
        public[name] = private.with_suffix(".pub").read_text(encoding="ascii").strip()
    return {"changed": changed, "public_keys": public, "source_address": address}


def admit(spec: Mapping[str, object], machine: Machine) -> dict[str, object]:
    """On the target: claim the file trees, then let the three keys in, each for its purpose, until the deadline.

    :param spec: ``id``, ``tenant``, ``public_keys``, ``source_address``, ``file_trees`` [{path, licence_file}], ``direction``,
        ``expires_in_seconds``, ``postgresql`` (whether a superuser role is made), ``database_admin`` (libpq string).
    :return: ``changed``, ``host_keys`` (as in known_hosts), ``root`` (the folder the files key is restricted to), ``expires_at``.
    :raises MigrationError: a tree holds data that is not the tenant's copy (``target-empty``), or this server cannot admit us.
    """
    places = Places(machine, _id(spec.get("id")))
    address = _address(spec.get("source_address"))
    public = _public_keys(spec.get("public_keys"))
    trees = _trees(spec.get("file_trees"))
    root = _common_root([path for path, _licence in trees])
    pull = spec.get("direction") == "pull"
    _stop_closing(places)
    changed = False
    for other in _other_targets(places):
        close(other, machine)
        changed = True
    if not pull:
        for path, licence_file in trees:
            changed |= claim(machine.path(str(path)), str(spec["tenant"]), licence_file=licence_file)
    admin = str(spec["database_admin"]) if spec.get("postgresql", True) else None
    changed |= _arm(places, spec, {"side": "target", "database_admin": admin})
    expires = datetime.fromtimestamp(_number(_record(places), "expires_at", 0), UTC)
    changed |= _make_user(machine)
    bounds = f'restrict,from="{address}",expiry-time="{expires:%Y%m%d%H%M%S}Z"'
    changed |= _write(places.keys, _authorized_keys(public, bounds, _rrsync(root, pull), _manifest(trees)), 0o644)
    changed |= _write_sudoers(places, root, pull, trees)
    changed |= _write_sshd(places)
    effective = _sshd_settings(machine, address)
    if admin is not None:
        changed |= _make_role(machine, admin)
    return {
        "changed": changed,
        "host_keys": _host_keys(effective, machine),
        "root": str(root),
        "expires_at": expires.isoformat(),
    }


def connect(spec: Mapping[str, object], machine: Machine) -> dict[str, object]:
    """On the source: learn the target's host keys, start the forward, wait until the target's PostgreSQL answers through it.

    :param spec: ``id``, ``target_address``, ``target_port``, ``host_keys``, ``root``, ``postgresql``, ``postgresql_socket``.
    :return: ``changed``, ``directory``.
    :raises MigrationError: no answer in time (check ``channel``).
    """
    places = Places(machine, _id(spec.get("id")))
    raw = spec.get("host_keys")
    host_keys = [str(key) for key in raw if _HOST_KEY.fullmatch(str(key))] if isinstance(raw, list) else []
    if not host_keys:
        raise _refuse("The target has shown no host key", "Look at `sshd -T` on the target")
    alias = f"ireporter-migration-{places.id}"
    changed = _write(places.directory / "known_hosts", "".join(f"{alias} {key}\n" for key in sorted(host_keys)), 0o600)
    host, port = _host(spec.get("target_address")), _number(spec, "target_port", 22)
    changed |= _write(places.directory / "channel.json", json.dumps({"root": spec["root"]}) + "\n", 0o600)
    config = _ssh_config(places, alias, host, port)
    if not spec.get("postgresql", True):
        changed |= _write(places.directory / "ssh_config", config, 0o600)
        _must_answer(machine, ["ssh", "-F", str(places.directory / "ssh_config"), "files", "true"])
        return {"changed": changed, "directory": str(places.directory)}
    far_socket = str(absolute(spec.get("postgresql_socket")))
    near = places.directory / "target"
    near.mkdir(mode=0o700, exist_ok=True)
    if not _PLAIN_PATH.fullmatch(far_socket):
        raise _refuse(
            f"{far_socket} is no path of a socket that could be forwarded", "Name PostgreSQL's socket on the target"
        )
    changed |= _write(places.directory / "ssh_config", config + _ssh_forward(places, far_socket), 0o600)
    conninfo = f"host={near} user={USER} dbname=postgres connect_timeout=5"
    question = ["psql", "-X", "-q", "-A", "-t", "-w", "-d", conninfo, "-c", "SELECT 1"]
    # A forward that runs but was let in by other settings of the target does not answer either: begun anew.
    if changed or machine.run(question, check=False, timeout_seconds=20).returncode != 0:
        _start_forward(places)
        changed = True
        _must_answer(machine, question)
    return {"changed": changed, "directory": str(places.directory)}


@dataclass
class _Closing:
    """Removes one thing after the other; what fails does not keep the rest from being removed."""

    removed: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def attempt(self, what: str, action: Callable[[], bool]) -> None:
        try:
            if action():
                self.removed.append(what)
        except (MigrationError, OSError) as error:
            self.failures.append(f"{what}: {error}")


def close(identity: str, machine: Machine) -> list[str]:
    """Remove all that the channel ``identity`` made on this server, whichever side it is. Nothing there: nothing happens.

    :return: what was removed.
    :raises MigrationError: something could not be removed (check ``channel-close``); the deadline's unit tries again every minute from now on.
    """
    places = Places(machine, _id(identity))
    record = _record(places)
    closing = _Closing()
    unit = places.forward_unit
    closing.attempt(f"unit {unit}", lambda: _remove_unit(machine, unit))
    closing.attempt(f"keys and sockets in {places.directory}", lambda: _remove_tree(places.directory))
    if record.get("side") == "target" or not _other_targets(places):
        closing.attempt(f"admitted keys {places.keys}", lambda: _remove(places.keys))
        closing.attempt(f"sudo rules {places.sudoers}", lambda: _remove(places.sudoers))
        closing.attempt(f"sshd settings {places.sshd}", lambda: _remove_sshd(places))
        closing.attempt(f"OS user {USER}", lambda: _remove_user(machine))
        admin = record.get("database_admin")
        if isinstance(admin, str):
            closing.attempt(f"PostgreSQL role {USER}", lambda: _remove_role(machine, admin))
    if closing.failures:
        _timer, service = places.deadline_units
        machine.run(
            ["systemctl", "start", "--no-block", service.name], check=False
        )  # no such unit: nothing could be armed
        raise MigrationError(
            f"Channel {identity} is not closed entirely: {'; '.join(closing.failures)}",
            check="channel-close",
            action=f"Mend the cause, then run `ireporter-migration close-channel {identity}` on {socket.gethostname()}",
        )
    # Last: until here, the timer would have tried again.
    closing.attempt("deadline timer", lambda: _disarm(places))
    closing.attempt("record", lambda: _remove(places.record))
    return [what for what in closing.removed if what != "record"]


def leftovers(machine: Machine, database_admin: str | None = None) -> list[str]:
    """All that any channel left on this server. ``database_admin``: also look for the PostgreSQL role there."""
    patterns = (
        "run/ireporter-migration/*",
        "etc/systemd/system/ireporter-channel-*",
        "etc/systemd/system/timers.target.wants/ireporter-channel-*",
        "var/lib/ireporter-migration/channel-*.json",
        "etc/ssh/ireporter-migration.keys",
        "etc/ssh/sshd_config.d/00-ireporter-migration.conf",
        "etc/sudoers.d/ireporter-migration",
    )
    found = [str(path) for pattern in patterns for path in sorted(machine.root.glob(pattern))]
    units = machine.run(
        [
            "systemctl",
            "list-units",
            "--all",
            "--plain",
            "--no-legend",
            "ireporter-channel-*",
            "ireporter-migration-*-channel.service",
        ],
        check=False,
    ).stdout
    # Until it reads its files anew, systemd remembers the name of a unit that is stopped and whose file is gone: "inactive".
    listed = [line.split() for line in units.splitlines() if line.strip()]
    found += [f"unit {columns[0]}" for columns in listed if columns[2:3] != ["inactive"]]
    if _user_exists(machine):
        found.append(f"OS user {USER}")
    if database_admin is not None and _role_exists(machine, database_admin):
        found.append(f"PostgreSQL role {USER}")
    return found


def open_main(arguments: list[str], machine: Machine | None = None) -> int:
    """``ireporter-migration open-channel``: JSON on standard input, JSON on standard output."""
    argparse.ArgumentParser(prog="ireporter-migration open-channel", description=__doc__).parse_args(arguments)
    steps = {"keys": make_keys, "admit": admit, "connect": connect}
    try:
        spec = json.load(sys.stdin)
        result = steps[spec["step"]](spec, machine or Machine())
    except (ValueError, KeyError, TypeError) as error:
        print(f"The channel's specification is not usable: {error!r} (channel). Open it by its role.", file=sys.stderr)
        return 1
    except MigrationError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(result))
    return 0


def close_main(arguments: list[str], machine: Machine | None = None) -> int:
    """``ireporter-migration close-channel ID``: JSON ``{"changed", "removed"}`` on standard output."""
    parser = argparse.ArgumentParser(prog="ireporter-migration close-channel", description=close.__doc__)
    parser.add_argument("id")
    options = parser.parse_args(arguments)
    try:
        removed = close(options.id, machine or Machine())
    except MigrationError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps({"changed": bool(removed), "removed": removed}))
    return 0


def leftovers_main(arguments: list[str], machine: Machine | None = None) -> int:
    """``ireporter-migration channel-leftovers``: JSON ``{"leftovers": […]}``; exit status 1 when there are any."""
    parser = argparse.ArgumentParser(prog="ireporter-migration channel-leftovers", description=leftovers.__doc__)
    parser.add_argument("--database-admin", help="libpq string without password")
    options = parser.parse_args(arguments)
    try:
        found = leftovers(machine or Machine(), options.database_admin)
    except MigrationError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps({"leftovers": found}))
    return 1 if found else 0


# The deadline


def _arm(places: Places, spec: Mapping[str, object], facts: Mapping[str, object]) -> bool:
    """Record and running timer. More than half of the time left, and not more than is wanted: as it is; else from now on."""
    seconds = _number(spec, "expires_in_seconds", 14400)
    if not 60 <= seconds <= 30 * 86400:
        raise _refuse(f"A channel for {seconds} s is not sensible", "Give 60 s to 30 days")
    known = _record(places)
    now = int(time.time())
    kept = _number(known, "expires_at", 0)
    expires_at = kept if seconds // 2 < kept - now <= seconds else now + seconds
    wanted = {**facts, "id": places.id, "expires_at": expires_at}
    timer, service = places.deadline_units
    if known == wanted and timer.exists() and _counts(places):
        return False
    places.record.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Without a deadline until the timer counts to it: whoever opens the channel again after a kill in between sets the timer anew.
    write_json(places.record, {**wanted, "expires_at": 0})
    about = f"Close channel {places.id} of an i-Reporter migration"
    # Tried again while, for instance, PostgreSQL is down and its role cannot be dropped.
    _write(
        service,
        f"[Unit]\nDescription={about}\nStartLimitIntervalSec=0\n\n[Service]\nType=oneshot\n"
        f"ExecStart={_LAUNCHER} close-channel {places.id}\nRestart=on-failure\nRestartSec=60\n",
        0o644,
    )
    _write(
        timer,
        f"[Unit]\nDescription={about} at its deadline\n\n[Timer]\nOnActiveSec={expires_at - now}\nAccuracySec=1s\n\n"
        "[Install]\nWantedBy=timers.target\n",
        0o644,
    )
    places.after_boot.parent.mkdir(exist_ok=True)
    if not places.after_boot.is_symlink():
        places.after_boot.symlink_to(f"../{timer.name}")
    stale = ["systemctl", "show", "--value", "--property=NeedDaemonReload", timer.name, service.name]
    if "yes" in places.machine.run(stale, check=False).stdout:  # reading every unit anew takes a second on some servers
        places.machine.run(["systemctl", "daemon-reload"])
    places.machine.run(["systemctl", "restart", timer.name])
    write_json(places.record, wanted)
    return True


def _counts(places: Places) -> bool:
    """Whether the timer runs: its file alone closes nothing."""
    timer, _service = places.deadline_units
    return places.machine.run(["systemctl", "is-active", "--quiet", timer.name], check=False).returncode == 0


def _stop_closing(places: Places) -> None:
    """Whoever opens a channel must not have it closed by a try that an earlier failure to close it left."""
    _timer, service = places.deadline_units
    places.machine.run(["systemctl", "stop", service.name], check=False)


def _disarm(places: Places) -> bool:
    timer, service = places.deadline_units
    if not (timer.exists() or service.exists()):
        return False
    # Not the service: it may be what runs this.
    places.machine.run(["systemctl", "stop", timer.name])
    for path in (places.after_boot, timer, service):
        path.unlink(missing_ok=True)
    return True


def _record(places: Places) -> dict[str, object]:
    known = read_json(places.record)
    return known if isinstance(known, dict) else {}


def _other_targets(places: Places) -> list[str]:
    """Ids of other channels that end on this server: their user, sudo rules and sshd settings have the same names as ours."""
    found = []
    for path in places.record.parent.glob("channel-*.json"):
        known = read_json(path)
        if isinstance(known, dict) and known.get("side") == "target" and known.get("id") != places.id:
            found.append(str(known["id"]))
    return found


# The target's side


def _make_user(machine: Machine) -> bool:
    if _user_exists(machine):
        return False
    # A home that is not there would make sshd complain at each connection; our settings for sshd read nothing from it.
    # "*" is no password, but unlike "!" no locked account either, which sshd without PAM would refuse.
    machine.run(
        [
            *("useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/"),
            *("--shell", "/bin/sh", "--password", "*", "--comment", "i-Reporter migration", USER),
        ]
    )
    return True


def _user_exists(machine: Machine) -> bool:
    return machine.run(["getent", "passwd", USER], check=False).returncode == 0


def _remove_user(machine: Machine) -> bool:
    if not _user_exists(machine):
        return False
    _end_processes(machine)
    machine.run(["userdel", USER])
    return True


def _end_processes(machine: Machine) -> None:
    """End the user's SSH connections. What runs as root behind sudo ends when its connection does."""
    with suppress(KeyError):
        number = pwd.getpwnam(USER).pw_uid
        deadline = time.monotonic() + _END_WITHIN_SECONDS
        while mine := _processes_of(number):
            late = time.monotonic() > deadline
            for process in mine:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL if late else signal.SIGTERM)
            machine.sleep(0.1)
            if time.monotonic() > deadline + _END_WITHIN_SECONDS:
                raise _refuse(f"Processes {mine} of {USER} do not end", "Look what they wait for")


def _processes_of(number: int) -> list[int]:
    found = []
    for path in Path("/proc").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            if path.name.isdigit() and path.stat().st_uid == number:
                found.append(int(path.name))
    return found


def _authorized_keys(public: Mapping[str, str], bounds: str, rrsync: str, manifest: str) -> str:
    commands = {
        "database": ("port-forwarding,", "/bin/false"),
        "files": ("", f"sudo -n {rrsync}"),
        "manifest": ("", f"sudo -n {manifest}"),
    }
    return "".join(f'{bounds},{more}command="{command}" {public[name]}\n' for name, (more, command) in commands.items())


def _rrsync(root: Path, pull: bool) -> str:
    return f"/usr/bin/rrsync {'-ro' if pull else '-wo'} {root}"


def _manifest(trees: list[tuple[Path, bytes | None]]) -> str:
    return f"{_LAUNCHER} manifest {' '.join(str(path) for path, _licence in trees)}"


def _write_sudoers(places: Places, root: Path, pull: bool, trees: list[tuple[Path, bytes | None]]) -> bool:
    content = (
        f'Defaults:{USER} !requiretty, env_keep += "SSH_ORIGINAL_COMMAND SSH_CONNECTION"\n'
        f"{USER} ALL=(root) NOPASSWD: {_rrsync(root, pull)}, {_manifest(trees)}\n"
    )
    if places.sudoers.exists() and places.sudoers.read_text(encoding="utf-8") == content:
        return False
    # A name with a dot is not read by sudo: checked before it counts.
    draft = places.sudoers.with_suffix(".draft")
    _write(draft, content, 0o440)
    try:
        places.machine.run(["visudo", "-c", "-q", "-f", str(draft)])
        draft.replace(places.sudoers)
    finally:
        draft.unlink(missing_ok=True)
    return True


def _write_sshd(places: Places) -> bool:
    # AllowTcpForwarding: sshd forwards no Unix socket without it. Only the database key may forward at all.
    content = (
        f"# A migration's channel; closing it removes this file.\nMatch User {USER}\n"
        f"    AuthorizedKeysFile {places.keys}\n    AuthorizedKeysCommand none\n    AuthenticationMethods publickey\n"
        "    DisableForwarding no\n    AllowStreamLocalForwarding local\n    AllowTcpForwarding local\n    PermitTunnel no\n"
        "    X11Forwarding no\n    AllowAgentForwarding no\n    PermitTTY no\n    PermitUserRC no\n"
    )
    if not _write(places.sshd, content, 0o644):
        return False
    try:
        places.machine.run(["/usr/sbin/sshd", "-t"])
    except MigrationError:
        places.sshd.unlink()
        raise
    _reload_sshd(places.machine)
    return True


def _remove_sshd(places: Places) -> bool:
    if not _remove(places.sshd):
        return False
    _reload_sshd(places.machine)
    return True


def _reload_sshd(machine: Machine) -> None:
    for unit in ("ssh.service", "sshd.service"):
        if machine.run(["systemctl", "is-active", "--quiet", unit], check=False).returncode == 0:
            machine.run(["systemctl", "reload", unit])
            return
    # Neither runs: sshd is started by a socket for each connection and reads its settings then.


def _sshd_settings(machine: Machine, address: str) -> list[list[str]]:
    """What sshd will really do for our user.

    :raises MigrationError: it does not read our settings.
    """
    asked = machine.run(["/usr/sbin/sshd", "-T", "-C", f"user={USER},host=source,addr={address}"]).stdout
    settings = [line.split() for line in asked.splitlines()]
    if not any(
        line[0] == "authorizedkeysfile" and line[1:] and line[1].endswith("/ireporter-migration.keys")
        for line in settings
    ):
        raise _refuse(
            "sshd of the target does not read /etc/ssh/sshd_config.d",
            "Put `Include /etc/ssh/sshd_config.d/*.conf` first in sshd_config",
        )
    return settings


def _host_keys(settings: list[list[str]], machine: Machine) -> list[str]:
    found = []
    for line in settings:
        if line[0] == "hostkey" and len(line) == 2:
            public = machine.path(f"{line[1]}.pub")
            if public.exists():
                found.append(" ".join(public.read_text(encoding="ascii").split()[:2]))
    return found


def _make_role(machine: Machine, admin: str) -> bool:
    if _role_exists(machine, admin):
        return False
    _sql(machine, admin, f'CREATE ROLE "{USER}" SUPERUSER LOGIN')
    return True


def _role_exists(machine: Machine, admin: str) -> bool:
    # S608: the name is a constant of this file.
    return _sql(machine, admin, f"SELECT count(*) FROM pg_roles WHERE rolname = '{USER}'").strip() == "1"  # noqa: S608


def _remove_role(machine: Machine, admin: str) -> bool:
    if not _role_exists(machine, admin):
        return False
    _sql(machine, admin, f'ALTER ROLE "{USER}" NOLOGIN')
    sessions = f"FROM pg_stat_activity WHERE usename = '{USER}'"
    _sql(machine, admin, f"SELECT count(pg_terminate_backend(pid, 5000)) {sessions}")
    # A copy that broke off may have left objects of the role, and rights given to it, in any database.
    names = _sql(machine, admin, "SELECT datname FROM pg_database WHERE datallowconn ORDER BY 1")
    for name in names.splitlines():
        quoted = name.replace("\\", "\\\\").replace("'", "\\'")
        _sql(
            machine, f"{admin} dbname='{quoted}'", f'REASSIGN OWNED BY "{USER}" TO CURRENT_USER; DROP OWNED BY "{USER}"'
        )
    _sql(machine, admin, f'DROP ROLE "{USER}"')
    return True


def _sql(machine: Machine, conninfo: str, statement: str) -> str:
    argv = ["psql", "-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1", "-d", conninfo, "-c", statement]
    return machine.run(argv).stdout


# The source's side


def _ssh_config(places: Places, alias: str, host: str, port: int) -> str:
    directory = places.directory
    return (
        f"Host {' '.join(KEYS)}\n    HostName {host}\n    Port {port}\n    User {USER}\n    IdentityFile {directory}/%n\n"
        "    IdentitiesOnly yes\n    IdentityAgent none\n    PreferredAuthentications publickey\n    BatchMode yes\n"
        f"    HostKeyAlias {alias}\n    CheckHostIP no\n    StrictHostKeyChecking yes\n    UpdateHostKeys no\n"
        f"    UserKnownHostsFile {directory}/known_hosts\n    GlobalKnownHostsFile /dev/null\n"
        "    ConnectTimeout 10\n    ServerAliveInterval 5\n    ServerAliveCountMax 6\n    LogLevel ERROR\n"
    )


def _ssh_forward(places: Places, far_socket: str) -> str:
    return (
        f"Host database\n    LocalForward {places.directory}/target/.s.PGSQL.5432 {far_socket}\n"
        "    ExitOnForwardFailure yes\n    StreamLocalBindUnlink yes\n    StreamLocalBindMask 0177\n"
    )


def _start_forward(places: Places) -> None:
    _remove_unit(places.machine, places.forward_unit)
    places.machine.run(
        [
            *("systemd-run", "--quiet", "--collect", f"--unit={places.forward_unit}"),
            f"--description=Channel {places.id} of an i-Reporter migration",
            *("--property=Restart=always", "--property=RestartSec=1", "--property=StartLimitIntervalSec=0"),
            *("ssh", "-F", f"{places.directory}/ssh_config", "-N", "database"),
        ]
    )


def _must_answer(machine: Machine, argv: list[str]) -> None:
    deadline = time.monotonic() + _ANSWER_WITHIN_SECONDS
    while True:
        answer = machine.run(argv, check=False, timeout_seconds=20)
        if answer.returncode == 0:
            return
        if time.monotonic() > deadline:
            raise _refuse(
                f"The target does not answer through the channel: {answer.stderr.strip() or 'nothing was said'}",
                "Look at the channel's unit on the source and at sshd's journal on the target, then open it again",
            )
        machine.sleep(0.2)


def _own_address(host: str, port: int) -> str:
    """The address this server would use to reach the target. Nothing is sent."""
    try:
        family, kind, protocol, _name, where = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(where)
            return str(probe.getsockname()[0])
    except OSError as error:
        raise _refuse(
            f"No way leads from here to {host}: {error}", "Check the target's address and the routes"
        ) from error


# Files, units and input


def _write(path: Path, content: str, mode: int) -> bool:
    """Replace atomically when it differs."""
    if path.exists() and path.read_text(encoding="utf-8") == content:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.new")
    draft.write_text(content, encoding="utf-8")
    draft.chmod(mode)
    draft.replace(path)
    return True


def _remove(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def _remove_tree(path: Path) -> bool:
    if not path.exists():
        return False
    shutil.rmtree(path)
    return True


def _remove_unit(machine: Machine, unit: str) -> bool:
    known = machine.run(["systemctl", "list-units", "--all", "--plain", "--no-legend", unit], check=False)
    if not known.stdout.strip():
        return False
    machine.run(["systemctl", "stop", unit], check=False)  # it may have ended, and been collected, just now
    machine.run(["systemctl", "reset-failed", unit], check=False)
    if machine.run(["systemctl", "is-active", unit], check=False).stdout.strip() in ("active", "activating"):
        raise _refuse(f"{unit} does not stop", f"Look at systemctl status {unit}")
    return True


def _id(value: object) -> str:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise _refuse(f"{value!r} is no migration id", "Use the id the run record gave")
    return value


def _host(value: object) -> str:
    if not isinstance(value, str) or not _HOST.fullmatch(value):
        raise _refuse(f"{value!r} is no host name or address", "Name the target as the source reaches it")
    return value


def _address(value: object) -> str:
    try:
        return str(ipaddress.ip_address(str(value)))
    except ValueError as error:
        raise _refuse(f"{value!r} is no IP address", "Give the source's address as the target sees it") from error


def _number(values: Mapping[str, object], name: str, default: int) -> int:
    value = values.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _refuse(f"{name} is no number: {value!r}", "Give a whole number")
    return value


def _public_keys(value: object) -> dict[str, str]:
    if (
        not isinstance(value, dict)
        or set(value) != set(KEYS)
        or not all(_PUBLIC_KEY.fullmatch(str(key)) for key in value.values())
    ):
        raise _refuse("The source's public keys are not what was expected", "Open the channel by its role")
    return {str(name): str(key) for name, key in value.items()}


def _trees(value: object) -> list[tuple[Path, bytes | None]]:
    if not isinstance(value, list) or not value:
        raise _refuse("The channel has no file tree", "Name the target's file trees")
    trees = sorted((absolute(tree["path"]), relative(tree.get("licence_file"))) for tree in value)
    for path, _licence in trees:
        if not _PLAIN_PATH.fullmatch(str(path)):
            raise _refuse(f"The target's file tree {path} needs quoting", "Use letters, digits and . _ - in its path")
    return trees


def _common_root(paths: list[Path]) -> Path:
    root = Path(os.path.commonpath(paths))
    if len(root.parts) < 3:
        raise _refuse(
            f"The target's file trees have only {root} in common, too much to hand out",
            "Put them below one folder of their own",
        )
    return root


def _refuse(happened: str, action: str) -> MigrationError:
    return MigrationError(happened, check="channel", action=action)
