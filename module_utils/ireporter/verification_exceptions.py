"""The closed list of differences that must be: each with its reason and the value expected. No option extends it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from .database_settings import COPY_OF

Difference = dict[str, str]
ABSENT = "absent"

_VERIFIER = re.compile(r"password verifier [0-9a-f]+")


@dataclass(frozen=True)
class Expected:
    """One kind of difference that is none.

    :param kind: of the difference.
    :param matches: whether source and target have the values expected.
    """

    kind: str
    reason: str
    matches: Callable[[Difference], bool]


EXPECTED: tuple[Expected, ...] = (
    Expected(
        "role password",
        "A role that has a password on the target keeps it: the application's credential is new on a new server.",
        lambda found: _VERIFIER.fullmatch(found["target"]) is not None,
    ),
    Expected(
        "database setting",
        "A copy names the database it was made from.",
        lambda found: (
            found["object"] == COPY_OF
            and (
                (found["source"] == ABSENT and re.fullmatch(r"\d+/\d+", found["target"]) is not None)
                # The source may itself be a copy, of another database.
                or re.fullmatch(r"\d+/\d+ (->|→) \d+/\d+", f"{found['source']} -> {found['target']}") is not None
                # A copy made backwards from a copy, before it is marked.
                or (found["target"] == ABSENT and re.fullmatch(r"\d+/\d+", found["source"]) is not None)
            )
        ),
    ),
)


def split(differences: list[Difference]) -> tuple[list[Difference], list[Difference]]:
    """Real differences, and expected ones with ``reason``."""
    real, expected = [], []
    for difference in differences:
        reason = next(
            (item.reason for item in EXPECTED if item.kind == difference["kind"] and item.matches(difference)), None
        )
        if reason is None:
            real.append(difference)
        else:
            expected.append(difference | {"reason": reason})
    return real, expected


CANNOT_DETECT: tuple[str, ...] = (
    "Bits of a NaN beyond its being one, in tables that have a column whose text is compared: composite types, arrays of"
    " user-defined types, references to objects, xml, types without a binary form, types of the database's own.",
    "The XML declaration of xml inside of composite types (elsewhere the stored text is compared).",
    "Which of several functions or operators of one name a regproc or regoper is: their text does not say (a copy refuses them).",
    "A damaged index whose definition is right: rows are read from the tables (amcheck finds such damage).",
    "Planner statistics, free space, compression and order of rows on disk: physical, not data.",
    "Rows behind foreign tables: they lie outside of the database.",
    "Rows that belong to an extension but are not its configuration, and changes to definitions and owners of its objects but tables:"
    " the extension's version vouches for them.",
    "Tablespaces: the target keeps everything in its default one.",
    "Whether a subscription is enabled; replication slots and origins of the server.",
    "Invalid indexes of the source: pg_dump does not know them.",
    "Whether a password is the same where the target's role has one of its own.",
    "Different rows whose two 64-bit sums agree: by chance less than once in 10**38 comparisons, if the hash behaves like a random one.",
)

_LINKAGE = re.compile(r"(?<!\w)(report_[0-9]+_s_[0-9]+|view_report_[0-9]+)(\b|_)")


def linkage_object(name: str) -> bool:
    """Whether a schema object belongs to a linkage table or view, which publishing a definition makes at any time."""
    return _LINKAGE.search(name) is not None
