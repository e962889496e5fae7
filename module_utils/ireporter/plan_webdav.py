"""R09: files in WebDAV stay behind. The customer has downloaded them, and said so after the newest of them changed."""

from __future__ import annotations

from datetime import UTC, datetime

from .calendar_japan import JAPAN, japan_minute
from .errors import MigrationError
from .plan_facts import Facts
from .plan_gate import Gate, failed, passed, refused

NONE = "none"
_GATE = "R09-webdav"
_LIMIT = "confirmed after the newest file changed"


def webdav_tree(name: object, source: Facts) -> Facts | None:
    """The file tree that stays behind, as it was measured; None where it is said that there is none.

    :param name: of the file tree, or the word ``none``.
    :raises MigrationError: nothing is said, or the source has no such file tree (R09).
    """
    if name == NONE:
        return None
    given = name if isinstance(name, str) and name else None
    found = [tree for tree in source.items("file_trees") or [] if given and tree.text("name") == given]
    if len(found) != 1 or found[0].flag("exists") is not True:
        raise MigrationError(
            "Which file tree is the WebDAV storage is not said"
            if given is None
            else f"The file tree {given} of the WebDAV storage was not found on the source",
            check="R09",
            action=f'Name its file tree, or say "{NONE}" when there is no WebDAV',
        )
    return found[0]


def webdav_gate(source: Facts, webdav: Facts, now: datetime) -> Gate:
    """
    :param webdav: ``{tree, confirmed_at}``: the name of a file tree or the word ``none``, and a minute of Japan time.
    """
    try:
        tree = webdav_tree(webdav.at("tree"), source)
    except MigrationError as error:
        return refused(_GATE, error, rule="R09", measured=None, limit=_LIMIT)
    if tree is None:
        return passed(
            _GATE, "The tenant has no WebDAV storage: 0 files stay behind", rule="R09", measured=0, limit=_LIMIT
        )
    files, newest = tree.number("files"), tree.number("newest_file_change")
    if files == 0:
        return passed(
            _GATE, "0 files are in WebDAV: there is nothing to download", rule="R09", measured=0, limit=_LIMIT
        )
    changed = _instant(newest)
    if files is None or changed is None:
        return failed(
            _GATE,
            "How many files are in WebDAV, or when the newest of them changed, is unknown",
            "Mend what stands in the way on the source and run again",
            rule="R09",
            measured=None,
            limit=_LIMIT,
        )
    return _confirmed(webdav, int(files), changed, now)


def _confirmed(webdav: Facts, files: int, changed: datetime, now: datetime) -> Gate:
    limit = changed.isoformat()
    said = f"{files} files are in WebDAV and are not migrated; the newest changed at {_second(changed)} Japan time"
    ask = "Ask the customer to download them, and set confirmed_at to when they said so"
    if webdav.at("confirmed_at") is None:
        return failed(_GATE, f"{said}; no download is confirmed", ask, rule="R09", measured=None, limit=limit)
    try:
        confirmed = japan_minute(webdav.at("confirmed_at"), field="confirmed_at of WebDAV", check="R09")
    except MigrationError as error:
        return refused(_GATE, error, rule="R09", measured=None, limit=limit)
    measured = confirmed.isoformat()
    if confirmed > now:
        return failed(
            _GATE,
            f"The download from WebDAV is confirmed at {_second(confirmed)} Japan time, which is to come",
            "Correct confirmed_at",
            rule="R09",
            measured=measured,
            limit=limit,
        )
    # Not "at the same instant": whoever looked then may have missed it.
    if confirmed <= changed:
        return failed(
            _GATE,
            f"{said}, their download was confirmed at {_second(confirmed)}, not after that",
            "Ask the customer to download what is new, and to confirm once more",
            rule="R09",
            measured=measured,
            limit=limit,
        )
    return passed(
        _GATE,
        f"{said}; their download was confirmed at {_second(confirmed)}",
        rule="R09",
        measured=measured,
        limit=limit,
    )


def _instant(epoch: float | None) -> datetime | None:
    try:
        return None if epoch is None else datetime.fromtimestamp(epoch, UTC)
    except (OverflowError, OSError, ValueError):
        return None


def _second(instant: datetime) -> str:
    return instant.astimezone(JAPAN).strftime("%Y-%m-%d %H:%M:%S")
