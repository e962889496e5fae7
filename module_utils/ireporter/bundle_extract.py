"""GNU tar unpacks one tree that was held against its manifest."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from .bundle_encryption import require_programs, said
from .bundle_places import disk_full
from .errors import MigrationError


def extract(tree: str, tar: Path, place: Path) -> None:
    """Unpack ``tar`` into the new folder ``place``, with modes, times, links, attributes, ACLs, and as root owners by name.

    :raises MigrationError: the disk is full (check ``disk-full``), or it could not be unpacked (``bundle-unpack``).
    """
    require_programs("tar")
    place.mkdir()
    with tempfile.TemporaryFile() as errors:
        # The tar was held against its manifest: every name lies below real folders. GNU tar makes links last, besides.
        status = subprocess.run(
            [
                "tar", "--extract", f"--file={tar}", f"--directory={place}", "--acls", "--xattrs", "--xattrs-include=*",
                "--same-permissions", "--delay-directory-restore",
                *(["--same-owner"] if os.geteuid() == 0 else []),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            check=False,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},
        ).returncode  # fmt: skip
        complaint = said(errors)
    if status != 0:
        # Of a disk that fills up within a file, tar says the second.
        if "No space left on device" in complaint or "Wrote only" in complaint:
            raise disk_full(place.parent)
        raise MigrationError(
            f"The file tree {tree} could not be unpacked: {complaint}",
            check="bundle-unpack",
            action="Mend the cause that tar names (a file system without attributes or ACLs, for instance), then run again",
        )
