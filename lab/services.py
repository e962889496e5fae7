# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the name servers and the mail server hold: looked at by tests and demonstrations, put back by a reset."""

from __future__ import annotations

import io
import tarfile
from email import message_from_bytes, policy
from email.utils import parsedate_to_datetime
from typing import Any

from lab.checkout import DOMAIN, LabError
from lab.hosts import execute, host
from lab.podman import attempt

_ZONE_FILE = f"/var/lib/bind/{DOMAIN}.zone"
_MAILDIR = "/var/mail/lab/everybody"
_AS_MADE = "/etc/bind/zone-as-made"


def restore_zone() -> None:
    """Give both name servers the zone as it was made, with a higher serial than any it had."""
    primary, secondary = host("ns1"), host("ns2")
    serial = int(execute(primary, "dig", "+short", "@127.0.0.1", DOMAIN, "SOA").split()[2]) + 1
    script = f"""set -eu
rndc freeze {DOMAIN}
rm -f {_ZONE_FILE}.jnl
sed 's/( 1 /( {serial} /' {_AS_MADE} > {_ZONE_FILE}.new
chown bind:bind {_ZONE_FILE}.new
mv {_ZONE_FILE}.new {_ZONE_FILE}
rndc thaw {DOMAIN}
"""
    execute(primary, "sh", "-c", script)
    waiting = f"for i in $(seq 100); do dig +short @127.0.0.1 {DOMAIN} SOA | grep -q ' {serial} ' && exit 0; sleep 0.1; done; exit 1"
    try:
        execute(secondary, "sh", "-c", f"rndc retransfer {DOMAIN}; {waiting}")
    except LabError as error:
        raise LabError(f"ns2 does not take over serial {serial} from ns1. Look with: script/lab shell ns2") from error


def empty_mailboxes() -> None:
    """Throw away every mail and what waits in the queue."""
    execute(host("mail01"), "sh", "-c", f"postsuper -d ALL >/dev/null 2>&1; rm -rf {_MAILDIR}")


def mails() -> list[dict[str, Any]]:
    """Every delivered mail, oldest first: ``recipient``, ``sender``, ``subject``, ``date``, ``message_id``, ``body``, ``attachments`` (names)."""
    packed = _packed()
    found: list[dict[str, Any]] = []
    if not packed:
        return found
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        for member in archive.getmembers():
            stream = archive.extractfile(member)
            if stream is None:
                continue
            message = message_from_bytes(stream.read(), policy=policy.default)
            body = message.get_body(("plain",))
            found.append(
                {
                    "recipient": str(message["Delivered-To"]),
                    "sender": str(message["Return-Path"] or "").strip("<>"),
                    "subject": str(message["Subject"] or ""),
                    "date": parsedate_to_datetime(message["Date"]).isoformat() if message["Date"] else None,
                    "message_id": str(message["Message-ID"] or ""),
                    "body": body.get_content() if body else "",
                    "attachments": [part.get_filename() for part in message.iter_attachments()],
                    "delivered": member.mtime,
                }
            )
    return sorted(found, key=lambda mail: (mail["delivered"], mail["recipient"]))


def _packed() -> bytes:
    command = f"cd {_MAILDIR} 2>/dev/null || exit 0; tar --create --file=- new $(ls -d cur 2>/dev/null)"
    completed = attempt("exec", host("mail01").container, "sh", "-c", command)
    if completed.returncode != 0:
        raise LabError(f"mail01's mails cannot be read: {completed.stderr.decode(errors='replace').strip()}")
    return completed.stdout
