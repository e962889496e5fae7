# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hands out the files of a folder over HTTPS on this machine, no faster than a customer's line."""

from __future__ import annotations

import http.server
import re
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from bench.commands import Command, run

_CHUNK_BYTES = 64 << 10
_RANGE = re.compile(r"bytes=0-(\d+)")


@dataclass(frozen=True)
class Site:
    """``ca_file``: what a client has to trust."""

    address: str
    ca_file: Path

    def link(self, name: str) -> str:
        """To one file of the folder."""
        return f"{self.address}/{name}"


@contextmanager
def serving(folder: Path, directory: Path, bytes_per_second: float) -> Iterator[Site]:
    """Until the block is left. ``directory``: for key and certificate."""
    key, certificate = directory / "site.key", directory / "site.crt"
    run(
        Command(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
                *("-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=127.0.0.1"),
                *("-addext", "subjectAltName=IP:127.0.0.1"),
            ]
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    handler = partial(_Handler, folder=folder, bytes_per_second=bytes_per_second)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield Site(f"https://127.0.0.1:{server.server_address[1]}", certificate)
        finally:
            server.shutdown()
            thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, *arguments: object, folder: Path, bytes_per_second: float) -> None:
        self._folder = folder
        self._rate = bytes_per_second
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """Only plain names: everything else is not found."""
        path = self._folder / self.path.removeprefix("/")
        if "/" in self.path.removeprefix("/") or not path.is_file():
            self.send_error(404)
            return
        size = path.stat().st_size
        wanted = _RANGE.fullmatch(self.headers.get("Range", ""))
        length = min(size, int(wanted[1]) + 1) if wanted else size
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        with path.open("rb") as file:
            self._send(file, length)

    def _send(self, file: BinaryIO, length: int) -> None:
        began, sent = time.monotonic(), 0
        while sent < length:
            chunk = file.read(min(_CHUNK_BYTES, length - sent))
            self.wfile.write(chunk)
            sent += len(chunk)
            time.sleep(max(0.0, sent / self._rate - (time.monotonic() - began)))

    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing: a bench has its own output."""
