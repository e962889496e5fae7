#!/usr/bin/python
# Copyright: i-Reporter migration maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: the record of a migration and the lock of its tenant."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ireporter_run
short_description: Record of a migration and lock of its tenant
description:
  - Keeps, on the server it runs on, where the migration of a tenant stands (C(run.json)) and what happened (C(events.jsonl)).
  - A lock per tenant names its holder. It is held by a heartbeat on this server's own clock, or by a unit that works for the migration.
  - Nothing that looks like a secret is recorded.
author:
  - i-Reporter migration maintainers (@ireporter-migration)
requirements:
  - systemd on the server
  - Root privileges
options:
  tenant:
    description: Name of the tenant.
    type: str
    required: true
  state:
    description:
      - V(started) - the lock is taken, and the unfinished run of this kind goes on; without one a new run begins.
      - V(recorded) - step, status and figures are written, the heartbeat is refreshed.
      - V(paused) - the same, and the lock is released - another playbook process is to go on.
      - V(finished) - the run ends and the lock is released.
      - V(withdrawn) - the lock is as before O(state=started), and the run too, but for the note that somebody looked at it - its own session may be at work still.
      - V(mirrored) - O(content) of the other server's record is kept here.
      - V(read) - nothing changes.
    type: str
    choices: [started, recorded, paused, finished, withdrawn, mirrored, read]
    default: read
  kind:
    description: Kind of migration. Needed for O(state=started).
    type: str
    choices: [shared_to_dedicated, rollback, cloud_export, selfhost_import]
  id:
    description: Id of the run. Needed for O(state=recorded), O(state=paused), O(state=finished) and O(state=withdrawn).
    type: str
  operator:
    description: Name of the person, for messages to others. Needed for O(state=started).
    type: str
  session:
    description:
      - Text that only this playbook process uses. Who has the same owns the lock.
      - Needed for O(state=started), O(state=recorded), O(state=paused), O(state=finished) and O(state=withdrawn). Not a secret.
    type: str
  ttl_seconds:
    description: So long after its last sign of life the lock is held.
    type: int
    default: 120
  take_over:
    description: Take the lock from another session although it has not expired. Make sure first that the other one is dead.
    type: bool
    default: false
  step:
    description: Where the migration stands.
    type: str
  status:
    description:
      - How it stands. V(running), when left out, for O(state=recorded) and O(state=paused).
      - A run recorded as V(failed) is not finished, the next V(started) resumes it.
    type: str
    choices: [running, succeeded, failed, undone]
  reason:
    description: Sentence that a customer may read.
    type: str
  event:
    description: What the line in the events says. Step and status when left out.
    type: str
  details:
    description: More for that line.
    type: dict
    default: {}
  figures:
    description: Measured figures, merged into the record's.
    type: dict
    default: {}
  versions:
    description: Versions, merged into the record's.
    type: dict
    default: {}
  content:
    description: Record from the other server, as RV(content) gave it. Needed for O(state=mirrored).
    type: dict
attributes:
  check_mode:
    description: Says truthfully whether a record or the lock would change. Without an unfinished run the id is the one a run started now would get.
    support: full
  diff_mode:
    description: Records are not shown as differences.
    support: none
  idempotent:
    description: V(read) and V(mirrored) are. The others write an event each time, which is their purpose.
    support: partial
"""

EXAMPLES = r"""
- name: Begin, or go on where the last attempt ended
  ireporter_run:
    tenant: acme
    state: started
    kind: shared_to_dedicated
    operator: night-shift
    session: "{{ session }}"
  register: run

- name: Say that the freeze is proven
  ireporter_run:
    tenant: acme
    state: recorded
    id: "{{ run.id }}"
    session: "{{ session }}"
    step: freeze
    status: succeeded
    figures:
      freeze_seconds: "{{ frozen.seconds }}"

- name: Keep a copy on the target
  ireporter_run:
    tenant: acme
    state: mirrored
    content: "{{ run.content }}"
  delegate_to: dedicated01
"""

RETURN = r"""
id:
  description: Id of the run.
  returned: for every state but V(read) without O(id)
  type: str
  sample: acme-d-20261123t120000z
resumed:
  description: Whether an unfinished run goes on.
  returned: O(state=started)
  type: bool
run:
  description: Contents of C(run.json), V(none) where there is none.
  returned: success
  type: dict
  sample: {"id": "acme-d-20261123t120000z", "kind": "shared_to_dedicated", "step": "freeze", "status": "running", "attempt": 1}
content:
  description: Whole record (C(run) and C(events)), to be mirrored on the other server.
  returned: when there is a run
  type: dict
lock:
  description: Whether the tenant's lock is held, C(by) what, its operator, run_id, since, expires_in_seconds and expires_at.
  returned: success
  type: dict
runs:
  description: Every run of the tenant on this server (of O(kind)), newest first.
  returned: success
  type: list
  elements: dict
latest:
  description: The newest of them, V(none) where there is none.
  returned: success
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.ireporter.clock import SystemClock
from ansible.module_utils.ireporter.errors import MigrationError
from ansible.module_utils.ireporter.json_files import unusable
from ansible.module_utils.ireporter.run_lock import RunLock
from ansible.module_utils.ireporter.run_record import KINDS, STATUSES, RunRecords
from ansible.module_utils.ireporter.run_session import RunSession
from ansible.module_utils.ireporter.tenant_model import STATE_DIRECTORY
from ansible.module_utils.ireporter.unit import working_units


def main() -> None:
    """Check the arguments, keep the record, return it."""
    module = AnsibleModule(
        argument_spec={
            "tenant": {"type": "str", "required": True},
            "state": {
                "type": "str",
                "choices": ["started", "recorded", "paused", "finished", "withdrawn", "mirrored", "read"],
                "default": "read",
            },
            "kind": {"type": "str", "choices": list(KINDS)},
            "id": {"type": "str"},
            "operator": {"type": "str"},
            "session": {"type": "str"},
            "ttl_seconds": {"type": "int", "default": 120},
            "take_over": {"type": "bool", "default": False},
            "step": {"type": "str"},
            "status": {"type": "str", "choices": list(STATUSES)},
            "reason": {"type": "str"},
            "event": {"type": "str"},
            "details": {"type": "dict", "default": {}},
            "figures": {"type": "dict", "default": {}},
            "versions": {"type": "dict", "default": {}},
            "content": {"type": "dict"},
        },
        required_if=[
            ("state", "started", ["kind", "operator", "session"]),
            ("state", "recorded", ["id", "session", "step"]),
            ("state", "paused", ["id", "session", "step"]),
            ("state", "finished", ["id", "session", "status"]),
            ("state", "withdrawn", ["id", "session"]),
            ("state", "mirrored", ["content"]),
        ],
        supports_check_mode=True,
    )
    wanted = module.params
    try:
        clock = SystemClock()
        records = RunRecords(STATE_DIRECTORY, wanted["tenant"], clock)
        lock = RunLock(STATE_DIRECTORY, wanted["tenant"], clock, lambda: working_units(wanted["tenant"]))
        session = RunSession(records, lock, check_mode=module.check_mode)
        if wanted["state"] == "started":
            result = session.start(
                wanted["kind"],
                wanted["operator"],
                wanted["session"],
                ttl_seconds=wanted["ttl_seconds"],
                take_over=wanted["take_over"],
                versions=wanted["versions"],
            )
        elif wanted["state"] in ("recorded", "paused", "finished"):
            result = session.record(
                wanted["id"],
                wanted["session"],
                finish=wanted["state"] == "finished",
                pause=wanted["state"] == "paused",
                step=wanted["step"],
                status=wanted["status"] or "running",
                reason=wanted["reason"],
                event=wanted["event"],
                details=wanted["details"],
                figures=wanted["figures"],
                versions=wanted["versions"],
            )
        elif wanted["state"] == "withdrawn":
            result = session.withdraw(wanted["id"], wanted["session"])
        elif wanted["state"] == "mirrored":
            result = session.mirror(wanted["content"])
        else:
            result = session.read(wanted["id"])
        runs = records.list(wanted["kind"])
        result.update(lock=lock.as_dict(), runs=runs, latest=runs[0] if runs else None)
    except MigrationError as error:
        module.fail_json(msg=str(error), **error.as_result())
    except OSError as error:
        refused = unusable(error)
        module.fail_json(msg=str(refused), **refused.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
