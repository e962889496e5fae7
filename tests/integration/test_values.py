"""Values of every type arrive exactly, and the smallest difference between two values of a type is found.

One table per pair: the first value is copied, then replaced by the second on the copy, and all are verified at once.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from ireporter import database_copy, verification

from .conftest import Cluster, remove_all

pytestmark = pytest.mark.integration

SETUP = """
CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION ltree; CREATE EXTENSION cube; CREATE EXTENSION seg;
CREATE EXTENSION isn; CREATE EXTENSION intarray; CREATE EXTENSION lo;
CREATE TYPE colour AS ENUM ('red', 'green'); CREATE TYPE pair AS (a int, b text); CREATE TYPE colours AS RANGE (subtype = colour);
CREATE DOMAIN amount AS numeric; CREATE DOMAIN pairs AS pair[]; CREATE DOMAIN sheet AS xml; CREATE TYPE two AS (f float8, n numeric);
CREATE TYPE named AS (r regclass); CREATE TYPE floats AS RANGE (subtype = float8, multirange_type_name = many_floats);
CREATE DOMAIN picture AS bytea; CREATE TABLE thing (); CREATE TABLE other (); CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
"""

# A bytea that is not hashed as part of its row.
LONG = "decode(repeat('0123456789abcdef01', 1000), 'hex')"

# A type, the value that is copied, and the value most like it.
PAIRS = [
    ("float8", "'-0'", "'0'"), ("float4", "'-0'", "'0'"), ("float8", "'NaN'", "'inf'::float8 - 'inf'::float8"),
    ("float8", "'Infinity'", "1.7976931348623157e308"), ("float8", "5e-324", "0"), ("float8", "0.1", "0.1::float4"),
    ("numeric", "1.0", "1.00"), ("numeric", "'NaN'", "'Infinity'"), ("numeric(5,2)", "1", "1.01"), ("numeric", "0", "0.0"),
    ("numeric", "1e-1000", "0"), ("int2", "-32768", "0"), ("int8", "9223372036854775807", "9223372036854775806"), ("bool", "false", "NULL"),
    ("text", "''", "NULL"), ("text", "E'a\\nb'", "E'a\\r\\nb'"), ("text", "E'\\u00e9'", "E'e\\u0301'"), ("text", "'\\N'", "NULL"),
    ("varchar(9)", "'a'", "'a '"), ("char(3)", "'a'", "'b'"), ("char(3)", "''", "NULL"), ("name", "''", "NULL"), ('"char"', "''", "NULL"),
    ("bytea", "''", "NULL"), ("bytea", "'\\x00'", "'\\x0000'"), ("bytea", LONG, f"sha256({LONG})"), ("bytea", LONG, f"set_byte({LONG}, 8999, 0)"),
    ("bytea", LONG, f"set_byte({LONG}, 0, 0)"), ("bytea", LONG, f"{LONG} || '\\x00'"), ("bytea", LONG, "NULL"), ("bytea", LONG, "''"),
    ("bytea", f"substr({LONG}, 1, 1024)", f"substr({LONG}, 1, 1025)"), ("bytea", f"substr({LONG}, 1, 1025)", f"sha256(substr({LONG}, 1, 1025))"),
    ("bytea", f"set_byte(substr({LONG}, 1, 1024), 1023, 1)", f"set_byte(substr({LONG}, 1, 1024), 1023, 2)"),
    ("picture", LONG, f"set_byte({LONG}, 8999, 0)"), ("picture", LONG, f"sha256({LONG})"), ("picture", "''", "NULL"),
    ("bytea[]", f"ARRAY[{LONG}, NULL]", f"ARRAY[NULL, {LONG}]"), ("text", "repeat('a', 9000)", "repeat('a', 8999) || 'b'"), ("bit(3)", "B'101'", "B'100'"),
    ("varbit", "B'1'", "B'10'"), ("varbit", "B''", "NULL"),
    ("text[]", "'{NULL}'", "'{\"NULL\"}'"), ("text[]", "'{}'", "NULL"), ("text[]", "'{}'", "'{\"\"}'"), ("int[]", "'{{1,2}}'", "'{1,2}'"),
    ("int[]", "'[0:1]={1,2}'", "'{1,2}'"), ("float8[]", "'{-0}'", "'{0}'"), ("numeric[]", "'{1.0}'", "'{1.00}'"),
    ("json", "'{\"a\":1,\"a\":2}'", "'{\"a\":2}'"), ("json", "'1'", "' 1'"), ("json", "'null'", "NULL"), ("jsonb", "'1.0'", "'1.00'"),
    ("jsonb", "'null'", "NULL"), ("jsonb", "'\"1\"'", "'1'"), ("json[]", "'{\"1\"}'", "'{\" 1\"}'"), ("jsonpath", "'$.a'", "'strict $.a'"),
    ("xml", "'<a/>'", "'<a></a>'"), ("xml", "'<?xml version=\"1.0\"?><a/>'", "'<a/>'"), ("xml", "''", "NULL"),
    ("xml", "'<?xml version=\"1.0\" encoding=\"EUC-JP\"?><a>あ</a>'", "'<?xml version=\"1.0\" encoding=\"UTF-8\"?><a>あ</a>'"),
    ("xml[]", "ARRAY['<?xml version=\"1.0\"?><a/>'::xml, NULL]", "ARRAY['<a/>'::xml, NULL]"), ("sheet", "'<?xml version=\"1.0\"?><a/>'", "'<a/>'"),
    ("interval", "'1 day'", "'24:00'"), ("interval", "'1 mon'", "'30 days'"), ("timetz", "'12:00+00'", "'13:00+01'"), ("time", "'24:00'", "'00:00'"),
    ("timestamptz", "'infinity'", "'294276-12-31 23:59:59.999999+00'"), ("timestamp", "'4713-01-01 BC'", "'4713-01-01'"),
    ("date", "'-infinity'", "'4713-01-01 BC'"), ("money", "1.00", "1.01"), ("inet", "'10.0.0.1'", "'10.0.0.1/31'"), ("cidr", "'10.0.0.0/8'", "'10.0.0.0/9'"),
    ("inet", "'::ffff:10.0.0.1'", "'10.0.0.1'"), ("macaddr", "'08:00:2b:01:02:03'", "'08:00:2b:01:02:04'"),
    ("macaddr8", "'08:00:2b:ff:fe:01:02:03'", "'08:00:2b:ff:fe:01:02:04'"), ("uuid", "'00000000-0000-0000-0000-000000000000'", "NULL"),
    ("point", "'(0,0)'", "'(-0,0)'"), ("point", "'(NaN,0)'", "'(0,NaN)'"), ("lseg", "'(0,0),(1,1)'", "'(1,1),(0,0)'"), ("box", "'(0,0),(1,1)'", "'(-0,0),(1,1)'"),
    ("path", "'[(0,0),(1,1)]'", "'((0,0),(1,1))'"), ("polygon", "'(0,0),(1,1),(1,0)'", "'(1,1),(1,0),(0,0)'"), ("circle", "'<(0,0),1>'", "'<(-0,0),1>'"),
    ("line", "'{1,2,3}'", "'{2,4,6}'"), ("tsvector", "'a:1'", "'a:1A'"), ("tsvector", "''", "NULL"), ("tsquery", "'a & b'", "'a & !b'"),
    ("int4range", "'empty'", "NULL"), ("numrange", "'[1.0,2]'", "'[1.00,2]'"), ("numrange", "'[1,2]'", "'[1,2)'"), ("tstzrange", "'[,]'", "'[-infinity,infinity]'"),
    ("int4multirange", "'{}'", "NULL"), ("nummultirange", "'{[1.0,2]}'", "'{[1.00,2]}'"), ("floats", "'[-0,1]'", "'[0,1]'"),
    ("many_floats", "'{[-0,1]}'", "'{[0,1]}'"), ("pg_lsn", "'0/1'", "'0/2'"), ("xid8", "'1'", "'2'"), ("xid", "'1'", "'2'"), ("cid", "'1'", "'2'"), ("tid", "'(0,1)'", "'(1,0)'"),
    ("txid_snapshot", "'10:20:10,14'", "'10:20:10,15'"), ("pg_snapshot", "'10:20:10,14'", "'10:20:10,15'"), ("oid", "0", "NULL"),
    ("oidvector", "'1 2'", "'1 3'"), ("int2vector", "'1 2'", "'1 3'"), ("refcursor", "''", "NULL"),
    ("regclass", "'thing'", "'other'"), ("regclass[]", "'{thing,NULL}'", "'{other,NULL}'"), ("regprocedure", "'f(int)'", "'lower(text)'"), ("regproc", "'f'", "'-'"),
    ("regtype", "'colour'", "'colour[]'"), ("regrole", "'postgres'", "'pg_monitor'"), ("regnamespace", "'public'", "'pg_catalog'"),
    ("regoper", "'||/'", "'|/'"), ("regoperator", "'+(int,int)'", "'-(int,int)'"), ("regconfig", "'simple'", "'english'"), ("regdictionary", "'simple'", "'english_stem'"),
    ("regcollation", "'\"C\"'", "'\"POSIX\"'"), ("aclitem", "'postgres=r/postgres'", "'postgres=r*/postgres'"), ("aclitem[]", "'{}'", "NULL"),
    ("hstore", "'a=>NULL'", "'a=>\"NULL\"'"), ("hstore", "''", "NULL"), ("citext", "'a'", "'A'"), ("ltree", "'a.b'", "'a.B'"), ("lquery", "'a.*'", "'a.*{1}'"),
    ("cube", "'(-0)'", "'(0)'"), ("seg", "'1.0'", "'1.00'"), ("isbn", "'0-393-04002-X'", "'0-393-04002-X!'"), ("query_int", "'1&2'", "'1&!2'"), ("lo", "1", "2"),
    ("colour", "'red'", "'green'"), ("colour[]", "'{red,NULL}'", "'{red,green}'"), ("colours", "'[red,green]'", "'[red,green)'"), ("amount", "1.0", "1.00"),
    ("amount[]", "'{1.0}'", "'{1.00}'"), ("pair", "'(,)'", "NULL"), ("pair", "'(1,)'", "'(1,\"\")'"), ("pair[]", "'{\"(1,)\"}'", "'{\"(1,\\\"\\\")\"}'"),
    ("pairs", "'{\"(,)\"}'", "'{NULL}'"), ("two", "'(-0,1.0)'", "'(0,1.0)'"), ("two", "'(1,1.0)'", "'(1,1.00)'"), ("named", "'(thing)'", "'(other)'"),
]  # fmt: skip
TABLES = [(f"pair_{number}", *pair) for number, pair in enumerate(PAIRS)]


@pytest.fixture(scope="module")
def named(cluster: Cluster, second_cluster: Cluster) -> Iterator[set[tuple[str, str]]]:
    """The differences after every value was replaced on the copy; before it there was none, in any representation."""
    cluster.execute("postgres", "DROP DATABASE IF EXISTS pairs")
    cluster.execute("postgres", "CREATE DATABASE pairs")
    cluster.execute("pairs", SETUP)
    cluster.execute(
        "pairs",
        "".join(
            f"CREATE TABLE {table} (id int PRIMARY KEY, v {kind}); INSERT INTO {table} VALUES (1, {value}), (2, NULL);\n"
            for table, kind, value, _ in TABLES
        ),
    )
    source, target = cluster.conninfo("pairs"), second_cluster.conninfo("pairs")
    database_copy.run({"source": source, "target": target}, lambda progress: None)
    assert differences(source, target) == []
    dumps = [
        subprocess.run(["pg_dump", "-d", side], capture_output=True, check=True).stdout for side in (source, target)
    ]
    lines = [[line for line in text.splitlines() if b"restrict " not in line] for text in dumps]
    assert lines[0] == lines[1]
    second_cluster.execute(
        "pairs", "".join(f"UPDATE {table} SET v = {value} WHERE id = 1;\n" for table, _, _, value in TABLES)
    )
    found = differences(source, target)
    yield {(row["kind"], row["object"]) for row in found}
    cluster.execute("postgres", "DROP DATABASE pairs")
    remove_all(second_cluster)


def differences(source: str, target: str) -> list[dict[str, str]]:
    rows = verification.run({"source": source, "target": target}, lambda progress: None)["differences"]
    assert isinstance(rows, list)
    return rows


@pytest.mark.parametrize("pair", TABLES, ids=" ".join)
def test_two_values_that_are_alike_differ(named: set[tuple[str, str]], pair: tuple[str, str, str, str]) -> None:
    assert ("table data", f"public.{pair[0]}") in named


def test_long_values_that_are_swapped_differ_and_storage_is_no_difference(
    cluster: Cluster, clean_second: Cluster
) -> None:
    cluster.execute("postgres", "DROP DATABASE IF EXISTS long; CREATE DATABASE long")
    for table in ("in_rows", "in_columns", "stored"):
        cluster.execute(
            "long",
            f"CREATE TABLE {table} (id int PRIMARY KEY, a bytea, b bytea);"
            f"INSERT INTO {table} SELECT i, convert_to(repeat(i || 'a', 50000), 'UTF8'), convert_to(repeat(i || 'b', 50000), 'UTF8')"
            " FROM generate_series(1, 4) i",
        )
    source, target = cluster.conninfo("long"), clean_second.conninfo("long")
    database_copy.run({"source": source, "target": target}, lambda progress: None)
    clean_second.execute("long", "ALTER TABLE stored ALTER a SET STORAGE EXTERNAL; UPDATE stored SET a = a || ''")
    clean_second.execute("long", "ALTER TABLE stored ALTER a SET STORAGE EXTENDED")
    sizes = "SELECT sum(pg_column_size(a)) FROM stored"
    assert clean_second.value("long", sizes) > 10 * cluster.value("long", sizes)
    assert differences(source, target) == []
    verified = verification.run({"source": source, "target": target}, lambda progress: None)
    assert 3 * 4 * 200_000 < int(str(verified["bytes_verified"])) < 3 * 4 * 200_300
    clean_second.execute(
        "long",
        "UPDATE in_rows SET a = (SELECT o.a FROM in_rows o WHERE o.id = 3 - in_rows.id) WHERE id < 3;"
        "UPDATE in_columns SET a = b, b = a WHERE id = 4",
    )
    named = {row["object"] for row in differences(source, target)}
    assert named == {
        *("public.in_rows", "public.in_rows: id=1", "public.in_rows: id=2"),
        *("public.in_columns", "public.in_columns: id=4"),
    }
    cluster.execute("postgres", "DROP DATABASE long")


def test_pages_that_are_swapped_within_a_large_object_differ(cluster: Cluster, clean_second: Cluster) -> None:
    cluster.execute("postgres", "DROP DATABASE IF EXISTS pages; CREATE DATABASE pages")
    # Many different ones, as a digest that only adds the hashes of page and number would find some by chance.
    first, second = (f"convert_to(repeat(md5('{page}' || i), 64), 'UTF8')" for page in "ab")
    cluster.execute("pages", f"SELECT lo_from_bytea(7000 + i, {first} || {second}) FROM generate_series(1, 32) i")
    source, target = cluster.conninfo("pages"), clean_second.conninfo("pages")
    database_copy.run({"source": source, "target": target}, lambda progress: None)
    assert differences(source, target) == []
    clean_second.execute("pages", f"SELECT lo_put(7000 + i, 0, {second} || {first}) FROM generate_series(1, 32) i")
    named = {(row["kind"], row["object"]) for row in differences(source, target)}
    assert named == {("large object", str(7000 + number)) for number in range(1, 33)}
    cluster.execute("postgres", "DROP DATABASE pages")


def test_a_nan_arrives_beside_a_column_that_travels_as_text(cluster: Cluster, clean_second: Cluster) -> None:
    cluster.execute("postgres", "DROP DATABASE IF EXISTS nan; CREATE DATABASE nan")
    cluster.execute(
        "nan",
        "CREATE TYPE colour AS ENUM ('red'); CREATE TABLE t (id int PRIMARY KEY, cs colour[], f float8, p point, fs float8[]);"
        "INSERT INTO t SELECT i, '{red}', n, point(n, 1), ARRAY[n, '-0']"
        " FROM (SELECT 'inf'::float8 - 'inf'::float8) x (n), generate_series(1, 3) i",
    )
    source, target = cluster.conninfo("nan"), clean_second.conninfo("nan")
    database_copy.run({"source": source, "target": target}, lambda progress: None)
    assert differences(source, target) == []
    for row, change in enumerate(("f = 1", "p = '(1,NaN)'", "fs = '{NaN,0}'"), 1):
        clean_second.execute("nan", f"UPDATE t SET {change} WHERE id = {row}")
    named = {row["object"] for row in differences(source, target) if row["kind"] == "row"}
    assert named == {"public.t: id=1", "public.t: id=2", "public.t: id=3"}
    cluster.execute("postgres", "DROP DATABASE nan")


def test_a_table_that_only_an_extension_could_fill_is_compared_by_its_condition(
    cluster: Cluster, clean_second: Cluster
) -> None:
    cluster.execute("postgres", "DROP DATABASE IF EXISTS configured; CREATE DATABASE configured")
    cluster.execute("configured", "CREATE EXTENSION acme_config; DELETE FROM acme_entry; DELETE FROM acme_kind")
    source, target = cluster.conninfo("configured"), clean_second.conninfo("configured")
    database_copy.run({"source": source, "target": target}, lambda progress: None)
    assert differences(source, target) == []
    assert clean_second.value("configured", "SELECT count(*) FROM acme_kind") == 0
    cluster.execute("postgres", "DROP DATABASE configured")
