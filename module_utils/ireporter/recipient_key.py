"""The public key a bundle is encrypted to: an age X25519 recipient or an ``ssh-ed25519`` key, read strictly.

Sources: age-encryption.org/v1 (recipients ``age1…``, Bech32 without its limit of length), BIP-173 (Bech32), RFC 4253, 6.6 and RFC 8709 (the
SSH form), RFC 8032, 5.1.3 (points of Ed25519), RFC 7748 (X25519). No message repeats what was given: it may be a private key.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Literal

from .errors import MigrationError
from .key_fingerprint import fingerprint_of

_CHARACTERS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_P = 2**255 - 19
_D = -121665 * pow(121666, -1, _P) % _P
_LARGE_ORDER_LESS = (
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
)
# u coordinates of points of small order on the curve and its twist: with them anybody knows the shared secret.
_WEAK = frozenset({0, 1, _P - 1, *_LARGE_ORDER_LESS})
_SSH_NAME = b"ssh-ed25519"
_SSH = re.compile(r"ssh-ed25519 ([A-Za-z0-9+/]+={0,2})(?: [^\x00-\x1f\x7f]*)?")


@dataclass(frozen=True)
class Recipient:
    """``text``: what ``age -r`` takes. ``fingerprint``: SHA-256 as ``ssh-keygen -l`` shows it (of the key itself, for age)."""

    kind: Literal["age", "ssh-ed25519"]
    text: str
    fingerprint: str


def recipient(given: object) -> Recipient:
    """Read one public key.

    :raises MigrationError: it is missing, private, of another kind, damaged or of no use (``public-key``).
    """
    if given is None or given == "":
        raise _refuse("The customer's public key is missing", "Ask the customer for it")
    if not isinstance(given, str):
        raise _refuse("The customer's public key is no text", "Give it as quoted text")
    text = given.strip(" \r\n")
    if "PRIVATE KEY" in text.upper() or "AGE-SECRET-KEY" in text.upper():
        raise _refuse(
            "What is given as the customer's public key is a private key",
            "Delete it wherever it was stored, tell the customer that it is no longer secret, and ask for the public half of a new one",
        )
    if text.startswith("ssh-ed25519"):
        return _ssh(text)
    if text.startswith("ssh-") or text.startswith("ecdsa-") or text.startswith("sk-"):
        raise _refuse(
            "The customer's public key is an SSH key of a kind that is not taken",
            "Ask for an ssh-ed25519 or an age key",
        )
    if text.lower().startswith("age1"):
        return _age(text)
    raise _refuse(
        "The customer's public key is neither an age nor an ssh-ed25519 key",
        "Ask for an age1… or ssh-ed25519 … key, on one line",
    )


def bech32_decode(text: str) -> tuple[str, bytes]:
    """Human-readable part and content of a Bech32 string.

    :raises ValueError: a character, the checksum or the padding is wrong.
    """
    if text not in (text.lower(), text.upper()):
        raise ValueError("upper and lower case are mixed")
    part, separator, data = text.lower().rpartition("1")
    if not separator or not part or len(data) < 6 or any(not 33 <= ord(character) <= 126 for character in part):
        raise ValueError("it has no content")
    if any(character not in _CHARACTERS for character in data):
        raise ValueError("it has a character that no such key has")
    values = [_CHARACTERS.index(character) for character in data]
    expanded = [ord(character) >> 5 for character in part] + [0] + [ord(character) & 31 for character in part]
    if _polymod([*expanded, *values]) != 1:
        raise ValueError("its checksum is wrong")
    return part, _to_bytes(values[:-6])


def _polymod(values: list[int]) -> int:
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_GENERATOR):
            checksum ^= generator if top >> bit & 1 else 0
    return checksum


def _to_bytes(groups: list[int]) -> bytes:
    """Groups of five bits as bytes; at most four bits of zero may be left over."""
    number = 0
    for group in groups:
        number = number << 5 | group
    length, left = divmod(len(groups) * 5, 8)
    if left > 4 or number & ((1 << left) - 1):
        raise ValueError("its padding is wrong")
    return (number >> left).to_bytes(length, "big")


def _age(text: str) -> Recipient:
    try:
        part, key = bech32_decode(text)
    except ValueError as error:
        raise _refuse(f"The customer's age key is damaged: {error}", "Ask for it again, copied as a whole") from error
    # age itself refuses capitals, and other parts belong to plugins that the export does not have.
    if part != "age" or text != text.lower() or len(key) != 32:
        raise _refuse(
            "The customer's age key is not of the X25519 kind", "Ask for one that age-keygen made, in small letters"
        )
    if (int.from_bytes(key, "little") & (2**255 - 1)) % _P in _WEAK:
        raise _refuse("The customer's age key protects nothing", "Ask for one that age-keygen made")
    return Recipient("age", text, fingerprint_of(key))


def _ssh(text: str) -> Recipient:
    match = _SSH.fullmatch(text)
    action = "Ask for it again: the one line of the file that ends in .pub"
    if match is None:
        raise _refuse("The customer's SSH key is not of the form ssh-ed25519 KEY COMMENT, on one line", action)
    try:
        blob = base64.b64decode(match[1], validate=True)
    except binascii.Error as error:
        raise _refuse("The customer's SSH key is damaged: it is not base64", action) from error
    head = len(_SSH_NAME).to_bytes(4, "big") + _SSH_NAME + (32).to_bytes(4, "big")
    key = blob.removeprefix(head)
    if not blob.startswith(head) or len(key) != 32 or base64.b64encode(blob).decode() != match[1]:
        raise _refuse("The customer's SSH key is damaged: its content is not one Ed25519 key", action)
    if not _is_point(key):
        raise _refuse("The customer's SSH key is no Ed25519 key that could be encrypted to", action)
    return Recipient("ssh-ed25519", f"ssh-ed25519 {match[1]}", fingerprint_of(blob))


def _is_point(key: bytes) -> bool:
    """Whether it is a point of the curve (RFC 8032, 5.1.3) that is not of small order."""
    y = int.from_bytes(key, "little") & (2**255 - 1)
    if y >= _P:
        return False
    x_squared = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    if x_squared != 0 and pow(x_squared, (_P - 1) // 2, _P) != 1:
        return False
    # The same point on Curve25519 (RFC 7748, 4.1), which age encrypts to.
    return y != 1 and (1 + y) * pow(1 - y, -1, _P) % _P not in _WEAK


def _refuse(happened: str, action: str) -> MigrationError:
    return MigrationError(happened, check="public-key", action=action)
