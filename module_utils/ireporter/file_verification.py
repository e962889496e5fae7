# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares file trees of two servers (or two trees here): everything their manifests say."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from . import file_known_contents
from .errors import MigrationError
from .file_known_contents import READ, REMEMBERED
from .file_manifest import Entry, manifest, order, to_bytes, to_text
from .file_manifest_command import WITHOUT_CONTENT
from .file_trees import FileTree, parse_trees
from .lease import boot_identity

Progress = Callable[[dict[str, object]], None]

CANNOT_DETECT = [
    "files: flags of the file system (chattr), access and change times, and which parts of a file are holes",
    "files: hard links between two trees, or from a tree to a file outside of it",
    "files: attributes the kernel hides from root here (trusted.* inside containers)",
]
LICENCE_REASON = "the licence belongs to its server and is never copied"

_KEPT_DIFFERENCES = 1000
_PROGRESS_EVERY_SECONDS = 1.0
# (field of the manifest, kind of difference); content and mount points are judged apart.
_FIELDS = (
    ("mode", "mode"),
    ("owner", "owner"),
    ("group", "group"),
    ("mtime_ns", "mtime"),
    ("link_target", "link target"),
    ("device", "device"),
    ("linked_to", "hard link"),
    ("xattrs", "xattr"),
    ("acl", "acl"),
)
_BOTH = (file_known_contents.SOURCE, file_known_contents.TARGET)
_STRUCTURE_KINDS = frozenset({"mode", "owner", "group", "xattr", "acl"})

Stream = Iterator[tuple[bytes, Entry]]
Pairs = Iterator[tuple[bytes, Entry | None, Entry | None]]
LinkGroups = dict[str, dict[bytes, set[bytes]]]


@dataclass(frozen=True)
class Difference:
    """One thing that is not the same on both sides. ``path`` is relative to the tree, exact."""

    kind: str
    tree: str
    path: bytes
    source: object
    target: object

    def as_dict(self) -> dict[str, object]:
        """``{kind, object, source, target}`` for people and reports; undecodable bytes stand as ``\\xNN``."""
        name = self.path.decode(errors="backslashreplace")
        return {"kind": self.kind, "object": f"file {self.tree}:{name}", "source": self.source, "target": self.target}


@dataclass
class FileComparison:
    """What a comparison found. ``differences`` holds the first 1,000 of ``differences_total``."""

    differences: list[dict[str, object]] = field(default_factory=list)
    differences_total: int = 0
    expected_differences: list[dict[str, object]] = field(default_factory=list)
    files: int = 0
    bytes: int = 0
    seconds: float = 0.0
    # By tree and first member: the other members of its hard-link groups, of either side.
    links: LinkGroups = field(default_factory=dict)


def compare(
    file_trees: Sequence[Mapping[str, object]],
    *,
    channel: Mapping[str, object] | None = None,
    direction: str = "push",
    scope: str = "all",
    progress: Progress | None = None,
    on_difference: Callable[[Difference], None] | None = None,
    contents: str = READ,
    known_contents: Path | None = None,
) -> FileComparison:
    """Compare every tree's ``source`` with its ``target``.

    :param file_trees: ``{name, source, target, licence_file}``; ``licence_file`` (relative, optional) is the one thing left out.
    :param channel: ``{id, directory, …}``: the far side is read through it; without it both sides are folders here.
    :param direction: ``push``: the far side is the target; ``pull``: it is the source.
    :param scope: ``all``, or ``structure``: owners, modes and ACLs of what has the same size and time on both sides, no data.
    :param on_difference: called for each difference, also beyond those kept.
    :param contents: ``known`` does not read again what is as it was when an earlier comparison read it with ``remembered``, which does
        the same and remembers what it finds equal. ``read`` reads everything.
    :param known_contents: the folder in which that is kept; without it, beside each target, or, if there is a channel, nowhere: then, and
        with a ``pull``, everything is read.
    :raises MigrationError: a side could not be read to its end (check ``files-unverified``).
    """
    started = time.monotonic()
    trees = parse_trees(file_trees)
    found = FileComparison()
    told = started
    everything_read = scope != "all" or (channel is not None and (direction == "pull" or known_contents is None))
    how = _Reading(scope == "all", READ if everything_read else contents, known_contents)
    if how.content and (channel is None or direction == "pull"):
        # What is about to be called equal must still be there after a power cut. A target on the far side is synced there.
        os.sync()
    # Closed here, not by the garbage collector: it may run in a thread that is just being started, and a pool shut down there never returns.
    with closing(_sides(trees, channel, direction, how)) as sides:
        for tree, pairs in sides:
            for path, left, right in pairs:
                _count(found, tree.name, path, left, right)
                if progress is not None and time.monotonic() - told >= _PROGRESS_EVERY_SECONDS:
                    told = time.monotonic()
                    progress({"step": "compare", "tree": tree.name, "files": found.files, "bytes": found.bytes})
                if left == right and left is not None and not (left.keys() & {"error", "mount_point"}):
                    continue
                if path == tree.licence_file:
                    if left != right:
                        difference = Difference("licence file", tree.name, path, _seen(left), _seen(right))
                        found.expected_differences.append({**difference.as_dict(), "reason": LICENCE_REASON})
                    continue
                for difference in _differences(tree.name, path, left, right):
                    if scope == "structure" and not _is_structure(difference, left, right):
                        continue
                    found.differences_total += 1
                    if len(found.differences) < _KEPT_DIFFERENCES:
                        found.differences.append(difference.as_dict())
                    if on_difference is not None:
                        on_difference(difference)
    found.seconds = round(time.monotonic() - started, 3)
    return found


def _count(found: FileComparison, tree: str, path: bytes, left: Entry | None, right: Entry | None) -> None:
    if left is not None and left.get("type") == "file":
        found.files += 1
        found.bytes += left["size"]
    for side in (left, right):
        if side is not None and "linked_to" in side:
            groups = found.links.setdefault(tree, {})
            groups.setdefault(to_bytes(side["linked_to"]), set()).add(path)


@dataclass(frozen=True)
class _Reading:
    """How trees are read: with their files' content or not, and what is known of it.

    :param folder: where that is kept; ``None``: beside each target.
    """

    content: bool
    contents: str
    folder: Path | None

    def place(self, tree: FileTree) -> Path:
        return self.folder / tree.name if self.folder else file_known_contents.place_of(tree.target)

    def manifest(self, tree: FileTree, side: int, stack: ExitStack) -> Stream:
        root = tree.source if side == file_known_contents.SOURCE else tree.target
        known = None
        if self.contents != READ:
            known = stack.enter_context(file_known_contents.known(self.place(tree), side))
        read = manifest(root, content=self.content, known=known, versions=self.contents == REMEMBERED)
        return stack.enter_context(closing(read))

    def pairs(self, tree: FileTree, source: Stream, target: Stream, target_boot: str, stack: ExitStack) -> Pairs:
        pairs = _merged(source, target)
        if self.contents != REMEMBERED:
            return pairs
        return stack.enter_context(closing(file_known_contents.remembering(pairs, self.place(tree), target_boot)))


def _sides(
    trees: Sequence[FileTree], channel: Mapping[str, object] | None, direction: str, how: _Reading
) -> Generator[tuple[FileTree, Pairs], None, None]:
    """Each tree with the manifests of both sides, merged; to be closed by the caller, which ends what reads them."""
    if channel is None:
        for tree in trees:
            with ExitStack() as stack:
                source, target = (how.manifest(tree, side, stack) for side in _BOTH)
                yield tree, how.pairs(tree, source, target, boot_identity(), stack)
        return
    with _FarSide(Path(str(channel["directory"])), how, trees) as far:
        left = {tree.target if direction == "push" else tree.source: tree for tree in trees}
        for root, stream in far.manifests():
            tree_here = left.pop(root, None)
            if tree_here is None:
                for _ignored in stream:
                    pass
                continue
            with ExitStack() as stack:
                if direction == "push":
                    source, target = how.manifest(tree_here, file_known_contents.SOURCE, stack), stream
                else:
                    source, target = stream, how.manifest(tree_here, file_known_contents.TARGET, stack)
                # Only where the target is the far side is anything remembered.
                yield tree_here, how.pairs(tree_here, source, target, far.boot, stack)
        far.must_have_ended_well()
    if left:
        raise MigrationError(
            f"The channel does not show {', '.join(str(root) for root in left)}",
            check="files-unverified",
            action="Open the channel again with all file trees",
        )


class _FarSide:
    """The manifests the other server sends through the channel, all its roots in one stream."""

    def __init__(self, directory: Path, how: _Reading, trees: Sequence[FileTree]) -> None:
        # Both are files: a pipe that nobody reads or fills while the manifest is read could stop both sides.
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        with tempfile.TemporaryFile() as known:
            if how.contents != READ:
                file_known_contents.send({tree.target: how.place(tree) for tree in trees}, known)
                known.seek(0)
            self.process = subprocess.Popen(
                [
                    "ssh",
                    "-F",
                    str(directory / "ssh_config"),
                    "manifest",
                    how.contents if how.content else WITHOUT_CONTENT,
                ],
                stdin=known,
                stdout=subprocess.PIPE,
                stderr=self.errors,
            )
        assert self.process.stdout is not None  # noqa: S101 - tells mypy what PIPE means
        self.output = self.process.stdout
        self.boot = ""

    def __enter__(self) -> _FarSide:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()
        self.output.close()
        self.errors.close()

    def manifests(self) -> Iterator[tuple[Path, Stream]]:
        for line in self.output:
            head = self._parse(line)
            if head.get("format") != 1 or "root" not in head:
                raise self._broken("another format than ours")
            self.boot = str(head.get("boot", ""))
            yield Path(os.fsdecode(to_bytes(head["root"]))), self._entries(head["root"])

    def _entries(self, root: Any) -> Stream:
        count = 0
        for line in self.output:
            entry = self._parse(line)
            if "end" in entry:
                if entry["end"] != root or entry["entries"] != count:
                    raise self._broken(f"{count} entries instead of {entry['entries']}")
                return
            count += 1  # noqa: SIM113 - the end line is no entry
            yield to_bytes(entry["path"]), entry
        raise self._broken("a manifest without its end")

    def _parse(self, line: bytes) -> Entry:
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict):
            raise self._broken("a line that is not JSON")
        return entry

    def must_have_ended_well(self) -> None:
        if self.process.wait() != 0:
            raise self._broken(f"exit status {self.process.returncode}")

    def _broken(self, what: str) -> MigrationError:
        self.process.terminate()
        self.process.wait()
        self.errors.seek(0)
        said = self.errors.read(2000).decode(errors="backslashreplace").strip()
        return MigrationError(
            f"The manifest of the other server's file trees could not be read to its end: {what}{': ' + said if said else ''}",
            check="files-unverified",
            action="Open the channel again and repeat the comparison",
        )


def _merged(source: Stream, target: Stream) -> Pairs:
    """Both streams side by side; each must be sorted, or a difference could hide."""
    left, right = _Head(source), _Head(target)
    while left.path is not None or right.path is not None:
        if right.path is None or (left.path is not None and left.order < right.order):
            assert left.path is not None  # noqa: S101 - follows from the loop's condition
            yield left.path, left.entry, None
            left.next()
        elif left.path is None or right.order < left.order:
            yield right.path, None, right.entry
            right.next()
        else:
            yield left.path, left.entry, right.entry
            left.next()
            right.next()


class _Head:
    """The first entry of a stream that was not used yet."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.order: tuple[bytes, ...] = ()
        self.path: bytes | None = None
        self.entry: Entry | None = None
        self.next()

    def next(self) -> None:
        path, entry = next(self.stream, (None, None))
        before = self.order if self.path is not None else None
        self.path, self.entry = path, entry
        if path is not None:
            self.order = order(path)
            if before is not None and self.order < before:
                raise MigrationError(
                    f"A manifest is out of order at {path!r}",
                    check="files-unverified",
                    action="Install the same version of the migration tools on both servers",
                )


def _differences(tree: str, path: bytes, left: Entry | None, right: Entry | None) -> Iterator[Difference]:
    for side in (left, right):
        if side is not None and "error" in side:
            yield Difference("unreadable", tree, path, _seen(left), _seen(right))
            return
        if side is not None and "mount_point" in side:
            yield Difference("mount point", tree, path, _seen(left), _seen(right))
            return
    if left is None or right is None:
        yield Difference("extra" if left is None else "missing", tree, path, _seen(left), _seen(right))
        return
    if left["type"] != right["type"]:
        yield Difference("type", tree, path, left["type"], right["type"])
        return
    if (left.get("size"), left.get("sha256")) != (right.get("size"), right.get("sha256")):
        yield Difference("content", tree, path, _content(left), _content(right))
    for name, kind in _FIELDS:
        if left.get(name) != right.get(name):
            yield Difference(kind, tree, path, left.get(name), right.get(name))


def _is_structure(difference: Difference, left: Entry | None, right: Entry | None) -> bool:
    if difference.kind in ("unreadable", "mount point"):
        # "Not looked at" is never "the same"; but what came and went while users work is data.
        return difference.kind == "mount point" or any(
            "denied" in side.get("error", "") for side in (left, right) if side
        )
    if left is None or right is None:
        # Everything may have been removed by users, but not the tree itself.
        return difference.path == b"."
    same = (left["mtime_ns"], left.get("size")) == (right["mtime_ns"], right.get("size"))
    return difference.kind in _STRUCTURE_KINDS and (same or difference.path == b".")


def _content(entry: Entry) -> str:
    return f"{entry['size']} bytes, sha256 {entry.get('sha256', 'not read')}"


def _seen(entry: Entry | None) -> str:
    if entry is None:
        return "absent"
    if "error" in entry:
        return f"error: {entry['error']}"
    if "mount_point" in entry:
        return "another file system is mounted here"
    return f"{entry['type']}, {_content(entry)}" if entry["type"] == "file" else str(entry["type"])


def text_of(path: bytes) -> str:
    """A path for messages: as it is where it is UTF-8, with ``\\xNN`` where not."""
    text = to_text(path)
    return text if isinstance(text, str) else path.decode(errors="backslashreplace")
