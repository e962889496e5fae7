"""After the tenant opened: mails that wait for their relay, a new public name, retirement, purge."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playing import Lab, Played

pytestmark = [
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.promise(
        "A mail that cannot be sent leaves the migration done and goes out later, once; the retired instance refuses everyone; a purge keeps the retention"
    ),
]

NEW_NAME = "acme-dedicated.ireporter.example"
SETTING = ("-e", f"ireporter_tenant_target_public_name={NEW_NAME}")


@pytest.fixture(scope="module")
def moved(lab: Lab) -> tuple[Lab, Played]:
    """The tenant has moved to a new name; the mail server died just before the mails."""
    lab.reset()
    stop = lab.on_command("mail01", "systemctl stop postfix@- postfix")
    return lab, lab.play_and_at("Main | tell the contact", stop, "shared_to_dedicated", *SETTING)


def test_a_mail_that_cannot_be_sent_leaves_the_migration_done(moved: tuple[Lab, Played]) -> None:
    lab, played = moved
    assert played.returncode != 0
    assert "announced = pending" in played.output, played.output[-3000:]
    assert lab.serves("dedicated01", public_name=NEW_NAME)
    assert not lab.serves("shared01")
    assert lab.run_record("shared01")["figures"]["announced"] == "pending"
    assert lab.leftovers() == ""


def test_it_goes_out_with_the_next_run_and_never_twice(moved: tuple[Lab, Played]) -> None:
    lab, _ = moved
    lab.on("mail01", "systemctl start postfix")
    again = lab.play("shared_to_dedicated", *SETTING)
    assert again.returncode == 0, again.output[-5000:]
    assert lab.run_record("shared01")["figures"]["announced"] == "done"
    third = lab.play("shared_to_dedicated", *SETTING)
    assert (third.returncode, third.recap("acme")["changed"]) == (0, 0), third.output[-3000:]
    mails = {mail["recipient"]: mail for mail in _mails(lab)}
    assert len(mails) == len(_mails(lab)) == 2
    contact, partner = mails["contact-acme@example.com"], mails["partner@example.com"]
    address = lab.on("dedicated01", "hostname -I").split()[0]
    assert NEW_NAME in contact["body"]
    assert address in contact["body"]
    assert contact["attachments"] == ["acme.ircf"]
    assert not {NEW_NAME, address} & set(partner["body"].split()), "R20: connection details are for the contact alone"
    assert partner["attachments"] == []


def test_the_former_name_stays_and_tells_the_new_one(moved: tuple[Lab, Played]) -> None:
    lab, _ = moved
    assert _leads_to(lab, NEW_NAME) == lab.on("dedicated01", "hostname -I").split()[0]
    assert _leads_to(lab, "acme.ireporter.example") == lab.on("shared01", "hostname -I").split()[0]
    assert lab.status_code("shared01") == 503
    assert NEW_NAME in lab.on("shared01", "cat /etc/nginx/ireporter/acme.*.html")


def test_retired_it_refuses_everyone_and_a_second_time_changes_nothing(moved: tuple[Lab, Played]) -> None:
    lab, _ = moved
    retired = lab.play("retire", *SETTING)
    assert retired.returncode == 0, retired.output[-5000:]
    assert lab.status_code("shared01") == 410
    assert lab.status_code("shared01", path="/webdav/") == 410
    assert "too many connections" in lab.on(
        "shared01",
        "setpriv --reuid ireporter-acme --regid ireporter-acme --clear-groups env PGPASSFILE=/etc/ireporter/acme/pgpass"
        " psql -h 127.0.0.1 -U acme_app -d irepodb_acme -c 'SELECT 1' 2>&1 || true",
    )
    for playbook in ("retire", "shared_to_dedicated"):
        again = lab.play(playbook, *SETTING)
        assert (again.returncode, again.recap("acme")["changed"]) == (0, 0), again.output[-3000:]


def test_purged_only_after_the_retention_and_only_this_tenant(moved: tuple[Lab, Played]) -> None:
    lab, _ = moved
    purge = ("-e", "shared_to_dedicated_purge=true", *SETTING)
    early = lab.play("retire", *purge)
    assert early.returncode != 0
    assert "is kept until" in early.output
    assert lab.sql("shared01", "postgres", "SELECT count(*) FROM pg_database WHERE datname = 'irepodb_acme'") == "1"

    late = (*purge, "-e", "shared_to_dedicated_backup_days=0")
    announced = lab.play("retire", "--check", *late)
    assert announced.recap("acme")["changed"] > 0, announced.output[-3000:]
    purged = lab.play("retire", *late)
    assert purged.returncode == 0, purged.output[-5000:]
    assert lab.sql("shared01", "postgres", "SELECT count(*) FROM pg_database WHERE datname = 'irepodb_acme'") == "0"
    assert lab.on("shared01", "ls -A /srv/ireporter/acme").split() == []
    for playbook, arguments in (("retire", late), ("shared_to_dedicated", SETTING)):
        again = lab.play(playbook, *arguments)
        assert (again.returncode, again.recap("acme")["changed"]) == (0, 0), again.output[-3000:]
    assert lab.serves("dedicated01", public_name=NEW_NAME)
    assert lab.serves("shared01", "bravo")
    assert lab.serves("shared01", "charlie")


def _mails(lab: Lab) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(lab.mails())
    return found


def _leads_to(lab: Lab, name: str) -> str:
    (address,) = {lab.on(server, f"dig +short @127.0.0.1 {name} A").strip() for server in ("ns1", "ns2")}
    return address
