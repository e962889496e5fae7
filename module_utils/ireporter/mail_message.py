"""Makes one mail: UTF-8 text, attachments, a Message-ID that says which mail it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path

from .errors import MigrationError
from .mail_header import header_text, mail_address, message_id

_CHECK = "mail-header"


@dataclass(frozen=True)
class Person:
    """Whom a mail comes from or goes to."""

    name: str
    email: str

    @classmethod
    def checked(cls, value: object, *, field: str) -> Person:
        """From ``{name, email}``, refusing what could change a header.

        :raises MigrationError: a part is missing or unfit (``mail-header``).
        """
        if not isinstance(value, dict):
            raise MigrationError(f"{field} is missing", check=_CHECK, action=f"Give {field} as name and email")
        return cls(
            header_text(value.get("name"), field=f"{field} name", check=_CHECK),
            mail_address(value.get("email"), field=f"{field} email", check=_CHECK),
        )

    @property
    def header(self) -> Address:
        return Address(display_name=self.name, addr_spec=self.email)


@dataclass(frozen=True)
class Attachment:
    """A file that goes with a mail; ``media_type`` like ``text/plain``. Text goes as UTF-8."""

    name: str
    media_type: str
    content: str | bytes

    @classmethod
    def from_file(cls, path: Path, *, name: str, media_type: str) -> Attachment:
        """The file's bytes as they are.

        :raises MigrationError: it cannot be read (``mail-attachment``).
        """
        try:
            return cls(name, media_type, path.read_bytes())
        except OSError as error:
            raise MigrationError(
                f"The attachment {path} cannot be read: {error.strerror}",
                check="mail-attachment",
                action="Make the file readable on the control node; nothing was sent",
            ) from error


def compose(
    *,
    sender: Person,
    recipient: Person,
    subject: str,
    body: str,
    identity: str,
    date: datetime,
    attachments: Sequence[Attachment] = (),
    reply_to: Person | None = None,
) -> EmailMessage:
    """The mail, ready to be sent; the same arguments make the same headers.

    :param identity: the Message-ID, ``<…@…>``.
    :param date: aware; what the Date header says.
    :raises MigrationError: something would not fit in a header (``mail-header``).
    """
    message = EmailMessage(policy=SMTP)
    message["From"] = sender.header
    message["To"] = recipient.header
    if reply_to is not None:
        message["Reply-To"] = reply_to.header
    message["Subject"] = header_text(subject, field="The subject", check=_CHECK)
    message["Date"] = format_datetime(date)
    message["Message-ID"] = message_id(identity)
    # RFC 3834: no vacation answers to a machine.
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(body.rstrip("\n") + "\n", subtype="plain", charset="utf-8", cte="base64")
    for attachment in attachments:
        name = header_text(attachment.name, field="An attachment's name", check=_CHECK)
        main_type, separator, sub_type = attachment.media_type.partition("/")
        if not separator or not all(part.replace("-", "").replace(".", "").isalnum() for part in (main_type, sub_type)):
            raise MigrationError(
                f"The media type {attachment.media_type!r} of {name} is not of the form type/subtype",
                check=_CHECK,
                action="Correct media_type",
            )
        content = attachment.content.encode("utf-8") if isinstance(attachment.content, str) else attachment.content
        message.add_attachment(content, maintype=main_type, subtype=sub_type, filename=name)
    return message
