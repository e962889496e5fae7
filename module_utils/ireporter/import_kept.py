"""Takes away what imports keep: what one made aside, and after some days what was there before. Only what the server itself says is that."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from . import import_journal
from .bundle_places import remove_folder
from .clock import Clock
from .database_settings import COPY_OF
from .errors import MigrationError
from .import_journal import ASIDE_PHASES, Journal
from .import_server import Server
from .import_trees import identity


def refuse_discard(server: Server, journal: Journal) -> None:
    """
    :raises MigrationError: what the import made stands in the tenant's places, or users wrote in it (check ``import-kept``).
    """
    if journal.phase not in (*ASIDE_PHASES, import_journal.RETURNED, import_journal.REMOVING):
        raise MigrationError(
            f"The import {journal.import_id} is {journal.phase}: what it made is the tenant's data",
            check="import-kept",
            action="Roll it back first",
        )
    found = server.numbered(journal.imported)
    if journal.phase == import_journal.RETURNED and found is not None and COPY_OF not in found.settings:
        raise MigrationError(
            f"Users have written in the database {found.name} since it was imported",
            check="import-kept",
            action="It is kept for the days set, then state: forgotten removes it",
        )


def discard(server: Server, directory: Path, journal: Journal, now: str) -> list[str]:
    """Remove what an import made that nobody ever wrote in: aside, or put back before the tenant opened on it.

    :returns: what was removed.
    """
    refuse_discard(server, journal)
    names = [*_aside(server, journal), *_names(server, [journal.imported], [journal.returned])]
    folders = [Path(tree.wrapper) for tree in journal.trees]
    folders += [Path(tree.returned) for tree in journal.trees if _is(Path(tree.returned), tree.imported)]
    return _remove(server, directory, journal, names=names, folders=folders, now=now)


def forget(
    server: Server, directories: Iterable[tuple[Path, Journal]], days: int, clock: Clock, *, check: bool
) -> list[str]:
    """Remove what imports keep that were swapped, put back or left aside more than ``days`` ago.

    :param check: only say what would go.
    """
    now = clock.now()
    removed: list[str] = []
    for directory, journal in directories:
        # What is being removed was due.
        if journal.phase == import_journal.REMOVING:
            due = True
        elif journal.phase in (import_journal.SWAPPED, import_journal.RETURNED, *ASIDE_PHASES):
            due = datetime.fromisoformat(journal.at[journal.phase]) <= now - timedelta(days=days)
        else:
            due = False
        if not due:
            continue
        names, folders = kept(server, journal)
        if check:
            removed += [*names, *map(str, folders)]
        else:
            at = now.isoformat(timespec="seconds")
            removed += _remove(server, directory, journal, names=names, folders=folders, now=at)
    return removed


def kept(server: Server, journal: Journal) -> tuple[list[str], list[Path]]:
    """Databases and folders beside the tenant's own that are what the journal says."""
    names = _names(server, [journal.current, journal.imported], [journal.before, journal.returned])
    names += _aside(server, journal)
    folders = []
    for tree in journal.trees:
        folders += [Path(tree.wrapper)] if os.path.lexists(tree.wrapper) else []
        for place, is_what in (
            (Path(tree.before), tree.current),
            (Path(tree.returned), tree.imported),
        ):
            if _is(place, is_what):
                folders.append(place)
    return names, folders


def _aside(server: Server, journal: Journal) -> list[str]:
    """Its name alone says what it is: it holds the id of this import."""
    return [journal.aside] if server.database(journal.aside) is not None else []


def _names(server: Server, numbers: list[int | None], allowed: list[str]) -> list[str]:
    found = [server.numbered(number) for number in numbers]
    return [one.name for one in found if one is not None and one.name in allowed]


def _is(place: Path, what: str | None) -> bool:
    return what is not None and identity(place) == what


def _remove(
    server: Server, directory: Path, journal: Journal, *, names: list[str], folders: list[Path], now: str
) -> list[str]:
    journal = import_journal.write(directory, replace(journal, phase=import_journal.REMOVING), now)
    removed = []
    for name in names:
        if server.database(name) is not None:
            server.drop(name)
            removed.append(name)
    for folder in folders:
        if os.path.lexists(folder):
            remove_folder(folder)
            removed.append(str(folder))
    import_journal.write(directory, replace(journal, phase=import_journal.REMOVED), now)
    return removed
