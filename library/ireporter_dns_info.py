#!/usr/bin/python
# Copyright (c) 2026, i-Reporter migration maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ireporter_dns_info
short_description: Say what every authoritative name server answers for a record, and whether it may be updated
description:
  - Asks each authoritative server by itself, over TCP, for the record and for the zone's serial.
  - A server that is silent or wrong does not fail the module. It is named in RV(stale), and RV(in_step) is false.
  - With O(probe_update_right) the existing record is added again with the same value and TTL, signed with the TSIG key.
    A server that would refuse the real change refuses this one, and one that accepts it leaves the serial as it was.
    An empty update would prove nothing, as it is answered C(NOERROR) even for a key without rights.
author:
  - i-Reporter migration maintainers (@ireporter-migration)
requirements:
  - dnspython >= 2.1
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
    details: It changes nothing, the probe included.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no
        change.
    support: full
options:
  name:
    description: The record's full name.
    type: str
    required: true
  type:
    description: The record's type.
    type: str
    choices: [A, AAAA, CNAME]
    default: A
  zone:
    description: The zone that holds the record. Left out, the first of O(servers) is asked.
    type: str
  servers:
    description: All authoritative servers of the zone, the primary first.
    type: list
    elements: dict
    required: true
    suboptions:
      address:
        description: IP address.
        type: str
        required: true
      port:
        description: TCP port.
        type: int
        default: 53
  timeout_seconds:
    description: How long to wait for each answer.
    type: float
    default: 5
  probe_update_right:
    description: Whether to find out if the key may change the record. Needs O(key_name) and O(key_secret).
    type: bool
    default: false
  primary:
    description: The server that takes updates. Left out, it is the first of O(servers).
    type: dict
    suboptions:
      address:
        description: IP address.
        type: str
        required: true
      port:
        description: TCP port.
        type: int
        default: 53
  key_name:
    description: Name of the TSIG key.
    type: str
  key_algorithm:
    description: Algorithm of the TSIG key.
    type: str
    choices: [hmac-sha256, hmac-sha384, hmac-sha512, hmac-sha224, hmac-sha1]
    default: hmac-sha256
  key_secret:
    description: Secret of the TSIG key, base64.
    type: str
"""

EXAMPLES = r"""
- name: See whether both name servers serve the new address
  ireporter_dns_info:
    name: acme.ireporter.example
    servers:
      - {address: 192.0.2.53}
      - {address: 198.51.100.53}
  delegate_to: localhost
  register: answer
  until: answer.in_step and answer['values'] == ['203.0.113.10']
  retries: 30
  delay: 2

- name: Find out whether the key may change the record, without changing it
  ireporter_dns_info:
    name: acme.ireporter.example
    zone: ireporter.example
    servers: [{address: 192.0.2.53}]
    probe_update_right: true
    key_name: migration
    key_secret: "{{ vault_dns_key_secret }}"
  delegate_to: localhost
"""

RETURN = r"""
servers:
  description: What each server said, in the order given.
  returned: success
  type: list
  elements: dict
  contains:
    address:
      description: IP address.
      type: str
    port:
      description: TCP port.
      type: int
    answered:
      description: Whether it answered at all.
      type: bool
    authoritative:
      description: Whether it answered with authority.
      type: bool
    values:
      description: The record's values, sorted; empty when there is no such record.
      type: list
      elements: str
    ttl:
      description: The record's TTL in seconds.
      type: int
    serial:
      description: The zone's serial.
      type: int
    error:
      description: What is wrong with this answer, empty when nothing is.
      type: str
in_step:
  description: Whether all servers answered with authority and with the same values, TTL and serial.
  returned: success
  type: bool
values:
  description: What the first server serves.
  returned: success
  type: list
  elements: str
ttl:
  description: The largest TTL any server serves, null when none serves the record.
  returned: success
  type: int
stale:
  description: Servers (C(address:port)) that fail or differ from the first one.
  returned: success
  type: list
  elements: str
zone:
  description: The zone that was asked for its serial.
  returned: success
  type: str
update_right:
  description:
    - C(allowed), C(answer) (C(NOERROR), C(REFUSED), C(NOTAUTH), C(BADKEY), …), C(serial_before), C(serial_after)
      and C(message).
  returned: when O(probe_update_right)
  type: dict
"""

import traceback
from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.ireporter.errors import MigrationError

try:
    from ansible.module_utils.ireporter.dns_answers import (
        Question,
        Server,
        ask,
        compare,
        find_zone,
        over_tcp,
        read_name,
    )
    from ansible.module_utils.ireporter.dns_update_right import probe, read_key
except ImportError:
    DNSPYTHON_MISSING = traceback.format_exc()
else:
    DNSPYTHON_MISSING = ""


def look(options: dict) -> dict:
    """Ask every server; the shape is the module's result.

    :raises MigrationError: a name is none, the key is unfit, or no zone could be found.
    """
    servers = [Server(**server) for server in options["servers"]]
    if not servers:
        raise MigrationError("No name server is given", check="dns-servers", action="Give all authoritative servers")
    name = read_name(options["name"], what="name")
    timeout = options["timeout_seconds"]
    zone = (
        read_name(options["zone"], what="zone") if options["zone"] else find_zone(name, servers[0], over_tcp, timeout)
    )
    question = Question(name, options["type"], zone, over_tcp, timeout)
    result = {**compare([ask(question, server) for server in servers]), "zone": zone.to_text(omit_final_dot=True)}
    if options["probe_update_right"]:
        key = read_key(options["key_name"], options["key_algorithm"], options["key_secret"])
        primary = Server(**options["primary"]) if options["primary"] else servers[0]
        result["update_right"] = asdict(probe(question, primary, key))
    return result


def main() -> None:
    server = {"address": {"type": "str", "required": True}, "port": {"type": "int", "default": 53}}
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "type": {"type": "str", "choices": ["A", "AAAA", "CNAME"], "default": "A"},
            "zone": {"type": "str"},
            "servers": {"type": "list", "elements": "dict", "required": True, "options": server},
            "timeout_seconds": {"type": "float", "default": 5},
            "probe_update_right": {"type": "bool", "default": False},
            "primary": {"type": "dict", "options": server},
            "key_name": {"type": "str"},
            "key_algorithm": {
                "type": "str",
                "choices": ["hmac-sha256", "hmac-sha384", "hmac-sha512", "hmac-sha224", "hmac-sha1"],
                "default": "hmac-sha256",
            },
            "key_secret": {"type": "str", "no_log": True},
        },
        required_if=[("probe_update_right", True, ["key_name", "key_secret"])],
        supports_check_mode=True,
    )
    if DNSPYTHON_MISSING:
        module.fail_json(msg=missing_required_lib("dnspython"), exception=DNSPYTHON_MISSING)
    try:
        result = look(module.params)
    except MigrationError as error:
        module.fail_json(msg=str(error), **error.as_result())
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
