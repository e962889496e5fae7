"""The tenant's database on a real server: shut, searched for ways round, and described."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from ireporter import tenant_database_info
from ireporter.clock import SystemClock
from ireporter.database_groups import TableGroups
from ireporter.errors import MigrationError
from ireporter.tenant_database import Database
from ireporter.tenant_database_info import database_facts, is_lost_connection, server_version
from ireporter.tenant_model import Tenant, parse

from tests.unit.tenant_fakes import tenant_dictionary

if TYPE_CHECKING:
    from tests.integration.conftest import Cluster

pytestmark = pytest.mark.integration
NAME = 'tenant "quoted" 帳票'


def tenant_on(cluster: Cluster, folder: Path) -> Tenant:
    server = f"host={cluster.directory}"
    return parse(
        tenant_dictionary(
            folder,
            database=NAME,
            database_admin=f"{server} user=postgres dbname=postgres",
            database_probes=[
                {
                    "name": "application",
                    "conninfo": f"{server} user=tenant_app",
                    "statement": "UPDATE rep_top SET name = 'x'",
                },
                {"name": "reporting", "conninfo": f"{server} user=tenant_report", "statement": "SELECT 1"},
            ],
        )
    )


@pytest.fixture
def database(cluster: Cluster, tmp_path: Path) -> Iterator[Database]:
    with cluster.connect() as connection:
        name = psycopg.sql.Identifier(NAME)
        connection.execute("CREATE ROLE tenant_app LOGIN")
        connection.execute("CREATE ROLE tenant_report LOGIN")
        connection.execute(psycopg.sql.SQL("CREATE DATABASE {} OWNER tenant_app CONNECTION LIMIT 37").format(name))
    with cluster.connect(NAME) as connection:
        connection.execute("CREATE TABLE rep_top (id int, name text, path text)")
        connection.execute(
            "INSERT INTO rep_top SELECT i, i::text, CASE WHEN i = 3 THEN 'C:\\old /srv/acme/x' END FROM generate_series(1, 9) i"
        )
        connection.execute('CREATE UNLOGGED TABLE "tmp Session" (a int)')
        connection.execute(
            "CREATE SEQUENCE s; ALTER TABLE rep_top OWNER TO tenant_app; GRANT SELECT ON rep_top TO tenant_report"
        )
        connection.execute("SELECT lo_from_bytea(0, 'abc')")
        connection.execute("ANALYZE")
    yield Database(tenant_on(cluster, tmp_path), SystemClock())
    with cluster.connect() as connection:
        connection.execute(psycopg.sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
        connection.execute("DROP ROLE tenant_app")
        connection.execute("DROP ROLE tenant_report")


def test_shut_means_nobody_inside_and_nobody_enters(database: Database, cluster: Cluster, tmp_path: Path) -> None:
    application, reporting = tenant_on(cluster, tmp_path).database_probes
    assert database.connection_limit() == 37
    kept = database.open_probe(application)
    assert database.try_statement(kept, application) == "accepted"
    assert database.try_statement(kept, application, read_write=True) == "accepted"
    assert cluster.value(NAME, "SELECT count(*) FROM rep_top WHERE name = 'x'") == 0  # rolled back
    with psycopg.connect(cluster.conninfo(NAME, "tenant_app")) as foreign:
        foreign.execute("INSERT INTO rep_top VALUES (99)")
        assert [session.user for session in database.writing_sessions()] == ["tenant_app"]
        database.set_connection_limit(0)
        assert database.terminate_sessions() == 1  # the probe's own session ends, too, but is not counted
        with pytest.raises(psycopg.OperationalError):
            foreign.execute("SELECT 1")
        foreign.close()
    assert database.sessions() == []
    for probe in (application, reporting):
        assert database.try_connection(probe).startswith("refused")
        assert database.try_connection(probe, read_write=True).startswith("refused")
    assert database.try_statement(kept, application, read_write=True).startswith("refused")
    database.set_connection_limit(37)
    assert database.try_connection(application) == "accepted"


def test_a_statement_that_is_refused_says_why(database: Database, cluster: Cluster, tmp_path: Path) -> None:
    reporting = tenant_on(cluster, tmp_path).database_probes[1]
    session = database.open_probe(reporting)
    writing = type(reporting)("reporting", reporting.conninfo, "UPDATE rep_top SET id = 1")
    assert "permission denied" in database.try_statement(session, writing)
    assert database.try_statement(session, reporting) == "accepted"
    session.close()


def test_ways_round_are_seen(database: Database, cluster: Cluster, tmp_path: Path) -> None:
    application = tenant_on(cluster, tmp_path).database_probes[0]
    with cluster.connect(NAME) as connection:
        assert [session.superuser for session in database.sessions()] == [True]
        connection.execute("BEGIN")
        connection.execute("INSERT INTO rep_top VALUES (5)")
        connection.execute("PREPARE TRANSACTION 'half done'")
    assert database.prepared_transactions() == ["half done"]
    with cluster.connect(NAME) as connection:
        connection.execute("ROLLBACK PREPARED 'half done'")
        connection.execute("ALTER ROLE tenant_app SUPERUSER")
    session = database.open_probe(application)
    assert database.is_superuser(session)
    session.close()
    cluster.execute("postgres", "ALTER ROLE tenant_app NOSUPERUSER")


def test_accounts_are_counted_and_a_query_cannot_write(database: Database) -> None:
    assert database.count("SELECT count(*) FROM rep_top") == 9
    assert database.count(None) is None
    for query in ("DELETE FROM rep_top RETURNING id", "SELECT 'many'", "no sql"):
        with pytest.raises(MigrationError) as caught:
            database.count(query)
        assert caught.value.check == "accounts-query"


def test_a_password_or_a_role_without_rights_is_refused(cluster: Cluster, tmp_path: Path, database: Database) -> None:
    for conninfo, check in (
        (f"host={cluster.directory} user=postgres password=canary", "connection-string"),
        (f"host={cluster.directory} user=tenant_app dbname=postgres", "database-admin"),
        (f"host={tmp_path} user=postgres", "database-admin"),
        ("nonsense", "connection-string"),
    ):
        tenant = parse({**tenant_dictionary(tmp_path), "database_admin": conninfo})
        with pytest.raises(MigrationError) as caught:
            Database(tenant, SystemClock()).connection_limit()
        assert caught.value.check == check
        assert "canary" not in str(caught.value)


def test_a_database_that_does_not_exist_has_no_limit(cluster: Cluster, tmp_path: Path) -> None:
    tenant = parse(
        {**tenant_dictionary(tmp_path), "database_admin": f"host={cluster.directory} user=postgres dbname=postgres"}
    )
    assert Database(tenant, SystemClock()).connection_limit() is None


def test_facts(database: Database, cluster: Cluster, tmp_path: Path) -> None:
    tenant = tenant_on(cluster, tmp_path)
    facts = database_facts(tenant, patterns=["/srv/acme", "100%_"], path_scan_rows=1000, table_groups=TableGroups())
    assert facts["name"] == NAME
    assert (facts["encoding"], facts["collate"], facts["owner"], facts["connection_limit"]) == (
        "UTF8",
        "C.UTF-8",
        "tenant_app",
        37,
    )
    assert facts["tables_count"] == 2
    groups: dict[str, int] = facts["groups"]  # type: ignore[assignment]
    assert list(groups) == ["definition", "report", "linkage", "master", "log", "other", "large_objects", "system"]
    assert sum(groups.values()) == facts["bytes"]
    assert groups["report"] == cluster.value(NAME, "SELECT pg_total_relation_size('rep_top')")
    assert groups["large_objects"] > 0
    assert facts["sequences"] == 1
    assert facts["large_objects"] == {"count": 1, "bytes": 3}
    assert facts["unlogged"] == ["public.tmp Session"]
    assert facts["path_columns"] == [
        {"schema": "public", "table": "rep_top", "column": "path", "rows": 1, "complete": True}
    ]
    roles = {role["name"]: role for role in facts["roles"]}  # type: ignore[attr-defined]
    assert roles["tenant_app"]["owned"] >= 2
    assert roles["tenant_report"]["granted"] == 1
    version, folder = server_version(tenant)
    assert version >= 150000
    assert folder == str(cluster.data)


def test_a_database_that_is_dropped_meanwhile_is_told_from_one_that_cannot_be_read(
    database: Database, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = tenant_on(cluster, tmp_path)
    statement = psycopg.sql.SQL("DROP DATABASE {} WITH (FORCE)").format(psycopg.sql.Identifier(NAME))
    looked = tenant_database_info._path_columns

    def dropped(connection: psycopg.Connection[object], *given: object) -> object:
        with cluster.connect() as other:
            other.execute(statement)
        return looked(connection, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(tenant_database_info, "_path_columns", dropped)
    for check in ("database-facts", "database-admin"):
        with pytest.raises(MigrationError) as caught:
            database_facts(tenant, patterns=[str(tmp_path)], path_scan_rows=1000, table_groups=TableGroups())
        assert caught.value.check == check
        assert is_lost_connection(caught.value)
