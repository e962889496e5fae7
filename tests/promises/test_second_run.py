"""A finished migration stays finished: a second run changes nothing, and notices what was altered since."""

from __future__ import annotations

import json

import pytest
from playing import Lab

pytestmark = [
    pytest.mark.lab,
    pytest.mark.promise("A second run changes nothing, and notices what was altered; check mode is truthful"),
]


@pytest.fixture(scope="module")
def migrated(lab: Lab) -> Lab:
    """As the Molecule scenario leaves it; its own tests compare what check mode announces with what the real run changes."""
    if not lab.serves("dedicated01") or lab.serves("shared01"):
        lab.reset()
        played = lab.play("shared_to_dedicated")
        assert played.returncode == 0, played.output[-5000:]
    return lab


@pytest.mark.slow  # the Molecule scenario's idempotence step is the same, in every run
def test_a_second_run_changes_nothing(migrated: Lab) -> None:
    played = migrated.play("shared_to_dedicated")
    assert played.returncode == 0, played.output[-5000:]
    assert played.recap("acme")["changed"] == 0, played.output[-5000:]


def test_check_mode_of_a_finished_migration_announces_nothing(migrated: Lab) -> None:
    played = migrated.play("shared_to_dedicated", "--check")
    assert (played.returncode, played.recap("acme")["changed"]) == (0, 0), played.output[-3000:]


@pytest.mark.slow
def test_not_even_with_the_run_record_deleted(migrated: Lab) -> None:
    for host in ("shared01", "dedicated01"):
        migrated.on(host, "rm -rf /var/lib/ireporter-migration/acme/acme-d-*")
    played = migrated.play("shared_to_dedicated")
    assert played.returncode == 0, played.output[-5000:]
    assert played.recap("acme")["changed"] == 0, played.output[-5000:]


@pytest.mark.parametrize(
    ("host", "alter", "restore", "named"),
    [
        pytest.param(
            "dedicated01", "chmod 0711 /srv/ireporter/acme/output", None, "output", marks=pytest.mark.slow, id="mode"
        ),
        pytest.param(
            "dedicated01",
            "psql -XqU postgres -d irepodb_acme -c 'REVOKE SELECT ON rep_top FROM acme_report'",
            "psql -XqU postgres -d irepodb_acme -c 'GRANT SELECT ON rep_top TO acme_report'",
            "rep_top",
            marks=pytest.mark.slow,
            id="grant",
        ),
        pytest.param(
            "shared01", "rm /etc/nginx/ireporter/acme.gate.conf && systemctl reload nginx", None, "acme", id="closure"
        ),
    ],
)
def test_what_was_altered_is_noticed(migrated: Lab, host: str, alter: str, restore: str | None, named: str) -> None:
    mode = migrated.on("dedicated01", "stat -c %a /srv/ireporter/acme/output").strip()
    migrated.on(host, alter)
    played = migrated.play("shared_to_dedicated")
    noticed = played.returncode != 0 or played.recap("acme")["changed"] > 0
    migrated.on("dedicated01", f"chmod {mode} /srv/ireporter/acme/output")
    if restore:
        migrated.on(host, restore)
    assert noticed, played.output[-3000:]
    assert named in played.output
    assert not migrated.serves("shared01")


def test_records_are_json_and_mirrored(migrated: Lab) -> None:
    for host in ("shared01", "dedicated01"):
        listing = migrated.on(host, "cat /var/lib/ireporter-migration/acme/*/events.jsonl 2>/dev/null || true")
        for line in listing.splitlines():
            json.loads(line)
