# Copyright: i-Reporter migration maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ctrl-C undoes: Ansible ends without running any rescue, so this runs the playbook that does."""

from __future__ import annotations

DOCUMENTATION = """
name: undo_when_interrupted
type: aggregate
short_description: Undoes a migration that Ctrl-C interrupted
description:
  - When C(playbooks/shared_to_dedicated.yml) or C(playbooks/cloud_export.yml) ends without its recap (Ctrl-C), C(playbooks/rollback.yml) runs for the
    same tenants with C(--tags undo).
  - That reopens the source of a tenant whose target was not opened yet, or whose picture was not made, and touches no other.
  - It is a convenience for the operator who is present. What holds without anybody is the lease of the freeze.
author:
  - i-Reporter migration maintainers (@ireporter-migration)
requirements:
  - enable in C(ansible.cfg) with C(callbacks_enabled)
"""

import atexit
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible import context
from ansible.plugins.callback import CallbackBase

# Playbooks named like their roles; the session of a run is a fact of its role.
_INTERRUPTIBLE = ("cloud_export", "shared_to_dedicated")
# Options of ansible-playbook that decide how servers are reached and secrets are read; those that choose tasks are left out on purpose.
_SINGLE = {
    "remote_user": "--user",
    "private_key_file": "--private-key",
    "connection": "--connection",
    "ssh_common_args": "--ssh-common-args",
    "ssh_extra_args": "--ssh-extra-args",
    "become_method": "--become-method",
    "become_password_file": "--become-password-file",
    "connection_password_file": "--connection-password-file",
    "subset": "--limit",
}
_REPEATED = {
    "inventory": "--inventory",
    "extra_vars": "--extra-vars",
    "vault_ids": "--vault-id",
    "vault_password_files": "--vault-password-file",
}
_FLAGS = {
    "ask_vault_pass": "--ask-vault-password",
    "ask_pass": "--ask-pass",
    "become_ask_pass": "--ask-become-pass",
}


def undo_command(playbook: Path, options: Mapping[str, Any], sessions: Mapping[str, str]) -> list[str]:
    """The ``ansible-playbook`` that undoes, with the interrupted one's way to the servers.

    :param playbook: the one that was interrupted.
    :param options: Ansible's parsed command line.
    :param sessions: by tenant, the session that holds its lock.
    """
    command = [sys.executable, sys.argv[0], str(playbook.parent / "rollback.yml"), "--tags", "undo"]
    for name, option in _SINGLE.items():
        if options.get(name):
            command += [option, str(options[name])]
    for name, option in _REPEATED.items():
        values: Sequence[str] = options.get(name) or ()
        for value in values:
            command += [option, str(value)]
    command += [option for name, option in _FLAGS.items() if options.get(name)]
    if options.get("verbosity"):
        command.append("-" + "v" * int(options["verbosity"]))
    return [*command, "--extra-vars", json.dumps({f"{playbook.stem}_interrupted_sessions": dict(sessions)})]


class CallbackModule(CallbackBase):
    """Waits for the end of the run."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "undo_when_interrupted"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._sessions: dict[str, str] = {}
        self._ended = False

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Called once, in the process that also ends the run."""
        path = Path(playbook._file_name).resolve()
        if path.stem in _INTERRUPTIBLE and not context.CLIARGS.get("check"):
            atexit.register(self._undo, path, os.getpid())

    def v2_runner_on_ok(self, result: Any) -> None:
        """Remember whose lock it would be."""
        facts = result.result.get("ansible_facts") or {}
        for role in _INTERRUPTIBLE:
            session = facts.get(f"__{role}_session")
            if session is not None:
                self._sessions[result.host.get_name()] = str(session)

    def v2_playbook_on_stats(self, stats: Any) -> None:  # noqa: ARG002
        """The recap: whatever had to be undone was undone by the playbook itself."""
        self._ended = True

    def _undo(self, playbook: Path, process: int) -> None:
        if self._ended or not self._sessions or os.getpid() != process:
            return
        self._display.display(
            "\nInterrupted. Undoing now what did not open yet; another Ctrl-C leaves that to the lease on the source.",
            stderr=True,
        )
        command = undo_command(playbook, context.CLIARGS, self._sessions)
        # ansible-core keeps its standard streams from its children unless they are named.
        status = subprocess.run(command, stdin=0, stdout=1, stderr=2, check=False).returncode
        if status != 0:
            self._display.error(
                f"The undoing exited {status}. Ask playbooks/status.yml where the tenant serves; a frozen source reopens when its lease ends."
            )
