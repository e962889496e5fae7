#!/usr/bin/python
# Copyright (c) 2026, i-Reporter migration maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ireporter_verification
short_description: Prove that a database, and file trees, are exact copies of others, or name what differs
description:
  - Compares two PostgreSQL databases from one consistent snapshot each, and file trees on two servers.
  - Rows are equal only if their exact representations are. V(-0) and V(0), the numerics V(1.0) and V(1.00),
    the intervals V(1 day) and V(24:00), and white space in JSON are differences. Values swapped between rows are found.
  - Compared are, beside every row of every table and materialised view, sequences, all schema objects and their comments,
    owners and grants, default privileges, extensions' versions, large objects, the roles the database needs with
    attributes, memberships and settings, and the database's own properties and settings.
  - Differences that must exist are a closed list in the code and come back as RV(expected_differences), each with its reason.
    No option extends it.
  - It changes nothing. It fails when anything differs, and when it could not be finished.
author:
  - i-Reporter migration maintainers (@ireporter-migration)
requirements:
  - psycopg >= 3.1
  - pg_dump, of the newer server's major version at least
  - a superuser on both servers
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
    details: It changes nothing anyway.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no
        change.
    support: full
options:
  source:
    description:
      - libpq connection string of the database that is the measure.
      - A password in it is refused. Use a Unix socket, a passfile or a service (with C(dbname) beside it).
    type: str
  target:
    description: libpq connection string of the database to compare with O(source).
    type: str
  scope:
    description:
      - V(all) compares everything.
      - V(structure) compares what stays when users write, that is schema objects, grants, roles, settings, no rows, sequences
        and large objects. Linkage tables and views, which publishing a definition makes, may be more on the target.
    type: str
    choices: [all, structure]
    default: all
  frozen:
    description:
      - Path of the record of the source's freeze on the host this module runs on.
      - The target's connection limit must be the one the source had before the freeze.
    type: path
  file_trees:
    description:
      - Trees to compare. With O(channel) and O(run), a file that C(ireporter_files) remembered (its option C(remember)) and that has the inode,
        size, mtime and ctime it had then on both sides, is not read again.
    type: list
    elements: dict
    suboptions:
      name:
        description: Name for messages.
        type: str
        required: true
      source:
        description: Absolute path on the source.
        type: path
        required: true
      target:
        description: Absolute path on the target.
        type: path
        required: true
      licence_file:
        description: Path within the tree of the licence, which belongs to a server and is expected to differ.
        type: str
  channel:
    description: The way to the other server, as made by the role C(migration_channel). Left out, both trees are on this host.
    type: dict
  direction:
    description: V(push), this host has the source's trees. V(pull), it has the target's.
    type: str
    choices: [push, pull]
    default: push
  jobs:
    description: Sessions per side.
    type: int
    default: 2
  run:
    description: Do the work in a systemd unit of this migration, which outlives the connection of the controller.
    type: dict
    suboptions:
      tenant:
        description: Name of the tenant.
        type: str
        required: true
      id:
        description: Id of the migration.
        type: str
        required: true
"""

EXAMPLES = r"""
- name: Are the two databases equal?
  ireporter_verification:
    source: host=/var/run/postgresql user=postgres dbname=irepodb_acme
    target: host=dedicated01 user=admin dbname=irepodb passfile=/root/.pgpass

- name: Is everything that was copied still there, while users write?
  ireporter_verification:
    source: host=/var/run/postgresql user=postgres dbname=irepodb_acme
    target: host=dedicated01 user=admin dbname=irepodb passfile=/root/.pgpass
    scope: structure
"""

RETURN = r"""
bytes_verified:
  description: Bytes of row representations and files that were read on the source.
  returned: always
  type: int
cannot_detect:
  description: Sentences about what this verification cannot see.
  returned: always
  type: list
  elements: str
differences:
  description:
    - What differs. Empty on success. At most 20 rows are named in each of at most 10 tables.
    - Values of rows are shown for key columns only.
  returned: always
  type: list
  elements: dict
  contains:
    kind:
      description: For instance V(row), V(table data), V(sequence), V(object), V(role setting), V(large object).
      type: str
    object:
      description: Its name.
      type: str
    source:
      description: What the source has, or V(absent).
      type: str
    target:
      description: What the target has, or V(absent).
      type: str
expected_differences:
  description: Differences that must exist, each like one of RV(differences), with C(reason).
  returned: always
  type: list
  elements: dict
files_verified:
  description: Number of files.
  returned: always
  type: int
large_objects_verified:
  description: Number of large objects.
  returned: always
  type: int
objects_verified:
  description: Number of schema objects, grants and comments.
  returned: always
  type: int
roles_verified:
  description: Number of roles.
  returned: always
  type: int
rows_verified:
  description: Number of rows.
  returned: always
  type: int
seconds:
  description: Duration.
  returned: always
  type: float
sequences_verified:
  description: Number of sequences.
  returned: always
  type: int
tables_verified:
  description: Number of tables and materialised views.
  returned: always
  type: int
"""

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.ireporter.errors import MigrationError

try:
    from ansible.module_utils.ireporter import file_known_contents, verification
    from ansible.module_utils.ireporter.database_frozen import connection_limit_before
    from ansible.module_utils.ireporter.unit import execute

    PSYCOPG = True
except ImportError as missing:
    if missing.name != "psycopg":
        raise
    PSYCOPG = False

_SPECIFICATION = ("source", "target", "scope", "file_trees", "channel", "direction", "jobs")


def main() -> None:
    name = {"type": "str", "required": True}
    path = {"type": "path", "required": True}
    module = AnsibleModule(
        argument_spec={
            "source": {"type": "str"},
            "target": {"type": "str"},
            "scope": {"type": "str", "choices": ["all", "structure"], "default": "all"},
            "frozen": {"type": "path"},
            "file_trees": {
                "type": "list",
                "elements": "dict",
                "options": {"name": name, "source": path, "target": path, "licence_file": {"type": "str"}},
            },
            "channel": {"type": "dict"},
            "direction": {"type": "str", "choices": ["push", "pull"], "default": "push"},
            "jobs": {"type": "int", "default": 2},
            "run": {"type": "dict", "options": {"tenant": name, "id": name}},
        },
        required_together=[("source", "target")],
        required_one_of=[("source", "file_trees")],
        supports_check_mode=True,
    )
    if not PSYCOPG:
        module.fail_json(msg=missing_required_lib("psycopg (version 3.1 or newer)"))
    options = module.params
    try:
        spec = {option: options[option] for option in _SPECIFICATION}
        spec["connection_limit"] = connection_limit_before(options["frozen"])
        known = file_known_contents.folder_of(options["run"]) if options["channel"] else None
        spec["known_contents"] = str(known) if known else None
        result = execute("verification", verification.run, spec, run=options["run"])
    except MigrationError as error:
        module.fail_json(msg=str(error), **error.as_result(), **getattr(error, "figures", {}))
    differences = result["differences"]
    if differences:
        first = "; ".join(
            f"{found['kind']} {found['object']} ({found['source']} on the source, {found['target']} on the target)"
            for found in differences[:3]
        )
        module.fail_json(
            msg=f"Source and target differ in {len(differences)} point(s): {first} (verification). "
            "Copy again, or mend the target, then verify again.",
            check="verification",
            action="Copy again, or mend the target, then verify again",
            **result,
        )
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
