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
  - With O(sftp), copies them from a server that offers SFTP only (a Windows server with OpenSSH) to the host this runs on, with names
    as bytes, types, content, symbolic links as they are, modes, and times in seconds. What SFTP cannot carry is listed in RV(not_proven).
    Several files are read at a time. A copy that ended in the middle of a file is resumed by the next call.
  - What is not in the source is deleted from the target. A target that holds files and is not known to be a copy is refused.
    A file C(.NAME.ireporter-migration) beside the target remembers whose copy it is.
  - The first pass and the last are the same call. With O(final), both sides are compared afterwards by everything
    including SHA-256 of every file; what rsync's quick check cannot see is mended and compared again. With O(sftp) that means all
    that SFTP tells, and SHA-256 of every file, read from the source to its end.
author:
  - i-Reporter migration maintainers (@ireporter-migration)
requirements:
  - rsync >= 3.2.3 on both sides; not with O(sftp)
  - python3-paramiko >= 2.12 on this host, with O(sftp)
  - root, wherever files have several owners
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
    details:
      - rsync makes a dry run, O(sftp) lists both sides and opens no file. What only the comparison of O(final) would find is not foretold.
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
        description:
          - Absolute path of the folder to copy. Nothing else may be mounted inside it.
          - With O(sftp), as the SFTP account sees it, for instance V(/) in a chroot or V(/C:/ireporter/output) on Windows.
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
  sftp:
    description:
      - The server that holds the sources, where it offers SFTP only. The targets are on this host.
      - Login is by key only; neither an agent nor a password is tried. The server's host key must be known.
    type: dict
    suboptions:
      host:
        description: Its name or address, as it stands in O(sftp.known_hosts_file).
        type: str
        required: true
      port:
        description: Its SSH port. Another than 22 stands in O(sftp.known_hosts_file) as C([host]:port).
        type: int
        default: 22
      user:
        description: The account.
        type: str
        required: true
      key_file:
        description: Private key on this host, without a passphrase, readable by its owner only.
        type: path
        required: true
      known_hosts_file:
        description: File on this host with the server's key in the form of OpenSSH's C(known_hosts), without C(@) lines.
        type: path
        required: true
      channels:
        description: How many files are read at a time, each on an SSH channel of its own, from 1 to 8. One more channel lists folders.
        type: int
        default: 4
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
  remember:
    description:
      - Whether to compare after a copy that is not the last one, too, and to remember which files are the same, with inode, size, mtime and
        ctime on both sides. With O(final), and when C(ireporter_verification) compares, a file that still has them is not read again.
      - What is remembered lasts as long as the migration O(run), and needs O(channel). With O(direction=pull) everything is read nevertheless.
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

- name: Copy from a Windows server that offers SFTP only, to the server this task runs on
  ireporter_files:
    file_trees:
      - {name: output, source: "/C:/ireporter/output", target: /srv/ireporter/acme/output}
    sftp:
      host: windows.example.com
      user: acme-export
      key_file: /root/acme-sftp/key
      known_hosts_file: /root/acme-sftp/known_hosts
    run: {tenant: acme, id: acme-d-20261123t120000z}
  become: true
  register: acme_files

- name: What that copy does not prove
  ansible.builtin.debug:
    var: acme_files.not_proven

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
  description: Bytes that rsync sent (received, when O(direction=pull)); with O(sftp), bytes of content read from the source.
  returned: success
  type: int
seconds:
  description: How long it took.
  returned: success
  type: float
items:
  description:
    - How many items rsync changed, by the first two letters of its C(--itemize-changes), and how many it C(deleted).
    - With O(sftp), how many files were C(copied), C(links) and C(folders) made, modes or times put right (C(attributes)), and how many
      items C(deleted), where a folder with all that is in it counts as one.
  returned: success
  type: dict
not_proven:
  description: One sentence for each property that SFTP cannot carry or that this pass did not compare.
  returned: success with O(sftp)
  type: list
  elements: str
  sample:
    - "access control lists: SFTP version 3 has none"
resumed:
  description:
    - Files that went on from where an earlier copy had ended. Size and time of the source were the same, what lay on the disk had
      the SHA-256 it was read with, and the last block (of 4 MiB; when O(final), every block) was read from the source again.
  returned: success with O(sftp)
  type: int
bytes_resumed:
  description: How much of them an earlier copy had left.
  returned: success with O(sftp)
  type: int
files_changed_meanwhile:
  description: Files that vanished or could not be read whole because somebody changed them. Always 0 when O(final).
  returned: success
  type: int
repaired:
  description: Differences that the quick check by size and time had not seen and that were mended.
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
  returned: failure by check C(files-differ), without O(sftp)
  type: list
  elements: dict
differences_total:
  description: How many there are.
  returned: failure by check C(files-differ), without O(sftp)
  type: int
refused:
  description: The first 1,000 items of the source that cannot be copied by SFTP, as C(tree), C(path) and C(reason). All else is copied.
  returned: failure by check C(files-refused)
  type: list
  elements: dict
refused_total:
  description: How many there are.
  returned: failure by check C(files-refused)
  type: int
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.ireporter import file_copy, file_known_contents
from ansible.module_utils.ireporter.errors import MigrationError
from ansible.module_utils.ireporter.unit import execute


def main() -> None:
    text = {"type": "str", "required": True}
    path = {"type": "path", "required": True}
    tree = {"name": text, "source": path, "target": path, "licence_file": {"type": "str"}}
    channel = {"id": text, "directory": path, "host": {"type": "str"}, "port": {"type": "int"}, "user": {"type": "str"}}
    sftp = {
        "host": text,
        "port": {"type": "int", "default": 22},
        "user": text,
        # Paths, not secrets: what is in the file never leaves it.
        "key_file": {**path, "no_log": False},
        "known_hosts_file": path,
        "channels": {"type": "int", "default": 4},
    }
    module = AnsibleModule(
        argument_spec={
            "file_trees": {"type": "list", "elements": "dict", "required": True, "options": tree},
            "state": {"type": "str", "choices": ["copied"], "default": "copied"},
            "channel": {"type": "dict", "options": channel},
            "sftp": {"type": "dict", "options": sftp},
            "direction": {"type": "str", "choices": ["push", "pull"], "default": "push"},
            "final": {"type": "bool", "default": False},
            "remember": {"type": "bool", "default": False},
            "replace": {"type": "bool", "default": False},
            "run": {"type": "dict", "options": {"tenant": text, "id": text}},
        },
        required_if=[("direction", "pull", ["channel"]), ("remember", True, ["channel", "run"])],
        mutually_exclusive=[("channel", "sftp")],
        supports_check_mode=True,
    )
    options = module.params
    run = options["run"]
    if module.check_mode and options["channel"] and not Path(options["channel"]["directory"]).exists():
        # Check mode opens no channel, so the target cannot be looked at.
        module.warn("The channel to the target is not open: that all files would be copied is assumed.")
        module.exit_json(changed=True)
    if module.check_mode and options["sftp"]:
        missing = [options["sftp"][name] for name in ("key_file", "known_hosts_file")]
        missing = [path for path in missing if not Path(path).exists()]
        if missing:
            # Check mode puts no keys here, so the source cannot be looked at.
            module.warn(f"{' and '.join(missing)} would be put here first: that all files would be copied is assumed.")
            module.exit_json(changed=True)
    spec = {
        name: options[name] for name in ("file_trees", "channel", "sftp", "direction", "final", "remember", "replace")
    }
    known = file_known_contents.folder_of(run) if options["channel"] else None
    spec |= {
        "check": module.check_mode,
        "owner": run["tenant"] if run else None,
        "known_contents": str(known) if known else None,
    }
    try:
        # A dry run is short and leaves no trace: no unit, no record.
        result = execute("files", file_copy.run, spec, run=None if module.check_mode else run)
    except MigrationError as error:
        module.fail_json(msg=str(error), **error.as_result(), **getattr(error, "figures", {}))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
