"""One tenant on one server, as the inventory describes it: checked once, then typed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import MigrationError

# Everything a migration remembers on a server, and the program that units and people call there.
STATE_DIRECTORY = Path("/var/lib/ireporter-migration")
LAUNCHER = "/usr/local/sbin/ireporter-migration"

TENANT_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
UNIT_NAME = re.compile(r"[A-Za-z0-9:_.\\@-]+\.(service|timer|path|socket|target)")
_HOST_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")
_URL_PATH = re.compile(r"/[A-Za-z0-9/._~%-]*")

LOGIN_ARGUMENTS: dict[str, Any] = {
    "user": {"type": "str", "required": True},
    "password": {"type": "str", "required": True, "no_log": True},
}
# The module option ``tenant``: shared by every module that takes one.
ARGUMENTS: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "suffix": {"type": "str", "required": True},
    "public_name": {"type": "str", "required": True},
    "database": {"type": "str", "required": True},
    "database_admin": {"type": "str", "required": True},
    "database_probes": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "conninfo": {"type": "str", "required": True},
            "statement": {"type": "str", "required": True},
        },
    },
    "web": {
        "type": "dict",
        "required": True,
        "options": {
            "gate_file": {"type": "path", "required": True},
            "reload": {"type": "list", "elements": "str", "default": ["systemctl", "reload", "nginx"]},
            "test": {"type": "list", "elements": "str", "default": ["nginx", "-t"]},
            "dump": {"type": "list", "elements": "str", "default": ["nginx", "-T"]},
            "address": {"type": "str", "default": "127.0.0.1"},
            "port": {"type": "int", "default": 443},
            "ca_file": {"type": "path", "default": "/etc/ssl/certs/ca-certificates.crt"},
            "login": {"type": "dict", "options": LOGIN_ARGUMENTS},
            "api_path": {"type": "str"},
            "webdav_path": {"type": "str"},
            "webdav_login": {"type": "dict", "options": LOGIN_ARGUMENTS},
            "retry_after_seconds": {"type": "int", "default": 300},
        },
    },
    "application": {
        "type": "dict",
        "required": True,
        "options": {"unit": {"type": "str", "required": True}, "socket": {"type": "path"}},
    },
    "scheduled_units": {"type": "list", "elements": "str", "default": []},
    "silence_monitoring": {"type": "list", "elements": "str", "default": []},
    "resume_monitoring": {"type": "list", "elements": "str", "default": []},
    "file_trees": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "path": {"type": "path", "required": True},
            "write_as": {"type": "str", "default": "root"},
            "write_in": {"type": "str", "default": ""},
        },
    },
    "licence_file": {
        "type": "dict",
        "options": {"tree": {"type": "str", "required": True}, "path": {"type": "str", "required": True}},
    },
    "accounts_query": {"type": "str"},
    "application_version_file": {"type": "path"},
    "moved_patterns": {"type": "list", "elements": "str", "default": []},
}


@dataclass(frozen=True)
class Probe:
    """One of the tenant's own ways into its database; ``statement`` succeeds (and is rolled back) while the tenant is open."""

    name: str
    conninfo: str
    statement: str


@dataclass(frozen=True)
class Login:
    user: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Web:
    gate_file: Path
    reload: tuple[str, ...]
    test: tuple[str, ...]
    dump: tuple[str, ...]
    address: str
    port: int
    ca_file: str
    login: Login | None
    api_path: str
    webdav_path: str | None
    webdav_login: Login | None
    retry_after_seconds: int


@dataclass(frozen=True)
class Application:
    unit: str
    socket: str | None


@dataclass(frozen=True)
class Tree:
    name: str
    path: Path
    write_as: str
    write_in: str


@dataclass(frozen=True)
class Tenant:
    """Everything the freeze and the facts need. ``without_secrets`` is the dictionary it came from, less the passwords."""

    name: str
    suffix: str
    public_name: str
    database: str
    database_admin: str
    database_probes: tuple[Probe, ...]
    web: Web
    application: Application
    scheduled_units: tuple[str, ...]
    silence_monitoring: tuple[str, ...]
    resume_monitoring: tuple[str, ...]
    file_trees: tuple[Tree, ...]
    licence_file: tuple[str, str] | None
    accounts_query: str | None
    application_version_file: Path | None
    moved_patterns: tuple[str, ...]
    without_secrets: dict[str, object]


def tenant_name(text: object) -> str:
    """``text``, when it can name a tenant.

    :raises MigrationError: it cannot; it would end up in unit and file names.
    """
    if not isinstance(text, str) or not TENANT_NAME.fullmatch(text):
        raise _refuse(f"{text!r} is no tenant name", "Use a small letter, then up to 30 of a-z, 0-9 and -")
    return text


def parse(raw: Mapping[str, object]) -> Tenant:
    """Check the inventory's dictionary and give it types.

    :raises MigrationError: a value is missing, has the wrong type or could not be used safely (check ``tenant-settings``).
    """
    name = tenant_name(raw.get("name"))
    web_raw = _mapping(raw, "web")
    application_raw = _mapping(raw, "application")
    unit = _text(application_raw, "unit", "application.unit")
    scheduled = _texts(raw, "scheduled_units")
    for unit_name in (unit, *scheduled):
        if not UNIT_NAME.fullmatch(unit_name):
            raise _refuse(f"{unit_name!r} is no systemd unit name", "Write it with its suffix, such as acme.service")
    suffix = _text(raw, "suffix", "suffix")
    login = _login(web_raw.get("login"), "web.login")
    webdav_path = web_raw.get("webdav_path")
    api_path = web_raw.get("api_path") or f"/ConMasAPI{suffix}/Rests/APIExecute.aspx"
    for label, path in (("web.webdav_path", webdav_path), ("web.api_path", api_path)):
        if path is not None and (not isinstance(path, str) or not _URL_PATH.fullmatch(path)):
            raise _refuse(f"{label} of tenant {name} is no URL path: {path!r}", "Write it from / and percent-encoded")
    public_name = _text(raw, "public_name", "public_name")
    if not _HOST_NAME.fullmatch(public_name):
        raise _refuse(
            f"public_name of tenant {name} is no host name: {public_name!r}", "Write the name without https://"
        )
    web = Web(
        gate_file=_absolute(_text(web_raw, "gate_file", "web.gate_file"), "web.gate_file"),
        reload=_texts(web_raw, "reload") or ("systemctl", "reload", "nginx"),
        test=_texts(web_raw, "test") or ("nginx", "-t"),
        dump=_texts(web_raw, "dump") or ("nginx", "-T"),
        address=_text(web_raw, "address", "web.address", default="127.0.0.1"),
        port=_number(web_raw, "port", 443),
        ca_file=_text(web_raw, "ca_file", "web.ca_file", default="/etc/ssl/certs/ca-certificates.crt"),
        login=login,
        api_path=str(api_path),
        webdav_path=None if webdav_path is None else f"{str(webdav_path).rstrip('/')}/",
        webdav_login=_login(web_raw.get("webdav_login"), "web.webdav_login") or login,
        retry_after_seconds=_number(web_raw, "retry_after_seconds", 300),
    )
    if not re.fullmatch(r"[A-Za-z0-9/._@+-]+\.gate[A-Za-z0-9._-]*\.conf", str(web.gate_file)):
        raise _refuse(
            f"web.gate_file of tenant {name} is {web.gate_file}", "Name it <tenant>.gate.conf, without spaces"
        )
    probes = tuple(
        Probe(
            _text(probe, "name", "database_probes.name"),
            _text(probe, "conninfo", "database_probes.conninfo"),
            _text(probe, "statement", "database_probes.statement"),
        )
        for probe in _mappings(raw, "database_probes")
    )
    trees = tuple(
        Tree(
            _text(tree, "name", "file_trees.name"),
            _absolute(_text(tree, "path", "file_trees.path"), "file_trees.path"),
            _text(tree, "write_as", "file_trees.write_as", default="root"),
            _text(tree, "write_in", "file_trees.write_in", default=""),
        )
        for tree in _mappings(raw, "file_trees")
    )
    if not probes or not trees:
        raise _refuse(
            f"Tenant {name} has no {'database_probes' if not probes else 'file_trees'}",
            "Name at least one: without a probe a freeze cannot be proven",
        )
    licence = raw.get("licence_file")
    return Tenant(
        name=name,
        suffix=suffix,
        public_name=public_name,
        database=_text(raw, "database", "database"),
        database_admin=_text(raw, "database_admin", "database_admin"),
        database_probes=probes,
        web=web,
        application=Application(unit, _optional(application_raw, "socket")),
        scheduled_units=scheduled,
        silence_monitoring=_texts(raw, "silence_monitoring"),
        resume_monitoring=_texts(raw, "resume_monitoring"),
        file_trees=trees,
        licence_file=(str(licence["tree"]), str(licence["path"])) if isinstance(licence, Mapping) else None,
        accounts_query=_optional(raw, "accounts_query"),
        application_version_file=_optional_path(raw, "application_version_file"),
        moved_patterns=_texts(raw, "moved_patterns"),
        without_secrets=_without_secrets(raw),
    )


def _without_secrets(raw: Mapping[str, object]) -> dict[str, object]:
    web = {key: value for key, value in _mapping(raw, "web").items() if key not in ("login", "webdav_login")}
    return {**raw, "web": web}


def _refuse(happened: str, action: str) -> MigrationError:
    return MigrationError(happened, check="tenant-settings", action=action)


def _mapping(raw: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = raw.get(key)
    if not isinstance(value, Mapping):
        raise _refuse(f"The tenant's setting {key} is missing", f"Add {key} to the tenant in the inventory")
    return value


def _mappings(raw: Mapping[str, object], key: str) -> list[Mapping[str, object]]:
    value = raw.get(key)
    if not isinstance(value, Sequence) or not all(isinstance(item, Mapping) for item in value):
        raise _refuse(f"The tenant's setting {key} is no list of dictionaries", f"Correct {key} in the inventory")
    return list(value)


def _text(raw: Mapping[str, object], key: str, label: str, *, default: str | None = None) -> str:
    value = raw.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, str) or (not value and default is None) or "\0" in value:
        raise _refuse(f"The tenant's setting {label} is missing or no text", f"Set {label} in the inventory")
    return value


def _optional(raw: Mapping[str, object], key: str) -> str | None:
    value = raw.get(key)
    return None if value in (None, "") else str(value)


def _optional_path(raw: Mapping[str, object], key: str) -> Path | None:
    value = _optional(raw, key)
    return None if value is None else Path(value)


def _texts(raw: Mapping[str, object], key: str) -> tuple[str, ...]:
    value = raw.get(key)
    if value is None:
        return ()
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(item, str) for item in value):
        raise _refuse(f"The tenant's setting {key} is no list of texts", f"Correct {key} in the inventory")
    return tuple(value)


def _number(raw: Mapping[str, object], key: str, default: int) -> int:
    value = raw.get(key)
    if value is None:
        return default
    if not isinstance(value, int) or value < 0:
        raise _refuse(f"The tenant's setting web.{key} is no number: {value!r}", f"Correct web.{key} in the inventory")
    return value


def _absolute(text: str, label: str) -> Path:
    path = Path(text)
    if not path.is_absolute() or ".." in path.parts:
        raise _refuse(f"The tenant's setting {label} is no absolute path: {text!r}", f"Write {label} from /")
    return path


def _login(value: object, label: str) -> Login | None:
    if value is None:
        return None
    if not isinstance(value, Mapping) or not value.get("user") or not value.get("password"):
        raise _refuse(f"The tenant's setting {label} lacks user or password", f"Set both, or leave {label} out")
    return Login(str(value["user"]), str(value["password"]))
