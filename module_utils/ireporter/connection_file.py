"""The i-Reporter app's connection file (``.ircf``), with which a device learns its new server (R22)."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from .errors import MigrationError

MEDIA_TYPE = "application/x-ircf"


def connection_file(*, server_name: str, url: str, user_id: str = "") -> str:
    """The file's text: JSON, one server, the password empty.

    There is no way to put a password in: the app stores it as plain text, and a mail is no place for one (R20).
    Loading the file replaces all connections of the app and deletes all local data on the device.

    :raises MigrationError: ``url`` is no plain https address.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or parts.username or parts.password:
        raise MigrationError(
            f"The address {url!r} for the connection file is not a plain https:// address",
            check="R22",
            action="Give the server URL as https://host/path, without user or password",
        )
    server = {"ServerName": server_name, "URL": url, "UserID": user_id, "Password": ""}
    return json.dumps({"Server": {"Servers": [server]}}, ensure_ascii=False, indent=2) + "\n"
