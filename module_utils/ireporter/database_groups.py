"""Which part of i-Reporter's data a table belongs to, told by its name (public facts: ``def_*``, ``rep_*``, ``mst_*``, ``log_*``, linkage tables)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from .errors import MigrationError

# Publishing a definition makes the tables report_<definition>_s_1 … _s_4.
LINKAGE = re.compile(r"report_[0-9]+_s_[0-9]+", re.ASCII)
DEFAULT: dict[str, list[str]] = {
    "definition": ["def_*"],
    "report": ["rep_*"],
    "linkage": ["report_*_s_*"],
    "master": ["mst_*"],
    "log": ["log_*"],
}
OTHER, LARGE_OBJECTS, SYSTEM = "other", "large_objects", "system"


class TableGroups:
    """``groups``: name of a group → patterns of table names as a shell has them (``*``, ``?``, ``[…]``); the first that fits counts."""

    def __init__(self, groups: Mapping[str, Sequence[str]] = DEFAULT) -> None:
        self._groups = {name: tuple(patterns) for name, patterns in groups.items()}

    @classmethod
    def read(cls, given: Mapping[str, object] | None) -> TableGroups:
        """From an operator's setting; None is :data:`DEFAULT`.

        :raises MigrationError: a group has no list of patterns, or a name that is ours (``table-groups``).
        """
        if given is None:
            return cls()
        groups: dict[str, list[str]] = {}
        for name, patterns in given.items():
            texts = patterns if isinstance(patterns, list) and all(isinstance(one, str) for one in patterns) else []
            if not texts or name in (OTHER, LARGE_OBJECTS, SYSTEM):
                raise MigrationError(
                    f"The table group {name!r} "
                    + ("has no list of patterns" if not texts else "has a name that is kept for what is in no group"),
                    check="table-groups",
                    action="Write table groups like {report: [rep_*], log: [log_*]}",
                )
            groups[name] = texts
        return cls(groups)

    def of(self, table: str) -> str:
        for name, patterns in self._groups.items():
            if any(fnmatchcase(table, pattern) for pattern in patterns):
                return name
        return OTHER

    def add_up(self, database_bytes: int, tables: Iterable[tuple[str, int]], large_object_bytes: int) -> dict[str, int]:
        """Bytes by group; together they are the database's (``system``: catalogue, and whatever else is no table).

        :param tables: group and bytes of each.
        """
        sums = dict.fromkeys([*self._groups, OTHER], 0)
        for group, size in tables:
            sums[group] += size
        known = sum(sums.values()) + large_object_bytes
        # The sizes are read one after the other while users write.
        return {**sums, LARGE_OBJECTS: large_object_bytes, SYSTEM: max(0, database_bytes - known)}
