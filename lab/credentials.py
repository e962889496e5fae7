# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything secret in the lab, made at random by the lab: SSH keys, a certificate authority, passwords, the key of the name servers."""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lab.checkout import DOMAIN, STATE

TSIG_NAME = f"migration.{DOMAIN}"
POWERLESS_TSIG_NAME = f"onlooker.{DOMAIN}"

_SECRETS_LOCK = threading.Lock()
"""Tenants are filled in parallel: without it one thread's new secret would be lost to another's."""

_VALID = timedelta(days=397)
_RENEW_BEFORE = timedelta(days=120)
"""A lab that stands for months must not fail a check of the certificate's remaining time."""


@dataclass(frozen=True)
class Certificate:
    """PEM files: the certificate, its key."""

    certificate: Path
    key: Path


def secret(name: str) -> str:
    """A random secret, the same for as long as this lab's state exists: letters and digits, 32 characters."""
    path = STATE / "secrets.json"
    with _SECRETS_LOCK:
        known: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if name not in known:
            known[name] = secrets.token_hex(16)
            _write_private(path, json.dumps(known, indent=1, sort_keys=True).encode())
        return known[name]


def tsig_secret(purpose: str) -> str:
    """A key of the name servers: 256 bits, base64."""
    return base64.b64encode(bytes.fromhex(secret(f"tsig-{purpose}-1") + secret(f"tsig-{purpose}-2"))).decode()


def ssh_key(name: str) -> Path:
    """An Ed25519 key pair in OpenSSH's format; the public half is beside it (``.pub``)."""
    path = STATE / "ssh" / name
    if not (path.exists() and path.with_suffix(".pub").exists()):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.unlink(missing_ok=True)
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"lab {name}", "-f", str(path)], check=True
        )
    return path


def public_key(name: str) -> str:
    """The public half of :func:`ssh_key`: type and key, without the comment."""
    return " ".join(ssh_key(name).with_suffix(".pub").read_text(encoding="ascii").split()[:2])


def fingerprint(name: str) -> str:
    """Of :func:`ssh_key`, as ``ssh-keygen -l`` shows it."""
    shown = subprocess.run(["ssh-keygen", "-l", "-f", str(ssh_key(name))], capture_output=True, text=True, check=True)
    return shown.stdout.split()[1]


def authority() -> Certificate:
    """The lab's certificate authority."""
    made = _paths("ca")
    if _usable(made, []):
        return made
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Lab authority (test equipment)")])
    builder = (
        _builder(name, name, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    _save(made, builder.sign(key, hashes.SHA256()), key)
    for path in made.certificate.parent.glob("*.crt"):  # signed by the one before
        if path != made.certificate:
            path.unlink()
    return made


def certificate(names: Iterable[str]) -> Certificate:
    """A server certificate for these names and addresses, called after the first; made again before it expires."""
    wanted = list(names)
    ca = authority()
    made = _paths(wanted[0])
    if _usable(made, wanted):
        return made
    ca_key = serialization.load_pem_private_key(ca.key.read_bytes(), None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    ca_certificate = x509.load_pem_x509_certificate(ca.certificate.read_bytes())
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        _builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, wanted[0])]), ca_certificate.subject, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in wanted]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
    )
    _save(made, builder.sign(ca_key, hashes.SHA256()), key)
    return made


def keep(name: str, content: str) -> Path:
    """Keep something derived from a secret in a file of the lab's state, readable by its owner only."""
    path = STATE / name
    _write_private(path, content.encode())
    return path


def _paths(name: str) -> Certificate:
    folder = STATE / "certificates"
    return Certificate(folder / f"{name}.crt", folder / f"{name}.key")


def _usable(made: Certificate, names: list[str]) -> bool:
    if not (made.certificate.exists() and made.key.exists()):
        return False
    known = x509.load_pem_x509_certificate(made.certificate.read_bytes())
    if known.not_valid_after_utc - datetime.now(UTC) < _RENEW_BEFORE:
        return False
    if not names:
        return True
    alternative = known.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return list(alternative) == [_general_name(name) for name in names]


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    begin = datetime.now(UTC) - timedelta(hours=1)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + _VALID)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _save(made: Certificate, signed: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    _write_private(
        made.key,
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
    made.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))


def _write_private(path: Path, content: bytes) -> None:
    """Whole or not at all: whoever reads meanwhile finds the old content or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    new.touch(mode=0o600)
    new.write_bytes(content)
    new.replace(path)
