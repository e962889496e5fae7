"""The bundle's file trees, unpacked beside the real ones in a folder that is root's only until the swap, with the owners of this server."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path
from typing import Final

from .bundle_extract import extract
from .bundle_places import remove_folder, sync_file_system, sync_folder
from .file_manifest import Entry
from .import_bag import Bag
from .import_journal import TreeNote
from .import_names import ASIDE, BEFORE, RETURNED, tree_path
from .import_wish import Wish

TREE: Final = "tree"


def notes(wish: Wish, bag: Bag) -> tuple[TreeNote, ...]:
    """What each tree of the bundle is called in each of its states."""
    found = []
    for name in bag.trees:
        path = wish.place(name).path
        kinds = [str(tree_path(path, kind, wish.import_id)) for kind in (ASIDE, BEFORE, RETURNED)]
        found.append(TreeNote(name, str(path), *kinds))
    return tuple(found)


def aside(note: TreeNote) -> Path:
    """Where the imported tree stands until the swap."""
    return Path(note.wrapper) / TREE


def unpack(wish: Wish, bag: Bag, note: TreeNote) -> None:
    """Make the tree anew.

    The folder around it lets nobody in: who may write in the tree later must not lead root's hands elsewhere now.
    """
    wrapper = Path(note.wrapper)
    remove_folder(wrapper)
    wrapper.mkdir(mode=0o700)
    tree = aside(note)
    extract(note.name, bag.tar(note.name), tree)
    if wish.owners or wish.groups:
        _give_owners(wish, bag, note.name, tree)
    sync_file_system(wrapper)
    sync_folder(wrapper.parent)


def owner(wish: Wish, entry: Entry) -> tuple[str | int, str | int]:
    """Who owns the file here: names, or numbers where the bundle has numbers."""
    user, group = entry["owner"], entry["group"]
    return (
        wish.owners.get(user, user) if isinstance(user, str) else user,
        wish.groups.get(group, group) if isinstance(group, str) else group,
    )


def _give_owners(wish: Wish, bag: Bag, tree: str, root: Path) -> None:
    raw = os.fsencode(root)
    for path, entry in bag.entries(tree):
        user, group = owner(wish, entry)
        if (user, group) == (entry["owner"], entry["group"]):
            continue
        file = raw if path == b"." else raw + b"/" + path
        os.chown(
            file,
            pwd.getpwnam(user).pw_uid if isinstance(user, str) else user,
            grp.getgrnam(group).gr_gid if isinstance(group, str) else group,
            follow_symlinks=False,
        )
        if entry["type"] != "link":
            # A new owner takes the set-user-id bit away.
            os.chmod(file, int(entry["mode"], 8))  # noqa: PTH101 - bytes


def identity(path: Path) -> str | None:
    """``device/inode`` of a folder, which a rename does not change; ``None`` where there is none."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return f"{found.st_dev}/{found.st_ino}"
