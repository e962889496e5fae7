#!/usr/bin/python
# Copyright (c) 2026, i-Reporter migration maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ireporter_user_info
short_description: List the user accounts of an i-Reporter tenant, with last login
description:
  - Lists accounts, when each last logged in, whether it is an administrator and whether it is disabled (R08).
  - Reads only. No public command of the product lists users, so they are read by a query or from a file of the Manager.
author:
  - i-Reporter migration maintainers (@ireporter-migration)
requirements:
  - python3-psycopg 3.1 or later
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
    details: It changes nothing.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no
        change.
    support: full
options:
  tenant:
    description: Name of the tenant.
    type: str
    required: true
  database:
    description:
      - libpq connection string of the tenant's database, as a role that may read (and, to delete, change) its accounts.
      - A password in it is refused, use C(passfile=), C(service=) or peer authentication.
    type: str
  query:
    description:
      - SQL query that lists the accounts. Table names of the product are not public, therefore a setting. It cannot write.
      - It gives the columns C(login) (text), C(last_login) (timestamp, null for never), C(administrator) and C(disabled)
        (boolean), and may give C(name). It lists each account once, and those only that a licence counts.
      - Tables are found in schema C(public).
    type: str
  time_zone:
    description: Time zone of a last login that is stored without one.
    type: str
    default: Asia/Tokyo
  export:
    description:
      - A file of users that the Manager exported, in the public way (データー取得), instead of O(database).
      - The names of its columns are not public, therefore settings.
    type: dict
    suboptions:
      path:
        description: The file, on the host where the module runs.
        type: path
        required: true
      exported_at:
        description: When it was exported, ISO 8601 with offset.
        type: str
        required: true
      encoding:
        description: Its encoding.
        type: str
        choices: [utf-8, cp932]
        default: utf-8
      login:
        description: Heading of the column with the login.
        type: str
        required: true
      name:
        description: Heading of the column with the user's name.
        type: str
      last_login:
        description: Heading of the column with the last login, empty for never.
        type: str
        required: true
      last_login_format:
        description: How the last login is written, in the words of C(strptime).
        type: str
        default: "%Y/%m/%d %H:%M:%S"
      administrator:
        description: Who is an administrator.
        type: dict
        required: true
        suboptions:
          column:
            description: Heading of the column.
            type: str
            required: true
          values:
            description: The values of that column that mean yes.
            type: list
            elements: str
            required: true
      disabled:
        description: Who cannot log in. Left out, nobody is disabled.
        type: dict
        suboptions:
          column:
            description: Heading of the column.
            type: str
            required: true
          values:
            description: The values of that column that mean yes.
            type: list
            elements: str
            required: true
"""

EXAMPLES = r"""
- name: Accounts | list them
  ireporter_user_info:
    tenant: acme
    database: host=/var/run/postgresql user=postgres dbname=irepodb_acme
    query: >-
      SELECT login_id AS login, user_name AS name, last_login, user_type = 1 AS administrator, false AS disabled
      FROM mst_user WHERE delete_flag = 0 AND user_type <> 9
  delegate_to: shared01
  become: true
  become_user: postgres
  register: users

- name: Accounts | give the customer's administrator a list to fill in
  ansible.builtin.copy:
    content: "{{ users.review | to_nice_json(ensure_ascii=false) }}"
    dest: acme-accounts.json
    mode: "0600"
  delegate_to: localhost
"""

RETURN = r"""
listed_at:
  description: The instant of the list, ISO 8601.
  returned: success
  type: str
accounts:
  description: The accounts, in the order of their logins.
  returned: success
  type: list
  elements: dict
  contains:
    login:
      description: What the user types to log in.
      type: str
    name:
      description: The user's name, empty where it is not read.
      type: str
    last_login:
      description: ISO 8601, null for never.
      type: str
    administrator:
      description: Whether it is an administrator.
      type: bool
    disabled:
      description: Whether it cannot log in.
      type: bool
count:
  description: How many there are.
  returned: success
  type: int
administrators:
  description: How many administrators can log in.
  returned: success
  type: int
disabled:
  description: How many are disabled.
  returned: success
  type: int
never_logged_in:
  description: How many never logged in.
  returned: success
  type: int
review:
  description:
    - The list for M(ireporter_user), for the customer's administrator to fill in C(delete) (a list of logins), C(reviewed_at) and
      C(reviewed_by). The rest of it stays as it is.
  returned: success
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.ireporter import account_source as source
from ansible.module_utils.ireporter.account_review import blank_review
from ansible.module_utils.ireporter.errors import MigrationError


def main() -> None:
    module = AnsibleModule(
        argument_spec=source.ARGUMENTS,
        mutually_exclusive=source.MUTUALLY_EXCLUSIVE,
        required_one_of=source.REQUIRED_ONE_OF,
        required_together=source.REQUIRED_TOGETHER,
        supports_check_mode=True,
    )
    try:
        listed = source.listing(module.params)
    except MigrationError as error:
        module.fail_json(msg=str(error), **error.as_result())
    module.exit_json(changed=False, review=blank_review(module.params["tenant"], listed), **listed.as_result())


if __name__ == "__main__":
    main()
