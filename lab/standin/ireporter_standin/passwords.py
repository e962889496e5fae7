# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Password hashes of API users: scrypt, cheap enough for a test server that sees many logins."""

from __future__ import annotations

import hashlib
import hmac
import os

_COST = {"n": 1024, "r": 8, "p": 1}


def hashed(password: str, salt: bytes | None = None) -> str:
    """``scrypt$<salt hex>$<digest hex>``."""
    salt = os.urandom(16) if salt is None else salt
    digest = hashlib.scrypt(password.encode(), salt=salt, dklen=32, **_COST)
    return f"scrypt${salt.hex()}${digest.hex()}"


def matches(password: str, stored: str) -> bool:
    """Whether ``password`` is the one behind ``stored``; False for a hash of another kind."""
    kind, _, rest = stored.partition("$")
    salt, _, digest = rest.partition("$")
    if kind != "scrypt":
        return False
    try:
        wanted = bytes.fromhex(digest)
        made = hashlib.scrypt(password.encode(), salt=bytes.fromhex(salt), dklen=32, **_COST)
    except ValueError:
        return False
    return hmac.compare_digest(wanted, made)
