"""Copies of real databases on real servers: exact, repeatable, and nobody else's data is ever touched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ireporter import database_copy, verification
from ireporter.database_target import COPY_OF, MARKER
from ireporter.errors import MigrationError

from .conftest import NASTY_ROLES, Cluster

pytestmark = pytest.mark.integration


def copy(source: str, target: str, **options: object) -> dict[str, object]:
    return database_copy.run({"source": source, "target": target, **options}, lambda progress: None)


def differences(source: str, target: str, **options: object) -> object:
    found = verification.run({"source": source, "target": target, **options}, lambda progress: None)
    return found["differences"]


def dump(cluster: Cluster, dbname: str, *options: str) -> str:
    output = subprocess.run(
        ["pg_dump", *options, "--dbname", cluster.conninfo(dbname)], capture_output=True, check=True
    ).stdout.decode()
    return "\n".join(line for line in output.splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))


def test_a_nasty_database_arrives_whole(cluster: Cluster, clean_second: Cluster, nasty: str) -> None:
    source, target = cluster.conninfo(nasty), clean_second.conninfo("arrived")
    result = copy(source, target)
    assert result["changed"] is True
    assert result["target_before"] == "absent"
    assert set(result["roles_created"]) == set(NASTY_ROLES)
    assert differences(source, target) == []
    # What pg_dump says, rows in the order they lie in, grants, comments, policies and all.
    assert dump(cluster, nasty) == dump(clean_second, "arrived")
    # A role nobody in the database names stays where it is.
    assert clean_second.value("postgres", "SELECT count(*) FROM pg_roles WHERE rolname = 'nasty_stranger'") == 0
    verifier = "SELECT rolpassword FROM pg_authid WHERE rolname = 'nasty App'"
    assert clean_second.value("postgres", verifier) == cluster.value("postgres", verifier)
    assert clean_second.value("arrived", "SELECT shobj_description(oid, 'pg_database') FROM pg_database"
                              " WHERE datname = 'arrived'") == "the nasty 'one'"  # fmt: skip
    # Triggers did not fire on load, or there would be rows in audit that are not on the source.
    count = "SELECT count(*) FROM public.audit"
    assert clean_second.value("arrived", count) == cluster.value(nasty, count)


def test_a_second_run_changes_nothing(cluster: Cluster, clean_second: Cluster, nasty: str) -> None:
    source, target = cluster.conninfo(nasty), clean_second.conninfo("twice")
    announced = copy(source, target, check_mode=True)
    assert announced["changed"] is True
    assert clean_second.value("postgres", "SELECT count(*) FROM pg_database WHERE datname = 'twice'") == 0
    assert clean_second.value("postgres", "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'nasty%'") == 0
    assert copy(source, target)["changed"] is True
    assert copy(source, target, check_mode=True)["changed"] is False
    assert copy(source, target)["changed"] is False


def test_beside_itself_on_the_same_server(cluster: Cluster, nasty: str) -> None:
    source, target = cluster.conninfo(nasty), cluster.conninfo("beside")
    try:
        result = copy(source, target)
        assert result["roles_created"] == []
        assert differences(source, target) == []
    finally:
        cluster.execute("postgres", "DROP DATABASE IF EXISTS beside")
        # A role's settings in a database go with the database.


def test_a_copy_that_differs_is_replaced_only_when_told(cluster: Cluster, clean_second: Cluster, nasty: str) -> None:
    source, target = cluster.conninfo(nasty), clean_second.conninfo("older")
    copy(source, target)
    clean_second.execute("older", "SET default_transaction_read_only = off; DELETE FROM public.child")
    with pytest.raises(MigrationError, match="target-differs"):
        copy(source, target)
    assert copy(source, target, replace=True)["changed"] is True
    assert differences(source, target) == []


@pytest.mark.parametrize("replace", [False, True])
def test_foreign_data_is_refused_and_untouched(
    cluster: Cluster, clean_second: Cluster, nasty: str, replace: bool
) -> None:
    clean_second.execute("postgres", "CREATE DATABASE foreign_data")
    clean_second.execute("foreign_data", "CREATE TABLE theirs AS SELECT 1 AS one")
    before = dump(clean_second, "foreign_data")
    with pytest.raises(MigrationError, match="target-empty"):
        copy(cluster.conninfo(nasty), clean_second.conninfo("foreign_data"), replace=replace)
    assert dump(clean_second, "foreign_data") == before
    assert clean_second.value("postgres", "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'nasty%'") == 0


def test_a_copy_of_another_source_is_foreign(cluster: Cluster, clean_second: Cluster, nasty: str) -> None:
    clean_second.execute("postgres", f"CREATE DATABASE other; ALTER DATABASE other SET {COPY_OF} = '1/2'")
    clean_second.execute("other", "CREATE TABLE theirs (a int)")
    with pytest.raises(MigrationError, match="target-empty"):
        copy(cluster.conninfo(nasty), clean_second.conninfo("other"), replace=True)


def test_an_empty_database_is_used(cluster: Cluster, clean_second: Cluster, nasty: str) -> None:
    clean_second.execute("postgres", "CREATE DATABASE waiting TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    result = copy(cluster.conninfo(nasty), clean_second.conninfo("waiting"))
    assert result["target_before"] == "empty"
    assert differences(cluster.conninfo(nasty), clean_second.conninfo("waiting")) == []


def test_killed_in_the_middle_and_done_again(cluster: Cluster, clean_second: Cluster) -> None:
    cluster.execute("postgres", "DROP DATABASE IF EXISTS large; CREATE DATABASE large")
    cluster.execute(
        "large",
        "CREATE TABLE t (id int PRIMARY KEY, body text);"
        "INSERT INTO t SELECT g, repeat(md5(g::text), 30) FROM generate_series(1, 150000) g",
    )
    source, target = cluster.conninfo("large"), clean_second.conninfo("large")
    script = (
        "import sys; from ireporter import database_copy;"
        "database_copy.run({'source': sys.argv[1], 'target': sys.argv[2]},"
        " lambda progress: print(progress['phase'], flush=True))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(database_copy.__file__).parent.parent)}
    process = subprocess.Popen(
        [sys.executable, "-c", script, source, target], stdout=subprocess.PIPE, env=environment, start_new_session=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(b"data"):
            time.sleep(0.1)
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    comment = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'large'"
    assert clean_second.value("postgres", comment) == MARKER
    result = copy(source, target)
    assert result["target_before"] == "incomplete"
    assert result["rows"] == 150000
    assert differences(source, target) == []
    cluster.execute("postgres", "DROP DATABASE large")


def test_a_large_table_is_cut_and_nothing_is_lost(
    cluster: Cluster, clean_second: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ireporter.database_transfer._PART_BYTES", 1 << 20)
    monkeypatch.setattr("ireporter.verification_rows._PART_BYTES", 1 << 20)
    cluster.execute("postgres", "DROP DATABASE IF EXISTS cut; CREATE DATABASE cut")
    cluster.execute(
        "cut",
        "CREATE TYPE colour AS ENUM ('a', 'b'); CREATE TABLE t (id int, cs colour[], body text);"
        "INSERT INTO t SELECT g, '{a,b}', E'\\\\.\\n' || repeat(md5(g::text), 20) FROM generate_series(1, 20000) g",
    )
    source, target = cluster.conninfo("cut"), clean_second.conninfo("cut")
    assert copy(source, target)["rows"] == 20000
    assert differences(source, target) == []
    cluster.execute("postgres", "DROP DATABASE cut")


def test_a_failing_stream_leaves_an_incomplete_copy(cluster: Cluster, clean_second: Cluster) -> None:
    cluster.execute("postgres", "DROP DATABASE IF EXISTS failing; CREATE DATABASE failing")
    cluster.execute(
        "failing",
        "CREATE TABLE good AS SELECT g FROM generate_series(1, 100000) g;"
        "CREATE TABLE whole (a int, b text) PARTITION BY RANGE (a); CREATE TABLE bad (a int NOT NULL, b text);"
        "INSERT INTO bad SELECT g, repeat('x', 50) FROM generate_series(1, 50000) g;"
        "UPDATE bad SET a = 70000 WHERE a = 49999;"
        "ALTER TABLE bad ADD CONSTRAINT c CHECK (a >= 0 AND a < 60000) NOT VALID;"
        "UPDATE pg_constraint SET convalidated = true WHERE conname = 'c'",
    )
    # A row that the target refuses: it lies outside of its partition's bounds, which a false constraint keeps from being seen.
    cluster.execute("failing", "ALTER TABLE whole ATTACH PARTITION bad FOR VALUES FROM (0) TO (60000)")
    source, target = cluster.conninfo("failing"), clean_second.conninfo("failing")
    with pytest.raises(MigrationError, match=r"public\.bad could not be copied.*copy-failed"):
        copy(source, target)
    with pytest.raises(MigrationError, match="copy-failed"):
        copy(source, target)
    cluster.execute("failing", "UPDATE bad SET a = 1 WHERE a = 70000")
    assert copy(source, target)["target_before"] == "incomplete"
    assert differences(source, target) == []
    cluster.execute("postgres", "DROP DATABASE failing")


def test_roles_that_exist_keep_their_passwords(cluster: Cluster, clean_second: Cluster, nasty: str) -> None:
    clean_second.execute("postgres", """CREATE ROLE "nasty App" LOGIN PASSWORD 'new'; CREATE ROLE nasty_owner LOGIN""")
    verifier = "SELECT rolpassword FROM pg_authid WHERE rolname = 'nasty App'"
    before = clean_second.value("postgres", verifier)
    result = copy(
        cluster.conninfo(nasty), clean_second.conninfo("passwords"), keep_role_passwords=["nasty_owner", "nasty App"]
    )
    assert clean_second.value("postgres", verifier) == before
    assert clean_second.value("postgres", "SELECT rolpassword FROM pg_authid WHERE rolname = 'nasty_owner'") is None
    assert set(result["roles_changed"]) == {"nasty App", "nasty_owner"}
    found = verification.run(
        {"source": cluster.conninfo(nasty), "target": clean_second.conninfo("passwords")}, lambda progress: None
    )
    assert [row["object"] for row in found["differences"]] == ["nasty_owner"]
    assert ("role password", "nasty App") in {(row["kind"], row["object"]) for row in found["expected_differences"]}


def test_a_more_powerful_role_of_the_same_name_is_an_error(cluster: Cluster, clean_second: Cluster, nasty: str) -> None:
    clean_second.execute("postgres", "CREATE ROLE nasty_owner SUPERUSER")
    with pytest.raises(MigrationError, match=r"nasty_owner exists on the target, but is SUPERUSER there.*role-clash"):
        copy(cluster.conninfo(nasty), clean_second.conninfo("clash"))
    assert clean_second.value("postgres", "SELECT count(*) FROM pg_database WHERE datname = 'clash'") == 0


def test_the_connection_limit_is_the_one_before_the_freeze(cluster: Cluster, clean_second: Cluster, nasty: str) -> None:
    source, target = cluster.conninfo(nasty), clean_second.conninfo("frozen")
    cluster.execute("postgres", "ALTER DATABASE nasty CONNECTION LIMIT 0")
    try:
        copy(source, target, connection_limit=33)
        limit = clean_second.value("postgres", "SELECT datconnlimit FROM pg_database WHERE datname = 'frozen'")
        assert limit == 33
        assert differences(source, target, connection_limit=33) == []
        assert [row["object"] for row in differences(source, target)] == ["connection limit"]  # type: ignore[attr-defined]
    finally:
        cluster.execute("postgres", "ALTER DATABASE nasty CONNECTION LIMIT 33")


def test_what_cannot_be_copied_is_named_and_nothing_is_touched(cluster: Cluster, clean_second: Cluster) -> None:
    cluster.execute("postgres", "DROP DATABASE IF EXISTS odd; CREATE DATABASE odd")
    cluster.execute(
        "odd", "CREATE EXTENSION pg_trgm; UPDATE pg_extension SET extversion = '0.9' WHERE extname = 'pg_trgm'"
    )
    with pytest.raises(MigrationError, match=r"pg_trgm .*extension-missing"):
        copy(cluster.conninfo("odd"), clean_second.conninfo("odd"))
    cluster.execute("odd", "DROP EXTENSION pg_trgm")
    cluster.execute(
        "odd",
        "CREATE FUNCTION f(text) RETURNS int LANGUAGE c STRICT AS '$libdir/fuzzystrmatch', 'soundex';"
        "UPDATE pg_proc SET probin = '$libdir/no_such_library' WHERE proname = 'f'",
    )
    with pytest.raises(MigrationError, match=r"function .*f\(text\) needs the library .*library-missing"):
        copy(cluster.conninfo("odd"), clean_second.conninfo("odd"))
    cluster.execute("odd", "DROP FUNCTION f; BEGIN; CREATE TABLE t (a int); PREPARE TRANSACTION 'left'")
    with pytest.raises(MigrationError, match="prepared-transactions"):
        copy(cluster.conninfo("odd"), clean_second.conninfo("odd"))
    cluster.execute("odd", "ROLLBACK PREPARED 'left'")
    assert clean_second.value("postgres", "SELECT count(*) FROM pg_database WHERE datname = 'odd'") == 0
    cluster.execute("postgres", "DROP DATABASE odd")


@pytest.mark.parametrize(
    "conninfo",
    ["host=/tmp dbname=x password=canary", "postgresql://user:canary@host/x", "postgresql://u@h/x?password=canary",
     "dbname=x canary", "host=/tmp"],
)  # fmt: skip
def test_connection_strings_that_are_refused(cluster: Cluster, nasty: str, conninfo: str) -> None:
    with pytest.raises(MigrationError, match="connection-string") as refused:
        copy(cluster.conninfo(nasty), conninfo)
    assert "canary" not in str(refused.value)


def test_the_same_database_is_no_target(cluster: Cluster, nasty: str) -> None:
    with pytest.raises(MigrationError, match="same database"):
        copy(cluster.conninfo(nasty), cluster.conninfo(nasty))


@pytest.mark.parametrize("check_mode", [True, False])
@pytest.mark.parametrize("name", ["postgres", "template0", "template1"])
def test_a_database_of_the_server_itself_is_no_target(
    cluster: Cluster, clean_second: Cluster, nasty: str, name: str, check_mode: bool
) -> None:
    databases = "SELECT string_agg(datname || oid || datistemplate, ' ' ORDER BY datname) FROM pg_database"
    before = clean_second.value("postgres", databases)
    with pytest.raises(MigrationError, match=r"belongs to the server itself.*connection-string"):
        copy(cluster.conninfo(nasty), clean_second.conninfo(name), check_mode=check_mode)
    assert clean_second.value("postgres", databases) == before
    assert clean_second.value("postgres", "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'nasty%'") == 0


def test_an_empty_source(cluster: Cluster, clean_second: Cluster) -> None:
    cluster.execute("postgres", "DROP DATABASE IF EXISTS nothing; CREATE DATABASE nothing")
    cluster.execute("nothing", "DROP SCHEMA public")
    source, target = cluster.conninfo("nothing"), clean_second.conninfo("nothing")
    assert copy(source, target)["tables"] == 0
    assert differences(source, target) == []
    assert copy(source, target)["changed"] is False
    cluster.execute("postgres", "DROP DATABASE nothing")


def test_another_encoding(cluster: Cluster, clean_second: Cluster) -> None:
    cluster.execute("postgres", "DROP DATABASE IF EXISTS euc")
    cluster.execute("postgres", "CREATE DATABASE euc TEMPLATE template0 ENCODING 'EUC_JP' LOCALE 'C'")
    cluster.execute("euc", 'SET client_encoding = UTF8; CREATE TABLE "帳票" AS SELECT \'ソ表\' AS "名"')
    source, target = cluster.conninfo("euc"), clean_second.conninfo("euc")
    copy(source, target)
    assert differences(source, target) == []
    cluster.execute("postgres", "DROP DATABASE euc")


def test_text_without_an_encoding(cluster: Cluster, clean_second: Cluster) -> None:
    cluster.execute("postgres", "DROP DATABASE IF EXISTS raw")
    cluster.execute("postgres", "CREATE DATABASE raw TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    cluster.execute(
        "raw", """CREATE TABLE "帳票" (a text PRIMARY KEY); INSERT INTO "帳票" VALUES (E'\\xff\\x80'), ('ソ')"""
    )
    source, target = cluster.conninfo("raw"), clean_second.conninfo("raw")
    copy(source, target)
    assert differences(source, target) == []
    clean_second.execute("raw", """UPDATE "帳票" SET a = E'\\xff\\x81' WHERE a = E'\\xff\\x80'""")
    assert len(differences(source, target)) == 3  # type: ignore[arg-type]
    cluster.execute("postgres", "DROP DATABASE raw")


def test_wide_and_many(cluster: Cluster, clean_second: Cluster) -> None:
    cluster.execute("postgres", "DROP DATABASE IF EXISTS wide; CREATE DATABASE wide")
    columns = ", ".join(f"cluster_{number} {'int' if number % 2 else 'colour'}" for number in range(1600))
    values = ", ".join("1" if number % 2 else "'a'" for number in range(200))
    cluster.execute("wide", f"CREATE TYPE colour AS ENUM ('a'); CREATE TABLE report_1_s_1 ({columns});"
                            f"INSERT INTO report_1_s_1 VALUES ({values})")  # fmt: skip
    cluster.execute("wide", "".join(f"CREATE TABLE t{n} (a int); INSERT INTO t{n} VALUES ({n});" for n in range(300)))
    source, target = cluster.conninfo("wide"), clean_second.conninfo("wide")
    assert copy(source, target)["tables"] == 301
    assert differences(source, target) == []
    cluster.execute("postgres", "DROP DATABASE wide")


def test_hash_partitions_of_an_enum_are_refused(cluster: Cluster, clean_second: Cluster) -> None:
    cluster.execute("postgres", "DROP DATABASE IF EXISTS hashed; CREATE DATABASE hashed")
    cluster.execute("hashed", "CREATE TYPE colour AS ENUM ('a'); CREATE TABLE t (c colour) PARTITION BY HASH (c)")
    with pytest.raises(MigrationError, match=r"table .*t is partitioned.*hash-partition"):
        copy(cluster.conninfo("hashed"), clean_second.conninfo("hashed"))
    cluster.execute("postgres", "DROP DATABASE hashed")
