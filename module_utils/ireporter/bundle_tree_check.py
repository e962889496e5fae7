"""Holds a tree's tar against its manifest, entry by entry, while it passes: names, types, links, everything. Nothing is written."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import IO, Final

from . import bundle_tree_tar
from .bundle_format import content_error
from .bundle_tar import Source
from .bundle_trees import CARRIED
from .file_manifest import Entry, order, to_bytes

_LONGEST_LINE: Final = 4 << 20


def check_tree(tree: str, tar: Source, lines: IO[bytes]) -> tuple[int, int, int]:
    """Compare the tar with the manifest, both in the manifest's order.

    Because every name has to stand in the manifest, whose names are checked, below a folder that is one and no link, nothing
    that unpacks the tar can be led out of the tree.

    :return: entries, files and bytes in them.
    :raises MigrationError: they differ, or hold what no tree may hold (check ``bundle-content``).
    """
    entries = files = size = 0
    expected = read_manifest(tree, lines)
    for found in bundle_tree_tar.entries(tree, tar):
        path, entry = next(expected, (b"", None))
        if entry is None:
            raise _differs(tree, found.name, "is not in the manifest")
        _compare(tree, found, path, entry)
        entries += 1
        if entry["type"] == "file":
            files += 1
            size += entry["size"]
    missing = next(expected, None)
    if missing is not None:
        raise _differs(tree, missing[0], "is in the manifest only")
    return entries, files, size


def read_manifest(tree: str, lines: IO[bytes]) -> Iterator[tuple[bytes, Entry]]:
    """Path and entry of every line between head and end.

    :param lines: a file, read twice.
    :raises MigrationError: it is not whole, or has a name, a type or a hard link that no tree has (check ``bundle-content``).
    """
    wanted = _link_targets(tree, lines)
    first_names: set[bytes] = set()
    if _parse(tree, lines) != {"root": tree, "format": 1}:
        raise content_error(f"The manifest of file tree {tree} has no head")
    count = 0
    above: list[bytes] = []
    before: tuple[bytes, ...] | None = None
    while True:
        entry = _parse(tree, lines)
        if "end" in entry:
            if entry != {"end": tree, "entries": count} or lines.readline(1):
                raise content_error(f"The manifest of file tree {tree} has another number of lines than it says")
            return
        count += 1
        path = to_bytes(entry.get("path", ""))
        parts = _parts(tree, path, before)
        before = parts
        folder = b"/".join(parts[:-1])
        while above and above[-1] != folder:
            above.pop()
        if parts and not above:
            raise _differs(tree, path, "lies in something that is no folder")
        if entry.get("type") not in CARRIED:
            raise _differs(tree, path, "is no file, folder or link")
        if "linked_to" in entry and to_bytes(entry["linked_to"]) not in first_names:
            raise _differs(tree, path, "is a hard link to something that is no file before it")
        if path in wanted and entry["type"] == "file" and "linked_to" not in entry:
            first_names.add(path)
        if entry["type"] == "directory":
            above.append(b"/".join(parts))
        yield path, entry


def _parts(tree: str, path: bytes, before: tuple[bytes, ...] | None) -> tuple[bytes, ...]:
    """The names that make up a path, when it stays within the tree and stands where it has to."""
    parts = order(path)
    if any(part in (b"", b".", b"..") or b"\0" in part for part in parts):
        raise _differs(tree, path, "leads out of the tree")
    if before is None and parts:
        raise content_error(f"The manifest of file tree {tree} does not begin with its root")
    if before is not None and parts <= before:
        raise _differs(tree, path, "is out of order or twice")
    return parts


def _link_targets(tree: str, lines: IO[bytes]) -> set[bytes]:
    """What hard links of the tree lead to: the only names that have to be remembered. ``lines`` stands at its start again."""
    found = set()
    while raw := lines.readline(_LONGEST_LINE):
        if b'"linked_to":' in raw:
            lines.seek(-len(raw), os.SEEK_CUR)
            entry = _parse(tree, lines)
            if "linked_to" in entry:
                found.add(to_bytes(entry["linked_to"]))
    lines.seek(0)
    return found


def _parse(tree: str, lines: IO[bytes]) -> Entry:
    raw = lines.readline(_LONGEST_LINE)
    try:
        entry = json.loads(raw)
    except ValueError:
        entry = None
    if not isinstance(entry, dict) or not raw.endswith(b"\n"):
        raise content_error(f"The manifest of file tree {tree} is damaged or ends early")
    return entry


def _compare(tree: str, found: bundle_tree_tar.Entry, path: bytes, entry: Entry) -> None:
    if found.name != (b"." if path == b"." else b"./" + path):
        raise _differs(tree, found.name, f"stands where the manifest has {path.decode(errors='backslashreplace')}")
    for what, here, wanted in _sides(found, entry):
        if here != wanted:
            raise _differs(tree, path, f"has another {what} in the tar than in the manifest")


def _sides(found: bundle_tree_tar.Entry, entry: Entry) -> Iterator[tuple[str, object, object]]:
    """What is compared: in the tar, in the manifest."""
    first_name = "linked_to" not in entry
    kind = entry["type"]
    yield "type", found.kind, kind if first_name else "hard link"
    yield "mode", found.mode, entry.get("mode")
    yield "mtime_ns", found.mtime_ns, entry.get("mtime_ns")
    owner, group = entry.get("owner"), entry.get("group")
    yield "owner", found.owner if isinstance(owner, str) else found.uid, owner
    yield "group", found.group if isinstance(group, str) else found.gid, group
    # GNU tar writes the attributes of a file with its first name only.
    xattrs = entry.get("xattrs", {}) if first_name else {}
    yield "xattrs", found.xattrs, {name: to_bytes(value) for name, value in xattrs.items()}
    yield "acl", found.acl, entry.get("acl", {}) if first_name else {}
    if kind == "link":
        yield "link", found.link, to_bytes(entry["link_target"])
    elif not first_name:
        yield "link", found.link, b"./" + to_bytes(entry["linked_to"])
    elif kind == "file":
        yield "size", found.size, entry["size"]
        yield "sha256", found.sha256, entry["sha256"]


def _differs(tree: str, path: bytes, what: str) -> Exception:
    return content_error(f"{path.decode(errors='backslashreplace')!r} of file tree {tree} {what}")
