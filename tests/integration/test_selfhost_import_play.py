"""The playbooks of the customer's side, played through on a throw-away PostgreSQL: received, imported, undone, rolled back, forgotten.

What a container is needed for has a stand-in here: systemd (work runs at once), the web server and the application. The lab has the real ones.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .bundle_kit import MIGRATION, ROOT, Kit
from .conftest import Cluster

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounts and owners are root's"),
]
DATABASE = "irepodb"
# The server's own folders are hidden from the play, and the play's from the server.
_IN_ITS_OWN = 'mount -t tmpfs tmpfs /var/lib && mount --bind "$0/var" /var/lib && mount --bind "$0/sbin" /usr/local/sbin && exec "$@"'

_SYSTEMCTL = """#!/bin/sh
case "$1" in
  show) printf 'LoadState=loaded\\nActiveState=inactive\\nResult=success\\n' ;;
esac
"""
_SYSTEMD_RUN = """#!/bin/sh
while [ "${1#--}" != "$1" ]; do shift; done
"$@" || true
"""
_TENANT = """
import json, pathlib
import psycopg
from ansible.module_utils.basic import AnsibleModule

module = AnsibleModule(argument_spec={
    "tenant": {"type": "dict", "required": True}, "state": {"type": "str"}, "admit_secret": {"type": "str", "no_log": True},
    "drain_seconds": {"type": "int"}, "run_id": {"type": "str"}, "scan": {"type": "str"}}, supports_check_mode=True)
tenant, wanted = module.params["tenant"], module.params["state"]
note = pathlib.Path(tenant["web"]["gate_file"])
state = json.loads(note.read_text())["state"] if note.exists() else "absent"
name = tenant["database"]
with psycopg.connect(tenant["database_admin"], autocommit=True) as session:
    found = session.execute(
        "SELECT d.datconnlimit, s.setconfig FROM pg_database d LEFT JOIN pg_db_role_setting s ON s.setdatabase = d.oid AND s.setrole = 0"
        " WHERE datname = %s", (name,)).fetchone()
    content = "absent" if found is None else "copy" if any("copy_of" in one for one in found[1] or ()) else "own"
    if wanted is None:
        module.exit_json(changed=False, state=state, database_content=content, disagreements=[], server={'postgresql_version_num': 150000})
    if not module.check_mode:
        if wanted == "open" and found is None:
            module.fail_json(msg="There is no database to open")
        note.write_text(json.dumps({"state": wanted}))
        if found is not None:
            limit = -1 if wanted == "open" or module.params["admit_secret"] else 0
            session.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT {limit}')
            if wanted == "open":
                session.execute(f'ALTER DATABASE "{name}" RESET ireporter_migration.copy_of')
module.exit_json(changed=state != wanted, state=wanted, proof=[])
"""
_SMOKE = """
import pathlib
from ansible.module_utils.basic import AnsibleModule

module = AnsibleModule(argument_spec={
    "url": {"type": "str"}, "address": {"type": "str"}, "ca_file": {"type": "path"}, "user": {"type": "str"},
    "password": {"type": "str", "no_log": True}, "admit_secret": {"type": "str", "no_log": True}}, supports_check_mode=True)
if pathlib.Path(module.params["ca_file"]).exists():
    module.fail_json(msg="The report list is empty (smoke)")
module.exit_json(changed=False, definitions=4, reports=8, pdf_bytes=99)
"""


class Play:
    """A customer's inventory, and the playbooks run with it."""

    def __init__(self, folder: Path, cluster: Cluster, kit: Kit, bundle: Path) -> None:
        self.folder = folder
        self.cluster = cluster
        for name in ("var", "sbin", "programs", "library", "roles/ireporter_migration_tools/tasks", "site", "import"):
            (folder / name).mkdir(parents=True)
        python = f'PYTHONPATH="{ROOT / "module_utils"}" exec "{sys.executable}" -P -m ireporter "$@"\n'
        for path, text in (
            ("sbin/ireporter-migration", f"#!/bin/sh\n{python}"),
            ("programs/systemctl", _SYSTEMCTL),
            ("programs/systemd-run", _SYSTEMD_RUN),
            ("library/ireporter_tenant.py", _TENANT),
            ("library/ireporter_tenant_info.py", _TENANT),
            ("library/ireporter_smoke_info.py", _SMOKE),
            ("roles/ireporter_migration_tools/tasks/main.yml", "---\n"),
            ("VERSION", "8.2.26020\n"),
            ("import/identity.txt", (kit.folder / "customer").read_text()),
        ):
            (folder / path).write_text(text)
            (folder / path).chmod(0o600 if "identity" in path else 0o755)
        self.variables: dict[str, object] = {
            "ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_become": False,
            "ireporter_server": "selfhost01", "ireporter_tenant_suffix": "ACME", "ireporter_tenant_public_name": "acme.example.com",
            "ireporter_tenant_database": DATABASE, "ireporter_tenant_database_admin": cluster.conninfo(),
            "ireporter_tenant_database_probes": [], "ireporter_tenant_application_role": "play_app",
            "ireporter_tenant_application_unit": "acme.service", "ireporter_tenant_application_version_file": str(folder / "VERSION"),
            "ireporter_tenant_accounts_query": "SELECT count(*) FROM t", "ireporter_tenant_gate_file": str(folder / "acme.gate.conf"),
            "ireporter_tenant_file_trees": [{"name": "output", "path": "/unused", "write_as": "root"}],
            "ireporter_tenant_target_files_root": str(folder / "site"), "ireporter_tenant_web_ca_file": str(folder / "smoke fails"),
            "ireporter_tenant_licence_file": {"tree": "output", "path": "License.xml"},
            "ireporter_tenant_smoke_user": "smoke", "ireporter_tenant_smoke_password": "play-password",
            "selfhost_import_bundle": str(bundle), "selfhost_import_signer": kit.fingerprint, "selfhost_import_setup": False,
            "selfhost_import_directory": str(folder / "import"), "selfhost_import_lock_seconds": 1,
            "selfhost_import_value_rules": [
                {"name": "fonts", "reason": "the cloud's", "table": "t", "column": "a", "when": [{"column": "id", "equals": "1"}], "value": "{{ here }}"}
            ],
        }  # fmt: skip
        # A server on which the tenant was installed, and serves.
        output = folder / "site" / "output"
        output.mkdir()
        (output / "License.xml").write_text("licence of this server")

    def run(self, playbook: str, *options: str, **changed: object) -> tuple[int, str]:
        """Exit status and output, without its colours and line ends."""
        inventory = self.folder / "hosts.json"
        variables = {**self.variables, **changed}
        values = {"vars": {name: value for name, value in variables.items() if name != "selfhost_import_value_rules"}}
        inventory.write_text(
            json.dumps(
                {
                    "all": {
                        **values,
                        "children": {"tenants": {"hosts": {"acme": {}}}, "servers": {"hosts": {"selfhost01": {}}}},
                    }
                }
            )
        )
        rules = self.folder / "rules.yml"
        # The value is no template: what looks like one has to arrive as it is.
        text = json.dumps(variables["selfhost_import_value_rules"]).replace('"{{ here }}"', "!unsafe '{{ here }}'")
        rules.write_text(f"selfhost_import_value_rules: {text}\n")
        done = subprocess.run(
            [
                "unshare", "--mount", "sh", "-c", _IN_ITS_OWN, str(self.folder),
                str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory), f"playbooks/{playbook}.yml",
                "--limit", "acme", "-e", f"@{rules}", *options,
            ],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=280,
            env={
                **os.environ, "PATH": f"{self.folder / 'programs'}:{os.environ['PATH']}", "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0",
                "ANSIBLE_LIBRARY": f"{self.folder / 'library'}:{ROOT / 'library'}", "ANSIBLE_ROLES_PATH": f"{self.folder / 'roles'}:{ROOT / 'roles'}",
            },
        )  # fmt: skip
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    def good(self, playbook: str, *options: str, **changed: object) -> str:
        status, text = self.run(playbook, *options, **changed)
        assert status == 0, text[-6000:]
        return text

    @property
    def state(self) -> str:
        path = self.folder / "acme.gate.conf"
        return str(json.loads(path.read_text())["state"]) if path.exists() else "absent"

    def imports(self) -> list[dict[str, object]]:
        """The reports, oldest first."""
        return [json.loads(path.read_text()) for path in sorted((self.folder / "import/reports").glob("*.json"))]


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    return Kit.make(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def bundle(kit: Kit, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder, root = tmp_path_factory.mktemp("bundle"), tmp_path_factory.mktemp("trees") / "output"
    root.mkdir()
    (root / "report.pdf").write_bytes(b"%PDF imported")
    cluster.execute(
        "postgres", "CREATE DATABASE play_source; CREATE ROLE play_app LOGIN; CREATE ROLE play_report LOGIN"
    )
    cluster.execute(
        "play_source",
        "CREATE TABLE t AS SELECT g AS id, 'cloud ' || g AS a FROM generate_series(1, 100) g; ALTER TABLE t OWNER TO play_app; GRANT SELECT ON t TO play_report",
    )
    kit.run(kit.present(folder, cluster.conninfo("play_source"), [{"name": "output", "path": str(root)}]))
    yield folder / f"{MIGRATION}.tar.zst.age"
    cluster.execute("postgres", "DROP DATABASE play_source WITH (FORCE)")
    cluster.execute("postgres", "DROP ROLE play_app; DROP ROLE play_report")


@pytest.fixture
def play(tmp_path: Path, clean_second: Cluster, kit: Kit, bundle: Path) -> Play:
    clean_second.execute("postgres", "CREATE ROLE play_app LOGIN PASSWORD 'own'")
    return Play(tmp_path, clean_second, kit, bundle)


@pytest.mark.slow  # Molecule scenario selfhost_import does it on a real server
def test_imported_on_a_new_server_then_nothing_to_do_then_back(play: Play) -> None:
    text = play.good("selfhost_status")
    assert "data not of a bundle (absent)" in text and "import none was begun" in text
    text = play.good("selfhost_import", "--tags", "check")
    assert "changed=0" in text
    play.good("selfhost_import", "--check")
    assert play.state == "absent" and not (play.folder / "import" / MIGRATION).exists()
    play.good("selfhost_import", "--tags", "prepare")
    assert play.state == "closed"
    made = "SELECT array_agg(datname::text) FROM pg_database WHERE datname ~ 'irepodb'"
    (aside,) = play.cluster.value("postgres", made)  # type: ignore[misc]
    assert aside.startswith(f"{DATABASE}_import_acme-i-")
    text = play.good("selfhost_import", "--tags", "cut_over", "--check")
    assert "- reason: the cloud's rows: 1 rule: fonts" in text
    assert play.cluster.value(aside, "SELECT a FROM t WHERE id = 1") == "cloud 1"
    assert play.state == "closed"
    play.good("selfhost_import", "--tags", "cut_over")
    assert play.state == "open"
    assert play.cluster.value(DATABASE, "SELECT a FROM t WHERE id = 1") == "{{ here }}"
    assert play.cluster.value(DATABASE, "SELECT count(*) FROM t") == 100
    output = play.folder / "site" / "output"
    assert {path.name: path.read_text() for path in output.iterdir()} == {
        "report.pdf": "%PDF imported", "License.xml": "licence of this server",
    }  # fmt: skip
    (report,) = play.imports()
    assert (report["bundle"], report["differences"], report["verified"]["rows"], report["verified"]["accounts"]) == (
        MIGRATION,
        0,
        100,
        100,
    )  # type: ignore[index]
    assert [(one["rule"], one.get("rows", one.get("files"))) for one in report["rewritten"]] == [
        ("fonts", 1),
        ("licence of this server", 1),
    ]  # type: ignore[attr-defined]
    assert report["roles_without_password"] == ["play_report"]
    (readable,) = (play.folder / "import/reports").glob("*.txt")
    assert "100 rows" in readable.read_text()
    text = play.good("selfhost_import")
    assert "changed=0" in text and len(play.imports()) == 1
    assert f"data {MIGRATION} (own)" in play.good("selfhost_status")
    play.good("selfhost_rollback")
    assert play.state == "closed"
    assert play.cluster.value("postgres", f"SELECT count(*) FROM pg_database WHERE datname = '{DATABASE}'") == 0
    assert (output / "License.xml").exists() and not (output / "report.pdf").exists()
    text = play.good("selfhost_forget", selfhost_import_kept_days=0)
    assert f"{DATABASE}_returned_" in text
    assert {path.name for path in output.parent.iterdir() if not path.name.startswith(".")} == {"output"}


@pytest.mark.slow
def test_what_served_before_serves_again_after_a_failure(play: Play) -> None:
    play.cluster.execute("postgres", f"CREATE DATABASE {DATABASE}")
    play.cluster.execute(DATABASE, "CREATE TABLE own (a int)")
    (play.folder / "acme.gate.conf").write_text(json.dumps({"state": "open"}))
    status, text = play.run("selfhost_import")
    assert status == 2 and "(target-empty)" in text and "Nothing was switched" in text
    assert play.state == "open"
    (play.folder / "smoke fails").touch()
    status, text = play.run("selfhost_import", selfhost_import_replace=True)
    assert status == 2
    assert (
        "The report list is empty (smoke) (Prove | Log in, list, open a report, fetch its PDF). The import was undone: selfhost01 serves what it served before."
        in text
    )
    assert play.state == "open"
    assert play.cluster.value(DATABASE, "SELECT to_regclass('own') IS NOT NULL") is True
    assert play.cluster.value("postgres", f"SELECT count(*) FROM pg_database WHERE datname ~ '{DATABASE}'") == 1
    assert {path.name for path in (play.folder / "site").iterdir() if not path.name.startswith(".")} == {"output"}
    (play.folder / "smoke fails").unlink()
    play.good("selfhost_import", selfhost_import_replace=True)
    assert play.cluster.value(DATABASE, "SELECT count(*) FROM t") == 100
    play.good("selfhost_rollback")
    assert play.state == "open"
    assert play.cluster.value(DATABASE, "SELECT to_regclass('own') IS NOT NULL") is True


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"selfhost_import_bundel": "x"}, "selfhost_import_bundel is no variable of these roles (variables)"),
        ({"selfhost_import_bundle": ""}, "No bundle is named, or two (import-bundle)"),
        ({"selfhost_import_identity_file": "/no/such/file"}, "is missing, or others may read it (import-identity)"),
    ],
)
def test_what_is_refused_at_once(play: Play, changed: dict[str, object], why: str) -> None:
    status, text = play.run("selfhost_import", **changed)
    assert status == 2 and why in text, text[-3000:]
    assert play.state == "absent"
