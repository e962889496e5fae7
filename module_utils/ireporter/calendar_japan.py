"""Japan time, in which the vendor and its customers agree on every date (R04, R10, R12)."""

from __future__ import annotations

import re
from datetime import date, datetime
from zoneinfo import ZoneInfo

from .errors import MigrationError

JAPAN = ZoneInfo("Asia/Tokyo")

_MINUTE = re.compile(r"\d{4}-\d{2}-\d{2} \d{2}:\d{2}", re.ASCII)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def japan_minute(text: object, *, field: str, check: str) -> datetime:
    """Read ``YYYY-MM-DD HH:MM`` as Japan time, whatever the zone of this machine.

    :param field: the variable it came from, for the message.
    :raises MigrationError: it is not written that way or there is no such minute.
    """
    if isinstance(text, str) and _MINUTE.fullmatch(text):
        try:
            return datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=JAPAN)
        except ValueError:
            pass
    raise MigrationError(
        f"{field} is {text!r}, which is no minute of Japan time",
        check=check,
        action=f'Write {field} as "YYYY-MM-DD HH:MM", for example "2026-11-28 22:00"',
    )


def japan_day(text: object, *, field: str, check: str) -> date:
    """Read ``YYYY-MM-DD`` or ``YYYY-MM-DD HH:MM`` as a day in Japan.

    :raises MigrationError: it is written neither way or there is no such day.
    """
    if isinstance(text, str) and _DAY.fullmatch(text):
        try:
            return date.fromisoformat(text)
        except ValueError:
            pass
    elif isinstance(text, str) and _MINUTE.fullmatch(text):
        return japan_minute(text, field=field, check=check).date()
    raise MigrationError(
        f"{field} is {text!r}, which is no day of Japan time",
        check=check,
        action=f'Write {field} as "YYYY-MM-DD" or "YYYY-MM-DD HH:MM", for example "2026-11-25"',
    )
