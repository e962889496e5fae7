"""The plan of a cloud → self-hosted migration: every gate at once, the data, the estimate, the dates. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from .data_total import DataTotal, data_total
from .errors import MigrationError
from .estimate_input import Throughput
from .estimate_samples import KNOWN
from .estimate_time import Estimate
from .plan_cloud_contract import (
    contract_end,
    in_contract_gate,
    licence_gate,
    licences_gate,
    order_gates,
    paperwork_gate,
)
from .plan_contract import invoice_gate, selection_gate, unknown_variables, variables_gate
from .plan_disks import Need, room_gates
from .plan_estimate import Part, estimate_picture, refuse_unknown_parts, seconds_of
from .plan_facts import Facts
from .plan_gate import Gate, failed, passed, refused
from .plan_people import contact_gates, partner_gates, sales_gates
from .plan_result import estimate_result, gates_result, window_result
from .plan_servers import Servers
from .plan_services import clock_gates, mail_gates
from .plan_settings import PlanSettings
from .plan_target import measured_gates, obstacle_gates, source_gates
from .plan_versions import version_gates
from .plan_webdav import webdav_gate, webdav_tree
from .plan_window import Timing, maintenance_gate, window_gates
from .recipient_key import recipient

_DELIVERY = "delivery host"
_MAJOR = re.compile(r"(\d{1,4})(?:\.\d+)*", re.ASCII)


@dataclass(frozen=True)
class CloudExportInput:
    """All a plan is made of; nothing else is looked at, not even this machine's clock.

    ``facts``: ``{source, delivery, clock, mail}`` as measured. ``contract``: ``{submitted, term, ends, licence_from, licence_margin_days,
    licensed_users, paperwork {complete, date, reference}, quote_number, accepted_quote_number, webdav {tree, confirmed_at}}``.
    ``throughput``: as it was measured, and as the quote takes it. ``import_side``: ``{postgresql_version, application_version}`` as the
    customer says them. ``public_key``: the customer's.
    """

    now: datetime
    begins_now: bool
    facts: Facts
    settings: PlanSettings
    throughput: Throughput = field(default_factory=Throughput)
    contract: object = None
    contact: object = None
    partner: object = None
    sales_representative: object = None
    window: object = None
    maintenance: object = None
    import_side: object = None
    public_key: object = None
    tenants: Sequence[object] = ()
    variable_names: Collection[str] = ()
    known_variables: Collection[str] = field(default_factory=tuple)
    remaining: Collection[str] | None = None


def plan_cloud_export(given: CloudExportInput) -> dict[str, object]:
    """Judge everything, however much fails.

    Shape: ``{gates, refusals, warnings_found, passed, data, estimate, invoice_month, contract_end, window}``; ``data`` is
    :meth:`data_total.DataTotal.as_result`, empty where a size is unknown; the estimate is ``{parts, prepare_seconds, freeze_seconds,
    remaining_seconds, whole}``: the latter is :meth:`estimate_time.Estimate.as_result` (empty where it is unknown) and
    ``remaining_seconds`` of everything from the freeze on.

    :raises MigrationError: ``remaining`` names a part that does not exist (``plan-estimate``).
    """
    facts, contract = given.facts, Facts(given.contract)
    source, delivery = facts.part("source"), facts.part("delivery")
    sides = {"source": source, _DELIVERY: delivery}
    webdav = contract.part("webdav")
    total = _total(source, webdav)
    data = None if isinstance(total, MigrationError) else total
    found = _estimate(total, given.throughput)
    parts = estimate_picture(data, given.settings) if data else []
    freeze, work = _seconds(parts, found, given.remaining)
    named = "The migration, from the freeze to the verified import,"
    timing = Timing(given.now, given.begins_now, freeze, work, named, "Settle the estimate first")
    strangers = unknown_variables(given.variable_names, given.known_variables)
    window_results, window = window_gates(given.window, timing)
    invoice, month = invoice_gate(contract)
    end_gate, end = contract_end(contract, month)
    servers = Servers(source, Facts({}), _import_side(given.import_side), (), None)
    gates: list[Gate] = [
        *measured_gates(sides),
        *order_gates(contract, total, found),
        *contact_gates(given.contact),
        paperwork_gate(contract, given.now),
        licence_gate(contract, end),
        in_contract_gate(window, end),
        licences_gate(source, contract),
        webdav_gate(source, webdav, given.now),
        *window_results,
        maintenance_gate(given.maintenance, window, timing),
        invoice,
        end_gate,
        selection_gate(given.contract, list(given.tenants), strangers),
        *partner_gates(given.partner),
        *sales_gates(given.sales_representative),
        *source_gates(servers),
        *_rooms(source, delivery, data, given.settings),
        public_key_gate(given.public_key),
        *version_gates(servers),
        *clock_gates(facts.items("clock"), sides, given.settings),
        *mail_gates(facts.items("mail")),
        *obstacle_gates({"source": source}),
    ]
    if given.known_variables:
        gates.append(variables_gate(strangers, given.known_variables, priced=True))
    return {
        **gates_result(gates),
        "data": data.as_result() if data else {},
        "estimate": {
            **estimate_result(parts, ("prepare", "freeze"), work),
            "whole": {} if isinstance(found, MigrationError) else found.as_result(),
        },
        "invoice_month": month,
        "contract_end": "" if end is None else end.isoformat(),
        "window": window_result(window, given.now),
    }


def public_key_gate(public_key: object) -> Gate:
    """The customer's key can be encrypted to. Neither gate nor message repeats it: it may be a private one, given by mistake."""
    gate, limit = "public-key", "age X25519 or ssh-ed25519"
    try:
        key = recipient(public_key)
    except MigrationError as error:
        return refused(gate, error, measured=None, limit=limit)
    said = f"The bundle is encrypted to the customer's {key.kind} key {key.fingerprint}"
    return passed(gate, said, measured=key.fingerprint, limit=limit)


def _rooms(source: Facts, delivery: Facts, sizes: DataTotal | None, settings: PlanSettings) -> list[Gate]:
    """Picture, dump, files and bundle on the source, the bundle on the delivery host, added up per file system."""
    if sizes is None:
        return [
            failed(
                f"disk-{side.replace(' ', '-')}",
                f"How much room the {side} needs is unknown",
                "Measure database and file trees of the source first",
                measured=None,
                limit=None,
            )
            for side in ("source", _DELIVERY)
        ]
    # Not the estimate's: what compression may be hoped to save is no room.
    bundle = (sizes.database_bytes * settings.dump_factor + sizes.file_bytes) * settings.bundle_factor
    work = ("export", "state")
    needs = [
        Need("picture", ("database",), sizes.database_bytes),
        Need("dump", work, sizes.database_bytes * settings.dump_factor),
        Need("files", work, sizes.file_bytes),
        Need("bundle", work, bundle),
    ]
    return [
        *room_gates("source", source, needs, settings),
        *room_gates(_DELIVERY, delivery, [Need("bundle", ("delivery",), bundle)], settings),
    ]


def _total(source: Facts, webdav: Facts) -> DataTotal | MigrationError:
    try:
        data = data_total(source)
    except MigrationError as error:
        return error
    try:
        tree = webdav_tree(webdav.at("tree"), source)
    except MigrationError:
        # The gate R09-webdav refuses with it; until then nothing is taken to stay behind.
        return data
    return data.without(tree.text("name") if tree else None)


def _estimate(total: DataTotal | MigrationError, throughput: Throughput) -> Estimate | MigrationError:
    if isinstance(total, MigrationError):
        return MigrationError(
            "There is no estimate without the total amount of data", check="R03", action="Assess the tenant first"
        )
    try:
        return throughput.estimate(total)
    except MigrationError as error:
        return error


def _seconds(
    parts: Sequence[Part], found: Estimate | MigrationError, remaining: Collection[str] | None
) -> tuple[float | None, float | None]:
    """Of the freeze, and of everything from the freeze on, which the agreed window must hold (R11)."""
    if not parts:
        return None, None
    picture = {part.name for part in parts}
    refuse_unknown_parts(remaining or (), {*picture, *KNOWN})
    freeze = seconds_of(parts, "freeze", None if remaining is None else picture & set(remaining))
    # The freeze is in the measured overhead; where that was not measured, the window holds the freeze at least.
    work = None if isinstance(found, MigrationError) else max(freeze, found.window_seconds(remaining))
    return freeze, work


def _import_side(given: object) -> Facts:
    """The customer may write a version as it is shown (``16.3``); its major decides what can be restored."""
    side = Facts(given)
    major = _MAJOR.fullmatch(str(side.at("postgresql_version")))
    return Facts(
        {
            "postgresql_version": int(major[1]) if major else None,
            "application_version": side.text("application_version"),
        }
    )
