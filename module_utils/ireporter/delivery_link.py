"""The link to a delivered file, as nginx's ``secure_link`` checks it: https://<name>/<identity>/<expires>/<token>/<file name>.

All of it is in the path: nothing needs quoting in a shell, and a download keeps the file's name. ``secure_link_md5`` fixes the digest (ngx_http_secure_link_module);
the secret of 256 bits stands at its end. The identity is random, too, and names the folder nginx serves the file from: without the folder the link is dead.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from typing import Final

from .errors import MigrationError

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
"""File names that may stand in a link; the site's configuration has the same."""
IDENTITY: Final = re.compile(r"[A-Za-z0-9_-]{16}")

_SECRET_LINE: Final = re.compile(r"^set \$ireporter_delivery_secret ([0-9a-f]{64});$", re.MULTILINE)


def new_identity() -> str:
    """96 random bits, 16 characters that need no quoting in a URL or a path."""
    return secrets.token_urlsafe(12)


def new_secret_file() -> str:
    """Content of a new secret's file, which nginx includes: the only place the secret stands in."""
    return (
        "# Made on this host by ireporter_delivery. Without it every link given out is dead.\n"
        f"set $ireporter_delivery_secret {secrets.token_hex(32)};\n"
    )


def secret_in(text: str) -> str | None:
    """The secret in such a file; ``None`` where there is none."""
    found = _SECRET_LINE.search(text)
    return found.group(1) if found else None


def token(secret: str, *, identity: str, expires: int, name: str) -> str:
    """What proves that the link was given out here: 22 characters.

    :param expires: seconds since 1970, by the clock of the delivery host.
    """
    signed = hashlib.md5(f"{expires} {identity}/{name} {secret}".encode(), usedforsecurity=False).digest()
    return base64.urlsafe_b64encode(signed).decode("ascii").rstrip("=")


def link(public_name: str, *, identity: str, expires: int, token: str, name: str) -> str:
    """The whole link."""
    return f"https://{public_name}/{identity}/{expires}/{token}/{name}"


def checked_name(name: str) -> str:
    """``name``, if it can stand in a link.

    :raises MigrationError: it cannot (check ``delivery-name``).
    """
    if not NAME.fullmatch(name):
        raise MigrationError(
            f"The file name {name!r} cannot stand in a link",
            check="delivery-name",
            action="Use letters, digits, dots, hyphens and underscores, at most 200, and no dot at the beginning",
        )
    return name
