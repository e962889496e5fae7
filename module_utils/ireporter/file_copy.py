# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies file trees with rsync, here or through a migration's channel, and proves the last copy by comparing both sides."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .errors import MigrationError
from .file_known_contents import KNOWN, REMEMBERED
from .file_manifest import mount_points_below
from .file_trees import FOLDER_ITSELF, FileTree, absolute, claim, open_root, parse_trees
from .file_verification import Difference, FileComparison, Progress, compare, text_of

# Owners by name (not --numeric-ids): the same user has another number on another server.
_RSYNC = ["-aHAXS", "--one-file-system", "--open-noatime"]
_REPORT = ["--stats", "--no-human-readable", "--outbuf=L", "--out-format=%i %l"]
_ITEM = re.compile(r"(\*deleting|[<>ch.*][fdLDS][^ ]{9}) +(\d+)$")
_STATISTICS = {
    "files": re.compile(r"Number of files: [\d,.]+(?: \((?:.*?)reg: ([\d,.]+).*\))?"),
    "bytes": re.compile(r"Total file size: ([\d,.]+) bytes"),
    "bytes_sent": re.compile(r"Total bytes sent: ([\d,.]+)"),
    "bytes_received": re.compile(r"Total bytes received: ([\d,.]+)"),
}
# What rsync says while users go on working. Anything else it complains about is a failure.
_MEANWHILE = (
    "file has vanished: ",
    "WARNING: ",
    "rsync: read errors mapping ",
    "rsync warning: ",
    "rsync error: some files/attrs were not transferred",
    "rsync error: some files vanished before they could be transferred",
    "ERROR: ",
)
_VANISHED, _PARTIAL = 24, 23
_NAMED_PATHS = 5
_REPAIRABLE_PATHS = 100_000
_PROGRESS_EVERY_SECONDS = 0.5
_UNREPAIRABLE = frozenset({"mount point", "unreadable"})


@dataclass(frozen=True)
class _Job:
    """A copy of some trees, as its specification says."""

    trees: list[FileTree]
    channel: Mapping[str, object] | None
    pull: bool
    final: bool
    check: bool
    progress: Progress
    known_contents: Path | None

    def local_source(self) -> bool:
        return self.channel is None or not self.pull

    def local_target(self) -> bool:
        return self.channel is None or self.pull


@dataclass
class _Figures:
    """Sums over all trees."""

    changed: bool = False
    files: int = 0
    bytes: int = 0
    bytes_sent: int = 0
    files_changed_meanwhile: int = 0
    repaired: int = 0
    items: dict[str, int] = field(default_factory=dict)


def run(spec: dict[str, object], progress: Callable[[dict[str, object]], None]) -> dict[str, object]:
    """Make every target tree equal to its source.

    :param spec: ``file_trees`` [{name, source, target, licence_file}], ``channel`` ({id, directory} or None), ``direction``
        (``push``, ``pull``), ``final`` (compare everything afterwards, mend, compare again), ``replace`` (a local target may hold
        data that is not ours), ``owner`` (whose copy a local target is; default: its source path), ``check`` (change nothing),
        ``remember`` (compare after a copy that is not the last one, too, and remember what is the same, so that the last one reads only
        what changed since), ``known_contents`` (the folder for that; default: beside each target, or with a channel nowhere),
        ``sftp`` (copied by ``sftp_copy.run`` instead, which see).
    :return: ``changed``, ``files``, ``bytes`` (of the source), ``bytes_sent``, ``seconds``, ``files_changed_meanwhile``,
        ``repaired``, ``items`` (rsync's kinds of change and how often), ``files_verified``, ``expected_differences`` (final only).
    :raises MigrationError: a tree here is no folder or a link may have been put in its place (``file-tree``), a target is not ours
        (``target-empty``), rsync failed (``files-copy``), or the trees still differ after mending (``files-differ``; its ``figures``
        hold ``differences`` and ``differences_total``).
    """
    if spec.get("sftp") is not None:
        from . import sftp_copy  # noqa: PLC0415 - another way of copying, loaded only when it is asked for

        return sftp_copy.run(spec, progress)
    started = time.monotonic()
    job = _job(spec, progress)
    figures = _Figures()
    _must_be_copyable(job, owner=str(spec.get("owner") or ""), replace=bool(spec.get("replace")))
    for tree in job.trees:
        _copy(job, tree, figures)
    result: dict[str, object] = {}
    if job.final and not job.check:
        found = _prove(job, figures)
        figures.files, figures.bytes = found.files, found.bytes
        result["files_verified"] = found.files
        result["bytes_verified"] = found.bytes
        result["expected_differences"] = found.expected_differences
    elif spec.get("remember") and not job.check:
        # Whatever differs now is users' work, and is looked at when they are kept out.
        if job.known_contents is not None:
            job.known_contents.mkdir(mode=0o700, exist_ok=True)
        _compare(job, None, contents=REMEMBERED)
    return {**figures.__dict__, **result, "seconds": round(time.monotonic() - started, 3)}


def _job(spec: Mapping[str, object], progress: Progress) -> _Job:
    raw, channel = spec.get("file_trees"), spec.get("channel")
    if not isinstance(raw, list) or not (channel is None or isinstance(channel, Mapping)):
        raise MigrationError("The files' specification has no file trees", check="file-trees", action="Name the trees")
    pull = spec.get("direction", "push") == "pull"
    folder = Path(str(spec["known_contents"])) if spec.get("known_contents") else None
    return _Job(parse_trees(raw), channel, pull, bool(spec.get("final")), bool(spec.get("check")), progress, folder)


def _must_be_copyable(job: _Job, *, owner: str, replace: bool) -> None:
    """Everything that can be refused is refused before the first byte moves."""
    for tree in job.trees:
        if job.channel is None:
            one, other = tree.source.resolve(), tree.target.resolve()
            if one == other or one in other.parents or other in one.parents:
                raise MigrationError(
                    f"{tree.source} and {tree.target} lie within each other",
                    check="file-trees",
                    action="Choose another target",
                )
        with contextlib.ExitStack() as opened:
            _open_here(job, tree, opened, may_be_missing=True)
        if job.local_source():
            _must_stay_on_one_file_system(tree.source)
        if job.local_target() and not replace:
            claim(tree.target, owner or str(tree.source), licence_file=tree.licence_file, change=not job.check)
        elif job.local_target() and not job.check:
            tree.target.mkdir(parents=True, exist_ok=True)


def _open_here(
    job: _Job, tree: FileTree, opened: contextlib.ExitStack, *, may_be_missing: bool
) -> tuple[int | None, int | None]:
    """Source and target where they are here, so that no link can be put in their place between look and use."""
    here = []
    for root, local in ((tree.source, job.local_source()), (tree.target, job.local_target())):
        descriptor = open_root(root) if local else None
        if descriptor is not None:
            opened.callback(os.close, descriptor)
        elif local and not may_be_missing:
            raise MigrationError(
                f"The file tree {root} is missing", check="file-tree", action="Name an existing folder, then run again"
            )
        here.append(descriptor)
    return here[0], here[1]


def _must_stay_on_one_file_system(root: Path) -> None:
    for path in sorted(mount_points_below(root)):
        raise MigrationError(
            f"{root}/{text_of(path)} is another file system inside a file tree",
            check="file-system-boundary",
            action="Make it a file tree of its own, or unmount it",
        )


def _copy(job: _Job, tree: FileTree, figures: _Figures) -> None:
    _run_rsync(job, tree, [*_rsync(job), "--delete", *_excluded(tree)], figures)


def _repair(job: _Job, tree: FileTree, paths: Iterable[bytes], figures: _Figures) -> None:
    """Transfer exactly these paths again, also where size and time say that nothing changed."""
    wanted = {b"."}
    for path in paths:
        wanted.add(path)
        # A folder's time changes with its content, so the folders above are set once more.
        while b"/" in path:
            path = path.rpartition(b"/")[0]  # noqa: PLW2901
            wanted.add(path)
    with tempfile.NamedTemporaryFile(prefix="ireporter-paths-") as listed:
        listed.write(b"\0".join(sorted(wanted)) + b"\0")
        listed.flush()
        argv = [*_rsync(job), "--no-recursive", "--ignore-times", f"--files-from={listed.name}", "--from0"]
        _run_rsync(job, tree, [*argv, *_excluded(tree)], figures)


def _rsync(job: _Job) -> list[str]:
    argv = ["rsync", *_RSYNC, *_REPORT]
    if job.check:
        argv.append("--dry-run")
    # Nanoseconds count. rsync's own way to tell its far side (-@-1) is unknown to rrsync, this one is known to both; in a pull,
    # where this side is the one that compares, it would be told too: there _set_times does it.
    if job.channel is None:
        argv.append("--modify-window=-1")
    elif not job.pull:
        argv.append("--remote-option=--modify-window=-1")
    if job.channel is not None:
        argv.append(f"--rsh=ssh -F {_channel_directory(job.channel)}/ssh_config")
    return argv


def _channel_directory(channel: Mapping[str, object]) -> Path:
    directory = absolute(channel.get("directory"))
    # rsync splits its --rsh at white space.
    if not re.fullmatch(r"[A-Za-z0-9._/-]+", str(directory)):
        raise MigrationError(
            f"{directory} is no channel's directory", check="channel", action="Open the channel by its role"
        )
    return directory


def _ends(job: _Job, tree: FileTree, here: tuple[int | None, int | None]) -> list[str]:
    """The two last arguments: what from, where to. The far side's path is relative to the folder its key is restricted to.

    :param here: descriptors of source and target. What a dry run does not find there is named by its path.
    """
    source, target = (
        f"{root}/" if descriptor is None else f"/proc/self/fd/{descriptor}/"
        for root, descriptor in zip((tree.source, tree.target), here, strict=True)
    )
    if job.channel is not None:
        far = tree.source if job.pull else tree.target
        known = json.loads((_channel_directory(job.channel) / "channel.json").read_text(encoding="utf-8"))
        root = Path(known["root"])
        if far != root and root not in far.parents:
            raise MigrationError(
                f"{far} is not within {root}, all that the channel may reach",
                check="channel",
                action="Open the channel with all file trees",
            )
        relative = "" if far == root else f"{far.relative_to(root)}/"
        if job.pull:
            source = f"files:{relative}"
        else:
            target = f"files:{relative}"
    return ["--", source, target]


def _excluded(tree: FileTree) -> list[str]:
    if tree.licence_file is None:
        return []
    pattern = os.fsdecode(tree.licence_file)
    if re.search(r"[*?\[]", pattern):
        # Only in patterns with a wildcard is the backslash special.
        pattern = re.sub(r"([\\*?\[])", r"\\\1", pattern)
    return [f"--exclude=/{pattern}"]


def _run_rsync(job: _Job, tree: FileTree, argv: list[str], figures: _Figures) -> None:
    told = time.monotonic()
    sent = 0
    with tempfile.TemporaryFile() as errors, contextlib.ExitStack() as opened:
        here = _open_here(job, tree, opened, may_be_missing=job.check)
        process = subprocess.Popen(
            [*argv, *_ends(job, tree, here)],
            pass_fds=[descriptor for descriptor in here if descriptor is not None],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "LC_ALL": "C"},
        )
        assert process.stdout is not None  # noqa: S101 - tells mypy what PIPE means
        try:
            for raw in process.stdout:
                line = raw.decode(errors="replace").rstrip("\n")
                item = _ITEM.match(line)
                if item:
                    figures.changed = True
                    kind = item[1][:2] if item[1][0] != "*" else "deleted"
                    figures.items[kind] = figures.items.get(kind, 0) + 1
                    sent += int(item[2]) if item[1][0] in "<>" else 0
                    if time.monotonic() - told >= _PROGRESS_EVERY_SECONDS:
                        told = time.monotonic()
                        job.progress(
                            {"step": "copy", "tree": tree.name, "bytes": sent, "files": sum(figures.items.values())}
                        )
                else:
                    _add_statistics(line, figures, job)
            status = process.wait()
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        errors.seek(0)
        said = errors.read().decode(errors="backslashreplace")
        for root, descriptor in zip((tree.source, tree.target), here, strict=True):
            if descriptor is not None:
                said = re.sub(rf"/proc/self/fd/{descriptor}\b", str(root).replace("\\", r"\\"), said)
        complaints = [line for line in said.splitlines() if line.strip()]
    _judge(job, tree, status, complaints, figures)


def _add_statistics(line: str, figures: _Figures, job: _Job) -> None:
    # In a pull what matters is received.
    sent = "bytes_received" if job.channel is not None and job.pull else "bytes_sent"
    for name, pattern in _STATISTICS.items():
        found = pattern.match(line)
        if found and name in ("files", "bytes", sent):
            field_name = "bytes_sent" if name == sent else name
            number = int(re.sub(r"\D", "", found[1] or "0") or 0)
            setattr(figures, field_name, getattr(figures, field_name) + number)


def _judge(job: _Job, tree: FileTree, status: int, complaints: list[str], figures: _Figures) -> None:
    if status == 0:
        return
    strange = [line for line in complaints if not line.startswith(_MEANWHILE)]
    if status in (_VANISHED, _PARTIAL) and not job.final and complaints and not strange:
        figures.files_changed_meanwhile += sum(
            line.startswith(("file has vanished: ", "rsync: read errors")) for line in complaints
        )
        return
    said = "; ".join((strange or complaints)[:3]) or "nothing"
    raise MigrationError(
        f"rsync of file tree {tree.name} exited {status} and said: {said}",
        check="files-copy",
        action="Mend the cause and run again: the copy goes on from where it is",
    )


def _prove(job: _Job, figures: _Figures) -> FileComparison:
    """Compare both sides; mend once what rsync's quick check cannot see; what differs then is a failure."""
    wanting: dict[str, set[bytes]] = {tree.name: set() for tree in job.trees}
    times: list[Difference] = []
    hopeless: list[Difference] = []
    whole: set[str] = set()

    def note(difference: Difference) -> None:
        if difference.kind in _UNREPAIRABLE:
            hopeless.append(difference)
        elif difference.kind in ("missing", "extra", "type"):
            whole.add(difference.tree)
        elif len(wanting[difference.tree]) < _REPAIRABLE_PATHS:
            wanting[difference.tree].add(difference.path)
            if difference.kind == "mtime":
                times.append(difference)

    # A copy in the freeze relies on one by day that remembered.
    found = _compare(job, note, contents=KNOWN)
    if found.differences_total == 0:
        return found
    if not hopeless:
        figures.repaired = found.differences_total
        for tree in job.trees:
            if tree.name in whole:
                _copy(job, tree, figures)
            if wanting[tree.name]:
                _repair(job, tree, _with_groups(wanting[tree.name], found.links.get(tree.name, {})), figures)
        if job.pull and job.channel is not None:
            _set_times(job, times)
        found = _compare(job, None, contents=KNOWN)
        if found.differences_total == 0:
            return found
    named = ", ".join(f"{one['object']} ({one['kind']})" for one in found.differences[:_NAMED_PATHS])
    error = MigrationError(
        f"{found.differences_total} differences remain between the file trees after the copy: {named}",
        check="files-differ",
        action="Look at the first of them on both servers; users or groups missing on the target and mounts inside a tree are usual causes",
    )
    setattr(error, "figures", {"differences": found.differences, "differences_total": found.differences_total})  # noqa: B010
    raise error


def _set_times(job: _Job, differences: list[Difference]) -> None:
    """Times of the local target to the nanosecond, folders after what is in them: rsync compares whole seconds in a pull."""
    roots = {tree.name: tree.target for tree in job.trees}
    for difference in sorted(differences, key=lambda one: one.path.count(b"/"), reverse=True):
        # What is not there any more, or has a link above it now, is found by the comparison that follows.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            _set_time(roots[difference.tree], difference.path, int(str(difference.source)))


def _set_time(root: Path, path: bytes, moment_ns: int) -> None:
    """Of one file below ``root``, going through no link."""
    folder = open_root(root)
    if folder is None:
        return
    *above, name = path.split(b"/")
    try:
        for one in above:
            below = os.open(one, FOLDER_ITSELF, dir_fd=folder)
            os.close(folder)
            folder = below
        seen = os.stat(name, dir_fd=folder, follow_symlinks=False)
        os.utime(name, ns=(seen.st_atime_ns, moment_ns), dir_fd=folder, follow_symlinks=False)
    finally:
        os.close(folder)


def _compare(job: _Job, note: Callable[[Difference], None] | None, *, contents: str) -> FileComparison:
    raw: list[dict[str, object]] = [
        {
            "name": tree.name,
            "source": tree.source,
            "target": tree.target,
            "licence_file": os.fsdecode(tree.licence_file) if tree.licence_file else None,
        }
        for tree in job.trees
    ]
    direction = "pull" if job.pull else "push"
    return compare(
        raw,
        channel=job.channel,
        direction=direction,
        progress=job.progress,
        on_difference=note,
        contents=contents,
        known_contents=job.known_contents,
    )


def _with_groups(paths: set[bytes], groups: Mapping[bytes, set[bytes]]) -> set[bytes]:
    """``paths`` and all members of their hard-link groups: rsync links files only to files of the same run."""
    found = set(paths)
    for first, others in groups.items():
        if first in paths or others & paths:
            found |= {first, *others}
    return found
