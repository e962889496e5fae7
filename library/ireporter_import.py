#!/usr/bin/python
# Copyright (c) 2026, i-Reporter migration maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ireporter_import
short_description: An unpacked bundle becomes a tenant's database and file trees, beside what is there, then by renaming
description:
  - Runs on the customer's server. It needs nothing and nobody else.
  - V(restored) restores the database by C(pg_restore) under another name, unpacks the file trees beside the real ones, and holds all of it
    against what the bundle says of itself. Every table's count and exact digest, sequences, large objects, definitions, roles, and every
    file with content, mode, owner, times, links and attributes. What could not be compared has failed.
  - V(rewritten) carries out rules for what must not come along from the cloud. Only what was verified is rewritten, and it is counted.
  - V(swapped) gives the imported database and trees the tenant's names, and what was there the names of what is kept, by renaming only.
  - V(returned) swaps back, V(absent) removes what was only made aside, V(forgotten) removes what is kept for longer than some days.
  - What an import does stands in a journal on the server before it is done. Whenever it is killed, the next run completes it, or
    V(returned) takes it back.
  - A bundle from a newer PostgreSQL or application than this server's, roles, databases or files that are not this tenant's, and owners
    that this server does not know, are refused before anything is touched.
author:
  - i-Reporter migration maintainers (@ireporter-migration)
requirements:
  - psycopg >= 3.1, pg_restore and pg_dump of this server's major version, GNU tar and setpriv
  - PostgreSQL on this server, reached as a superuser
  - root
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
    details:
      - For V(restored) everything is asked that can be refused. For V(rewritten) what the rules would change is counted, unless nothing was
        restored yet.
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
    description: What is wanted. V(read) only looks.
    type: str
    choices: [read, restored, rewritten, swapped, returned, absent, forgotten]
    default: read
  tenant:
    description: Name of the tenant.
    type: str
    required: true
  import_id:
    description: Id of this import, which names what it makes and keeps. C(ireporter_run) gives one.
    type: str
    required: true
  database:
    description:
      - libpq connection string of the tenant's database by the name it is to have, as a superuser. The database need not exist.
      - A password in it is refused.
    type: str
    required: true
  bag:
    description: Folder of the bundle as C(ireporter_bundle) with V(unpacked) made it. Required for V(restored).
    type: path
  file_trees:
    description: Where each file tree of the bundle belongs. Trees that the bundle has not are left alone.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name within the bundle.
        type: str
        required: true
      path:
        description: Absolute path of the folder on this server. It need not exist.
        type: path
        required: true
  known_roles:
    description:
      - Roles of this server that are the tenant's, although no import made them, such as the application's. They keep attributes and password.
    type: list
    elements: str
    default: []
  owners:
    description: Users by their name in the bundle, who are called otherwise on this server.
    type: dict
    default: {}
  groups:
    description: Groups by their name in the bundle, which are called otherwise on this server.
    type: dict
    default: {}
  application_version_file:
    description: File with the version of the application here, which must not be older than the bundle's.
    type: path
  accounts_query:
    description: Statement that counts user accounts, for the figures. Where the bundle says how many there were, another number is a difference.
    type: str
  replace:
    description:
      - Database and file trees of these names are this tenant's own, although no import of this tool made them, for instance those of a new
        installation. They are kept under other names. Without it they are refused, unless they are empty.
    type: bool
    default: false
  jobs:
    description: Sessions that restore, and that compare.
    type: int
    default: 2
  value_rules:
    description:
      - Values that become others. All conditions of O(value_rules[].when) must hold. Triggers do not fire.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What the rule is called in results.
        type: str
        required: true
      reason:
        description: Why this must not come along.
        type: str
        required: true
      schema:
        description: Schema of the table.
        type: str
        default: public
      table:
        description: Table.
        type: str
        required: true
      column:
        description: Column that gets another value.
        type: str
        required: true
      when:
        description: Conditions, each of one comparison.
        type: list
        elements: dict
        default: []
        suboptions:
          column:
            description: Column that is compared.
            type: str
            required: true
          equals:
            description: Is this value.
            type: str
          starts_with:
            description: Begins with this text.
            type: str
          contains:
            description: Has this text in it.
            type: str
          is_null:
            description: Is NULL.
            type: bool
            default: false
          is_not_null:
            description: Is not NULL.
            type: bool
            default: false
      value:
        description: The new value as PostgreSQL reads it. Left out, with O(value_rules[].part) left out too, it is NULL.
        type: str
      part:
        description: Text within the value that becomes O(value_rules[].by), for instance a folder.
        type: str
      by:
        description: What takes the place of O(value_rules[].part).
        type: str
  file_rules:
    description: Files of the trees that become files of this server, or are taken away.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What the rule is called in results.
        type: str
        required: true
      reason:
        description: Why this must not come along.
        type: str
        required: true
      tree:
        description: File tree of the bundle.
        type: str
        required: true
      path:
        description: Path within the tree.
        type: str
        required: true
      source:
        description: File on this server that takes its place, with owner, mode and time; its licence, for instance. Left out, the file is taken away.
        type: path
  kept_days:
    description: With V(forgotten), what was kept longer ago than so many days is removed.
    type: int
    default: 30
  run:
    description: Do the work in a systemd unit of this import, which outlives the connection of the controller.
    type: dict
    suboptions:
      tenant:
        description: Name of the tenant.
        type: str
        required: true
      id:
        description: Id of the import.
        type: str
        required: true
"""

EXAMPLES = r"""
- name: Restore beside what is there, and verify
  ireporter_import:
    state: restored
    tenant: acme
    import_id: acme-i-20260103t000000z
    bag: /srv/import/acme
    database: host=/var/run/postgresql user=postgres dbname=irepodb
    file_trees:
      - {name: output, path: /srv/ireporter/acme/output}
      - {name: settings, path: /srv/ireporter/acme/settings}
    known_roles: [acme_app]
    run: {tenant: acme, id: acme-i-20260103t000000z}

- name: What would the rules change?
  ireporter_import:
    state: rewritten
    tenant: acme
    import_id: acme-i-20260103t000000z
    database: host=/var/run/postgresql user=postgres dbname=irepodb
    value_rules:
      - name: fonts
        reason: paths of the cloud's server
        table: mst_common
        column: item_value
        when: [{column: item_key, equals: FONT_FILE_PATH}]
        part: /srv/cloud/acme
        by: /srv/ireporter/acme
    file_rules:
      - name: licence
        reason: the licence belongs to this server
        tree: settings
        path: xml/License.xml
        source: /srv/ireporter/acme/settings/xml/License.xml
  check_mode: true
"""

RETURN = r"""
phase:
  description: Where the import stands; V(none) where it was not begun.
  returned: success
  type: str
  sample: swapped
import_id:
  description: Its id.
  returned: success
  type: str
bundle:
  description: Migration whose bundle it is.
  returned: when it was begun
  type: str
database:
  description: Name of the tenant's database.
  returned: when it was begun
  type: str
aside:
  description: Name of the imported database until the swap.
  returned: when it was begun
  type: str
before:
  description: Name of the database that was there, V(none) where there was none or nothing was swapped.
  returned: when it was begun
  type: str
returned:
  description: Name of the imported database after it was swapped back.
  returned: when it was begun
  type: str
file_trees:
  description: Each tree's C(name), C(path), and C(before) as RV(before).
  returned: when it was begun
  type: list
  elements: dict
roles:
  description: Roles that this import made, without passwords.
  returned: when it was begun
  type: list
  elements: str
verified:
  description:
    - Figures of the verification, C(tables), C(rows), C(bytes), C(sequences), C(large_objects), C(objects), C(objects_compared), C(entries), C(files),
      C(file_bytes), C(accounts) and C(notes). Empty before it.
    - C(objects_compared) is C(definitions), or C(names) where this server's PostgreSQL has a newer major version, which writes definitions otherwise.
  returned: when it was begun
  type: dict
rewritten:
  description: Per rule its C(rule), C(reason) and C(rows) or C(files) that it changed, or in check mode would change.
  returned: when it was begun, and for V(rewritten)
  type: list
  elements: dict
removed:
  description: Databases and folders that were removed, or in check mode would be.
  returned: V(absent) and V(forgotten)
  type: list
  elements: str
imported:
  description: C(tenant), C(bundle) and C(import_id) of the tenant's present database, V(none) where no import made it.
  returned: success
  type: dict
at:
  description: Instant (UTC) of each phase.
  returned: when it was begun
  type: dict
differences:
  description: The first differences that verification found, each C(kind), C(object), C(source) (the bundle) and C(target).
  returned: failure of the verification
  type: list
  elements: dict
seconds:
  description: Duration.
  returned: success
  type: float
"""

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.ireporter.errors import MigrationError
from ansible.module_utils.ireporter.unit import execute

try:
    from ansible.module_utils.ireporter import bundle_import

    PSYCOPG = True
except ImportError:
    PSYCOPG = False

_LONG = ("restored", "rewritten", "absent", "forgotten")


def main() -> None:
    text = {"type": "str", "required": True}
    module = AnsibleModule(
        argument_spec={
            "state": {
                "type": "str",
                "choices": ["read", "restored", "rewritten", "swapped", "returned", "absent", "forgotten"],
                "default": "read",
            },
            "tenant": text,
            "import_id": text,
            "database": text,
            "bag": {"type": "path"},
            "file_trees": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"name": text, "path": {"type": "path", "required": True}},
            },
            "known_roles": {"type": "list", "elements": "str", "default": []},
            "owners": {"type": "dict", "default": {}},
            "groups": {"type": "dict", "default": {}},
            "application_version_file": {"type": "path"},
            "accounts_query": {"type": "str"},
            "replace": {"type": "bool", "default": False},
            "jobs": {"type": "int", "default": 2},
            "value_rules": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": text,
                    "reason": text,
                    "schema": {"type": "str", "default": "public"},
                    "table": text,
                    "column": text,
                    "when": {
                        "type": "list",
                        "elements": "dict",
                        "default": [],
                        "options": {
                            "column": text,
                            "equals": {"type": "str"},
                            "starts_with": {"type": "str"},
                            "contains": {"type": "str"},
                            "is_null": {"type": "bool", "default": False},
                            "is_not_null": {"type": "bool", "default": False},
                        },
                    },
                    "value": {"type": "str"},
                    "part": {"type": "str"},
                    "by": {"type": "str"},
                },
            },
            "file_rules": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": text,
                    "reason": text,
                    "tree": text,
                    "path": text,
                    "source": {"type": "path"},
                },
            },
            "kept_days": {"type": "int", "default": 30},
            "run": {"type": "dict", "options": {"tenant": text, "id": text}},
        },
        required_if=[("state", "restored", ("bag",))],
        supports_check_mode=True,
    )
    if not PSYCOPG:
        module.fail_json(msg=missing_required_lib("psycopg (version 3.1 or newer)"))
    spec = dict(module.params)
    run = spec.pop("run")
    spec["check"] = module.check_mode
    # Check mode leaves no trace: no unit, no record. What takes a moment needs no unit: its journal outlives everything.
    in_unit = run if spec["state"] in _LONG and not module.check_mode else None
    try:
        result = execute("import", bundle_import.run, spec, run=in_unit)
    except MigrationError as error:
        module.fail_json(msg=str(error), **error.as_result(), **getattr(error, "figures", {}))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
