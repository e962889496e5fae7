"""Unpacks a verified bundle into a new folder beside the wanted one, checks it on the way once more, and renames it into place."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, Any, Final

from .bundle_extract import extract
from .bundle_format import (
    BASE,
    PAYLOAD_MANIFEST,
    TAG_MANIFEST,
    Statement,
    content_error,
    parse_manifest,
    tree_members,
    tree_of,
)
from .bundle_places import create, disk_full, locked, remove_folder, sync_file_system, sync_folder
from .bundle_tree_check import read_manifest
from .bundle_verify import (
    Progress,
    Received,
    described,
    digest_of,
    figures,
    must_be_whole,
    open_ciphertext,
    read_statement,
    read_through,
)
from .errors import MigrationError
from .file_manifest import Entry, manifest

TREES: Final = "file-trees"
# What is the same on any server; owners are those of the server the data came from.
_COMPARED: Final = ("type", "size", "sha256", "link_target", "linked_to", "mtime_ns")
_RESERVE_BYTES: Final = 16 << 20


def unpacked(received: Received, target: Path, progress: Progress, *, trees: bool = False) -> dict[str, Any] | None:
    """What is known of ``target`` when it holds exactly this bundle already; ``None`` when it does not exist.

    :raises MigrationError: it holds anything else (check ``bundle-target``), or the bundle is not good.
    """
    statement = read_statement(received)
    if not os.path.lexists(target):
        return None
    with open_ciphertext(received.paths) as file:
        must_be_whole(file, statement, progress)
    try:
        _bag_must_be(target / BASE, statement, progress)
        kept = {path.name for path in (target / TREES).iterdir()} if trees else set()
        wanted = {tree_of(path.name) for path in (target / BASE / "data/files").glob("*.tar")} if trees else set()
        if kept != wanted:
            raise content_error(f"{target / TREES} holds other file trees than the bundle")
        for tree in sorted(wanted):
            _tree_must_be(tree, target, target / TREES / tree)
    except (MigrationError, OSError) as error:
        why = error.happened if isinstance(error, MigrationError) else f"{error.filename}: {error.strerror}"
        raise MigrationError(
            f"{target} exists and does not hold this bundle: {why}",
            check="bundle-target",
            action="Look whether it is needed and move it away, or name another folder",
        ) from error
    return described(received.paths, statement)


def unpack(received: Received, target: Path, progress: Progress, *, trees: bool = False) -> dict[str, Any]:
    """Verify all, then make ``target``: the bag as ``ireporter-bundle``, and with ``trees`` each file tree below ``file-trees``.

    :raises MigrationError: the bundle is not good, ``target`` holds something else, or the disk is full; then there is no ``target``.
    """
    with locked(target.parent, target.name):
        found = unpacked(received, target, progress, trees=trees)
        beside = target.with_name(f".{target.name}.unfinished")
        if found is not None:
            remove_folder(beside)
            return {"changed": False, **found}
        # Of a run that was ended in the middle. The stream has to be read from its start anyway.
        remove_folder(beside)
        statement = read_statement(received)
        with open_ciphertext(received.paths) as file:
            must_be_whole(file, statement, progress)
            read_through(file, received, statement, progress, step="verify", scratch=Path(tempfile.gettempdir()))
            file.seek(0)
            _must_have_room(target.parent, statement)
            try:
                beside.mkdir(mode=0o700)
                seen = _fill(file, received, statement, beside, progress)
                if trees:
                    _unpack_trees(beside, progress)
                sync_file_system(beside)
                beside.rename(target)
                sync_folder(target.parent)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise disk_full(target.parent) from error
                raise
            finally:
                remove_folder(beside)
    return {"changed": True, **described(received.paths, statement), **figures(seen)}


def _must_have_room(folder: Path, statement: Statement) -> None:
    room = os.statvfs(folder)
    free = room.f_bavail * room.f_frsize
    if free < statement.unpacked_bytes + _RESERVE_BYTES:
        raise MigrationError(
            f"The bundle needs {statement.unpacked_bytes} bytes unpacked, the disk of {folder} has {free} left",
            check="disk-full",
            action="Make room there or name a folder on another disk, then run again",
        )


def _fill(file: IO[bytes], received: Received, statement: Statement, beside: Path, progress: Progress) -> Any:
    def keep(name: str) -> IO[bytes]:
        # The name is one that bundles have: no part of it comes from outside but numbers and a tree's plain name.
        path = beside / BASE / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return create(path)

    return read_through(file, received, statement, progress, step="unpack", scratch=beside, keep=keep)


def _bag_must_be(bag: Path, statement: Statement, progress: Progress) -> None:
    """
    :raises MigrationError: the folder is not the bag of the statement, byte for byte.
    """
    tags = (bag / TAG_MANIFEST).read_bytes()
    if hashlib.sha256(tags).hexdigest() != statement.tag_manifest:
        raise content_error(f"{TAG_MANIFEST} is another")
    listed = parse_manifest(tags, TAG_MANIFEST)
    listed |= parse_manifest((bag / PAYLOAD_MANIFEST).read_bytes(), PAYLOAD_MANIFEST)
    present = {str(path.relative_to(bag)) for path in bag.rglob("*") if path.is_symlink() or not path.is_dir()}
    for name in sorted(present ^ {*listed, TAG_MANIFEST}):
        raise content_error(f"{name} is {'more' if name in present else 'less'} than the bundle has")
    done = 0

    def passed(size: int) -> None:
        nonlocal done
        done += size
        progress({"step": "look again", "bytes": done, "total_bytes": statement.unpacked_bytes})

    for name, digest in listed.items():
        with (bag / name).open("rb") as member:
            if digest_of(member, passed)[0] != digest:
                raise content_error(f"{name} was altered")


def _unpack_trees(beside: Path, progress: Progress) -> None:
    root = beside / TREES
    root.mkdir(mode=0o700)
    for tar in sorted((beside / BASE / "data/files").glob("*.tar")):
        tree = tree_of(tar.name)
        progress({"step": "file trees", "tree": tree})
        extract(tree, tar, root / tree)
        _tree_must_be(tree, beside, root / tree)


def _tree_must_be(tree: str, folder: Path, place: Path) -> None:
    """
    :raises MigrationError: the unpacked tree is not what its manifest says.
    """
    with (folder / BASE / tree_members(tree)[0]).open("rb") as lines, closing(manifest(place)) as present:
        expected: Iterator[tuple[bytes, Entry]] = read_manifest(tree, lines)
        for path, entry in present:
            wanted_path, wanted = next(expected, (b"", None))
            name = path.decode(errors="backslashreplace")
            if wanted is None or path != wanted_path:
                raise content_error(f"{name!r} of file tree {tree} is not what its manifest has at this place")
            for what in _COMPARED:
                if entry.get(what) != wanted.get(what):
                    raise content_error(f"{name!r} of file tree {tree} has another {what} than its manifest says")
        if next(expected, None) is not None:
            raise content_error(f"File tree {tree} has less than its manifest")
