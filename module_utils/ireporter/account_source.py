"""Where a module reads accounts from: a query in the tenant's database, or a file the Manager exported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from .account_csv import ENCODINGS, Flag, ManagerExport
from .account_list import AccountList
from .account_query import AccountQuery
from .clock import read_instant
from .database_connection import Address
from .errors import MigrationError

_FLAG = {
    "column": {"type": "str", "required": True},
    "values": {"type": "list", "elements": "str", "required": True},
}
# Module options shared by everything that reads accounts.
ARGUMENTS: dict[str, Any] = {
    "tenant": {"type": "str", "required": True},
    "database": {"type": "str"},
    "query": {"type": "str"},
    "time_zone": {"type": "str", "default": "Asia/Tokyo"},
    "export": {
        "type": "dict",
        "options": {
            "path": {"type": "path", "required": True},
            "exported_at": {"type": "str", "required": True},
            "encoding": {"type": "str", "choices": list(ENCODINGS), "default": "utf-8"},
            "login": {"type": "str", "required": True},
            "name": {"type": "str"},
            "last_login": {"type": "str", "required": True},
            "last_login_format": {"type": "str", "default": "%Y/%m/%d %H:%M:%S"},
            "administrator": {"type": "dict", "required": True, "options": _FLAG},
            "disabled": {"type": "dict", "options": _FLAG},
        },
    },
}
MUTUALLY_EXCLUSIVE = [("database", "export")]
REQUIRED_ONE_OF = [("database", "export")]
REQUIRED_TOGETHER = [("database", "query")]


def time_zone(name: str) -> ZoneInfo:
    """
    :raises MigrationError: there is no such zone (``accounts-time-zone``).
    """
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError) as error:
        raise MigrationError(
            f"The time zone {name!r} is unknown here", check="accounts-time-zone", action="Write it like Asia/Tokyo"
        ) from error


def listing(options: Mapping[str, Any]) -> AccountList:
    """The accounts of this moment (of an export: of the moment it was made).

    :raises MigrationError: they cannot be read; see the two sources.
    """
    zone = time_zone(options["time_zone"])
    if options["export"] is not None:
        return _export(options["export"], zone).listing()
    return database(options).listing()


def database(options: Mapping[str, Any]) -> AccountQuery:
    """The tenant's database, asked by the operator's query."""
    return AccountQuery(
        Address.parse(options["database"], "database"), options["query"], time_zone(options["time_zone"])
    )


def _export(given: Mapping[str, Any], zone: ZoneInfo) -> ManagerExport:
    return ManagerExport(
        path=Path(given["path"]),
        encoding=given["encoding"],
        exported_at=read_instant(given["exported_at"], field="exported_at", check="accounts-export"),
        login=given["login"],
        name=given["name"],
        last_login=given["last_login"],
        last_login_format=given["last_login_format"],
        administrator=_flag(given["administrator"]),
        disabled=_flag(given["disabled"]) if given["disabled"] else None,
        zone=zone,
    )


def _flag(given: Mapping[str, Any]) -> Flag:
    return Flag(given["column"], tuple(given["values"]))
