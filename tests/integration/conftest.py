"""Throw-away PostgreSQL servers on Unix sockets, for tests that need a real one."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

BINARIES = Path("/usr/lib/postgresql/15/bin")


# An extension with configuration tables that refer to each other, have triggers, and hold rows of the extension itself.
ACME_CONFIG = {
    "acme_config.control": "default_version = '1.1'\nrelocatable = true\n",
    "acme_config--1.0.sql": (Path(__file__).parent / "acme_config--1.0.sql").read_text(),
    "acme_config--1.0--1.1.sql": "CREATE FUNCTION acme_new() RETURNS int LANGUAGE sql AS 'SELECT 1';\n",
}
# What only the first server has: an extension, a library, and an extension whose library the second has not.
ONLY_FIRST = {
    "acme_only.control": "default_version = '1.0'\n",
    "acme_only--1.0.sql": "SELECT;\n",
}
WITH_LIBRARY = {
    "acme_with_library.control": "default_version = '1.0'\n",
    "acme_with_library--1.0.sql": "CREATE FUNCTION acme_sound(text) RETURNS text LANGUAGE c STRICT"
    " AS '$libdir/acme_library', 'soundex';\n",
}


def install(root: Path, extensions: dict[str, str], libraries: dict[str, str]) -> Path:
    """PostgreSQL below ``root``, mostly by links, with more extensions (file → text) and libraries (name → one to copy).

    The server finds its files beside its program, so nothing is written into the machine's own installation.
    """
    library_folder, share = root / "lib/postgresql/15", root / "share/postgresql/15"
    (library_folder / "bin").mkdir(parents=True)
    for program in ("postgres", "initdb", "pg_ctl"):
        shutil.copy2(BINARIES / program, library_folder / "bin" / program)
    for own, machine in (
        (library_folder / "lib", BINARIES.parent / "lib"),
        (share, Path("/usr/share/postgresql/15")),
        (share / "extension", Path("/usr/share/postgresql/15/extension")),
    ):
        own.mkdir(parents=True)
        for entry in machine.iterdir():
            if entry.name != "extension":
                (own / entry.name).symlink_to(entry)
    for name, text in extensions.items():
        (share / "extension" / name).write_text(text)
    for name, original in libraries.items():
        (library_folder / "lib" / name).symlink_to(BINARIES.parent / "lib" / original)
    return library_folder / "bin"


class Cluster:
    """A PostgreSQL server of its own: no TCP, everybody trusted on its socket."""

    def __init__(
        self, directory: Path, binaries: Path = BINARIES, superuser: str = "postgres", settings: str = ""
    ) -> None:
        self.settings = settings
        self.directory = directory
        self.data = directory / "data"
        self.binaries = binaries
        self.superuser = superuser

    def _as_postgres(self, *argv: str) -> None:
        prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] if os.getuid() == 0 else []
        subprocess.run([*prefix, *argv], check=True, stdout=subprocess.DEVNULL, cwd=self.directory)

    def start(self) -> None:
        if os.getuid() == 0:
            account = pwd.getpwnam("postgres")
            os.chown(self.directory, account.pw_uid, account.pw_gid)
        self._as_postgres(
            str(self.binaries / "initdb"), "--pgdata", str(self.data), f"--username={self.superuser}", "--auth=trust",
            "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync",
        )  # fmt: skip
        with (self.data / "postgresql.conf").open("a") as configuration:
            configuration.write(
                f"unix_socket_directories = '{self.directory}'\nlisten_addresses = ''\nfsync = off\n"
                "shared_buffers = 64MB\nmax_prepared_transactions = 5\nlog_min_messages = fatal\n"
                f"wal_level = logical\n{self.settings}\n"
            )
        self._as_postgres(
            str(self.binaries / "pg_ctl"), "start", "--wait", "--silent", "--pgdata", str(self.data),
            "--log", str(self.directory / "log"),
        )  # fmt: skip

    def stop(self) -> None:
        self._as_postgres(
            str(self.binaries / "pg_ctl"), "stop", "--silent", "--mode=immediate", "--pgdata", str(self.data)
        )

    def conninfo(self, dbname: str = "postgres", user: str | None = None) -> str:
        """A libpq connection string to one database of this server."""
        return psycopg.conninfo.make_conninfo(host=str(self.directory), user=user or self.superuser, dbname=dbname)

    def connect(self, dbname: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.conninfo(dbname), autocommit=True)

    def execute(self, dbname: str, sql: str) -> None:
        """Run statements, each committed by itself."""
        completed = subprocess.run(
            ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", self.conninfo(dbname), "-f", "-"],
            input=sql.encode(), check=False, capture_output=True,
        )  # fmt: skip
        if completed.returncode != 0:
            raise RuntimeError(completed.stderr.decode())

    def value(self, dbname: str, sql: str) -> object:
        """The first column of the first row."""
        with self.connect(dbname) as connection:
            row = connection.execute(sql).fetchone()
        return row[0] if row else None


@contextmanager
def run_cluster(
    extensions: dict[str, str] | None = None,
    libraries: dict[str, str] | None = None,
    *,
    superuser: str = "postgres",
    settings: str = "",
) -> Iterator[Cluster]:
    """A server until the end of the block; arguments are :func:`install`'s, the superuser's name, lines of its configuration."""
    directory = Path(tempfile.mkdtemp(prefix="ireporter-pg-"))
    try:
        cluster = Cluster(
            directory, install(directory / "installation", extensions or {}, libraries or {}), superuser, settings
        )
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
    with run_cluster({**ACME_CONFIG, **ONLY_FIRST, **WITH_LIBRARY}, {"acme_library.so": "fuzzystrmatch.so"}) as running:
        yield running


@pytest.fixture(scope="session")
def second_cluster() -> Iterator[Cluster]:
    """Another server: its roles and type numbers are its own."""
    with run_cluster({**ACME_CONFIG, **WITH_LIBRARY}) as running:
        yield running


NASTY_ROLES = ("nasty_owner", "nasty App", "nasty_readers", "nasty_member", "nasty_group", "nasty_settings")


@pytest.fixture(scope="session")
def nasty(cluster: Cluster) -> str:
    """A database with one of nearly everything, on :func:`cluster`."""
    cluster.execute("postgres", "CREATE DATABASE nasty")
    cluster.execute("nasty", (Path(__file__).parent / "nasty.sql").read_text())
    return "nasty"


@pytest.fixture(scope="session")
def any_database(cluster: Cluster) -> str:
    """A database nobody here designed, with what :func:`nasty` has not, on :func:`cluster`."""
    cluster.execute("postgres", "CREATE DATABASE any_database")
    cluster.execute("any_database", (Path(__file__).parent / "any_database.sql").read_text())
    return "any_database"


def remove_all(cluster: Cluster) -> None:
    """Drop every database and role that tests made on ``cluster``."""
    with cluster.connect() as connection:
        for (name,) in connection.execute(
            "SELECT datname FROM pg_database WHERE datname NOT IN ('postgres', 'template0', 'template1')"
        ).fetchall():
            with cluster.connect(str(name)) as inside:
                inside.execute("SET default_transaction_read_only = off")
                for (subscription,) in inside.execute(
                    "SELECT subname FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = %s)",
                    (name,),
                ).fetchall():
                    for words in ("{} DISABLE", "{} SET (slot_name = NONE)"):
                        inside.execute(
                            sql.SQL("ALTER SUBSCRIPTION " + words).format(sql.Identifier(str(subscription)))  # type: ignore[arg-type]
                        )
                    inside.execute(sql.SQL("DROP SUBSCRIPTION {}").format(sql.Identifier(str(subscription))))
            connection.execute(sql.SQL("ALTER DATABASE {} IS_TEMPLATE false").format(sql.Identifier(str(name))))
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(str(name))))
        roles = connection.execute("SELECT rolname FROM pg_roles WHERE oid >= 16384 AND rolname !~ '^pg_'").fetchall()
        for (name,) in roles:
            connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(str(name))))
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(str(name))))


@pytest.fixture
def clean_second(second_cluster: Cluster) -> Iterator[Cluster]:
    """The second server without databases and roles of other tests."""
    yield second_cluster
    remove_all(second_cluster)
