# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints one SHA-256 of the content of files and folders on the control node, in the order given; one that is missing counts as such.

Called as: digest_of_files.py PATH …
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path


def digest(paths: list[str]) -> str:
    """Of names below each path, and contents."""
    whole = hashlib.sha256()
    for given in map(Path, paths):
        members = sorted(path for path in given.rglob("*") if path.suffix != ".pyc") if given.is_dir() else [given]
        for path in members:
            if path.is_dir():
                continue
            content = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "missing"
            whole.update(f"{path.relative_to(given)} {content}\n".encode())
    return whole.hexdigest()


if __name__ == "__main__":
    print(digest(sys.argv[1:]))
