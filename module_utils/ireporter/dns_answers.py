"""What the authoritative name servers of a zone answer, each asked by itself, and whether they agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.rrset

from .errors import MigrationError


@dataclass(frozen=True)
class Server:
    """One authoritative server, by IP address."""

    address: str
    port: int = 53

    @property
    def name(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class Exchange(Protocol):
    """Sends one message to one server and returns its answer; tests pass a fake.

    :raises OSError: the server cannot be reached. :raises dns.exception.DNSException: no or no proper answer.
    """

    def __call__(self, message: dns.message.Message, server: Server, timeout_seconds: float) -> dns.message.Message: ...


def over_tcp(message: dns.message.Message, server: Server, timeout_seconds: float) -> dns.message.Message:
    """The real exchange: TCP, so that nothing is truncated and no answer can be forged from afar."""
    return dns.query.tcp(message, server.address, timeout=timeout_seconds, port=server.port)


@dataclass(frozen=True)
class Answer:
    """What one server says of one record. ``error`` is empty when it answered with authority, even "there is none"."""

    address: str
    port: int
    answered: bool
    authoritative: bool
    values: list[str]
    ttl: int | None
    serial: int | None
    error: str


def read_name(text: str, *, what: str) -> dns.name.Name:
    """``text`` as an absolute DNS name.

    :raises MigrationError: it is none.
    """
    try:
        return dns.name.from_text(text)
    except (dns.exception.DNSException, UnicodeError) as error:
        raise MigrationError(f"{what} {text!r} is no DNS name", check="dns-name", action=f"Correct {what}") from error


def find_zone(name: dns.name.Name, server: Server, exchange: Exchange, timeout_seconds: float) -> dns.name.Name:
    """The zone that holds ``name``: the nearest one upwards for which ``server`` has authority.

    :raises MigrationError: the server has none, or does not answer.
    """
    candidate = name
    while candidate != dns.name.root:
        try:
            reply = exchange(dns.message.make_query(candidate, dns.rdatatype.SOA), server, timeout_seconds)
        except (OSError, dns.exception.DNSException) as error:
            raise MigrationError(
                f"The name server {server.name} did not answer: {_reason(error)}",
                check="dns-servers",
                action="Mend the server or correct its address",
            ) from error
        if reply.flags & dns.flags.AA and any(
            rrset.rdtype == dns.rdatatype.SOA and rrset.name == candidate for rrset in reply.answer
        ):
            return candidate
        candidate = candidate.parent()
    raise MigrationError(
        f"The name server {server.name} has no authority over {name}",
        check="dns-servers",
        action="Name the zone's authoritative servers, not resolvers",
    )


@dataclass(frozen=True)
class Question:
    """A record in its zone, and how to ask for it."""

    name: dns.name.Name
    record_type: str
    zone: dns.name.Name
    exchange: Exchange
    timeout_seconds: float


def ask(question: Question, server: Server) -> Answer:
    """Ask ``server`` for the record and for the zone's serial."""
    query = dns.message.make_query(question.name, question.record_type)
    try:
        reply = question.exchange(query, server, question.timeout_seconds)
        query = dns.message.make_query(question.zone, dns.rdatatype.SOA)
        soa = question.exchange(query, server, question.timeout_seconds)
    except (OSError, dns.exception.DNSException) as error:
        return Answer(server.address, server.port, False, False, [], None, None, _reason(error))
    authoritative = bool(reply.flags & dns.flags.AA) and bool(soa.flags & dns.flags.AA)
    rdtype = dns.rdatatype.from_text(question.record_type)
    found = [rrset for rrset in reply.answer if rrset.name == question.name and rrset.rdtype == rdtype]
    serials = [rdata.serial for rrset in soa.answer if rrset.rdtype == dns.rdatatype.SOA for rdata in rrset]
    problem = ""
    if reply.rcode() not in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
        problem = f"answered {dns.rcode.to_text(reply.rcode())}"
    elif not authoritative:
        problem = f"has no authority over {question.zone}"
    elif not serials:
        problem = f"has no serial for {question.zone}"
    return Answer(
        server.address,
        server.port,
        True,
        authoritative,
        sorted(rdata.to_text() for rrset in found for rdata in rrset),
        max((rrset.ttl for rrset in found), default=None),
        serials[0] if serials else None,
        problem,
    )


def compare(answers: Sequence[Answer]) -> dict[str, object]:
    """The answers side by side; the first one is the primary's.

    Shape: ``{servers, in_step, values, ttl, stale}``; ``in_step`` only when all answered with authority, at least one
    server was asked, and value, TTL and serial are the same everywhere. ``stale`` names servers that fail or differ
    from the primary.
    """
    primary = answers[0] if answers else None
    stale = [
        Server(answer.address, answer.port).name
        for answer in answers
        if answer.error
        or primary is None
        or (answer.values, answer.ttl, answer.serial) != (primary.values, primary.ttl, primary.serial)
    ]
    return {
        "servers": [asdict(answer) for answer in answers],
        "in_step": bool(answers) and not stale,
        "values": primary.values if primary else [],
        "ttl": max((answer.ttl for answer in answers if answer.ttl is not None), default=None),
        "stale": stale,
    }


def _reason(error: Exception) -> str:
    if isinstance(error, dns.exception.Timeout):
        return "no answer in time"
    return str(error) or type(error).__name__
