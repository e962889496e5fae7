"""Which accounts go: what a reviewed list asks for, held against the accounts of this moment (R08)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from .account_list import Account, AccountList, administrators
from .clock import read_instant
from .errors import MigrationError
from .known_names import nearest
from .mail_header import header_text

_CHECK = "reviewed-list"
_SHOWN = 20
_KEYS = ("tenant", "listed_at", "accounts", "reviewed_at", "reviewed_by", "delete")


@dataclass(frozen=True)
class Review:
    """What the reviewer had before their eyes (``seen``), when and who they are, and the logins they want gone."""

    tenant: str
    seen: AccountList
    reviewed_at: datetime
    reviewed_by: str
    delete: tuple[str, ...]


@dataclass(frozen=True)
class Removal:
    """``pending``: still to be deleted; ``gone``: logins of the list that are no longer there; ``staying``: all others."""

    pending: tuple[Account, ...]
    gone: tuple[str, ...]
    staying: tuple[Account, ...]


def blank_review(tenant: str, listed: AccountList) -> dict[str, object]:
    """The list for a reviewer to fill in: ``reviewed_at``, ``reviewed_by`` and the logins in ``delete``."""
    found = listed.as_result()
    return {
        "tenant": tenant,
        "listed_at": found["listed_at"],
        "accounts": found["accounts"],
        "reviewed_at": None,
        "reviewed_by": None,
        "delete": [],
    }


def read_review(content: object) -> Review:
    """Read a filled-in list, the shape of :func:`blank_review`.

    :raises MigrationError: something is missing, unknown or of the wrong kind (``reviewed-list``).
    """
    if not isinstance(content, Mapping) or set(content) != set(_KEYS):
        raise _malformed(f"The reviewed list does not consist of {', '.join(_KEYS)}")
    accounts, delete = content["accounts"], content["delete"]
    if not isinstance(accounts, list) or not isinstance(delete, list):
        raise _malformed("accounts and delete of the reviewed list are not both lists")
    if not all(isinstance(login, str) and login for login in delete):
        raise _malformed("delete of the reviewed list holds something that is no login")
    listed_at = read_instant(content["listed_at"], field="listed_at of the reviewed list", check=_CHECK)
    return Review(
        tenant=str(content["tenant"]),
        seen=AccountList.of([_account(entry) for entry in accounts], listed_at),
        reviewed_at=read_instant(content["reviewed_at"], field="reviewed_at of the reviewed list", check=_CHECK),
        reviewed_by=header_text(content["reviewed_by"], field="reviewed_by of the reviewed list", check=_CHECK),
        delete=tuple(delete),
    )


def removal(review: Review, now: AccountList, *, tenant: str) -> Removal:
    """What is to be done, decided from the accounts of this moment.

    An account of the reviewed list that has disappeared since is done already; one that the reviewer never saw is a mistake.

    :raises MigrationError: anything makes the list unfit; every reason is said at once (R08). Nothing may be deleted then.
    """
    problems = list(_problems(review, now, tenant))
    current = now.by_login()
    wanted = set(review.delete)
    pending = tuple(current[login] for login in sorted(wanted & current.keys()))
    staying = tuple(account for account in now.accounts if account.login not in wanted)
    if pending and not administrators(staying):
        problems.append("no administrator who can log in would remain")
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise MigrationError(
            f"The reviewed list cannot be carried out, and no account was deleted: {'; '.join(problems[:_SHOWN])}{more}",
            check="R08",
            action="List the accounts again, let the administrator review that list, and run again with it",
        )
    return Removal(pending, tuple(sorted(wanted - current.keys())), staying)


def _problems(review: Review, now: AccountList, tenant: str) -> Iterator[str]:
    if review.tenant != tenant:
        yield f"it is a list of tenant {review.tenant!r}, not of {tenant!r}"
    if review.reviewed_at < review.seen.listed_at:
        yield "it was reviewed before it was listed"
    if review.reviewed_at > now.listed_at:
        yield "it was reviewed after the accounts were looked at"
    seen, current = review.seen.by_login(), now.by_login()
    for login, times in sorted(Counter(review.delete).items()):
        if times > 1:
            yield f"{login!r} stands in it {times} times"
        if login not in seen:
            near = nearest(login, seen, alike=0.6)
            yield f"{login!r} does not exist" + (f" (nearest: {near!r})" if near else "")
        elif login in current:
            yield from _changes(seen[login], current[login])


def _changes(seen: Account, current: Account) -> Iterator[str]:
    # Whoever logged in after the list was made is not who the reviewer took them for, whenever they signed it.
    if current.last_login is not None and (seen.last_login is None or current.last_login > seen.last_login):
        yield f"{seen.login!r} logged in at {current.last_login.isoformat()}, after the list was made"
    if (seen.name, seen.administrator) != (current.name, current.administrator):
        yield f"{seen.login!r} has another name or other rights than the account that was reviewed"


def _account(entry: object) -> Account:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("login"), str) or not entry["login"]:
        raise _malformed("accounts of the reviewed list holds something that is no account")
    login = entry["login"]
    flags = (entry.get("administrator"), entry.get("disabled"))
    if not all(isinstance(flag, bool) for flag in flags) or not isinstance(entry.get("name"), str):
        raise _malformed(f"The account {login!r} of the reviewed list is incomplete")
    last = entry.get("last_login")
    when = None if last is None else read_instant(last, field=f"last_login of {login!r}", check=_CHECK)
    return Account(login, entry["name"], when, flags[0] is True, flags[1] is True)


def _malformed(happened: str) -> MigrationError:
    return MigrationError(
        happened,
        check=_CHECK,
        action="Begin with the list that ireporter_user_info gives, and fill in only what is empty",
    )
