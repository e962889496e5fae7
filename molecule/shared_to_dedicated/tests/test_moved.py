"""What stands on the servers after a tenant moved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import testinfra
from testinfra.host import Host

ROOT = Path(__file__).resolve().parents[3]
INVENTORY = ROOT / "inventories" / "lab"


def _host(name: str) -> Host:
    return testinfra.get_host(f"ansible://{name}?ansible_inventory={INVENTORY}&force_ansible=false&sudo=true")


@pytest.fixture(scope="module")
def shared() -> Host:
    return _host("shared01")


@pytest.fixture(scope="module")
def dedicated() -> Host:
    return _host("dedicated01")


def test_the_application_runs_on_the_dedicated_server_only(shared: Host, dedicated: Host) -> None:
    assert dedicated.service("ireporter-standin@acme.service").is_running
    assert dedicated.service("ireporter-standin@acme.service").is_enabled
    assert not shared.service("ireporter-standin@acme.service").is_running


def test_neighbours_run_where_they_were(shared: Host) -> None:
    for neighbour in ("bravo", "charlie"):
        assert shared.service(f"ireporter-standin@{neighbour}.service").is_running


def test_postgresql_of_the_dedicated_server_listens_on_loopback_only(dedicated: Host) -> None:
    assert dedicated.socket("tcp://127.0.0.1:5432").is_listening
    assert not dedicated.socket("tcp://0.0.0.0:5432").is_listening


def test_the_former_instance_lets_no_application_in(shared: Host) -> None:
    limit = shared.check_output(
        "psql -XqAtU postgres -c \"SELECT datconnlimit FROM pg_database WHERE datname = 'irepodb_acme'\""
    )
    assert limit == "0"


def test_no_lease_is_left_that_could_reopen_it(shared: Host) -> None:
    assert not shared.file("/etc/systemd/system/ireporter-lease-acme.timer").exists


def test_the_record_says_what_was_verified_and_stands_on_both_servers(shared: Host, dedicated: Host) -> None:
    pattern = "cat /var/lib/ireporter-migration/acme/acme-d-*/run.json"
    records = [json.loads(host.check_output(pattern)) for host in (shared, dedicated)]
    assert records[0] == records[1]
    assert records[0]["status"] == "succeeded"
    assert records[0]["figures"]["rows_verified"] > 0
    assert records[0]["figures"]["files_verified"] > 0
    assert records[0]["figures"]["differences"] == 0
    assert records[0]["figures"]["announced"] == "done"


def test_a_backup_is_kept_and_whole(shared: Host) -> None:
    assert shared.run("cd /var/backups/ireporter-migration/acme-d-* && sha256sum --check --quiet SHA256SUMS").rc == 0


def test_the_backup_is_for_root_only_and_goes_after_its_retention(shared: Host) -> None:
    kept = shared.check_output("echo /var/backups/ireporter-migration/acme-d-*")
    assert shared.check_output("stat --format='%%U %%a' %s", kept) == "root 700"
    assert shared.check_output("find %s ! -user root -or -perm /077", kept) == ""
    retention = shared.check_output("cat /etc/tmpfiles.d/ireporter-migration-acme-d-*.conf")
    assert retention.splitlines()[1:] == [f"e {kept} - - - 30d"]


def test_the_backup_is_restored_by_the_commands_its_readme_gives(shared: Host) -> None:
    readme = shared.check_output("cat /var/backups/ireporter-migration/acme-d-*/README.txt")
    commands = [line[2:] for line in readme.splitlines() if line.startswith("  ")]
    assert any("pg_restore" in command for command in commands)
    try:
        shared.run_expect([0], "bash -euc %s", "\n".join(commands))
        assert _contents(shared, "restored") == _contents(shared, "irepodb_acme")
        for tree in ("output", "settings", "webdav"):
            compare = "rsync --archive --hard-links --acls --xattrs --checksum --delete --dry-run --itemize-changes"
            assert shared.check_output(f"{compare} /srv/ireporter/acme/{tree}/ /var/tmp/restored/{tree}/") == ""
    finally:
        shared.check_output("psql -XqU postgres -c 'DROP DATABASE IF EXISTS restored'; rm -rf /var/tmp/restored")


def _contents(host: Host, database: str) -> str:
    """Rows and digest of every table."""
    # The tenant's database has settings of its own that change how a value is written.
    each = r"""
        SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres'; SET bytea_output = 'hex'; SET extra_float_digits = 3;
        SELECT format($$SELECT %L, count(*), md5(string_agg(md5(whole::text), '' ORDER BY md5(whole::text))) FROM %s whole$$,
                      c.oid::regclass, c.oid::regclass)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY c.oid::regclass::text \gexec
    """
    command = f"psql -XqAtU postgres -v ON_ERROR_STOP=1 -d {database} <<'SQL'\n{each}\nSQL"
    found: str = host.check_output("bash -c %s", command)
    assert "rep_top" in found
    return found


def test_the_target_proved_a_restore_of_its_own_backup(dedicated: Host) -> None:
    assert json.loads(dedicated.check_output("/usr/local/sbin/ireporter-backup status"))["proven"] is True


def test_nothing_of_the_channel_is_left(shared: Host, dedicated: Host) -> None:
    for host in (shared, dedicated):
        assert host.run("/usr/local/sbin/ireporter-migration channel-leftovers").rc == 0


def test_what_was_known_of_files_went_with_the_end_of_the_run(shared: Host, dedicated: Host) -> None:
    for host in (shared, dedicated):
        state = host.check_output("find /var/lib/ireporter-migration")
        assert "/acme/" in state
        assert "known-contents" not in state


def test_check_mode_announced_what_the_real_run_changed() -> None:
    lines = (ROOT / "build" / "molecule-changed-tasks.jsonl").read_text(encoding="utf-8").splitlines()
    playbooks = [json.loads(line) for line in lines]
    checked = [number for number, playbook in enumerate(playbooks) if playbook["check"]]
    announced, changed = playbooks[checked[0]], playbooks[checked[0] + 1]
    assert not changed["check"]
    assert len(announced["tasks"]) > 20
    assert announced["tasks"] == changed["tasks"]
