"""Swaps what was imported with what was there, by renaming, and back. Killed anywhere, the next run completes it or takes it back.

Both renames of databases are one transaction. A tree takes two renames; which folder is which is told by device and inode, so every
state in between is known for what it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from .bundle_places import sync_folder
from .clock import Clock
from .database_connection import identifier
from .errors import MigrationError
from .file_trees import marker_of
from .import_journal import Journal, TreeNote
from .import_server import REWRITTEN, Server
from .import_trees import aside, identity
from .json_files import write_json


def identified(server: Server, journal: Journal) -> Journal:
    """The journal with what stands in the tenant's places now.

    :raises MigrationError: what was imported is not where it was put, or the tenant is not closed.
    """
    current = server.database(journal.database)
    if current is not None and current.connection_limit != 0:
        raise MigrationError(
            f"The database {journal.database} lets users in, so nothing can be swapped",
            check="import-open",
            action="Close the tenant first (ireporter_tenant state: closed), then run again",
        )
    imported = server.database(journal.aside)
    if imported is None or imported.number != journal.imported:
        raise _moved(f"The database {journal.aside} is not the one that was verified")
    trees = []
    for tree in journal.trees:
        if tree.imported is None or identity(aside(tree)) != tree.imported:
            raise _moved(f"{aside(tree)} is not the folder that was verified")
        trees.append(replace(tree, current=identity(Path(tree.path))))
    return replace(journal, current=current.number if current else None, trees=tuple(trees))


def forward(server: Server, journal: Journal, clock: Clock) -> None:
    """What was imported takes the tenant's names, what was there the names of what is kept. Goes on where it was.

    :raises MigrationError: something is where it cannot be: nobody else may rename meanwhile (check ``import-moved``).
    """
    for tree in journal.trees:
        _tree_forward(tree)
    _databases(
        server,
        clock,
        [
            (journal.current, journal.database, journal.before),
            (journal.imported, journal.aside, journal.database),
        ],
        after=f"ALTER DATABASE {identifier(journal.database)} RESET {REWRITTEN}",
    )
    for tree in journal.trees:
        path = Path(tree.path)
        write_json(
            marker_of(path),
            {
                "owner": journal.tenant,
                "about": "The folder beside this file came with an import; another one may take its place",
            },
        )
        with suppress(FileNotFoundError):
            Path(tree.wrapper).rmdir()


def backward(server: Server, journal: Journal, clock: Clock) -> None:
    """What was there before takes the tenant's names again; what was imported, with everything written since, is kept beside it."""
    _databases(
        server,
        clock,
        [
            # From whichever name it has: of a swap that was killed, it is still aside.
            (journal.imported, journal.database, journal.returned),
            (journal.imported, journal.aside, journal.returned),
            (journal.current, journal.before, journal.database),
        ],
    )
    for tree in journal.trees:
        _tree_backward(tree)
        with suppress(FileNotFoundError):
            Path(tree.wrapper).rmdir()


def _databases(
    server: Server, clock: Clock, moves: list[tuple[int | None, str, str]], *, after: str | None = None
) -> None:
    """Rename in one transaction what is not renamed yet: ``(number, from, to)``, in this order."""
    names = {number: server.numbered(number) for number, _from, _to in moves if number is not None}
    wanted = {number: to for number, _from, to in moves if number is not None}
    due = [
        (number, old, new)
        for number, old, new in moves
        if number is not None and (found := names[number]) is not None and found.name == old
    ]
    for number, found in names.items():
        if found is None or found.name not in {old for one, old, _new in moves if one == number} | {wanted[number]}:
            raise _moved(
                f"The database that was to become {wanted[number]} {'is gone' if found is None else f'is called {found.name}'}"
            )
    if not due:
        return
    server.wait_until_empty_of_sessions([old for _number, old, _new in due], clock)
    with server.session.transaction():
        server.run("SET LOCAL synchronous_commit = on")
        for _number, old, new in due:
            server.run(f"ALTER DATABASE {identifier(old)} RENAME TO {identifier(new)}")
        if after is not None:
            server.run(after)


def _tree_forward(tree: TreeNote) -> None:
    path, before = Path(tree.path), Path(tree.before)
    if identity(path) == tree.imported:
        return
    if tree.current is not None:
        if identity(path) == tree.current:
            _rename(path, before)
        elif identity(before) != tree.current:
            raise _moved(f"{path}, which was to be kept as {before}, is at neither place")
    if identity(aside(tree)) != tree.imported:
        raise _moved(f"{aside(tree)} is not the folder that was verified")
    _rename(aside(tree), path)


def _tree_backward(tree: TreeNote) -> None:
    path, before, returned = Path(tree.path), Path(tree.before), Path(tree.returned)
    places = [place for place in _places(tree) if identity(place) == tree.imported]
    if not places:
        raise _moved(f"The imported {path} is at none of its places")
    if places[0] != returned:
        _rename(places[0], returned)
    if tree.current is None or identity(path) == tree.current:
        return
    if identity(before) != tree.current:
        raise _moved(f"{path} of before is at neither place")
    _rename(before, path)


def _places(tree: TreeNote) -> Iterator[Path]:
    yield Path(tree.returned)
    yield Path(tree.path)
    yield aside(tree)


def _rename(old: Path, new: Path) -> None:
    """On disk before it counts.

    :raises MigrationError: the new name is in use (check ``import-moved``).
    """
    if os.path.lexists(new):
        raise _moved(f"{new} exists")
    old.rename(new)
    sync_folder(new.parent)
    if old.parent != new.parent:
        sync_folder(old.parent)


def _moved(happened: str) -> MigrationError:
    return MigrationError(
        happened,
        check="import-moved",
        action="Somebody renamed or made something meanwhile: put it back by hand, then run again; nothing was deleted",
    )
