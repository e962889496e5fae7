"""Databases whose parts depend on each other in ways that the order of a dump does not follow, and what a failure must not say."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from ireporter import database_copy, verification
from ireporter.database_target import MARKER
from ireporter.errors import MigrationError

from .conftest import Cluster, run_cluster

pytestmark = pytest.mark.integration


def copy(source: str, target: str, **options: object) -> dict[str, object]:
    return database_copy.run({"source": source, "target": target, **options}, lambda progress: None)


def differences(source: str, target: str) -> object:
    return verification.run({"source": source, "target": target}, lambda progress: None)["differences"]


@pytest.fixture
def made(cluster: Cluster) -> Iterator[Callable[[str], str]]:
    """Makes the source, a database ``ordered``; returns its connection string."""

    def make(statements: str) -> str:
        cluster.execute("postgres", "DROP DATABASE IF EXISTS ordered; CREATE DATABASE ordered TEMPLATE template0")
        cluster.execute("ordered", statements)
        return cluster.conninfo("ordered")

    yield make
    cluster.execute("postgres", "DROP DATABASE IF EXISTS ordered WITH (FORCE)")


def test_a_password_of_another_server_is_neither_logged_nor_shown(made: Callable[[str], str]) -> None:
    source = made(
        "CREATE FUNCTION validate(text[], oid) RETURNS void LANGUAGE plpgsql AS $$ BEGIN"
        " IF current_setting('acme.refuses', true) = 'on' THEN RAISE 'refused by the target'; END IF; END $$;"
        "CREATE FOREIGN DATA WRAPPER w VALIDATOR validate; CREATE SERVER s FOREIGN DATA WRAPPER w;"
        "CREATE USER MAPPING FOR PUBLIC SERVER s OPTIONS (password 'errcanary');"
    )
    settings = (
        "log_min_messages = warning\nlog_statement = 'all'\nlog_min_duration_statement = 0\n"
        "log_min_duration_sample = 0\nlog_statement_sample_rate = 1\nlog_transaction_sample_rate = 1\n"
        "shared_preload_libraries = 'pg_stat_statements'\nacme.refuses = 'on'\n"
    )
    with run_cluster(settings=settings) as target:
        with pytest.raises(MigrationError, match="refused by the target") as raised:
            copy(source, target.conninfo("ordered"))
        assert "errcanary" not in str(raised.value)
        target.execute("postgres", "ALTER SYSTEM SET acme.refuses = 'off'; SELECT pg_reload_conf()")
        copy(source, target.conninfo("ordered"))
        options = "SELECT array_to_string(umoptions, ' ') FROM pg_user_mappings"
        assert target.value("ordered", options) == "password=errcanary"
        log = (target.directory / "log").read_text()
        assert "CREATE DATABASE" in log  # it does log
        assert "errcanary" not in log
        target.execute("postgres", "CREATE EXTENSION pg_stat_statements")
        assert target.value("postgres", "SELECT count(*) FROM pg_stat_statements WHERE query ~ 'err[c]anary'") == 0


def test_a_materialised_view_grouped_by_a_key_arrives_as_it_is(
    made: Callable[[str], str], clean_second: Cluster
) -> None:
    source = made(
        "CREATE TABLE o (id int PRIMARY KEY, name text); CREATE TABLE l (o int REFERENCES o, n int);"
        "INSERT INTO o VALUES (1, 'a'), (2, 'b'); INSERT INTO l VALUES (1, 1), (1, 2), (2, 3);"
        "CREATE FUNCTION even(int) RETURNS boolean LANGUAGE sql AS 'SELECT $1 % 2 = 0 OR EXISTS (SELECT FROM public.l)';"
        "CREATE DOMAIN odd_or_full AS bigint CHECK (even(value::int));"
        'CREATE MATERIALIZED VIEW "M" AS SELECT o.id, o.name, sum(l.n)::odd_or_full AS n FROM o JOIN l ON l.o = o.id GROUP BY o.id;'
        'CREATE UNIQUE INDEX ON "M" (id);'
        'CREATE MATERIALIZED VIEW above AS SELECT id + 1 AS id FROM "M";'
        "CREATE MATERIALIZED VIEW empty AS SELECT o.id, o.name FROM o GROUP BY o.id WITH NO DATA;"
        "CREATE MATERIALIZED VIEW plain AS SELECT 1 AS a;"
        "CREATE FUNCTION names() RETURNS SETOF text LANGUAGE sql BEGIN ATOMIC SELECT o.name FROM o GROUP BY o.id; END;"
        "CREATE MATERIALIZED VIEW named AS SELECT names() AS name;"
        "DELETE FROM l WHERE n = 3; UPDATE o SET name = 'later'; UPDATE l SET n = 0"  # what is in them is not refreshed
    )
    assert copy(source, clean_second.conninfo("ordered"))["rows"] == 2 + 2 + 2 + 2 + 1 + 2
    rows = "SELECT string_agg(m::text, ' ' ORDER BY id) FROM \"M\" m"
    assert clean_second.value("ordered", rows) == "(1,a,3) (2,b,3)"
    assert differences(source, clean_second.conninfo("ordered")) == []
    assert copy(source, clean_second.conninfo("ordered"))["changed"] is False


def states(cluster: Cluster) -> object:
    """Of the triggers of constraints, without what holds a number or an order."""
    return cluster.value(
        "ordered",
        "SELECT string_agg(s, ', ' ORDER BY s) FROM pg_trigger t JOIN pg_constraint k ON k.oid = t.tgconstraint,"
        " format('%s %s %s %s %s', tgrelid::regclass, conrelid::regclass, confrelid::regclass, tgfoid::regproc, tgenabled) s"
        " WHERE tgisinternal",
    )


PARTITIONED = (
    "CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id);"
    # Not in the order of their bounds, nor of their names.
    "CREATE TABLE p3 PARTITION OF p FOR VALUES FROM (20) TO (40);"
    "CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20);"
    "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);"
)
UNENFORCED = {
    "a partition of the referring table": (
        "CREATE TABLE k (id int PRIMARY KEY); CREATE TABLE r (k int REFERENCES k) PARTITION BY RANGE (k);"
        "CREATE TABLE r1 PARTITION OF r FOR VALUES FROM (0) TO (10);"
        "INSERT INTO k VALUES (1); INSERT INTO r VALUES (1); ALTER TABLE r1 DISABLE TRIGGER ALL"
    ),
    "a partition of the table it refers to": PARTITIONED
    + (
        "CREATE TABLE r (k int REFERENCES p); INSERT INTO p VALUES (1), (11), (31); INSERT INTO r VALUES (1), (31);"
        "ALTER TABLE p2 DISABLE TRIGGER ALL; ALTER TABLE p3 DISABLE TRIGGER ALL"
    ),
    "both are partitioned, and a partition's own one has the same name": PARTITIONED
    + (
        "CREATE TABLE k (id int PRIMARY KEY); CREATE TABLE r (k int) PARTITION BY RANGE (k);"
        "CREATE TABLE r1 PARTITION OF r FOR VALUES FROM (0) TO (10);"
        "ALTER TABLE r1 ADD CONSTRAINT linked FOREIGN KEY (k) REFERENCES k; ALTER TABLE r1 DISABLE TRIGGER ALL;"
        "ALTER TABLE r ADD CONSTRAINT linked FOREIGN KEY (k) REFERENCES p;"
        "ALTER TABLE p1 DISABLE TRIGGER ALL; ALTER TABLE k DISABLE TRIGGER ALL"
    ),
    "a partition's partition has its own ones of the same name, too": PARTITIONED
    + (
        "CREATE TABLE k (id int PRIMARY KEY); CREATE TABLE l (id int PRIMARY KEY);"
        "CREATE TABLE r (k int) PARTITION BY RANGE (k);"
        "CREATE TABLE r1 PARTITION OF r FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (k);"
        "CREATE TABLE r11 PARTITION OF r1 FOR VALUES FROM (0) TO (5);"
        "ALTER TABLE r11 ADD CONSTRAINT linked FOREIGN KEY (k) REFERENCES l;"
        "ALTER TABLE r1 ADD CONSTRAINT linked FOREIGN KEY (k) REFERENCES k;"
        "ALTER TABLE r ADD CONSTRAINT linked FOREIGN KEY (k) REFERENCES p;"
        "COMMENT ON CONSTRAINT linked ON r11 IS 'the lowest'; ALTER TABLE k DISABLE TRIGGER ALL"
    ),
    "a partition's own triggers, too": (
        "CREATE TABLE k (id int PRIMARY KEY); CREATE TABLE r (k int REFERENCES k) PARTITION BY RANGE (k);"
        "CREATE TABLE r1 PARTITION OF r FOR VALUES FROM (0) TO (10);"
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER a AFTER INSERT ON r FOR EACH ROW EXECUTE FUNCTION f();"
        "CREATE TRIGGER b AFTER INSERT ON r FOR EACH ROW EXECUTE FUNCTION f();"
        "ALTER TABLE r1 DISABLE TRIGGER ALL; ALTER TABLE r1 ENABLE TRIGGER b; COMMENT ON TRIGGER a ON r1 IS 'off'"
    ),
}


@pytest.mark.parametrize("which", UNENFORCED)
def test_a_foreign_key_that_a_partition_does_not_enforce_stays_so(
    made: Callable[[str], str], cluster: Cluster, clean_second: Cluster, which: str
) -> None:
    source, target = made(UNENFORCED[which]), clean_second.conninfo("ordered")
    copy(source, target)
    assert states(clean_second) == states(cluster)
    assert differences(source, target) == []
    own = (
        "SELECT string_agg(concat(tgname, tgenabled, obj_description(oid, 'pg_trigger')), ' ' ORDER BY tgrelid::regclass::text, tgname)"
        " FROM pg_trigger WHERE NOT tgisinternal"
    )
    assert clean_second.value("ordered", own) == cluster.value("ordered", own)


def test_foreign_keys_to_partitions_on_two_levels_come_after_their_indexes(
    made: Callable[[str], str], cluster: Cluster, clean_second: Cluster
) -> None:
    source, target = (
        made(
            "CREATE TABLE p (a int, b int, PRIMARY KEY (a, b)) PARTITION BY LIST (a);"
            "CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1) PARTITION BY LIST (b);"
            "CREATE TABLE p11 PARTITION OF p1 FOR VALUES IN (1); CREATE TABLE p12 PARTITION OF p1 FOR VALUES IN (2);"
            "CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2);"
            'CREATE TABLE r (id int PRIMARY KEY, a int, b int, CONSTRAINT "to p" FOREIGN KEY (a, b) REFERENCES p,'
            " CONSTRAINT small CHECK (a < 10));"
            "CREATE TABLE s (id int REFERENCES r);"
            "COMMENT ON CONSTRAINT \"to p\" ON r IS 'to both levels'; COMMENT ON CONSTRAINT small ON r IS 'a check';"
            "COMMENT ON CONSTRAINT r_pkey ON r IS 'a key'; COMMENT ON INDEX p11_pkey IS 'below';"
            "INSERT INTO p VALUES (1, 1), (1, 2), (2, 1); INSERT INTO r VALUES (1, 1, 2); INSERT INTO s VALUES (1)"
        ),
        clean_second.conninfo("ordered"),
    )
    copy(source, target)
    keys = (
        "SELECT string_agg(concat(conname, convalidated, obj_description(oid, 'pg_constraint')), ' ' ORDER BY conname)"
        " FROM pg_constraint WHERE contype = 'f' AND conparentid = 0"
    )
    assert clean_second.value("ordered", keys) == cluster.value("ordered", keys)
    assert differences(source, target) == []


def test_event_triggers_do_not_see_the_copy(made: Callable[[str], str], clean_second: Cluster) -> None:
    source = made(
        "CREATE TABLE seen (tag text);"
        "CREATE TABLE k (id int PRIMARY KEY); CREATE TABLE r (k int REFERENCES k) PARTITION BY RANGE (k);"
        "CREATE TABLE r1 PARTITION OF r FOR VALUES FROM (0) TO (10); ALTER TABLE k DISABLE TRIGGER ALL;"
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER a AFTER INSERT ON r FOR EACH ROW EXECUTE FUNCTION f(); ALTER TABLE r1 DISABLE TRIGGER a;"
        "CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO public.seen VALUES (tg_tag); END $$;"
        "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'nobody alters here'; END $$;"
        "CREATE EVENT TRIGGER notes ON ddl_command_end EXECUTE FUNCTION note(); COMMENT ON EVENT TRIGGER notes IS 'a note';"
        "ALTER EVENT TRIGGER notes ENABLE ALWAYS;"
        "CREATE EVENT TRIGGER refuses ON ddl_command_start WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION refuse();"
    )
    copy(source, clean_second.conninfo("ordered"))
    assert clean_second.value("ordered", "SELECT count(*) FROM seen") == 0
    triggers = (
        "SELECT string_agg(concat(evtname, evtenabled, obj_description(oid, 'pg_event_trigger')), ' ' ORDER BY evtname)"
        " FROM pg_event_trigger"
    )
    assert clean_second.value("ordered", triggers) == "notesAa note refusesO"
    assert differences(source, clean_second.conninfo("ordered")) == []


@pytest.mark.parametrize("complete", [False, True])
def test_a_copy_whose_drop_was_interrupted_is_made_anew(
    made: Callable[[str], str], clean_second: Cluster, complete: bool
) -> None:
    source, target = made("CREATE TABLE t AS SELECT 1 AS a"), clean_second.conninfo("ordered")
    copy(source, target)
    if not complete:
        clean_second.execute("postgres", f"COMMENT ON DATABASE ordered IS '{MARKER}'")
    clean_second.execute("postgres", "UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'ordered'")
    assert copy(source, target)["target_before"] == "incomplete"
    assert differences(source, target) == []


def test_nulls_of_a_domain_that_has_none_arrive(made: Callable[[str], str], clean_second: Cluster) -> None:
    source = made(
        "CREATE DOMAIN d AS int NOT NULL; CREATE DOMAIN e AS d; CREATE TABLE t (a d, b e, c d[]);"
        "INSERT INTO t SELECT (SELECT a FROM t WHERE false), (SELECT b FROM t WHERE false), ARRAY[(SELECT a FROM t WHERE false)]"
    )
    copy(source, clean_second.conninfo("ordered"))
    assert clean_second.value("ordered", "SELECT a IS NULL AND b IS NULL AND c[1] IS NULL FROM t") is True
    not_null = "SELECT string_agg(typname, ' ') FROM pg_type WHERE typnotnull AND oid >= 16384"
    assert clean_second.value("ordered", not_null) == "d"
    assert differences(source, clean_second.conninfo("ordered")) == []
