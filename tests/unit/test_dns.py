"""Authoritative servers compared, and the right to update proved – against servers played in memory."""

from __future__ import annotations

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.tsig
import pytest
from ireporter.dns_answers import Question, Server, ask, compare, find_zone, read_name
from ireporter.dns_update_right import probe, read_key
from ireporter.errors import MigrationError

NAME = dns.name.from_text("acme.ireporter.example")
ZONE = dns.name.from_text("ireporter.example")
NS1, NS2 = Server("192.0.2.1"), Server("192.0.2.2", 5353)
SECRET = "c2VjcmV0LW9mLXRoZS1rZXk="


class Played:
    """Name servers in memory: what each serves, and how the primary answers updates."""

    def __init__(self) -> None:
        self.values = {NS1: ["198.51.100.1"], NS2: ["198.51.100.1"]}
        self.ttl = {NS1: 300, NS2: 300}
        self.serial = {NS1: 7, NS2: 7}
        self.silent: set[Server] = set()
        self.authority = True
        self.update_answer: dns.rcode.Rcode | Exception = dns.rcode.NOERROR
        self.update_bumps_serial = False
        self.updates: list[dns.message.Message] = []

    def __call__(self, message: dns.message.Message, server: Server, timeout_seconds: float) -> dns.message.Message:
        if server in self.silent:
            raise dns.exception.Timeout
        if message.opcode() == dns.opcode.UPDATE:
            self.updates.append(message)
            if isinstance(self.update_answer, Exception):
                raise self.update_answer
            self.serial[server] += self.update_bumps_serial
            reply = dns.message.Message(message.id)
            reply.set_rcode(self.update_answer)
            return reply
        reply = dns.message.make_response(message)
        if self.authority:
            reply.flags |= dns.flags.AA
        question = message.question[0]
        if question.rdtype == dns.rdatatype.SOA and question.name == ZONE:
            soa = f"ns1.ireporter.example. root.ireporter.example. {self.serial[server]} 60 60 60 60"
            reply.answer.append(dns.rrset.from_text(ZONE, 60, "IN", "SOA", soa))
        elif question.rdtype == dns.rdatatype.A and question.name == NAME and self.values[server]:
            reply.answer.append(dns.rrset.from_text(NAME, self.ttl[server], "IN", "A", *self.values[server]))
        return reply

    def question(self) -> Question:
        return Question(NAME, "A", ZONE, self, 1.0)

    def compared(self) -> dict[str, object]:
        return compare([ask(self.question(), server) for server in (NS1, NS2)])


def test_servers_in_step() -> None:
    answer = Played().compared()
    assert answer["in_step"] is True
    assert answer["values"] == ["198.51.100.1"]
    assert answer["ttl"] == 300
    assert answer["stale"] == []


@pytest.mark.parametrize("what", ["values", "ttl", "serial"])
def test_a_stale_secondary_is_named(what: str) -> None:
    played = Played()
    getattr(played, what)[NS2] = ["198.51.100.9"] if what == "values" else 6
    answer = played.compared()
    assert answer["in_step"] is False
    assert answer["stale"] == ["192.0.2.2:5353"]


def test_a_silent_server_is_unknown_and_so_not_in_step() -> None:
    played = Played()
    played.silent = {NS2}
    answer = played.compared()
    assert answer["in_step"] is False
    assert answer["stale"] == ["192.0.2.2:5353"]
    assert answer["servers"][1]["error"] == "no answer in time"  # type: ignore[index]


def test_a_resolver_is_no_authority() -> None:
    played = Played()
    played.authority = False
    assert played.compared()["in_step"] is False
    with pytest.raises(MigrationError, match="no authority"):
        find_zone(NAME, NS1, played, 1.0)


def test_no_server_at_all_is_not_in_step() -> None:
    assert compare([])["in_step"] is False


def test_the_zone_is_found_upwards() -> None:
    assert find_zone(NAME, NS1, Played(), 1.0) == ZONE


def test_the_probe_adds_what_is_there_and_requires_that_it_still_is() -> None:
    played = Played()
    right = probe(played.question(), NS1, read_key("migration", "hmac-sha256", SECRET))
    assert right.allowed
    assert (right.answer, right.serial_before, right.serial_after) == ("NOERROR", 7, 7)
    (update,) = played.updates
    assert update.had_tsig or update.keyring is not None
    assert [rrset.to_text() for rrset in update.sections[2]] == ["acme.ireporter.example. 300 IN A 198.51.100.1"]
    assert [rrset.to_text() for rrset in update.sections[1]] == ["acme.ireporter.example. 0 IN A 198.51.100.1"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (dns.rcode.REFUSED, "REFUSED"),
        (dns.rcode.NOTAUTH, "NOTAUTH"),
        (dns.tsig.PeerBadKey(), "BADKEY"),
        (dns.tsig.PeerBadSignature(), "BADSIG"),
        (dns.exception.Timeout(), "nothing usable"),
        (OSError("connection refused"), "connection refused"),
    ],
)
def test_a_refused_probe_says_so(answer: dns.rcode.Rcode | Exception, said: str) -> None:
    played = Played()
    played.update_answer = answer
    right = probe(played.question(), NS1, read_key("migration", "hmac-sha256", SECRET))
    assert not right.allowed
    assert said in right.answer
    assert said in right.message
    assert SECRET not in right.message


def test_a_probe_that_moved_the_serial_proves_nothing() -> None:
    played = Played()
    played.update_bumps_serial = True
    right = probe(played.question(), NS1, read_key("migration", "hmac-sha256", SECRET))
    assert not right.allowed
    assert "from 7 to 8" in right.message


def test_without_a_record_nothing_is_sent() -> None:
    played = Played()
    played.values[NS1] = []
    right = probe(played.question(), NS1, read_key("migration", "hmac-sha256", SECRET))
    assert not right.allowed
    assert played.updates == []
    assert "unknown" in right.message


def test_a_bad_secret_is_refused_without_repeating_it() -> None:
    with pytest.raises(MigrationError, match="not base64") as caught:
        read_key("migration", "hmac-sha256", "canary-!!!")
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("name", ["a..b", "x" * 64 + ".example", "." * 3])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(MigrationError, match="no DNS name"):
        read_name(name, what="name")
