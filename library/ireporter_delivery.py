#!/usr/bin/python
# Copyright (c) 2026, i-Reporter migration maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ireporter_delivery
short_description: Give a file on a delivery host an expiring link, or take it away
description:
  - Runs on the host that serves the files. The secret the links are signed with is made there and never leaves it.
  - A link is proven before it is returned, by asking the host's own web server for it.
  - The link is in the result and nowhere else; give the task C(no_log). No message has it.
  - Meant to be called by the role C(ireporter_delivery), which sets up web server and timer.
author:
  - i-Reporter migration maintainers (@ireporter-migration)
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
    details: A link that would be new is not foretold; RV(link) is empty then. The file is read, where its digest is not known.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no
        change.
    support: partial
    details: With O(renew) every run makes a new link.
options:
  state:
    description:
      - V(prepared) - folders and secret are there.
      - V(published) - O(path) has a link that is valid. The one it has stays, with its expiry, unless it has expired or the file is another one.
      - V(withdrawn) - the link of O(path) is dead, and the file is deleted.
    type: str
    choices: [prepared, published, withdrawn]
    required: true
  folder:
    description: The delivery host's folder, on one file system. Files to be delivered lie below its folder C(files).
    type: path
    default: /srv/ireporter-delivery
  path:
    description: The file, absolute, below C(files). Required unless O(state=prepared).
    type: path
  public_name:
    description: The name in the link; the web server's certificate is for it. Required with O(state=published).
    type: str
  valid_seconds:
    description: How long a new link is valid.
    type: int
    default: 604800
  renew:
    description: Make a new link although the old one is valid. The old one is dead at once.
    type: bool
    default: false
  sha256:
    description: What the file must have. Left out, it is only reported.
    type: str
    default: ""
  ca_file:
    description: PEM file on the host with the authorities that may have signed the web server's certificate. Left out, the system's are used.
    type: path
"""

EXAMPLES = r"""
- name: Deliver | the bundle has a link
  ireporter_delivery:
    state: published
    path: /srv/ireporter-delivery/files/acme/bundle/acme-s-20261128t130000z.tar.zst.age
    public_name: delivery.example.com
    sha256: "{{ bundle.sha256 }}"
  delegate_to: delivery01
  become: true
  no_log: true
  register: delivered
"""

RETURN = r"""
why:
  description: What was done, or why nothing had to be done, in words.
  returned: always
  type: str
server:
  description: C(ntp_synchronised), C(ntp_source) and C(disks), as M(ireporter_plan) takes them for C(facts.delivery).
  returned: O(state=prepared)
  type: dict
link:
  description: The link. Empty where check mode only foretells one.
  returned: O(state=published)
  type: str
expires:
  description: When it expires, seconds since 1970 by the host's clock.
  returned: O(state=published)
  type: int
expires_utc:
  description: The same as text.
  returned: O(state=published)
  type: str
  sample: "2026-12-05T13:00:00Z"
expires_japan:
  description: The same for people, Japan time.
  returned: O(state=published)
  type: str
  sample: "2026-12-05 22:00"
bytes:
  description: Size of the file.
  returned: O(state=published)
  type: int
sha256:
  description: SHA-256 of the file.
  returned: O(state=published)
  type: str
seconds:
  description: How long it took.
  returned: always
  type: float
"""

from functools import partial
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.ireporter.clock import SystemClock
from ansible.module_utils.ireporter.commands import run
from ansible.module_utils.ireporter.delivery import Delivery, Places, Wanted, japan_text, utc_text
from ansible.module_utils.ireporter.delivery_proof import prove
from ansible.module_utils.ireporter.errors import MigrationError
from ansible.module_utils.ireporter.host_facts import disk, time_synchronisation


def answer(delivery: Delivery, options: dict[str, object], check_mode: bool) -> dict[str, object]:
    """The module's result for one state.

    :raises MigrationError: something stands in the way.
    """
    if options["state"] == "prepared":
        did = delivery.prepare(check=check_mode)
        synchronised, source = time_synchronisation(run)
        return {
            "changed": bool(did),
            "why": f"made: {', '.join(did)}" if did else "everything is as it has to be",
            "server": {
                "ntp_synchronised": synchronised,
                "ntp_source": source,
                "disks": [disk("delivery", delivery.places.folder)],
            },
        }
    path = Path(str(options["path"]))
    if options["state"] == "withdrawn":
        changed = delivery.withdraw(path, check=check_mode)
        return {
            "changed": changed,
            "why": "link and file are taken away" if changed else "there is neither link nor file",
        }
    wanted = Wanted(
        public_name=str(options["public_name"]),
        valid_seconds=int(str(options["valid_seconds"])),
        renew=bool(options["renew"]),
        sha256=str(options["sha256"]),
    )
    proof = partial(prove, ca_file=str(options["ca_file"] or ""))
    published = delivery.publish(path, wanted, proof, check=check_mode)
    return {
        "changed": published.changed,
        "why": published.why,
        "link": published.link,
        "expires": published.expires,
        "expires_utc": utc_text(published.expires),
        "expires_japan": japan_text(published.expires),
        "bytes": published.bytes,
        "sha256": published.sha256,
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["prepared", "published", "withdrawn"], "required": True},
            "folder": {"type": "path", "default": "/srv/ireporter-delivery"},
            "path": {"type": "path"},
            "public_name": {"type": "str"},
            "valid_seconds": {"type": "int", "default": 604800},
            "renew": {"type": "bool", "default": False},
            "sha256": {"type": "str", "default": ""},
            "ca_file": {"type": "path"},
        },
        required_if=[("state", "published", ["path", "public_name"]), ("state", "withdrawn", ["path"])],
        supports_check_mode=True,
    )
    clock = SystemClock()
    began = clock.monotonic()
    try:
        result = answer(Delivery(Places(Path(module.params["folder"])), clock), module.params, module.check_mode)
    except MigrationError as error:
        module.fail_json(msg=str(error), **error.as_result())
    module.exit_json(seconds=round(clock.monotonic() - began, 3), **result)


if __name__ == "__main__":
    main()
