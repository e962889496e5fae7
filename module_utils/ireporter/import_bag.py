"""An unpacked, verified bag as an import reads it: what it says about itself, the roles it needs, its trees."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from .bundle_format import ABOUT, BASE, FORMAT_VERSION, ROLES, SETTINGS, content_error, tree_members
from .bundle_read import parse_about
from .bundle_tree_check import read_manifest
from .errors import MigrationError
from .file_manifest import Entry
from .sql_statements import split_statements
from .verification_rows import Seeds

_NAME: Final = r'"((?:[^"]|"")+)"'
_POWER: Final = r"NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION"
_LITERAL: Final = r"E?'(?:[^']|'')*'"
_SETTING: Final = rf'(?:RESET ALL|SET "[^;]+" = {_LITERAL}(?:, {_LITERAL})*)'
# Of a manifest's line; within its texts a quote has a backslash before it.
_OWNERS: Final = re.compile(rb'"(owner|group)":("(?:[^"\\]|\\.)*")')
_LISTED: Final = re.compile(r"(user|group):([^:]+):")
_ROLE_STATEMENTS: Final = (
    re.compile(
        rf"(?P<creation>CREATE) ROLE {_NAME} {_POWER} (?:NO)?BYPASSRLS (?:NO)?INHERIT (?:NO)?LOGIN CONNECTION LIMIT -?\d+"
        rf"(?: VALID UNTIL {_LITERAL})?"
    ),
    re.compile(rf"ALTER ROLE {_NAME} {_SETTING}", re.DOTALL),
    re.compile(rf"COMMENT ON ROLE {_NAME} IS (?:NULL|{_LITERAL})", re.DOTALL),
    re.compile(rf"GRANT {_NAME} TO {_NAME}(?: WITH ADMIN OPTION)?"),
)
_PREAMBLE: Final = "SET standard_conforming_strings = on"
_OF_A_DATABASE: Final = (
    "ALTER DATABASE {} ", "COMMENT ON DATABASE {} IS ", "REVOKE ALL ON DATABASE {} FROM ", "SET LOCAL SESSION AUTHORIZATION ",
)  # fmt: skip
_GRANT_ON: Final = re.compile(r"GRANT [A-Z]+ ON DATABASE $")


@dataclass(frozen=True)
class RoleStatement:
    """One statement of the roles' file. ``creates``: the role it makes."""

    text: str
    creates: str | None


class Bag:
    """:param folder: what was unpacked: ``ireporter-bundle``, or the folder that holds it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder if folder.name == BASE else folder / BASE

    @cached_property
    def about(self) -> dict[str, Any]:
        """``migration.json``.

        :raises MigrationError: there is none (check ``import-bag``), or it is of another format.
        """
        about = parse_about(self._read(ABOUT))
        if about.get("version") != FORMAT_VERSION:
            raise content_error(f"{ABOUT} has another format than these tools read")
        return about

    @property
    def migration_id(self) -> str:
        return str(self.about["migration_id"])

    @property
    def database(self) -> dict[str, Any]:
        """What is said of the database (:func:`bundle_contents.database_facts` and its encoding, locale, owner)."""
        found = self.about.get("database")
        if not isinstance(found, dict):
            raise content_error(f"{ABOUT} says nothing of the database")
        return found

    @property
    def seeds(self) -> Seeds:
        """Of the digests."""
        first, second = (int(seed) for seed in self.database["seeds"])
        return Seeds(first, second)

    @property
    def archive(self) -> Path:
        """The folder that ``pg_restore`` reads."""
        return self.folder / "data/database"

    @property
    def archive_bytes(self) -> int:
        """Size of the dump."""
        return sum(path.stat().st_size for path in self.archive.iterdir())

    @property
    def trees(self) -> dict[str, dict[str, Any]]:
        """By name: ``entries``, ``files``, ``bytes``."""
        return {str(tree["name"]): tree for tree in self.about["file_trees"]}

    def tar(self, tree: str) -> Path:
        """Its tar."""
        return self.folder / tree_members(tree)[1]

    def entries(self, tree: str) -> Iterator[tuple[bytes, Entry]]:
        """Its manifest, checked (:func:`bundle_tree_check.read_manifest`)."""
        with (self.folder / tree_members(tree)[0]).open("rb") as lines:
            yield from read_manifest(tree, lines)

    def owners(self, tree: str) -> set[tuple[str, str]]:
        """``("user", name)`` and ``("group", name)`` of everybody whom the tree's manifest names; numbers are left out. In ACLs, too.

        Looked for as text: parsing 100,000 lines for it takes seconds.
        """
        found: set[tuple[bytes, bytes]] = set()
        listed: set[tuple[str, str]] = set()
        with (self.folder / tree_members(tree)[0]).open("rb") as lines:
            for line in lines:
                found.update(_OWNERS.findall(line))
                if b'"acl":{' in line:
                    rows = [row for kind in json.loads(line).get("acl", {}).values() for row in kind]
                    listed.update((match[1], match[2]) for row in rows if (match := _LISTED.match(row)))
        named = {("user" if kind == b"owner" else "group", str(json.loads(name))) for kind, name in found}
        return named | {one for one in listed if not one[1].isdigit()}

    def role_statements(self) -> list[RoleStatement]:
        """What makes the roles: nothing else than that, and no role with power over the server.

        :raises MigrationError: the file holds something else (check ``bundle-content``).
        """
        found = []
        for text in self._statements(ROLES, None):
            if text == _PREAMBLE:
                continue
            match = next((match for form in _ROLE_STATEMENTS if (match := form.fullmatch(text))), None)
            if match is None:
                raise content_error(f"{ROLES} of the bundle holds a statement that does more than make roles")
            creates = match[2].replace('""', '"') if match.groupdict().get("creation") else None
            found.append(RoleStatement(text, creates))
        return found

    def database_statements(self, name: str) -> list[str]:
        """Owner, grants and settings of the database, for the database of the quoted ``name``; one transaction.

        :raises MigrationError: the file holds something else (check ``bundle-content``).
        """
        found = []
        starts = tuple(start.format(name) for start in _OF_A_DATABASE)
        for text in self._statements(SETTINGS, name):
            if text in (_PREAMBLE, "BEGIN", "COMMIT"):
                continue
            if not (
                text.startswith(starts)
                or text == "RESET SESSION AUTHORIZATION"
                or (_GRANT_ON.match(text.partition(name)[0]) and name in text)
                or re.match(rf"ALTER ROLE {_NAME} IN DATABASE ", text)
            ):
                raise content_error(f"{SETTINGS} of the bundle holds a statement of something else than its database")
            found.append(text)
        return found

    def _statements(self, member: str, database: str | None) -> list[str]:
        text = self._read(member).decode(errors="surrogateescape")
        try:
            return list(split_statements(text, database))
        except ValueError as error:
            raise content_error(f"{member} of the bundle cannot be understood: {error}") from error

    def _read(self, member: str) -> bytes:
        try:
            return (self.folder / member).read_bytes()
        except FileNotFoundError as error:
            raise MigrationError(
                f"{self.folder} holds no unpacked bundle: there is no {member}",
                check="import-bag",
                action="Unpack the bundle with ireporter_bundle state: unpacked, then run again",
            ) from error
