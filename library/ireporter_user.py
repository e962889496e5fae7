#!/usr/bin/python
# Copyright (c) 2026, i-Reporter migration maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ireporter_user
short_description: Delete user accounts of an i-Reporter tenant that a reviewed list names
description:
  - Deletes accounts so that their number fits the licence (R08), and only those that somebody reviewed.
  - Either by O(statements) in the tenant's database, in one transaction, or by an O(import_file) which the tenant's administrator
    imports in the Manager (データー取り込み), the public way.
  - Nothing is deleted, and every reason is said, when the list names an account that its reviewer was not shown, names one twice,
    or names one that logged in, was renamed or was given other rights since, or when no administrator who can log in would remain.
  - An account of the list that has disappeared since is done already.
author:
  - i-Reporter migration maintainers (@ireporter-migration)
requirements:
  - python3-psycopg 3.1 or later
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
    details: O(statements) are executed and rolled back, so that one that would fail fails in check mode, too.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: full
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no
        change.
    support: full
options:
  state:
    description: V(absent) means that the accounts of the list are gone, or named in O(import_file).
    type: str
    choices: [absent]
    default: absent
  reviewed_file:
    description:
      - JSON file on the host where the module runs, RV(ireporter_user_info#module:review) of M(ireporter_user_info), filled in.
      - C(reviewed_at) is ISO 8601 with offset, not before the list was made and not after the accounts are looked at now. With
        O(export), export the users once more after the review.
    type: path
    required: true
  statements:
    description:
      - SQL statements, executed in this order for each account. Each names it as C(%(login)s), which is sent as a parameter. A per cent
        sign of its own is doubled.
      - Afterwards O(query) must list neither these accounts nor any change of another, else all of it is rolled back.
      - Needs O(database).
    type: list
    elements: str
  import_file:
    description: The file to make for the Manager. Its layout is not public, therefore a setting.
    type: dict
    suboptions:
      path:
        description: Where it is made, on the host where the module runs. A file that is not of this layout is not replaced.
        type: path
        required: true
      encoding:
        description: Its encoding.
        type: str
        choices: [utf-8, cp932]
        default: utf-8
      heading_row:
        description: Whether its first row has the headings.
        type: bool
        default: true
      columns:
        description: Its columns, each with O(import_file.columns[].field) or O(import_file.columns[].text).
        type: list
        elements: dict
        required: true
        suboptions:
          heading:
            description: The heading.
            type: str
            default: ""
          field:
            description: What of the account stands there.
            type: str
            choices: [login, name]
          text:
            description: What stands there in every row, such as the mark for deletion.
            type: str
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
- name: Accounts | delete what the customer's administrator reviewed
  ireporter_user:
    tenant: acme
    reviewed_file: /root/acme-accounts.json
    database: host=/var/run/postgresql user=postgres dbname=irepodb_acme
    query: >-
      SELECT login_id AS login, user_name AS name, last_login, user_type = 1 AS administrator, false AS disabled
      FROM mst_user WHERE delete_flag = 0 AND user_type <> 9
    statements:
      - UPDATE mst_user SET delete_flag = 1, update_time = now() WHERE login_id = %(login)s AND delete_flag = 0
  delegate_to: shared01
  become: true

- name: Accounts | make a file for the Manager instead
  ireporter_user:
    tenant: acme
    reviewed_file: acme-accounts.json
    export:
      path: users.csv
      exported_at: "2026-11-28T13:00:00+09:00"
      encoding: cp932
      login: ユーザーID
      last_login: 最終ログイン日時
      administrator: {column: 権限, values: [管理者]}
    import_file:
      path: delete-users.csv
      encoding: cp932
      columns:
        - {heading: 処理区分, text: D}
        - {heading: ユーザーID, field: login}
  delegate_to: localhost
"""

RETURN = r"""
deleted:
  description: Logins that O(statements) deleted (in check mode, would delete).
  returned: success
  type: list
  elements: str
pending:
  description: Logins that are there until O(import_file) is imported in the Manager.
  returned: success
  type: list
  elements: str
gone:
  description: Logins of the list that were gone before.
  returned: success
  type: list
  elements: str
count:
  description: How many accounts remain when this is done.
  returned: success
  type: int
administrators:
  description: How many administrators who can log in remain.
  returned: success
  type: int
reviewed_by:
  description: Who reviewed the list.
  returned: success
  type: str
reviewed_at:
  description: When, ISO 8601.
  returned: success
  type: str
"""

import json
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.ireporter import account_source as source
from ansible.module_utils.ireporter.account_csv import ENCODINGS, Column, ImportFile
from ansible.module_utils.ireporter.account_list import administrators
from ansible.module_utils.ireporter.account_review import Removal, Review, read_review, removal
from ansible.module_utils.ireporter.errors import MigrationError


def read_reviewed_file(path: str) -> Review:
    """
    :raises MigrationError: the file cannot be read, is no JSON, or no reviewed list (``reviewed-list``).
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MigrationError(
            f"The reviewed list {path} cannot be read: {error}",
            check="reviewed-list",
            action="Give the JSON file that was made by ireporter_user_info and filled in",
        ) from error
    return read_review(content)


def delete(options: dict, review: Review, *, keep: bool) -> tuple[Removal, bool]:
    """Carry the list out in the way that is asked for: what it comes to, and whether anything changes.

    :raises MigrationError: the list is unfit (R08), or a step failed and nothing was deleted.
    """
    if options["statements"] is not None:
        wanted, _remaining = source.database(options).delete(
            options["statements"], lambda now: removal(review, now, tenant=options["tenant"]), keep=keep
        )
        return wanted, bool(wanted.pending)
    wanted = removal(review, source.listing(options), tenant=options["tenant"])
    given = options["import_file"]
    columns = tuple(Column(column["heading"], column["field"], column["text"] or "") for column in given["columns"])
    file = ImportFile(Path(given["path"]), given["encoding"], given["heading_row"], columns)
    return wanted, file.write(wanted.pending, keep=keep)


def lines(wanted: Removal) -> str:
    """The accounts that go, one a line, for a diff."""
    return "".join(
        f"{account.login}\t{account.name}\tlast login {account.last_login or 'never'}\n" for account in wanted.pending
    )


def main() -> None:
    column = {
        "heading": {"type": "str", "default": ""},
        "field": {"type": "str", "choices": ["login", "name"]},
        "text": {"type": "str"},
    }
    import_file = {
        "path": {"type": "path", "required": True},
        "encoding": {"type": "str", "choices": list(ENCODINGS), "default": "utf-8"},
        "heading_row": {"type": "bool", "default": True},
        "columns": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": column,
            "mutually_exclusive": [("field", "text")],
            "required_one_of": [("field", "text")],
        },
    }
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["absent"], "default": "absent"},
            "reviewed_file": {"type": "path", "required": True},
            "statements": {"type": "list", "elements": "str"},
            "import_file": {"type": "dict", "options": import_file},
            **source.ARGUMENTS,
        },
        mutually_exclusive=[*source.MUTUALLY_EXCLUSIVE, ("statements", "import_file")],
        required_one_of=[*source.REQUIRED_ONE_OF, ("statements", "import_file")],
        required_together=source.REQUIRED_TOGETHER,
        required_by={"statements": "database"},
        supports_check_mode=True,
    )
    options = module.params
    try:
        review = read_reviewed_file(options["reviewed_file"])
        wanted, changed = delete(options, review, keep=not module.check_mode)
    except MigrationError as error:
        module.fail_json(msg=str(error), **error.as_result())
    logins = [account.login for account in wanted.pending]
    by_statement = options["statements"] is not None
    module.exit_json(
        changed=changed,
        deleted=logins if by_statement else [],
        pending=[] if by_statement else logins,
        gone=list(wanted.gone),
        count=len(wanted.staying),
        administrators=len(administrators(wanted.staying)),
        reviewed_by=review.reviewed_by,
        reviewed_at=review.reviewed_at.isoformat(),
        diff={"before_header": "accounts that go", "before": lines(wanted), "after_header": "", "after": ""},
    )


if __name__ == "__main__":
    main()
