"""Fingerprints of public keys, as ``ssh-keygen -l`` shows them: ``SHA256:`` and 43 characters."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Final

PATTERN: Final = r"SHA256:[A-Za-z0-9+/]{43}"
_FINGERPRINT: Final = re.compile(PATTERN, re.ASCII)


def is_fingerprint(text: object) -> bool:
    """Whether it is one, and nothing around it."""
    return isinstance(text, str) and _FINGERPRINT.fullmatch(text) is not None


def fingerprint_of(key: bytes) -> str:
    """Of the key itself: for OpenSSH what its base64 holds."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")
