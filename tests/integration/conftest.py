"""Throw-away PostgreSQL servers on Unix sockets, for tests that need a real one."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

BINARIES = Path("/usr/lib/postgresql/15/bin")


class Cluster:
    """A PostgreSQL server of its own: superuser ``postgres``, no TCP, everybody trusted on its socket."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.data = directory / "data"

    def _as_postgres(self, *argv: str) -> None:
        prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] if os.getuid() == 0 else []
        subprocess.run([*prefix, *argv], check=True, stdout=subprocess.DEVNULL, cwd=self.directory)

    def start(self) -> None:
        if os.getuid() == 0:
            account = pwd.getpwnam("postgres")
            os.chown(self.directory, account.pw_uid, account.pw_gid)
        self._as_postgres(
            str(BINARIES / "initdb"), "--pgdata", str(self.data), "--username=postgres", "--auth=trust",
            "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync",
        )  # fmt: skip
        with (self.data / "postgresql.conf").open("a") as configuration:
            configuration.write(
                f"unix_socket_directories = '{self.directory}'\nlisten_addresses = ''\nfsync = off\n"
                "shared_buffers = 64MB\nmax_prepared_transactions = 5\nlog_min_messages = fatal\n"
                "wal_level = logical\n"
            )
        self._as_postgres(
            str(BINARIES / "pg_ctl"), "start", "--wait", "--silent", "--pgdata", str(self.data),
            "--log", str(self.directory / "log"),
        )  # fmt: skip

    def stop(self) -> None:
        self._as_postgres(str(BINARIES / "pg_ctl"), "stop", "--silent", "--mode=immediate", "--pgdata", str(self.data))

    def conninfo(self, dbname: str = "postgres", user: str = "postgres") -> str:
        """A libpq connection string to one database of this server."""
        return psycopg.conninfo.make_conninfo(host=str(self.directory), user=user, dbname=dbname)

    def connect(self, dbname: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.conninfo(dbname), autocommit=True)

    def execute(self, dbname: str, sql: str) -> None:
        """Run statements, each committed by itself."""
        subprocess.run(
            ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", self.conninfo(dbname), "-f", "-"],
            input=sql.encode(), check=True, capture_output=True,
        )  # fmt: skip

    def value(self, dbname: str, sql: str) -> object:
        """The first column of the first row."""
        with self.connect(dbname) as connection:
            row = connection.execute(sql).fetchone()
        return row[0] if row else None


def _run_cluster() -> Iterator[Cluster]:
    directory = Path(tempfile.mkdtemp(prefix="ireporter-pg-"))
    cluster = Cluster(directory)
    try:
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop()
    finally:
        shutil.rmtree(directory)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The server that tests copy from (and, as a second database, to)."""
    yield from _run_cluster()


@pytest.fixture(scope="session")
def second_cluster() -> Iterator[Cluster]:
    """Another server: its roles and type numbers are its own."""
    yield from _run_cluster()


NASTY_ROLES = ("nasty_owner", "nasty App", "nasty_readers", "nasty_member", "nasty_group", "nasty_settings")


@pytest.fixture(scope="session")
def nasty(cluster: Cluster) -> str:
    """A database with one of nearly everything, on :func:`cluster`."""
    cluster.execute("postgres", "CREATE DATABASE nasty")
    cluster.execute("nasty", (Path(__file__).parent / "nasty.sql").read_text())
    return "nasty"
