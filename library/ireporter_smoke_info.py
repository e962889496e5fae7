#!/usr/bin/python
# Copyright (c) 2026, i-Reporter migration maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ireporter_smoke_info
short_description: Use an i-Reporter server as a client would, reading only
description:
  - Logs in, lists definitions and reports, opens a report, fetches its PDF and logs out, through the public HTTP API.
  - Connects to O(address), whatever DNS says, while certificate check and C(Host) header keep the name in O(url).
  - Writes nothing, but login and logout each make the product write a line into its own login log.
author:
  - i-Reporter migration maintainers (@ireporter-migration)
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
    details: It runs in check mode as without, because it only reads.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no
        change.
    support: full
options:
  url:
    description: The API's endpoint.
    type: str
    required: true
  address:
    description: IP address or host name to connect to. Left out, it is what the name in O(url) resolves to.
    type: str
    default: ""
  ca_file:
    description:
      - PEM file on this machine with the authorities that may have signed the certificate. Left out, the system's
        are used.
    type: path
  user:
    description: Account to log in with. Its group needs the API permission.
    type: str
    required: true
  password:
    description: The account's password.
    type: str
    required: true
  admit_secret:
    description:
      - Secret of the run that lets this client through the gate of a target that is not open yet (header
        C(X-IReporter-Smoke)).
    type: str
  report:
    description: Id of the report to open. Left out, it is the first one listed.
    type: str
    default: ""
  expect:
    description: Least numbers to be listed.
    type: dict
    default: {}
    suboptions:
      definitions:
        description: Definitions.
        type: int
        default: 0
      reports:
        description: Reports.
        type: int
        default: 0
  timeout_seconds:
    description: How long to wait for each answer.
    type: float
    default: 20
"""

EXAMPLES = r"""
- name: Prove | the target serves, before anybody else is let in
  ireporter_smoke_info:
    url: https://acme.ireporter.example/ConMasAPIACME/Rests/APIExecute.aspx
    address: 203.0.113.10
    user: smoke
    password: "{{ vault_smoke_password }}"
    admit_secret: "{{ admit_secret }}"
    expect: {definitions: 3, reports: 1}
  delegate_to: localhost
"""

RETURN = r"""
steps:
  description: What was done, in order. A failed test returns the steps done so far.
  returned: always
  type: list
  elements: dict
  contains:
    step:
      description: V(login), V(definitions), V(reports), V(report), V(pdf) or V(logout).
      type: str
    milliseconds:
      description: From sending the request to having read the answer.
      type: int
    message:
      description: What was seen.
      type: str
definitions:
  description: How many definitions are listed.
  returned: always
  type: int
reports:
  description: How many reports are listed.
  returned: always
  type: int
report:
  description: Id of the report that was opened, empty when there is none.
  returned: always
  type: str
pdf_bytes:
  description: Size of its PDF.
  returned: always
  type: int
seconds:
  description: All steps together.
  returned: always
  type: float
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.ireporter.clock import SystemClock
from ansible.module_utils.ireporter.errors import MigrationError
from ansible.module_utils.ireporter.smoke import Result, smoke
from ansible.module_utils.ireporter.smoke_http import HttpApi


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "address": {"type": "str", "default": ""},
            "ca_file": {"type": "path"},
            "user": {"type": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
            "admit_secret": {"type": "str", "no_log": True},
            "report": {"type": "str", "default": ""},
            "expect": {
                "type": "dict",
                "default": {},
                "options": {"definitions": {"type": "int", "default": 0}, "reports": {"type": "int", "default": 0}},
            },
            "timeout_seconds": {"type": "float", "default": 20},
        },
        supports_check_mode=True,
    )
    options = module.params
    result = Result()
    try:
        api = HttpApi(
            options["url"],
            address=options["address"],
            ca_file=options["ca_file"] or "",
            timeout_seconds=options["timeout_seconds"],
            headers={"X-IReporter-Smoke": options["admit_secret"]} if options["admit_secret"] else {},
        )
        smoke(
            api,
            SystemClock(),
            result,
            user=options["user"],
            password=options["password"],
            report=options["report"],
            least_definitions=options["expect"].get("definitions", 0),
            least_reports=options["expect"].get("reports", 0),
        )
    except MigrationError as error:
        module.fail_json(msg=str(error), **error.as_result(), **result.as_result())
    module.exit_json(changed=False, **result.as_result())


if __name__ == "__main__":
    main()
