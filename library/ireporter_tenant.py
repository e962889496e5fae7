#!/usr/bin/python
# Copyright: i-Reporter migration maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: a tenant open, frozen or closed on its server."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ireporter_tenant
short_description: An i-Reporter tenant open, frozen or closed on its server, with proof
description:
  - Opens, freezes or closes one tenant on the server the module runs on. Other tenants of the server are not touched.
  - Frozen means that no write can happen, and that this was proven with the very writes that succeeded, and were rolled back, just before.
  - A freeze is a lease. A systemd timer on the server itself reopens the tenant at the deadline, also when nobody is there, unless it was disarmed.
  - The state is read from the server (gate, units, connection limit, mounts, lease), never from a note.
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
  state:
    description:
      - V(open) - the tenant serves. A frozen or closed one is brought back exactly as it was.
      - V(frozen) - nobody can write; visitors get HTTP 503 with a maintenance page. When anything fails, all is undone and the module fails.
      - V(closed) - nobody gets in; visitors get HTTP 410, the application is stopped and disabled, the database lets nobody in.
    type: str
    choices: [open, frozen, closed]
    required: true
  lease:
    description:
      - Only for O(state=frozen).
      - V(armed) - the freeze ends by itself. A lease of which half is left counts as fresh.
      - V(disarmed) - the freeze stays. Refused for a tenant that is not frozen any more, because its lease has fired.
    type: str
    choices: [armed, disarmed]
    default: armed
  lease_seconds:
    description: How long the freeze lasts at most.
    type: int
    default: 900
  moved_to:
    description: New address of the tenant, shown on the maintenance page. Left out, the page stays as it is.
    type: str
  admit_secret:
    description:
      - Only for O(state=closed), on a target before it opens. The application runs, and only requests whose header C(X-IReporter-Smoke) holds
        this secret are let in; everybody else gets HTTP 503.
    type: str
  drain_seconds:
    description: How long requests in flight may take to end. Longer ones make the freeze fail, and all is undone.
    type: float
    default: 20
  run_id:
    description: Id of the migration, kept with the freeze. Its lock is refreshed.
    type: str
attributes:
  check_mode:
    description: Says truthfully whether something would change, and fails where the real run would be refused.
    support: full
  diff_mode:
    description: Shows the state before and after.
    support: full
  idempotent:
    description: A tenant that is in the wanted state stays untouched; a frozen one is proven again.
    support: full
"""

EXAMPLES = r"""
- name: Freeze acme for at most fifteen minutes
  ireporter_tenant:
    tenant: "{{ ireporter_tenant_source }}"
    state: frozen
    lease_seconds: 900
  delegate_to: shared01
  become: true

- name: Keep it frozen, and tell visitors where it went
  ireporter_tenant:
    tenant: "{{ ireporter_tenant_source }}"
    state: frozen
    lease: disarmed
    moved_to: https://acme.ireporter.example/

- name: Let only the smoke client into the target
  ireporter_tenant:
    tenant: "{{ ireporter_tenant_target }}"
    state: closed
    admit_secret: "{{ smoke_secret }}"
"""

RETURN = r"""
state_before:
  description: What the tenant was, C(open), C(frozen), C(closed), C(partial) or C(absent).
  returned: success
  type: str
  sample: open
state:
  description: What it is now (in check mode, what it would be).
  returned: success
  type: str
  sample: frozen
disagreements:
  description: Why the state is C(partial), one sentence each.
  returned: success
  type: list
  elements: str
admitting:
  description: Whether only the smoke client is let in.
  returned: success
  type: bool
lease:
  description: The freeze's lease.
  returned: success
  type: dict
  contains:
    status:
      description: C(none), C(armed), C(disarmed) or C(lost) (it should count, but does not).
      type: str
    deadline:
      description: When it ends, UTC.
      type: str
    remaining_seconds:
      description: Seconds left on the server's own clock.
      type: float
deadline:
  description: When an armed lease ends, UTC.
  returned: success
  type: str
  sample: '2026-11-23T12:15:00+00:00'
frozen_at:
  description: When the freeze was proven, UTC.
  returned: success
  type: str
proof:
  description: Every way to write that was tried. Also returned when the proof fails.
  returned: success or failure of the proof
  type: list
  elements: dict
  contains:
    as:
      description: Role, account or OS user.
      type: str
    how:
      description: What was tried.
      type: str
    before:
      description: What came of it before the freeze.
      type: str
    after:
      description: What came of it afterwards.
      type: str
    verified:
      description: Whether that is what it had to be.
      type: bool
  sample: [{"as": "application", "how": "database, new session", "before": "accepted", "after": "refused: …", "verified": true}]
seconds:
  description: How long the change (or the new proof) took.
  returned: success
  type: float
drained_seconds:
  description: How long requests in flight took to end.
  returned: success
  type: float
sessions_terminated:
  description: Database sessions of others that were ended.
  returned: success
  type: int
undone:
  description: What was brought back, one phrase each.
  returned: success
  type: list
  elements: str
repaired:
  description: What somebody had altered since and was put right.
  returned: success
  type: list
  elements: str
obstacles:
  description: Everything that forbids a freeze.
  returned: when refused because of obstacles
  type: list
  elements: dict
"""

import signal
import types

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.ireporter import freeze as freezing
from ansible.module_utils.ireporter.errors import MigrationError
from ansible.module_utils.ireporter.json_files import unusable
from ansible.module_utils.ireporter.run_lock import refresh
from ansible.module_utils.ireporter.tenant_model import ARGUMENTS, STATE_DIRECTORY, parse
from ansible.module_utils.ireporter.tenant_server import Server, this_server
from ansible.module_utils.ireporter.tenant_state import observe


def _interrupted(number: int, _frame: types.FrameType | None) -> None:
    # An exception undoes a half-done freeze; the default action would leave that to the lease.
    raise KeyboardInterrupt(signal.Signals(number).name)


def _change(module: AnsibleModule, server: Server) -> dict[str, object]:
    wanted = module.params
    wish = freezing.FreezeWish(
        lease_seconds=wanted["lease_seconds"],
        disarmed=wanted["lease"] == "disarmed",
        moved_to=wanted["moved_to"],
        drain_seconds=wanted["drain_seconds"],
        run_id=wanted["run_id"],
    )
    closing = {"moved_to": wanted["moved_to"], "admit_secret": wanted["admit_secret"]}
    if module.check_mode:
        seen = observe(server)
        if wanted["state"] == "frozen":
            changed = freezing.would_freeze(server, wish)
        elif wanted["state"] == "open":
            changed = freezing.would_reopen(server)
        else:
            changed = freezing.would_close(server, **closing)
        return {
            "changed": changed,
            "state_before": seen.state,
            "state": wanted["state"],
            "disagreements": seen.disagreements,
            "admitting": seen.admitting,
            "lease": seen.lease_as_dict(),
            "deadline": seen.lease_as_dict()["deadline"],
            "frozen_at": seen.record.frozen_at if seen.record else None,
            "proof": [],
            "seconds": 0.0,
            "drained_seconds": 0.0,
            "sessions_terminated": 0,
            "undone": [],
            "repaired": [],
        }
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    if wanted["run_id"]:
        refresh(STATE_DIRECTORY, server.tenant.name, wanted["run_id"], server.clock)
    if wanted["state"] == "frozen":
        outcome = freezing.freeze(server, wish)
    elif wanted["state"] == "open":
        outcome = freezing.reopen(server)
    else:
        outcome = freezing.close(server, **closing, drain_seconds=wanted["drain_seconds"], run_id=wanted["run_id"])
    return outcome.as_dict(server)


def _for_want_of_provisioning(error: MigrationError) -> bool:
    """Whether only that is missing which an earlier task would have installed, had it not been check mode."""
    found = {obstacle["check"] for obstacle in getattr(error, "figures", {}).get("obstacles", [])} or {error.check}
    return found <= {"server-programs", "tools-installed"}


def main() -> None:
    """Check the arguments, change the tenant, return what happened."""
    module = AnsibleModule(
        argument_spec={
            "tenant": {"type": "dict", "required": True, "options": ARGUMENTS},
            "state": {"type": "str", "choices": ["open", "frozen", "closed"], "required": True},
            "lease": {"type": "str", "choices": ["armed", "disarmed"], "default": "armed"},
            "lease_seconds": {"type": "int", "default": 900},
            "moved_to": {"type": "str"},
            "admit_secret": {"type": "str", "no_log": True},
            "drain_seconds": {"type": "float", "default": 20},
            "run_id": {"type": "str"},
        },
        supports_check_mode=True,
    )
    if module.params["admit_secret"] and module.params["state"] != "closed":
        error = MigrationError(
            "admit_secret is only for state closed", check="admit-secret", action="Leave it out, or use state closed"
        )
        module.fail_json(msg=str(error), **error.as_result())
    try:
        server = this_server(parse(module.params["tenant"]))
        result = _change(module, server)
    except MigrationError as error:
        if module.check_mode and _for_want_of_provisioning(error):
            module.exit_json(changed=True, state=module.params["state"])
        module.fail_json(msg=str(error), **error.as_result(), **getattr(error, "figures", {}))
    except OSError as error:
        refused = unusable(error)
        module.fail_json(msg=str(refused), **refused.as_result())
    module.exit_json(**result, diff={"before": f"{result['state_before']}\n", "after": f"{result['state']}\n"})


if __name__ == "__main__":
    main()
