"""One good export, of which tests change one thing at a time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from ireporter.calendar_japan import JAPAN
from ireporter.estimate_input import Throughput
from ireporter.plan_cloud_export import CloudExportInput, plan_cloud_export
from ireporter.plan_facts import Facts
from ireporter.plan_settings import PlanSettings

from tests.unit.test_plan import GB, server, tree
from tests.unit.test_recipient_key import AGE

NOON = datetime(2026, 11, 27, 3, 0, tzinfo=UTC)  # 12:00 in Japan
CHANGED = datetime(2026, 11, 27, 9, 0, 0, tzinfo=JAPAN)

# Seconds of two samples of 100 MB each; what goes on beside is quicker than the compression.
SAMPLES: list[dict[str, object]] = [
    {"part": part, "bytes": 10**8, "seconds": seconds}
    for part, pair in {
        "read": (2, 2),
        "compress": (3, 4),
        "encrypt": (1, 1),
        "write": (1, 1),
        "download": (20, 25),
        "restore": (5, 6),
        "overhead": (100, 130),
    }.items()
    for seconds in pair
]


def good_facts() -> dict[str, Any]:
    source = server("shared01")
    source["disks"] = [
        {"purpose": "database", "path": "/db", "free_bytes": 100 * GB, "device": 1},
        {"purpose": "state", "path": "/var", "free_bytes": 100 * GB, "device": 2},
    ]
    delivery = {"purpose": "delivery", "path": "/srv", "free_bytes": 100 * GB, "device": 1}
    webdav = tree("webdav", 3, 5 * GB) | {"newest_file_change": CHANGED.timestamp()}
    return {
        "source": {
            "state": "open",
            "server": source,
            "database": {"bytes": 2 * GB, "groups": {"report": GB, "log": 1000}},
            "file_trees": [tree("output", 20000, GB), tree("settings", 10, 1000), webdav],
            "accounts": 120,
            "application_version": "8.2.26020",
            "obstacles": [],
        },
        "delivery": {"server": {"ntp_synchronised": True, "disks": [delivery]}},
        "clock": [{"host": "shared01", "epoch": 1000.2, "asked_at": 1000.0, "answered_at": 1000.5}],
        "mail": [{"recipient": "contact@example.com", "answer": "250 ok"}],
    }


def good_contract() -> dict[str, Any]:
    return {
        "submitted": "2026-11-20",
        "term": "month",
        "licence_from": "2026-11-16",
        "licence_margin_days": 14,
        "licensed_users": 120,
        "paperwork": {"complete": True, "date": "2026-11-27", "reference": "SO-4711"},
        "quote_number": "Q-2",
        "accepted_quote_number": "Q-2",
        "webdav": {"tree": "webdav", "confirmed_at": "2026-11-27 09:01"},
    }


def good() -> CloudExportInput:
    return CloudExportInput(
        now=NOON,
        begins_now=False,
        facts=Facts(good_facts()),
        settings=PlanSettings(),
        throughput=Throughput(SAMPLES),
        contract=good_contract(),
        contact={
            "name": "Contact Person",
            "company": "アクメ",
            "email": "contact@example.com",
            "phone": "+81-3-0000-0000",
            "extension": "none",
        },
        partner="none",
        sales_representative={"name": "Sales Person", "email": "sales@example.com"},
        window={"start": "2026-11-28 00:00", "end": "2026-11-30 00:00"},
        maintenance=[],
        import_side={"postgresql_version": "16.3", "application_version": "8.2.26020"},
        public_key=AGE,
        tenants=[{"name": "acme"}],
    )


def changed(content: Any, value: object, *path: str | int) -> Any:
    at = content
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return content


def with_fact(value: object, *path: str | int) -> CloudExportInput:
    return replace(good(), facts=Facts(changed(good_facts(), value, *path)))


def with_term(value: object, *path: str | int) -> CloudExportInput:
    """With one thing of the contract changed."""
    return replace(good(), contract=changed(good_contract(), value, *path))


def failed(given: CloudExportInput) -> dict[str, str]:
    """Ids and messages of failed gates."""
    gates: Any = plan_cloud_export(given)["gates"]
    return {str(gate["id"]): str(gate["message"]) for gate in gates if not gate["passed"]}


def gate(given: CloudExportInput, name: str) -> dict[str, Any]:
    gates: Any = plan_cloud_export(given)["gates"]
    (found,) = [one for one in gates if one["id"] == name]
    return dict(found)
