"""Accounts by SQL. Table names of the product are not public, so both statements are the operator's own (R08).

The listing gives the columns ``login``, ``last_login``, ``administrator`` and ``disabled``, and may give ``name``. Logins reach
the server as parameters only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import psycopg

from .account_list import Account, AccountList, administrators
from .account_review import Removal
from .database_connection import Address, Connection, one_line
from .errors import MigrationError

PARAMETER = "%(login)s"
_COLUMNS = ("login", "last_login", "administrator", "disabled")
# The product's tables are in schema public (public fact); no other object is found by accident.
_OPTIONS = "-c search_path=public -c statement_timeout=60000 -c lock_timeout=5000"


@dataclass(frozen=True)
class AccountQuery:
    """``zone``: of a ``last_login`` that is stored without one."""

    address: Address
    query: str
    zone: ZoneInfo

    def listing(self) -> AccountList:
        """Read only; the instant is the database server's.

        :raises MigrationError: no connection, or the query fails or lists no accounts (``accounts-query``, ``accounts-list``).
        """
        with self.address.connect(options=f"{_OPTIONS} -c default_transaction_read_only=on") as connection:
            return self._list(connection)

    def delete(
        self, statements: Sequence[str], decide: Callable[[AccountList], Removal], *, keep: bool
    ) -> tuple[Removal, AccountList]:
        """Execute every statement once per pending account, in one transaction, and prove that these and no others are gone.

        :param statements: each names the account by ``%(login)s``; a per cent sign of its own is doubled.
        :param decide: what is pending; it raises where the list is unfit.
        :param keep: False tries the same and rolls it back: the returned list is what would remain.
        :raises MigrationError: a statement fails or deletes others (``accounts-statement``); all of it was rolled back then.
        """
        for statement in statements:
            if PARAMETER not in statement:
                raise MigrationError(
                    f"A statement that deletes accounts does not say which one: {PARAMETER} stands nowhere in it",
                    check="accounts-statement",
                    action=f"Name the account's login there as {PARAMETER}",
                )
        with self.address.connect(options=_OPTIONS) as connection:
            # One state of the database throughout: an account that logs in meanwhile makes the deletion fail.
            connection.execute("BEGIN ISOLATION LEVEL SERIALIZABLE")
            before = self._list_read_only(connection)
            wanted = decide(before)
            if not wanted.pending:
                return wanted, before
            self._execute(connection, statements, wanted)
            remaining = self._list_read_only(connection)
            self._prove(wanted, remaining)
            if not keep:
                connection.execute("ROLLBACK")  # leaving the block would commit
                return wanted, remaining
            try:
                connection.execute("COMMIT")
            except psycopg.Error as error:
                raise _statement_failed(error) from error
            return wanted, self._look_again(connection, wanted)

    def _execute(self, connection: Connection, statements: Sequence[str], wanted: Removal) -> None:
        for account in wanted.pending:
            for statement in statements:
                try:
                    connection.execute(statement.encode(), {"login": account.login})
                except (psycopg.Error, ValueError, TypeError, KeyError) as error:
                    raise _statement_failed(error, account.login) from error

    def _prove(self, wanted: Removal, after: AccountList) -> None:
        if after.accounts == wanted.staying:
            return
        left, stay = after.by_login(), {account.login: account for account in wanted.staying}
        said = [f"{account.login!r} is still listed" for account in wanted.pending if account.login in left]
        said += [f"{login!r}, which should stay, is not as it was" for login in stay if left.get(login) != stay[login]]
        said += [f"{login!r} is new" for login in left if login not in stay]
        raise MigrationError(
            f"The statements that delete accounts do something else, and were rolled back: {said[0]}",
            check="accounts-statement",
            action="Correct the statements or the query, so that what they delete is no longer listed and nothing else changes",
        )

    def _look_again(self, connection: Connection, wanted: Removal) -> AccountList:
        remaining = self._list(connection)
        back = sorted(remaining.by_login().keys() & {account.login for account in wanted.pending})
        if back or not administrators(remaining.accounts):
            raise MigrationError(
                f"The accounts were deleted, but {f'{back[0]!r} is there again' if back else 'no administrator who can log in is left'}",
                check="R08",
                action="Look who else changes accounts now; a deleted administrator can be restored from the last backup",
            )
        return remaining

    def _list_read_only(self, connection: Connection) -> AccountList:
        """Inside a transaction that writes: the query itself still cannot."""
        connection.execute("SAVEPOINT listing")
        connection.execute("SET LOCAL transaction_read_only = on")
        found = self._list(connection)
        connection.execute("ROLLBACK TO SAVEPOINT listing")
        return found

    def _list(self, connection: Connection) -> AccountList:
        try:
            now = connection.execute("SELECT clock_timestamp()").fetchone()
            cursor = connection.execute(self.query.encode())
            names = [column.name for column in cursor.description or ()]
            rows = cursor.fetchall() if cursor.description else []
        except (psycopg.Error, ValueError) as error:
            raise _query_failed(one_line(error)) from error
        missing = [name for name in _COLUMNS if name not in names]
        if missing:
            raise _query_failed(f"it gives no column {missing[0]}")
        accounts = [self._account(dict(zip(names, row, strict=True))) for row in rows]
        return AccountList.of(accounts, now[0] if now else datetime.now(self.zone))

    def _account(self, row: dict[str, Any]) -> Account:
        login, last, name = row["login"], row["last_login"], row.get("name")
        if not isinstance(login, str) or not login:
            raise _query_failed("a login is empty or no text")
        if not isinstance(row["administrator"], bool) or not isinstance(row["disabled"], bool):
            raise _query_failed("administrator and disabled are not both true or false")
        if last is not None and not isinstance(last, datetime):
            raise _query_failed("last_login is no timestamp")
        if last is not None and last.tzinfo is None:
            last = last.replace(tzinfo=self.zone)
        return Account(login, "" if name is None else str(name), last, row["administrator"], row["disabled"])


def _query_failed(why: str) -> MigrationError:
    return MigrationError(
        f"The query that lists accounts is of no use: {why}",
        check="accounts-query",
        action=f"Correct it, so that it gives {', '.join(_COLUMNS)} (and name) of each account",
    )


def _statement_failed(error: BaseException, login: str | None = None) -> MigrationError:
    whose = "" if login is None else f" for {login!r}"
    return MigrationError(
        f"Deleting accounts failed{whose}, and all of it was rolled back: {one_line(error)}",
        check="accounts-statement",
        action="Correct the statements that delete accounts, or run again when nobody else changes this account",
    )
