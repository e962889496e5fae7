"""Facts about a tenant on its server: sizes, versions, accounts, and what stands in the way. Reads only."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from .clock import SystemClock
from .commands import Runner
from .database_groups import TableGroups
from .errors import MigrationError
from .freeze_proof import superuser_obstacle
from .freeze_steps import obstacles
from .host_facts import disk, time_synchronisation
from .tenant_model import STATE_DIRECTORY, Tenant
from .tenant_server import Server
from .tenant_state import ABSENT, FROZEN, NONE, OPEN, Observation, observe
from .tenant_units import Units

_LOOKS = 3
_SECONDS_BETWEEN_LOOKS = 2.0
# Between listing a folder and looking at what it lists: deleted, or a file in its place.
_VANISHED = (FileNotFoundError, NotADirectoryError)
_POSTGRESQL_PROGRAMS = Path("/usr/lib/postgresql")
_POSTGRESQL_SOCKETS = Path("/var/run/postgresql")
_POSTGRESQL_DATA = Path("/var/lib/postgresql")


def gather(
    server: Server,
    *,
    everything: bool,
    path_scan_rows: int,
    table_groups: TableGroups,
    disks: Mapping[str, Path] = MappingProxyType({}),
) -> dict[str, object]:
    """Look at the tenant.

    :param everything: also sizes, accounts and obstacles; otherwise state, lease, version and server only.
    :param path_scan_rows: so many rows of each table at most are searched for texts that point at this server.
    :param disks: further folders by what they are for; how much room is there is looked at, too.
    :raises MigrationError: something could not be looked at: unknown is a failure; or the tenant does not stay as it is (check
        ``tenant-changing``).
    """
    # On a bare server python3-psycopg is missing, and this module must load all the same.
    from .tenant_database_info import is_lost_connection  # noqa: PLC0415

    begun = server.clock.monotonic()
    for look in range(1, _LOOKS + 1):
        seen = observe(server)
        try:
            facts = _facts(
                server,
                seen,
                everything=everything,
                path_scan_rows=path_scan_rows,
                table_groups=table_groups,
                disks=disks,
            )
        except MigrationError as error:
            # A copy that was interrupted drops its database, with whoever looks at it; the undoing must not fail of that.
            if look == _LOOKS or not is_lost_connection(error):
                raise
            server.clock.sleep(_SECONDS_BETWEEN_LOOKS)
            continue
        # A freeze that another run began meanwhile would look like obstacles that nobody made.
        if not everything or observe(server).state == seen.state:
            facts["seconds"] = round(server.clock.monotonic() - begun, 3)
            return facts
    raise MigrationError(
        f"Tenant {server.tenant.name} was frozen or opened {_LOOKS} times while it was looked at: another run is at work on it",
        check="tenant-changing",
        action="See playbooks/status.yml for whose it is, and run again when it has ended",
    )


def _facts(
    server: Server,
    seen: Observation,
    *,
    everything: bool,
    path_scan_rows: int,
    table_groups: TableGroups,
    disks: Mapping[str, Path],
) -> dict[str, object]:
    from .tenant_database_info import database_content, database_facts, server_version  # noqa: PLC0415

    version, data_directory = server_version(server.tenant)
    facts: dict[str, object] = {
        "state": seen.state,
        "disagreements": seen.disagreements,
        "admitting": seen.admitting,
        "gate": seen.gate.variant if seen.gate else ("unreadable" if seen.gate_file_present else NONE),
        "moved_to": seen.gate.moved_to if seen.gate else None,
        "lease": seen.lease_as_dict(),
        "database_content": database_content(server.tenant),
        "run_id": seen.record.run_id if seen.record else None,
        "frozen_at": seen.record.frozen_at if seen.record else None,
        "server": _server_facts(server.run, server.tenant, version, Path(data_directory), disks),
        "application_version": _application_version(server.tenant),
    }
    if everything:
        exists = seen.connection_limit is not None
        facts["database"] = (
            database_facts(
                server.tenant,
                patterns=_patterns(server.tenant),
                path_scan_rows=path_scan_rows,
                table_groups=table_groups,
            )
            if exists
            else None
        )
        facts["file_trees"] = [tree_facts(tree.name, tree.path) for tree in server.tenant.file_trees]
        facts["accounts"] = server.database.count(server.tenant.accounts_query) if exists else None
        facts["obstacles"] = [] if seen.state == ABSENT else _obstacles(server, seen.state)
    return facts


def is_bare(tenant: Tenant, run: Runner) -> bool:
    """Whether nothing of i-Reporter is on this server yet: no gate, no application, no PostgreSQL."""
    if any(path.exists() for path in (tenant.web.gate_file, _POSTGRESQL_PROGRAMS, _POSTGRESQL_SOCKETS)):
        return False
    return not Units(run, SystemClock()).state(tenant.application.unit).loaded


def bare_facts(tenant: Tenant, run: Runner, disks: Mapping[str, Path] = MappingProxyType({})) -> dict[str, object]:
    """The facts of a server that has nothing yet: state absent, its disks and its clock."""
    return {
        "state": ABSENT,
        "disagreements": [],
        "admitting": False,
        "gate": NONE,
        "moved_to": None,
        "lease": {"status": NONE, "deadline": None, "remaining_seconds": None},
        "database_content": ABSENT,
        "run_id": None,
        "frozen_at": None,
        "server": _server_facts(run, tenant, None, _POSTGRESQL_DATA, disks),
        "application_version": _application_version(tenant),
        "database": None,
        "file_trees": [tree_facts(tree.name, tree.path) for tree in tenant.file_trees],
        "accounts": None,
        "obstacles": [],
        "seconds": 0.0,
    }


def tree_facts(name: str, path: Path) -> dict[str, object]:
    """Files, folders, bytes and newest change of a tree. A hard-linked file counts once in bytes; sparse files with their full length.

    ``newest_file_change`` is of files only, and of their status (ctime), which every change of content changes, too, and nobody can set: a
    file that was put there with an older time counts as new, one with a time in the future or a folder in which a probe made and
    removed a file does not. What vanishes while it is looked at (the tenant serves) does not count.
    """
    newest = _folder_time(path)
    if newest is None:
        return {
            "name": name,
            "path": str(path),
            "exists": False,
            "files": 0,
            "directories": 0,
            "bytes": 0,
            "newest_mtime": None,
            "newest_file_change": None,
        }
    files = directories = size = 0
    newest_file: float | None = None
    linked: set[tuple[int, int]] = set()
    pending = [os.fsencode(path)]
    while pending:
        with contextlib.suppress(*_VANISHED), os.scandir(pending.pop()) as entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except _VANISHED:
                    continue
                newest = max(newest, status.st_mtime)
                if stat.S_ISDIR(status.st_mode):
                    directories += 1
                    pending.append(entry.path)
                    continue
                files += 1
                newest_file = max(newest_file or 0.0, status.st_ctime)
                identity = (status.st_dev, status.st_ino)
                if status.st_nlink == 1 or identity not in linked:
                    size += status.st_size
                if status.st_nlink > 1:
                    linked.add(identity)
    return {
        "name": name,
        "path": str(path),
        "exists": True,
        "files": files,
        "directories": directories,
        "bytes": size,
        "newest_mtime": newest,
        "newest_file_change": newest_file,
    }


def _folder_time(path: Path) -> float | None:
    """When the folder was changed last (seconds since 1970); ``None`` when there is no folder of that path."""
    with contextlib.suppress(*_VANISHED):
        if path.is_dir():
            return path.stat().st_mtime
    return None


def _server_facts(
    run: Runner, tenant: Tenant, version: int | None, data_directory: Path, further: Mapping[str, Path]
) -> dict[str, object]:
    synchronised, source = time_synchronisation(run)
    disks = [("database", data_directory), ("state", STATE_DIRECTORY)]
    disks += [(f"tree:{tree.name}", tree.path) for tree in tenant.file_trees]
    disks += further.items()
    return {
        "hostname": platform.node(),
        "os": _os_name(),
        "postgresql_version_num": version,
        "time_epoch": time.time(),
        "timezone": _time_zone(run),
        "ntp_synchronised": synchronised,
        "ntp_source": source,
        "locales": run(["locale", "-a"]).stdout.split(),
        "disks": [disk(purpose, path) for purpose, path in disks],
    }


def _time_zone(run: Runner) -> str:
    shown = run(["timedatectl", "show", "--property=Timezone", "--value"], check=False)
    name = shown.stdout.strip()
    if shown.returncode == 0 and name:
        return name
    link = Path("/etc/localtime")
    return str(link.resolve()).partition("zoneinfo/")[2] if link.is_symlink() else time.tzname[0]


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return platform.system()


def _application_version(tenant: Tenant) -> str | None:
    if tenant.application_version_file is None:
        return None
    try:
        text = tenant.application_version_file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    found = re.search(r"[0-9]+(?:\.[0-9]+)+", text)
    return found.group(0) if found else None


def _patterns(tenant: Tenant) -> list[str]:
    patterns = [str(tree.path) for tree in tenant.file_trees]
    patterns += [tenant.public_name, platform.node(), *tenant.moved_patterns]
    return sorted({pattern for pattern in patterns if len(pattern) >= 4})


def _obstacles(server: Server, state: str) -> list[dict[str, str]]:
    if state == FROZEN:
        return []
    found = obstacles(server)
    if state != OPEN:
        return found
    for probe in server.tenant.database_probes:
        try:
            session = server.database.open_probe(probe)
        except MigrationError as error:
            found.append({"check": error.check, "message": error.happened, "action": error.action})
            continue
        try:
            if server.database.is_superuser(session):
                superuser = superuser_obstacle(probe)
                found.append({"check": superuser.check, "message": superuser.happened, "action": superuser.action})
            answer = server.database.try_statement(session, probe)
            if answer != "accepted":
                found.append(
                    {
                        "check": "database-probe",
                        "message": f"The statement of database probe {probe.name} does not succeed: {answer}",
                        "action": "Correct it: a freeze is proven by its failing afterwards",
                    }
                )
        finally:
            session.close()
    for tree in server.tenant.file_trees:
        if tree.path.is_dir() and (answer := server.trees.try_write(tree)) != "created":
            found.append(
                {
                    "check": "tree-probe",
                    "message": f"The user {tree.write_as} cannot write in file tree {tree.name}: {answer}",
                    "action": "Correct write_as or write_in of the tree: a freeze is proven by its failing afterwards",
                }
            )
    return found
