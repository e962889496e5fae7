"""The plan of a shared → dedicated migration: every gate at once, the estimate, the invoice month. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from .data_total import DataTotal, data_total
from .errors import MigrationError
from .plan_contract import (
    accounts_gate,
    invoice_gate,
    price_gate,
    selection_gate,
    unknown_variables,
    variables_gate,
)
from .plan_disks import disk_gates
from .plan_estimate import estimate, seconds_of
from .plan_facts import Facts
from .plan_gate import Gate
from .plan_people import contact_gates, partner_gates, sales_gates
from .plan_result import estimate_result, gates_result, window_result
from .plan_servers import Servers
from .plan_services import address_gates, certificate_gates, clock_gates, dns_gates, mail_gates, time_zone_gate
from .plan_settings import PlanSettings
from .plan_target import empty_gate, measured_gates, network_gates, obstacle_gates, source_gates
from .plan_versions import locale_gate, version_gates
from .plan_window import Timing, lease_gates, maintenance_gate, window_gates


@dataclass(frozen=True)
class PlanInput:
    """All a plan is made of; nothing else is looked at, not even this machine's clock.

    ``facts``: ``{source, target, target_ours, reachable, clock, certificate, addresses, lease_seconds, dns, mail}`` as measured.
    ``variable_names`` None: spelling is not checked. ``remaining`` None: nothing of the freeze is done yet.
    """

    now: datetime
    begins_now: bool
    public_name: str
    facts: Facts
    settings: PlanSettings
    contract: object = None
    contact: object = None
    partner: object = None
    sales_representative: object = None
    window: object = None
    maintenance: object = None
    provision: object = None
    tenants: Sequence[object] = ()
    variable_names: Collection[str] = ()
    known_variables: Collection[str] = field(default_factory=tuple)
    remaining: Collection[str] | None = None


def plan(given: PlanInput) -> dict[str, object]:
    """Judge everything, however much fails.

    Shape: ``{gates, refusals, warnings_found, passed, estimate, invoice_month, window}``, where the estimate is
    ``{parts, prepare_seconds, freeze_seconds, remaining_seconds}``; seconds are None where sizes are unknown.

    :raises MigrationError: ``remaining`` names a part that does not exist (``plan-estimate``).
    """
    facts = given.facts
    source, target = facts.part("source"), facts.part("target")
    servers = Servers(
        source, target, Facts(given.provision), tuple(map(Facts, given.tenants)), facts.flag("target_ours")
    )
    sides = {"source": source, "target": target}
    data = _data(source)
    parts = estimate(data, given.settings) if data else []
    remaining_seconds = seconds_of(parts, "freeze", given.remaining) if data else None
    timing = Timing(given.now, given.begins_now, remaining_seconds, remaining_seconds)
    strangers = unknown_variables(given.variable_names, given.known_variables)
    window_results, window = window_gates(given.window, timing)
    invoice, month = invoice_gate(Facts(given.contract))
    gates: list[Gate] = [
        *measured_gates(sides),
        accounts_gate(source, given.settings),
        price_gate(given.contract, given.variable_names),
        *contact_gates(given.contact),
        *window_results,
        maintenance_gate(given.maintenance, window, timing),
        *lease_gates(facts.number("lease_seconds"), timing),
        invoice,
        selection_gate(given.contract, list(given.tenants), strangers),
        *network_gates(servers, facts.items("reachable")),
        *partner_gates(given.partner),
        *sales_gates(given.sales_representative),
        *source_gates(servers),
        empty_gate(servers),
        *disk_gates(servers, given.settings),
        *version_gates(servers),
        locale_gate(servers),
        *clock_gates(facts.items("clock"), sides, given.settings),
        time_zone_gate(source, target),
        *certificate_gates(facts.part("certificate"), given.public_name, given.now, given.settings),
        *address_gates(facts.part("addresses")),
        *dns_gates(facts.part("dns")),
        *mail_gates(facts.items("mail")),
        *obstacle_gates(sides),
    ]
    if given.known_variables:
        gates.append(variables_gate(strangers, given.known_variables))
    return {
        **gates_result(gates),
        "estimate": estimate_result(parts, ("prepare", "freeze"), remaining_seconds),
        "invoice_month": month,
        "window": window_result(window, given.now),
    }


def _data(source: Facts) -> DataTotal | None:
    """What there is; where a size is unknown, the gates of room and time say so."""
    try:
        return data_total(source)
    except MigrationError:
        return None
