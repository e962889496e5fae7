#!/usr/bin/python
# Copyright (c) 2026, i-Reporter migration maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ireporter_database
short_description: Make a PostgreSQL database an exact copy of another one
description:
  - Copies a whole database from one server to another (or beside itself on the same one), with everything that belongs
    to it, that is schema, rows, large objects, sequences, owners, grants, comments, settings, and the roles it needs.
  - Rows stream from one consistent snapshot into bare tables, several streams at a time, and are stored nowhere in between.
    Indexes, constraints and triggers follow when the rows are there. Statistics are made last.
  - A role missing on the target is made there, with its attributes, memberships, settings and password verifier.
    A role that has a password on the target keeps it.
  - >-
    Data that is not this project's copy of O(source) is never touched. Until it is complete, the target database
    carries the comment C(ireporter-migration: incomplete copy), and the next run starts it over. A complete copy
    carries the database setting C(ireporter_migration.copy_of), which names its source.
  - >-
    What cannot be copied is named before anything is touched on the target. C(docs/verification.md) lists what is refused.
  - Tablespaces are ignored, RV(notes) says so where it matters. Foreign tables come along, the data behind them does not.
author:
  - i-Reporter migration maintainers (@ireporter-migration)
requirements:
  - psycopg >= 3.1
  - psql, pg_dump and pg_restore, of the target's major version at least
  - a superuser on both servers
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
    details: All checks are made, and a complete copy is compared with its source.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no
        change.
    support: full
    details: The second run proves by exact digests that both databases are equal.
options:
  source:
    description:
      - libpq connection string of the database to copy.
      - A password in it is refused. Use a Unix socket, a passfile or a service (with C(dbname) beside it).
    type: str
    required: true
  target:
    description:
      - libpq connection string of the database to make. It need not exist.
      - The database C(postgres) of the same server is used to make it.
    type: str
    required: true
  state:
    description: V(copied) is the only state.
    type: str
    choices: [copied]
    default: copied
  replace:
    description:
      - Whether a complete copy of O(source) which differs from it now is dropped and made anew.
      - Make sure that nobody uses the target. What was written there since the copy is lost.
      - Foreign data is never replaced.
    type: bool
    default: false
  keep_role_passwords:
    description: Roles whose password never leaves the source. On the target they keep theirs, or get none.
    type: list
    elements: str
    default: []
  frozen:
    description:
      - Path of the record of a freeze on the host this module runs on.
      - The target gets the connection limit the source had before the freeze.
    type: path
  jobs:
    description: How many streams of rows, and how many index builds, run at a time.
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
- name: Copy a database to another server
  ireporter_database:
    source: host=/var/run/postgresql user=postgres dbname=irepodb_acme
    target: host=dedicated01 user=admin dbname=irepodb passfile=/root/.pgpass
    state: copied

- name: Copy it beside itself
  ireporter_database:
    source: host=/var/run/postgresql user=postgres dbname=irepodb_acme
    target: host=/var/run/postgresql user=postgres dbname=irepodb_acme_copy
"""

RETURN = r"""
bytes:
  description: Size of the tables copied, on the source, without indexes. 0 where nothing was copied.
  returned: success
  type: int
large_objects:
  description: Number of large objects.
  returned: success
  type: int
notes:
  description: Sentences about what was left behind on purpose.
  returned: success
  type: list
  elements: str
parts:
  description: Seconds by stage, which are V(schema), V(data), V(large_objects), V(post_data), V(statistics).
  returned: success
  type: dict
roles_changed:
  description: Roles that existed on the target and were brought in line.
  returned: success
  type: list
  elements: str
roles_created:
  description: Roles made on the target.
  returned: success
  type: list
  elements: str
rows:
  description: Rows copied, or compared where the copy was there already. 0 in check mode.
  returned: success
  type: int
seconds:
  description: Duration.
  returned: success
  type: float
sequences:
  description: Number of sequences.
  returned: success
  type: int
tables:
  description: Number of tables and materialised views.
  returned: success
  type: int
target_before:
  description: What the target was, V(absent), V(empty), V(incomplete) or V(copy).
  returned: success
  type: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.ireporter.errors import MigrationError

try:
    from ansible.module_utils.ireporter import database_copy
    from ansible.module_utils.ireporter.database_frozen import connection_limit_before
    from ansible.module_utils.ireporter.unit import execute
    from psycopg.conninfo import conninfo_to_dict

    PSYCOPG = True
except ImportError as missing:
    if missing.name != "psycopg":
        raise
    PSYCOPG = False


def way_exists(conninfo: str) -> bool:
    """False where ``host`` is the folder of a Unix socket and that folder is not there."""
    host = str(conninfo_to_dict(conninfo).get("host") or "")
    return not host.startswith("/") or Path(host).is_dir()


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "source": {"type": "str", "required": True},
            "target": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["copied"], "default": "copied"},
            "replace": {"type": "bool", "default": False},
            "keep_role_passwords": {"type": "list", "elements": "str", "default": [], "no_log": False},
            "frozen": {"type": "path"},
            "jobs": {"type": "int", "default": 2},
            "run": {
                "type": "dict",
                "options": {"tenant": {"type": "str", "required": True}, "id": {"type": "str", "required": True}},
            },
        },
        supports_check_mode=True,
    )
    if not PSYCOPG:
        module.fail_json(msg=missing_required_lib("psycopg (version 3.1 or newer)"))
    options = module.params
    if module.check_mode and not way_exists(options["target"]):
        # Check mode opens no channel, so the target cannot be looked at.
        module.warn("The way to the target is not open: that the whole database would be copied is assumed.")
        module.exit_json(changed=True)
    try:
        spec = {name: options[name] for name in ("source", "target", "replace", "keep_role_passwords", "jobs")}
        spec["connection_limit"] = connection_limit_before(options["frozen"])
        spec["check_mode"] = module.check_mode
        result = execute("database", database_copy.run, spec, run=None if module.check_mode else options["run"])
    except MigrationError as error:
        module.fail_json(msg=str(error), **error.as_result(), **getattr(error, "figures", {}))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
