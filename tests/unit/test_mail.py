"""Mails: headers that cannot be tampered with, one relay, no password."""

from __future__ import annotations

import email
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.header import decode_header, make_header
from email.policy import SMTP, default
from email.utils import getaddresses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ireporter.connection_file import MEDIA_TYPE, connection_file
from ireporter.errors import MigrationError
from ireporter.mail_header import header_text, mail_address, message_id
from ireporter.mail_message import Attachment, Person, compose
from ireporter.mail_relay import Relay, ask, send

TARO = Person("山田 太郎", "taro@acme.example")
TEAM = Person("i-Reporter 移行チーム", "migration@vendor.example")
IDENTITY = "<acme-d-20261128t130000z.contact.5f0c@vendor.example>"
NOW = datetime(2026, 11, 28, 13, 0, tzinfo=UTC)
HEADERS = [
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "Auto-Submitted",
    "Content-Type",
    "Content-Transfer-Encoding",
    "MIME-Version",
]


def mail(**changes: object) -> email.message.EmailMessage:
    arguments: dict[str, object] = {
        "sender": TEAM,
        "recipient": TARO,
        "subject": "移行完了 / finished",
        "body": "本文\n",
        "identity": IDENTITY,
        "date": NOW,
    } | changes
    return compose(**arguments)  # type: ignore[arg-type]


def reread(message: email.message.EmailMessage) -> email.message.EmailMessage:
    parsed = email.message_from_bytes(message.as_bytes(policy=SMTP), policy=default)
    assert isinstance(parsed, email.message.EmailMessage)
    return parsed


def test_a_japanese_mail_arrives_as_it_was_written() -> None:
    parsed = reread(mail(body="山田様\n\n移行が完了しました。\n.\nFrom here\n"))
    assert parsed["Subject"] == "移行完了 / finished"
    assert parsed["To"].addresses[0].display_name == "山田 太郎"
    assert parsed["To"].addresses[0].addr_spec == "taro@acme.example"
    assert parsed["Message-ID"] == IDENTITY
    assert parsed.get_content().splitlines() == ["山田様", "", "移行が完了しました。", ".", "From here"]
    assert all(byte < 128 for byte in mail().as_bytes(policy=SMTP))


def test_attachments_keep_name_and_bytes() -> None:
    text = connection_file(server_name="アクメ", url="https://acme.example/ConMasWebACME/Rests/ConMasIReporter.aspx")
    parsed = reread(mail(attachments=[Attachment("接続 acme.ircf", MEDIA_TYPE, text)]))
    (attachment,) = parsed.iter_attachments()
    assert attachment.get_filename() == "接続 acme.ircf"
    assert attachment.get_content_type() == "application/x-ircf"
    assert attachment.get_content().decode() == text
    server = json.loads(text)["Server"]["Servers"][0]
    assert server == {
        "ServerName": "アクメ",
        "URL": "https://acme.example/ConMasWebACME/Rests/ConMasIReporter.aspx",
        "UserID": "",
        "Password": "",
    }


def test_a_file_is_attached_as_it_is(tmp_path: Path) -> None:
    content = bytes(range(256)) + b"\r\n.\r\n\n"
    (tmp_path / "x.pdf").write_bytes(content)
    quote = Attachment.from_file(tmp_path / "x.pdf", name="御見積書.pdf", media_type="application/pdf")
    (attachment,) = reread(mail(attachments=[quote])).iter_attachments()
    assert (attachment.get_filename(), attachment.get_content_type()) == ("御見積書.pdf", "application/pdf")
    assert attachment.get_content() == content
    with pytest.raises(MigrationError, match=r"none\.pdf cannot be read: No such file.*\(mail-attachment\)"):
        Attachment.from_file(tmp_path / "none.pdf", name="x.pdf", media_type="application/pdf")


@pytest.mark.parametrize(
    "url", ["http://a.example/x", "https://user:secret@a.example/x", "javascript:alert(1)", "", "https://"]
)
def test_a_connection_file_points_at_plain_https(url: str) -> None:
    with pytest.raises(MigrationError, match="R22"):
        connection_file(server_name="x", url=url)


@settings(max_examples=300)
@given(st.text(max_size=250), st.text(max_size=250))
def test_no_name_or_subject_changes_a_header(name: str, subject: str) -> None:
    """Property: it is refused, or it is read back as it was and no other header is there."""
    try:
        message = mail(
            recipient=Person.checked({"name": name, "email": TARO.email}, field="The recipient"), subject=subject
        )
    except MigrationError as error:
        assert error.check == "mail-header"
        return
    # Read by the older, independent half of the library: Python 3.11's newer one puts blanks between encoded words.
    parsed = email.message_from_bytes(message.as_bytes(policy=SMTP))
    assert parsed.keys() == HEADERS
    people = getaddresses([parsed["To"].replace("\r\n", "")])
    assert [address for _, address in people] == [TARO.email]
    # Blanks are all that folding may change: Python 3.11 drops one where two encoded words meet.
    assert "".join(decoded(people[0][0]).split()) == "".join(name.split())
    assert "".join(decoded(parsed["Subject"]).split()) == "".join(subject.split())


def decoded(raw: str) -> str:
    return str(make_header(decode_header(raw.replace("\r\n", ""))))


@pytest.mark.parametrize(
    "character", ["\n", "\r", "\0", "\x0b", "\x1b", "\x7f", "\x85", "\u2028", "\u2029", "\u202e", "\u200b", "\ud800"]
)
def test_what_ends_or_hides_a_line_is_refused_and_named(character: str) -> None:
    with pytest.raises(MigrationError, match=f"The name contains the character U\\+{ord(character):04X}.*R05"):
        header_text(f"Taro{character}Bcc: eve@evil.example", field="The name", check="R05")


@pytest.mark.parametrize("value", [None, 7, "", "  ", " Taro", "Taro ", "x" * 201, ["Taro"], "=?utf-8?q?x?="])
def test_what_is_no_text_is_refused(value: object) -> None:
    with pytest.raises(MigrationError, match="The name"):
        header_text(value, field="The name", check="R05")


@pytest.mark.parametrize(
    "address", ["taro@acme.example", "a.b+c_d@x-y.co.jp", "o'hara@acme.example", "taro@xn--bcher-kva.example"]
)
def test_plain_addresses(address: str) -> None:
    assert mail_address(address, field="email", check="R05") == address


@pytest.mark.parametrize(
    "address",
    [
        "taro",
        "taro@",
        "@acme.example",
        "taro@acme",
        "taro@acme.example, eve@evil.example",
        "Taro <taro@acme.example>",
        "taro@acme.example\nBcc: eve@evil.example",
        "ta ro@acme.example",
        "太郎@acme.example",
        "taro@-acme.example",
        "taro@acme..example",
        ".taro@acme.example",
        "taro@[127.0.0.1]",
        "taro@acme.example>",
        '"x"@acme.example',
        "a" * 65 + "@acme.example",
    ],
)
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(MigrationError, match="R05"):
        mail_address(address, field="email", check="R05")


@given(st.text(max_size=80))
def test_a_message_id_is_of_our_form_or_refused(text: str) -> None:
    try:
        assert message_id(text) == text
    except MigrationError:
        return
    assert text[0] == "<"
    assert text[-1] == ">"
    assert text.isascii()
    assert not set(" \r\n") & set(text)


@pytest.mark.parametrize("media_type", ["", "text", "text/", "/plain", "text/plain; charset=x", "text/pl\nain"])
def test_a_media_type_is_one(media_type: str) -> None:
    with pytest.raises(MigrationError, match="mail-header"):
        mail(attachments=[Attachment("a.txt", media_type, "x")])


@contextmanager
def relay_that_says(answers: dict[str, str]) -> Iterator[tuple[Relay, list[str]]]:
    """An SMTP relay on the loopback; ``answers`` by command, 250 for the rest."""
    heard: list[str] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as lines:
            connection.sendall(answers.get("GREETING", "220 relay").encode() + b"\r\n")
            in_data = False
            for raw in lines:
                line = raw.decode().rstrip("\r\n")
                heard.append(line)
                if in_data:
                    if line == ".":
                        in_data = False
                        connection.sendall(answers.get("END", "250 2.0.0 queued as 42").encode() + b"\r\n")
                    continue
                command = line.split(" ")[0].upper().split(":")[0]
                reply = answers.get(command, {"DATA": "354 go on", "QUIT": "221 bye"}.get(command, "250 ok"))
                connection.sendall(reply.encode() + b"\r\n")
                in_data = command == "DATA" and reply.startswith("354")
                if command == "QUIT":
                    return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield Relay("127.0.0.1", listener.getsockname()[1], timeout_seconds=5), heard
    finally:
        listener.close()
        thread.join(5)


def test_a_mail_is_handed_in_for_one_recipient() -> None:
    with relay_that_says({}) as (relay, heard):
        answer = send(relay, mail(), sender=TEAM.email, recipient=TARO.email)
    assert answer.text == "250 2.0.0 queued as 42"
    assert not answer.encrypted
    assert [line[8:] for line in heard if line.upper().startswith("RCPT")] == ["<taro@acme.example>"]
    assert f"Message-ID: {IDENTITY}" in heard


def test_asking_sends_nothing() -> None:
    with relay_that_says({}) as (relay, heard):
        assert ask(relay, sender=TEAM.email, recipient=TARO.email).text == "250 ok"
    assert "DATA" not in [line.upper() for line in heard]
    assert "RSET" in [line.upper() for line in heard]


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("MAIL", "550 5.7.1 sender not allowed"),
        ("RCPT", "554 5.7.1 Relay access denied"),
        ("DATA", "451 4.3.0 try later"),
        ("END", "552 5.3.4 too big"),
        ("GREETING", "554 not for you"),
    ],
)
def test_a_refusal_carries_the_relays_own_words(command: str, reply: str) -> None:
    with relay_that_says({command: reply}) as (relay, _), pytest.raises(MigrationError, match=reply) as caught:
        send(relay, mail(), sender=TEAM.email, recipient=TARO.email)
    assert caught.value.check == "mail-relay"


def test_an_odd_goodbye_does_not_undo_what_was_accepted() -> None:
    with relay_that_says({"QUIT": "421 going down"}) as (relay, _):
        assert send(relay, mail(), sender=TEAM.email, recipient=TARO.email).text.startswith("250")


def test_a_relay_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(MigrationError, match=rf"127\.0\.0\.1:{port} could not be used.*mail-relay"):
        send(Relay("127.0.0.1", port, timeout_seconds=2), mail(), sender=TEAM.email, recipient=TARO.email)


def test_encryption_that_is_required_must_be_offered() -> None:
    with relay_that_says({}) as (relay, heard), pytest.raises(MigrationError, match="offers no STARTTLS"):
        send(Relay(relay.host, relay.port, starttls="required"), mail(), sender=TEAM.email, recipient=TARO.email)
    assert not any(line.upper().startswith("MAIL") for line in heard)


def test_a_password_never_travels_in_the_clear() -> None:
    with relay_that_says({}) as (relay, heard), pytest.raises(MigrationError, match="not encrypted") as caught:
        send(
            Relay(relay.host, relay.port, user="u", password="canary-7"),
            mail(),
            sender=TEAM.email,
            recipient=TARO.email,
        )
    assert "canary-7" not in str(caught.value) + "".join(heard)
