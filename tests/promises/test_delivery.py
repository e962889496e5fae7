"""A delivered file, fetched from the customer's server through TLS by a link that expires and that no log has."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playing import ROOT, Lab, Played

pytestmark = [
    pytest.mark.lab,
    pytest.mark.promise("A delivered file is had by its link alone, until it expires; no log has the link"),
]

MEGABYTES = 50
FOLDER = "/srv/ireporter-delivery"
BUNDLE = f"{FOLDER}/files/acme/bundle/bundle.bin"
SOURCE = "/var/lib/delivery-test"

# On the customer's bare server: name, certificate and all, as any client. Lines: status, headers, bytes and SHA-256 of the body, its beginning.
FETCH = """
import hashlib, http.client, json, ssl, sys
from urllib.parse import urlsplit
for wanted in json.load(sys.stdin):
    parts = urlsplit(wanted["link"])
    connection = http.client.HTTPSConnection(parts.hostname, context=ssl.create_default_context(), timeout=20)
    path = parts.path + ("?" + parts.query if parts.query else "")
    connection.request(wanted.get("method", "GET"), path, headers=wanted.get("headers", {}))
    answer = connection.getresponse()
    body = answer.read()
    print(json.dumps({"status": answer.status, "headers": {k.lower(): v for k, v in answer.getheaders()},
                      "bytes": len(body), "sha256": hashlib.sha256(body).hexdigest(), "begins": body[:4000].decode("utf-8", "replace")}))
"""

# Reads a third, drops the connection in the middle of the transfer, goes on from there, as a download manager does.
RESUME = """
import hashlib, http.client, json, socket, ssl, sys
from urllib.parse import urlsplit
(wanted,) = json.load(sys.stdin)
parts = urlsplit(wanted["link"])
def ask(headers):
    connection = http.client.HTTPSConnection(parts.hostname, context=ssl.create_default_context(), timeout=20)
    connection.request("GET", parts.path, headers=headers)
    return connection, connection.getresponse()
connection, answer = ask({})
size, etag = int(answer.headers["Content-Length"]), answer.headers["ETag"]
digest, have = hashlib.sha256(), 0
while have < size // 3:
    part = answer.read(65536)
    digest.update(part)
    have += len(part)
connection.sock.shutdown(socket.SHUT_RDWR)
connection.close()
first = have
connection, answer = ask({"Range": f"bytes={have}-", "If-Range": etag})
status, content_range = answer.status, answer.headers["Content-Range"]
while part := answer.read(65536):
    digest.update(part)
    have += len(part)
print(json.dumps({"first": first, "status": status, "content_range": content_range, "bytes": have, "sha256": digest.hexdigest()}))
"""


@dataclass
class Delivered:
    """The lab after a bundle was pushed and published."""

    lab: Lab
    folder: Path
    sha256: str = ""
    answers: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)

    def play(self, step: str, *arguments: str, **variables: Any) -> Played:
        """One step of the test's playbook, at the highest verbosity: what it shows is looked through later."""
        extra = {"delivery_step": step, "delivery_answer_file": str(self.answer_file), **variables}
        played = self.lab.play("../tests/promises/playbooks/delivery", "-e", json.dumps(extra), "-vvv", *arguments)
        self.outputs.append(played.output)
        return played

    @property
    def answer_file(self) -> Path:
        return self.folder / "published.json"

    def publish(self, *arguments: str, **variables: Any) -> tuple[dict[str, Any], int]:
        """The fact ``ireporter_delivery_published``, and how many tasks changed something."""
        played = self.play("publish", *arguments, **variables)
        assert played.returncode == 0, played.output[-3000:]
        answer: dict[str, Any] = json.loads(self.answer_file.read_text())
        if answer["link"]:
            self.answers.append(answer)
        return answer, played.recap("acme")["changed"]

    def fetch(self, *wanted: dict[str, Any], script: str = FETCH) -> list[dict[str, Any]]:
        """What selfhost01 gets. The links go in by standard input."""
        done = subprocess.run(
            ["script/lab", "shell", "selfhost01", "--", "python3", "-c", script],
            cwd=ROOT,
            input=json.dumps(wanted),
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def secret(self) -> str:
        """What signs the links; it is looked at on the host only here."""
        found = re.search(r"[0-9a-f]{64}", self.lab.on("delivery01", "cat /etc/nginx/ireporter-delivery/secret.conf"))
        assert found
        return found.group()


@pytest.fixture(scope="module")
def new_hosts(lab: Lab) -> Lab:
    """delivery01 and selfhost01 as they were made."""
    subprocess.run(["script/lab", "reset", "delivery01", "selfhost01"], cwd=ROOT, check=True, timeout=600)
    return lab


@pytest.fixture(scope="module")
def delivered(new_hosts: Lab, tmp_path_factory: pytest.TempPathFactory) -> Delivered:
    """A bundle of 50 MB, pushed by shared01 through a channel, with a link."""
    made = Delivered(new_hosts, tmp_path_factory.mktemp("delivery"))
    played = made.play("setup")
    assert played.returncode == 0, played.output[-3000:]
    bundle = f"install -d -m 0700 {SOURCE} && head -c {MEGABYTES}M /dev/urandom > {SOURCE}/bundle.bin && chmod 0640 {SOURCE}/bundle.bin"
    new_hosts.on("shared01", bundle)
    made.sha256 = new_hosts.on("shared01", f"sha256sum < {SOURCE}/bundle.bin").split()[0]
    played = made.play("push", delivery_source=SOURCE)
    assert played.returncode == 0, played.output[-3000:]
    made.publish(ireporter_delivery_sha256=made.sha256)
    return made


@pytest.mark.slow  # the Molecule scenario cloud_export sets the same host up: check mode, run, second run
def test_check_mode_of_the_setup_says_what_it_changes_and_a_second_one_changes_nothing(
    new_hosts: Lab, tmp_path: Path
) -> None:
    changed = tmp_path / "changed.jsonl"
    watching = {
        "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "tests/promises/plugins/callback"),
        "ANSIBLE_CALLBACKS_ENABLED": "changed_tasks",
        "CHANGED_TASKS_FILE": str(changed),
    }
    for arguments in (["--check"], [], [], ["--check"]):
        played = new_hosts.play(
            "../tests/promises/playbooks/delivery", "-e", "delivery_step=setup", *arguments, **watching
        )
        assert played.returncode == 0, played.output[-3000:]
    foretold, done, again, checked = (json.loads(line)["tasks"] for line in changed.read_text().splitlines())
    assert foretold == done
    assert len(done) > 5
    assert (again, checked) == ([], [])


def test_the_customer_fetches_the_whole_file_and_is_told_what_it_is(delivered: Delivered) -> None:
    answer = delivered.answers[0]
    assert (answer["bytes"], answer["sha256"]) == (MEGABYTES * 1024 * 1024, delivered.sha256)
    whole, head = delivered.fetch({"link": answer["link"]}, {"link": answer["link"], "method": "HEAD"})
    assert (whole["status"], whole["bytes"], whole["sha256"]) == (200, answer["bytes"], answer["sha256"])
    assert (head["status"], head["bytes"], head["headers"]["content-length"]) == (200, 0, str(answer["bytes"]))
    for headers in (whole["headers"], head["headers"]):
        assert headers["content-disposition"] == 'attachment; filename="bundle.bin"'
        assert headers["content-type"] == "application/octet-stream"
        assert "no-store" in headers["cache-control"]
        assert "noindex" in headers["x-robots-tag"]
        assert headers["accept-ranges"] == "bytes"


def test_a_download_that_broke_off_is_resumed(delivered: Delivered) -> None:
    answer = delivered.answers[0]
    (resumed,) = delivered.fetch({"link": answer["link"]}, script=RESUME)
    assert resumed["first"] < answer["bytes"]
    assert resumed["status"] == 206
    assert resumed["content_range"] == f"bytes {resumed['first']}-{answer['bytes'] - 1}/{answer['bytes']}"
    assert (resumed["bytes"], resumed["sha256"]) == (answer["bytes"], delivered.sha256)


def test_a_second_publication_changes_nothing_and_check_mode_says_so(delivered: Delivered) -> None:
    first = delivered.answers[0]
    for arguments in ([], ["--check"]):
        again, changed = delivered.publish(*arguments)
        assert changed == 0
        assert (again["link"], again["expires"], again["changed"]) == (first["link"], first["expires"], False)
    foretold, changed = delivered.publish("--check", ireporter_delivery_renew=True)
    assert (foretold["link"], changed) == ("", 1)
    assert delivered.fetch({"link": first["link"], "method": "HEAD"})[0]["status"] == 200


def altered(link: str) -> list[dict[str, Any]]:
    """One character of each part is another."""
    parts = link.split("/")
    found = []
    for place in range(3, len(parts)):
        part = parts[place]
        for at in (0, len(part) - 1):
            other = "1" if part[at] != "1" else "2"
            found.append({"link": "/".join([*parts[:place], part[:at] + other + part[at + 1 :], *parts[place + 1 :]])})
    return found


def test_altered_and_incomplete_links_give_a_page_that_helps(delivered: Delivered) -> None:
    link = delivered.answers[0]["link"]
    host = f"https://{urlsplit(link).netloc}"
    wrong = [
        *altered(link),
        *({"link": link[:end]} for end in range(len(host) + 1, len(link), 9)),
        *({"link": f"{host}/{path}"} for path in ("", "files/acme/bundle/bundle.bin", ".git")),
    ]
    # nginx itself refuses what leads above the root, and who asks for the page by its own name.
    above, page = delivered.fetch({"link": f"{host}/..%2f..%2fetc%2fpasswd"}, {"link": f"{host}/link-expired.html"})
    assert (above["status"], page["status"]) == (400, 404)
    assert "root:" not in above["begins"]
    answers = delivered.fetch(*wrong)
    assert len(answers) == len(wrong) >= 15
    for asked, answer in zip(wrong, answers, strict=True):
        assert answer["status"] in (403, 404), asked
        assert "担当営業" in answer["begins"]
        assert "sales representative" in answer["begins"]
        assert answer["headers"]["content-type"] == "text/html; charset=utf-8"
    assert {answer["status"] for answer in answers[:8]} == {403, 404}
    with_argument, robots = delivered.fetch(
        {"link": f"{link}?argument=canary-argument", "method": "HEAD"}, {"link": f"{host}/robots.txt"}
    )
    assert with_argument["status"] == 200
    assert robots["begins"] == "User-agent: *\nDisallow: /\n"


def test_the_contact_is_told_and_the_partner_only_that_it_is_done(delivered: Delivered) -> None:
    delivered.lab.on("mail01", "rm -rf /var/mail/lab/everybody")
    answer, _ = delivered.publish()
    told = delivered.play("tell")
    assert told.returncode == 0, told.output[-3000:]
    mails = json.loads(delivered.lab.mails())
    with_link = [mail for mail in mails if answer["link"] in mail["body"]]
    assert [mail["recipient"] for mail in with_link] == ["contact-acme@example.com"]
    assert answer["sha256"] in with_link[0]["body"]
    (partner,) = (mail for mail in mails if "export" in mail["subject"] and mail not in with_link)
    assert partner["recipient"] == "partner@example.com"
    assert answer["sha256"] not in partner["body"]
    again = delivered.play("tell", delivery_sent_message_ids=[mail["message_id"] for mail in mails])
    assert (again.returncode, again.recap("acme")["changed"]) == (0, 0)
    assert len(json.loads(delivered.lab.mails())) == len(mails)


def test_asked_anew_the_old_link_is_dead(delivered: Delivered) -> None:
    old = delivered.answers[0]
    new, changed = delivered.publish(ireporter_delivery_renew=True)
    assert changed == 1
    assert new["link"] != old["link"]
    assert [
        answer["status"]
        for answer in delivered.fetch({"link": old["link"], "method": "HEAD"}, {"link": new["link"], "method": "HEAD"})
    ] == [410, 200]


def test_another_checksum_than_promised_is_refused_in_a_sentence(delivered: Delivered) -> None:
    played = delivered.play("publish", ireporter_delivery_sha256="0" * 64)
    assert played.returncode != 0
    assert "was promised (delivery-checksum)" in " ".join(played.output.split())


def test_the_timer_deletes_an_expired_file_and_says_so(delivered: Delivered) -> None:
    answer, _ = delivered.publish(ireporter_delivery_renew=True, ireporter_delivery_valid_seconds=20)
    asked = {"link": answer["link"], "method": "HEAD"}
    assert delivered.fetch(asked)[0]["status"] == 200
    delivered.lab.wait_until("the link expires", lambda: delivered.fetch(asked)[0]["status"] == 410, seconds=30)
    (page,) = delivered.fetch({"link": answer["link"]})
    assert "有効期限" in page["begins"]
    assert "It has expired" in page["begins"]
    delivered.lab.wait_until(
        "the timer deletes the file",
        lambda: delivered.lab.on("delivery01", f"test -e {BUNDLE} || echo gone") == "gone\n",
        seconds=90,
    )
    assert delivered.fetch(asked)[0]["status"] == 410
    assert delivered.lab.on("delivery01", f"find {FOLDER}/published -mindepth 1") == ""
    assert delivered.lab.on("delivery01", "ls /var/lib/ireporter-delivery") == ""
    journal = delivered.lab.on("delivery01", "journalctl --unit ireporter-delivery-expiry.service --output=cat")
    assert journal.splitlines() == [f"{BUNDLE}: its link has expired, deleted ({answer['bytes']} bytes)"]


def test_withdrawn_neither_link_nor_file_is_left(delivered: Delivered) -> None:
    played = delivered.play("push", delivery_source=SOURCE)
    assert played.returncode == 0, played.output[-3000:]
    answer, changed = delivered.publish()
    assert changed == 1
    recaps = [delivered.play("withdraw", *arguments).recap("acme") for arguments in (["--check"], [], [], ["--check"])]
    assert [(recap["changed"], recap["failed"]) for recap in recaps] == [(1, 0), (1, 0), (0, 0), (0, 0)]
    assert delivered.fetch({"link": answer["link"], "method": "HEAD"})[0]["status"] == 410
    assert delivered.lab.on("delivery01", f"find {FOLDER} -type f ! -name '.*'") == ""


def test_no_log_has_a_link_and_the_secret_is_nowhere_else(delivered: Delivered) -> None:
    """After all of the above, which asked for links whole, in pieces and altered."""
    parts = [part for answer in delivered.answers for part in urlsplit(answer["link"]).path.split("/")[1:4:2]]
    assert len(set(parts)) >= 6, "identities and tokens of at least three links"
    canaries = [*parts, delivered.secret(), "canary-argument"]
    for host in ("delivery01", "shared01", "selfhost01"):
        assert _found(delivered.lab, host, canaries) == "", host
    for output in delivered.outputs:
        assert [canary for canary in canaries if canary in output] == []
    access = delivered.lab.on("delivery01", "cat /var/log/nginx/delivery.access.log")
    assert re.search(r" GET bundle\.bin 206 \d+ \"bytes ", access), "the control: requests are logged"
    assert _found(delivered.lab, "delivery01", ["bundle.bin 206"]).startswith("/var/log/nginx/delivery.access.log")
    modes = "stat -c '%a %U' /etc/nginx/ireporter-delivery/secret.conf /etc/nginx/ireporter-delivery/certificate.key"
    assert delivered.lab.on("delivery01", modes) == "600 root\n600 root\n"


def _found(lab: Lab, host: str, canaries: list[str]) -> str:
    """Files and journal lines that hold one; the patterns go in by standard input."""
    script = (
        "patterns=$(mktemp -p /dev/shm); cat > $patterns; "
        "grep --recursive --files-with-matches --fixed-strings --file=$patterns /var/log /tmp /var/tmp /home /root /run 2>/dev/null; "
        "journalctl --no-pager --output=export | grep --text --fixed-strings --file=$patterns --max-count=3; rm $patterns"
    )
    done = subprocess.run(
        ["script/lab", "shell", host, "--", "bash", "-c", script],
        cwd=ROOT,
        input="\n".join(canaries) + "\n",
        capture_output=True,
        text=True,
        check=True,
        timeout=180,
    )
    return done.stdout
