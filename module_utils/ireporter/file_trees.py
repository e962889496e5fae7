# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which file trees are copied, and the claim that keeps a copy from deleting what is not ours."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import MigrationError
from .json_files import read_json, write_json

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
FOLDER_ITSELF = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""How to open a folder that is only gone into; a link to one is none."""
_MOST_LINKS = 40  # as the kernel's own limit


@dataclass(frozen=True)
class FileTree:
    """One tree. ``licence_file`` is relative to the root, as bytes; it is never copied, compared or deleted."""

    name: str
    source: Path
    target: Path
    licence_file: bytes | None


def parse_trees(raw: Sequence[Mapping[str, object]], *, chrooted: bool = False) -> list[FileTree]:
    """Check the trees once.

    :param chrooted: a source may be ``/``, because the source sees nothing but what may be copied.
    :raises MigrationError: a path is not absolute, a name is unfit or used twice, or trees lie within each other (check ``file-trees``).
    """
    trees = [
        FileTree(
            name=_name(one.get("name")),
            source=Path("/") if chrooted and one.get("source") == "/" else absolute(one.get("source")),
            target=absolute(one.get("target")),
            licence_file=relative(one.get("licence_file")),
        )
        for one in raw
    ]
    if len({tree.name for tree in trees}) != len(trees):
        raise _refuse("Two file trees have the same name", "Give each its own name")
    for side in ("source", "target"):
        paths = [getattr(tree, side) for tree in trees]
        for path in paths:
            if paths.count(path) > 1 or any(other in path.parents for other in paths):
                raise _refuse(f"The {side} {path} is a file tree, or part of one, twice", "Name each tree once")
    return trees


def absolute(value: object) -> Path:
    """``value`` as an absolute path without ``..``, and not the root of everything."""
    path = Path(os.path.normpath(str(value)))
    if not isinstance(value, (str, Path)) or not path.is_absolute() or ".." in Path(value).parts or path == Path("/"):
        raise _refuse(f"{value!r} is no absolute path of a folder", "Write it from /, without ..")
    return path


def relative(value: object) -> bytes | None:
    """``value`` as a path within a tree."""
    if value is None or value == "":
        return None
    path = Path(str(value))
    if path.is_absolute() or ".." in path.parts or path == Path():
        raise _refuse(f"{value!r} is no path within a file tree", "Write the licence file relative to its tree")
    return os.fsencode(path)


def open_root(root: Path) -> int | None:
    """The folder ``root`` itself, opened to go into it (``O_PATH``), to be closed by the caller; ``None`` where nothing is.

    We are root, and follow links. Who may write in a folder above a tree could put a link to somebody else's files in its place, before or
    after it was looked at. So a link is followed only above the tree, and only where nobody but root could have put it.

    :raises MigrationError: ``root`` is no folder, or a link that others could have put there leads to it (check ``file-tree``).
    """
    left = list(reversed(root.parts[1:]))
    links = 0
    only_root = True
    folder = os.open("/", FOLDER_ITSELF)
    try:
        while left:
            name = left.pop()
            only_root = only_root and _only_root_writes_in(folder)
            try:
                below = os.open(name, FOLDER_ITSELF, dir_fd=folder)
            except FileNotFoundError:
                return None
            except NotADirectoryError as error:
                link = _link(folder, name)
                links += 1
                if link is None or not left or not only_root or links > _MOST_LINKS:
                    raise _not_a_tree(root, name, None if link else error) from error
                left += reversed(link.parts[1:] if link.is_absolute() else link.parts)
                if not link.is_absolute():
                    continue
                below = os.open("/", FOLDER_ITSELF)
            except OSError as error:
                raise _not_a_tree(root, name, error) from error
            os.close(folder)
            folder = below
        found, folder = folder, -1
        return found
    finally:
        if folder >= 0:
            os.close(folder)


def _only_root_writes_in(folder: int) -> bool:
    seen = os.fstat(folder)
    return seen.st_uid == 0 and not seen.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _link(folder: int, name: str) -> Path | None:
    try:
        return Path(os.readlink(name, dir_fd=folder))
    except OSError:
        return None


def _not_a_tree(root: Path, name: str, error: OSError | None) -> MigrationError:
    return MigrationError(
        f"{root} is not used as a file tree: {name!r} {f'cannot be opened ({error.strerror})' if error else 'is a link'}",
        check="file-tree",
        action="Name a folder that root may read"
        if error
        else "Look who made the link, and replace the link by the folder itself",
    )


def marker_of(tree: Path) -> Path:
    """Beside the tree, so that it is no data: says whose copy the tree is."""
    return tree.parent / f".{tree.name}.ireporter-migration"


def claim(tree: Path, owner: str, *, licence_file: bytes | None = None, change: bool = True) -> bool:
    """Make sure that ``tree`` is ours to overwrite and delete in: new, empty (but for its own licence file), or claimed before.

    :param owner: the tenant, or whatever names the one source this tree may be a copy of.
    :param change: False only says whether it would have to change something.
    :return: whether the claim or the folder is new.
    :raises MigrationError: it holds files and is not ours (check ``target-empty``).
    """
    marker = marker_of(tree)
    known = read_json(marker)
    if isinstance(known, dict) and known.get("owner") == owner and tree.is_dir() and not tree.is_symlink():
        return False
    if isinstance(known, dict) and known.get("owner") not in (None, owner):
        raise _not_ours(tree, f"is a copy of {known['owner']}, not of {owner}")
    if os.path.lexists(tree):
        if tree.is_symlink() or not tree.is_dir():
            raise _not_ours(tree, "is no folder")
        foreign = _first_file(tree, licence_file)
        if foreign is not None:
            raise _not_ours(tree, f"holds {os.fsdecode(foreign)!r}, which no migration put there")
    if change:
        tree.mkdir(parents=True, exist_ok=True)
        write_json(
            marker,
            {"owner": owner, "about": "The folder beside this file is a migration's copy; it may be overwritten"},
        )
    return True


def _first_file(tree: Path, licence_file: bytes | None) -> bytes | None:
    """Path of something that is not a folder, or None. Folders alone hold no data."""
    root = os.fsencode(tree)

    def stop(error: OSError) -> None:
        raise _not_ours(tree, f"cannot be read: {error.strerror}")

    for folder, names, files in os.walk(root, onerror=stop):
        links = [name for name in names if (Path(os.fsdecode(folder)) / os.fsdecode(name)).is_symlink()]
        for name in sorted([*files, *links]):
            path = os.path.relpath(os.path.join(folder, name), root)  # noqa: PTH118 - bytes
            if path != licence_file:
                return path
    return None


def _name(value: object) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise _refuse(f"{value!r} is no name of a file tree", "Use small letters, digits, - and _")
    return value


def _refuse(happened: str, action: str) -> MigrationError:
    return MigrationError(happened, check="file-trees", action=action)


def _not_ours(tree: Path, why: str) -> MigrationError:
    return MigrationError(
        f"{tree} {why}; a copy would delete in it",
        check="target-empty",
        action=f"Look whether it is needed, move it away or empty it, then run again (the claim is {marker_of(tree)})",
    )
