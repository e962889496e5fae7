"""Every kind of difference makes the verification fail and is named; an exact copy has none."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from ireporter import database_copy, verification
from ireporter.errors import MigrationError

from .conftest import NASTY_ROLES, Cluster

pytestmark = pytest.mark.integration

PERMIT = "SET default_transaction_read_only = off; SET search_path = public;"


def verify(source: str, target: str, **options: object) -> dict[str, object]:
    return verification.run({"source": source, "target": target, **options}, lambda progress: None)


def named(found: dict[str, object], name: str = "differences") -> set[tuple[str, str]]:
    rows = found[name]
    assert isinstance(rows, list)
    return {(row["kind"], row["object"]) for row in rows}


@pytest.fixture(scope="module")
def copied(cluster: Cluster, second_cluster: Cluster, nasty: str) -> Iterator[tuple[str, str]]:
    """Connection strings of a source and of its exact copy on another server."""
    source, target = cluster.conninfo(nasty), second_cluster.conninfo("copied")
    database_copy.run({"source": source, "target": target}, lambda progress: None)
    yield source, target
    second_cluster.execute("postgres", "DROP DATABASE copied WITH (FORCE)")
    for role in NASTY_ROLES:
        second_cluster.execute("postgres", f'DROP ROLE "{role}"')


@pytest.fixture
def mutated(copied: tuple[str, str], second_cluster: Cluster) -> Iterator[tuple[str, str, set[tuple[str, str]]]]:
    """A fresh template copy of the copy, to be broken; and what differs anyway, as a template copy takes no settings along."""
    second_cluster.execute("postgres", "CREATE DATABASE mutated TEMPLATE copied")
    target = second_cluster.conninfo("mutated")
    yield copied[0], target, named(verify(copied[0], target, scope="structure"))
    second_cluster.execute("postgres", "DROP DATABASE mutated WITH (FORCE)")


def test_an_exact_copy_is_equal(copied: tuple[str, str]) -> None:
    found = verify(*copied)
    assert found["differences"] == []
    assert named(found, "expected_differences") == {("database setting", "ireporter_migration.copy_of")}
    assert found["rows_verified"] == 2535
    assert found["cannot_detect"]
    assert verify(*copied, scope="structure")["differences"] == []


# What is done to the target, what must be named.
MUTATIONS = {
    "a value": ("UPDATE plain SET name = 'b' WHERE id = 1", {("table data", "public.plain"), ("row", "public.plain: id=1")}),
    "minus zero": ("UPDATE plain SET ratio = 0 WHERE id = 1", {("table data", "public.plain"), ("row", "public.plain: id=1")}),
    "minus zero in a point": ("UPDATE plain SET p = '(1,0)' WHERE id = 1", {("row", "public.plain: id=1")}),
    "numeric scale": ("UPDATE plain SET amount = 1.00 WHERE id = 1", {("row", "public.plain: id=1")}),
    "numeric scale below a domain": ("UPDATE numbered SET pos = 1.5 WHERE id = 1", {("table data", "public.numbered")}),
    "interval": ("UPDATE plain SET span = '24:00' WHERE id = 1", {("row", "public.plain: id=1")}),
    "json white space": ("""UPDATE plain SET doc = '{"a":1}' WHERE id = 1""", {("row", "public.plain: id=1")}),
    "xml white space": ("UPDATE plain SET x = '<a />' WHERE id = 1", {("row", "public.plain: id=1")}),
    "empty text for null": ("UPDATE plain SET name = '' WHERE id = 3", {("row", "public.plain: id=3")}),
    "null in an array": ("UPDATE plain SET tags = '{a,\"NULL\",\"NULL\",\"\"}' WHERE id = 1", {("row", "public.plain: id=1")}),
    "a microsecond": ("UPDATE plain SET at = at + '1 microsecond' WHERE id = 3", {("row", "public.plain: id=3")}),
    "one bit of bytea": ("UPDATE plain SET raw = '\\x00fe' WHERE id = 1", {("row", "public.plain: id=1")}),
    "values swapped between rows": (
        "UPDATE plain SET name = CASE id WHEN 1 THEN '' ELSE (SELECT name FROM plain WHERE id = 1) END WHERE id < 3",
        {("row", "public.plain: id=1"), ("row", "public.plain: id=2")},
    ),
    "values swapped between columns": (
        "UPDATE keyless SET report = cluster, cluster = report WHERE cluster = 100", {("table data", "public.keyless")},
    ),
    "a row deleted": ("DELETE FROM plain WHERE id = 2", {("table data", "public.plain"), ("row", "public.plain: id=2")}),
    "a row doubled": ("INSERT INTO keyless VALUES (1, 1, 'twice')", {("table data", "public.keyless")}),
    "a pair of equal rows replaced": (
        "UPDATE keyless SET value = 'TWICE' WHERE value = 'twice'", {("table data", "public.keyless")},
    ),
    "a row of a partition": ("DELETE FROM measured WHERE v = 2", {("table data", "public.measured_2025")}),
    "a row moved to the parent": (
        "WITH gone AS (DELETE FROM child RETURNING id, name) INSERT INTO parent SELECT * FROM gone",
        {("table data", "public.parent"), ("table data", "public.child")},
    ),
    "null in a composite": ("UPDATE numbered SET a = NULL WHERE id = 2", {("table data", "public.numbered")}),
    "an enum": ("UPDATE numbered SET m = 'bad' WHERE id = 1", {("table data", "public.numbered")}),
    "an array's lower bound": ("UPDATE numbered SET ms = '{good,bad}' WHERE id = 3", {("table data", "public.numbered")}),
    "a range of an own type": ("UPDATE numbered SET r = '[good,bad]' WHERE id = 1", {("table data", "public.numbered")}),
    "letter case in citext": ("UPDATE numbered SET k = 'case' WHERE id = 1", {("table data", "public.numbered")}),
    "a table's name in a value": ("UPDATE numbered SET c = 'keyless' WHERE id = 1", {("table data", "public.numbered")}),
    "an unlogged table's row": ("DELETE FROM fleeting", {("table data", "public.fleeting")}),
    "a row without columns": ("INSERT INTO no_columns DEFAULT VALUES", {("table data", "public.no_columns")}),
    "a sequence": ("SELECT nextval('\"seq Label\"')", {("sequence", "public.seq Label")}),
    "a sequence handed out": ("SELECT setval('set_back', 40, true)", {("sequence", "public.set_back")}),
    "an index gone": ("DROP INDEX guarded_name", {("object", "INDEX public.guarded_name")}),
    "a constraint gone": ("ALTER TABLE guarded DROP CONSTRAINT guarded_id_check",
                          {("object", "CHECK CONSTRAINT public.guarded guarded_id_check")}),
    "a foreign key gone": ("ALTER TABLE circular_a DROP CONSTRAINT circular_a_b_fkey",
                           {("object", "FK CONSTRAINT public.circular_a circular_a_b_fkey")}),
    "a constraint validated": ("ALTER TABLE guarded VALIDATE CONSTRAINT guarded_id_check",
                               {("object", "CHECK CONSTRAINT public.guarded guarded_id_check")}),
    "a trigger disabled": ("ALTER TABLE plain DISABLE TRIGGER audit_plain",
                           {("object", "TRIGGER public.plain audit_plain")}),
    "a trigger enabled": ("ALTER TABLE keyless ENABLE TRIGGER audit_keyless",
                          {("object", "TRIGGER public.keyless audit_keyless")}),
    "an event trigger gone": ("DROP EVENT TRIGGER watch", {("object", "EVENT TRIGGER watch")}),
    "a rule gone": ("DROP RULE plain_rule ON plain", {("object", "RULE public.plain plain_rule")}),
    "a grant": ("GRANT DELETE ON plain TO nasty_readers", {("object", "ACL public.TABLE plain")}),
    "a grant taken away": ("REVOKE SELECT ON guarded FROM nasty_readers", {("object", "ACL public.TABLE guarded")}),
    "a column's grant": ("REVOKE UPDATE (name) ON plain FROM \"nasty App\"", {("object", "ACL public.COLUMN plain.name")}),
    "a function's grant": ("GRANT EXECUTE ON FUNCTION plus TO PUBLIC", {("object", "ACL public.FUNCTION plus(a integer, b integer)")}),
    "default privileges": ("ALTER DEFAULT PRIVILEGES FOR ROLE nasty_owner IN SCHEMA public REVOKE SELECT ON TABLES FROM nasty_readers",
                           {("object", "DEFAULT ACL public.DEFAULT PRIVILEGES FOR TABLES")}),
    "a comment": ("COMMENT ON TABLE plain IS 'コメンド'", {("object", "COMMENT public.TABLE plain")}),
    "an owner": ("ALTER TABLE plain OWNER TO postgres", {("object", "TABLE public.plain")}),
    "a policy": ("ALTER POLICY own_rows ON guarded USING (true)", {("object", "POLICY public.guarded own_rows")}),
    "row-level security off": ("ALTER TABLE guarded DISABLE ROW LEVEL SECURITY", {("object", "ROW SECURITY public.guarded")}),
    "a view": ("CREATE OR REPLACE VIEW plain_view AS SELECT id, upper(name) AS name FROM plain", {("object", "VIEW public.plain_view")}),
    "a function's body": ("CREATE OR REPLACE FUNCTION plus(a int, b int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT b + a'",
                          {("object", "FUNCTION public.plus(integer, integer)")}),
    "a materialised view refreshed": ("REFRESH MATERIALIZED VIEW stale", {("materialised view", "public.stale")}),
    "a materialised view filled": ("REFRESH MATERIALIZED VIEW unfilled", {("table data", "public.unfilled")}),
    "a materialised view emptied": ("REFRESH MATERIALIZED VIEW stale WITH NO DATA", {("table data", "public.stale")}),
    "unlogged made logged": ("ALTER TABLE fleeting SET LOGGED", {("object", "TABLE public.fleeting")}),
    "a default": ("ALTER TABLE dropped ALTER c SET DEFAULT 8", {("object", "TABLE public.dropped")}),
    "a column's type": ("ALTER TABLE dropped ALTER a TYPE bigint", {("table data", "public.dropped"), ("object", "TABLE public.dropped")}),
    "a table gone": ("DROP TABLE booking", {("table data", "public.booking"), ("object", "TABLE public.booking")}),
    "a table more": ("CREATE TABLE more ()", {("table data", "public.more"), ("object", "TABLE public.more")}),
    "an enum's label": ("ALTER TYPE mood ADD VALUE 'new'", {("object", "TYPE public.mood")}),
    "a statistics object": ("DROP STATISTICS some_statistics", {("object", "STATISTICS public.some_statistics")}),
    "a statistics target": ("ALTER TABLE keyless ALTER value SET STATISTICS 100", {("object", "TABLE public.keyless")}),
    "a publication": ("ALTER PUBLICATION everything ADD TABLE keyless", {("object", "PUBLICATION TABLE public.everything keyless")}),
    "a foreign table": ("ALTER FOREIGN TABLE outside OPTIONS (SET filename '/dev/zero')", {("object", "FOREIGN TABLE public.outside")}),
    "an extension's version": ("UPDATE pg_extension SET extversion = '0.1' WHERE extname = 'hstore'", {("extension", "hstore")}),
    "an extension more": ("CREATE EXTENSION btree_gin", {("extension", "btree_gin")}),
    "a large object's byte": ("SELECT lo_put(4713, 3000, '\\x00')", {("large object", "4713")}),
    "a large object's size": ("SELECT lo_put(4712, 0, '\\x00')", {("large object", "4712")}),
    "a large object's owner": ("ALTER LARGE OBJECT 4711 OWNER TO postgres", {("large object", "4711")}),
    "a large object's grant": ("REVOKE SELECT ON LARGE OBJECT 4711 FROM nasty_readers", {("large object", "4711")}),
    "a large object's comment": ("COMMENT ON LARGE OBJECT 4711 IS 'other'", {("large object", "4711")}),
    "a large object gone": ("SELECT lo_unlink(3000000000)", {("large object", "3000000000")}),
    "a large object more": ("SELECT lo_create(99)", {("large object", "99")}),
    "a security definer": ("ALTER FUNCTION plus SECURITY DEFINER", {("object", "FUNCTION public.plus(integer, integer)")}),
}  # fmt: skip


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_difference_in_the_database_is_named(
    mutated: tuple[str, str, set[tuple[str, str]]], second_cluster: Cluster, mutation: str
) -> None:
    statement, expected = MUTATIONS[mutation]
    second_cluster.execute("mutated", PERMIT + statement)
    source, target, anyway = mutated
    found = named(verify(source, target)) - anyway
    assert expected <= found, found


# Done to the server that holds the copy, undone, what must be named.
OUTSIDE = {
    "owner": ("ALTER DATABASE copied OWNER TO postgres", "ALTER DATABASE copied OWNER TO nasty_owner", ("database", "owner")),
    "comment": ("COMMENT ON DATABASE copied IS 'x'", "COMMENT ON DATABASE copied IS 'the nasty ''one'''", ("database", "comment")),
    "limit": ("ALTER DATABASE copied CONNECTION LIMIT 3", "ALTER DATABASE copied CONNECTION LIMIT 33", ("database", "connection limit")),
    "grant": ("GRANT CONNECT ON DATABASE copied TO PUBLIC", "REVOKE CONNECT ON DATABASE copied FROM PUBLIC", ("database", "grants")),
    "database setting": ("ALTER DATABASE copied SET timezone = 'UTC'", "ALTER DATABASE copied SET timezone = 'Asia/Tokyo'", ("database setting", "TimeZone")),
    "database setting more": ("ALTER DATABASE copied SET work_mem = '1MB'", "ALTER DATABASE copied RESET work_mem", ("database setting", "work_mem")),
    "role setting": ("ALTER ROLE \"nasty App\" SET work_mem = '6MB'", "ALTER ROLE \"nasty App\" SET work_mem = '5MB'", ("role setting", "nasty App: work_mem")),
    "role setting here": ("ALTER ROLE nasty_settings IN DATABASE copied SET lock_timeout = 99",
                          "ALTER ROLE nasty_settings IN DATABASE copied SET lock_timeout = 100",
                          ("role setting", "nasty_settings in the database: lock_timeout")),
    "role attribute": ("ALTER ROLE nasty_readers CREATEDB", "ALTER ROLE nasty_readers NOCREATEDB", ("role", "nasty_readers: createdb")),
    "role comment": ("COMMENT ON ROLE nasty_owner IS 'x'", "COMMENT ON ROLE nasty_owner IS 'owns \"it\"'", ("role", "nasty_owner: comment")),
    "membership gone": ("REVOKE nasty_readers FROM nasty_member", "GRANT nasty_readers TO nasty_member", ("role membership", "nasty_member in nasty_readers")),
    "membership more": ("GRANT nasty_owner TO nasty_member", "REVOKE nasty_owner FROM nasty_member", ("role membership", "nasty_member in nasty_owner")),
    "password gone": ("ALTER ROLE nasty_owner PASSWORD NULL", "ALTER ROLE nasty_owner PASSWORD 'new'", ("role password", "nasty_owner")),
    "role gone": ("ALTER ROLE nasty_group RENAME TO renamed", "ALTER ROLE renamed RENAME TO nasty_group", ("role", "nasty_group")),
}  # fmt: skip


@pytest.mark.parametrize("mutation", OUTSIDE)
def test_a_difference_around_the_database_is_named(
    copied: tuple[str, str], second_cluster: Cluster, mutation: str
) -> None:
    statement, undo, expected = OUTSIDE[mutation]
    second_cluster.execute("postgres", statement)
    try:
        for scope in ("all", "structure"):
            assert expected in named(verify(*copied, scope=scope))
    finally:
        second_cluster.execute("postgres", undo)
    assert verify(*copied)["differences"] == []


def test_no_value_outside_of_the_key_and_no_verifier_is_shown(
    mutated: tuple[str, str, set[tuple[str, str]]], second_cluster: Cluster
) -> None:
    second_cluster.execute(
        "mutated", PERMIT + "UPDATE plain SET name = 'canary' WHERE id = 1; UPDATE guarded SET secret = 'canary'"
    )
    text = json.dumps(verify(mutated[0], mutated[1]))
    assert "canary" not in text
    assert "SCRAM" not in text


def test_structure_tolerates_work_and_published_definitions(
    mutated: tuple[str, str, set[tuple[str, str]]], second_cluster: Cluster
) -> None:
    source, target, anyway = mutated
    second_cluster.execute(
        "mutated",
        PERMIT + "INSERT INTO keyless VALUES (0, 0, 'new'); SELECT nextval('never_called');"
        "CREATE TABLE report_12_s_1 (id int PRIMARY KEY); CREATE VIEW view_report_12 AS SELECT * FROM report_12_s_1;"
        "GRANT SELECT ON report_12_s_1 TO nasty_readers",
    )
    assert named(verify(source, target, scope="structure")) == anyway
    second_cluster.execute("mutated", PERMIT + "DROP TABLE guarded; CREATE TABLE other ()")
    found = named(verify(source, target, scope="structure")) - anyway
    assert {("object", "TABLE public.guarded"), ("object", "TABLE public.other")} <= found


def test_what_cannot_be_finished_has_failed(copied: tuple[str, str], second_cluster: Cluster) -> None:
    with pytest.raises(MigrationError, match="database-connection"):
        verify(copied[0], second_cluster.conninfo("no_such_database"))
    second_cluster.execute("postgres", "CREATE ROLE weak LOGIN; GRANT CONNECT ON DATABASE copied TO weak")
    try:
        with pytest.raises(MigrationError, match="target-superuser"):
            verify(copied[0], second_cluster.conninfo("copied", user="weak"))
    finally:
        second_cluster.execute("postgres", "REVOKE ALL ON DATABASE copied FROM weak; DROP ROLE weak")


def test_rows_are_named_in_large_tables(
    mutated: tuple[str, str, set[tuple[str, str]]], second_cluster: Cluster
) -> None:
    second_cluster.execute("mutated", PERMIT + "UPDATE \"帳票 schema\".wide SET body = '' WHERE id IN (7, 1999)")
    second_cluster.execute("mutated", PERMIT + "DELETE FROM keyless WHERE cluster = 100")
    rows = verify(mutated[0], mutated[1])["differences"]
    assert isinstance(rows, list)
    found = [row["object"] for row in rows if row["kind"] == "row"]
    assert sum(name.startswith("帳票 schema.wide: at ") for name in found) == 4
    assert sum(name.startswith("public.keyless: at ") and name.endswith("on the source") for name in found) == 1
