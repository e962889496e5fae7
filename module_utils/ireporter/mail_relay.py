"""Hands one mail to the SMTP relay, or asks whether it would take it."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import Literal

from .errors import MigrationError

StartTls = Literal["offered", "required", "never"]
_CHECK = "mail-relay"


@dataclass(frozen=True)
class Relay:
    """Where mails are handed in. ``starttls``: encrypt when the relay offers it, insist on it, or never."""

    host: str
    port: int = 25
    starttls: StartTls = "offered"
    ca_file: str | None = None
    user: str | None = None
    password: str | None = None
    timeout_seconds: float = 30.0

    @property
    def name(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Answer:
    """What the relay said last (code and text), and whether the connection was encrypted."""

    text: str
    encrypted: bool


def send(relay: Relay, message: EmailMessage, *, sender: str, recipient: str) -> Answer:
    """Hand ``message`` in for exactly one recipient.

    :raises MigrationError: the relay could not be reached or refused, with its own words (``mail-relay``).
    """
    with _session(relay, recipient) as (session, encrypted):
        _envelope(session, sender, recipient)
        code, answer = session.data(message.as_bytes(policy=SMTP))
        if code != 250:
            raise smtplib.SMTPDataError(code, answer)
        return Answer(_said(code, answer), encrypted)


def ask(relay: Relay, *, sender: str, recipient: str) -> Answer:
    """Ask whether the relay takes a mail from ``sender`` to ``recipient``; nothing is sent.

    :raises MigrationError: as :func:`send`.
    """
    with _session(relay, recipient) as (session, encrypted):
        code, answer = _envelope(session, sender, recipient)
        session.rset()
        return Answer(_said(code, answer), encrypted)


def _envelope(session: smtplib.SMTP, sender: str, recipient: str) -> tuple[int, bytes]:
    code, answer = session.mail(sender)
    if code != 250:
        raise smtplib.SMTPSenderRefused(code, answer, sender)
    code, answer = session.rcpt(recipient)
    if code not in {250, 251}:
        raise smtplib.SMTPResponseException(code, answer)
    return code, answer


@contextmanager
def _session(relay: Relay, recipient: str) -> Iterator[tuple[smtplib.SMTP, bool]]:
    try:
        session = smtplib.SMTP(relay.host, relay.port, timeout=relay.timeout_seconds)
        try:
            session.ehlo()
            encrypted = _encrypt(session, relay)
            _log_in(session, relay, encrypted)
            yield session, encrypted
        finally:
            # Not smtplib's own "with": it turns an odd answer to QUIT into a failure of a mail the relay has accepted.
            with suppress(smtplib.SMTPException, OSError):
                session.quit()
    except smtplib.SMTPResponseException as error:
        raise MigrationError(
            f"The relay {relay.name} refused the mail to {recipient}: {_said(error.smtp_code, error.smtp_error)}",
            check=_CHECK,
            action="Let the relay accept this host, sender and recipient, then run again; the mail goes out then",
        ) from error
    except (smtplib.SMTPException, ssl.SSLError, OSError) as error:
        reason = str(error) or type(error).__name__
        raise MigrationError(
            f"The relay {relay.name} could not be used for the mail to {recipient}: {reason}",
            check=_CHECK,
            action="Mend the connection to the relay, then run again; the mail goes out then",
        ) from error


def _log_in(session: smtplib.SMTP, relay: Relay, encrypted: bool) -> None:
    if relay.user is None:
        return
    if not encrypted:
        raise MigrationError(
            f"A password would go to the relay {relay.name} over a connection that is not encrypted",
            check=_CHECK,
            action="Use a relay that offers STARTTLS and set starttls to required; nothing was sent",
        )
    session.login(relay.user, relay.password or "")


def _encrypt(session: smtplib.SMTP, relay: Relay) -> bool:
    offered = session.has_extn("starttls")
    if relay.starttls == "never" or (relay.starttls == "offered" and not offered):
        return False
    if not offered:
        raise MigrationError(
            f"The relay {relay.name} offers no STARTTLS, which is required",
            check=_CHECK,
            action="Let the relay offer STARTTLS, or set starttls to offered; nothing was sent",
        )
    if relay.ca_file is not None and not Path(relay.ca_file).is_file():
        raise MigrationError(
            f"The file {relay.ca_file} with the relay's certificate authority does not exist",
            check=_CHECK,
            action="Correct ca_file of the relay; nothing was sent",
        )
    session.starttls(context=ssl.create_default_context(cafile=relay.ca_file))
    session.ehlo()
    return True


def _said(code: int, answer: bytes | str) -> str:
    text = answer.decode("utf-8", "backslashreplace") if isinstance(answer, bytes) else str(answer)
    return f"{code} {' '.join(text.split())}"
