"""The channel's files and commands on a made-up server: what is let in, and that everything goes away again, also half of it."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from ireporter import channel
from ireporter.commands import Completed
from ireporter.errors import MigrationError

ID = "acme-d-20261124t000000z"
PUBLIC = {name: f"ssh-ed25519 AAAA{name} ireporter-migration-{ID}-{name}" for name in channel.KEYS}


class Server:
    """A server's files below a folder, and its programs as notes of what was asked."""

    def __init__(self, root: Path) -> None:
        self.asked: list[list[str]] = []
        self.user = False
        self.role = False
        self.broken: str | None = None
        self.machine = channel.Machine(run=self.run, root=root, sleep=lambda _seconds: None)
        (root / "etc/ssh").mkdir(parents=True)
        (root / "etc/ssh/host.pub").write_text("ssh-ed25519 AAAAhost root@target\n")
        (root / "etc/sudoers.d").mkdir()

    def run(
        self,
        argv: Sequence[str],
        *,
        check: bool = True,
        input_text: str | None = None,
        timeout_seconds: float = 60.0,
        environment: Mapping[str, str] | None = None,
    ) -> Completed:
        self.asked.append(list(argv))
        line = " ".join(argv)
        if self.broken and self.broken in line:
            if check:
                raise MigrationError(f"{argv[0]} exited 1", check="command-failed", action="Mend it")
            return Completed(1, "", "broken")
        if argv[0] == "ssh-keygen":
            private = Path(argv[-1])
            private.write_text("PRIVATE")
            private.with_suffix(".pub").write_text(PUBLIC[private.name] + "\n")
        elif argv[0] == "getent":
            return Completed(0 if self.user else 2, "", "")
        elif argv[0] in ("useradd", "userdel"):
            self.user = argv[0] == "useradd"
        elif "-T" in argv:
            return Completed(0, "hostkey /etc/ssh/host\nauthorizedkeysfile /etc/ssh/ireporter-migration.keys\n", "")
        elif argv[0] == "psql":
            if "CREATE ROLE" in line:
                self.role = True
            if "DROP ROLE" in line:
                self.role = False
            if "pg_roles" in line:
                return Completed(0, f"{int(self.role)}\n", "")
            if "pg_database" in line:
                return Completed(0, "postgres\nit's\n", "")
        return Completed(0, "", "")

    def files(self) -> set[str]:
        return {str(path.relative_to(self.machine.root)) for path in self.machine.root.rglob("*") if not path.is_dir()}


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


def admission(**more: object) -> dict[str, object]:
    return {
        "id": ID,
        "tenant": "acme",
        "public_keys": PUBLIC,
        "source_address": "192.0.2.1",
        "file_trees": [{"path": "/srv/acme/output"}, {"path": "/srv/acme/settings", "licence_file": "xml/License.xml"}],
        "direction": "push",
        "expires_in_seconds": 3600,
        "database_admin": "host=/var/run/postgresql user=postgres dbname=postgres",
        **more,
    }


def test_each_key_is_let_in_for_one_purpose(server: Server) -> None:
    result = channel.admit(admission(), server.machine)
    assert result["host_keys"] == ["ssh-ed25519 AAAAhost"]
    assert result["root"] == "/srv/acme"
    lines = (server.machine.root / "etc/ssh/ireporter-migration.keys").read_text().splitlines()
    assert all(line.startswith('restrict,from="192.0.2.1",expiry-time="20') for line in lines)
    database, files, manifest = lines
    assert 'port-forwarding,command="/bin/false" ssh-ed25519' in database
    assert ',command="sudo -n /usr/bin/rrsync -wo /srv/acme" ' in files
    assert (
        ',command="sudo -n /usr/local/sbin/ireporter-migration manifest /srv/acme/output /srv/acme/settings" '
        in manifest
    )
    assert "port-forwarding" not in files + manifest
    sudoers = (server.machine.root / "etc/sudoers.d/ireporter-migration").read_text()
    assert sudoers.splitlines()[1] == (
        "ireporter-migration ALL=(root) NOPASSWD: /usr/bin/rrsync -wo /srv/acme,"
        " /usr/local/sbin/ireporter-migration manifest /srv/acme/output /srv/acme/settings"
    )


def test_a_rollback_may_read_only_and_claims_nothing(server: Server) -> None:
    channel.admit(admission(direction="pull"), server.machine)
    assert "rrsync -ro /srv/acme" in (server.machine.root / "etc/ssh/ireporter-migration.keys").read_text()
    assert not (server.machine.root / "srv").exists()


def test_opening_again_changes_nothing_until_half_the_time_is_over(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = channel.admit(admission(), server.machine)
    assert first["changed"]
    assert channel.admit(admission(), server.machine) == {**first, "changed": False}
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 1900)
    later = channel.admit(admission(), server.machine)
    assert later["changed"]
    assert later["expires_at"] != first["expires_at"]


def test_a_timer_that_does_not_run_is_started_when_the_channel_is_opened_again(server: Server) -> None:
    first = channel.admit(admission(), server.machine)
    server.asked.clear()
    server.broken = "systemctl is-active --quiet"
    assert channel.admit(admission(), server.machine) == {**first, "changed": True}
    assert ["systemctl", "restart", f"ireporter-channel-{ID}.timer"] in server.asked


@pytest.mark.parametrize("seconds", [3600, 600])
def test_an_opening_killed_before_its_timer_counts_sets_it_with_the_next_one(server: Server, seconds: int) -> None:
    channel.admit(admission(expires_in_seconds=1200), server.machine)
    server.broken = "systemctl restart"
    with pytest.raises(MigrationError):
        channel.admit(admission(expires_in_seconds=seconds), server.machine)
    server.broken = None
    server.asked.clear()
    # The timer of the first opening still runs, but to another deadline.
    assert channel.admit(admission(expires_in_seconds=seconds), server.machine)["changed"]
    assert ["systemctl", "restart", f"ireporter-channel-{ID}.timer"] in server.asked
    assert not channel.admit(admission(expires_in_seconds=seconds), server.machine)["changed"]


def test_a_shorter_deadline_is_obeyed(server: Server) -> None:
    first = channel.admit(admission(), server.machine)
    sooner = channel.admit(admission(expires_in_seconds=600), server.machine)
    assert sooner["changed"]
    assert str(sooner["expires_at"]) < str(first["expires_at"])


def test_opening_ends_what_still_tries_to_close_it(server: Server) -> None:
    stop = ["systemctl", "stop", f"ireporter-channel-{ID}.service"]
    channel.make_keys({"id": ID, "target_address": "127.0.0.1", "expires_in_seconds": 3600}, server.machine)
    assert server.asked[0] == stop
    server.asked.clear()
    channel.admit(admission(), server.machine)
    assert server.asked[0] == stop


def test_closing_leaves_nothing_but_the_claims(server: Server) -> None:
    before = server.files()
    channel.make_keys({"id": ID, "target_address": "127.0.0.1", "expires_in_seconds": 3600}, server.machine)
    channel.admit(admission(), server.machine)
    assert channel.leftovers(server.machine, "dbname=postgres")
    assert channel.close(ID, server.machine)
    claims = {"srv/acme/.output.ireporter-migration", "srv/acme/.settings.ireporter-migration"}
    assert server.files() == before | claims
    assert not server.user
    assert not server.role
    assert channel.leftovers(server.machine, "dbname=postgres") == []
    assert channel.close(ID, server.machine) == []


@pytest.mark.parametrize("program", ["systemctl restart", "useradd", "visudo", "sshd -t", "sshd -T", "CREATE ROLE"])
def test_half_an_opening_can_be_closed(server: Server, program: str) -> None:
    before = server.files()
    server.broken = program
    with pytest.raises(MigrationError):
        channel.admit(admission(postgresql=True), server.machine)
    server.broken = None
    channel.close(ID, server.machine)
    assert {path for path in server.files() - before if not path.startswith("srv/")} == set()
    assert not server.user


def test_what_cannot_be_removed_keeps_the_timer_and_not_the_keys(server: Server) -> None:
    channel.admit(admission(), server.machine)
    server.broken = "DROP ROLE"
    with pytest.raises(MigrationError, match="PostgreSQL role") as refused:
        channel.close(ID, server.machine)
    assert refused.value.check == "channel-close"
    assert "etc/ssh/ireporter-migration.keys" not in server.files()
    assert f"etc/systemd/system/ireporter-channel-{ID}.timer" in server.files()
    assert server.asked[-1] == ["systemctl", "start", "--no-block", f"ireporter-channel-{ID}.service"]
    server.broken = None
    channel.close(ID, server.machine)
    assert channel.leftovers(server.machine, "dbname=postgres") == []


def test_database_names_are_quoted_for_libpq(server: Server) -> None:
    channel.admit(admission(), server.machine)
    channel.close(ID, server.machine)
    asked = [argv for argv in server.asked if "REASSIGN OWNED" in argv[-1]]
    assert [argv[argv.index("-d") + 1].rpartition(" ")[2] for argv in asked] == ["dbname='postgres'", r"dbname='it\'s'"]


def test_another_migration_s_channel_to_the_same_target_is_closed_first(server: Server) -> None:
    channel.admit(admission(), server.machine)
    other = "acme-d-20261125t000000z"
    channel.admit(admission(id=other), server.machine)
    records = [path for path in server.files() if path.startswith("var/lib")]
    assert records == [f"var/lib/ireporter-migration/channel-{other}.json"]
    # Closing the old one once more, as its timer might, must not hurt the new one.
    assert channel.close(ID, server.machine) == []
    assert server.user


def test_a_tree_with_foreign_data_is_refused_before_anything_is_made(server: Server) -> None:
    tree = server.machine.root / "srv/acme/output"
    tree.mkdir(parents=True)
    (tree / "precious").write_text("x")
    with pytest.raises(MigrationError) as refused:
        channel.admit(admission(), server.machine)
    assert refused.value.check == "target-empty"
    assert not server.user
    assert "etc/ssh/ireporter-migration.keys" not in server.files()


@pytest.mark.parametrize(
    "change",
    [
        {"id": "../../etc"},
        {"source_address": '192.0.2.1",command="sh'},
        {"file_trees": []},
        {"file_trees": [{"path": "/srv/a b"}]},
        {"file_trees": [{"path": "/srv/acme/../../etc"}]},
        {"file_trees": [{"path": "/srv/one"}, {"path": "/opt/two"}]},
        {"public_keys": {**PUBLIC, "files": 'ssh-ed25519 AAAA x\ncommand="sh" ssh-ed25519 BBBB'}},
        {"public_keys": {"files": PUBLIC["files"]}},
        {"expires_in_seconds": 0},
    ],
)
def test_input_that_could_mean_more_than_it_should_is_refused(server: Server, change: dict[str, object]) -> None:
    with pytest.raises(MigrationError):
        channel.admit(admission(**change), server.machine)
    assert "etc/ssh/ireporter-migration.keys" not in server.files()


def test_connecting_trusts_the_target_s_shown_key_only(server: Server) -> None:
    channel.make_keys({"id": ID, "target_address": "127.0.0.1", "expires_in_seconds": 3600}, server.machine)
    spec = {
        "id": ID,
        "target_address": "192.0.2.2",
        "target_port": 2222,
        "host_keys": ["ssh-ed25519 AAAAhost"],
        "root": "/srv/acme",
        "postgresql_socket": "/var/run/postgresql/.s.PGSQL.5432",
    }
    assert channel.connect(spec, server.machine)["changed"]
    directory = server.machine.root / f"run/ireporter-migration/{ID}"
    assert (directory / "known_hosts").read_text() == f"ireporter-migration-{ID} ssh-ed25519 AAAAhost\n"
    config = (directory / "ssh_config").read_text()
    assert "StrictHostKeyChecking yes" in config
    assert "Port 2222" in config
    assert not channel.connect(spec, server.machine)["changed"]
    assert directory.stat().st_mode & 0o777 == 0o700


def test_no_answer_is_an_error(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter(range(0, 1000, 10))
    monkeypatch.setattr(time, "monotonic", lambda: next(moments))
    channel.make_keys({"id": ID, "target_address": "127.0.0.1", "expires_in_seconds": 3600}, server.machine)
    server.broken = "SELECT 1"
    spec = {
        "id": ID,
        "target_address": "192.0.2.2",
        "host_keys": ["ssh-ed25519 AAAAhost"],
        "root": "/srv/acme",
        "postgresql_socket": "/var/run/postgresql/.s.PGSQL.5432",
    }
    with pytest.raises(MigrationError, match="does not answer"):
        channel.connect(spec, server.machine)


def test_no_private_key_is_ever_printed(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = {"step": "keys", "id": ID, "target_address": "127.0.0.1", "expires_in_seconds": 3600}
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(spec)))
    assert channel.open_main([], server.machine) == 0
    shown = capsys.readouterr()
    assert "PRIVATE" not in shown.out + shown.err
    assert json.loads(shown.out)["public_keys"] == PUBLIC


def test_a_broken_specification_is_one_sentence(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for text in ("", "[]", '{"step": "dance"}', '{"step": "admit", "id": "x"}'):
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        assert channel.open_main([], server.machine) == 1
        assert "Traceback" not in capsys.readouterr().err
