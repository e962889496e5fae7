#!/usr/bin/python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give the application's PostgreSQL role a password that is made, kept and known on this server only.

Says what it did as JSON on standard output: {"changed": bool, "did": [sentence, …]}; never the password.
A role that exists keeps everything but a password that differs from the file's.
"""

from __future__ import annotations

import argparse
import base64
import grp
import hashlib
import hmac
import json
import os
import pwd
import secrets
import stat
import sys
from pathlib import Path

ADMIN = "host=/var/run/postgresql user=postgres dbname=postgres"
HOSTS = ("127.0.0.1", "localhost")


def escaped(field: str) -> str:
    """A field as libpq's password file wants it."""
    return field.replace("\\", "\\\\").replace(":", "\\:")


def password_in(text: str, role: str) -> str | None:
    """The password of the role in a libpq password file, None when it is not there. Ours never needs escaping."""
    for line in text.splitlines():
        fields = line.rsplit(":", 2)
        if len(fields) == 3 and fields[1] == escaped(role):
            return fields[2]
    return None


def verifies(verifier: str | None, password: str) -> bool:
    """Whether a verifier of pg_authid (`SCRAM-SHA-256$4096:salt$StoredKey:ServerKey`, RFC 5802) is this password's."""
    try:
        scheme, parameters, keys = (verifier or "").split("$")
        iterations, salt = parameters.split(":")
        stored = keys.split(":")[0]
    except ValueError:
        return False
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), int(iterations))
    key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    return scheme == "SCRAM-SHA-256" and hmac.compare_digest(base64.b64encode(key).decode(), stored)


def write_password_file(path: Path, text: str, owner: int, group: int) -> None:
    """Atomically, and never readable by anyone else: libpq ignores a file that others may read."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
        file.flush()
        os.fchown(file.fileno(), owner, group)
        os.fsync(file.fileno())
    temporary.rename(path)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--role", required=True)
    arguments.add_argument("--file", required=True, type=Path, help="libpq password file")
    arguments.add_argument("--user", required=True, help="owner of the password file")
    arguments.add_argument("--group", required=True)
    arguments.add_argument("--check", action="store_true", help="only say what would be done")
    options = arguments.parse_args()
    did: list[str] = []

    password = password_in(options.file.read_text(), options.role) if options.file.exists() else None
    if password is None:
        password = secrets.token_urlsafe(32)
        did.append(f"made a new password in {options.file}")
    if options.check and did:
        # On a server without packages there is neither user nor PostgreSQL to ask.
        print(json.dumps({"changed": True, "did": did}))
        return 0
    owner, group = pwd.getpwnam(options.user).pw_uid, grp.getgrnam(options.group).gr_gid
    if not did:
        status = options.file.stat()
        if (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) != (owner, group, 0o600):
            did.append(f"gave {options.file} its owner and mode back")
    if did and not options.check:
        lines = [f"{host}:5432:*:{escaped(options.role)}:{password}\n" for host in HOSTS]
        write_password_file(options.file, "".join(lines), owner, group)

    import psycopg  # noqa: PLC0415 - the first check run has no packages yet
    from psycopg import sql  # noqa: PLC0415

    with psycopg.connect(ADMIN) as connection:
        row = connection.execute("SELECT rolpassword FROM pg_authid WHERE rolname = %s", [options.role]).fetchone()
        if row is None or not verifies(row[0], password):
            did.append(f"{'created' if row is None else 'changed the password of'} role {options.role}")
            # The verifier is computed here, so that no server log can show the password.
            encrypt = connection.pgconn.encrypt_password
            verifier = encrypt(password.encode(), options.role.encode(), b"scram-sha-256").decode()
            statement = "CREATE ROLE {} LOGIN PASSWORD {}" if row is None else "ALTER ROLE {} PASSWORD {}"
            if not options.check:
                connection.execute(sql.SQL(statement).format(sql.Identifier(options.role), sql.Literal(verifier)))
    print(json.dumps({"changed": bool(did), "did": did}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
