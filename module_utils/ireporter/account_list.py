"""A tenant's user accounts at one instant, from wherever they were read (R08)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from .errors import MigrationError


@dataclass(frozen=True)
class Account:
    """``last_login``: aware, or None where nobody ever logged in. ``disabled``: it is listed, but cannot log in."""

    login: str
    name: str
    last_login: datetime | None
    administrator: bool
    disabled: bool

    def as_result(self) -> dict[str, object]:
        """Plain values; ``last_login`` is ISO 8601 in UTC, down to the microsecond."""
        return {
            "login": self.login,
            "name": self.name,
            "last_login": None if self.last_login is None else self.last_login.astimezone(UTC).isoformat(),
            "administrator": self.administrator,
            "disabled": self.disabled,
        }


@dataclass(frozen=True)
class AccountList:
    """``accounts`` in the order of their logins, each login once; ``listed_at``: aware."""

    accounts: tuple[Account, ...]
    listed_at: datetime

    @classmethod
    def of(cls, accounts: Sequence[Account], listed_at: datetime) -> AccountList:
        """
        :raises MigrationError: a login is listed twice, so that nobody could tell which account is meant (``accounts-list``).
        """
        twice = sorted(login for login, times in Counter(account.login for account in accounts).items() if times > 1)
        if twice:
            raise MigrationError(
                f"The accounts are listed with {len(twice)} logins more than once, first {twice[0]!r}",
                check="accounts-list",
                action="Correct the query or the export so that it lists each account once",
            )
        return cls(tuple(sorted(accounts, key=lambda account: account.login)), listed_at)

    def by_login(self) -> dict[str, Account]:
        return {account.login: account for account in self.accounts}

    def as_result(self) -> dict[str, object]:
        """``{listed_at, accounts, count, administrators, disabled, never_logged_in}``."""
        return {
            "listed_at": self.listed_at.astimezone(UTC).isoformat(),
            "accounts": [account.as_result() for account in self.accounts],
            "count": len(self.accounts),
            "administrators": len(administrators(self.accounts)),
            "disabled": sum(account.disabled for account in self.accounts),
            "never_logged_in": sum(account.last_login is None for account in self.accounts),
        }


def administrators(accounts: Sequence[Account]) -> list[Account]:
    """Those who can administer now: a disabled administrator cannot."""
    return [account for account in accounts if account.administrator and not account.disabled]
