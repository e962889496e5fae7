"""A server is taken for provisioned only when everything the role manages is as the role left it."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar, trust_as_template

ROLE = Path(__file__).resolve().parents[2] / "roles" / "ireporter_server"
VARIABLES = yaml.safe_load((ROLE / "vars" / "main.yml").read_text(encoding="utf-8"))
DEFAULTS = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text(encoding="utf-8"))
SETTINGS: dict[str, Any] = {
    "ansible_check_mode": False,
    "inventory_hostname": "acme",
    "role_path": str(ROLE),
    "ansible_playbook_python": sys.executable,
    "ireporter_server_host": "dedicated01",
    "ireporter_server_tenant": "acme",
    "ireporter_server_public_name": "acme.example.com",
    "ireporter_server_user": "ireporter-acme",
    "ireporter_server_management_networks": ["192.0.2.0/24"],
    "ireporter_server_source_postgresql_version": 15,
    "ireporter_server_encoding": "UTF8",
    "ireporter_server_locale": "C.UTF-8",
    "ireporter_server_database": "irepodb",
    "ireporter_server_database_role": "acme_app",
    "ireporter_server_password_file": "/etc/ireporter/acme/pgpass",
    "ireporter_server_package": "/packages/app_1_all.deb",
    "ireporter_server_package_checksum": "sha256:" + 64 * "0",
    "ireporter_server_package_name": "app",
    "ireporter_server_application_unit": "app@acme.service",
    "ireporter_server_application_socket": "/run/app/acme.sock",
    "ireporter_server_application_config": [{"destination": "/etc/ireporter/acme/app.json", "content": "{}"}],
    "ireporter_server_licence_file": "/licences/acme.xml",
    "ireporter_server_licence_path": "/srv/ireporter/acme/settings/License.xml",
    "ireporter_server_file_trees": [{"name": "output", "path": "/srv/ireporter/acme/output"}],
    "ireporter_server_certificate_file": "/certificates/acme.crt",
    "ireporter_server_certificate_key_file": "/certificates/acme.key",
    "ireporter_server_webdav": {
        "path": "/dav",
        "directory": "/srv/ireporter/acme/webdav",
        "accounts_path": "/etc/ireporter/acme/webdav",
    },
    "ireporter_server_webdav_accounts_file": "/accounts/acme",
}
# Managed by somebody else after it was made, or looked at in another way.
ELSEWHERE = {
    "{{ ireporter_server_gate_file }}": "ireporter_tenant's",
    "{{ __ireporter_server_site }}": "the link's destination is looked at with the link",
}


@functools.cache
def plugins() -> None:
    """Filters and lookups; Ansible wants to be told once."""
    init_plugin_loader([])


def template(text: Any, **more: Any) -> Any:
    plugins()

    def trusted(value: Any) -> Any:
        if isinstance(value, str):
            return trust_as_template(value)
        if isinstance(value, list):
            return [trusted(member) for member in value]
        if isinstance(value, dict):
            return {name: trusted(member) for name, member in value.items()}
        return value

    variables = {name: trusted(value) for name, value in {**DEFAULTS, **VARIABLES}.items()} | SETTINGS | more
    return Templar(loader=DataLoader(), variables=variables).template(trusted(text))


def tasks(content: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for task in content:
        found += tasks(task["block"]) if "block" in task else [task]
    return found


ALL_TASKS = [
    task
    for name in ("packages", "postgresql", "application", "web", "firewall", "backup")
    for task in tasks(yaml.safe_load((ROLE / "tasks" / f"{name}.yml").read_text(encoding="utf-8")))
]


def written() -> list[tuple[str, str]]:
    """Task and path, for everything that the role's tasks write or create."""
    found = []
    for task in ALL_TASKS:
        for module in ("copy", "template", "file", "get_url", "command"):
            options = task.get(f"ansible.builtin.{module}")
            if options is None:
                continue
            path = options.get("dest") or options.get("path") or options.get("creates")
            if path is None or path in ELSEWHERE:
                continue
            items = template(task["loop"]) if "loop" in task else [None]
            found += [(task["name"], template(path, item=item)) for item in items]
    return found


def test_everything_the_tasks_write_is_looked_at() -> None:
    managed = template(VARIABLES["__ireporter_server_managed"])
    looked_at = {*managed["files"], *managed["existing"]}
    paths = written()
    assert len(paths) > 25
    assert [(task, path) for task, path in paths if path not in looked_at] == []
    assert SETTINGS["ireporter_server_password_file"] in looked_at


def test_every_unit_user_and_package_is_looked_at() -> None:
    managed = template(VARIABLES["__ireporter_server_managed"])
    units = set()
    for task in ALL_TASKS:
        options = task.get("ansible.builtin.systemd_service", {})
        if options.get("state") == "started":
            items = template(task["loop"]) if "loop" in task else [None]
            units |= {template(options["name"], item=item) for item in items}
    assert units == set(managed["units"])
    users = {template(task["ansible.builtin.user"]["name"]) for task in ALL_TASKS if "ansible.builtin.user" in task}
    assert users == set(managed["users"])
    assert set(managed["packages"]) >= {"nginx", "postgresql-15", "nftables"}
    assert (managed["versions"], managed["roles"], managed["locales"]) == (["app"], ["acme_app"], ["C.UTF-8"])


@pytest.mark.parametrize(
    "change",
    [
        {"ireporter_server_public_name": "other.example.com"},
        {"ireporter_server_postgresql_settings": {"work_mem": "1GB"}},
        {"ireporter_server_application_config": [{"destination": "/etc/ireporter/acme/app.json", "content": "[]"}]},
        {"ireporter_server_packages": ["vim"]},
    ],
)
def test_another_setting_is_another_digest(change: dict[str, Any]) -> None:
    digest = template(VARIABLES["__ireporter_server_inputs"])
    assert len(digest) == 64
    assert template(VARIABLES["__ireporter_server_inputs"]) == digest
    assert template(VARIABLES["__ireporter_server_inputs"], **change) != digest


def script(name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, ROLE / "files" / f"{name}.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_digest_of_files_sees_content_names_and_what_is_missing(tmp_path: Path) -> None:
    digest = script("digest_of_files").digest
    folder, file = tmp_path / "folder", tmp_path / "file"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "one").write_text("1")
    seen = [digest([str(folder), str(file)])]
    file.write_text("2")
    seen.append(digest([str(folder), str(file)]))
    file.write_text("3")
    seen.append(digest([str(folder), str(file)]))
    (folder / "deep" / "one").rename(folder / "two")
    seen.append(digest([str(folder), str(file)]))
    assert len(set(seen)) == 4
    (folder / "three.pyc").write_text("no part of a role")
    assert digest([str(folder), str(file)]) == seen[-1]


@pytest.fixture
def managed(tmp_path: Path) -> dict[str, list[str]]:
    (tmp_path / "file").write_text("one")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("file")
    return {
        "packages": ["base-files", "no-such-package"],
        "versions": ["base-files"],
        "locales": ["C.UTF-8"],
        "files": [str(tmp_path / name) for name in ("file", "folder", "link", "gone")],
        "existing": [str(tmp_path / "application")],
        "users": ["root", "no-such-user"],
        "units": [],
        "roles": [],
    }


def differs(tmp_path: Path, managed: dict[str, list[str]], *more: str, inputs: str = "a") -> list[str]:
    """As the role runs it."""
    completed = subprocess.run(
        [
            *(sys.executable, "-", f"--record={tmp_path / 'state' / 'record.json'}", f"--inputs={inputs}"),
            *(f"--managed={json.dumps(managed)}", *more),
        ],
        input=(ROLE / "files" / "provisioned.py").read_text(encoding="utf-8"),
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[str] = json.loads(completed.stdout)["differs"]
    return found


def test_one_that_was_never_provisioned_differs_in_everything(tmp_path: Path, managed: dict[str, list[str]]) -> None:
    found = differs(tmp_path, managed)
    assert found[0] == "settings or role"
    assert str(tmp_path / "file") in found
    assert not (tmp_path / "state").exists(), "a look wrote something"


def test_as_it_was_left_nothing_differs(tmp_path: Path, managed: dict[str, list[str]]) -> None:
    differs(tmp_path, managed, "--write")
    record = tmp_path / "state" / "record.json"
    assert record.stat().st_mode & 0o777 == 0o600
    assert differs(tmp_path, managed) == []
    before = record.stat().st_mtime_ns
    assert differs(tmp_path, managed, "--write") == []
    assert record.stat().st_mtime_ns == before
    assert differs(tmp_path, managed, inputs="b") == ["settings or role"]
    record.write_text("{")
    assert differs(tmp_path, managed)[0] == "settings or role"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("echo two > file", "file"),
        ("chmod 0600 file", "file"),
        ("rm file", "file"),
        ("chmod 0711 folder", "folder"),
        ("rmdir folder", "folder"),
        ("ln -sfn folder link", "link"),
        ("rm link; cp file link", "link"),
        ("touch gone", "gone"),
        ("touch application", "application at all"),
    ],
)
def test_whatever_was_altered_is_named(tmp_path: Path, managed: dict[str, list[str]], change: str, named: str) -> None:
    differs(tmp_path, managed, "--write")
    subprocess.run(["bash", "-c", change], cwd=tmp_path, check=True)
    assert differs(tmp_path, managed) == [str(tmp_path / named)]


@pytest.mark.skipif(os.geteuid() != 0, reason="owners are root's to give")
def test_another_owner_is_named(tmp_path: Path, managed: dict[str, list[str]]) -> None:
    differs(tmp_path, managed, "--write")
    os.chown(tmp_path / "file", 12345, 0)
    assert differs(tmp_path, managed) == [str(tmp_path / "file")]


@pytest.mark.parametrize(
    ("state", "right"),
    [
        ("ActiveState=active UnitFileState=enabled", True),
        ("ActiveState=failed UnitFileState=enabled", False),
        ("", False),
    ],
)
def test_a_unit_that_does_not_run_is_never_taken_for_right(state: str, *, right: bool) -> None:
    found = {"unit nginx.service": state}
    named = script("provisioned").differences({"inputs": "a", "found": found}, "a", found)
    assert named == ([] if right else ["unit nginx.service"])


def test_a_record_of_another_shape_is_none(tmp_path: Path, managed: dict[str, list[str]]) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "record.json").write_text('{"inputs": "a", "found": []}')
    assert differs(tmp_path, managed)[0] == "settings or role"


def test_a_role_that_cannot_be_asked_for_is_never_taken_for_right(
    tmp_path: Path, managed: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = script("provisioned")
    monkeypatch.setattr(module, "ADMIN", f"host={tmp_path} user=postgres dbname=postgres")
    found = module.look({**managed, "roles": ["acme_app"]})
    assert found["role acme_app"] == "unknown"
    assert module.differences({"inputs": "a", "found": found}, "a", found) == ["role acme_app"]
