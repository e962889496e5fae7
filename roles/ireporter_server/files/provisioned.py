#!/usr/bin/python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at everything provisioning manages on this server, and compare it with what the last provisioning left.

What that left stands in --record, as {"inputs": digest, "found": {thing: what was found}}, written with --write. Nothing is taken for right because a
record says so: every thing is looked at anew. Says on standard output, as JSON, {"differs": [thing, …]}; passwords and keys only enter digests.
"""

from __future__ import annotations

import argparse
import grp
import hashlib
import json
import os
import pwd
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

ADMIN = "host=/var/run/postgresql user=postgres dbname=postgres"
UNKNOWN = "unknown"


def output_of(*argv: str) -> str:
    """What a program prints; a program that is not there or fails is a state of the server, too."""
    try:
        return subprocess.run(
            argv, capture_output=True, text=True, check=False, env=os.environ | {"LC_ALL": "C"}
        ).stdout
    except OSError:
        return ""


def name_of(lookup: Any, number: int) -> str:
    """The name of a user or group, its number when it has none."""
    try:
        return str(lookup(number)[0])
    except KeyError:
        return str(number)


def digest(content: bytes) -> str:
    """SHA-256, shortened: enough to see a change."""
    return hashlib.sha256(content).hexdigest()[:32]


def of_file(path: str) -> str:
    """Kind, owner, group, mode, and content or destination; a directory's content is not meant."""
    try:
        found = os.lstat(path)
    except OSError:
        return "missing"
    words = [
        stat.filemode(found.st_mode),
        name_of(pwd.getpwuid, found.st_uid),
        name_of(grp.getgrgid, found.st_gid),
    ]
    if stat.S_ISREG(found.st_mode):
        words.append(digest(Path(path).read_bytes()))
    elif stat.S_ISLNK(found.st_mode):
        words.append(str(Path(path).readlink()))
    return " ".join(words)


def of_user(name: str) -> str:
    """Its own group, home and shell, and the groups it is in."""
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        return "missing"
    groups = sorted(name_of(grp.getgrgid, number) for number in os.getgrouplist(name, found.pw_gid))
    return f"{name_of(grp.getgrgid, found.pw_gid)} {found.pw_dir} {found.pw_shell} {','.join(groups)}"


def of_unit(name: str) -> str:
    """Whether it runs, and whether it will after the next start."""
    return " ".join(output_of("systemctl", "show", "--property=ActiveState,UnitFileState", name).split())


def of_role(name: str) -> str:
    """What PostgreSQL holds of a role; unknown while PostgreSQL gives no answer."""
    try:
        import psycopg  # noqa: PLC0415 - a bare server has none

        with psycopg.connect(ADMIN) as connection:
            row = connection.execute(
                "SELECT rolcanlogin, rolpassword FROM pg_authid WHERE rolname = %s", [name]
            ).fetchone()
    except Exception:  # whatever keeps it from answering, provisioning is what finds out
        return UNKNOWN
    return "missing" if row is None else f"login {row[0]} password {digest(str(row[1]).encode())}"


def look(managed: dict[str, list[str]]) -> dict[str, str]:
    """Every thing in ``managed`` (lists of paths and names by kind), as it is now."""
    installed = output_of("dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package}\n").splitlines()
    versions = output_of("dpkg-query", "--show", "--showformat=${Package} ${Version}\n").splitlines()
    locales = {line.lower().replace("-", "") for line in output_of("locale", "--all-locales").splitlines()}
    found = {
        "machine": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')} bytes, {os.cpu_count()} processors",
        "operating system": digest(Path("/etc/os-release").read_bytes()),
    }
    found |= {f"package {name}": str(f"installed {name}" in installed) for name in managed["packages"]}
    found |= {
        f"version of {name}": " ".join(line for line in versions if line.startswith(f"{name} "))
        for name in managed["versions"]
    }
    found |= {f"locale {name}": str(name.lower().replace("-", "") in locales) for name in managed["locales"]}
    found |= {path: of_file(path) for path in managed["files"]}
    found |= {f"{path} at all": str(os.path.lexists(path)) for path in managed["existing"]}
    found |= {f"user {name}": of_user(name) for name in managed["users"]}
    found |= {f"unit {name}": of_unit(name) for name in managed["units"]}
    found |= {f"role {name}": of_role(name) for name in managed["roles"]}
    return found


def recorded(path: Path) -> dict[str, Any]:
    """What the last provisioning left; nothing where there was none or its record cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) and isinstance(content.get("found"), dict) else {}


def write(path: Path, content: dict[str, Any]) -> None:
    """Atomically, for root only."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


def never_right(name: str, value: str) -> bool:
    """Whether this is a difference although it was so before: a unit that had just crashed must not be noted as how it is to be."""
    return value == UNKNOWN or (name.startswith("unit ") and "ActiveState=active" not in value.split())


def differences(left: dict[str, Any], inputs: str, found: dict[str, str]) -> list[str]:
    """The names of what is not as the last provisioning left it, or was asked for otherwise."""
    before = left.get("found", {})
    things = sorted(
        name
        for name in found.keys() | before.keys()
        if found.get(name) != before.get(name) or never_right(name, found[name])
    )
    return things if left.get("inputs") == inputs else ["settings or role", *things]


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--record", required=True, type=Path)
    arguments.add_argument("--inputs", required=True, help="digest of what provisioning was asked for")
    arguments.add_argument("--managed", required=True, help="JSON: lists of names by kind")
    arguments.add_argument("--write", action="store_true", help="keep what was found")
    options = arguments.parse_args()
    found = look(json.loads(options.managed))
    differs = differences(recorded(options.record), options.inputs, found)
    if options.write and differs:
        write(options.record, {"inputs": options.inputs, "found": found})
    print(json.dumps({"differs": differs}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
