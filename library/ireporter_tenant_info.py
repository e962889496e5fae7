#!/usr/bin/python
# Copyright: i-Reporter migration maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: facts about a tenant on its server."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ireporter_tenant_info
short_description: What an i-Reporter tenant is on its server, its sizes, and what stands in the way of a freeze
description:
  - Reads only. A tenant or database that does not exist is state C(absent), not an error.
  - No password or other secret is in the result.
author:
  - i-Reporter migration maintainers (@ireporter-migration)
requirements:
  - systemd, nginx, PostgreSQL 13 or later and python3-psycopg 3.1 or later on the server
  - Root privileges
options:
  tenant:
    description:
      - The tenant as it is on this server.
    type: dict
    required: true
    suboptions:
      name:
        description: Name of the tenant, a small letter followed by small letters, digits and hyphens.
        type: str
        required: true
      suffix:
        description: Suffix of the tenant's web applications, such as C(ACME) in C(ConMasAPIACME).
        type: str
        required: true
      public_name:
        description: Host name of the tenant's virtual host.
        type: str
        required: true
      database:
        description: Name of the tenant's database on this server.
        type: str
        required: true
      database_admin:
        description: libpq connection string of a superuser, outside the tenant's database. A password in it is refused.
        type: str
        required: true
      database_probes:
        description:
          - The tenant's own ways into its database. The database name is added.
          - A probe's statement must succeed (it is rolled back) while the tenant is open, and fail while it is frozen.
        type: list
        elements: dict
        required: true
        suboptions:
          name:
            description: What the probe is called in results, such as C(application).
            type: str
            required: true
          conninfo:
            description: libpq connection string as this role. A password in it is refused, use C(passfile=) or C(service=).
            type: str
            required: true
          statement:
            description: SQL statement to try.
            type: str
            required: true
      web:
        description: The tenant's virtual host.
        type: dict
        required: true
        suboptions:
          gate_file:
            description: Where the gate is put; the tenant's own nginx server block includes C(<tenant>.gate*.conf) of this folder.
            type: path
            required: true
          reload:
            description: Command that makes nginx read its configuration again.
            type: list
            elements: str
            default: [systemctl, reload, nginx]
          test:
            description: Command that tests nginx's configuration before every reload.
            type: list
            elements: str
            default: [nginx, -t]
          dump:
            description: Command that prints nginx's configuration.
            type: list
            elements: str
            default: [nginx, -T]
          address:
            description: Address that requests are sent to; name and TLS name are O(tenant.public_name).
            type: str
            default: 127.0.0.1
          port:
            description: Port for HTTPS.
            type: int
            default: 443
          ca_file:
            description: Certificates that are trusted.
            type: path
            default: /etc/ssl/certs/ca-certificates.crt
          login:
            description: Account for the HTTP write probe (API Login writes a row of the login history). Without it the probe is C(GET /).
            type: dict
            suboptions:
              user:
                description: Name of the account.
                type: str
                required: true
              password:
                description: Its password.
                type: str
                required: true
          api_path:
            description: Path of the public API; C(/ConMasAPI<suffix>/Rests/APIExecute.aspx) when left out.
            type: str
          webdav_path:
            description: Path of the WebDAV storage. The probe stores and deletes a file with a unique name there.
            type: str
          webdav_login:
            description: Account for WebDAV; O(tenant.web.login) when left out.
            type: dict
            suboptions:
              user:
                description: Name of the account.
                type: str
                required: true
              password:
                description: Its password.
                type: str
                required: true
          retry_after_seconds:
            description: Value of C(Retry-After) on the maintenance page.
            type: int
            default: 300
      application:
        description: The tenant's application.
        type: dict
        required: true
        suboptions:
          unit:
            description: Its systemd unit.
            type: str
            required: true
          socket:
            description: Unix socket on which it serves; requests in flight are counted there.
            type: path
      scheduled_units:
        description: Timers and services that write without being asked; stopped while frozen or closed.
        type: list
        elements: str
        default: []
      silence_monitoring:
        description: Command called before the freeze.
        type: list
        elements: str
        default: []
      resume_monitoring:
        description: Command called after the tenant was reopened.
        type: list
        elements: str
        default: []
      file_trees:
        description: The tenant's file trees.
        type: list
        elements: dict
        required: true
        suboptions:
          name:
            description: What the tree is called.
            type: str
            required: true
          path:
            description: Its folder.
            type: path
            required: true
          write_as:
            description: OS user who writes there.
            type: str
            default: root
          write_in:
            description: Folder below O(tenant.file_trees[].path) where that user may write, when not in the root of the tree.
            type: str
            default: ""
      licence_file:
        description: The server's licence, which never moves.
        type: dict
        suboptions:
          tree:
            description: File tree that holds it.
            type: str
            required: true
          path:
            description: Path below that tree.
            type: str
            required: true
      accounts_query:
        description: SQL query that counts the tenant's accounts.
        type: str
      application_version_file:
        description: File that holds the application's version.
        type: path
      moved_patterns:
        description: Further texts to look for in the database that would still point at the old server.
        type: list
        elements: str
        default: []
  scan:
    description:
      - V(all) - everything.
      - V(quick) - state, lease and server only.
    type: str
    choices: [all, quick]
    default: all
  path_scan_rows:
    description: So many rows of each table at most are searched for texts that point at the old server.
    type: int
    default: 200000
  table_groups:
    description:
      - Groups of tables by which RV(database)'s size is told, each a list of patterns of table names (C(*), C(?), C([...])); the first
        that fits counts.
      - Left out, they are C(definition), C(report), C(linkage), C(master) and C(log), by the public names of i-Reporter's tables.
    type: dict
  disks:
    description:
      - Further folders whose free room is told in RV(server), by what they are for, such as C(export). They need not exist yet.
    type: dict
    default: {}
attributes:
  check_mode:
    description: Reads only.
    support: full
  diff_mode:
    description: Nothing changes.
    support: none
  idempotent:
    description: Reads only. The probes it makes are rolled back.
    support: full
"""

EXAMPLES = r"""
- name: What acme is on the shared server
  ireporter_tenant_info:
    tenant: "{{ ireporter_tenant_source }}"
  delegate_to: shared01
  become: true
  register: source
"""

RETURN = r"""
state:
  description: C(open), C(frozen), C(closed), C(partial) or C(absent).
  returned: success
  type: str
  sample: open
disagreements:
  description: Why the state is C(partial), one sentence each.
  returned: success
  type: list
  elements: str
admitting:
  description: Whether only the smoke client is let in.
  returned: success
  type: bool
gate:
  description: What the web server does with visitors. C(none) lets them in, C(frozen), C(closed), C(admit) (only the smoke client) and C(unreadable) do not.
  returned: success
  type: str
  sample: none
moved_to:
  description: New address that the maintenance page shows.
  returned: success
  type: str
lease:
  description: Status (C(none), C(armed), C(disarmed), C(lost)), deadline and remaining seconds of the freeze's lease.
  returned: success
  type: dict
database_content:
  description:
    - What the database is, whatever state the tenant is in. C(absent), C(empty), C(incomplete) or C(copy) (made by M(ireporter_database), nobody has
      written in it), else C(own).
    - On a target C(own) means that the tenant was opened there, so that its rows exist nowhere else.
  returned: success
  type: str
  sample: own
server:
  description: >-
    hostname, os, postgresql_version_num, time_epoch, timezone, ntp_synchronised (V(none) when unknown), ntp_source, locales, and disks
    (purpose, path, free_bytes, total_bytes, device).
  returned: success
  type: dict
database:
  description: >-
    Sizes, tables with group, groups (bytes by group; with C(other), C(large_objects) and C(system) they are the whole database),
    encoding, locale, extensions, large objects, prepared transactions, sequences, unlogged tables, roles,
    and path_columns (text columns that still name the old server). V(none) when the database does not exist.
  returned: O(scan=all)
  type: dict
file_trees:
  description:
    - For each tree, files, directories, bytes, newest_mtime, newest_file_change (both seconds since 1970) and whether it exists.
    - C(newest_file_change) is of the status of files only, which a change of content changes, too.
  returned: O(scan=all)
  type: list
  elements: dict
accounts:
  description: Number of accounts, V(none) without O(tenant.accounts_query).
  returned: O(scan=all)
  type: int
application_version:
  description: Version of the application, V(none) when its file does not exist.
  returned: success
  type: str
obstacles:
  description: What forbids a freeze, each with check, message and action.
  returned: O(scan=all)
  type: list
  elements: dict
seconds:
  description: How long the look took.
  returned: success
  type: float
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.ireporter.commands import run
from ansible.module_utils.ireporter.database_groups import TableGroups
from ansible.module_utils.ireporter.errors import MigrationError
from ansible.module_utils.ireporter.file_trees import absolute
from ansible.module_utils.ireporter.tenant_info import bare_facts, gather, is_bare
from ansible.module_utils.ireporter.tenant_model import ARGUMENTS, Tenant, parse
from ansible.module_utils.ireporter.tenant_server import this_server


def main() -> None:
    """Check the arguments, look, return what was seen."""
    module = AnsibleModule(
        argument_spec={
            "tenant": {"type": "dict", "required": True, "options": ARGUMENTS},
            "scan": {"type": "str", "choices": ["all", "quick"], "default": "all"},
            "path_scan_rows": {"type": "int", "default": 200000},
            "table_groups": {"type": "dict"},
            "disks": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    try:
        tenant = parse(module.params["tenant"])
        facts = _facts(module, tenant)
    except MigrationError as error:
        module.fail_json(msg=str(error), **error.as_result())
    module.exit_json(changed=False, **facts)


def _facts(module: AnsibleModule, tenant: Tenant) -> dict[str, object]:
    disks = {purpose: absolute(path) for purpose, path in module.params["disks"].items()}
    table_groups = TableGroups.read(module.params["table_groups"])
    try:
        server = this_server(tenant)
        return gather(
            server,
            everything=module.params["scan"] == "all",
            path_scan_rows=module.params["path_scan_rows"],
            table_groups=table_groups,
            disks=disks,
        )
    except MigrationError:
        # Without PostgreSQL there is nothing to connect to; on a server that has nothing yet, that is no error.
        if is_bare(tenant, run):
            return bare_facts(tenant, run, disks)
        raise


if __name__ == "__main__":
    main()
