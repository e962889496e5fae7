"""Reads a bundle's bag as a stream to its end and holds every member against the manifests; what passed can be kept on the way."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from .bundle_format import (
    ABOUT,
    BAGIT,
    FORMAT_VERSION,
    PAYLOAD_MANIFEST,
    REQUIRED,
    TAG_MANIFEST,
    TAGS,
    Statement,
    content_error,
    parse_manifest,
    tree_members,
    tree_of,
)
from .bundle_tar import Member, Source, members
from .bundle_tree_check import check_tree

# The largest is a manifest: 100 bytes for each table and large object.
_LARGEST_TAG: Final = 256 << 20
_KEPT: Final = frozenset({*TAGS, TAG_MANIFEST, ABOUT})
_OXUM: Final = re.compile(rb"^Payload-Oxum: (\d+)\.(\d+)$", re.MULTILINE)


@dataclass
class Seen:
    """What a bag was found to be, all of it checked."""

    about: dict[str, Any] = field(default_factory=dict)
    tag_manifest: str = ""
    members: int = 0
    bytes: int = 0
    entries: int = 0
    files: int = 0
    file_bytes: int = 0


def read(
    stream: Source,
    *,
    scratch: Path,
    limit: int | None,
    progress: Callable[[int], None],
    keep: Callable[[str], IO[bytes]] | None = None,
) -> Seen:
    """Read all of it.

    :param scratch: folder for one tree's manifest at a time.
    :param limit: bytes all members may have together.
    :param keep: opens the place for a member's content; called only for names that a bundle may have.
    :raises MigrationError: anything is not as it has to be (check ``bundle-content``).
    """
    reading = _Reading(scratch, progress, keep)
    try:
        for member in members(stream, limit):
            reading.take(member)
        return reading.finish()
    finally:
        reading.drop()


class _Tee:
    """A member that is kept while somebody reads it."""

    def __init__(self, member: Member, place: IO[bytes] | None, progress: Callable[[int], None]) -> None:
        self._member = member
        self._place = place
        self._progress = progress

    def read(self, size: int = -1) -> bytes:
        data = self._member.read(size)
        if self._place is not None:
            self._place.write(data)
        self._progress(len(data))
        return data


class _Reading:
    def __init__(self, scratch: Path, progress: Callable[[int], None], keep: Callable[[str], IO[bytes]] | None) -> None:
        self._scratch = scratch
        self._progress = progress
        self._keep = keep
        self._digests: dict[str, str] = {}
        self._sizes: dict[str, int] = {}
        self._small: dict[str, bytes] = {}
        self._manifest: tuple[str, IO[bytes]] | None = None
        self._trees: dict[str, tuple[int, int, int]] = {}

    def take(self, member: Member) -> None:
        place = self._keep(member.name) if self._keep else None
        try:
            self._take(member, _Tee(member, place, self._progress))
        finally:
            if place is not None:
                place.close()
        self._digests[member.name] = member.sha256()
        self._sizes[member.name] = member.size

    def _take(self, member: Member, tee: _Tee) -> None:
        if member.name in _KEPT:
            if member.size > _LARGEST_TAG:
                raise content_error(f"{member.name} is larger than any bundle's")
            self._small[member.name] = b"".join(iter(tee.read, b""))
        elif member.name.endswith(".jsonl"):
            self.drop()
            self._manifest = tree_of(member.name), tempfile.TemporaryFile(dir=self._scratch)  # noqa: SIM115
            while chunk := tee.read():
                self._manifest[1].write(chunk)
        elif member.name.endswith(".tar"):
            tree = tree_of(member.name)
            if self._manifest is None or self._manifest[0] != tree:
                raise content_error(f"The manifest of file tree {tree} does not stand before its tar")
            self._manifest[1].seek(0)
            self._trees[tree] = check_tree(tree, tee, self._manifest[1])
            self.drop()
        while tee.read():
            pass

    def drop(self) -> None:
        if self._manifest is not None:
            self._manifest[1].close()
            self._manifest = None

    def finish(self) -> Seen:
        missing = sorted(REQUIRED - self._digests.keys())
        if missing:
            raise content_error(f"The bundle has no {missing[0]}")
        if self._small["bagit.txt"] != BAGIT:
            raise content_error("bagit.txt of the bundle is not that of a bag of version 1.0")
        payload = {name: digest for name, digest in self._digests.items() if name.startswith("data/")}
        tags = {name: self._digests[name] for name in TAGS}
        for what, found in ((TAG_MANIFEST, tags), (PAYLOAD_MANIFEST, payload)):
            _agree(parse_manifest(self._small[what], what), found, what)
        sizes = [size for name, size in self._sizes.items() if name.startswith("data/")]
        oxum = _OXUM.search(self._small["bag-info.txt"])
        if oxum is None or (int(oxum[1]), int(oxum[2])) != (sum(sizes), len(sizes)):
            raise content_error("bag-info.txt of the bundle speaks of other content")
        about = parse_about(self._small[ABOUT])
        if about.get("version") != FORMAT_VERSION:
            raise content_error(f"{ABOUT} has another format version than the bundle's statement")
        self._agree_on_trees(about)
        counts = [sum(column) for column in zip(*self._trees.values(), strict=True)] or [0, 0, 0]
        return Seen(
            about=about,
            tag_manifest=hashlib.sha256(self._small[TAG_MANIFEST]).hexdigest(),
            members=len(self._digests),
            bytes=sum(self._sizes.values()),
            entries=counts[0],
            files=counts[1],
            file_bytes=counts[2],
        )

    def _agree_on_trees(self, about: dict[str, Any]) -> None:
        try:
            stated = {
                str(tree["name"]): (tree["entries"], tree["files"], tree["bytes"]) for tree in about["file_trees"]
            }
        except (KeyError, TypeError) as error:
            raise content_error(f"{ABOUT} of the bundle lists no file trees") from error
        expected = {member for tree in stated for member in tree_members(tree)}
        if stated != self._trees or expected != {name for name in self._digests if name.startswith("data/files/")}:
            raise content_error(f"The bundle has other file trees than {ABOUT} lists")


def _agree(listed: dict[str, str], found: dict[str, str], what: str) -> None:
    for name in sorted(listed.keys() | found.keys()):
        if name not in found:
            raise content_error(f"{name} stands in {what} and is missing in the bundle")
        if name not in listed:
            raise content_error(f"{name} is in the bundle and does not stand in {what}")
        if listed[name] != found[name]:
            raise content_error(f"{name} has another SHA-256 than {what} says")


def parse_about(raw: bytes) -> dict[str, Any]:
    """What ``migration.json`` says (:func:`bundle_contents.about`).

    :raises MigrationError: it is none (check ``bundle-content``).
    """
    try:
        content = json.loads(raw)
    except ValueError:
        content = None
    if not isinstance(content, dict) or content.get("format") != "ireporter-bundle":
        raise content_error(f"{ABOUT} of the bundle cannot be read")
    return content


def refuse_another(about: dict[str, Any], statement: Statement) -> None:
    """
    :raises MigrationError: the bag is not what the statement speaks of (check ``bundle-content``).
    """
    for name, said in (
        ("tenant", statement.tenant),
        ("migration_id", statement.migration_id),
        ("cut_off", statement.cut_off),
    ):
        if about.get(name) != said:
            raise content_error(f"{ABOUT} of the bundle names another {name} than its signed statement")
