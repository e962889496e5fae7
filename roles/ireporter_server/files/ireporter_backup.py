#!/usr/bin/python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backup of the tenant this server serves, made so that stock tools restore it, and the proof that they do.

ireporter-backup create         one more backup, then removal of those older than the retention
ireporter-backup restore-test   newest backup into a scratch database and directory, counts compared, both removed
ireporter-backup status         what there is, as JSON

A backup is a directory named after its time (UTC): `database/` (pg_dump, directory format), `roles.sql`, a tar per file
tree, `configuration.tar.zst`, and `manifest.json` with the counts of the dumped snapshot and the SHA-256 of every file.
It appears under its name when it is complete. `restored.json` beside them says when a restore of it was last proven.
Each command prints one JSON object; exit status 1 and one sentence on standard error mean failure.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

CONFIGURATION = Path("/etc/ireporter-backup.json")
LOCK = Path("/run/lock/ireporter-backup.lock")
SERVER = "host=/var/run/postgresql user=postgres"
SCRATCH_DATABASE = "ireporter_restore_test"  # the name is ours: whatever carries it is removed
NAME = "%Y%m%dT%H%M%SZ"
INCOMPLETE = ".incomplete-"
# pg_dump's parallel jobs give up when an ALTER TABLE waits in line (publishing a definition is DDL); one does not.
DUMP_ATTEMPTS = 3

TIME_LIMITS = ["lock_timeout", "statement_timeout", "transaction_timeout", "idle_in_transaction_session_timeout"]

# Tables whose rows a dump holds: not those of extensions, which CREATE EXTENSION fills.
TABLES = """
SELECT n.nspname, c.relname, pg_relation_filenode(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1, 2
"""


class BackupError(Exception):
    """One sentence: what happened and what to do."""


@dataclass(frozen=True)
class Configuration:
    """/etc/ireporter-backup.json.

    `file_trees`: name → path; `paths`: further files and directories; `unit`: the application's.
    """

    tenant: str
    database: str
    unit: str
    file_trees: dict[str, str]
    paths: list[str]
    directory: str
    retention_days: int
    jobs: int

    @property
    def root(self) -> Path:
        return Path(self.directory) / self.tenant


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def run(argv: list[str], *, accepted: tuple[int, ...] = (0,), output: Path | None = None) -> int:
    """Run a program; what it complains about goes to standard error (the journal)."""
    with contextlib.ExitStack() as stack:
        stdout = stack.enter_context(output.open("wb")) if output else sys.stderr
        code = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=stdout, check=False).returncode
    if code not in accepted:
        raise BackupError(f"{argv[0]} ended with status {code}; its own message stands above")
    return code


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """One backup or restore test at a time."""
    with LOCK.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another backup or restore test is running; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def connect(database: str, *, autocommit: bool = True) -> psycopg.Connection[tuple[Any, ...]]:
    """A session of the superuser without the time limits that a database may set for its users."""
    connection = psycopg.connect(SERVER, dbname=database, autocommit=autocommit)
    connection.execute("SELECT set_config(name, '0', false) FROM pg_settings WHERE name = ANY (%s)", [TIME_LIMITS])
    connection.commit()
    return connection


def unserved(configuration: Configuration) -> str | None:
    """Why there is nothing to back up, None when there is."""
    unit, database = configuration.unit, configuration.database
    if subprocess.run(["systemctl", "is-enabled", "--quiet", unit], check=False).returncode != 0:
        return f"nothing to back up: tenant {configuration.tenant} is not open on this server ({unit} is not enabled)"
    with connect("postgres") as connection:
        if connection.execute("SELECT FROM pg_database WHERE datname = %s", [database]).fetchone() is None:
            # Open without a database is no state to be silent about.
            raise BackupError(f"{unit} is enabled but database {database} does not exist; find out who removed it")
    return None


def backups(configuration: Configuration) -> list[Path]:
    """Complete backups, oldest first."""
    if not configuration.root.is_dir():
        return []
    present = configuration.root.glob("[0-9]*/manifest.json")
    return sorted(manifest.parent for manifest in present)


def read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Whole or not at all, also after a power cut."""
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("w") as file:
        json.dump(content, file, indent=2, sort_keys=True)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def counts(
    connection: psycopg.Connection[tuple[Any, ...]], tables: list[tuple[Any, ...]], snapshot: str | None = None
) -> dict[str, Any]:
    """Rows of each table (what TABLES returned) and large objects, now or in an exported snapshot.

    Each table in a transaction of its own: a lock kept while pg_dump still asks for its own would, with an ALTER TABLE
    in line between the two, stop the application, pg_dump and us for good. The price: a table that was rewritten or
    dropped meanwhile cannot be counted in the snapshot any more; its count is None.
    """

    def count(what: sql.Composable) -> int | None:
        with contextlib.suppress(psycopg.errors.UndefinedTable), connection.transaction():
            if snapshot:
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)))
            row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(what)).fetchone()
            return int(row[0]) if row else None
        return None

    counted = [count(sql.SQL("ONLY ") + sql.Identifier(schema, name)) for schema, name, _ in tables]
    large_objects = count(sql.Identifier("pg_largeobject_metadata"))
    after = {(schema, name): filenode for schema, name, filenode in connection.execute(TABLES).fetchall()}
    compared = {
        json.dumps([schema, name], ensure_ascii=False): rows if after.get((schema, name)) == filenode else None
        for (schema, name, filenode), rows in zip(tables, counted, strict=True)
    }
    return {"tables": compared, "large_objects": large_objects}


def dump(configuration: Configuration, directory: Path, jobs: int) -> dict[str, Any]:
    """Dump the database and count the same snapshot meanwhile. Returns what a restore has to reproduce."""
    with connect(configuration.database, autocommit=False) as keeper, connect(configuration.database) as counter:
        keeper.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        snapshot, database, size = keeper.execute(
            "SELECT pg_export_snapshot(), to_jsonb(d), pg_database_size(d.oid) FROM pg_database d"
            " WHERE datname = current_database()"
        ).fetchall()[0]
        tables = keeper.execute(TABLES).fetchall()
        argv = ["pg_dump", "--format=directory", f"--jobs={jobs}", "--compress=1", f"--snapshot={snapshot}"]
        argv += [f"--file={directory}", f"--dbname={SERVER} dbname='{configuration.database}'"]
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL) as process:
            try:
                counted = counts(counter, tables, snapshot)
            except BaseException:
                process.terminate()
                raise
        if process.returncode != 0:
            raise BackupError(f"pg_dump ended with status {process.returncode}; its own message stands above")
    return {**counted, "database": database, "database_bytes": size}


def dump_in_spite_of_ddl(configuration: Configuration, directory: Path) -> dict[str, Any]:
    for attempt in range(1, DUMP_ATTEMPTS):
        try:
            return dump(configuration, directory, configuration.jobs)
        except BackupError as error:
            say(f"attempt {attempt} of {DUMP_ATTEMPTS}: {error}; trying again")
            shutil.rmtree(directory)
    return dump(configuration, directory, 1)


def archive(target: Path, root: str, members: list[str]) -> dict[str, Any]:
    """Everything a tree has, in a tar that stock GNU tar restores."""
    index = target.with_name(f".{target.name}.index")
    argv = ["tar", "--create", f"--file={target}", "--use-compress-program=zstd -1 -T0 -q", "--sparse"]
    argv += ["--acls", "--xattrs", "--xattrs-include=*", "--one-file-system"]
    argv += ["--verbose", "--quoting-style=escape", f"--index-file={index}", f"--directory={root}", "--", *members]
    code = run(argv, accepted=(0, 1))  # 1: a file changed while it was read
    with index.open("rb") as file:
        entries = sum(1 for _ in file)
    index.unlink()
    return {"root": root, "members": members, "entries": entries, "changed_while_read": code == 1}


def entries_below(path: Path) -> int:
    """The path itself and every name below it, as tar lists them. Names are bytes, whatever their encoding."""
    if not path.is_dir() or path.is_symlink():
        return 1
    return 1 + sum(len(directories) + len(files) for _, directories, files in os.walk(os.fsencode(path)))


def create(configuration: Configuration) -> dict[str, Any]:
    reason = unserved(configuration)
    if reason:
        return {"changed": False, "message": reason}
    started = time.monotonic()
    configuration.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    for leftover in configuration.root.glob(f"{INCOMPLETE}*"):
        say(f"removing {leftover}: it was not finished")
        shutil.rmtree(leftover)
    now = datetime.datetime.now(datetime.UTC)
    work = configuration.root / f"{INCOMPLETE}{now.strftime(NAME)}"
    work.mkdir(mode=0o700)
    try:
        manifest = dump_in_spite_of_ddl(configuration, work / "database")
        run(["pg_dumpall", "--roles-only", f"--dbname={SERVER} dbname=postgres"], output=work / "roles.sql")
        members = [path.lstrip("/") for path in configuration.paths]
        archives = {"configuration.tar.zst": archive(work / "configuration.tar.zst", "/", members)}
        for name, path in configuration.file_trees.items():
            archives[f"tree-{name}.tar.zst"] = archive(work / f"tree-{name}.tar.zst", path, ["."])
        files = sorted(path for path in work.rglob("*") if path.is_file())
        manifest["files"] = {str(path.relative_to(work)): sha256(path) for path in files}
        size = sum(path.stat().st_size for path in files)
        manifest |= {"tenant": configuration.tenant, "made_at": now.isoformat(), "bytes": size, "archives": archives}
        write_json(work / "manifest.json", manifest)
        os.sync()
        work.rename(configuration.root / now.strftime(NAME))
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    removed = expire(configuration, now)
    return {
        "changed": True,
        "message": f"backup {now.strftime(NAME)} made",
        "backup": now.strftime(NAME),
        "bytes": manifest["bytes"],
        "tables": len(manifest["tables"]),
        "tables_not_counted": uncounted(manifest),
        "rows": sum(rows or 0 for rows in manifest["tables"].values()),
        "removed": removed,
        "seconds": round(time.monotonic() - started, 1),
    }


def expire(configuration: Configuration, now: datetime.datetime) -> list[str]:
    """Remove backups older than the retention; the newest always stays, however old."""
    oldest = (now - datetime.timedelta(days=configuration.retention_days)).strftime(NAME)
    expired = [path for path in backups(configuration)[:-1] if path.name < oldest]
    for path in expired:
        shutil.rmtree(path)
    return [path.name for path in expired]


def require_space(path: Path, needed: int, purpose: str) -> None:
    free = shutil.disk_usage(path).free
    if free < needed:
        raise BackupError(f"{path} has {free} bytes free, {purpose} needs {needed}; free some space and test again")


def restore_database(manifest: dict[str, Any], backup: Path, jobs: int) -> None:
    """Restore into the scratch database, compare counts, drop it on every way out."""
    database = manifest["database"]
    icu = database.get("datlocale") or database.get("daticulocale")
    with connect("postgres") as connection:
        data, encoding = connection.execute(
            "SELECT current_setting('data_directory'), pg_encoding_to_char(%s)", [database["encoding"]]
        ).fetchall()[0]
        require_space(Path(data), manifest["database_bytes"] * 5 // 4, "restoring the database")
        drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(SCRATCH_DATABASE))
        connection.execute(drop)
        try:
            statement = "CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}"
            values = [encoding, database["datcollate"], database["datctype"]]
            if icu:
                statement += " LOCALE_PROVIDER icu ICU_LOCALE {}"
                values.append(icu)
            connection.execute(sql.SQL(statement).format(sql.Identifier(SCRATCH_DATABASE), *map(sql.Literal, values)))
            argv = ["pg_restore", f"--jobs={jobs}", "--exit-on-error", "--no-publications", "--no-subscriptions"]
            run([*argv, f"--dbname={SERVER} dbname={SCRATCH_DATABASE}", str(backup / "database")])
            with connect(SCRATCH_DATABASE) as restored:
                compare(
                    {key: manifest[key] for key in ("tables", "large_objects")},
                    counts(restored, restored.execute(TABLES).fetchall()),
                )
        finally:
            connection.execute(drop)


def uncounted(manifest: dict[str, Any]) -> list[str]:
    """Tables that were rewritten or dropped while they were dumped: restored, but not compared."""
    return sorted(name for name, rows in manifest["tables"].items() if rows is None)


def compare(expected: dict[str, Any], found: dict[str, Any]) -> None:
    different = [
        f"{name}: {expected['tables'].get(name)} rows backed up, {found['tables'].get(name)} restored"
        for name in sorted((expected["tables"].keys() | found["tables"].keys()) - set(uncounted(expected)))
        if expected["tables"].get(name) != found["tables"].get(name)
    ]
    if expected["large_objects"] != found["large_objects"]:
        different.append(f"{expected['large_objects']} large objects backed up, {found['large_objects']} restored")
    if different:
        raise BackupError(f"the restored database differs from the backed-up one: {'; '.join(different[:10])}")


def restore_files(manifest: dict[str, Any], backup: Path, scratch: Path) -> int:
    """Unpack every archive into the scratch directory, count, remove. Returns the number of entries."""
    total = 0
    for name, expected in manifest["archives"].items():
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(mode=0o700)
        try:
            options = ["--acls", "--xattrs", "--xattrs-include=*", "--same-permissions", "--same-owner"]
            options += ["--warning=no-timestamp"]  # a time in the future is the tenant's business
            run(["tar", "--extract", f"--file={backup / name}", "--zstd", *options, f"--directory={scratch}"])
            found = sum(entries_below(scratch / member) for member in expected["members"])
        finally:
            shutil.rmtree(scratch)
        if found != expected["entries"]:
            raise BackupError(
                f"{found} of {expected['entries']} entries of {backup / name} were restored; make a new backup"
            )
        total += found
    return total


def restore_test(configuration: Configuration) -> dict[str, Any]:
    present = backups(configuration)
    if not present:
        reason = unserved(configuration)
        if reason:
            return {"changed": False, "message": reason}
        raise BackupError("there is no backup to restore yet; run: systemctl start ireporter-backup.service")
    backup = present[-1]
    started = time.monotonic()
    manifest = read_json(backup / "manifest.json")
    for name, digest in manifest["files"].items():
        if sha256(backup / name) != digest:
            raise BackupError(f"{backup / name} is not what was written; make a new backup and look at the disk")
    restore_database(manifest, backup, configuration.jobs)
    entries = restore_files(manifest, backup, configuration.root / ".restore-test")
    proof = {
        "restored_at": datetime.datetime.now(datetime.UTC).isoformat(),
        "tables": len(manifest["tables"]),
        "tables_not_counted": uncounted(manifest),
        "rows": sum(rows or 0 for rows in manifest["tables"].values()),
        "large_objects": manifest["large_objects"],
        "file_entries": entries,
        "seconds": round(time.monotonic() - started, 1),
    }
    write_json(backup / "restored.json", proof)
    return {"changed": True, "message": f"backup {backup.name} restored and compared", "backup": backup.name, **proof}


def status(configuration: Configuration) -> dict[str, Any]:
    """`nothing`: why there is nothing to back up, or null; `backups`: oldest first, each with its proof or null."""
    found = []
    for backup in backups(configuration):
        manifest = read_json(backup / "manifest.json")
        proof = read_json(backup / "restored.json") if (backup / "restored.json").exists() else None
        found.append({"name": backup.name, "made_at": manifest["made_at"], "bytes": manifest["bytes"], "proof": proof})
    return {"nothing": unserved(configuration), "backups": found, "proven": bool(found and found[-1]["proof"])}


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("command", choices=["create", "restore-test", "status"])
    command = arguments.parse_args().command
    os.umask(0o077)
    os.chdir("/")
    content = read_json(CONFIGURATION)
    configuration = Configuration(**{field.name: content[field.name] for field in fields(Configuration)})
    try:
        if command == "status":
            result = status(configuration)
        else:
            with locked():
                result = create(configuration) if command == "create" else restore_test(configuration)
    except (BackupError, psycopg.Error, OSError) as error:
        say(f"{command} failed: {error}")
        return 1
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
