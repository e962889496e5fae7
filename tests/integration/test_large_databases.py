"""Databases that are large in one direction: values of 200 MB, two thousand tables. Only with script/test --all."""

from __future__ import annotations

import pytest
from ireporter import database_copy, verification

from .conftest import Cluster, run_cluster

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def copy_and_compare(source: str, target: str) -> tuple[dict[str, object], dict[str, object]]:
    copied = database_copy.run({"source": source, "target": target}, lambda progress: None)
    return copied, verification.run({"source": source, "target": target}, lambda progress: None)


def test_values_of_200_mb(cluster: Cluster, clean_second: Cluster) -> None:
    """In binary and in text, beside a type that makes the table travel as text, compressed and not, also as large object."""
    cluster.execute("postgres", "DROP DATABASE IF EXISTS heavy; CREATE DATABASE heavy")
    cluster.execute(
        "heavy",
        "CREATE TYPE colour AS ENUM ('red'); CREATE TABLE binary_form (id int PRIMARY KEY, raw bytea, body text);"
        "ALTER TABLE binary_form ALTER raw SET STORAGE EXTERNAL;"
        "INSERT INTO binary_form SELECT 1, convert_to(repeat(md5('a'), 6553600), 'UTF8'), repeat('ソ表', 34952533);"
        "CREATE TABLE text_form (id int PRIMARY KEY, cs colour[], raw bytea, doc xml, js jsonb);"
        "INSERT INTO text_form SELECT 1, '{red}', raw, xmlparse(CONTENT '<a>' || repeat('x', 1000000) || '</a>'),"
        " to_jsonb(repeat('y', 200000000)) FROM binary_form;"
        "SELECT lo_from_bytea(1, raw) FROM binary_form",
    )
    source, target = cluster.conninfo("heavy"), clean_second.conninfo("heavy")
    copied, verified = copy_and_compare(source, target)
    assert verified["differences"] == []
    assert copied["large_objects"] == 1
    assert int(str(verified["bytes_verified"])) > 800_000_000
    clean_second.execute("heavy", "UPDATE binary_form SET raw = set_byte(raw, 209715199, 0)")
    clean_second.execute("heavy", "SELECT lo_put(1, 209715199, '\\x00')")
    found = verification.run({"source": source, "target": target}, lambda progress: None)["differences"]
    assert isinstance(found, list)
    assert {(row["kind"], row["object"]) for row in found} == {
        ("table data", "public.binary_form"), ("row", "public.binary_form: id=1"), ("large object", "1"),
    }  # fmt: skip
    cluster.execute("postgres", "DROP DATABASE heavy")


def test_two_thousand_tables() -> None:
    """With keys, sequences and indexes, on servers with hardly more locks than pg_dump itself needs for them."""
    few_locks = "max_locks_per_transaction = 20"
    with run_cluster(settings=few_locks) as cluster, run_cluster(settings=few_locks) as second_cluster:
        cluster.execute("postgres", "CREATE DATABASE many")
        cluster.execute(
            "many",
            "".join(
                f"CREATE TABLE t{number} (id serial PRIMARY KEY, body text, other int REFERENCES t{max(0, number - 1)});"
                f"CREATE INDEX ON t{number} (body); CREATE INDEX ON t{number} (other);"
                f"INSERT INTO t{number} (body) VALUES ('{number}');\n"
                for number in range(2000)
            ).replace("REFERENCES t0", "", 1),
        )
        copied, verified = copy_and_compare(cluster.conninfo("many"), second_cluster.conninfo("many"))
    assert (copied["tables"], copied["rows"], copied["sequences"]) == (2000, 2000, 2000)
    assert verified["differences"] == []
    assert verified["tables_verified"] == 2000
