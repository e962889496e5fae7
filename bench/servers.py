# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two throw-away PostgreSQL servers with the same, safe settings, on Unix sockets."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from bench.commands import BenchError, Command, run

# Both servers, for ours and for every peer. What makes a server forget after a crash stays as safe as it is delivered.
SETTINGS = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "wal_level": "replica",
    "shared_buffers": "256MB",
    "maintenance_work_mem": "256MB",  # what ours asks for in its own sessions
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "listen_addresses": "",
}
_SAFE = ("fsync", "full_page_writes", "synchronous_commit")
_OWN = "name <> ALL (ARRAY['config_file', 'data_directory', 'hba_file', 'ident_file', 'unix_socket_directories'])"
_LONGEST_SOCKET_FOLDER = 85  # the socket's path, with its name, has 107 bytes at most


def programs() -> Path:
    """Folder of the newest PostgreSQL's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        raise BenchError("PostgreSQL is not installed. Run script/bootstrap.")
    return found[-1].parent


class Server:
    """A server of its own: superuser ``postgres``, everybody trusted on its socket."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.data = directory / "data"

    def start(self) -> None:
        """Make it and start it."""
        if len(os.fsencode(self.directory)) > _LONGEST_SOCKET_FOLDER:
            raise BenchError(f"{self.directory} is too long for a Unix socket; name another with --directory")
        self.directory.mkdir()
        if os.getuid() == 0:
            account = pwd.getpwnam("postgres")
            os.chown(self.directory, account.pw_uid, account.pw_gid)
        self._as_postgres(
            "initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8",
            "--pgdata", str(self.data),
        )  # fmt: skip
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as configuration:
            configuration.write(f"unix_socket_directories = '{self.directory}'\n")
            configuration.writelines(f"{name} = '{value}'\n" for name, value in SETTINGS.items())
        self._as_postgres(
            "pg_ctl", "start", "--wait", "--silent", "--pgdata", str(self.data), "--log", str(self.directory / "log")
        )

    def stop(self) -> None:
        """Stop it where it runs; its data is thrown away anyway."""
        if (self.data / "postmaster.pid").exists():
            self._as_postgres("pg_ctl", "stop", "--silent", "--mode=immediate", "--pgdata", str(self.data))

    def conninfo(self, dbname: str = "postgres") -> str:
        """A libpq connection string."""
        return psycopg.conninfo.make_conninfo(host=str(self.directory), user="postgres", dbname=dbname)

    def connect(self, dbname: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        """A session in autocommit mode."""
        return psycopg.connect(self.conninfo(dbname), autocommit=True)

    def drop(self, dbname: str) -> None:
        """Drop a database where it is there."""
        with self.connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(dbname)))

    def create(self, dbname: str, owner: str) -> None:
        """An empty database, as peers want to find it."""
        with self.connect() as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8'").format(
                    sql.Identifier(dbname), sql.Identifier(owner)
                )
            )

    def settings(self) -> dict[str, str]:
        """Every setting but where its files are."""
        with self.connect() as connection:
            rows = connection.execute(f"SELECT name, setting FROM pg_settings WHERE {_OWN} ORDER BY name").fetchall()
        return {str(name): str(setting) for name, setting in rows}

    def _as_postgres(self, program: str, *arguments: str) -> None:
        prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] if os.getuid() == 0 else []
        run(Command([*prefix, str(programs() / program), *arguments], {"LC_ALL": "C.UTF-8"}, self.directory))


@contextmanager
def two_servers(directory: Path) -> Iterator[tuple[Server, Server]]:
    """Source and target, running; stopped on every way out.

    :raises BenchError: they do not start, differ in a setting, or one setting is unsafe.
    """
    with ExitStack() as stack:
        servers = Server(directory / "source"), Server(directory / "target")
        for server in servers:
            stack.callback(server.stop)
            server.start()
        source, target = (server.settings() for server in servers)
        different = sorted(name for name in source if source[name] != target.get(name))
        unsafe = [name for name in _SAFE if source[name] != "on"]
        if different or unsafe:
            raise BenchError(f"Settings that differ: {different}; that are unsafe: {unsafe}")
        yield servers


def used_settings(server: Server) -> dict[str, str]:
    """Those of :data:`SETTINGS` as the server has them."""
    return {name: setting for name, setting in server.settings().items() if name in SETTINGS}
