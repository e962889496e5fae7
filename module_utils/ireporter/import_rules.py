"""Rules for what must not come along from the cloud (paths of its server, entitlements): settings, which name tables, columns and files."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from .bundle_format import tree_members
from .errors import MigrationError
from .file_trees import absolute, relative

COMPARISONS: Final = ("equals", "starts_with", "contains", "is_null", "is_not_null")


@dataclass(frozen=True)
class Condition:
    """One comparison; all of a rule's must hold.

    :param text: what is compared with, as PostgreSQL reads the column's type; ``None`` for ``is_null`` and ``is_not_null``.
    """

    column: str
    comparison: str
    text: str | None


@dataclass(frozen=True)
class ValueRule:
    """Values of one column that become others: ``value`` (``None``: NULL), or their part ``part`` becomes ``by``."""

    name: str
    reason: str
    schema: str
    table: str
    column: str
    conditions: tuple[Condition, ...]
    value: str | None
    part: str | None
    by: str


@dataclass(frozen=True)
class FileRule:
    """A file of a tree that becomes ``source``, a file of this server, or (without one) is taken away.

    :param path: within the tree.
    """

    name: str
    reason: str
    tree: str
    path: str
    source: Path | None


def digest(values: Sequence[ValueRule], files: Sequence[FileRule]) -> str:
    """Tells whether rules are the same."""
    text = json.dumps([[asdict(rule) for rule in values], [asdict(rule) for rule in files]], default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def parse_value_rules(raw: Sequence[Mapping[str, Any]]) -> tuple[ValueRule, ...]:
    """:raises MigrationError: one cannot be understood (check ``import-rules``)."""
    return tuple(_value_rule(one) for one in raw)


def _value_rule(raw: Mapping[str, Any]) -> ValueRule:
    name = _text(raw, "name", "a rule of value_rules")
    what = f"rule {name!r}"
    part = raw.get("part")
    by, value = raw.get("by"), raw.get("value")
    if (part is None) != (by is None) or (part is not None and (value is not None or part == "")):
        raise _refuse(f"The {what} has to say value, or both part and by", "Say one of the two")
    conditions = tuple(_condition(one, what) for one in raw.get("when") or ())
    return ValueRule(
        name=name,
        reason=_text(raw, "reason", what),
        schema=str(raw.get("schema") or "public"),
        table=_text(raw, "table", what),
        column=_text(raw, "column", what),
        conditions=conditions,
        value=None if value is None else str(value),
        part=None if part is None else str(part),
        by="" if by is None else str(by),
    )


def _condition(raw: Mapping[str, Any], what: str) -> Condition:
    said = [name for name in COMPARISONS if raw.get(name) not in (None, False)]
    if len(said) != 1:
        raise _refuse(f"A condition of the {what} does not make one comparison", f"Say one of {', '.join(COMPARISONS)}")
    comparison = said[0]
    text = None if comparison in ("is_null", "is_not_null") else str(raw[comparison])
    return Condition(_text(raw, "column", what), comparison, text)


def parse_file_rules(raw: Sequence[Mapping[str, Any]]) -> tuple[FileRule, ...]:
    """:raises MigrationError: one cannot be understood (check ``import-rules``)."""
    rules = []
    for one in raw:
        name = _text(one, "name", "a rule of file_rules")
        tree = _text(one, "tree", f"rule {name!r}")
        tree_members(tree)
        path = relative(one.get("path"))
        if path is None or any(part in ("", ".") for part in os.fsdecode(path).split("/")):
            raise _refuse(f"The rule {name!r} names no file within its tree", "Write its path from the tree's root")
        source = absolute(one["source"]) if one.get("source") else None
        rules.append(FileRule(name, _text(one, "reason", f"rule {name!r}"), tree, os.fsdecode(path), source))
    return tuple(rules)


def _text(raw: Mapping[str, Any], key: str, what: str) -> str:
    found = raw.get(key)
    if not isinstance(found, str) or not found or "\0" in found:
        raise _refuse(f"{key} is missing in {what}", f"Say {key}")
    return found


def _refuse(happened: str, action: str) -> MigrationError:
    return MigrationError(happened, check="import-rules", action=action)
