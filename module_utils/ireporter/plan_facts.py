"""Reads measured facts: a value of the wrong kind is as unknown as one that is missing."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Facts:
    """A tree of plain values, asked by path; every question answers ``None`` for "unknown"."""

    content: object

    def at(self, *path: str) -> object:
        value = self.content
        for key in path:
            if not isinstance(value, dict):
                return None
            value = value.get(key)
        return value

    def part(self, *path: str) -> Facts:
        return Facts(self.at(*path))

    def number(self, *path: str) -> int | float | None:
        value = self.at(*path)
        usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return value if usable else None  # type: ignore[return-value]

    def text(self, *path: str) -> str | None:
        value = self.at(*path)
        return value if isinstance(value, str) and value else None

    def flag(self, *path: str) -> bool | None:
        value = self.at(*path)
        return value if isinstance(value, bool) else None

    def items(self, *path: str) -> list[Facts] | None:
        """The list's members, or ``None`` where no list was measured; an empty list is an answer."""
        value = self.at(*path)
        return [Facts(member) for member in value] if isinstance(value, list | tuple) else None
