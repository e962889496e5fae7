#!/usr/bin/python
# Copyright (c) 2026, i-Reporter migration maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ireporter_mail
short_description: Send one mail about an i-Reporter migration to one recipient
description:
  - Hands one UTF-8 mail to an SMTP relay. One mail has one recipient, so that nobody learns another's address.
  - Names, addresses and subjects are data. Whatever could end a header line, or add one, is refused.
  - A mail whose O(message_id) is among O(sent_message_ids) is not sent again.
author:
  - i-Reporter migration maintainers (@ireporter-migration)
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
    details: Asks the relay whether it takes the sender and the recipient, and sends nothing.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no
        change.
    support: partial
    details: What was sent is the caller's knowledge, given in O(sent_message_ids).
options:
  state:
    description: V(sent) means that the relay has accepted the mail.
    type: str
    choices: [sent]
    default: sent
  relay:
    description: Where mails are handed in.
    type: dict
    required: true
    suboptions:
      host:
        description: Host name or IP address.
        type: str
        required: true
      port:
        description: TCP port.
        type: int
        default: 25
      starttls:
        description: Encrypt when the relay offers it, insist on it, or never.
        type: str
        choices: [offered, required, never]
        default: offered
      ca_file:
        description:
          - PEM file on this machine with the authorities that may have signed the relay's certificate. Left
            out, the system's are used.
        type: path
      user:
        description: Account at the relay. Needs an encrypted connection.
        type: str
      password:
        description: The account's password.
        type: str
  timeout_seconds:
    description: How long to wait for each of the relay's answers.
    type: float
    default: 30
  sender:
    description: C(name) and C(email) of the sender.
    type: dict
    required: true
  recipient:
    description: C(name) and C(email) of the one recipient.
    type: dict
    required: true
  reply_to:
    description: C(name) and C(email) of who gets the answers. Left out, it is the sender.
    type: dict
  subject:
    description: The subject, one line.
    type: str
    required: true
  body:
    description: The text. It is shown in no output and no log.
    type: str
    required: true
  attachments:
    description: Files that go with the mail, each with either O(attachments[].content) or O(attachments[].path).
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: File name.
        type: str
        required: true
      media_type:
        description: Media type.
        type: str
        default: text/plain
      content:
        description: The file's text, sent as UTF-8.
        type: str
      path:
        description: A file on this machine, sent as it is. It is read in check mode, too.
        type: path
  connection_file:
    description:
      - Attaches a connection file for the i-Reporter app (C(.ircf)). Its password is always empty.
      - Loading it replaces all connections of the app and deletes all local data on the device. Say so in O(body).
    type: dict
    suboptions:
      file_name:
        description: File name.
        type: str
        default: connection.ircf
      server_name:
        description: What the app calls the server.
        type: str
        required: true
      url:
        description: The server URL.
        type: str
        required: true
      user_id:
        description: The user's name.
        type: str
        default: ""
  message_id:
    description:
      - The Message-ID, C(<id@domain>). Derived from the migration, it makes a mail that was sent twice one mail
        for its reader.
    type: str
    required: true
  sent_message_ids:
    description: The Message-IDs that are known to have been sent.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Announce | tell the partner
  ireporter_mail:
    relay: {host: mail.example.net}
    sender: {name: i-Reporter 移行チーム, email: migration@vendor.example}
    recipient: {name: 鈴木 一郎, email: ichiro@partner.example}
    subject: 移行完了のお知らせ / Migration finished
    body: "{{ lookup('ansible.builtin.template', 'partner.txt.j2') }}"
    message_id: <acme-d-20261128t130000z.partner.5f0c@vendor.example>
    sent_message_ids: "{{ sent }}"
  delegate_to: localhost
"""

RETURN = r"""
message_id:
  description: The mail's Message-ID.
  returned: always
  type: str
recipient:
  description: The recipient's address.
  returned: always
  type: str
subject:
  description: The subject.
  returned: always
  type: str
relay:
  description: Host and port of the relay.
  returned: always
  type: str
  sample: mail.example.net:25
answer:
  description: The relay's last answer, empty when it was not asked because the mail had been sent already.
  returned: success
  type: str
  sample: "250 2.0.0 Ok: queued as 1234"
encrypted:
  description: Whether the connection was encrypted.
  returned: success
  type: bool
bytes:
  description: Size of the mail.
  returned: success
  type: int
"""

from datetime import UTC, datetime
from email.policy import SMTP
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.ireporter.connection_file import MEDIA_TYPE, connection_file
from ansible.module_utils.ireporter.errors import MigrationError
from ansible.module_utils.ireporter.mail_message import Attachment, Person, compose
from ansible.module_utils.ireporter.mail_relay import Answer, Relay, ask, send


def read_attachment(given: dict) -> Attachment:
    """Text from the task, or a file of this machine.

    :raises MigrationError: the file cannot be read.
    """
    if given["path"] is None:
        return Attachment(given["name"], given["media_type"], given["content"])
    return Attachment.from_file(Path(given["path"]), name=given["name"], media_type=given["media_type"])


def hand_in(options: dict, relay: Relay, check_mode: bool) -> dict:
    """Compose the mail, then hand it in, ask about it, or leave it when it was sent; the shape is the module's result.

    :raises MigrationError: something would not fit in a header, or the relay refused.
    """
    sender = Person.checked(options["sender"], field="The sender")
    recipient = Person.checked(options["recipient"], field="The recipient")
    attachments = [read_attachment(attachment) for attachment in options["attachments"]]
    if options["connection_file"]:
        wanted = dict(options["connection_file"])
        name = wanted.pop("file_name")
        attachments.append(Attachment(name, MEDIA_TYPE, connection_file(**wanted)))
    message = compose(
        sender=sender,
        recipient=recipient,
        subject=options["subject"],
        body=options["body"],
        identity=options["message_id"],
        date=datetime.now(UTC),
        attachments=attachments,
        reply_to=Person.checked(options["reply_to"], field="Reply-To") if options["reply_to"] else None,
    )
    pending = options["message_id"] not in options["sent_message_ids"]
    if not pending:
        answer = Answer("", False)
    elif check_mode:
        answer = ask(relay, sender=sender.email, recipient=recipient.email)
    else:
        answer = send(relay, message, sender=sender.email, recipient=recipient.email)
    return {
        "changed": pending,
        "answer": answer.text,
        "encrypted": answer.encrypted,
        "bytes": len(message.as_bytes(policy=SMTP)),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["sent"], "default": "sent"},
            "relay": {
                "type": "dict",
                "required": True,
                "options": {
                    "host": {"type": "str", "required": True},
                    "port": {"type": "int", "default": 25},
                    "starttls": {"type": "str", "choices": ["offered", "required", "never"], "default": "offered"},
                    "ca_file": {"type": "path"},
                    "user": {"type": "str"},
                    "password": {"type": "str", "no_log": True},
                },
            },
            "timeout_seconds": {"type": "float", "default": 30},
            "sender": {"type": "dict", "required": True},
            "recipient": {"type": "dict", "required": True},
            "reply_to": {"type": "dict"},
            "subject": {"type": "str", "required": True},
            # What a mail says is for its recipient: neither this machine's log nor a verbose output has it.
            "body": {"type": "str", "required": True, "no_log": True},
            "attachments": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "media_type": {"type": "str", "default": "text/plain"},
                    "content": {"type": "str"},
                    "path": {"type": "path"},
                },
                "mutually_exclusive": [("content", "path")],
                "required_one_of": [("content", "path")],
            },
            "connection_file": {
                "type": "dict",
                "options": {
                    "file_name": {"type": "str", "default": "connection.ircf"},
                    "server_name": {"type": "str", "required": True},
                    "url": {"type": "str", "required": True},
                    "user_id": {"type": "str", "default": ""},
                },
            },
            "message_id": {"type": "str", "required": True},
            "sent_message_ids": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    options = module.params
    relay = Relay(**options["relay"], timeout_seconds=options["timeout_seconds"])
    known = {
        "message_id": options["message_id"],
        "recipient": options["recipient"].get("email"),
        "subject": options["subject"],
        "relay": relay.name,
    }
    try:
        result = hand_in(options, relay, module.check_mode)
    except MigrationError as error:
        module.fail_json(msg=str(error), **error.as_result(), **known)
    module.exit_json(**known, **result)


if __name__ == "__main__":
    main()
