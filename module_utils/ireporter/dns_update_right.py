"""Whether we may change a record, proved without changing it.

The existing record is added again with the same value and TTL: a server that would refuse the real change refuses
this one too, and one that accepts it leaves the serial as it was. An *empty* update proves nothing: it is answered
NOERROR even for a key without rights.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass

import dns.exception
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.tsig
import dns.update

from .dns_answers import Question, Server, ask
from .errors import MigrationError

ALGORITHMS = ("hmac-sha256", "hmac-sha384", "hmac-sha512", "hmac-sha224", "hmac-sha1")


@dataclass(frozen=True)
class UpdateRight:
    """``answer``: the server's code in words (NOERROR, REFUSED, NOTAUTH, BADKEY, …), or why there was none."""

    allowed: bool
    answer: str
    serial_before: int | None
    serial_after: int | None
    message: str


def read_key(name: str, algorithm: str, secret: str) -> dns.tsig.Key:
    """The TSIG key; its secret is base64.

    :raises MigrationError: the secret is no base64 (it is not repeated in the message).
    """
    try:
        return dns.tsig.Key(name, secret, algorithm)
    except (binascii.Error, ValueError, dns.exception.DNSException):
        raise MigrationError(
            f"The secret of the DNS key {name} is not base64",
            check="dns-rights",
            action="Correct the secret (in the vault)",
        ) from None


def probe(question: Question, primary: Server, key: dns.tsig.Key) -> UpdateRight:
    """Add the existing record again, requiring that it still is exactly the one just read."""
    name, zone = question.name, question.zone
    before = ask(question, primary)
    if before.error or not before.values or before.ttl is None:
        why = before.error or f"it serves no {question.record_type} record for {name}"
        return UpdateRight(False, "not asked", before.serial, None, f"The right to update {name} is unknown: {why}")
    update = dns.update.UpdateMessage(zone, keyring=key)
    records = [dns.rdata.from_text(dns.rdataclass.IN, question.record_type, value) for value in before.values]
    update.present(name, *records)
    update.add(name, before.ttl, *records)
    answer = _send(update, primary, question)
    after = ask(question, primary)
    with_key = f"with the key {key.name.to_text(omit_final_dot=True)}"
    if answer != "NOERROR":
        message = f"{primary.name} answered {answer} to an update of {name} {with_key}"
    elif after.error:
        message = f"The right to update {name} is unknown: after the probe, {primary.name} {after.error}"
    elif after.serial != before.serial:
        message = (
            f"The probe of {name} proves nothing: the serial of {zone} went from {before.serial} to {after.serial}"
        )
    else:
        message = f"{primary.name} took an update of {name} {with_key}, and the serial stayed {before.serial}"
    allowed = answer == "NOERROR" and not after.error and after.serial == before.serial
    return UpdateRight(allowed, answer, before.serial, after.serial, message)


def _send(update: dns.update.UpdateMessage, primary: Server, question: Question) -> str:
    try:
        return dns.rcode.to_text(question.exchange(update, primary, question.timeout_seconds).rcode())
    except dns.tsig.PeerBadKey:
        return "BADKEY"
    except dns.tsig.PeerBadSignature:
        return "BADSIG"
    except dns.tsig.PeerBadTime:
        return "BADTIME"
    except (OSError, dns.exception.DNSException) as error:
        return f"nothing usable ({str(error) or type(error).__name__})"
