"""Which accounts a reviewed list may delete, and the Manager's files (R08)."""

from __future__ import annotations

import csv
import json
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ireporter.account_csv import Column, Flag, ImportFile, ManagerExport
from ireporter.account_list import Account, AccountList, administrators
from ireporter.account_review import blank_review, read_review, removal
from ireporter.account_source import time_zone
from ireporter.clock import read_instant
from ireporter.errors import MigrationError

LISTED = datetime(2026, 11, 27, 1, 0, tzinfo=UTC)
NOW = LISTED + timedelta(days=1)
JAPAN = ZoneInfo("Asia/Tokyo")
BEFORE = LISTED - timedelta(days=30)


def account(login: str, **changes: Any) -> Account:
    return replace(Account(login, f"name of {login}", BEFORE, False, False), **changes)


ROOT, ANNA, BEN, NEVER = (
    account("root", administrator=True),
    account("anna"),
    account("ben"),
    account("never", last_login=None),
)
ALL = (ROOT, ANNA, BEN, NEVER)


def reviewed(*delete: str, accounts: tuple[Account, ...] = ALL, **changes: Any) -> dict[str, Any]:
    """As it comes back from the reviewer: through JSON."""
    content = blank_review("acme", AccountList.of(accounts, LISTED))
    filled = {
        **content,
        "delete": list(delete),
        "reviewed_at": (LISTED + timedelta(hours=1)).isoformat(),
        "reviewed_by": "Contact Person",
        **changes,
    }
    read: dict[str, Any] = json.loads(json.dumps(filled, ensure_ascii=False))
    return read


def decide(content: dict[str, Any], now: tuple[Account, ...] = ALL, at: datetime = NOW) -> Any:
    return removal(read_review(content), AccountList.of(now, at), tenant="acme")


def refusal(content: dict[str, Any], now: tuple[Account, ...] = ALL, at: datetime = NOW) -> str:
    with pytest.raises(MigrationError) as caught:
        decide(content, now, at)
    assert caught.value.check == "R08"
    assert "no account was deleted" in caught.value.happened
    return caught.value.happened


def test_what_is_named_goes_and_all_others_stay() -> None:
    wanted = decide(reviewed("never", "anna"))
    assert (wanted.pending, wanted.gone, wanted.staying) == ((ANNA, NEVER), (), (BEN, ROOT))


def test_an_account_that_has_disappeared_since_is_done_already() -> None:
    wanted = decide(reviewed("anna", "ben"), (ROOT, BEN))
    assert (wanted.pending, wanted.gone) == ((BEN,), ("anna",))
    assert decide(reviewed("anna"), (ROOT, BEN, NEVER)).pending == ()


def test_an_empty_list_deletes_nothing() -> None:
    assert decide(reviewed()).pending == ()


@pytest.mark.parametrize(
    ("delete", "said"),
    [
        (("annna",), "'annna' does not exist (nearest: 'anna')"),
        (("ANNA",), "'ANNA' does not exist"),
        (("anna", "ben", "anna"), "'anna' stands in it 2 times"),
        (("root",), "no administrator who can log in would remain"),
    ],
)
def test_a_list_that_is_unfit_deletes_nothing(delete: tuple[str, ...], said: str) -> None:
    assert said in refusal(reviewed(*delete))


@pytest.mark.parametrize("before", [None, BEFORE])
def test_a_login_after_the_list_was_made_refuses_it(before: datetime | None) -> None:
    seen = (ROOT, account("anna", last_login=before))
    moment = timedelta(microseconds=1)
    now = (ROOT, account("anna", last_login=(before or LISTED) + moment))
    assert "'anna' logged in at" in refusal(reviewed("anna", accounts=seen), now)
    # Of those who stay anybody may log in, and the same login as before is none.
    assert decide(reviewed("anna", accounts=(*seen, BEN)), (*seen, account("ben", last_login=NOW))).pending


def test_an_account_that_is_another_one_now_refuses_the_list() -> None:
    assert "another name or other rights" in refusal(reviewed("anna"), (ROOT, account("anna", name="somebody")))
    assert "another name or other rights" in refusal(reviewed("anna"), (ROOT, account("anna", administrator=True)))


def test_a_disabled_administrator_does_not_count_as_the_one_who_remains() -> None:
    second = account("second", administrator=True, disabled=True)
    assert "no administrator" in refusal(reviewed("root", accounts=(ROOT, second)), (ROOT, second))
    able = replace(second, disabled=False)
    assert decide(reviewed("root", accounts=(ROOT, able)), (ROOT, able)).pending == (ROOT,)


def test_all_reasons_are_said_at_once_and_many_are_counted() -> None:
    said = refusal(reviewed("x1", "root", "anna", "anna"), (ROOT, account("anna", last_login=NOW)))
    for reason in ("'x1' does not exist", "2 times", "logged in at", "no administrator"):
        assert reason in said
    assert "and 5 more" in refusal(reviewed(*[f"nobody {number}" for number in range(25)]))


def test_instants_are_in_order() -> None:
    early = (LISTED - timedelta(seconds=1)).isoformat()
    assert "before it was listed" in refusal(reviewed("anna", reviewed_at=early))
    late = (NOW + timedelta(seconds=1)).isoformat()
    assert "after the accounts were looked at" in refusal(reviewed("anna", reviewed_at=late))
    assert decide(reviewed("anna", reviewed_at=NOW.isoformat())).pending == (ANNA,)
    assert decide(reviewed("anna", reviewed_at=LISTED.isoformat())).pending == (ANNA,)


def test_a_list_of_another_tenant_is_refused() -> None:
    assert "of tenant 'bravo', not of 'acme'" in refusal(reviewed("anna", tenant="bravo"))


@pytest.mark.parametrize(
    "changes",
    [
        {"reviewed_at": None},
        {"reviewed_at": "2026-11-27 10:00"},
        {"reviewed_at": 20261127},
        {"reviewed_by": None},
        {"reviewed_by": ""},
        {"delete": "anna"},
        {"delete": [1]},
        {"delete": [""]},
        {"accounts": None},
        {"accounts": ["anna"]},
        {"accounts": [{"login": "anna"}]},
        {"accounts": [{"login": "anna", "name": "", "administrator": 0, "disabled": False}]},
        {"delet": []},
    ],
)
def test_a_list_that_is_not_filled_in_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(MigrationError, match="reviewed-list"):
        decide(reviewed("anna") | changes)


def test_no_account_is_listed_twice() -> None:
    with pytest.raises(MigrationError, match="accounts-list"):
        AccountList.of((ANNA, ROOT, ANNA), LISTED)


def test_what_is_no_list_at_all_is_refused() -> None:
    for content in (None, [], "x", {}):
        with pytest.raises(MigrationError, match="reviewed-list"):
            read_review(content)


LOGINS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12)
ACCOUNTS = st.lists(
    st.builds(
        Account,
        LOGINS,
        st.text(st.characters(exclude_categories=("Cs",)), max_size=8),
        st.none() | st.datetimes(timezones=st.just(UTC)),
        st.booleans(),
        st.booleans(),
    ),
    unique_by=lambda entry: entry.login,
    max_size=8,
).map(tuple)


@given(ACCOUNTS, st.data())
def test_whatever_is_named_an_administrator_remains_or_nothing_goes(
    accounts: tuple[Account, ...], data: st.DataObject
) -> None:
    names = [entry.login for entry in accounts]
    delete = data.draw(st.lists(st.sampled_from(names), unique=True) if names else st.just([]))
    try:
        wanted = decide(reviewed(*delete, accounts=accounts), accounts)
    except MigrationError:
        return
    assert {entry.login for entry in wanted.pending} == set(delete)
    assert set(wanted.pending) | set(wanted.staying) == set(accounts)
    assert not wanted.pending or administrators(wanted.staying)


@given(ACCOUNTS)
def test_a_list_comes_back_from_its_reviewer_as_it_went(accounts: tuple[Account, ...]) -> None:
    assert read_review(reviewed(accounts=accounts)).seen == AccountList.of(accounts, LISTED)


# The Manager's files -----------------------------------------------------------------------------------------------------
def export(path: Path, text: str, encoding: str = "utf-8", **changes: Any) -> ManagerExport:
    path.write_bytes(text.encode({"utf-8": "utf-8-sig", "cp932": "cp932"}[encoding], "replace"))
    made = ManagerExport(
        path=path,
        encoding=encoding,
        exported_at=NOW,
        login="ID",
        name="氏名",
        last_login="最終",
        last_login_format="%Y/%m/%d %H:%M:%S",
        administrator=Flag("権限", ("管理者", "1")),
        disabled=Flag("無効", ("1",)),
        zone=JAPAN,
    )
    return replace(made, **changes)


ROWS = 'ID,氏名,最終,権限,無効,他\r\nroot,"山田, 太郎",2026/11/01 09:00:00,管理者,0,\r\n"a""b",佐藤,,一般,1,x\r\n'


@pytest.mark.parametrize("encoding", ["utf-8", "cp932"])
def test_an_export_is_read(tmp_path: Path, encoding: str) -> None:
    listed = export(tmp_path / "users.csv", ROWS, encoding).listing()
    assert listed.accounts == (
        Account('a"b', "佐藤", None, False, True),
        Account("root", "山田, 太郎", datetime(2026, 11, 1, 0, 0, tzinfo=UTC), True, False),
    )
    assert listed.listed_at == NOW
    assert listed.as_result()["administrators"] == 1


def test_an_export_may_say_less(tmp_path: Path) -> None:
    listed = export(tmp_path / "users.csv", ROWS, name=None, disabled=None).listing()
    assert {(entry.name, entry.disabled) for entry in listed.accounts} == {("", False)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has 0 columns 'ID'"),
        (ROWS.replace("最終", "最新"), "has 0 columns '最終'"),
        (ROWS.replace("他", "ID"), "has 2 columns 'ID'"),
        (ROWS.replace("root", ""), "no login in row 2"),
        (ROWS.replace("2026/11/01", "01.11.2026"), "the last login '01.11.2026 09:00:00' in row 2"),
        (ROWS.replace(",x", ""), "5 instead of 6 fields in row 3"),
        (ROWS + 'x,"', "is no CSV"),
    ],
)
def test_an_export_that_cannot_be_understood_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(MigrationError, match="accounts-export") as caught:
        export(tmp_path / "users.csv", text).listing()
    assert said in str(caught.value)


def test_an_export_in_another_encoding_or_none_is_refused(tmp_path: Path) -> None:
    wrong = replace(export(tmp_path / "users.csv", ROWS, "cp932"), encoding="utf-8")
    with pytest.raises(MigrationError, match="not written in utf-8"):
        wrong.listing()
    with pytest.raises(MigrationError, match="cannot be read"):
        replace(wrong, path=tmp_path / "missing").listing()


COLUMNS = (Column("処理区分", None, "D"), Column("ID", "login", ""), Column("氏名", "name", ""))


def test_an_import_file_names_exactly_the_pending_accounts(tmp_path: Path) -> None:
    path = tmp_path / "delete.csv"
    file = ImportFile(path, "cp932", True, COLUMNS)
    users = [account('q" ; $(x)\n{{ 1 }}', name="山田"), account("b")]
    assert file.write(users, keep=False)
    assert not path.exists()
    assert file.write(users, keep=True)
    assert path.read_bytes().decode("cp932") == (
        '"処理区分","ID","氏名"\r\n"D","q"" ; $(x)\n{{ 1 }}","山田"\r\n"D","b","name of b"\r\n'
    )
    assert path.stat().st_mode & 0o777 == 0o600
    assert not file.write(users, keep=True)
    # Imported in part: what is left is named again. Imported: there is nothing to say.
    assert file.write(users[1:], keep=True)
    assert path.read_bytes().decode("cp932").count("\r\n") == 2
    assert not file.write([], keep=True)
    assert path.exists()


def test_an_import_file_replaces_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "users.csv"
    path.write_bytes(ROWS.encode())
    for heading_row in (True, False):
        with pytest.raises(MigrationError, match="no import file of ours"):
            ImportFile(path, "utf-8", heading_row, COLUMNS).write([ANNA], keep=True)
    assert path.read_bytes() == ROWS.encode()
    with pytest.raises(MigrationError, match="cannot be written"):
        ImportFile(tmp_path / "missing" / "x.csv", "utf-8", True, COLUMNS).write([ANNA], keep=True)
    with pytest.raises(MigrationError, match="cannot be read"):
        ImportFile(tmp_path, "utf-8", True, COLUMNS).write([ANNA], keep=True)


def test_a_login_that_the_encoding_does_not_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MigrationError, match="cannot be written in cp932"):
        ImportFile(tmp_path / "x.csv", "cp932", True, COLUMNS).write([account("한")], keep=True)
    assert list(tmp_path.iterdir()) == []


@given(st.lists(LOGINS, unique=True, min_size=1, max_size=5))
def test_every_login_can_be_read_back_from_an_import_file(logins: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.csv"
        ImportFile(path, "utf-8", True, COLUMNS).write([account(login) for login in logins], keep=True)
        with path.open(encoding="utf-8-sig", newline="") as stream:
            assert [row[1] for row in csv.reader(stream)][1:] == logins


@pytest.mark.parametrize("text", [None, 1, "", "2026-11-28", "2026-11-28T13:00:00", "yesterday"])
def test_an_instant_has_an_offset(text: object) -> None:
    with pytest.raises(MigrationError, match="no instant with an offset"):
        read_instant(text, field="x", check="y")


def test_an_unknown_time_zone_is_refused() -> None:
    assert time_zone("Asia/Tokyo") == JAPAN
    for name in ("Asia/Edo", "../etc/passwd", ""):
        with pytest.raises(MigrationError, match="accounts-time-zone"):
            time_zone(name)
