"""A quote as pages: HTML by jinja2, PDF by WeasyPrint. Values are data: escaped, never taken for a template, and nothing is fetched from anywhere."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from weasyprint import HTML
from weasyprint.urls import URLFetcher

from .errors import MigrationError
from .estimate_words import gigabytes
from .quote_money import Money, plain

_CHECK = "quote-pages"

TEMPLATE, STYLE = "quote.html.j2", "quote.css"
# Debian's fonts-noto-cjk. One that is not installed would be replaced by whatever is, or by empty boxes.
FONT = "Noto Sans CJK JP"


class _Nothing(URLFetcher):  # type: ignore[misc]  # WeasyPrint has no types
    """A page is complete in itself: whatever it names is not fetched, be it a file of this machine or an address."""

    def fetch(self, url: str, headers: object = None) -> None:  # noqa: ARG002  # WeasyPrint's signature
        raise MigrationError(
            f"The page of a quote refers to {url}", check=_CHECK, action="Take the reference out of the templates"
        )


class Pages:
    """The templates of a folder: ``quote.html.j2``, ``quote.css`` and ``words.<language>.yml``."""

    def __init__(self, folder: Path, languages: tuple[str, ...]) -> None:
        """
        :raises MigrationError: a file is missing (``quote-pages``).
        """
        paths = [folder / TEMPLATE, folder / STYLE, *(folder / f"words.{language}.yml" for language in languages)]
        for path in paths:
            if not path.is_file():
                raise MigrationError(
                    f"The template {path} is missing", check=_CHECK, action="Restore it from the repository"
                )
        self.digest = hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in paths)).hexdigest()
        self._style = (folder / STYLE).read_text(encoding="utf-8")
        self._words: dict[str, dict[str, Any]] = {
            language: yaml.safe_load((folder / f"words.{language}.yml").read_text(encoding="utf-8"))
            for language in languages
        }
        self._environment = Environment(
            loader=FileSystemLoader(folder),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )

    def html(self, quote: Mapping[str, Any], language: str) -> str:
        """One page in one language, complete with its style. ``quote``: as :meth:`ireporter.quote.Quote.issued` returns it."""
        words = self._words[language]
        say = _Say(words, Money(quote["currency"], Decimal(quote["rounding_unit"]), quote["rounding"]))
        return self._environment.get_template(TEMPLATE).render(
            quote=quote, words=words, say=say, style=self._style, font=FONT, language=language
        )


def pdf(html: str) -> bytes:
    """The pages as PDF; the same page makes the same bytes.

    :raises MigrationError: the font is not installed or lacks a letter, or the page refers to something outside itself (``quote-pages``).
    """
    with _no_complaints():
        document = HTML(string=html, url_fetcher=_Nothing()).render()
        content: bytes = document.write_pdf(pdf_tags=True)
    others = sorted(
        {font.family.decode() if isinstance(font.family, bytes) else font.family for font in document.fonts.values()}
        - {FONT}
    )
    if others or not document.fonts:
        raise MigrationError(
            f"The font {FONT} has not every letter of the quote or is not installed; {', '.join(others) or 'none'} would be used",
            check=_CHECK,
            action="Install fonts-noto-cjk on the control node",
        )
    return content


@contextmanager
def _no_complaints() -> Iterator[None]:
    """WeasyPrint only logs that a letter is missing or that a reference was not followed; the page would lack it."""
    heard: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    logger, ear = logging.getLogger("weasyprint"), Ear(logging.WARNING)
    logger.addHandler(ear)
    try:
        yield
    finally:
        logger.removeHandler(ear)
    if heard:
        raise MigrationError(
            f"The page of a quote would not be what it should: {' '.join(heard[0].split())}",
            check=_CHECK,
            action="Take what cannot be printed out of the inventory's names, or the template",
        )


class _Say:
    """How numbers and days are written in one language. A method's arguments are data; the words they go into are ours."""

    def __init__(self, words: Mapping[str, Any], money: Money) -> None:
        self._words = words
        self._money = money

    def fill(self, sentence: str, **values: object) -> str:
        return sentence.format(**values)

    def money(self, amount: str) -> str:
        form = self._words["money"].get(self._money.currency, self._words["money"]["other"])
        return self.fill(form, currency=self._money.currency, amount=self._money.say(Decimal(amount)))

    def hours(self, minutes: int) -> str:
        whole, rest = divmod(minutes, 60)
        if not whole and rest:
            return self.fill(self._words["minutes"], minutes=rest)
        return self.fill(self._words["hours_minutes" if rest else "hours"], hours=whole, minutes=rest)

    def seconds(self, seconds: int) -> str:
        """To the minute, rounded up."""
        return self.hours(-(-seconds // 60))

    def bytes(self, size: int) -> str:
        return gigabytes(size)

    def day(self, text: str) -> str:
        return self._date(date.fromisoformat(text), "day")

    def moment(self, text: str) -> str:
        """``YYYY-MM-DD HH:MM`` with its day of the week."""
        instant = datetime.strptime(text, "%Y-%m-%d %H:%M")  # Japan time, as the page says
        return f"{self._date(instant.date(), 'weekday_day')} {instant:%H:%M}"

    def month(self, text: str) -> str:
        return self._date(date.fromisoformat(f"{text}-01"), "month")

    def percent(self, number: str) -> str:
        return f"{plain(Decimal(number))}%"

    def _date(self, day: date, form: str) -> str:
        return self.fill(
            self._words["forms"][form],
            year=day.year,
            month=day.month,
            month_name=self._words["months"][day.month - 1],
            day=day.day,
            weekday=self._words["weekdays"][day.weekday()],
        )
