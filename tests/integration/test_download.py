"""A bundle fetched by links from a real HTTPS server: resume, dead links, what is not the sender's, and no link anywhere."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import re
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from ireporter import download
from ireporter.bundle_format import Paths
from ireporter.errors import MigrationError

from tests.unit.tenant_fakes import FakeClock

from .bundle_kit import MIGRATION, ROOT, Kit, member, outer_tar, quiet

pytestmark = pytest.mark.integration
SECRET = "Zm9yLXRoZS1jb250YWN0"


class Delivery(http.server.ThreadingHTTPServer):
    """Serves a folder below a secret path, as the delivery host does: Range requests, 410 for what has expired.

    :param breaks: so many transfers of the bundle break off after ``break_after`` bytes.
    """

    daemon_threads = True
    folder: Path
    breaks = 0
    break_after = 100_000
    status = 200
    ranges: list[str | None]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Delivery

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        wanted = self.headers.get("Range")
        if name.endswith(".age"):
            self.server.ranges.append(wanted)
        if self.server.status != 200 or SECRET not in self.path:
            return self._answer(self.server.status if SECRET in self.path else 403, b"dead", {})
        content = (self.server.folder / name).read_bytes()
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted else 0  # type: ignore[index]
        headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if wanted else {}
        part = content[start:]
        if name.endswith(".age") and self.server.breaks > 0:
            self.server.breaks -= 1
            self.send_response(206 if wanted else 200)
            self.send_header("Content-Length", str(len(part)))
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(part[: self.server.break_after])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
            return None
        return self._answer(206 if wanted else 200, part, headers)

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_arguments: object) -> None:
        """Nobody reads it."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", str(folder / "key"), "-out", str(folder / "crt"),
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return folder / "crt", folder / "key"


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    return Kit.make(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def delivery(kit: Kit, certificate: tuple[Path, Path], tmp_path: Path) -> Iterator[Delivery]:
    """With a bundle of about a megabyte."""
    server = Delivery(("127.0.0.1", 0), Handler)
    server.folder = tmp_path / "served"
    server.ranges = []
    kit.craft(server.folder, outer_tar([member("x", os.urandom(1 << 20))]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def here(tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


def links(delivery: Delivery, secret: str = SECRET, name: str = MIGRATION) -> dict[str, str]:
    base = f"https://localhost:{delivery.server_address[1]}/aaaabbbbccccdddd/1795000000/{secret}/{name}.tar.zst.age"
    return {"bundle": base, "statement": f"{base}.sha256", "signature": f"{base}.sha256.sig"}


def fetch(
    delivery: Delivery, here: Path, kit: Kit, certificate: tuple[Path, Path], **more: object
) -> dict[str, object]:
    check = bool(more.pop("check", False))
    order = {
        "links": links(delivery), "directory": here, "tenant": "acme", "signer": kit.fingerprint, "ca_file": certificate[0],
        "retries": 0, **more,
    }  # fmt: skip
    return download.run(download.Order(**order), quiet, FakeClock(), check=check)  # type: ignore[arg-type]


def test_three_files_arrive_once(delivery: Delivery, here: Path, kit: Kit, certificate: tuple[Path, Path]) -> None:
    assert fetch(delivery, here, kit, certificate, check=True)["changed"] is True
    assert [path.name for path in here.iterdir() if path.suffix != ".lock"] == []
    done = fetch(delivery, here, kit, certificate)
    assert (done["changed"], done["resumed_at"], done["migration_id"]) == (True, 0, MIGRATION)
    paths = Paths.within(here, MIGRATION)
    for path in (paths.ciphertext, paths.statement, paths.signature):
        assert path.read_bytes() == (delivery.folder / path.name).read_bytes()
        assert path.stat().st_mode & 0o077 == 0
    asked = len(delivery.ranges)
    for check in (True, False):
        again = fetch(delivery, here, kit, certificate, check=check)
        assert (again["changed"], again["sha256"]) == (False, done["sha256"])
    assert len(delivery.ranges) == asked
    assert {path.name for path in here.iterdir() if path.suffix != ".lock"} == {
        paths.ciphertext.name, paths.statement.name, paths.signature.name,
    }  # fmt: skip


def test_what_broke_off_goes_on_where_it_was(
    delivery: Delivery, here: Path, kit: Kit, certificate: tuple[Path, Path]
) -> None:
    delivery.breaks = 3
    done = fetch(delivery, here, kit, certificate, retries=5)
    assert done["changed"] is True
    starts = [int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0 for wanted in delivery.ranges]
    assert starts == [0, 100_000, 200_000, 300_000]


def test_the_next_run_goes_on_also_by_a_new_link(
    delivery: Delivery, here: Path, kit: Kit, certificate: tuple[Path, Path]
) -> None:
    delivery.breaks = 1
    with pytest.raises(MigrationError, match=r"could not be downloaded.*\(download\)"):
        fetch(delivery, here, kit, certificate)
    assert not Paths.within(here, MIGRATION).ciphertext.exists()
    done = fetch(delivery, here, kit, certificate, links=links(delivery, f"{SECRET}-renewed"))
    assert done["resumed_at"] == 100_000
    assert delivery.ranges[-1] == "bytes=100000-"


@pytest.mark.parametrize(("status", "why"), [(410, "has expired"), (403, "was altered"), (404, "is incomplete")])
def test_a_dead_link_says_what_to_do(
    delivery: Delivery, here: Path, kit: Kit, certificate: tuple[Path, Path], status: int, why: str
) -> None:
    delivery.breaks = 1
    with pytest.raises(MigrationError):
        fetch(delivery, here, kit, certificate)
    delivery.status = status
    with pytest.raises(MigrationError) as dead:
        fetch(delivery, here, kit, certificate, retries=3)
    assert re.search(
        rf"The link of the statement does not work any more \(HTTP {status}\): it {why}.* \(R17\)\. The contact person .*\(R20\)",
        str(dead.value),
    )
    assert SECRET not in str(dead.value)
    # Nothing is lost by that.
    delivery.status = 200
    assert fetch(delivery, here, kit, certificate)["resumed_at"] == 100_000


def test_what_is_not_the_sender_s_is_refused_before_the_bundle_is_fetched(
    delivery: Delivery, here: Path, kit: Kit, certificate: tuple[Path, Path]
) -> None:
    with pytest.raises(MigrationError, match=r"\(bundle-signature\)"):
        fetch(delivery, here, kit, certificate, signer="SHA256:" + "A" * 43)
    with pytest.raises(MigrationError, match=r"of tenant acme, not of globex.*\(bundle-tenant\)"):
        fetch(delivery, here, kit, certificate, tenant="globex")
    assert delivery.ranges == []


def test_a_damaged_download_does_not_stay(
    delivery: Delivery, here: Path, kit: Kit, certificate: tuple[Path, Path]
) -> None:
    path = Paths.within(delivery.folder, MIGRATION).ciphertext
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(MigrationError, match=r"was removed \(bundle-checksum\)"):
        fetch(delivery, here, kit, certificate)
    path.write_bytes(good)
    assert fetch(delivery, here, kit, certificate)["resumed_at"] == 0


def test_a_file_that_grew_is_refused(delivery: Delivery, here: Path, kit: Kit, certificate: tuple[Path, Path]) -> None:
    path = Paths.within(delivery.folder, MIGRATION).ciphertext
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(MigrationError, match=r"\((download|bundle-checksum)\)"):
        fetch(delivery, here, kit, certificate)
    assert not Paths.within(here, MIGRATION).ciphertext.exists()


def test_a_certificate_nobody_trusts(delivery: Delivery, here: Path, kit: Kit, certificate: tuple[Path, Path]) -> None:
    with pytest.raises(MigrationError, match=r"certificate.*\(download\)") as refused:
        fetch(delivery, here, kit, certificate, ca_file=None, retries=3)
    assert "localhost" not in str(refused.value) or SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"bundle": "http://localhost/x/acme-s-1.tar.zst.age"}, "link of the bundle"),
        ({"bundle": 'https://localhost/"/acme-s-1.tar.zst.age'}, "link of the bundle"),
        ({"bundle": "https://localhost/x\noutput = /etc/passwd/acme-s-1.tar.zst.age"}, "link of the bundle"),
        ({"statement": "https://localhost/x/acme-s-1.tar.zst.age"}, "link of the statement"),
        ({"signature": "https://localhost/x/acme-s-2.tar.zst.age.sha256.sig"}, "different bundles"),
    ],
)
def test_links_that_are_none(
    delivery: Delivery, here: Path, kit: Kit, certificate: tuple[Path, Path], changed: dict[str, str], why: str
) -> None:
    with pytest.raises(MigrationError, match=r"\(download-links\)") as refused:
        fetch(delivery, here, kit, certificate, links={**links(delivery), **changed})
    assert why in refused.value.happened
    assert not any(link in str(refused.value) for link in changed.values())


def test_the_links_are_nowhere_while_curl_has_them(
    delivery: Delivery, here: Path, kit: Kit, certificate: tuple[Path, Path]
) -> None:
    """By the module, with everything Ansible can be made to say; looked for in every process there is while the bundle is transferred."""
    looked: list[int] = []
    real = Handler.do_GET

    def look(handler: Handler) -> None:
        if handler.path.endswith(".age") and not looked:
            processes = list(Path("/proc").glob("[0-9]*"))
            looked.append(len(processes))
            for process in processes:
                for what in ("cmdline", "environ"):
                    with contextlib.suppress(OSError):
                        if SECRET.encode() in (process / what).read_bytes():
                            found.append(f"{what} of {(process / 'comm').read_text()}")
        real(handler)

    found: list[str] = []
    Handler.do_GET = look  # type: ignore[method-assign]
    given = here.parent / "links.json"
    options = {
        "links": links(delivery),
        "directory": str(here),
        "tenant": "acme",
        "signer": kit.fingerprint,
        "ca_file": str(certificate[0]),
    }
    given.write_text(
        json.dumps(
            [
                {
                    "hosts": "localhost",
                    "connection": "local",
                    "gather_facts": False,
                    "tasks": [{"ireporter_download": options}],
                }
            ]
        )
    )
    try:
        done = subprocess.run(
            [str(Path(sys.executable).with_name("ansible-playbook")), "-vvvv", str(given)],
            capture_output=True, text=True, check=False, cwd=ROOT, timeout=300,
        )  # fmt: skip
    finally:
        Handler.do_GET = real  # type: ignore[method-assign]
    assert done.returncode == 0, done.stdout
    assert looked and found == []
    assert SECRET not in done.stdout + done.stderr
    assert "changed=1" in done.stdout
    for path in here.iterdir():
        assert SECRET.encode() not in path.read_bytes()
