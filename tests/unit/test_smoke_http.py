"""The HTTPS client of the smoke test, against a TLS server on the loopback."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from ireporter.errors import MigrationError
from ireporter.smoke_http import HttpApi

NAME = "acme.ireporter.example"


class Handler(BaseHTTPRequestHandler):
    """Remembers what it was asked, and sets a cookie."""

    seen: list[tuple[dict[str, str], dict[str, list[str]]]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.seen.append(({name: str(value) for name, value in self.headers.items()}, parse_qs(body)))
        self.send_response(200)
        self.send_header("Set-Cookie", "ASP.NET_SessionId=abc123; path=/; HttpOnly")
        self.send_header("Content-Length", "9")
        self.end_headers()
        self.wfile.write(b"<conmas/>")

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificate and key for the public name, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    unencrypted = serialization.NoEncryption()
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, unencrypted)
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def server(certificate: Path) -> Iterator[tuple[int, type[Handler]]]:
    handler = type("ThisHandler", (Handler,), {"seen": []})
    listener = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    listener.socket = context.wrap_socket(listener.socket, server_side=True)
    thread = threading.Thread(target=listener.serve_forever, daemon=True)
    thread.start()
    yield listener.server_address[1], handler
    listener.shutdown()
    listener.server_close()
    thread.join(5)


def test_it_connects_to_the_address_and_speaks_to_the_name(
    server: tuple[int, type[Handler]], certificate: Path
) -> None:
    port, handler = server
    secret = {"X-IReporter-Smoke": "run-secret"}
    api = HttpApi(f"https://{NAME}:{port}/api", address="127.0.0.1", ca_file=str(certificate), headers=secret)
    assert api("Login", user="山田", password="a&b=c %+;\"'{{ 1 }}").body == b"<conmas/>"
    api("Logout")
    (first, form), (second, _) = handler.seen
    assert first["Host"] == f"{NAME}:{port}"
    assert form == {"command": ["Login"], "user": ["山田"], "password": ["a&b=c %+;\"'{{ 1 }}"]}
    assert "Cookie" not in first
    assert second["Cookie"] == "ASP.NET_SessionId=abc123"
    assert first["X-IReporter-Smoke"] == second["X-IReporter-Smoke"] == "run-secret"


def test_a_certificate_for_another_name_or_from_a_stranger_is_refused(
    server: tuple[int, type[Handler]], certificate: Path
) -> None:
    port, handler = server
    other = HttpApi(f"https://bravo.ireporter.example:{port}/api", address="127.0.0.1", ca_file=str(certificate))
    stranger = HttpApi(f"https://{NAME}:{port}/api", address="127.0.0.1")
    for api in (other, stranger):
        with pytest.raises(ssl.SSLCertVerificationError):
            api("Login", user="x", password="y")
    assert handler.seen == []


def test_a_missing_authority_is_named() -> None:
    with pytest.raises(MigrationError, match="smoke-ca-file"):
        HttpApi(f"https://{NAME}/api", ca_file="/nonexistent/ca.pem")
