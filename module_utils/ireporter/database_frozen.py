"""What a freeze changed on the source's database, read from the record of the freeze."""

from __future__ import annotations

from pathlib import Path

from .errors import MigrationError
from .json_files import read_json


def connection_limit_before(record: str | None) -> int | None:
    """The database's connection limit before the freeze that ``record`` (a path) remembers; ``None`` without a record.

    :raises MigrationError: a path is given, and there is no readable record (check ``freeze-record``).
    """
    if record is None:
        return None
    try:
        content = read_json(Path(record))
        if isinstance(content, dict):
            limit = content["before"]["connection_limit"]
            return None if limit is None else int(limit)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise MigrationError(
        f"There is no readable record of a freeze at {record}",
        check="freeze-record",
        action="Leave the option frozen out where the source is not frozen, or freeze first",
    )
