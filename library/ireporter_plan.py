#!/usr/bin/python
# Copyright (c) 2026, i-Reporter migration maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ireporter_plan
short_description: Judge whether an i-Reporter migration may begin, and estimate how long it takes
description:
  - Holds measured facts, contract, contact, window and calendar against the rules of an i-Reporter server migration.
  - Every gate is judged, so that all failures are seen at once. A value that nobody could measure is a failed gate.
  - A failed gate does not fail the module. Assert that RV(refusals) is empty.
  - The module is a pure function of its options. It reads no server, no file and no network.
author:
  - i-Reporter migration maintainers (@ireporter-migration)
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
  kind:
    description:
      - The kind of migration. V(shared_to_dedicated) is free of charge and ends on a server of ours, V(cloud_export) is paid and ends with
        a bundle that the customer imports.
    type: str
    choices: [shared_to_dedicated, cloud_export]
    default: shared_to_dedicated
  phase:
    description:
      - V(check) judges before the cut-over, when the window may lie ahead.
      - V(gate) judges at the moment the cut-over is to begin, which must be inside the window.
    type: str
    choices: [check, gate]
    default: check
  tenant:
    description: The tenant's name, returned as it was given.
    type: str
    default: ""
  public_name:
    description:
      - The name under which users will reach the target. The certificate must be for it.
      - Required with O(kind=shared_to_dedicated).
    type: str
  facts:
    description:
      - What was measured. Whatever is missing fails its gate.
      - C(source) and C(target) are whole results of M(ireporter_tenant_info). A C(cloud_export) has no target; what it needs of the source's
        disks are those for C(database) and C(export) (without the latter, C(state)).
      - C(delivery), of a C(cloud_export), has C(server) with C(ntp_synchronised) and C(disks), of which one has the C(purpose) C(delivery).
      - C(target_ours) says whether what is on the target belongs to this migration.
      - C(reachable) is a list of C(from), C(to), C(what), C(reachable) and C(detail), one per connection that was
        tried.
      - C(clock) is a list of C(host), C(epoch) (the server's own time), C(asked_at) and C(answered_at) (the control
        node's time).
      - C(certificate) has C(subject_alt_name), C(not_before) and C(not_after) as
        M(community.crypto.x509_certificate_info)
        returns them, and the boolean C(chain_verified).
      - C(addresses) has the IPv4 addresses of C(source) and C(target), of a C(shared_to_dedicated) only.
      - C(lease_seconds) is how long a freeze lasts that nobody ends, 0 where it follows from the estimate.
      - C(dns) is a result of M(ireporter_dns_info) with its probe of the right to update.
      - C(mail) is a list of results of M(ireporter_mail) in check mode.
    type: dict
    default: {}
  contract:
    description:
      - The contract as far as it matters here. C(submitted) is the day on which the plan change reached the vendor,
        Japan time (R12).
      - With O(kind=shared_to_dedicated), a key that speaks of a price is refused (R02). A key that chooses data is always refused (R13).
      - With O(kind=cloud_export) it also has what follows.
      - C(quote_number) is the number of the current quote, C(accepted_quote_number) of the one that was accepted, both text (R03).
      - C(paperwork) has C(complete), which must be V(true), and C(date) (C(YYYY-MM-DD)) or C(reference) or both (R06).
      - C(term) is V(month) or V(year). C(ends) is the last day of the cloud contract, C(YYYY-MM-DD). By the month it may be left out,
        then it follows from C(submitted) (R12).
      - C(licence_from) is the day from which on the new licence is in force, C(licence_margin_days) how many days before the end of the
        cloud contract that must be (R07).
      - C(licensed_users) is the number of users of the new licence (R08).
      - C(webdav) has C(tree), the name of the file tree that is the WebDAV storage or the word V(none), and C(confirmed_at), when the
        customer said that its files are downloaded, C(YYYY-MM-DD HH:MM), Japan time (R09).
    type: dict
    default: {}
  contact:
    description:
      - C(name), C(company), C(email), C(phone) and C(extension) of the point of contact; the extension may be
        V(none) (R05).
    type: dict
  partner:
    description: C(company), C(name) and C(email) of the partner or distributor, or the word V(none) (R21).
    type: raw
  sales_representative:
    description: C(name) and C(email) or C(phone) of the local sales representative (R23).
    type: dict
  window:
    description: C(start) and C(end) of the agreed downtime as C(YYYY-MM-DD HH:MM), Japan time (R10).
    type: dict
  calendar:
    description:
      - C(maintenance) is the list of the vendor's announced maintenance dates, each with C(start), C(end) and
        C(what), Japan time (R11).
        No dates are written as an empty list; a missing list is unknown.
    type: dict
    default: {}
  provision:
    description:
      - What provisioning will install where the target has nothing yet, C(postgresql_version) (major), C(locale) and
        C(application_version).
    type: dict
    default: {}
  throughput:
    description:
      - Measured throughput, from which the estimate of a C(cloud_export) is made as the quote's is (R03). C(samples), C(earlier) and C(flow) are
        those of M(ireporter_quote).
    type: dict
    default: {}
  import_side:
    description:
      - What the customer says about the self-hosted server of a C(cloud_export), C(postgresql_version) (such as V(16.3)) and
        C(application_version).
    type: dict
    default: {}
  public_key:
    description:
      - The customer's public key to which the bundle of a C(cloud_export) is encrypted, C(age1...) (X25519) or C(ssh-ed25519 ...).
      - It is not shown, because a private key may be given by mistake. RV(gates) has its fingerprint.
    type: str
  tenants:
    description: The tenant dictionaries of source and target, in this order. They may not choose data (R13). Only keys are looked at; leave passwords out.
    type: list
    elements: dict
    default: []
  variables:
    description:
      - C(names) are the variables of the tenant that begin with one of the project's prefixes, C(known) those the
        project knows.
      - Unknown names fail a gate that says the nearest known one.
    type: dict
    default: {}
  settings:
    description:
      - Limits and throughputs, see C(docs/rules.md). Their names are C(accounts_threshold), C(clock_skew_seconds),
        C(ntp_required),
        C(certificate_margin_days), C(disk_margin_percent), C(backup_factor), C(database_bytes_per_second),
        C(file_bytes_per_second),
        C(files_per_second), C(verification_bytes_per_second), C(fixed_seconds) and C(estimate_factor).
      - For a C(cloud_export) also C(picture_bytes_per_second), and how much room dump and bundle need, C(dump_factor) and C(bundle_factor).
        How long it takes as a whole follows from O(throughput).
    type: dict
    default: {}
  remaining:
    description:
      - Names of the parts of the estimate, from the freeze on, that are still to be done. Left out, all of them are.
    type: list
    elements: str
  now:
    description: The instant to judge at, ISO 8601 with offset. Left out, it is this machine's clock.
    type: str
"""

EXAMPLES = r"""
- name: Check | judge everything that was measured
  ireporter_plan:
    public_name: acme.ireporter.example
    facts:
      source: "{{ source_facts }}"
      target: "{{ target_facts }}"
      reachable: "{{ ways }}"
      clock: "{{ clocks }}"
      certificate: "{{ certificate }}"
      addresses: {source: 192.0.2.11, target: 192.0.2.12}
      dns: "{{ ireporter_dns_rights }}"
      mail: "{{ ireporter_notification_rights }}"
    contract: {submitted: "2026-11-20"}
    contact: {name: Contact Person, company: Acme, email: contact@example.com, phone: "+81-3-1234-5678", extension: none}
    partner: none
    sales_representative: {name: Sales Person, email: sales@example.com}
    window: {start: "2026-11-28 22:00", end: "2026-11-29 02:00"}
    calendar: {maintenance: []}
  delegate_to: localhost
  register: plan

- name: Check | judge an export to a self-hosted server
  ireporter_plan:
    kind: cloud_export
    facts:
      source: "{{ source_facts }}"
      delivery: "{{ delivery_facts }}"
      clock: "{{ clocks }}"
      mail: "{{ ireporter_notification_rights }}"
    contract:
      submitted: "2026-11-20"
      term: month
      licence_from: "2026-11-10"
      licence_margin_days: 14
      licensed_users: 120
      paperwork: {complete: true, date: "2026-11-12", reference: SO-4711}
      quote_number: Q-acme-20261120-814A254D
      accepted_quote_number: Q-acme-20261120-814A254D
      webdav: {tree: webdav, confirmed_at: "2026-11-26 15:00"}
    throughput: {samples: "{{ samples }}"}
    import_side: {postgresql_version: "16.3", application_version: 8.2.26020}
    public_key: "{{ lookup('ansible.builtin.file', 'files/acme.age.pub') }}"
    contact: {name: Contact Person, company: Acme, email: contact@example.com, phone: "+81-3-1234-5678", extension: none}
    partner: none
    sales_representative: {name: Sales Person, email: sales@example.com}
    window: {start: "2026-11-28 00:00", end: "2026-11-30 00:00"}
    calendar: {maintenance: []}
  delegate_to: localhost
  register: plan

- name: Check | refuse when a gate failed
  ansible.builtin.assert:
    that: plan.refusals | length == 0
    fail_msg: "{{ plan.refusals | join('\n') }}"
"""

RETURN = r"""
tenant:
  description: The tenant's name.
  returned: success
  type: str
gates:
  description: Every gate that was judged.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Name of the gate.
      type: str
      sample: R01-accounts
    rule:
      description: The rule it enforces, empty for a check of our own.
      type: str
      sample: R01
    severity:
      description: V(refuse) stops the migration, V(warn) does not, V(info) refuses nothing by its nature.
      type: str
    passed:
      description: Whether the condition holds. Unknown is V(false).
      type: bool
    measured:
      description: What was measured; null when it is unknown.
      type: raw
      sample: 99
    limit:
      description: What it was held against.
      type: raw
      sample: 100
    action:
      description: What to do, empty when passed.
      type: str
    message:
      description: One sentence for a person.
      type: str
refusals:
  description: The messages of the failed gates that stop the migration.
  returned: success
  type: list
  elements: str
warnings_found:
  description: The messages of the failed gates that do not stop it.
  returned: success
  type: list
  elements: str
passed:
  description: Whether nothing refuses.
  returned: success
  type: bool
estimate:
  description:
    - C(parts) (C(name), C(phase), C(quantity), C(unit), C(per_second), C(seconds)), C(prepare_seconds),
      C(freeze_seconds) and
      C(remaining_seconds), the latter three null when sizes are unknown.
    - With O(kind=cloud_export) C(remaining_seconds) is of everything from the freeze on, the slow end of C(whole), which is RV(ireporter_quote#module:estimate).
  returned: success
  type: dict
invoice_month:
  description: The month from which on the new plan is invoiced (R12), empty when unknown.
  returned: success
  type: str
  sample: 2026-12
data:
  description:
    - What there is, C(data_bytes) (of what moves), C(database_bytes), C(database_groups) (bytes by group of tables), C(file_bytes), C(file_trees)
      and C(left_behind) (WebDAV, R09; each with C(name) and C(bytes)). Empty when a size is unknown.
  returned: O(kind=cloud_export)
  type: dict
contract_end:
  description: The last day of the cloud contract (R12, R15), empty when unknown.
  returned: O(kind=cloud_export)
  type: str
  sample: "2026-11-30"
window:
  description:
    - C(start) and C(end) (ISO 8601), C(seconds), C(seconds_until_start) and C(seconds_left), empty when there is
      none.
  returned: success
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.ireporter.clock import instant_or_now
from ansible.module_utils.ireporter.errors import MigrationError
from ansible.module_utils.ireporter.estimate_input import Throughput
from ansible.module_utils.ireporter.plan_cloud_export import CloudExportInput, plan_cloud_export
from ansible.module_utils.ireporter.plan_facts import Facts
from ansible.module_utils.ireporter.plan_settings import PlanSettings
from ansible.module_utils.ireporter.plan_shared_to_dedicated import PlanInput, plan


def judge(options: dict) -> dict:
    """The plan of the kind that is asked for.

    :raises MigrationError: a setting, ``now`` or ``remaining`` makes no sense.
    """
    common = {
        "now": instant_or_now(options["now"], check="plan-now"),
        "begins_now": options["phase"] == "gate",
        "facts": Facts(options["facts"]),
        "settings": PlanSettings.read(options["settings"]),
        "maintenance": options["calendar"].get("maintenance"),
        "variable_names": options["variables"].get("names") or [],
        "known_variables": options["variables"].get("known") or [],
    }
    common |= {
        name: options[name]
        for name in ("contract", "contact", "partner", "sales_representative", "window", "tenants", "remaining")
    }
    if options["kind"] == "cloud_export":
        throughput = Facts(options["throughput"])
        return plan_cloud_export(
            CloudExportInput(
                **common,
                throughput=Throughput(throughput.at("samples"), throughput.at("earlier") or (), throughput.at("flow")),
                import_side=options["import_side"],
                public_key=options["public_key"],
            )
        )
    return plan(PlanInput(**common, public_name=options["public_name"], provision=options["provision"]))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "kind": {
                "type": "str",
                "choices": ["shared_to_dedicated", "cloud_export"],
                "default": "shared_to_dedicated",
            },
            "phase": {"type": "str", "choices": ["check", "gate"], "default": "check"},
            "tenant": {"type": "str", "default": ""},
            "public_name": {"type": "str"},
            "facts": {"type": "dict", "default": {}},
            "contract": {"type": "dict", "default": {}},
            "contact": {"type": "dict"},
            "partner": {"type": "raw"},
            "sales_representative": {"type": "dict"},
            "window": {"type": "dict"},
            "calendar": {"type": "dict", "default": {}},
            "provision": {"type": "dict", "default": {}},
            "throughput": {"type": "dict", "default": {}},
            "import_side": {"type": "dict", "default": {}},
            # A private key, given by mistake, must not be shown with the module's arguments.
            "public_key": {"type": "str", "no_log": True},
            "tenants": {"type": "list", "elements": "dict", "default": []},
            "variables": {"type": "dict", "default": {}},
            "settings": {"type": "dict", "default": {}},
            "remaining": {"type": "list", "elements": "str"},
            "now": {"type": "str"},
        },
        required_if=[("kind", "shared_to_dedicated", ["public_name"])],
        supports_check_mode=True,
    )
    options = module.params
    try:
        result = judge(options)
    except MigrationError as error:
        module.fail_json(msg=str(error), **error.as_result())
    module.exit_json(changed=False, tenant=options["tenant"], **result)


if __name__ == "__main__":
    main()
