"""An export for a self-hosted server: down for the picture only, whole, handed to the contact alone, undone wherever it fails."""

from __future__ import annotations

import json

import pytest
from playing import Lab

pytestmark = [
    pytest.mark.lab,
    pytest.mark.promise(
        "A tenant is exported while its users work: it is down for the picture only, and whatever fails or dies leaves it serving"
    ),
]

TENANT = "bravo"
LOCK = ("-e", "cloud_export_lock_seconds=20")
LEASE_SECONDS = 45
PICTURE = "Picture | Database and files as they are now"
BUNDLE = "Bundle | Make it, read it back, sign it"
EXPORT = f"/var/lib/ireporter-export/{TENANT}"


def nothing_stays(lab: Lab) -> None:
    """Of picture, staged files, keys and channels, on either side; the tenant serves."""
    assert lab.serves("shared01", TENANT)
    assert lab.sql("shared01", "postgres", "SELECT datname FROM pg_database WHERE datname ~ 'picture'") == ""
    assert (
        lab.on(
            "shared01",
            "find /run/ireporter-migration /run -maxdepth 1 -name '*.signing-key' -o -path '/run/ireporter-migration/*'",
        )
        == ""
    )
    # Not --all: what was removed may still be known to systemd, as inactive.
    assert (
        lab.on("shared01", "systemctl list-units --plain --no-legend 'ireporter-migration-*' 'ireporter-lease-*'") == ""
    )
    assert lab.on("shared01", "ls /etc/systemd/system/ireporter-lease-* 2>/dev/null || true") == ""
    for host in ("shared01", "delivery01"):
        assert lab.on(host, "ireporter-migration channel-leftovers").strip() == '{"leftovers": []}'


@pytest.fixture(scope="module")
def exported(lab: Lab) -> Lab:
    """As the Molecule scenario leaves it, whose own tests look at what was exported."""
    if '"step": "announce"' not in lab.on(
        "shared01", f"cat /var/lib/ireporter-migration/{TENANT}/*/run.json 2>/dev/null || true"
    ):
        lab.reset_for_export()
        played = lab.play("cloud_export", tenant=TENANT)
        assert played.returncode == 0, played.output[-5000:]
    return lab


@pytest.mark.slow
def test_new_links_replace_the_old_ones_and_reach_the_contact(exported: Lab) -> None:
    played = exported.play("cloud_export", "-e", "cloud_export_renew_links=true", tenant=TENANT)
    assert played.returncode == 0, played.output[-3000:]
    mails = [mail for mail in json.loads(exported.mails()) if mail["recipient"].startswith("contact-")]
    assert len(mails) == 2


@pytest.mark.slow
def test_retirement_is_refused_before_the_contract_ends(exported: Lab) -> None:
    played = exported.play("retire", tenant=TENANT)
    assert played.returncode != 0
    assert "R15" in played.output
    assert exported.serves("shared01", TENANT)
    ended = ("-e", '{"ireporter_tenant_contract_ends": "2026-01-31", "ireporter_tenant_contract_term": "year"}')
    played = exported.play("retire", *ended, tenant=TENANT)
    assert played.returncode == 0, played.output[-3000:]
    assert not exported.serves("shared01", TENANT)
    assert exported.run_record("shared01", TENANT)["step"] == "retire"
    played = exported.play("retire", *ended, tenant=TENANT)
    assert played.recap(TENANT)["changed"] == 0


@pytest.fixture(scope="module")
def serving(lab: Lab) -> Lab:
    """``bravo`` serves, and was prepared for an export."""
    lab.reset_for_export()
    played = lab.play("cloud_export", "--tags", "prepare", tenant=TENANT)
    assert played.returncode == 0, played.output[-5000:]
    return lab


def test_killed_in_the_freeze_and_while_the_bundle_is_made(serving: Lab) -> None:
    """The source reopens by itself; the next run freezes again, and goes on with the picture of the one that was killed later."""
    lease = ("-e", f"cloud_export_lease_seconds={LEASE_SECONDS}")
    played = serving.play_and_at(PICTURE, "SIGKILL", "cloud_export", *lease, *LOCK, tenant=TENANT)
    assert played.returncode == -9, played.output[-3000:]
    assert not serving.serves("shared01", TENANT), "it was not frozen when the controller died"
    assert serving.serves("shared01", "acme")
    serving.wait_until(
        "the lease reopens the tenant", lambda: serving.serves("shared01", TENANT), seconds=LEASE_SECONDS + 60
    )
    played = serving.play_and_at(BUNDLE, "SIGKILL", "cloud_export", *LOCK, tenant=TENANT)
    assert played.returncode == -9, played.output[-3000:]
    assert serving.serves("shared01", TENANT)
    status = serving.play("status", tenant=TENANT).output
    assert "without another freeze" in status
    first = serving.run_record("shared01", TENANT)
    again = serving.play("cloud_export", *LOCK, tenant=TENANT)
    assert again.returncode == 0, again.output[-5000:]
    record = serving.run_record("shared01", TENANT)
    assert (record["id"], record["figures"]["cut_off"]) == (first["id"], first["figures"]["cut_off"])
    nothing_stays(serving)


@pytest.mark.slow
def test_taken_back_nothing_can_be_downloaded_any_more(serving: Lab) -> None:
    played = serving.play("rollback", tenant=TENANT)
    assert played.returncode == 0, played.output[-3000:]
    assert (
        serving.on(
            "delivery01", f"find /srv/ireporter-delivery/files/{TENANT} /srv/ireporter-delivery/published -type f"
        )
        == ""
    )
    assert serving.on("shared01", f"find {EXPORT} -type f") == ""
    nothing_stays(serving)
    assert serving.play("rollback", tenant=TENANT).recap(TENANT)["changed"] == 0


@pytest.mark.slow
def test_ctrl_c_in_the_freeze_undoes_at_once(serving: Lab) -> None:
    again = ("-e", "cloud_export_again=true")
    played = serving.play_and_at(PICTURE, "SIGINT", "cloud_export", *again, *LOCK, tenant=TENANT)
    assert played.returncode == 99, played.output[-3000:]
    assert "Interrupted. Undoing now" in played.output
    nothing_stays(serving)
    assert serving.run_record("shared01", TENANT)["status"] == "undone"


@pytest.mark.slow
def test_a_full_disk_while_the_bundle_is_made_is_said_and_leaves_the_tenant_serving(serving: Lab) -> None:
    # Full but for less than any bundle, from the moment it is made: before that a gate would have refused.
    fill = f"dd if=/dev/zero of={EXPORT}/filler bs=64K || true; truncate --size=-256K {EXPORT}/filler"
    serving.on("shared01", f"mkdir -p {EXPORT} && mount -t tmpfs -o size=2g tmpfs {EXPORT}")
    try:
        played = serving.play_and_at(
            BUNDLE,
            serving.on_command("shared01", fill),
            "cloud_export",
            "-e",
            "cloud_export_again=true",
            *LOCK,
            tenant=TENANT,
        )
        assert played.returncode != 0
        assert "serves from shared01" in played.output
        assert "disk" in played.output.lower()
        nothing_stays(serving)
    finally:
        serving.on("shared01", f"umount {EXPORT}")


def test_gates_that_pass_are_said_to_and_nothing_is_touched(serving: Lab) -> None:
    before = serving.traces()
    again = ("-e", "cloud_export_again=true")
    played = serving.play("cloud_export", "--tags", "check", *again, tenant=TENANT)
    assert played.returncode == 0, played.output[-3000:]
    assert "R07" in played.output
    assert played.recap(TENANT)["changed"] == 0
    played = serving.play("cloud_export", "--tags", "finish", *again, tenant=TENANT)
    assert played.returncode != 0
    assert "nothing to finish" in " ".join(played.output.split()), played.output[-3000:]
    assert played.recap(TENANT)["changed"] == 0
    serving.assert_nothing_new(before, seconds=5)


def test_gates_that_fail_are_said_at_once_and_nothing_is_touched(serving: Lab) -> None:
    before = serving.traces()
    wrong = {
        "ireporter_tenant_paperwork": {"complete": False},
        "ireporter_tenant_accepted_quote_number": "Q-another",
        "ireporter_tenant_licensed_users": 1,
        "ireporter_tenant_webdav_confirmed_at": "2020-01-01 00:00",
        "ireporter_tenant_public_key": "ssh-rsa AAAA",
        "ireporter_tenant_licence_from": "2099-01-01",
        "ireporter_tenant_contact_phone_extension": "",
        "cloud_export_jbos": 3,
        "cloud_export_again": True,  # a finished export has no gates to pass
    }
    played = serving.play("cloud_export", "-e", json.dumps(wrong), tenant=TENANT)
    assert played.returncode != 0
    for rule in ("R03", "R05", "R06", "R07", "R08", "R09", "public-key", "cloud_export_jobs"):
        assert rule in played.output, rule
    serving.assert_nothing_new(before, seconds=5)
    assert serving.serves("shared01", TENANT)


@pytest.mark.slow
def test_a_tenant_on_a_dedicated_server_is_exported_the_same_way(lab: Lab) -> None:
    lab.reset_for_export()
    moved = lab.play("shared_to_dedicated")
    assert moved.returncode == 0, moved.output[-5000:]
    # What changes in the inventory when a tenant has moved.
    now = {
        "ireporter_server": "dedicated01",
        "ireporter_target": "",
        "ireporter_tenant_database_probes": "{{ ireporter_tenant_target_database_probes }}",
    }
    way = ("-i", "inventories/lab", "-i", "lab/self_hosted.yml", "-e", json.dumps(now))
    played = lab.play("cloud_export", *way)
    assert played.returncode == 0, played.output[-5000:]
    assert lab.serves("dedicated01")
    record = lab.run_record("dedicated01")
    assert (record["kind"], record["status"]) == ("cloud_export", "succeeded")
    assert record["figures"]["rows"] > 0
    assert record["id"] in lab.on("delivery01", "ls /srv/ireporter-delivery/files/acme")
    again = lab.play("cloud_export", *way)
    assert (again.returncode, again.recap("acme")["changed"]) == (0, 0), again.output[-3000:]
