"""Tests of the lab's secrets: random, kept, renewed, readable by their owner only."""

from __future__ import annotations

import base64
import ssl
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from lab import credentials


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty lab state."""
    monkeypatch.setattr(credentials, "STATE", tmp_path)
    return tmp_path


def test_a_secret_stays_while_the_state_stays(state: Path) -> None:
    first = credentials.secret("acme-app")
    assert credentials.secret("acme-app") == first
    assert credentials.secret("bravo-app") != first
    assert (state / "secrets.json").stat().st_mode & 0o077 == 0
    (state / "secrets.json").unlink()
    assert credentials.secret("acme-app") != first


def test_secrets_first_asked_for_at_the_same_time_are_all_kept() -> None:
    """Three tenants are filled in parallel; one lost secret is a tenant nobody can log in to."""
    names = [f"tenant{number}-users" for number in range(100)]
    with ThreadPoolExecutor(16) as pool:
        given = dict(zip(names, pool.map(credentials.secret, names), strict=True))
    assert {name: credentials.secret(name) for name in names} == given


def test_tsig_secrets_have_256_bits() -> None:
    assert len(base64.b64decode(credentials.tsig_secret("update"))) == 32
    assert credentials.tsig_secret("update") != credentials.tsig_secret("transfer")


def test_a_certificate_is_believed_by_who_believes_the_authority(state: Path) -> None:
    made = credentials.certificate(["acme.ireporter.example", "10.1.2.3"])
    assert made.key.stat().st_mode & 0o077 == 0
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(made.certificate, made.key)
    client = ssl.create_default_context(cafile=str(credentials.authority().certificate))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server_side = server.wrap_bio(to_server, to_client, server_side=True)
    client_side = client.wrap_bio(to_client, to_server, server_hostname="acme.ireporter.example")
    for _ in range(4):
        for side in (client_side, server_side):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert client_side.getpeercert()


def test_a_certificate_is_kept_until_it_is_near_its_end_or_the_names_change(monkeypatch: pytest.MonkeyPatch) -> None:
    first = credentials.certificate(["a.example"]).certificate.read_bytes()
    assert credentials.certificate(["a.example"]).certificate.read_bytes() == first
    assert credentials.certificate(["a.example", "b.example"]).certificate.read_bytes() != first
    second = credentials.certificate(["a.example"]).certificate.read_bytes()
    monkeypatch.setattr(credentials, "_RENEW_BEFORE", timedelta(days=400))
    assert credentials.certificate(["a.example"]).certificate.read_bytes() != second


def test_a_new_authority_signs_everything_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    made = credentials.certificate(["a.example"])
    (made.certificate.parent / "ca.key").unlink()
    again = x509.load_pem_x509_certificate(credentials.certificate(["a.example"]).certificate.read_bytes())
    ca = x509.load_pem_x509_certificate(credentials.authority().certificate.read_bytes())
    again.verify_directly_issued_by(ca)


def test_a_key_pair_lost_by_half_is_made_again() -> None:
    credentials.ssh_key("host").with_suffix(".pub").unlink()
    assert credentials.public_key("host").startswith("ssh-ed25519 ")
