#!/usr/bin/python
# Copyright (c) 2026, i-Reporter migration maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ireporter_files
short_description: Make file trees exact copies of others
description:
  - Copies file trees with rsync, on this host or through a migration's channel to or from another one, with names as
    bytes, types, modes, owners by name, times to the nanosecond, symbolic links as they are, hard links within a tree,
    holes, extended attributes and ACLs.
  - What is not in the source is deleted from the target. A target that holds files and is not known to be a copy is refused.
    A file C(.NAME.ireporter-migration) beside the target remembers whose copy it is.
  - The first pass and the last are the same call. With O(final), both sides are compared afterwards by everything
    including SHA-256 of every file; what rsync's quick check cannot see is mended and compared again.
author:
  - i-Reporter migration maintainers (@ireporter-migration)
requirements:
  - rsync >= 3.2.3 on both sides
  - root, wherever files have several owners
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
    details: rsync makes a dry run. What only the comparison of O(final) would find is not foretold.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no
        change.
    support: full
options:
  file_trees:
    description: The trees to copy.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the tree, for messages and figures.
        type: str
        required: true
      source:
        description: Absolute path of the folder to copy. Nothing else may be mounted inside it.
        type: path
        required: true
      target:
        description: Absolute path of the folder that becomes its copy.
        type: path
        required: true
      licence_file:
        description: Path relative to the tree of the server's own licence, the only file that is neither copied nor deleted.
        type: str
  state:
    description: V(copied) is the only state.
    type: str
    choices: [copied]
    default: copied
  channel:
    description: The channel that role C(migration_channel) opened. Without it, both sides are on this host.
    type: dict
    suboptions:
      id:
        description: The migration's id.
        type: str
        required: true
      directory:
        description: Where the channel's keys are on this host.
        type: path
        required: true
      host:
        description: The other server; for messages only.
        type: str
      port:
        description: The other server's port; for messages only.
        type: int
      user:
        description: The user there; for messages only.
        type: str
  direction:
    description:
      - With V(push) the targets are on the other side of O(channel), with V(pull) the sources are.
    type: str
    choices: [push, pull]
    default: push
  final:
    description:
      - Whether the copy must be exact when this ends. Nobody may write to the source meanwhile.
      - Otherwise files that vanish or change while they are copied are tolerated and counted.
    type: bool
    default: false
  replace:
    description: Whether a target on this host may hold data that is no copy of ours. All that is not in the source is deleted from it.
    type: bool
    default: false
  run:
    description: The migration whose systemd unit does the work. Without it, the module does it itself.
    type: dict
    suboptions:
      tenant:
        description: Name of the tenant.
        type: str
        required: true
      id:
        description: The migration's id.
        type: str
        required: true
"""

EXAMPLES = r"""
- name: First pass by day, users go on working
  ireporter_files:
    file_trees:
      - {name: output, source: /srv/ireporter/acme/output, target: /srv/ireporter/acme/output}
      - name: settings
        source: /srv/ireporter/acme/settings
        target: /srv/ireporter/acme/settings
        licence_file: xml/License.xml
    channel: "{{ migration_channel }}"
    run: {tenant: acme, id: acme-d-20261123t120000z}
  become: true

- name: Copy a folder beside itself and prove that the copy is exact
  ireporter_files:
    file_trees: [{name: output, source: /srv/output, target: /srv/output.copy}]
    final: true
  become: true
"""

RETURN = r"""
files:
  description: Regular files in the source.
  returned: success
  type: int
bytes:
  description: Their size together.
  returned: success
  type: int
bytes_sent:
  description: Bytes that rsync sent (received, when O(direction=pull)).
  returned: success
  type: int
seconds:
  description: How long it took.
  returned: success
  type: float
items:
  description: How many items rsync changed, by the first two letters of its C(--itemize-changes), and how many it C(deleted).
  returned: success
  type: dict
files_changed_meanwhile:
  description: Files that vanished or could not be read whole because somebody changed them. Always 0 when O(final).
  returned: success
  type: int
repaired:
  description: Differences that rsync's quick check had not seen and that were mended.
  returned: success
  type: int
files_verified:
  description: Files compared by content and everything else.
  returned: when O(final) and not in check mode
  type: int
bytes_verified:
  description: Their size together.
  returned: when O(final) and not in check mode
  type: int
expected_differences:
  description: Differences that must be there, as C(kind), C(object), C(source), C(target) and C(reason).
  returned: when O(final) and not in check mode
  type: list
  elements: dict
differences:
  description: The first 1,000 differences that could not be mended, as C(kind), C(object), C(source) and C(target).
  returned: failure by check C(files-differ)
  type: list
  elements: dict
differences_total:
  description: How many there are.
  returned: failure by check C(files-differ)
  type: int
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.ireporter import file_copy
from ansible.module_utils.ireporter.errors import MigrationError
from ansible.module_utils.ireporter.unit import execute


def main() -> None:
    text = {"type": "str", "required": True}
    path = {"type": "path", "required": True}
    tree = {"name": text, "source": path, "target": path, "licence_file": {"type": "str"}}
    channel = {"id": text, "directory": path, "host": {"type": "str"}, "port": {"type": "int"}, "user": {"type": "str"}}
    module = AnsibleModule(
        argument_spec={
            "file_trees": {"type": "list", "elements": "dict", "required": True, "options": tree},
            "state": {"type": "str", "choices": ["copied"], "default": "copied"},
            "channel": {"type": "dict", "options": channel},
            "direction": {"type": "str", "choices": ["push", "pull"], "default": "push"},
            "final": {"type": "bool", "default": False},
            "replace": {"type": "bool", "default": False},
            "run": {"type": "dict", "options": {"tenant": text, "id": text}},
        },
        required_if=[("direction", "pull", ["channel"])],
        supports_check_mode=True,
    )
    options = module.params
    run = options["run"]
    if module.check_mode and options["channel"] and not Path(options["channel"]["directory"]).exists():
        # Check mode opens no channel, so the target cannot be looked at.
        module.warn("The channel to the target is not open: that all files would be copied is assumed.")
        module.exit_json(changed=True)
    spec = {name: options[name] for name in ("file_trees", "channel", "direction", "final", "replace")}
    spec |= {"check": module.check_mode, "owner": run["tenant"] if run else None}
    try:
        # A dry run is short and leaves no trace: no unit, no record.
        result = execute("files", file_copy.run, spec, run=None if module.check_mode else run)
    except MigrationError as error:
        module.fail_json(msg=str(error), **error.as_result(), **getattr(error, "figures", {}))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
