"""Names that nobody knows: the nearest known one is said, and a setting is refused instead of being silently without effect."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping

from .errors import MigrationError


def nearest(name: str, known: Collection[str], *, alike: float = 0.0) -> str | None:
    """The known name that is most like ``name``; None where none is.

    :param alike: how much at least, from 0 (however little) to 1 (equal).
    """
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=alike)), None)


def refuse_unknown(given: Mapping[str, object], known: Collection[str], *, what: str, check: str) -> None:
    """Nothing, when every name in ``given`` is known.

    :param what: what is set, for the message (``the plan``).
    :raises MigrationError: a name is unknown.
    """
    for name in given:
        if name not in known:
            near = nearest(str(name), known)
            raise MigrationError(
                f"The setting {name!r} of {what} is unknown",
                check=check,
                action=f"Write {near}, or remove it" if near else "Remove it",
            )
