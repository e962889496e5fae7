"""A quote of a cloud → self-hosted migration: measured, estimated, priced, in this order (R03). Pure: the instant it is made at is passed in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from .billing_calendar import BillingCalendar
from .calendar_interval import Interval
from .calendar_invoice import invoice_month
from .calendar_japan import JAPAN, japan_day
from .errors import MigrationError
from .estimate_input import EstimateInput
from .estimate_time import Estimate
from .key_fingerprint import is_fingerprint
from .known_names import refuse_unknown
from .plan_window import over, read_window, say
from .quote_offer import offers
from .quote_people import People
from .quote_settings import QuoteSettings

LANGUAGES = ("ja", "en")


@dataclass(frozen=True)
class QuoteInput:
    """All a quote is made of. ``terms``: further sentences by language."""

    tenant: str
    kind: str
    measured: EstimateInput
    settings: QuoteSettings
    business_hours: Mapping[str, object]
    closed_days: Sequence[object]
    people: People
    signer_fingerprint: object
    window: object = None
    plan_change_submitted: object = None
    terms: Mapping[str, object] | None = None


@dataclass(frozen=True)
class Quote:
    """``content`` are plain values, everything that is printed but the three that follow from the day: number, date, validity."""

    tenant: str
    estimated: Estimate
    content: dict[str, object]
    validity_days: int

    @property
    def digest(self) -> str:
        """SHA-256 of the content; any change of any input that is printed changes it."""
        canonical = json.dumps(self.content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(canonical.encode("utf-8")).hexdigest()

    def issued(self, day: date) -> dict[str, object]:
        """The quote of one day: ``number`` says tenant, day and content."""
        return {
            **self.content,
            "number": f"Q-{self.tenant}-{day:%Y%m%d}-{self.digest[:8].upper()}",
            "date": day.isoformat(),
            "valid_until": (day + timedelta(days=self.validity_days)).isoformat(),
            "content_digest": self.digest,
        }


def must_be_paid(kind: str) -> None:
    """
    :raises MigrationError: a migration of this kind is free of charge (R02).
    """
    if kind != "cloud_export":
        raise MigrationError(
            f"A quote is asked for a migration of kind {kind}, but a move to a dedicated server is free of charge",
            check="R02",
            action="Do not quote it",
        )


def quote(given: QuoteInput, *, now: datetime, pages_digest: str) -> Quote:
    """Measured, estimated, priced, in this order (R03); a migration that is free of charge not even that (R02).

    :param now: aware; a window that is over at this instant cannot be quoted (R10).
    :param pages_digest: SHA-256 of the templates: another wording is another quote.
    :raises MigrationError: with the rule that forbids the quote, or the setting that is missing.
    """
    must_be_paid(given.kind)
    estimated = given.measured.estimate()
    window = _window(given.window, now)
    calendar = BillingCalendar.read(given.business_hours, given.closed_days)
    settings = given.settings
    content: dict[str, object] = {
        "tenant": given.tenant,
        **given.people.as_result(),
        "estimate": estimated.as_result(),
        "window": {"start": say(window.start), "end": say(window.end)} if window else {},
        "business_hours": {name: str(value) for name, value in given.business_hours.items()},
        "offers": [offer.as_result() for offer in offers(estimated, settings, calendar, window)],
        "rate": str(settings.rate),
        "currency": settings.currency,
        "rounding": settings.rounding,
        "rounding_unit": str(settings.rounding_unit),
        "tax_percent": str(settings.tax_percent),
        "basis": settings.basis,
        "attendance_percent": str(settings.attendance_percent),
        "increment_minutes": settings.increment_minutes,
        "invoice_month": _invoice_month(given.plan_change_submitted),
        "signer_fingerprint": _fingerprint(given.signer_fingerprint),
        "terms": _terms(given.terms),
        "validity_days": settings.validity_days,
        "pages_digest": pages_digest,
    }
    return Quote(given.tenant, estimated, content, settings.validity_days)


def japan_today(now: datetime) -> date:
    """The day it is in Japan."""
    return now.astimezone(JAPAN).date()


def _window(window: object, now: datetime) -> Interval | None:
    if window is None or window == {}:
        return None
    span = read_window(window)
    if span.end <= now:
        raise over(span, now)
    return span


def _invoice_month(submitted: object) -> str:
    """R12 refuses nothing: without a date the month is not known yet."""
    if submitted is None or submitted == "":
        return ""
    return invoice_month(japan_day(submitted, field="plan_change_submitted", check="R12")).strftime("%Y-%m")


def _fingerprint(text: object) -> str:
    if not isinstance(text, str) or not is_fingerprint(text):
        raise MigrationError(
            f"The fingerprint of the bundle's signer is {text!r}",
            check="quote-signer",
            action="Give it as ssh-keygen -l shows it, SHA256: and 43 characters",
        )
    return text


def _terms(given: Mapping[str, object] | None) -> dict[str, list[str]]:
    """Further sentences by language; said in one of them, they are said in each."""
    if not given:
        return {language: [] for language in LANGUAGES}
    refuse_unknown(given, LANGUAGES, what="the quote's terms", check="quote-terms")
    terms: dict[str, list[str]] = {}
    for language in LANGUAGES:
        said = given.get(language) or []
        if not isinstance(said, list | tuple) or not all(isinstance(term, str) and term.strip() for term in said):
            raise MigrationError(
                f"The quote's terms ({language}) are no list of sentences",
                check="quote-terms",
                action="Give a list of quoted text",
            )
        terms[language] = [str(term) for term in said]
    if len({len(said) for said in terms.values()}) > 1:
        raise MigrationError(
            "The quote's terms are not the same number in every language",
            check="quote-terms",
            action=f"Say each of them in {' and '.join(LANGUAGES)}",
        )
    return terms
