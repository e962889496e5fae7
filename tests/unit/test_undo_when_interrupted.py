"""The command that Ctrl-C runs: the same way to the servers, never the same tasks."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import yaml

_PLUGIN = Path(__file__).resolve().parents[2] / "plugins" / "callback" / "undo_when_interrupted.py"


@pytest.fixture(scope="module")
def plugin():
    specification = importlib.util.spec_from_file_location("undo_when_interrupted", _PLUGIN)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_way_to_the_servers_is_kept_and_the_choice_of_tasks_is_not(plugin, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/ansible-playbook", "playbooks/shared_to_dedicated.yml"])
    options = {
        "inventory": ("inventories/a", "inventories/b"),
        "subset": "acme",
        "extra_vars": ("@vars.yml", "x=1"),
        "vault_ids": ("night@vault.sh",),
        "ask_vault_pass": True,
        "tags": ["cut_over"],
        "start_at_task": "Copy | Database",
        "verbosity": 2,
    }
    command = plugin.undo_command(Path("/p/shared_to_dedicated.yml"), options, {"acme": "abc"})
    assert command[:3] == [sys.executable, "/usr/bin/ansible-playbook", "/p/rollback.yml"]
    text = " ".join(command)
    for part in (
        "--tags undo",
        "--inventory inventories/a --inventory inventories/b",
        "--limit acme",
        "--extra-vars @vars.yml --extra-vars x=1",
        "--vault-id night@vault.sh",
        "--ask-vault-password",
        "-vv",
    ):
        assert part in text
    assert "cut_over" not in text
    assert "start" not in text
    assert json.loads(command[-1]) == {"shared_to_dedicated_interrupted_sessions": {"acme": "abc"}}


def test_each_kind_of_migration_is_undone_as_such(plugin, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/ansible-playbook", "playbooks/cloud_export.yml"])
    command = plugin.undo_command(Path("/p/cloud_export.yml"), {"subset": "bravo"}, {"bravo": "abc"})
    assert command[2] == "/p/rollback.yml"
    assert json.loads(command[-1]) == {"cloud_export_interrupted_sessions": {"bravo": "abc"}}


@pytest.mark.parametrize("how", ["recap", "nothing begun", "child"])
def test_nothing_is_undone_after_a_recap_before_a_begin_or_in_a_child(plugin, monkeypatch, how: str) -> None:
    monkeypatch.setattr(plugin.subprocess, "run", lambda *_a, **_k: pytest.fail("it undid"))
    callback = plugin.CallbackModule()
    if how != "nothing begun":
        callback._sessions["acme"] = "abc"
    if how == "recap":
        callback.v2_playbook_on_stats(None)
    callback._undo(Path("/p/shared_to_dedicated.yml"), plugin.os.getpid() + (how == "child"))


def test_a_playbook_that_chooses_its_role_shows_it_to_the_roles_that_one_includes() -> None:
    """Without ``public``, the defaults of the role's dependencies are unknown there (seen: the name was not restored)."""
    chosen = [
        task["ansible.builtin.include_role"]
        for path in (_PLUGIN.parents[2] / "playbooks").glob("*.yml")
        for play in yaml.safe_load(path.read_text(encoding="utf-8"))
        for task in play.get("tasks", [])
        if "ansible.builtin.include_role" in task
    ]
    assert len(chosen) == 4
    assert all(role.get("public") for role in chosen)
