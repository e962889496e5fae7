#!/usr/bin/python
# Copyright (c) 2026, i-Reporter migration maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ireporter_download
short_description: Fetch the three files of a bundle by their links, with resume
description:
  - Fetches the signed statement and its signature, holds them against the expected signer and tenant, then fetches the bundle, whose size
    and digest the statement says. A file has its name only when it is whole.
  - What was downloaded when a transfer broke off, or the module was ended, is kept. The next run goes on there, also by a new link.
  - A link is given to C(curl) by its standard input. It stands in no argument, environment variable, file, message or log.
author:
  - i-Reporter migration maintainers (@ireporter-migration)
requirements:
  - curl and OpenSSH's ssh-keygen (8.2 or newer)
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
    details: Nothing is fetched, so only what is there already is looked at.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no
        change.
    support: full
options:
  links:
    description: The links of the mail (R17). Each is a secret until it expires.
    type: dict
    required: true
    suboptions:
      bundle:
        description: Link of C(ID.tar.zst.age).
        type: str
        required: true
      statement:
        description: Link of C(ID.tar.zst.age.sha256).
        type: str
        required: true
      signature:
        description: Link of C(ID.tar.zst.age.sha256.sig).
        type: str
        required: true
  directory:
    description: Existing folder for the three files, on a disk with room.
    type: path
    required: true
  tenant:
    description: Name of the tenant whose data it must be.
    type: str
    required: true
  signer:
    description: Public key or fingerprint (C(SHA256:...)) of the sender, from a source other than the links', such as the quote.
    type: str
    required: true
  ca_file:
    description: PEM file with the authorities that may have signed the delivery host's certificate. Left out, the system's are used.
    type: path
  retries:
    description: Attempts after the first; each goes on where the one before broke off.
    type: int
    default: 10
  retry_seconds:
    description: Time between attempts.
    type: int
    default: 5
  run:
    description: Run whose lock is kept alive meanwhile. There is no unit for a download, whose input would lie on disk.
    type: dict
    suboptions:
      tenant:
        description: Name of the tenant.
        type: str
        required: true
      id:
        description: Id of the run.
        type: str
        required: true
"""

EXAMPLES = r"""
- name: Fetch the bundle
  ireporter_download:
    links: "{{ selfhost_import_links }}"
    directory: /srv/import
    tenant: acme
    signer: SHA256:uNiVztksCsDhcc0u9e8BrrQXVUpKZIDTMczCvj3tD2s
"""

RETURN = r"""
path:
  description: Path of the bundle.
  returned: success
  type: str
statement:
  description: Path of the signed statement.
  returned: success, but for a bundle that check mode would fetch
  type: str
signature:
  description: Path of its signature.
  returned: as RV(statement)
  type: str
migration_id:
  description: Of which migration it is.
  returned: success
  type: str
cut_off:
  description: Instant (UTC) of the data; what was written in the cloud later is not in it.
  returned: as RV(statement)
  type: str
bytes:
  description: Size of the bundle.
  returned: as RV(statement)
  type: int
sha256:
  description: Its digest.
  returned: as RV(statement)
  type: str
resumed_at:
  description: Bytes that were there from an earlier attempt.
  returned: when it was fetched
  type: int
"""

from contextlib import nullcontext
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.ireporter import download
from ansible.module_utils.ireporter.clock import SystemClock
from ansible.module_utils.ireporter.errors import MigrationError
from ansible.module_utils.ireporter.run_lock import kept_alive
from ansible.module_utils.ireporter.tenant_model import STATE_DIRECTORY


def main() -> None:
    link = {"type": "str", "required": True, "no_log": True}
    module = AnsibleModule(
        argument_spec={
            "links": {
                "type": "dict",
                "required": True,
                "no_log": False,  # each of its values is
                "options": dict.fromkeys(download.KINDS, link),
            },
            "directory": {"type": "path", "required": True},
            "tenant": {"type": "str", "required": True},
            "signer": {"type": "str", "required": True},
            "ca_file": {"type": "path"},
            "retries": {"type": "int", "default": 10},
            "retry_seconds": {"type": "int", "default": 5},
            "run": {
                "type": "dict",
                "options": {"tenant": {"type": "str", "required": True}, "id": {"type": "str", "required": True}},
            },
        },
        supports_check_mode=True,
    )
    given = module.params
    clock = SystemClock()
    order = download.Order(
        links=given["links"],
        directory=Path(given["directory"]),
        tenant=given["tenant"],
        signer=given["signer"],
        ca_file=Path(given["ca_file"]) if given["ca_file"] else None,
        retries=given["retries"],
        retry_seconds=given["retry_seconds"],
    )
    run = given["run"]
    alive = kept_alive(STATE_DIRECTORY, run["tenant"], run["id"], clock) if run else nullcontext()
    try:
        with alive:
            result = download.run(order, lambda _progress: None, clock, check=module.check_mode)
    except MigrationError as error:
        module.fail_json(msg=str(error), **error.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
