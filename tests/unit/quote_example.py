"""One good quote, of which tests change one thing at a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ireporter.estimate_input import EstimateInput, Throughput
from ireporter.plan_facts import Facts
from ireporter.quote import Quote, QuoteInput, quote
from ireporter.quote_people import read_people
from ireporter.quote_settings import QuoteSettings

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "roles" / "ireporter_quote" / "files" / "pages"
NOW = datetime(2026, 11, 20, 3, 0, tzinfo=UTC)  # Friday, noon in Japan
HOUR = 3600

SETTINGS: dict[str, object] = {
    "rate": 12000,
    "currency": "JPY",
    "tax_percent": 10,
    "rounding": "down",
    "rounding_unit": 1,
    "validity_days": 30,
    "basis": "likely",
    "attendance_percent": 50,
    "increment_minutes": 30,
    "preparation_minutes": 120,
}
PEOPLE: dict[str, Any] = {
    "issuer": {
        "company": "Vendor Example Ltd.",
        "address": ["100-0000", "東京都千代田区例町 1-2-3"],
        "phone": "+81-3-0000-0002",
        "email": "quotes@example.com",
        "signer": "Signing Person",
        "registration_number": "T0000000000000",
    },
    "partner": {"company": "パートナー例株式会社", "name": "Partner Person", "email": "partner@example.com"},
    "customer": "Acme Example Ltd.",
    "sales": {"name": "Sales Person", "phone": "+81-3-0000-0001"},
}
ASSESSED: dict[str, object] = {
    "database": {"bytes": 100 * 10**9, "groups": {"report": 10**9}},
    "file_trees": [
        {"name": "output", "files": 2, "bytes": 20 * 10**9, "exists": True},
        {"name": "webdav", "files": 1, "bytes": 7 * 10**9, "exists": True},
    ],
}


def samples(hours: int) -> list[dict[str, object]]:
    """As many as make the example take exactly so many hours: restore does, the other parts are a thousandth of a second."""
    fast: list[dict[str, object]] = [
        {"part": part, "bytes": 120 * 10**9, "seconds": 1}
        for part in ("read", "compress", "encrypt", "write", "download")
    ]
    exact = {"part": "restore", "bytes": 120 * 10**9, "seconds": hours * HOUR - 2}
    return [*fast, *fast, exact, exact]


def measured(hours: int = 10, more: Sequence[dict[str, object]] = ()) -> EstimateInput:
    return EstimateInput(Facts(ASSESSED), "webdav", Throughput([*samples(hours), *more]))


def example(
    *, hours: int = 10, settings: dict[str, object] | None = None, people: dict[str, Any] | None = None, **changes: Any
) -> Quote:
    now = changes.pop("now", NOW)
    pages_digest = changes.pop("pages_digest", "0" * 64)
    given: dict[str, Any] = {
        "tenant": "acme",
        "kind": "cloud_export",
        "measured": measured(hours),
        "settings": QuoteSettings.read(SETTINGS | (settings or {})),
        "business_hours": {"start": "09:00", "end": "18:00"},
        "closed_days": [],
        "people": read_people(**(PEOPLE | (people or {}))),
        "signer_fingerprint": "SHA256:" + "a" * 43,
        "plan_change_submitted": "2026-11-20",
    }
    return quote(QuoteInput(**(given | changes)), now=now, pages_digest=pages_digest)
