"""What cannot be copied is named in one sentence before anything is touched on the target."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest
from ireporter import database_copy, verification
from ireporter.errors import MigrationError

from .conftest import Cluster

pytestmark = pytest.mark.integration

# What the source holds, what the error must say.
REFUSED = {
    "an extension the target has not": (
        "CREATE EXTENSION acme_only", r"extension acme_only is not available on the target \(extension-missing\)",
    ),
    "a version the target has not": (
        "CREATE EXTENSION hstore; UPDATE pg_extension SET extversion = '0.1' WHERE extname = 'hstore'",
        r"extension hstore in version 1\.8, the source uses 0\.1 \(extension-missing\)",
    ),
    "an extension whose library the target has not": (
        "CREATE EXTENSION acme_with_library", r"function public\.acme_sound\(text\) needs the library \$libdir/acme_library.*\(library-missing\)",
    ),
    "a function whose library the target has not": (
        "CREATE FUNCTION sound(text) RETURNS text LANGUAGE c STRICT AS '$libdir/acme_library', 'soundex'",
        r"function public\.sound\(text\) needs the library \$libdir/acme_library.*\(library-missing\)",
    ),
    "a function that is not in its library": (
        "CREATE FUNCTION sound(text) RETURNS text LANGUAGE c STRICT AS '$libdir/fuzzystrmatch', 'soundex';"
        "UPDATE pg_proc SET prosrc = 'no_sound' WHERE proname = 'sound'",
        r"function public\.sound\(text\) needs the library .*no_sound.*\(library-missing\)",
    ),
    "a function that is not in PostgreSQL": (
        "CREATE FUNCTION gone(text) RETURNS text LANGUAGE internal STRICT AS 'lower';"
        "UPDATE pg_proc SET prosrc = 'no_such_function' WHERE proname = 'gone'",
        r"function public\.gone\(text\) needs no_such_function inside of PostgreSQL.*\(library-missing\)",
    ),
    "a role with a name that cannot be given": (
        "CREATE ROLE refused; UPDATE pg_authid SET rolname = 'pg_refused' WHERE rolname = 'refused'; CREATE SCHEMA s AUTHORIZATION pg_refused",
        r"refuses the role pg_refused: role name \"pg_refused\" is reserved \(role-refused\)",
    ),
    "a collation the target has not": (

        "INSERT INTO pg_collation (oid, collname, collnamespace, collowner, collprovider, collisdeterministic, collencoding, collcollate, collctype)"
        " VALUES (16001, 'xx_YY', 'pg_catalog'::regnamespace, 10, 'c', true, -1, 'C', 'C'); CREATE TABLE t (a text COLLATE \"xx_YY\")",
        r"no collation xx_YY, which the source uses for column a of table public\.t \(locale-missing\)",
    ),
    "a function among PostgreSQL's own": (
        "CREATE FUNCTION pg_catalog.ours(int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        r"function pg_catalog\.ours\(integer\) lies in a schema of PostgreSQL's own.*\(hidden-object\)",
    ),
    "a table in the information schema": (
        "CREATE TABLE information_schema.ours (a int)", r"table information_schema\.ours lies in a schema of PostgreSQL's own.*\(hidden-object\)",
    ),
    "a language with another one's handler": (
        "CREATE LANGUAGE ours HANDLER plpgsql_call_handler", r"language ours uses the handler pg_catalog\.plpgsql_call_handler.*\(language\)",
    ),
    "a security label of an unknown provider": (
        "CREATE TABLE t (); INSERT INTO pg_seclabel VALUES ('t'::regclass, 'pg_class'::regclass, 0, 'acme', 'secret')",
        r"provider acme of the security label on table public\.t.*\(security-label\)",
    ),
    "a security label of the database": (
        "INSERT INTO pg_shseclabel SELECT oid, 'pg_database'::regclass, 'acme', 'secret' FROM pg_database WHERE datname = current_database()",
        r"database refused_.* has a security label of acme.*\(security-label\)",
    ),
    "a setting that means nothing on the target": (
        "INSERT INTO pg_db_role_setting SELECT oid, 0, '{lc_messages=xx_YY.UTF-8}' FROM pg_database WHERE datname = current_database()",
        r"refuses the setting lc_messages of the database refused_.*.*\(setting-refused\)",
    ),
    "a role's setting that means nothing on the target": (
        "CREATE ROLE refused; CREATE SCHEMA s AUTHORIZATION refused;"
        "INSERT INTO pg_db_role_setting SELECT d.oid, r.oid, '{work_mem=a lot}' FROM pg_database d, pg_roles r WHERE datname = current_database() AND rolname = 'refused'",
        r"refuses the setting work_mem of the role refused.*\(setting-refused\)",
    ),
    "values without an input": (
        "CREATE TABLE t AS SELECT adbin FROM pg_attrdef UNION ALL SELECT ev_action FROM (SELECT ev_action FROM pg_rewrite LIMIT 1) r",
        r"table public\.t holds values of pg_node_tree in the column adbin.*\(value-refused\)",
    ),
    "the name of one function of many": (
        "CREATE TABLE t AS SELECT oid::regproc AS f FROM pg_proc WHERE proname = 'abs' LIMIT 1",
        r"table public\.t holds values of regproc in the column f.*\(value-refused\)",
    ),
    "the names of such functions in an array": (
        "CREATE TABLE t AS SELECT ARRAY[NULL, oid::regproc] AS f FROM pg_proc WHERE proname = 'abs' LIMIT 1",
        r"table public\.t holds values of regproc in the column f.*\(value-refused\)",
    ),
    "the name of one operator of many, deep inside": (
        "CREATE DOMAIN op AS regoper; CREATE TYPE pair AS (a int, b op[]); CREATE DOMAIN pairs AS pair[];"
        "CREATE TABLE t AS SELECT ARRAY[ROW(1, ARRAY[oid::regoper::op])::pair]::pairs AS o FROM pg_operator WHERE oprname = '+' LIMIT 1",
        r"table public\.t holds values of regoper in the column o.*\(value-refused\)",
    ),
    "a grant to a role that is no more": (
        "CREATE ROLE gone; CREATE TABLE t AS SELECT '{gone=r/postgres}'::aclitem[] AS acl; DROP ROLE gone",
        r"table public\.t holds values of aclitem in the column acl.*\(value-refused\)",
    ),
    "rows that break a foreign key": (
        "CREATE TABLE t (id int PRIMARY KEY, parent int CONSTRAINT key REFERENCES t); ALTER TABLE t DISABLE TRIGGER ALL; INSERT INTO t VALUES (1, 2)",
        r"foreign key key of public\.t is not enforced, and rows break it.*\(foreign-key-broken\)",
    ),
    "an enum's hash": (
        "CREATE TYPE colour AS ENUM ('a'); CREATE TABLE t (c colour) PARTITION BY HASH (c)",
        r"table public\.t is partitioned by the hash of an enum.*\(hash-partition\)",
    ),
    "an enum's hash inside of other types": (
        "CREATE TYPE colour AS ENUM ('a'); CREATE DOMAIN paint AS colour[]; CREATE TYPE pair AS (n int, p paint);"
        "CREATE TABLE t (c pair) PARTITION BY HASH (c)",
        r"table public\.t is partitioned by the hash of an enum.*\(hash-partition\)",
    ),
    "the hash of a reference": (
        "CREATE TABLE t (c regclass) PARTITION BY HASH (c)",
        r"table public\.t is partitioned by the hash of a reference to an object.*\(hash-partition\)",
    ),
    "an event trigger of who lost power": (
        "CREATE ROLE refused SUPERUSER; CREATE FUNCTION f() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';"
        "CREATE EVENT TRIGGER on_end ON ddl_command_end EXECUTE FUNCTION f(); ALTER EVENT TRIGGER on_end OWNER TO refused; ALTER ROLE refused NOSUPERUSER",
        r"event trigger on_end belongs to refused, who is no superuser.*\(owner-superuser\)",
    ),
    "a foreign data wrapper of who lost power": (
        "CREATE ROLE refused SUPERUSER; CREATE FOREIGN DATA WRAPPER w; ALTER FOREIGN DATA WRAPPER w OWNER TO refused; ALTER ROLE refused NOSUPERUSER",
        r"foreign data wrapper w belongs to refused, who is no superuser.*\(owner-superuser\)",
    ),
    "a grantor who lost the schema": (
        "CREATE ROLE refused; CREATE SCHEMA s; GRANT USAGE ON SCHEMA s TO refused; CREATE FUNCTION s.f() RETURNS int LANGUAGE sql AS 'SELECT 1';"
        "GRANT EXECUTE ON FUNCTION s.f() TO refused WITH GRANT OPTION; SET ROLE refused; GRANT EXECUTE ON FUNCTION s.f() TO pg_monitor;"
        "RESET ROLE; REVOKE USAGE ON SCHEMA s FROM refused",
        r"role refused gave a privilege on the function s\.f\(\) and may not use the schema s.*\(grantor-schema\)",
    ),
    "a column that a parent got later": (
        "CREATE TABLE p (a int); CREATE TABLE c (b int) INHERITS (p); ALTER TABLE p ADD COLUMN d int", r"columns of public\.c do not stand.*\(column-order\)",
    ),
    "a parent that a table got later": (
        "CREATE TABLE p (a int); CREATE TABLE c (b int, a int); ALTER TABLE c INHERIT p", r"columns of public\.c do not stand.*\(column-order\)",
    ),
    "an inherited constraint that only the child has validated": (
        "CREATE TABLE p (a int); ALTER TABLE p ADD CONSTRAINT positive CHECK (a > 0) NOT VALID; CREATE TABLE c () INHERITS (p)",
        r"constraint positive is validated in public\.c, but not in public\.p.*\(constraint-validation\)",
    ),
    "a built-in search configuration": (
        "ALTER TEXT SEARCH CONFIGURATION pg_catalog.english ALTER MAPPING FOR asciiword WITH simple",
        r"text search configuration english \(changed-builtin\)",
    ),
    "a token more of a built-in search configuration": (
        "ALTER TEXT SEARCH CONFIGURATION pg_catalog.simple ADD MAPPING FOR tag WITH simple", r"text search configuration simple \(changed-builtin\)",
    ),
    "a built-in search dictionary": (
        "ALTER TEXT SEARCH DICTIONARY pg_catalog.english_stem (StopWords)", r"text search dictionary english_stem \(changed-builtin\)",
    ),
    "a grant on a built-in language": ("REVOKE USAGE ON LANGUAGE sql FROM PUBLIC", r"language sql \(its owner or grants\) \(changed-builtin\)"),
    "an operator in a built-in family": (
        "CREATE FUNCTION less(int, text) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT true';"
        "CREATE OPERATOR <<< (LEFTARG = int, RIGHTARG = text, FUNCTION = less);"
        "ALTER OPERATOR FAMILY integer_ops USING btree ADD OPERATOR 1 <<< (int, text)",
        r"operator 1 \(integer, text\) of operator family integer_ops.*\(changed-builtin\)",
    ),
    "a trigger on an extension's table": (
        "CREATE EXTENSION acme_config; CREATE FUNCTION own() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
        "CREATE TRIGGER own BEFORE INSERT ON acme_entry FOR EACH ROW EXECUTE FUNCTION own()",
        r"trigger own stands on public\.acme_entry, which belongs to the extension acme_config.*\(extension-changed\)",
    ),
    "an encoding Python does not know": (None, r"encoding EUC_TW, which cannot be copied.*\(encoding\)"),
}  # fmt: skip


def touched(cluster: Cluster) -> tuple[object, object]:
    """Everything a copy would make on the server first."""
    return (
        cluster.value("postgres", "SELECT string_agg(datname, ' ' ORDER BY 1) FROM pg_database"),
        cluster.value("postgres", "SELECT string_agg(rolname, ' ' ORDER BY 1) FROM pg_authid"),
    )


@pytest.fixture
def refused(cluster: Cluster) -> Iterator[Callable[[str | None], str]]:
    """Makes a source. It stays until the server goes: dropping many databases takes longer than the tests."""

    def make(statements: str | None) -> str:
        number = cluster.value("postgres", "SELECT count(*) FROM pg_database WHERE datname ~ '^refused_'")
        encoding = "" if statements else " ENCODING 'EUC_TW' LOCALE 'C'"
        cluster.execute("postgres", f"CREATE DATABASE refused_{number} TEMPLATE template0{encoding}")
        if statements:
            cluster.execute(f"refused_{number}", "SET allow_system_table_mods = on;" + statements)
        return cluster.conninfo(f"refused_{number}")

    yield make
    cluster.execute(
        "postgres",
        "UPDATE pg_authid SET rolname = rolname || oid WHERE rolname IN ('refused', 'gone', 'pg_refused');"
        "DELETE FROM pg_shseclabel",
    )


@pytest.mark.parametrize("reason", REFUSED)
def test_it_is_named_and_nothing_is_touched(
    second_cluster: Cluster, refused: Callable[[str | None], str], reason: str
) -> None:
    statements, message = REFUSED[reason]
    source = refused(statements)
    before = touched(second_cluster)
    for check_mode in (True, False):
        with pytest.raises(MigrationError, match=message):
            database_copy.run(
                {"source": source, "target": second_cluster.conninfo("refused"), "check_mode": check_mode},
                lambda progress: None,
            )
    assert touched(second_cluster) == before


def test_what_looks_like_it_is_copied(cluster: Cluster, clean_second: Cluster) -> None:
    """Multiple inheritance, dropped columns, partitions of another order, grants given and taken back are no obstacle."""
    cluster.execute("postgres", "DROP DATABASE IF EXISTS alike; CREATE DATABASE alike")
    cluster.execute(
        "alike",
        "CREATE TABLE p1 (a int, gone int, b int); ALTER TABLE p1 DROP gone; CREATE TABLE p2 (c int, b int);"
        "CREATE TABLE both_of (own int, c int) INHERITS (p1, p2); CREATE TABLE grandchild (more int) INHERITS (both_of);"
        "CREATE TABLE parted (a int, b int) PARTITION BY LIST (a); CREATE TABLE part (b int, a int);"
        "ALTER TABLE parted ATTACH PARTITION part FOR VALUES IN (1);"
        "ALTER TABLE parted ADD CONSTRAINT positive CHECK (a > 0) NOT VALID; ALTER TABLE part VALIDATE CONSTRAINT positive;"
        "REVOKE USAGE ON LANGUAGE sql FROM PUBLIC; GRANT USAGE ON LANGUAGE sql TO PUBLIC;"
        "CREATE EXTENSION btree_gin; CREATE EXTENSION btree_gist; CREATE EXTENSION citext; CREATE EXTENSION hstore;"
        "CREATE EXTENSION ltree; CREATE EXTENSION cube; CREATE EXTENSION seg; CREATE EXTENSION isn; CREATE EXTENSION intarray;"
        "CREATE EXTENSION pg_trgm; CREATE EXTENSION unaccent; CREATE EXTENSION dict_int; CREATE EXTENSION acme_config",
    )
    source, target = cluster.conninfo("alike"), clean_second.conninfo("alike")
    database_copy.run({"source": source, "target": target}, lambda progress: None)
    assert verification.run({"source": source, "target": target}, lambda progress: None)["differences"] == []
    cluster.execute("postgres", "DROP DATABASE alike")


# One object of a kind that holds no rows, and how it goes away again.
KINDS = {
    "CREATE COLLATION c (locale = 'C')": "DROP COLLATION c",
    "CREATE TEXT SEARCH CONFIGURATION c (COPY = simple)": "DROP TEXT SEARCH CONFIGURATION c",
    "CREATE CAST (text AS int) WITH INOUT": "DROP CAST (text AS int)",
    "CREATE FOREIGN DATA WRAPPER w": "DROP FOREIGN DATA WRAPPER w",
    "CREATE ACCESS METHOD m TYPE TABLE HANDLER heap_tableam_handler": "DROP ACCESS METHOD m",
    "CREATE OPERATOR FAMILY f USING gin": "DROP OPERATOR FAMILY f USING gin",
    "CREATE CONVERSION c FOR 'UTF8' TO 'LATIN1' FROM utf8_to_iso8859_1": "DROP CONVERSION c",
}


def test_a_target_with_one_object_of_any_kind_is_somebodys(cluster: Cluster, clean_second: Cluster) -> None:
    clean_second.execute("postgres", "CREATE DATABASE theirs TEMPLATE template0")
    for made, undone in KINDS.items():
        clean_second.execute("theirs", made)
        with pytest.raises(MigrationError, match="target-empty"):
            database_copy.run(
                {"source": cluster.conninfo("postgres"), "target": clean_second.conninfo("theirs"), "check_mode": True},
                lambda progress: None,
            )
        clean_second.execute("theirs", undone)
    result = database_copy.run(
        {"source": cluster.conninfo("postgres"), "target": clean_second.conninfo("theirs"), "check_mode": True},
        lambda progress: None,
    )
    assert result["target_before"] == "empty"


def test_a_verifier_of_a_refused_role_is_not_shown(
    second_cluster: Cluster, refused: Callable[[str | None], str]
) -> None:
    source = refused(
        "CREATE ROLE refused LOGIN PASSWORD 'canary'; UPDATE pg_authid SET rolname = 'pg_refused' WHERE rolname = 'refused';"
        "CREATE SCHEMA s AUTHORIZATION pg_refused"
    )
    with pytest.raises(MigrationError, match="role-refused") as raised:
        database_copy.run({"source": source, "target": second_cluster.conninfo("refused")}, lambda progress: None)
    assert "SCRAM" not in str(raised.value)
    with psycopg.connect(second_cluster.conninfo()) as connection:
        row = connection.execute("SELECT count(*) FROM pg_authid WHERE rolname = 'pg_refused'").fetchone()
    assert row == (0,)
