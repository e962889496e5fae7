#!/usr/bin/python
# Copyright (c) 2026, i-Reporter migration maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ireporter_quote
short_description: Estimate how long a migration to a self-hosted server takes, and quote it
description:
  - First the total amount of data, from it and from measured throughput the time, from that the quote, in this order
    (R03). What comes before being unknown, nothing that comes after is made.
  - Hours outside business hours, on weekends, on Japanese public holidays and on closed days cost 1.5 times as much, all
    in Japan time whatever the zone of this machine (R04).
  - The quote is written as HTML and PDF, Japanese and English, with a record C(quote.json). Its number follows from
    tenant, day and content. What was issued under a number is never changed.
  - Values are data. They are escaped, never taken for a template, and the pages refer to nothing outside themselves.
requirements:
  - On the host that runs it (the control node) holidays, Jinja2, PyYAML and WeasyPrint, and the font Noto Sans CJK JP.
author:
  - i-Reporter migration maintainers (@ireporter-migration)
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
    details: The pages are made, and not written.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no
        change.
    support: full
    details: A quote of the same content that is still valid is kept, also on a later day.
options:
  state:
    description:
      - V(estimated) says how long it takes, and writes nothing.
      - V(present) makes the quote from it.
    type: str
    choices: [estimated, present]
    default: present
  kind:
    description: The kind of migration. Only V(cloud_export) has a price (R02).
    type: str
    choices: [cloud_export, shared_to_dedicated]
    default: cloud_export
  tenant:
    description: The tenant's name.
    type: str
    required: true
  assessment:
    description:
      - What M(ireporter_tenant_info) measured on the source, of which C(database.bytes), C(database.groups) and
        C(file_trees) (C(name), C(files), C(bytes), C(exists)) are looked at.
    type: dict
    default: {}
  webdav_tree:
    description: Name of the file tree that is the WebDAV storage, or the word V(none). It is listed and not migrated (R09). Left out, there is no estimate.
    type: str
  samples:
    description:
      - Measured throughput on the real hosts, at least two samples of each part.
      - M(ireporter_throughput_info) takes them.
      - C(part) is V(read), V(compress), V(encrypt), V(write), V(download), V(restore), V(pipeline) or V(overhead); C(bytes) went into
        it in C(seconds). Into C(encrypt), C(write) and C(download) goes the compressed bundle, into the others the data.
      - V(pipeline) is the first four at once, as the export does them. It may be left out; where it was measured, it runs at the same
        time as V(read).
      - C(output_bytes) of a sample of V(compress) says how small it got. Left out, no saving is assumed.
      - C(of) is V(all), V(database) or V(files), V(all) where it is left out.
      - V(overhead) has seconds only, and may have a C(phase). It is what does not grow with the data; phases add up. It may be left out.
    type: list
    elements: dict
    default: []
  earlier:
    description:
      - Exports and imports that ended, each with its C(phase) (V(export) or V(import)), C(uncorrected_seconds) (C(likely) of the phase in
        RV(estimate.uncorrected_seconds_of) then) and C(actual_seconds). What is estimated of that phase is multiplied by what they teach.
    type: list
    elements: dict
    default: []
  flow:
    description:
      - Groups of parts. What is in one group runs at the same time, groups run one after the other. Left out, the
        export is one pipeline, then the bundle is downloaded, then it is restored.
    type: list
    elements: list
  folder:
    description: Folder on this machine that holds a folder per tenant and quote. Needed for O(state=present).
    type: path
  pages:
    description: Folder with the templates C(quote.html.j2), C(quote.css) and C(words.*.yml). Needed for O(state=present).
    type: path
  settings:
    description:
      - What a price depends on. None has a default; all that are missing are named.
      - C(rate) per hour within business hours, C(currency) (ISO 4217), C(tax_percent), C(rounding) (V(down), V(up),
        V(half_up), V(half_even)) and C(rounding_unit) (V(1), V(0.01)), C(validity_days).
      - C(basis) is V(likely) or V(high), the estimate's figure that is quoted. C(attendance_percent) is how much of that
        time an engineer works, rounded up to C(increment_minutes). C(preparation_minutes) is work by day before it.
    type: dict
    default: {}
  business_hours:
    description: C(start) and C(end) as quoted C(HH:MM), Japan time.
    type: dict
    default: {start: "09:00", end: "18:00"}
  closed_days:
    description: Days without business hours beside weekends and public holidays, C(YYYY-MM-DD), or C(MM-DD) for every year.
    type: list
    elements: str
    default: []
  window:
    description:
      - C(start) and C(end) of the agreed downtime as C(YYYY-MM-DD HH:MM), Japan time (R10). Work begins with it. An
        estimate that is longer is refused (R11).
      - Left out, the quote states the price within business hours and the price outside.
    type: dict
  plan_change_submitted:
    description: Day the plan change reached the vendor, Japan time (R12). Left out, the quote explains the rule.
    type: str
  signer_fingerprint:
    description: Fingerprint of the key that will sign the bundle, C(SHA256:…).
    type: str
  issuer:
    description:
      - Letter head, C(company), C(address) (list of lines), C(phone), C(email), C(signer), and C(registration_number) of
        the qualified invoice issuer, if there is one.
    type: dict
  partner:
    description: C(company), C(name) and C(email) of the partner or distributor the quote is for (R03).
    type: raw
  customer:
    description: Company of the customer.
    type: str
  sales_representative:
    description: C(name), C(email) or C(phone), and C(company) of the local sales representative (R23).
    type: dict
  terms:
    description: Further sentences below the terms, a list in C(ja) and the same in C(en).
    type: dict
    default: {}
  variables:
    description:
      - C(names) are the variables of the tenant that begin with the role's prefix, C(known) those the role knows.
      - An unknown name is refused with the nearest known one.
    type: dict
    default: {}
  now:
    description: The instant to quote at, ISO 8601 with offset. Left out, it is this machine's clock.
    type: str
"""

EXAMPLES = r"""
- name: Quote | how long would it take
  ireporter_quote:
    state: estimated
    tenant: acme
    assessment: "{{ source_facts }}"
    webdav_tree: webdav
    samples: "{{ samples }}"
  delegate_to: localhost

- name: Quote | write it
  ireporter_quote:
    tenant: acme
    assessment: "{{ source_facts }}"
    webdav_tree: webdav
    samples: "{{ samples }}"
    folder: /srv/quotes
    pages: roles/ireporter_quote/files/pages
    settings:
      rate: 12000
      currency: JPY
      tax_percent: 10
      rounding: down
      rounding_unit: 1
      validity_days: 30
      basis: likely
      attendance_percent: 25
      increment_minutes: 30
      preparation_minutes: 240
    window: {start: "2026-12-11 18:00", end: "2026-12-13 18:00"}
    signer_fingerprint: "{{ fingerprint }}"
    issuer: "{{ issuer }}"
    partner: {company: Partner Example Ltd., name: Partner Person, email: partner@example.com}
    customer: Acme Example Ltd.
    sales_representative: {name: Sales Person, email: sales@example.com}
  delegate_to: localhost
"""

RETURN = r"""
estimate:
  description:
    - C(data_bytes), C(database_bytes), C(database_groups), C(file_bytes), C(file_trees), C(left_behind), C(bundle_bytes),
      C(parts) (C(name), C(phase), C(bytes), C(samples), C(bytes_per_second), C(seconds)), C(flow), C(uncorrected_seconds),
      C(uncorrected_seconds_of) (V(export), V(import)), C(earlier_migrations) (of each phase) and C(seconds).
    - Each of the seconds has C(low), C(likely) and C(high). Keep C(uncorrected_seconds_of) beside the time it really took.
  returned: success
  type: dict
explanation:
  description: The estimate in plain words.
  returned: success
  type: list
  elements: str
number:
  description: The quote's number.
  returned: success and O(state=present)
  type: str
  sample: Q-acme-20261120-814A254D
quote:
  description:
    - All that is printed. C(offers) has one entry by the hours of the window, or two, within and outside business hours,
      each with C(lines), C(subtotal), C(tax) and C(total). Amounts are text, so that no digit is lost.
  returned: success and O(state=present)
  type: dict
folder:
  description: The quote's folder.
  returned: success and O(state=present)
  type: str
files:
  description: Paths of its pages. In check mode they may not be there yet.
  returned: success and O(state=present)
  type: list
  elements: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.ireporter.clock import instant_or_now
from ansible.module_utils.ireporter.errors import MigrationError
from ansible.module_utils.ireporter.estimate_input import EstimateInput, Throughput
from ansible.module_utils.ireporter.estimate_time import Estimate
from ansible.module_utils.ireporter.estimate_words import explanation
from ansible.module_utils.ireporter.known_names import refuse_unknown
from ansible.module_utils.ireporter.plan_facts import Facts
from ansible.module_utils.ireporter.quote import LANGUAGES, QuoteInput, japan_today, must_be_paid, quote
from ansible.module_utils.ireporter.quote_files import issued_before, present
from ansible.module_utils.ireporter.quote_pages import Pages, pdf
from ansible.module_utils.ireporter.quote_people import read_people
from ansible.module_utils.ireporter.quote_settings import QuoteSettings
from ansible.module_utils.ireporter.tenant_model import tenant_name


def said(estimated: Estimate) -> dict:
    """The estimate as figures and in words."""
    return {"estimate": estimated.as_result(), "explanation": explanation(estimated)}


def run(options: dict, check_mode: bool) -> dict:
    """Estimate, and make the quote where it is asked for; the shape is the module's result.

    :raises MigrationError: with the rule that forbids it.
    """
    tenant = tenant_name(options["tenant"])
    variables = options["variables"]
    if variables.get("known"):
        names = dict.fromkeys(variables.get("names") or [])
        refuse_unknown(names, variables["known"], what="the role", check="variables")
    measured = EstimateInput(
        Facts(options["assessment"]),
        options["webdav_tree"],
        Throughput(options["samples"], options["earlier"], options["flow"]),
    )
    if options["state"] == "estimated":
        return {"changed": False, **said(measured.estimate())}
    # Before anything that is missing, because nothing of it need be there.
    must_be_paid(options["kind"])
    for name in ("folder", "pages"):
        if options[name] is None:
            raise MigrationError(f"No {name} is named for the quote", check=f"quote-{name}", action=f"Set {name}")
    now = instant_or_now(options["now"], check="quote-now")
    pages = Pages(Path(options["pages"]), LANGUAGES)
    made = quote(
        QuoteInput(
            tenant=tenant,
            kind=options["kind"],
            measured=measured,
            settings=QuoteSettings.read(options["settings"]),
            business_hours=options["business_hours"],
            closed_days=options["closed_days"],
            people=read_people(
                issuer=options["issuer"],
                partner=options["partner"],
                customer=options["customer"],
                sales=options["sales_representative"],
            ),
            signer_fingerprint=options["signer_fingerprint"],
            window=options["window"],
            plan_change_submitted=options["plan_change_submitted"],
            terms=options["terms"],
        ),
        now=now,
        pages_digest=pages.digest,
    )
    today = japan_today(now)
    below = Path(options["folder"]) / tenant
    issued = made.issued(issued_before(below, made.digest, today) or today)
    number = str(issued["number"])

    def make() -> dict[str, bytes]:
        html = {language: pages.html(issued, language) for language in LANGUAGES}
        files = {f"{number}.{language}.html": text.encode() for language, text in html.items()}
        return files | {f"{number}.{language}.pdf": pdf(text) for language, text in html.items()}

    changed, files = present(below / number, issued, make, check_mode=check_mode)
    return {
        "changed": changed,
        **said(made.estimated),
        "number": number,
        "quote": issued,
        "folder": str(below / number),
        "files": sorted(map(str, files)),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["estimated", "present"], "default": "present"},
            "kind": {"type": "str", "choices": ["cloud_export", "shared_to_dedicated"], "default": "cloud_export"},
            "tenant": {"type": "str", "required": True},
            "assessment": {"type": "dict", "default": {}},
            "webdav_tree": {"type": "str"},
            "samples": {"type": "list", "elements": "dict", "default": []},
            "earlier": {"type": "list", "elements": "dict", "default": []},
            "flow": {"type": "list", "elements": "list"},
            "folder": {"type": "path"},
            "pages": {"type": "path"},
            "settings": {"type": "dict", "default": {}},
            "business_hours": {"type": "dict", "default": {"start": "09:00", "end": "18:00"}},
            "closed_days": {"type": "list", "elements": "str", "default": []},
            "window": {"type": "dict"},
            "plan_change_submitted": {"type": "str"},
            "signer_fingerprint": {"type": "str"},
            "issuer": {"type": "dict"},
            "partner": {"type": "raw"},
            "customer": {"type": "str"},
            "sales_representative": {"type": "dict"},
            "terms": {"type": "dict", "default": {}},
            "variables": {"type": "dict", "default": {}},
            "now": {"type": "str"},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module.params, module.check_mode)
    except MigrationError as error:
        module.fail_json(msg=str(error), **error.as_result())
    module.exit_json(tenant=module.params["tenant"], **result)


if __name__ == "__main__":
    main()
