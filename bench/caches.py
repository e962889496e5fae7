# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same state of caches before every run, whoever runs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from bench.servers import Server

HOW = (
    "before every run: a checkpoint of both servers, everything written to disk (sync), then every file that the run will read is read once; "
    "so all begin with their input in the page cache and nothing waiting to be written; "
    "only the verification that belongs to a copy follows it at once, as in a migration"
)
_READ_BYTES = 1 << 20


def settle(*, servers: Iterable[Server] = (), read: Iterable[Path] = ()) -> None:
    """As :data:`HOW` says. ``read``: folders."""
    for server in servers:
        with server.connect() as connection:
            connection.execute("CHECKPOINT")
    os.sync()
    for directory in read:
        for folder, _, names in os.walk(directory):
            for name in names:
                _read(Path(folder, name))


def rows(server: Server) -> Path:
    """The folder with a server's tables and indexes."""
    return server.data / "base"


def _read(path: Path) -> None:
    if path.is_symlink():
        return
    # A server may drop a file of a past transaction meanwhile.
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            while os.read(descriptor, _READ_BYTES):
                pass
        finally:
            os.close(descriptor)
