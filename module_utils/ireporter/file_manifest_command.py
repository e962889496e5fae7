# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the manifest of file trees as JSON lines, to be compared on another server."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from . import file_known_contents
from .errors import MigrationError
from .file_manifest import Known, json_line, manifest, to_text
from .lease import boot_identity

WITHOUT_CONTENT: Final = "without-content"
"""Asked for by the client of the channel's manifest key, or one of ``file_known_contents.KNOWN`` and ``REMEMBERED``."""


def lines(root: Path, *, content: bool = True, known: Known | None = None, versions: bool = False) -> Iterator[bytes]:
    """The manifest as JSON lines between a head and an end, so that a stream cut short is not taken for a whole one.

    The arguments are those of :func:`file_manifest.manifest`. With ``versions`` the head also says in which ``boot`` of this host they hold.
    """
    head = {"root": to_text(os.fsencode(root)), "format": 1}
    yield json_line({**head, "boot": boot_identity()} if versions else head)
    count = 0
    for _path, entry in manifest(root, content=content, known=known, versions=versions):
        count += 1
        yield json_line(entry)
    yield json_line({"end": to_text(os.fsencode(root)), "entries": count})


def main(arguments: list[str]) -> int:
    """``ireporter-migration manifest ROOT…``: also the forced command of the channel's manifest key."""
    parser = argparse.ArgumentParser(prog="ireporter-migration manifest", description=__doc__.splitlines()[0])
    parser.add_argument(
        f"--{WITHOUT_CONTENT}", action="store_true", help="leave out SHA-256 (and do not read the files)"
    )
    parser.add_argument("root", nargs="+", type=Path)
    options = parser.parse_args(arguments)
    # The forced command takes no arguments. Of what the client sends instead, these words have a meaning; all else is ignored.
    asked = os.environ.get("SSH_ORIGINAL_COMMAND")
    without = options.without_content or asked == WITHOUT_CONTENT
    knows = asked in (file_known_contents.KNOWN, file_known_contents.REMEMBERED)
    received = file_known_contents.Received(sys.stdin.buffer) if knows else None
    if not without:
        # What is about to be called equal must still be there after a power cut.
        os.sync()
    try:
        for root in options.root:
            known = received.of(root) if received else None
            versions = asked == file_known_contents.REMEMBERED
            for line in lines(root, content=not without, known=known, versions=versions):
                sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
    except MigrationError as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader has gone; Python would complain once more when it closes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    return 0
