"""The plan of a shared → dedicated migration: every gate at once, the estimate, the invoice month. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from .calendar_interval import Interval
from .plan_contract import (
    accounts_gate,
    invoice_gate,
    price_gate,
    selection_gate,
    unknown_variables,
    variables_gate,
)
from .plan_disks import disk_gates
from .plan_estimate import Part, Sizes, estimate, seconds_of
from .plan_facts import Facts
from .plan_gate import Gate
from .plan_people import contact_gates, partner_gates, sales_gates
from .plan_servers import Servers
from .plan_services import certificate_gates, clock_gates, dns_gates, mail_gates
from .plan_settings import PlanSettings
from .plan_target import empty_gate, measured_gates, network_gates, obstacle_gates, source_gates
from .plan_versions import locale_gate, version_gates
from .plan_window import Timing, maintenance_gate, window_gates


@dataclass(frozen=True)
class PlanInput:
    """All a plan is made of; nothing else is looked at, not even this machine's clock.

    ``facts``: ``{source, target, target_ours, reachable, clock, certificate, dns, mail}`` as measured.
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
    sizes = _sizes(source)
    parts = estimate(sizes, given.settings) if sizes else []
    remaining_seconds = seconds_of(parts, "freeze", given.remaining) if sizes else None
    timing = Timing(given.now, given.begins_now, remaining_seconds)
    strangers = unknown_variables(given.variable_names, given.known_variables)
    window_results, window = window_gates(given.window, timing)
    invoice, month = invoice_gate(Facts(given.contract))
    gates: list[Gate] = [
        *measured_gates(servers),
        accounts_gate(source, given.settings),
        price_gate(given.contract, strangers),
        *contact_gates(given.contact),
        *window_results,
        maintenance_gate(given.maintenance, window, timing),
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
        *clock_gates(facts.items("clock"), source, target, given.settings),
        *certificate_gates(facts.part("certificate"), given.public_name, given.now, given.settings),
        *dns_gates(facts.part("dns")),
        *mail_gates(facts.items("mail")),
        *obstacle_gates(servers),
    ]
    if given.known_variables:
        gates.append(variables_gate(strangers, given.known_variables))
    refusals = [gate.message for gate in gates if not gate.passed and gate.severity == "refuse"]
    return {
        "gates": [gate.as_result() for gate in gates],
        "refusals": refusals,
        "warnings_found": [gate.message for gate in gates if not gate.passed and gate.severity != "refuse"],
        "passed": not refusals,
        "estimate": {
            "parts": [part.as_result() for part in parts],
            "prepare_seconds": _of(parts, "prepare"),
            "freeze_seconds": _of(parts, "freeze"),
            "remaining_seconds": remaining_seconds,
        },
        "invoice_month": month,
        "window": _window_result(window, given.now),
    }


def _sizes(source: Facts) -> Sizes | None:
    database = source.number("database", "bytes")
    trees = source.items("file_trees")
    if database is None or trees is None:
        return None
    files = [tree.number("files") for tree in trees]
    sizes = [tree.number("bytes") for tree in trees]
    known_files = [count for count in files if count is not None]
    known_bytes = [size for size in sizes if size is not None]
    if len(known_files) < len(trees) or len(known_bytes) < len(trees):
        return None
    return Sizes(database, sum(known_files), sum(known_bytes))


def _of(parts: list[Part], phase: str) -> float | None:
    return seconds_of(parts, "prepare" if phase == "prepare" else "freeze") if parts else None


def _window_result(window: Interval | None, now: datetime) -> dict[str, object]:
    if window is None:
        return {}
    return {
        "start": window.start.isoformat(),
        "end": window.end.isoformat(),
        "seconds": window.seconds,
        "seconds_until_start": max(0.0, (window.start - now).total_seconds()),
        "seconds_left": max(0.0, (window.end - max(now, window.start)).total_seconds()),
    }
