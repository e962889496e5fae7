"""What may stand in a mail's header, and what a person's contact data must look like to get there (R05)."""

from __future__ import annotations

import re
import unicodedata

from .errors import MigrationError

_LONGEST_TEXT = 200
_LONGEST_ADDRESS = 254  # RFC 5321, 4.5.3.1.3 less the angle brackets
_ADDRESS = re.compile(
    r"(?P<local>[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*)"
    r"@(?P<domain>(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9]))",
    re.ASCII,
)
_MESSAGE_ID = re.compile(
    r"<[A-Za-z0-9][A-Za-z0-9._+-]{0,200}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,250}[A-Za-z0-9])?>", re.ASCII
)


def header_text(value: object, *, field: str, check: str) -> str:
    """``value`` when it is one line of visible text that can stand in a header unchanged.

    :raises MigrationError: it is no text, empty, too long, or has a character that ends a line or hides.
    """
    if not isinstance(value, str):
        raise MigrationError(
            f"{field} is {'missing' if value is None else f'{value!r}, which is no text'}",
            check=check,
            action="Give it as quoted text",
        )
    if not value.strip():
        raise MigrationError(f"{field} is empty", check=check, action="Fill it in")
    if value != value.strip():
        raise MigrationError(
            f"{field} begins or ends with white space: {value!r}",
            check=check,
            action=f"Take the white space off {field}",
        )
    if len(value) > _LONGEST_TEXT:
        raise MigrationError(
            f"{field} has {len(value)} characters, at most {_LONGEST_TEXT} are taken",
            check=check,
            action=f"Shorten {field}",
        )
    if "=?" in value:
        raise MigrationError(
            f"{field} contains =?, which mail programs take for the beginning of an encoded word",
            check=check,
            action=f"Take it out of {field}; nothing was sent",
        )
    for character in value:
        # Cc, Zl, Zp: line ends and other controls. Cf: invisible and direction marks. Cs, Cn, Co: no characters at all.
        if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp"}:
            raise MigrationError(
                f"{field} contains the character U+{ord(character):04X}, which no mail header may carry",
                check=check,
                action=f"Take it out of {field}; nothing was sent",
            )
    return value


def mail_address(value: object, *, field: str, check: str) -> str:
    """``value`` when it is one plain e-mail address (``name@domain``, ASCII).

    :raises MigrationError: it is anything else.
    """
    text = header_text(value, field=field, check=check)
    match = _ADDRESS.fullmatch(text)
    if match is None or len(text) > _LONGEST_ADDRESS or len(match["local"]) > 64:
        raise MigrationError(
            f"{field} is {text!r}, which is not one plain e-mail address",
            check=check,
            action=f"Correct {field}, for example name@example.com",
        )
    return text


def message_id(value: object) -> str:
    """``value`` when it is a Message-ID as we make them: ``<…@…>`` of letters, digits and ``. _ + -``.

    :raises MigrationError: it is anything else.
    """
    if not isinstance(value, str) or not _MESSAGE_ID.fullmatch(value):
        raise MigrationError(
            f"The Message-ID {value!r} is not of the form <id@domain>",
            check="mail-header",
            action="Derive it from the migration id, the kind of mail and the recipient",
        )
    return value
