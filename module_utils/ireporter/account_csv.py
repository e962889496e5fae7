"""Accounts as the Manager exports (データー取得) and imports (データー取り込み) them: CSV files.

That such files add, change and delete users is public (the vendor's manual, "データー取り込み"); their columns are not, so they are settings.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from .account_list import Account, AccountList
from .errors import MigrationError
from .whole_files import write_whole

_CODECS = {"utf-8": "utf-8-sig", "cp932": "cp932"}
ENCODINGS = tuple(_CODECS)


@dataclass(frozen=True)
class Flag:
    """True where ``column`` holds one of ``values``."""

    column: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class ManagerExport:
    """A file of the Manager, and how to read it. ``last_login_format``: as ``datetime.strptime`` takes it."""

    path: Path
    encoding: str
    exported_at: datetime
    login: str
    name: str | None
    last_login: str
    last_login_format: str
    administrator: Flag
    disabled: Flag | None
    zone: ZoneInfo

    def listing(self) -> AccountList:
        """
        :raises MigrationError: the file cannot be read, lacks a column, or holds a value of the wrong kind (``accounts-export``).
        """
        rows = self._rows()
        return AccountList.of(
            [self._account(row, number) for number, row in enumerate(rows, start=2)], self.exported_at
        )

    def _rows(self) -> list[dict[str, str]]:
        try:
            text = self.path.read_bytes().decode(_CODECS[self.encoding])
        except OSError as error:
            raise _export(f"cannot be read: {error.strerror}", "Copy the Manager's export there") from error
        except UnicodeDecodeError as error:
            raise _export(f"is not written in {self.encoding}", "Say the encoding it was exported in") from error
        try:
            lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
        except csv.Error as error:
            raise _export(f"is no CSV: {error}", "Export the users again") from error
        heading, rows = (lines[0], [line for line in lines[1:] if line]) if lines else ([], [])
        wanted = [self.login, self.name, self.last_login, self.administrator.column]
        wanted += [self.disabled.column] if self.disabled else []
        for column in wanted:
            if column is not None and heading.count(column) != 1:
                raise _export(
                    f"has {heading.count(column)} columns {column!r}",
                    "Correct the names of the columns in the settings",
                )
        for number, row in enumerate(rows, start=2):
            if len(row) != len(heading):
                raise _export(
                    f"has {len(row)} instead of {len(heading)} fields in row {number}", "Export the users again"
                )
        return [dict(zip(heading, row, strict=True)) for row in rows]

    def _account(self, row: dict[str, str], number: int) -> Account:
        login, last = row[self.login], row[self.last_login]
        if not login:
            raise _export(f"has no login in row {number}", "Export the users again")
        try:
            when = datetime.strptime(last, self.last_login_format) if last else None
        except ValueError as error:
            raise _export(
                f"has the last login {last!r} in row {number}", f"Correct last_login_format ({self.last_login_format})"
            ) from error
        if when is not None and when.tzinfo is None:
            when = when.replace(tzinfo=self.zone)
        return Account(
            login,
            row[self.name] if self.name else "",
            when,
            row[self.administrator.column] in self.administrator.values,
            self.disabled is not None and row[self.disabled.column] in self.disabled.values,
        )


@dataclass(frozen=True)
class Column:
    """A column of an import file: the account's ``field`` (``login`` or ``name``), or the same ``text`` in every row."""

    heading: str
    field: str | None
    text: str


@dataclass(frozen=True)
class ImportFile:
    """A file the Manager takes to delete accounts. Whoever administers the tenant imports it there."""

    path: Path
    encoding: str
    heading_row: bool
    columns: tuple[Column, ...]

    def write(self, accounts: Sequence[Account], *, keep: bool) -> bool:
        """Have it name exactly these accounts. Returns whether it changes (``keep`` False: would change).

        With no account to delete nothing is written: a file that was imported already is left as it is.

        :raises MigrationError: a login does not fit in the encoding, or another file stands there (``accounts-import-file``).
        """
        if not accounts:
            return False
        content = self._content(accounts)
        try:
            there = self.path.read_bytes()
        except FileNotFoundError:
            there = None
        except OSError as error:
            raise _import(f"{self.path} cannot be read: {error.strerror}", "Give another path") from error
        if there == content:
            return False
        # Without a heading nobody can tell whose file it is.
        ours = self.heading_row and there is not None and there.startswith(self._encode(self._heading()))
        if there is not None and not ours:
            raise _import(f"{self.path} is there and is no import file of ours", "Move it away or give another path")
        if keep:
            try:
                write_whole(self.path, content, mode=0o600)
            except OSError as error:
                raise _import(f"{self.path} cannot be written: {error.strerror}", "Give another path") from error
        return True

    def _content(self, accounts: Sequence[Account]) -> bytes:
        rows = [[_value(column, account) for column in self.columns] for account in accounts]
        return self._encode(self._heading() + _csv(rows))

    def _heading(self) -> str:
        return _csv([[column.heading for column in self.columns]]) if self.heading_row else ""

    def _encode(self, text: str) -> bytes:
        try:
            return text.encode(_CODECS[self.encoding])
        except UnicodeEncodeError as error:
            raise _import(
                f"{text[error.start : error.end]!r} cannot be written in {self.encoding}", "Use the encoding utf-8"
            ) from error


def _value(column: Column, account: Account) -> str:
    if column.field is None:
        return column.text
    return account.login if column.field == "login" else account.name


def _csv(rows: Sequence[Sequence[str]]) -> str:
    written = io.StringIO(newline="")
    csv.writer(written, lineterminator="\r\n", quoting=csv.QUOTE_ALL).writerows(rows)
    return written.getvalue()


def _export(happened: str, action: str) -> MigrationError:
    return MigrationError(f"The Manager's export {happened}", check="accounts-export", action=action)


def _import(happened: str, action: str) -> MigrationError:
    return MigrationError(happened, check="accounts-import-file", action=action)
