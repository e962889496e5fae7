"""File trees on their way into a bundle: a manifest as JSON lines, and a pax tar by GNU tar, which is streamed and never lies on disk."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from .bundle_encryption import require_programs, said, widen
from .bundle_names import Names
from .bundle_tar import READ_BYTES
from .errors import MigrationError
from .file_manifest import Text, json_line, manifest, to_bytes, to_text
from .file_trees import FileTree

CARRIED: Final = ("file", "directory", "link")
SPECIAL_REASON: Final = "sockets, named pipes and devices hold no data"
LICENCE_REASON: Final = "the licence belongs to its server and is never copied"

# A system call for each 256 KiB instead of each 512 bytes; zeros fill up the last.
_BLOCKS_AT_ONCE: Final = 512
_TOTAL: Final = re.compile(r"Total bytes written: (\d+)")


@dataclass
class Packed:
    """A tree as it goes into the bundle.

    :param manifest: file with its manifest.
    :param names: file with the paths to pack, each ended by NUL.
    :param tar_bytes: size the tar will have.
    :param without: what is left out: reason → paths.
    :param renamed: names NTFS cannot hold, ``{path, replacement}``.
    """

    tree: FileTree
    manifest: Path
    names: Path
    entries: int = 0
    files: int = 0
    file_bytes: int = 0
    tar_bytes: int = 0
    without: dict[str, list[bytes]] = field(default_factory=dict)
    renamed: list[dict[str, Text]] = field(default_factory=list)


def look(tree: FileTree, folder: Path) -> Packed:
    """Read the whole tree once: write its manifest below ``folder``, and learn how large its tar will be.

    :raises MigrationError: a file cannot be read, changed meanwhile, or another file system is mounted inside (check ``file-tree``).
    """
    require_programs("tar")
    packed = Packed(tree, folder / f"{tree.name}.jsonl", folder / f"{tree.name}.names")
    names = Names()
    # Hard links to something left out: the first that stays becomes the file.
    first_left: dict[bytes, bytes] = {}
    with (
        packed.manifest.open("xb") as lines,
        packed.names.open("xb") as listed,
        # One reader: the dump beside it has the other processor, and the files were staged a moment ago.
        closing(manifest(tree.source, workers=1)) as entries,
    ):
        lines.write(json_line({"root": tree.name, "format": 1}))
        for path, entry in entries:
            if "error" in entry or "mount_point" in entry:
                raise MigrationError(
                    f"{tree.source}/{path.decode(errors='backslashreplace')} cannot be packed: "
                    f"{entry.get('error', 'another file system is mounted there')}",
                    check="file-tree",
                    action="Nothing may change in the staged trees while they are packed; mend the cause, then run again",
                )
            reason = LICENCE_REASON if path == tree.licence_file else ""
            if entry["type"] not in CARRIED:
                reason = SPECIAL_REASON
            if reason:
                packed.without.setdefault(reason, []).append(path)
                if "linked_to" not in entry:
                    first_left[path] = b""
                continue
            if "linked_to" in entry:
                first = to_bytes(entry["linked_to"])
                if first in first_left:
                    if first_left[first]:
                        entry["linked_to"] = to_text(first_left[first])
                    else:
                        first_left[first] = path
                        del entry["linked_to"]
            names.look(path)
            lines.write(json_line(entry))
            listed.write(b"./\0" if path == b"." else b"./" + path + b"\0")
            packed.entries += 1
            if entry["type"] == "file":
                packed.files += 1
                packed.file_bytes += entry["size"]
        lines.write(json_line({"end": tree.name, "entries": packed.entries}))
    packed.renamed = names.found
    packed.tar_bytes = _size(packed)
    return packed


def _command(packed: Packed, output: str) -> list[str]:
    return [
        "tar", "--create", "--format=pax", f"--file={output}", f"--directory={packed.tree.source}",
        # Headers that depend on the content alone: the size is asked for before the tar is made.
        "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
        "--acls", "--xattrs", "--xattrs-include=*", "--xattrs-exclude=system.posix_acl_*", f"--blocking-factor={_BLOCKS_AT_ONCE}",
        "--null", "--no-recursion", "--no-unquote", "--verbatim-files-from", f"--files-from={packed.names}",
    ]  # fmt: skip


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}


def _size(packed: Packed) -> int:
    """GNU tar reads no file when it writes to /dev/null, but counts."""
    asked = subprocess.run(
        [*_command(packed, "/dev/null"), "--totals"],
        capture_output=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env=_environment(),
    )
    total = _TOTAL.search(asked.stderr.decode(errors="replace"))
    if asked.returncode != 0 or total is None:
        raise _failed(packed, asked.stderr.decode(errors="backslashreplace").strip().partition("\n")[0])
    return int(total[1])


def content(packed: Packed) -> Generator[bytes]:
    """The tar itself. Closed, GNU tar has ended.

    :raises MigrationError: GNU tar failed, for instance because a file changed.
    """
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            _command(packed, "-"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=_environment(),
        )
        assert process.stdout is not None  # noqa: S101 - tells mypy what PIPE means
        widen(process.stdout)
        try:
            while chunk := process.stdout.read(READ_BYTES):
                yield chunk
            if process.wait() != 0:
                raise _failed(packed, said(errors))
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            process.stdout.close()


def _failed(packed: Packed, why: str) -> MigrationError:
    return MigrationError(
        f"The file tree {packed.tree.name} could not be packed: {why}",
        check="file-tree",
        action="Nothing may change in the staged trees while they are packed; mend the cause, then run again",
    )
