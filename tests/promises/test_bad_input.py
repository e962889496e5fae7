"""Bad input is refused in one sentence each, with its rule or check, all at once, and nothing is touched."""

from __future__ import annotations

import json

import pytest
from playing import Lab

pytestmark = [
    pytest.mark.lab,
    pytest.mark.promise("Bad input is refused before anything is touched, each with its rule and what to do"),
]

FOREIGN = """
install -d /srv/ireporter/acme/output && echo precious > /srv/ireporter/acme/output/precious
"""


def test_nothing_wrong_is_said_to_be_so_and_nothing_is_touched(lab: Lab) -> None:
    lab.prepare()
    before = lab.traces()
    played = lab.play("shared_to_dedicated", "--tags", "check")
    assert played.returncode == 0, played.output[-3000:]
    assert "R01-accounts" in played.output
    assert played.recap("acme")["changed"] == 0
    lab.assert_nothing_new(before, seconds=0)
    assert lab.serves("shared01")


def test_what_has_not_moved_cannot_be_finished(lab: Lab) -> None:
    before = lab.traces()
    played = lab.play("shared_to_dedicated", "--tags", "finish")
    assert played.returncode != 0
    assert "nothing to finish" in " ".join(played.output.split()), played.output[-3000:]
    assert played.recap("acme")["changed"] == 0
    lab.assert_nothing_new(before, seconds=0)


def test_everything_wrong_is_said_at_once_and_nothing_is_touched(lab: Lab) -> None:
    lab.prepare()
    before = lab.traces()
    wrong = {
        "shared_to_dedicated_accounts_threshold": 1000,
        "ireporter_tenant_contact_phone_extension": "",
        "ireporter_tenant_contact_email": "eve@example.com\nBcc: everybody@example.com",
        "ireporter_tenant_window": {"start": "2026-01-10 22:00", "end": "2026-01-10 22:01"},
        "ireporter_tenant_price": 1000,
        "ireporter_tenant_exclude_tables": ["log_audit"],
        "shared_to_dedicated_maintainance": [],
    }
    played = lab.play("shared_to_dedicated", "-e", json.dumps(wrong))
    assert played.returncode != 0
    said = " ".join(played.output.split())
    for expected in (
        "R01-accounts",
        "R02-price",
        "R05-contact-extension",
        "R05-contact-email",
        "R10",
        "R13-selection",
        "shared_to_dedicated_maintainance (nearest known: shared_to_dedicated_maintenance)",
    ):
        assert expected in said, f"{expected} is not in:\n{played.output[-6000:]}"
    assert played.recap("acme")["changed"] == 0
    lab.assert_nothing_new(before, seconds=0)
    assert lab.serves("shared01")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--limit", "nobody"), "no hosts"),
        (("-e", "ireporter_tenant_database_admin='host=/run/postgresql password=sesame'"), "password"),
        (("-e", 'ireporter_tenant_database="x\'; DROP DATABASE irepodb_bravo; --"'), "does not exist on shared01"),
        (("-e", "ireporter_tenant_public_name='acme.example;reboot'"), "acme.example;reboot"),
    ],
    ids=["unknown tenant", "password in a connection string", "database name", "public name"],
)
def test_what_could_be_interpreted_is_not(lab: Lab, arguments: tuple[str, ...], said: str) -> None:
    played = lab.play("shared_to_dedicated", "--tags", "check", *arguments)
    assert played.returncode != 0, played.output[-3000:]
    assert said in played.output, played.output[-3000:]
    assert "sesame" not in played.output
    assert lab.sql("shared01", "postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'irepodb_%'") == "3"


@pytest.mark.slow
def test_foreign_data_a_clock_a_day_off_and_services_that_are_down_stop_the_run_before_it_begins(lab: Lab) -> None:
    lab.reset()
    lab.on("dedicated01", FOREIGN)
    try:
        lab.set_clock("shared01", 1)
        lab.on("mail01", "systemctl stop postfix@- postfix")
        lab.on("ns1", "systemctl stop named.service")
        played = lab.play("shared_to_dedicated")
    finally:
        lab.set_clock("shared01", 0)
        lab.on("mail01", "systemctl start postfix")
        lab.on("ns1", "systemctl start named.service")
    assert played.returncode != 0
    for expected in ("target-empty", "clock-skew", "mail-rights", "dns-"):  # not the words: task names have them, too
        assert expected in played.output, played.output[-6000:]
    assert lab.on("dedicated01", "ls -A /srv/ireporter/acme/output") == "precious\n"
    assert played.recap("acme")["changed"] == 0
    assert lab.serves("shared01")
