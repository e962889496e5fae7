# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""server.toml and the licence file."""

from __future__ import annotations

import socket
import tomllib
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from .errors import ConfigurationError


@dataclass(frozen=True)
class Config:
    """One tenant's server. ``database`` is a libpq connection string without a password."""

    suffix: str
    database: str
    licence_file: Path
    listen: Path
    output: Path
    settings: Path
    webdav: Path
    threads: int


def load(path: Path) -> Config:
    """Read ``server.toml``; unknown and missing keys are refused, so a slip of the pen is seen at once."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not TOML: {error}") from error
    known = {"suffix", "database", "licence_file", "listen", "threads", "trees"}
    trees = content.get("trees", {})
    if unknown := (set(content) - known) | (set(trees) - {"output", "settings", "webdav"}):
        raise ConfigurationError(f"{path} has unknown keys: {', '.join(sorted(unknown))}")
    missing = [k for k in ("suffix", "database", "licence_file", "listen") if k not in content]
    missing += [f"trees.{k}" for k in ("output", "settings", "webdav") if k not in trees]
    if missing:
        raise ConfigurationError(f"{path} lacks: {', '.join(missing)}")
    if not str(content["suffix"]).isalnum() and content["suffix"] != "":
        raise ConfigurationError(f"{path}: the suffix may have letters and digits only")
    return Config(
        suffix=content["suffix"],
        database=content["database"],
        licence_file=Path(content["licence_file"]),
        listen=Path(content["listen"]),
        output=Path(trees["output"]),
        settings=Path(trees["settings"]),
        webdav=Path(trees["webdav"]),
        threads=int(content.get("threads", 6)),
    )


def licence_text(hostname: str, maximum_users: int, customer: str) -> str:
    """The licence of one server, as ``settings/xml/License.xml`` holds it."""
    root = ET.Element("License")
    for name, value in (
        ("Product", "i-Reporter stand-in (test equipment)"),
        ("HostName", hostname),
        ("Customer", customer),
        ("MaximumUsers", str(maximum_users)),
    ):
        ET.SubElement(root, name).text = value
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def check_licence(path: Path, hostname: str | None = None) -> int:
    """Refuse to serve with a licence that names another server; return the number of licensed users."""
    hostname = hostname or socket.gethostname()
    try:
        root = ET.fromstring(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"The licence {path} cannot be read: {error.strerror}") from error
    except ET.ParseError as error:
        raise ConfigurationError(f"The licence {path} is not XML: {error}") from error
    named = (root.findtext("HostName") or "").strip()
    if named.split(".")[0].lower() != hostname.split(".")[0].lower():
        raise ConfigurationError(f"The licence {path} belongs to the server {named!r}, this server is {hostname!r}")
    return int(root.findtext("MaximumUsers") or 0)
