"""R03: the total amount of data comes first. WebDAV files are counted and stay where they are (R09)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from .errors import MigrationError
from .plan_facts import Facts


@dataclass(frozen=True)
class TreeData:
    """One file tree; ``size`` in bytes."""

    name: str
    files: int
    size: int

    def as_result(self) -> dict[str, object]:
        return {"name": self.name, "bytes": self.size}


@dataclass(frozen=True)
class DataTotal:
    """What is to be moved, and what is not (``left_behind``). ``groups``: bytes of the database by group of tables,
    as :mod:`tenant_database_info` forms them."""

    database_bytes: int
    groups: tuple[tuple[str, int], ...]
    trees: tuple[TreeData, ...]
    left_behind: tuple[TreeData, ...] = ()

    @property
    def files(self) -> int:
        return sum(tree.files for tree in self.trees)

    @property
    def file_bytes(self) -> int:
        return sum(tree.size for tree in self.trees)

    @property
    def data_bytes(self) -> int:
        return self.database_bytes + self.file_bytes

    def without(self, name: str | None) -> DataTotal:
        """The same with the file tree ``name`` left behind; None leaves nothing behind."""
        return replace(
            self,
            trees=tuple(tree for tree in self.trees if tree.name != name),
            left_behind=(*self.left_behind, *(tree for tree in self.trees if tree.name == name)),
        )

    def as_result(self) -> dict[str, object]:
        """Plain values for a module's result."""
        return {
            "data_bytes": self.data_bytes,
            "database_bytes": self.database_bytes,
            "database_groups": dict(self.groups),
            "file_bytes": self.file_bytes,
            "file_trees": [tree.as_result() for tree in self.trees],
            "left_behind": [tree.as_result() for tree in self.left_behind],
        }


def data_total(source: Facts) -> DataTotal:
    """From what ``ireporter_tenant_info`` measured: ``database.bytes``, ``database.groups`` and ``file_trees`` (``name``, ``files``, ``bytes``).

    :raises MigrationError: a size is unknown (R03).
    """
    database, trees = _count(source, "database", "bytes"), source.items("file_trees")
    if database is None:
        raise _unknown("the database")
    if trees is None:
        raise _unknown("the file trees")
    groups = source.at("database", "groups")
    return DataTotal(database, _groups(groups.items() if isinstance(groups, dict) else ()), tuple(map(_tree, trees)))


def _tree(tree: Facts) -> TreeData:
    name, files, size = tree.text("name"), _count(tree, "files"), _count(tree, "bytes")
    if name is None or files is None or size is None:
        raise _unknown(f"the file tree {name}")
    return TreeData(name, files, size)


def _groups(measured: Iterable[tuple[object, object]]) -> tuple[tuple[str, int], ...]:
    return tuple(
        sorted((str(name), size) for name, size in measured if isinstance(size, int) and not isinstance(size, bool))
    )


def _count(facts: Facts, *path: str) -> int | None:
    number = facts.number(*path)
    return None if number is None or number < 0 else int(number)


def _unknown(what: str) -> MigrationError:
    return MigrationError(
        f"The total amount of data is unknown: the size of {what} was not measured",
        check="R03",
        action="Assess the tenant first; the estimate and the quote come after",
    )
