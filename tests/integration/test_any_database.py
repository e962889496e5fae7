"""A database with every object kind that pg_dump knows arrives as it was, and what pg_dump does not write down, too."""

from __future__ import annotations

import difflib
import re
import subprocess
from collections.abc import Iterator

import pytest
from ireporter import database_copy, verification
from ireporter.errors import MigrationError

from .conftest import Cluster, remove_all, run_cluster

pytestmark = pytest.mark.integration


def copy(source: str, target: str, **options: object) -> dict[str, object]:
    return database_copy.run({"source": source, "target": target, **options}, lambda progress: None)


def differences(source: str, target: str) -> list[dict[str, str]]:
    rows = verification.run({"source": source, "target": target}, lambda progress: None)["differences"]
    assert isinstance(rows, list)
    return rows


def output(*argv: str) -> list[str]:
    text = subprocess.run(argv, capture_output=True, check=True).stdout.decode()
    return [line for line in text.splitlines() if not re.match(r"\\(un)?restrict ", line)]


def unlike(left: list[str], right: list[str]) -> list[str]:
    return [
        line for line in difflib.unified_diff(left, right, lineterm="", n=0) if not re.match(r"---|\+\+\+|@@", line)
    ]


def globals_of(cluster: Cluster) -> list[str]:
    lines = output("pg_dumpall", "--globals-only", "--dbname", cluster.conninfo())
    return sorted(line for line in lines if "any_" in line)


@pytest.fixture(scope="module")
def arrived(
    cluster: Cluster, second_cluster: Cluster, any_database: str
) -> Iterator[tuple[str, str, dict[str, object]]]:
    """Connection strings of source and copy, and what the copy said."""
    source, target = cluster.conninfo(any_database), second_cluster.conninfo(any_database)
    yield source, target, copy(source, target)
    remove_all(second_cluster)


def test_nothing_differs(arrived: tuple[str, str, dict[str, object]]) -> None:
    source, target, result = arrived
    assert differences(source, target) == []
    assert result["notes"] == []


def test_pg_dump_of_both_agrees(arrived: tuple[str, str, dict[str, object]]) -> None:
    source, target, _ = arrived
    assert unlike(output("pg_dump", "--dbname", source), output("pg_dump", "--dbname", target)) == []


def test_pg_dump_of_the_databases_themselves_agrees_but_for_the_mark_of_a_copy(
    arrived: tuple[str, str, dict[str, object]],
) -> None:
    source, target, _ = arrived
    only = ("--create", "--schema-only", "--exclude-schema=*")
    found = unlike(output("pg_dump", *only, "--dbname", source), output("pg_dump", *only, "--dbname", target))
    assert len(found) == 1
    assert re.fullmatch(r"\+ALTER DATABASE any_database SET \"ireporter_migration.copy_of\" TO '\d+/\d+';", found[0])


def test_roles_memberships_and_grants_on_parameters_agree(
    arrived: tuple[str, str, dict[str, object]], cluster: Cluster, second_cluster: Cluster
) -> None:
    assert globals_of(cluster) == globals_of(second_cluster)
    assert "GRANT SET ON PARAMETER log_statement TO any_app;" in globals_of(second_cluster)


@pytest.mark.parametrize("role", ["any_named_in_a_value", "any_named_in_a_grant_value", "any_subscriber", "any_mapped"])
def test_a_role_that_only_a_value_or_a_shared_object_names_is_made(
    arrived: tuple[str, str, dict[str, object]], role: str
) -> None:
    created = arrived[2]["roles_created"]
    assert isinstance(created, list)
    assert role in created


def test_extensions_keep_version_and_owner(
    arrived: tuple[str, str, dict[str, object]], cluster: Cluster, second_cluster: Cluster, any_database: str
) -> None:
    listing = "SELECT string_agg(concat_ws(' ', extname, extversion, extowner::regrole), ', ' ORDER BY extname) FROM pg_extension"
    found = second_cluster.value(any_database, listing)
    assert found == cluster.value(any_database, listing)
    assert "acme_config 1.0 postgres" in str(found)
    assert "hstore 1.8 any_extension_owner" in str(found)
    assert "pg_trgm 1.5 postgres" in str(found)
    # The owner's dependency is there: a role that owns an extension cannot be dropped.
    dependent = (
        "SELECT count(*) FROM pg_shdepend WHERE classid = 'pg_extension'::regclass"
        " AND refobjid = 'any_extension_owner'::regrole"
    )
    assert second_cluster.value(any_database, dependent) == 1


def test_rows_of_an_extensions_configuration_arrive_untouched_by_its_triggers(
    arrived: tuple[str, str, dict[str, object]], second_cluster: Cluster, any_database: str
) -> None:
    notes = "SELECT string_agg(note, ' ' ORDER BY id) FROM rare.acme_entry"
    assert second_cluster.value(any_database, notes) == "built in ours! more!"


def test_rows_that_their_definitions_would_refuse_today_arrive(
    arrived: tuple[str, str, dict[str, object]], second_cluster: Cluster, any_database: str
) -> None:
    stale = "SELECT string_agg(id || ' ' || twice, ', ' ORDER BY id) FROM public.stale"
    assert second_cluster.value(any_database, stale) == "1 2, 20 40"
    with second_cluster.connect(any_database) as inside:
        for refused in (
            "INSERT INTO public.stale (id) VALUES (11)",
            "INSERT INTO public.stale (id, odd) VALUES (2, 2)",
        ):
            with pytest.raises(Exception, match="violates check constraint"):
                inside.execute(refused)
        inside.execute("SET search_path = public")
        with pytest.raises(Exception, match="violates check constraint"):
            inside.execute("INSERT INTO of_domain VALUES (3)")
        inside.execute("BEGIN; INSERT INTO public.stale (id, odd) VALUES (3, 1)")
        row = inside.execute("SELECT twice FROM public.stale WHERE id = 3").fetchone()
        assert row == (9,)
        inside.execute("ROLLBACK")


def test_a_foreign_key_that_is_not_enforced_stays_so(
    arrived: tuple[str, str, dict[str, object]], second_cluster: Cluster, any_database: str
) -> None:
    states = (
        "SELECT string_agg(DISTINCT tgenabled::text, '') FROM pg_trigger WHERE tgrelid = 'public.unenforced'::regclass"
    )
    assert second_cluster.value(any_database, states) == "D"


def test_a_copy_with_a_subscription_and_the_template_mark_is_replaced(
    arrived: tuple[str, str, dict[str, object]], second_cluster: Cluster, any_database: str
) -> None:
    source, target, _ = arrived
    assert copy(source, target)["changed"] is False
    second_cluster.execute(any_database, "DELETE FROM public.allowed")
    assert copy(source, target, replace=True)["changed"] is True
    assert differences(source, target) == []


def test_the_first_superuser_has_another_name_on_the_target(cluster: Cluster) -> None:
    cluster.execute(
        "postgres", "DROP DATABASE IF EXISTS owned; CREATE ROLE owned_owner; CREATE DATABASE owned OWNER owned_owner"
    )
    cluster.execute("owned", "CREATE TEXT SEARCH CONFIGURATION searching (COPY = simple)")
    with run_cluster(superuser="root_of_all") as target:
        result = copy(cluster.conninfo("owned"), target.conninfo("owned"))
        assert result["roles_created"] == ["owned_owner", "postgres"]
        assert differences(cluster.conninfo("owned"), target.conninfo("owned")) == []
    cluster.execute("postgres", "DROP DATABASE owned; DROP ROLE owned_owner")


def test_roles_that_values_name_inside_of_other_types_come_along(cluster: Cluster, clean_second: Cluster) -> None:
    names = [f"inside_{number}" for number in range(1, 8)]
    cluster.execute("postgres", "CREATE DATABASE inside; " + "; ".join(f"CREATE ROLE {name}" for name in names))
    cluster.execute(
        "inside",
        "CREATE DOMAIN who AS regrole; CREATE DOMAIN someone AS who; CREATE TYPE pair AS (n int, w who, acl aclitem[]);"
        "CREATE DOMAIN pairs AS pair[]; CREATE TABLE a (w someone); INSERT INTO a VALUES ('inside_1'), (NULL);"
        'CREATE TABLE b (p pair, "odd ""name" pairs); INSERT INTO b (p) VALUES (NULL), (ROW(1, \'inside_2\', NULL));'
        "INSERT INTO b VALUES (NULL, ARRAY[NULL, ROW(1, 'inside_3', '{inside_4=r/inside_5}')]::pair[]);"
        "CREATE TABLE c (w who[]); INSERT INTO c VALUES ('{NULL,inside_6}'); CREATE TABLE whole (b b);"
        "INSERT INTO whole VALUES (ROW(ROW(2, 'inside_7', '{}'), NULL))",
    )
    source, target = cluster.conninfo("inside"), clean_second.conninfo("inside")
    try:
        assert copy(source, target)["roles_created"] == names
        assert differences(source, target) == []
    finally:
        cluster.execute("postgres", "DROP DATABASE inside; " + "; ".join(f"DROP ROLE {name}" for name in names))


def test_the_target_s_first_superuser_is_an_ordinary_role_of_the_source(cluster: Cluster) -> None:
    cluster.execute("postgres", "CREATE DATABASE owned; CREATE ROLE root_of_all LOGIN")
    cluster.execute("owned", "CREATE TABLE t (); ALTER TABLE t OWNER TO root_of_all")
    source = cluster.conninfo("owned")
    try:
        with run_cluster(superuser="root_of_all") as target:
            for check_mode in (True, False):
                with pytest.raises(
                    MigrationError, match=r"root_of_all exists on the target, but is SUPERUSER.*role-clash"
                ):
                    copy(source, target.conninfo("owned"), check_mode=check_mode)
            # Made by other means, it is found.
            target.execute("postgres", "CREATE DATABASE owned")
            target.execute("owned", "CREATE TABLE t ()")
            found = differences(source, target.conninfo("owned"))
            assert "root_of_all: superuser" in {row["object"] for row in found}
            target.execute("postgres", "DROP DATABASE owned")
            # One with the same power, whose settings would have to be changed.
            cluster.execute(
                "postgres",
                "ALTER ROLE root_of_all SUPERUSER CREATEROLE CREATEDB REPLICATION BYPASSRLS; ALTER ROLE root_of_all SET work_mem = '1MB'",
            )
            with pytest.raises(MigrationError, match=r"root_of_all is the target's first superuser.*role-clash"):
                copy(source, target.conninfo("owned"))
            cluster.execute("postgres", "ALTER ROLE root_of_all RESET work_mem")
            copy(source, target.conninfo("owned"))
            assert differences(source, target.conninfo("owned")) == []
    finally:
        cluster.execute("postgres", "DROP DATABASE owned; DROP ROLE root_of_all")


def test_the_source_s_first_superuser_is_an_ordinary_role_of_the_target(cluster: Cluster) -> None:
    cluster.execute("postgres", "CREATE DATABASE owned; CREATE ROLE owned_group; GRANT owned_group TO postgres")
    cluster.execute("owned", "CREATE FUNCTION f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'")
    cluster.execute("owned", "ALTER ROLE postgres IN DATABASE owned SET work_mem = '1MB'")
    source = cluster.conninfo("owned")
    try:
        with run_cluster(superuser="root_of_all") as target:
            target.execute("postgres", "CREATE ROLE postgres LOGIN")
            with pytest.raises(MigrationError, match=r"postgres exists on the target, but is NOSUPERUSER.*role-clash"):
                copy(source, target.conninfo("owned"))
            target.execute("postgres", "ALTER ROLE postgres SUPERUSER CREATEROLE CREATEDB REPLICATION BYPASSRLS")
            copy(source, target.conninfo("owned"))
            assert differences(source, target.conninfo("owned")) == []
            target.execute("postgres", "ALTER ROLE postgres NOSUPERUSER")
            found = differences(source, target.conninfo("owned"))
            assert {row["object"] for row in found} == {"postgres: superuser"}
    finally:
        cluster.execute("postgres", "DROP DATABASE owned; DROP ROLE owned_group")


def test_settings_of_the_first_superuser_in_the_database_are_compared(cluster: Cluster, clean_second: Cluster) -> None:
    cluster.execute("postgres", "CREATE DATABASE owned; ALTER ROLE postgres IN DATABASE owned SET work_mem = '1MB'")
    source, target = cluster.conninfo("owned"), clean_second.conninfo("owned")
    try:
        copy(source, target)
        assert differences(source, target) == []
        clean_second.execute("postgres", "ALTER ROLE postgres IN DATABASE owned SET work_mem = '2MB'")
        assert [row["object"] for row in differences(source, target)] == ["postgres in the database: work_mem"]
    finally:
        cluster.execute("postgres", "DROP DATABASE owned")


def test_settings_of_the_database_do_not_change_what_is_copied(cluster: Cluster, clean_second: Cluster) -> None:
    cluster.execute("postgres", "CREATE ROLE acting; CREATE DATABASE settings")
    cluster.execute(
        "settings",
        "CREATE TYPE colour AS ENUM ('red'); CREATE TABLE t (a colour[], b text[]); INSERT INTO t VALUES ('{NULL,red}', '{NULL}');"
        "CREATE VIEW never AS SELECT 1 AS one FROM t WHERE a = NULL;"
        "ALTER DATABASE settings SET role = acting; ALTER DATABASE settings SET array_nulls = off;"
        "ALTER DATABASE settings SET transform_null_equals = on; ALTER DATABASE settings SET extra_float_digits = -15",
    )
    clean_second.execute("postgres", "ALTER SYSTEM SET array_nulls = off; ALTER SYSTEM SET transform_null_equals = on")
    clean_second.execute("postgres", "SELECT pg_reload_conf()")
    try:
        copy(cluster.conninfo("settings"), clean_second.conninfo("settings"))
        assert differences(cluster.conninfo("settings"), clean_second.conninfo("settings")) == []
    finally:
        clean_second.execute("postgres", "ALTER SYSTEM RESET ALL")
        clean_second.execute("postgres", "SELECT pg_reload_conf()")
        cluster.execute("postgres", "DROP DATABASE settings; DROP ROLE acting")
