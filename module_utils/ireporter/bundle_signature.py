"""OpenSSH signatures over statements: made and checked by ``ssh-keygen -Y``; who signed is told by the key's fingerprint."""

from __future__ import annotations

import base64
import binascii
import os
import re
import subprocess
from pathlib import Path

from .bundle_format import NAMESPACE
from .errors import MigrationError
from .key_fingerprint import PATTERN, fingerprint_of, is_fingerprint

_BEGIN, _END = b"-----BEGIN SSH SIGNATURE-----\n", b"-----END SSH SIGNATURE-----\n"
_COLUMNS = 70
_PREFIX = b"SSHSIG\x00\x00\x00\x01"
_KEY = re.compile(r"(?:ssh-ed25519|ecdsa-sha2-nistp\d+|ssh-rsa|sk-\S+@openssh\.com) ([A-Za-z0-9+/]+={0,2})(?: .*)?")
_SECONDS = 60


def fingerprint(signer: str) -> str:
    """``SHA256:…`` of ``signer``, which is a public key (a line of OpenSSH's) or a fingerprint already.

    :raises MigrationError: it is neither (check ``bundle-signer``).
    """
    text = signer.strip()
    if is_fingerprint(text):
        return text
    found = _KEY.fullmatch(text)
    try:
        raw = base64.b64decode(found[1], validate=True) if found else b""
    except binascii.Error:
        raw = b""
    if not raw:
        raise MigrationError(
            "The expected signer is neither an OpenSSH public key nor a fingerprint",
            check="bundle-signer",
            action="Write the fingerprint that stands in the quote, like SHA256: and 43 characters",
        )
    return fingerprint_of(raw)


def sign(key: Path, statement: bytes) -> bytes:
    """The signature of ``statement``.

    :param key: private key without a passphrase, or a public one whose private half an agent holds.
    :raises MigrationError: it cannot sign (check ``bundle-signing-key``).
    """
    completed = _ssh_keygen(["sign", "-f", str(key), "-n", NAMESPACE], statement)
    if completed.returncode != 0:
        raise MigrationError(
            f"{key} cannot sign: {_said(completed)}",
            check="bundle-signing-key",
            action="Name an OpenSSH private key without a passphrase that root may read",
        )
    return completed.stdout


def public_fingerprint(key: Path) -> str:
    """Of the key that :func:`sign` is given.

    :raises MigrationError: there is none (check ``bundle-signing-key``).
    """
    return _signer_of(b"", sign(key, b""))


def check(statement: bytes, signature: bytes, signer: str) -> None:
    """Make sure that ``signer`` (as for :func:`fingerprint`) signed ``statement``.

    :raises MigrationError: somebody else did, or nobody (check ``bundle-signature``).
    """
    expected = fingerprint(signer)
    found = _signer_of(statement, signature)
    if found != expected:
        raise _refuse(f"The bundle is signed by {found}, not by the expected signer {expected}")


def _signer_of(statement: bytes, signature: bytes) -> str:
    # The armour has many notations of one signature; only ssh-keygen's own is taken, so that no changed byte passes.
    body = signature.removeprefix(_BEGIN).removesuffix(_END)
    try:
        raw = base64.b64decode(body)
    except binascii.Error:
        raw = b""
    text = base64.b64encode(raw)
    lines = b"".join(text[start : start + _COLUMNS] + b"\n" for start in range(0, len(text), _COLUMNS))
    if _BEGIN + lines + _END != signature or not _is_ours(raw):
        raise _refuse("The bundle's signature is damaged")
    file = os.memfd_create("signature")
    try:
        os.write(file, signature)
        completed = _ssh_keygen(["check-novalidate", "-n", NAMESPACE, "-s", f"/proc/self/fd/{file}"], statement, file)
    finally:
        os.close(file)
    good = re.fullmatch(
        rf'Good "{re.escape(NAMESPACE)}" signature with \S+ key ({PATTERN})\s*',
        completed.stdout.decode(errors="replace"),
    )
    if completed.returncode != 0 or good is None:
        raise _refuse(f"The bundle's signature is not one of its statement: {_said(completed)}")
    return good[1]


def _is_ours(raw: bytes) -> bool:
    """Whether the fields that the signature does not cover are what they always are (PROTOCOL.sshsig: version, reserved)."""
    if not raw.startswith(_PREFIX):
        return False
    rest = raw[len(_PREFIX) :]
    fields = []
    for _field in range(3):
        size = int.from_bytes(rest[:4], "big")
        fields.append(rest[4 : 4 + size])
        rest = rest[4 + size :]
    return fields[1:] == [NAMESPACE.encode(), b""]


def _ssh_keygen(arguments: list[str], text: bytes, *files: int) -> subprocess.CompletedProcess[bytes]:
    kept = {name: os.environ[name] for name in ("PATH", "SSH_AUTH_SOCK") if name in os.environ}
    try:
        # A session of its own has no terminal to ask for a passphrase on.
        return subprocess.run(
            ["ssh-keygen", "-Y", *arguments],
            input=text,
            capture_output=True,
            check=False,
            timeout=_SECONDS,
            start_new_session=True,
            pass_fds=files,
            env={**kept, "LC_ALL": "C", "SSH_ASKPASS_REQUIRE": "never"},
        )
    except FileNotFoundError as error:
        raise MigrationError(
            "The program ssh-keygen is not installed here",
            check="server-programs",
            action="Install the package openssh-client",
        ) from error


def _said(completed: subprocess.CompletedProcess[bytes]) -> str:
    lines = completed.stderr.decode(errors="backslashreplace").split("\n")
    return (
        "; ".join(line.strip() for line in lines if line.strip() and not line.startswith("Signing"))
        or f"exit status {completed.returncode}"
    )


def _refuse(happened: str) -> MigrationError:
    return MigrationError(
        happened,
        check="bundle-signature",
        action="Use nothing of it; ask the sender for the bundle and for the signer's fingerprint by another way",
    )
