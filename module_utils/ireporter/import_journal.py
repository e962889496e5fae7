"""What this server remembers of one import, durably: written before anything it speaks of is done, so that a run that was killed is found again.

``/var/lib/ireporter-migration/<tenant>/<import id>/import.json``. Where something is, the server itself says: databases by their number,
folders by device and inode. The journal only says which of them is which.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from .errors import MigrationError
from .json_files import read_json, write_json

RESTORING, RESTORED, VERIFIED, REWRITING, REWRITTEN = "restoring", "restored", "verified", "rewriting", "rewritten"
SWAPPING, SWAPPED, RETURNING, RETURNED = "swapping", "swapped", "returning", "returned"
REMOVING, REMOVED = "removing", "removed"
PHASES: Final = (
    RESTORING, RESTORED, VERIFIED, REWRITING, REWRITTEN, SWAPPING, SWAPPED, RETURNING, RETURNED, REMOVING, REMOVED,
)  # fmt: skip
ASIDE_PHASES: Final = (RESTORING, RESTORED, VERIFIED, REWRITING, REWRITTEN)
"""In these nothing of the tenant's was touched."""
FILE: Final = "import.json"
_FORMAT: Final = 1


@dataclass(frozen=True)
class TreeNote:
    """A file tree: what it is called in each of its states, and which folder is which (``device/inode``).

    :param wrapper: folder of root's only, in which the imported tree stands until the swap.
    """

    name: str
    path: str
    wrapper: str
    before: str
    returned: str
    imported: str | None = None
    current: str | None = None


@dataclass(frozen=True)
class Journal:
    """:param imported: number (oid) of the imported database; ``current``: of the one before, where there was one.
    :param roles: names of the roles that this import made.
    :param rules: digest of the rules that were applied.
    """

    tenant: str
    import_id: str
    bundle: str
    phase: str
    database: str
    aside: str
    before: str
    returned: str
    trees: tuple[TreeNote, ...]
    imported: int | None = None
    current: int | None = None
    roles: tuple[str, ...] = ()
    verified: dict[str, Any] = field(default_factory=dict)
    rewritten: list[dict[str, Any]] = field(default_factory=list)
    rules: str | None = None
    at: dict[str, str] = field(default_factory=dict)


def read(directory: Path) -> Journal | None:
    """The journal of the import whose folder this is.

    :raises MigrationError: it cannot be understood (check ``import-journal``).
    """
    path = directory / FILE
    try:
        content = read_json(path)
        if content is None:
            return None
        if not isinstance(content, dict) or content.pop("format", None) != _FORMAT or content["phase"] not in PHASES:
            raise ValueError("unknown format")  # noqa: TRY301 - one sentence for all that can be wrong with it
        trees = tuple(TreeNote(**tree) for tree in content.pop("trees"))
        return Journal(**{**content, "trees": trees, "roles": tuple(content["roles"])})
    except (ValueError, KeyError, TypeError) as error:
        raise MigrationError(
            f"{path} cannot be understood: {error}",
            check="import-journal",
            action="Keep a copy of it, and look by hand which databases and folders the import has made",
        ) from error


def write(directory: Path, journal: Journal, now: str) -> Journal:
    """On disk, name included, before this returns.

    :param now: instant of the phase, for people and for the days things are kept.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    journal = replace(journal, at={**journal.at, journal.phase: now})
    write_json(directory / FILE, {"format": _FORMAT, **asdict(journal)})
    return journal


def of_tenant(state_directory: Path, tenant: str) -> list[tuple[Path, Journal]]:
    """Every import of the tenant on this server, oldest first."""
    found = []
    for path in (state_directory / tenant).glob(f"*/{FILE}"):
        journal = read(path.parent)
        if journal is not None:
            found.append((path.parent, journal))
    return sorted(found, key=lambda one: (min(one[1].at.values(), default=""), one[1].import_id))
