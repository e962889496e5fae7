"""What an import is asked to do: the specification of the unit and of the module, checked once, then typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg

from .bundle_format import tree_members
from .database_connection import Address
from .errors import MigrationError
from .file_trees import absolute
from .import_rules import FileRule, ValueRule, parse_file_rules, parse_value_rules
from .tenant_model import STATE_DIRECTORY, tenant_name
from .unit import MIGRATION_ID

STATES: Final = ("read", "restored", "rewritten", "swapped", "returned", "absent", "forgotten")
MAINTENANCE: Final = "postgres"
_KEPT_DAYS: Final = 30


@dataclass(frozen=True)
class Place:
    """A file tree as the application expects it on this server."""

    name: str
    path: Path


@dataclass(frozen=True)
class Wish:
    """Everything an import needs to know.

    :param bag: the unpacked, verified bag.
    :param database: the tenant's database as a superuser reaches it, by the name it is to have.
    :param known_roles: roles of this server that are the tenant's although no import made them.
    :param owners: name in the bundle → name here, of users; ``groups`` of groups.
    :param replace: what stands there is this tenant's, although no import made it.
    :param kept_days: so long what was there before is kept.
    """

    tenant: str
    import_id: str
    bag: Path | None
    database: Address
    places: tuple[Place, ...]
    known_roles: tuple[str, ...]
    owners: Mapping[str, str]
    groups: Mapping[str, str]
    application_version_file: Path | None
    accounts_query: str | None
    replace: bool
    jobs: int
    kept_days: int
    value_rules: tuple[ValueRule, ...]
    file_rules: tuple[FileRule, ...]
    check: bool
    state_directory: Path

    @property
    def directory(self) -> Path:
        """Where this server remembers this import."""
        return self.state_directory / self.tenant / self.import_id

    def address(self, database: str) -> Address:
        """Another database of the same server."""
        return Address(psycopg.conninfo.make_conninfo(self.database.conninfo, dbname=database), database)

    def place(self, tree: str) -> Place:
        """Where a tree of the bundle goes.

        :raises MigrationError: nobody said where (check ``import-trees``).
        """
        found = next((place for place in self.places if place.name == tree), None)
        if found is None:
            raise MigrationError(
                f"The bundle has a file tree {tree}, and no file tree of this name is set on this server",
                check="import-trees",
                action=f"Say in file_trees where {tree} belongs: an import leaves nothing out (R13)",
            )
        return found


def parse(spec: Mapping[str, Any]) -> Wish:
    """:raises MigrationError: an option is not usable."""
    import_id = spec.get("import_id")
    if not isinstance(import_id, str) or not MIGRATION_ID.fullmatch(import_id):
        raise MigrationError(
            f"{import_id!r} is no id of an import", check="import-id", action="Use the id that ireporter_run returned"
        )
    version_file = spec.get("application_version_file")
    return Wish(
        tenant=tenant_name(spec.get("tenant")),
        import_id=import_id,
        bag=absolute(spec["bag"]) if spec.get("bag") else None,
        database=Address.parse(str(spec["database"]), "database"),
        places=_places(spec.get("file_trees") or []),
        known_roles=tuple(str(name) for name in spec.get("known_roles") or ()),
        owners=dict(spec.get("owners") or {}),
        groups=dict(spec.get("groups") or {}),
        application_version_file=Path(str(version_file)) if version_file else None,
        accounts_query=str(spec["accounts_query"]) if spec.get("accounts_query") else None,
        replace=bool(spec.get("replace")),
        jobs=max(1, int(spec.get("jobs") or 2)),
        kept_days=_KEPT_DAYS if spec.get("kept_days") is None else int(spec["kept_days"]),
        value_rules=parse_value_rules(spec.get("value_rules") or []),
        file_rules=parse_file_rules(spec.get("file_rules") or []),
        check=bool(spec.get("check")),
        state_directory=Path(str(spec.get("state_directory") or STATE_DIRECTORY)),
    )


def _places(raw: Sequence[Mapping[str, object]]) -> tuple[Place, ...]:
    places = []
    for one in raw:
        tree_members(str(one.get("name")))
        places.append(Place(str(one["name"]), absolute(one.get("path"))))
    paths = [place.path for place in places]
    for path in paths:
        if paths.count(path) > 1 or any(other in path.parents for other in paths):
            raise MigrationError(
                f"{path} is a file tree, or part of one, twice", check="file-trees", action="Name each tree once"
            )
    if len({place.name for place in places}) != len(places):
        raise MigrationError("Two file trees have the same name", check="file-trees", action="Give each its own name")
    return tuple(places)
