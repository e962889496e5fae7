"""Pictures of a frozen tenant: made whole inside the freeze or not at all, entered by nobody, gone on every way out."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from ireporter import file_copy, file_known_contents, file_manifest, picture
from ireporter.clock import SystemClock
from ireporter.commands import Completed, run
from ireporter.errors import MigrationError
from ireporter.freeze_record import ARMED, DISARMED, FreezeRecord, Records
from ireporter.lease import Lease
from ireporter.picture import MADE, STAGED, Order, PictureOf
from ireporter.picture_deadline import PictureDeadline

from tests.integration.bundle_kit import Kit, quiet
from tests.integration.conftest import Cluster, run_cluster

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="owners of files are kept by root only")

RUN = "acme-s-20260101t000000z"
DATABASE = "irepodb_acme"


class Server:
    """A tenant with a database on a real PostgreSQL and file trees, frozen by a record alone."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.folder = folder
        self.clock = SystemClock()
        self.systemctl: list[Sequence[str]] = []
        self.records = Records(folder / "state", "acme", self.clock)
        self.lease = Lease("acme", run, self.clock)
        self.tree = folder / "output"
        self.tree.mkdir()
        (self.tree / "report.pdf").write_bytes(b"report" * 1000)
        (self.tree / "license.xml").write_bytes(b"licence")
        units = folder / "units"
        units.mkdir()
        self.deadline = PictureDeadline("acme", self._systemctl, directory=units)

    @property
    def picture(self) -> PictureOf:
        return PictureOf("acme", state_directory=self.folder / "state", deadline=self.deadline)

    @property
    def order(self) -> Order:
        staging = self.folder / "staged"
        return Order(
            tenant="acme",
            run_id=RUN,
            admin=self.cluster.conninfo(),
            database=DATABASE,
            trees=[{"name": "output", "source": str(self.tree), "target": str(staging / "output")}],
            staging=staging,
            expires_in_seconds=3600,
        )

    def freeze(self, *, run_id: str = RUN, lease: str = ARMED, seconds: int = 600) -> FreezeRecord:
        record = FreezeRecord(
            tenant={},
            before={},
            lease=lease,
            deadline=self.lease.deadline(seconds),
            run_id=run_id,
            frozen_at=self.clock.now().isoformat(timespec="milliseconds"),
        )
        self.records.write(record)
        return record

    def exists(self) -> bool:
        return bool(
            self.cluster.value("postgres", f"SELECT count(*) FROM pg_database WHERE datname = '{DATABASE}_picture'")
        )

    def _systemctl(self, argv: Sequence[str], **_options: object) -> Completed:
        self.systemctl.append(argv)
        return Completed(0, "", "")


@pytest.fixture
def server(cluster: Cluster, tmp_path: Path) -> Iterator[Server]:
    cluster.execute("postgres", f"CREATE DATABASE {DATABASE}")
    cluster.execute(
        DATABASE,
        "CREATE TABLE report (id int PRIMARY KEY, text text); INSERT INTO report SELECT g, 'x' || g FROM generate_series(1, 5000) g",
    )
    yield Server(cluster, tmp_path)
    for name in (DATABASE, f"{DATABASE}_picture"):
        cluster.execute("postgres", f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def test_what_was_there_in_the_freeze_is_in_it_and_nothing_that_came_later(server: Server) -> None:
    frozen = server.freeze()
    made = server.picture.make(server.order, quiet)
    server.cluster.execute(DATABASE, "INSERT INTO report VALUES (0, 'later'); ALTER TABLE report ADD later int")
    (server.tree / "report.pdf").write_bytes(b"later")

    database = str(made["database"])
    assert server.cluster.value(database, "SELECT count(*) FROM report") == 5000
    assert (server.folder / "staged/output/report.pdf").read_bytes() == b"report" * 1000
    cut_off = datetime.fromisoformat(str(made["cut_off"]).replace("Z", "+00:00"))
    assert datetime.fromisoformat(str(frozen.frozen_at)) <= cut_off <= datetime.now(UTC)
    server.cluster.execute("postgres", "CREATE ROLE picture_stranger LOGIN")
    try:
        with pytest.raises(psycopg.OperationalError, match="too many connections"):
            psycopg.connect(server.cluster.conninfo(database, "picture_stranger"))
    finally:
        server.cluster.execute("postgres", "DROP ROLE picture_stranger")
    # Again, by the next run, long after the freeze: it is kept as it is.
    server.records.remove()
    again = server.picture.make(server.order, quiet)
    assert again == {**made, "changed": False}


def test_a_first_pass_leaves_little_for_the_freeze(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    digest = file_manifest._Walk._digest

    def noting(self: file_manifest._Walk, descriptor: int, seen: os.stat_result) -> str:
        read.append(seen.st_size)
        return digest(self, descriptor, seen)

    monkeypatch.setattr(file_manifest._Walk, "_digest", noting)
    monkeypatch.setattr(file_known_contents, "_SETTLED_SECONDS", -1)
    (server.tree / "altered.pdf").write_bytes(b"by day")
    (server.tree / "year").mkdir()
    (server.tree / "year/kept.pdf").write_bytes(b"kept as it is")
    staged = server.picture.stage(server.order, quiet, check=False)
    assert staged["files"] == 4
    assert len(read) == 8
    assert server.picture.usable() is None
    assert not server.exists()
    assert server.picture.stage(server.order, quiet, check=False)["changed"] is False
    assert len(read) == 8, "what was read by day was read again"

    (server.tree / "new.pdf").write_bytes(b"new")
    day = (server.tree / "altered.pdf").stat()
    (server.tree / "altered.pdf").write_bytes(b"yad yb")
    os.utime(server.tree / "altered.pdf", ns=(day.st_atime_ns, day.st_mtime_ns))
    server.freeze()
    server.picture.make(server.order, quiet)
    assert (server.folder / "staged/output/new.pdf").read_bytes() == b"new"
    assert (server.folder / "staged/output/altered.pdf").read_bytes() == b"yad yb"
    assert {3, 6} <= set(read[8:])
    assert len(b"kept as it is") not in read[8:], "it did not change, and was read in the freeze"


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("open", "it is open"),
        ("another run", "frozen by acme-s-20200101t000000z"),
        ("ended", "the lease of the freeze has ended"),
        ("for good", "the lease of the freeze has ended"),
    ],
)
def test_only_in_a_freeze_of_this_run_whose_lease_counts(server: Server, how: str, says: str) -> None:
    if how == "another run":
        server.freeze(run_id="acme-s-20200101t000000z")
    elif how == "ended":
        server.freeze(seconds=-1)
    elif how == "for good":
        server.freeze(lease=DISARMED)
    with pytest.raises(MigrationError, match=says) as caught:
        server.picture.make(server.order, quiet)
    assert caught.value.check == "picture-freeze"
    assert not server.exists()


@pytest.mark.parametrize("how", ["reopened", "frozen again"])
def test_a_freeze_that_ended_while_it_was_made_leaves_no_picture(
    server: Server, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    first = server.freeze()
    copy = file_copy.run

    def meanwhile(*arguments: object) -> object:
        done = copy(*arguments)  # type: ignore[arg-type]
        server.records.remove()
        if how == "frozen again":
            server.records.write(replace(first, frozen_at="2026-01-01T00:00:00.000+00:00"))
        return done

    monkeypatch.setattr(picture.file_copy, "run", meanwhile)
    with pytest.raises(MigrationError) as caught:
        server.picture.make(server.order, quiet)
    assert caught.value.check == "picture-freeze"
    assert not server.exists()
    found = server.picture.read()
    assert found is not None
    assert found.status == STAGED


def test_files_that_cannot_be_copied_leave_no_database(server: Server) -> None:
    server.freeze()
    shutil.rmtree(server.tree)
    with pytest.raises(MigrationError):
        server.picture.make(server.order, quiet)
    assert not server.exists()


def test_a_run_that_was_killed_half_way_begins_anew(server: Server) -> None:
    server.freeze()
    server.picture.make(server.order, quiet)
    known = server.picture.read()
    assert known is not None
    server.picture._write(replace(known, status="making", oid=None, cut_off=None))
    assert server.picture.usable(RUN) is None
    assert server.picture.make(server.order, quiet)["changed"] is True
    assert server.picture.usable(RUN) is not None


def test_who_is_connected_is_named(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SystemClock, "sleep", lambda *_a: None)
    server.freeze()
    with (
        psycopg.connect(server.cluster.conninfo(DATABASE), application_name="monitoring"),
        pytest.raises(MigrationError, match=r"postgres \(monitoring\)") as caught,
    ):
        server.picture.make(server.order, quiet)
    assert caught.value.check == "picture-sessions"
    assert not server.exists()


def test_a_database_of_that_name_that_is_not_ours_is_left_alone(server: Server) -> None:
    server.cluster.execute("postgres", f"CREATE DATABASE {DATABASE}_picture")
    server.freeze()
    for attempt in (
        lambda: server.picture.make(server.order, quiet),
        lambda: server.picture.stage(server.order, quiet, check=False),
    ):
        with pytest.raises(MigrationError) as caught:
            attempt()
        assert caught.value.check == "picture-database"
    assert server.exists()
    server.picture.drop(keep_staged=False)
    assert server.exists()


def test_gone_while_it_is_read_with_or_without_the_files(server: Server) -> None:
    server.freeze()
    server.picture.make(server.order, quiet)
    assert (server.folder / "units" / server.deadline.timer).exists()
    with psycopg.connect(server.cluster.conninfo(f"{DATABASE}_picture")):
        assert server.picture.drop(keep_staged=True) is True
    assert not server.exists()
    assert (server.folder / "staged/output").is_dir()
    assert (server.folder / "units" / server.deadline.timer).exists()
    assert server.picture.drop(keep_staged=True) is False
    assert server.picture.drop(keep_staged=False, check=True) is True
    assert server.picture.drop(keep_staged=False) is True
    assert not (server.folder / "staged").exists()
    assert list((server.folder / "units").iterdir()) == []
    assert server.picture.read() is None
    assert server.picture.drop(keep_staged=False) is False


def test_one_at_a_time(server: Server) -> None:
    server.freeze()
    with server.picture._alone(), pytest.raises(MigrationError) as caught:
        server.picture.make(server.order, quiet)
    assert caught.value.check == "picture-lock"


def test_a_collation_older_than_the_operating_systems_is_no_obstacle(server: Server) -> None:
    server.cluster.execute("postgres", f"UPDATE pg_database SET datcollversion = '0.1' WHERE datname = '{DATABASE}'")
    server.freeze()
    server.picture.make(server.order, quiet)
    assert server.exists()


def test_rows_that_a_crash_took_from_an_unlogged_table_are_missed(tmp_path: Path) -> None:
    with run_cluster() as crashing:
        crashing.execute("postgres", f"CREATE DATABASE {DATABASE}")
        crashing.execute(
            DATABASE,
            "CREATE UNLOGGED TABLE cache AS SELECT g FROM generate_series(1, 99) g; CREATE UNLOGGED TABLE empty (i int)",
        )
        server = Server(crashing, tmp_path)
        server.freeze()
        server.picture.make(server.order, quiet)
        assert server.picture.usable(RUN) is not None
        crashing.stop()
        crashing._as_postgres(
            str(crashing.binaries / "pg_ctl"), "start", "--wait", "--silent", "--pgdata", str(crashing.data),
            "--log", str(crashing.directory / "log"),
        )  # fmt: skip
        assert server.picture.usable(RUN) is None


def test_definitions_published_meanwhile_disturb_neither_side(server: Server, tmp_path: Path) -> None:
    """A storm of DDL on the running tenant while its bundle is made from the picture."""
    kit = Kit.make(tmp_path)
    server.freeze()
    made = server.picture.make(server.order, quiet)
    server.records.remove()
    failures: list[str] = []
    done = threading.Event()
    rounds = 0

    def storm() -> None:
        nonlocal rounds
        with server.cluster.connect(DATABASE) as session:
            session.execute("SET lock_timeout = '1s'")
            while not done.is_set():
                rounds += 1
                try:
                    session.execute("ALTER TABLE report ADD COLUMN storm int")
                    session.execute("CREATE TABLE storm AS SELECT * FROM report")
                    session.execute("ALTER TABLE report DROP COLUMN storm")
                    session.execute("DROP TABLE storm")
                except psycopg.Error as error:
                    failures.append(str(error))

    working = threading.Thread(target=storm)
    working.start()
    try:
        bundle = kit.run(
            kit.present(
                tmp_path,
                server.cluster.conninfo(str(made["database"])),
                [{"name": "output", "path": str(server.folder / "staged/output"), "licence_file": "license.xml"}],
                original=server.cluster.conninfo(DATABASE),
            )
        )
    finally:
        done.set()
        working.join()
    assert failures == []
    assert rounds > 2
    assert bundle["rows"] == 5000
    left = {one["what"]: one["count"] for one in bundle["left_out"]}  # type: ignore[union-attr, attr-defined]
    assert left["licence files"] == 1
    usable = server.picture.usable(RUN)
    assert usable is not None
    assert usable.status == MADE


def test_the_deadline_calls_what_drops_it(server: Server) -> None:
    server.freeze()
    server.picture.make(server.order, quiet)
    service = (server.folder / "units" / server.deadline.service).read_text()
    assert "drop-picture acme" in service
    assert "OnActiveSec=3600s" in (server.folder / "units" / server.deadline.timer).read_text()
    assert ["systemctl", "restart", server.deadline.timer] in server.systemctl


@pytest.mark.parametrize("seconds", [0, 59, 90 * 86400 + 1])
def test_a_deadline_that_makes_no_sense_is_refused(server: Server, seconds: int) -> None:
    server.freeze()
    with pytest.raises(MigrationError) as caught:
        server.picture.make(replace(server.order, expires_in_seconds=seconds), quiet)
    assert caught.value.check == "picture-deadline"
    assert not server.exists()


@pytest.mark.parametrize(
    ("statements", "named"),
    [
        (
            "CREATE TYPE state AS ENUM ('open', 'done'); CREATE TABLE by_state (s state) PARTITION BY HASH (s)",
            r"by_state .*\(hash-partition\)",
        ),
        (
            "ALTER TABLE report ADD other int REFERENCES report; ALTER TABLE report DISABLE TRIGGER ALL; UPDATE report SET other = -1 WHERE id = 1",
            r"report_other_fkey of public.report .*\(foreign-key-broken\)",
        ),
        ("BEGIN; UPDATE report SET text = 'y' WHERE id = 1; PREPARE TRANSACTION 'left'", r"\(prepared-transactions\)"),
    ],
)
@pytest.mark.parametrize("check", [False, True])
def test_what_no_dump_can_carry_is_named_by_day_with_nothing_made(
    server: Server, statements: str, named: str, *, check: bool
) -> None:
    server.cluster.execute(DATABASE, statements)
    try:
        with pytest.raises(MigrationError, match=named):
            server.picture.stage(server.order, quiet, check=check)
    finally:
        if "PREPARE" in statements:
            server.cluster.execute(DATABASE, "ROLLBACK PREPARED 'left'")
    assert not server.folder.joinpath("staged").exists()
    assert server.picture.read() is None
    assert server.systemctl == []
