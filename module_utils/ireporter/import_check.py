"""Everything that would stop an import later, or would be wrong to touch, asked before the first change."""

from __future__ import annotations

import grp
import os
import pwd
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from .bundle_format import content_error
from .database_check import refuse_unknown_locale
from .database_connection import query, value
from .errors import MigrationError
from .file_trees import claim
from .import_bag import Bag
from .import_journal import Journal, of_tenant
from .import_names import BEFORE, RETURNED, database_name, tree_path
from .import_server import Server
from .import_wish import Place, Wish

_NUMBERS: Final = re.compile(r"\d+")
# A dump in text form becomes tables and indexes of about this many times its size.
_GROWTH: Final = 1.5
_RESERVE_BYTES: Final = 64 << 20


def refuse(wish: Wish, bag: Bag, server: Server, journal: Journal | None) -> None:
    """
    :param journal: of this very import, where it was begun.
    :raises MigrationError: the first thing that stands in the way; nothing was touched.
    """
    if bag.about.get("tenant") != wish.tenant:
        raise MigrationError(
            f"The bundle is of tenant {bag.about.get('tenant')}, not of {wish.tenant}",
            check="bundle-tenant",
            action="Take the bundle that was made for you, and tell the sender",
        )
    _versions(wish, bag, server)
    _extensions(bag, server)
    _locale(bag, server)
    places = [wish.place(tree) for tree in bag.trees]
    for place in places:
        _folder(place)
    _foreign(wish, server, places)
    if journal is None:
        # An import that was begun found room, and has taken some of it.
        _names(wish, server, places)
        _room(bag, server, places)
    roles(wish, bag, server, journal)
    for place in places:
        _owners(wish, bag, place.name)
    file_rules(wish, bag)


def _versions(wish: Wish, bag: Bag, server: Server) -> None:
    versions = bag.about.get("versions")
    source = versions.get("postgresql") if isinstance(versions, dict) else None
    if not isinstance(versions, dict) or not isinstance(source, int):
        raise content_error("The bundle does not say which PostgreSQL its data comes from")
    if server.version < source:
        raise MigrationError(
            f"PostgreSQL here is {_postgresql(server.version)}, older than {_postgresql(source)} of the bundle",
            check="target-version",
            action=f"Give this server PostgreSQL {_postgresql(source)} or newer",
        )
    wanted = versions.get("application")
    if wanted is None:
        return
    path = wish.application_version_file
    try:
        found = path.read_text(errors="replace").strip() if path else ""
    except OSError:
        found = ""
    if not _NUMBERS.search(found):
        raise MigrationError(
            f"The version of the application here is unknown; the bundle's is {wanted}",
            check="application-version",
            action="Install the application, and name in application_version_file the file that holds its version",
        )
    if _version(found) < _version(str(wanted)):
        raise MigrationError(
            f"The application here is {found.splitlines()[0]}, older than {wanted} of the bundle",
            check="application-version",
            action=f"Install the application {wanted} or newer",
        )


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in _NUMBERS.findall(text))


def _postgresql(number: int) -> str:
    return f"{number // 10000}.{number % 10000}"


def _extensions(bag: Bag, server: Server) -> None:
    """Of another major version of PostgreSQL, other versions of its extensions are natural; of the same one they are not."""
    same_version = server.version // 10000 == int(bag.about["versions"]["postgresql"]) // 10000
    available: dict[str, set[str]] = {}
    for name, version in query(server.session, "SELECT name, version FROM pg_available_extension_versions"):
        available.setdefault(name, set()).add(version)
    for name, version in sorted(bag.database["extensions"].items()):
        if name not in available or (same_version and version not in available[name]):
            raise MigrationError(
                f"The bundle's database uses the extension {name} {version}, which PostgreSQL here does not have",
                check="extension-missing",
                action=f"Install the extension {name} {version} (the package postgresql-contrib has many)",
            )


def _locale(bag: Bag, server: Server) -> None:
    locale = bag.database["locale"]
    refuse_unknown_locale(server.session, str(locale["collate"]), str(locale["ctype"]), "database in the bundle")


def _foreign(wish: Wish, server: Server, places: Iterable[Place]) -> None:
    """What stands there now is kept, but only where it is this tenant's: somebody else's must not be moved away."""
    if wish.replace:
        return
    name = wish.database.database
    found = server.database(name)
    if found is not None and found.tenant != wish.tenant and (found.tenant is not None or not server.empty(name)):
        raise MigrationError(
            f"The database {name} holds data that no import of {wish.tenant} put there",
            check="target-empty",
            action="Name another database; or say replace where it is this tenant's own: it is kept under another name",
        )
    for place in places:
        licence = next((path for tree, path in _own_files(wish) if tree == place.name), None)
        try:
            claim(place.path, wish.tenant, licence_file=licence, change=False)
        except MigrationError as error:
            raise MigrationError(
                error.happened.partition(";")[0],
                check=error.check,
                action="Name another folder; or say replace where it is this tenant's own: it is kept under another name",
            ) from error


def _own_files(wish: Wish) -> Iterable[tuple[str, bytes]]:
    """Files that stand in a tree of this server now, and will in the imported one: they are the server's own."""
    for rule in wish.file_rules:
        if rule.source is not None and rule.source == wish.place(rule.tree).path / rule.path:
            yield rule.tree, os.fsencode(rule.path)


def _names(wish: Wish, server: Server, places: Iterable[Place]) -> None:
    """What this import will make or keep has no name that is in use."""
    taken: list[str] = []
    for kind in (BEFORE, RETURNED):
        name = database_name(wish.database.database, kind, wish.import_id)
        taken += [f"The database {name}"] if server.database(name) else []
        paths = [tree_path(place.path, kind, wish.import_id) for place in places]
        taken += [str(path) for path in paths if os.path.lexists(path)]
    if taken:
        raise MigrationError(
            f"{taken[0]} exists, and this import would need the name",
            check="import-names",
            action="Look whose it is, move it away, then run again",
        )


def roles(wish: Wish, bag: Bag, server: Server, journal: Journal | None) -> list[str]:
    """Names of the roles that have to be made.

    :raises MigrationError: one exists that is not the tenant's, or has power over the server (check ``role-clash``).
    """
    wanted = [statement.creates for statement in bag.role_statements() if statement.creates is not None]
    existing = {
        str(name): bool(powerful)
        for name, powerful in query(
            server.session,
            "SELECT rolname, rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication FROM pg_roles WHERE rolname = ANY (%s)",
            (wanted,),
        )
    }
    ours = {*wish.known_roles, *(journal.roles if journal else ())}
    for _directory, earlier in of_tenant(wish.state_directory, wish.tenant):
        ours |= set(earlier.roles)
    for name, powerful in existing.items():
        if name not in ours:
            raise MigrationError(
                f"The role {name} exists on this server, and no import of {wish.tenant} made it",
                check="role-clash",
                action=f"Look whose it is: name it in known_roles where it is this tenant's, else rename the other role {name}",
            )
        if powerful:
            raise MigrationError(
                f"The role {name} has power over this server, and the tenant's role of this name must not",
                check="role-clash",
                action=f"Take SUPERUSER, CREATEROLE, CREATEDB and REPLICATION from the role {name}",
            )
    return [name for name in wanted if name not in existing]


def _folder(place: Place) -> None:
    above = place.path.parent
    if not above.is_dir() or above.is_symlink():
        raise MigrationError(
            f"{above}, in which the file tree {place.name} is to lie, is no folder",
            check="import-trees",
            action=f"Make {above}, or correct the path of the file tree",
        )
    if not os.path.lexists(place.path):
        return
    if place.path.is_symlink() or not place.path.is_dir() or place.path.stat().st_dev != above.stat().st_dev:
        raise MigrationError(
            f"{place.path} is a link or a file system of its own, so that it cannot be swapped by renaming",
            check="import-trees",
            action="Name a folder below it for the tree, and tell the application",
        )


def _owners(wish: Wish, bag: Bag, tree: str) -> None:
    """Everybody whom the manifest names can be had here."""
    for kind, name in sorted(bag.owners(tree)):
        here = (wish.owners if kind == "user" else wish.groups).get(name, name)
        try:
            _ = pwd.getpwnam(here) if kind == "user" else grp.getgrnam(here)
        except KeyError:
            raise MigrationError(
                f"Files of the tree {tree} belong to the {kind} {here}, which does not exist on this server",
                check="import-owners",
                action=f"Make the {kind} {here}, or say in {'owners' if kind == 'user' else 'groups'} who takes the place of {name}",
            ) from None


def file_rules(wish: Wish, bag: Bag) -> None:
    """:raises MigrationError: a rule for files cannot be carried out (check ``import-rules``)."""
    for rule in wish.file_rules:
        if rule.tree not in bag.trees:
            raise MigrationError(
                f"The rule {rule.name!r} is about the file tree {rule.tree}, which the bundle has not",
                check="import-rules",
                action=f"Name one of {', '.join(sorted(bag.trees)) or 'none'}",
            )
        source = rule.source
        if source is not None and (not source.is_file() or Path(os.path.realpath(source)) != source):
            raise MigrationError(
                f"{source}, which the rule {rule.name!r} puts into the file tree {rule.tree}, is no plain file on this server",
                check="import-rules",
                action="Put it there (it is this server's own, such as its licence), then run again",
            )


def _room(bag: Bag, server: Server, places: Iterable[Place]) -> None:
    needed: dict[int, tuple[Path, float]] = {}

    def add(folder: Path, size: float) -> None:
        device = folder.stat().st_dev
        needed[device] = (folder, needed.get(device, (folder, 0.0))[1] + size)

    data = Path(str(value(server.session, "SHOW data_directory")))
    if data.is_dir():
        add(data, bag.archive_bytes * _GROWTH)
    for place in places:
        add(place.path.parent, bag.trees[place.name]["bytes"])
    for folder, size in needed.values():
        room = os.statvfs(folder)
        free = room.f_bavail * room.f_frsize
        if free < size + _RESERVE_BYTES:
            raise MigrationError(
                f"The import needs about {round(size)} bytes on the disk of {folder}, which has {free} left",
                check="disk-full",
                action="Make room there, then run again",
            )
