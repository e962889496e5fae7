#!/usr/bin/python
# Copyright (c) 2026, i-Reporter migration maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ireporter_picture
short_description: Keep what a frozen tenant has as it is at one instant
description:
  - A picture is a template copy of a tenant's database and a copy of its file trees, on the tenant's own server. It is made inside a freeze;
    afterwards the tenant can serve again, and a bundle is made from the picture.
  - It survives a crash, and locks nothing of the running tenant. Nobody but superusers can enter its database.
  - There is one for each tenant. A timer of the server drops it at its deadline, whoever is watching.
author:
  - i-Reporter migration maintainers (@ireporter-migration)
requirements:
  - psycopg >= 3.1, rsync >= 3.2.3, systemd
  - root
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no
        change.
    support: full
options:
  state:
    description:
      - V(staged) - a first pass of the files, while users work, and everything read on both sides. What remains for the freeze is what changes
        afterwards, to be copied and to be read.
      - V(present) - database and files are there as they were in the freeze of O(run_id), which must hold until all of it is there.
        What is there already is kept.
      - V(absent) - nothing of it is there, or with O(keep_staged) no database.
      - V(read) - nothing changes.
    type: str
    choices: [staged, present, absent, read]
    default: read
  tenant:
    description: Name of the tenant.
    type: str
    required: true
  run_id:
    description:
      - Id of the migration. Required for V(staged) and V(present). For V(read), a picture of another migration does not count.
    type: str
  admin:
    description: libpq connection string, without a password, of a superuser to another database than O(database). Required as O(run_id).
    type: str
  database:
    description: The tenant's database. The picture's has the same name with C(_picture) at its end. Required as O(run_id).
    type: str
  file_trees:
    description: File trees that belong to it. Leave out what is not migrated (R09).
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the tree.
        type: str
        required: true
      path:
        description: Absolute path of the folder.
        type: path
        required: true
  staging:
    description: Folder for the copies of the file trees. Required as O(run_id).
    type: path
  keep_staged:
    description: Leave the copied files for another attempt, until the deadline.
    type: bool
    default: false
  expires_in_seconds:
    description: After this time the server drops the picture by itself. Every call begins it anew.
    type: int
    default: 1209600
"""

EXAMPLES = r"""
- name: Stage | files, by day
  ireporter_picture:
    state: staged
    tenant: acme
    run_id: acme-s-20260101t000000z
    admin: host=/var/run/postgresql user=postgres dbname=postgres
    database: irepodb_acme
    file_trees: [{name: output, path: /srv/ireporter/acme/output}]
    staging: /var/lib/ireporter-export/acme/staged

- name: Picture | in the freeze
  ireporter_picture:
    state: present
    tenant: acme
    run_id: acme-s-20260101t000000z
    admin: host=/var/run/postgresql user=postgres dbname=postgres
    database: irepodb_acme
    file_trees: [{name: output, path: /srv/ireporter/acme/output}]
    staging: /var/lib/ireporter-export/acme/staged
  register: picture

- name: Picture | gone
  ireporter_picture:
    state: absent
    tenant: acme
"""

RETURN = r"""
made:
  description: Whether there is a whole picture (of O(run_id)).
  returned: O(state=present) and O(state=read)
  type: bool
run_id:
  description: In whose freeze it was made.
  returned: as RV(made)
  type: str
database:
  description: Name of its database.
  returned: as RV(made)
  type: str
cut_off:
  description: The instant, UTC. All that was acknowledged before it is in the picture, and nothing later.
  returned: as RV(made)
  type: str
  sample: "2026-01-01T03:00:00Z"
file_trees:
  description: C(name) and C(path) of the copied trees.
  returned: as RV(made)
  type: list
  elements: dict
figures:
  description: C(database_bytes), C(database_seconds), C(files), C(file_bytes), C(files_seconds), C(seconds).
  returned: as RV(made)
  type: dict
files:
  description: Regular files in the trees.
  returned: O(state=staged)
  type: int
bytes:
  description: Their size.
  returned: O(state=staged)
  type: int
"""

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.ireporter.errors import MigrationError
from ansible.module_utils.ireporter.unit import execute

try:
    from ansible.module_utils.ireporter import picture

    PSYCOPG = True
except ImportError:
    PSYCOPG = False

_NEEDED = ("run_id", "admin", "database", "staging")


def main() -> None:
    text = {"type": "str", "required": True}
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["staged", "present", "absent", "read"], "default": "read"},
            "tenant": text,
            "run_id": {"type": "str"},
            "admin": {"type": "str"},
            "database": {"type": "str"},
            "file_trees": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"name": text, "path": {"type": "path", "required": True}},
            },
            "staging": {"type": "path"},
            "keep_staged": {"type": "bool", "default": False},
            "expires_in_seconds": {"type": "int", "default": 1209600},
        },
        required_if=[("state", "staged", _NEEDED), ("state", "present", _NEEDED)],
        supports_check_mode=True,
    )
    if not PSYCOPG:
        if module.check_mode or module.params["state"] == "read":
            # Where the tools are still to be installed there is no picture.
            module.exit_json(changed=module.params["state"] in ("staged", "present"), made=False, cut_off=None)
        module.fail_json(msg=missing_required_lib("psycopg (version 3.1 or newer)"))
    options = dict(module.params)
    long = options["state"] in ("staged", "present") and not module.check_mode
    run = {"tenant": options["tenant"], "id": options["run_id"]} if long else None
    try:
        result = execute("picture", picture.run, {**options, "check": module.check_mode}, run=run)
    except MigrationError as error:
        module.fail_json(msg=str(error), **error.as_result(), **getattr(error, "figures", {}))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
