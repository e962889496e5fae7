"""Gates about versions, encoding and locale: the target can hold what the source has."""

from __future__ import annotations

import re

from .plan_gate import Gate, failed, passed
from .plan_servers import Servers

_EVERYWHERE = {"c", "posix", "c.utf8"}
_NUMBERS = re.compile(r"\d+")


def version_gates(servers: Servers) -> list[Gate]:
    """PostgreSQL and application of the target are at least the source's."""
    source = servers.source.number("server", "postgresql_version_num")
    target = servers.target.number("server", "postgresql_version_num")
    wanted = servers.provision.number("postgresql_version")
    if target is None and wanted is not None:
        # A major version is all that is known before installation; the newest minor release of it comes.
        target = wanted * 10000 + 9999
    if source is None or target is None:
        which = "source" if source is None else "target"
        database = failed(
            "postgresql-version",
            f"The PostgreSQL version of the {which} is unknown",
            f"Make PostgreSQL on the {which} reachable, or say which version is installed",
            measured=None,
            limit=source,
        )
    elif target // 10000 < source // 10000 or (target < source and wanted is None):
        database = failed(
            "postgresql-version",
            f"PostgreSQL on the target is {_postgresql(target)}, older than {_postgresql(source)} on the source",
            "Install at least the source's version on the target",
            measured=target,
            limit=source,
        )
    else:
        database = passed(
            "postgresql-version",
            f"PostgreSQL on the target is not older than {_postgresql(source)} on the source",
            measured=target,
            limit=source,
        )
    return [database, _application(servers)]


def locale_gate(servers: Servers) -> Gate:
    """Encoding and locale of the source's database can be had on the target."""
    encoding = servers.source.text("database", "encoding")
    needed = [servers.source.text("database", "collate"), servers.source.text("database", "ctype")]
    names = [name for name in needed if name is not None]
    limit = f"{encoding}, {', '.join(dict.fromkeys(names))}"
    gate = "database-locale"
    if encoding is None or len(names) < 2:
        return failed(
            gate,
            "Encoding and locale of the source's database are unknown",
            "Make the database on the source reachable",
            measured=None,
            limit=None,
        )
    measured = servers.target.items("server", "locales")
    offered = [str(entry.content) for entry in measured] if measured is not None else []
    offered += [name for name in (servers.provision.text("locale"),) if name]
    if measured is None and not offered:
        return failed(
            gate,
            "Which locales the target has is unknown",
            f"Say that {names[0]} is installed there",
            measured=None,
            limit=limit,
        )
    missing = [
        name
        for name in dict.fromkeys(names)
        if _locale(name) not in _EVERYWHERE | {_locale(other) for other in offered}
    ]
    if missing:
        return failed(
            gate,
            f"The locale {missing[0]} of the source's database is not on the target",
            f"Install {missing[0]} on the target",
            measured=", ".join(offered),
            limit=limit,
        )
    return passed(
        gate, f"Encoding {encoding} and locale {names[0]} can be had on the target", measured=limit, limit=limit
    )


def _application(servers: Servers) -> Gate:
    gate = "application-version"
    source = servers.source.text("application_version")
    target = servers.target.text("application_version") or servers.provision.text("application_version")
    if source is None or target is None or not _NUMBERS.search(source) or not _NUMBERS.search(target):
        which = "source" if source is None or not _NUMBERS.search(source) else "target"
        return failed(
            gate,
            f"The application's version on the {which} is unknown",
            f"Correct application_version_file of the {which}, or say which version is installed",
            measured=None,
            limit=source,
        )
    if _version(target) < _version(source):
        return failed(
            gate,
            f"The application on the target is {target}, older than {source} on the source",
            "Install at least the source's version on the target",
            measured=target,
            limit=source,
        )
    return passed(
        gate, f"The application on the target is {target}, on the source {source}", measured=target, limit=source
    )


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in _NUMBERS.findall(text))


def _postgresql(number: float) -> str:
    minor = int(number) % 10000
    return str(int(number) // 10000) if minor == 9999 else f"{int(number) // 10000}.{minor}"


def _locale(name: str) -> str:
    return name.lower().replace("utf-8", "utf8")
