"""Accounts listed and deleted on the stand-in's schema, by the modules as a playbook calls them (R08)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from ireporter.account_query import AccountQuery
from ireporter.account_review import read_review, removal
from ireporter.account_source import time_zone
from ireporter.database_connection import Address
from ireporter.errors import MigrationError

from lab.standin.ireporter_standin import admin
from tests.integration.conftest import Cluster

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[2]
QUERY = (
    "SELECT login_id AS login, user_name AS name, last_login, user_type = 1 AS administrator, group_id = 2 AS disabled"
    " FROM mst_user WHERE delete_flag = 0 AND user_type <> 9"
)
DELETE = "UPDATE mst_user SET delete_flag = 1, update_time = now() WHERE login_id = %(login)s AND delete_flag = 0"
NASTY = "o'brien\"; DROP TABLE mst_user; -- $(reboot) {{ 1 + 1 }} %s 帳票"


class Users:
    """A tenant of the stand-in with two administrators (one disabled), three users and a service account."""

    def __init__(self, cluster: Cluster, database: str) -> None:
        self.cluster, self.database = cluster, database

    def logins(self) -> set[object]:
        with self.cluster.connect(self.database) as connection:
            rows = connection.execute("SELECT login_id FROM mst_user WHERE delete_flag = 0").fetchall()
        return {row[0] for row in rows}

    def execute(self, statement: str, *parameters: object) -> None:
        with self.cluster.connect(self.database) as connection:
            connection.execute(statement, parameters)

    def source(self, query: str = QUERY) -> AccountQuery:
        address = Address.parse(self.cluster.conninfo(self.database), "database")
        return AccountQuery(address, query, time_zone("Asia/Tokyo"))


@pytest.fixture(scope="module")
def template(cluster: Cluster) -> Iterator[str]:
    """The database that each test has a copy of."""
    name = "irepodb_accounts"
    admin.create_database(cluster.conninfo(), name, "accounts", None, "C.UTF-8")
    with cluster.connect(name) as connection:
        for login, kind, group, last in (
            ("root", 1, 1, "2026-11-01 09:00+09"),
            ("former root", 1, 2, None),
            ("anna", 0, 1, "2026-10-01 09:00:00.123456+09"),
            ("ben", 0, 1, None),
            (NASTY, 0, 1, None),
            ("smoke", 9, 1, None),
        ):
            connection.execute(
                "INSERT INTO mst_user (login_id, user_name, password_hash, group_id, user_type, last_login)"
                " VALUES (%s, %s, 'x', %s, %s, %s)",
                (login, f"name of {login}", group, kind, last),
            )
    yield name
    cluster.execute("postgres", f"DROP DATABASE {name} WITH (FORCE)")
    for kind in ("owner", "app", "report"):
        cluster.execute("postgres", f"DROP ROLE accounts_{kind}")


@pytest.fixture
def users(cluster: Cluster, template: str) -> Iterator[Users]:
    name = f"users_{uuid.uuid4().hex[:8]}"
    cluster.execute("postgres", f"CREATE DATABASE {name} TEMPLATE {template}")
    yield Users(cluster, name)
    cluster.execute("postgres", f"DROP DATABASE {name} WITH (FORCE)")


def ansible(module: str, options: dict[str, Any], *more: str) -> dict[str, Any]:
    """The result of one module call."""
    program = Path(sys.executable).with_name("ansible")
    done = subprocess.run(
        [str(program), *more, "localhost", "-m", module, "-a", json.dumps(options)],
        capture_output=True, text=True, check=False, cwd=ROOT, timeout=300,
        env={**os.environ, "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"},
    )  # fmt: skip
    assert "=> {" in done.stdout, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout[done.stdout.index("=> {") + 3 :])
    return {**result, "output": done.stdout}


def fill_in(review: dict[str, Any], *delete: str, path: Path | None = None) -> dict[str, Any]:
    filled = {**review, "delete": list(delete), "reviewed_by": "Contact Person", "reviewed_at": review["listed_at"]}
    if path:
        path.write_text(json.dumps(filled, ensure_ascii=False))
    return filled


def test_listed_reviewed_deleted_and_deleted_again(users: Users, tmp_path: Path) -> None:
    source = {"tenant": "acme", "database": users.cluster.conninfo(users.database), "query": QUERY}
    found = ansible("ireporter_user_info", source)
    assert found["changed"] is False
    assert [found[name] for name in ("count", "administrators", "disabled", "never_logged_in")] == [5, 1, 1, 3]
    accounts = {entry["login"]: entry for entry in found["accounts"]}
    assert accounts["anna"]["last_login"] == "2026-10-01T00:00:00.123456+00:00"
    assert accounts["former root"] == {
        "login": "former root", "name": "name of former root", "last_login": None, "administrator": True, "disabled": True,
    }  # fmt: skip
    assert "smoke" not in accounts

    reviewed = tmp_path / "reviewed.json"
    fill_in(found["review"], "ben", NASTY, path=reviewed)
    options = {**source, "reviewed_file": str(reviewed), "statements": [DELETE]}
    before = users.logins()
    tried = ansible("ireporter_user", options, "--check", "--diff")
    assert (tried["changed"], set(tried["deleted"]), tried["count"]) == (True, {"ben", NASTY}, 3)
    assert f"-{NASTY}\tname of {NASTY}\tlast login never" in tried["output"]
    assert users.logins() == before
    done = ansible("ireporter_user", options)
    assert (done["changed"], set(done["deleted"]), done["gone"]) == (True, {"ben", NASTY}, [])
    assert users.logins() == before - {"ben", NASTY}
    for more in ((), ("--check",)):
        again = ansible("ireporter_user", options, *more)
        assert (again["changed"], again["deleted"], set(again["gone"])) == (False, [], {"ben", NASTY})
    # As a person did it: the audit trigger ran, and no row was taken away.
    assert users.cluster.value(users.database, "SELECT count(*) FROM mst_user WHERE delete_flag = 1") == 2


def test_a_refusal_is_one_sentence_and_deletes_nothing(users: Users, tmp_path: Path) -> None:
    source = {"tenant": "acme", "database": users.cluster.conninfo(users.database), "query": QUERY}
    reviewed = tmp_path / "reviewed.json"
    fill_in(ansible("ireporter_user_info", source)["review"], "ben", "anna", "root", "nobody", path=reviewed)
    users.execute("UPDATE mst_user SET last_login = now() WHERE login_id = 'anna'")
    before = users.logins()
    for more in ((), ("--check",)):
        refused = ansible("ireporter_user", {**source, "reviewed_file": str(reviewed), "statements": [DELETE]}, *more)
        assert "FAILED!" in refused["output"]
        assert refused["check"] == "R08"
        for said in ("'nobody' does not exist", "'anna' logged in at", "no administrator who can log in would remain"):
            assert said in refused["msg"]
    assert users.logins() == before


def test_a_file_for_the_manager_is_made_instead(users: Users, tmp_path: Path) -> None:
    source = {"tenant": "acme", "database": users.cluster.conninfo(users.database), "query": QUERY}
    reviewed, path = tmp_path / "reviewed.json", tmp_path / "delete.csv"
    fill_in(ansible("ireporter_user_info", source)["review"], NASTY, path=reviewed)
    columns = [{"heading": "処理区分", "text": "D"}, {"heading": "ID", "field": "login"}]
    options = {**source, "reviewed_file": str(reviewed), "import_file": {"path": str(path), "columns": columns}}
    assert ansible("ireporter_user", options, "--check")["changed"] is True
    assert not path.exists()
    made = ansible("ireporter_user", options)
    assert (made["changed"], made["pending"], made["deleted"]) == (True, [NASTY], [])
    quoted = NASTY.replace('"', '""')
    assert path.read_text("utf-8-sig").splitlines() == ['"処理区分","ID"', f'"D","{quoted}"']
    assert ansible("ireporter_user", options)["changed"] is False
    assert NASTY in users.logins()
    users.execute("UPDATE mst_user SET delete_flag = 1 WHERE login_id = %s", NASTY)  # the Manager took it
    gone = ansible("ireporter_user", options)
    assert (gone["changed"], gone["pending"], gone["gone"]) == (False, [], [NASTY])


def _delete(users: Users, statements: list[str], *delete: str, query: str = QUERY, keep: bool = True) -> None:
    source = users.source(query)
    listed = source.listing()
    content = {
        "tenant": "acme",
        "listed_at": listed.listed_at.isoformat(),
        "accounts": listed.as_result()["accounts"],
    }
    review = read_review(fill_in(content, *delete))
    source.delete(statements, lambda now: removal(review, now, tenant="acme"), keep=keep)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (
            "UPDATE mst_user SET delete_flag = 1 WHERE user_type = 0 OR login_id = %(login)s",
            "'anna', which should stay",
        ),
        ("UPDATE mst_user SET user_type = 0 WHERE delete_flag = 0 AND %(login)s <> ''", "is still listed"),
        ("UPDATE mst_user SET update_time = now() WHERE login_id = %(login)s", "'ben' is still listed"),
        ("INSERT INTO mst_user (login_id, user_name) VALUES (%(login)s, 'x')", "all of it was rolled back: null value"),
        ("DELETE FROM mst_user WHERE login = %(login)s", 'column "login" does not exist'),
        ("DELETE FROM mst_user WHERE login_id = %(login)s; DELETE FROM mst_user", "multiple commands"),
        ("DELETE FROM mst_user WHERE login_id LIKE '%x' OR login_id = %(login)s", "rolled back"),
        ("DELETE FROM mst_user WHERE login_id = 'ben'", "does not say which one"),
    ],
)
def test_a_statement_that_does_anything_else_is_rolled_back(
    users: Users, statement: str, said: str, keep: bool
) -> None:
    before = users.logins()
    with pytest.raises(MigrationError, match="accounts-statement") as caught:
        _delete(users, [statement], "ben", keep=keep)
    assert said in str(caught.value)
    assert users.logins() == before
    assert users.cluster.value(users.database, "SELECT count(*) FROM mst_user WHERE user_type = 1") == 2


def test_statements_are_executed_in_order_for_each_account(users: Users) -> None:
    users.execute("CREATE TABLE mst_user_device (user_id integer REFERENCES mst_user, device text)")
    users.execute("INSERT INTO mst_user_device SELECT user_id, 'tablet' FROM mst_user")
    statements = [
        "DELETE FROM mst_user_device d USING mst_user u WHERE u.user_id = d.user_id AND u.login_id = %(login)s",
        "DELETE FROM mst_user WHERE login_id = %(login)s",
    ]
    with pytest.raises(MigrationError, match="foreign key"):
        _delete(users, statements[::-1], "ben", NASTY)
    _delete(users, statements, "ben", NASTY)
    assert users.logins() == {"root", "former root", "anna", "smoke"}
    assert users.cluster.value(users.database, "SELECT count(*) FROM mst_user_device") == 4


def test_an_account_that_logs_in_while_it_is_deleted_stays(users: Users) -> None:
    source = users.source()
    listed = source.listing()

    def decide_and_let_ben_in(now: Any) -> Any:
        content = {
            "tenant": "acme",
            "listed_at": listed.listed_at.isoformat(),
            "accounts": listed.as_result()["accounts"],
        }
        wanted = removal(read_review(fill_in(content, "ben")), now, tenant="acme")
        users.execute("UPDATE mst_user SET last_login = now() WHERE login_id = 'ben'")
        return wanted

    with pytest.raises(MigrationError, match="could not serialize"):
        source.delete([DELETE], decide_and_let_ben_in, keep=True)
    assert "ben" in users.logins()


@pytest.mark.parametrize(
    ("query", "check", "said"),
    [
        ("SELECT login_id AS login FROM mst_user", "accounts-query", "no column last_login"),
        (
            "SELECT 1 AS login, now() AS last_login, true AS administrator, true AS disabled",
            "accounts-query",
            "no text",
        ),
        (QUERY.replace("user_type = 1", "user_type"), "accounts-query", "not both true or false"),
        (QUERY.replace("last_login,", "'never' AS last_login,"), "accounts-query", "no timestamp"),
        (QUERY.replace("last_login,", "'infinity'::timestamptz AS last_login,"), "accounts-query", "infinity"),
        (f"{QUERY} UNION ALL {QUERY}", "accounts-list", "more than once"),
        ("DELETE FROM mst_user RETURNING login_id", "accounts-query", "read-only transaction"),
        ("no sql", "accounts-query", "syntax error"),
    ],
)
def test_a_query_of_no_use_is_refused(users: Users, query: str, check: str, said: str) -> None:
    before = users.logins()
    with pytest.raises(MigrationError) as caught:
        users.source(query).listing()
    assert (caught.value.check, said in str(caught.value)) == (check, True), str(caught.value)
    with pytest.raises(MigrationError):
        users.source(query).delete([DELETE], lambda _now: pytest.fail("decided"), keep=True)
    assert users.logins() == before


def test_a_last_login_without_a_zone_is_of_the_zone_that_is_set(users: Users) -> None:
    users.execute("ALTER TABLE mst_user ALTER last_login TYPE timestamp USING last_login AT TIME ZONE 'Asia/Tokyo'")
    accounts = users.source().listing().by_login()
    assert accounts["root"].last_login == datetime(2026, 11, 1, 0, 0, tzinfo=UTC)


def test_the_instant_of_a_list_is_the_server_s(users: Users) -> None:
    assert abs(users.source().listing().listed_at - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_role_without_rights_or_a_password_is_refused(users: Users) -> None:
    for conninfo, check in (
        (users.cluster.conninfo(users.database, "accounts_report"), "accounts-query"),
        (users.cluster.conninfo("no such database"), "database-connection"),
        (f"host={users.cluster.directory} dbname=x password=canary", "connection-string"),
    ):
        with pytest.raises(MigrationError) as caught:
            AccountQuery(Address.parse(conninfo, "database"), QUERY, time_zone("Asia/Tokyo")).listing()
        assert caught.value.check == check
        assert "canary" not in str(caught.value)
    with psycopg.connect(users.cluster.conninfo(users.database)) as connection:
        assert connection.execute("SELECT count(*) FROM mst_user").fetchone() == (6,)
