"""The quote as pages: what is on them can be read back from the PDF, and data stays data."""

from __future__ import annotations

import html as markup
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from ireporter.errors import MigrationError
from ireporter.quote import LANGUAGES, japan_today
from ireporter.quote_pages import Pages, pdf

from tests.unit.quote_example import NOW, PAGES, PEOPLE, ROOT, example

WINDOW = {"start": "2026-11-20 16:00", "end": "2026-11-22 16:00"}
NASTY = '<script>alert(1)</script> & "x" {{ 7*7 }} {% raw %} {0} {name} %s $(id) ; 株式会社'


@cache
def pages() -> Pages:
    return Pages(PAGES, LANGUAGES)


def html(language: str, **changes: Any) -> str:
    return pages().html(example(**changes).issued(japan_today(NOW)), language)


@cache
def text_of(content: bytes) -> str:
    """What pdftotext reads, with one blank wherever white space was."""
    done = subprocess.run(
        ["pdftotext", "-layout", "-", "-"], input=content, capture_output=True, check=True, timeout=60
    )
    return re.sub(r"\s+", " ", done.stdout.decode())


def without_blanks(text: str) -> str:
    return re.sub(r"\s+", "", text)


def test_a_japanese_quote_says_what_one_signs() -> None:
    text = text_of(pdf(html("ja", window=WINDOW, hours=20)))
    number = example(window=WINDOW, hours=20).issued(japan_today(NOW))["number"]
    for expected in (
        "御 見 積 書",
        f"見積番号 {number}",
        "発行日 2026年11月20日",
        "有効期限 2026年12月20日",
        "パートナー例株式会社 御中",
        "登録番号 T0000000000000",
        "Acme Example Ltd. 様 i-Reporter クラウド環境から自社サーバー環境への移行作業",
        "2026年11月20日(金) 16:00 ～ 2026年11月22日(日) 16:00(日本時間)",
        "¥211,200",
        "2026年11月20日(金) 18:00 ～ 2026年11月21日(土) 00:00",
        "営業時間外、単価 × 1.5",
        "土日、単価 × 1.5",
        "6時間 ¥18,000 ¥108,000",
        "消費税(10%) ¥19,200",
        "120.00 GB(データベース 100.00 GB、ファイル 20.00 GB)",
        "webdav、7.00 GB",
        "2026年12月分より",
        "SHA256:" + "a" * 43,
        "ライセンス費用および保守サポート契約は本見積に含まれません",
        "Sales Person, +81-3-0000-0001",
        "ご署名・ご捺印",
    ):
        assert without_blanks(expected) in without_blanks(text), expected


def test_an_english_quote_states_both_prices() -> None:
    text = text_of(pdf(html("en", plan_change_submitted=None)))
    for expected in (
        "Quotation",
        "Valid until 20 December 2026",
        "Attn. Partner Person",
        "A. Within business hours",
        "JPY 92,400",
        "B. Outside business hours, on weekends or public holidays",
        "JPY 125,400",
        "Consumption tax (10%)",
        "To be named by the customer",
        "Estimated duration 10 h",
        "50% of the estimated duration, rounded up to units of 30 min",
        "A plan change received by the 25th of a month",
        "Not included are the licences of the self-hosted server and the support contract",
        "1.5 times the rate",
        "Option ordered:",
        "Signature",
    ):
        assert without_blanks(expected) in without_blanks(text), expected


@pytest.mark.parametrize("language", LANGUAGES)
def test_data_is_never_interpreted(language: str) -> None:
    people = {"partner": {**PEOPLE["partner"], "company": NASTY}, "customer": NASTY}
    page = html(language, people=people, terms={"ja": [NASTY + "\n次の行"], "en": [NASTY + "\nnext line"]})
    assert "<script" not in page
    assert page.count("{{ 7*7 }}") == 3
    text = without_blanks(text_of(pdf(page)))
    assert (
        text.count(without_blanks(NASTY)) >= 2
    )  # the third stands beside the letter head, whose lines come in between
    assert without_blanks(NASTY + ("次の行" if language == "ja" else "next line")) in text


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", ["長い会社名" * 39, "Donaudampfschifffahrtsgesellschaft" * 5, "W" * 190])
def test_a_long_name_is_wrapped_and_whole(language: str, name: str) -> None:
    text = text_of(pdf(html(language, people={"partner": {**PEOPLE["partner"], "company": name}})))
    letters = without_blanks(name)
    # It stands beside the letter head, whose lines come in between: every letter is there.
    assert all(text.count(letter) >= letters.count(letter) for letter in set(letters))
    assert "Vendor Example Ltd." in text


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=60)


@settings(max_examples=200)
@given(TEXTS)
def test_html_holds_any_text_escaped(text: str) -> None:
    """Property: a parser finds the text in the page as it was given, and no more elements than in any other page."""
    page = html("en", terms={"ja": ["x"], "en": [text]})
    plain = html("en", terms={"ja": ["x"], "en": ["x"]})
    assert re.findall(r"<[a-z/!]+", page) == re.findall(r"<[a-z/!]+", plain)
    assert f"<li>{text}</li>" in [f"<li>{markup.unescape(item)}</li>" for item in re.findall(r"<li>(.*?)</li>", page)]


def test_the_same_quote_makes_the_same_bytes() -> None:
    page = html("ja")
    assert pdf(page) == pdf(html("ja"))
    assert pdf(page) != pdf(html("ja", settings={"rate": 12001}))


def test_it_fits_on_two_sheets() -> None:
    for language in LANGUAGES:
        content = pdf(html(language, window={"start": "2026-11-20 16:00", "end": "2026-11-25 16:00"}, hours=110))
        done = subprocess.run(["pdfinfo", "-"], input=content, capture_output=True, check=True, timeout=60)
        facts = dict(re.findall(r"^([^:]+):\s+(.*)$", done.stdout.decode(), re.MULTILINE))
        assert facts["Pages"] == "2"
        assert facts["Page size"] == "595.276 x 841.89 pts (A4)"
        assert facts["JavaScript"] == "no"


def test_a_letter_the_font_does_not_have_is_refused() -> None:
    with pytest.raises(MigrationError, match=r"would not be what it should: .*U\+1F3ED.*\(quote-pages\)"):
        pdf(html("en", people={"customer": "Acme 🏭"}))


@pytest.mark.parametrize("reference", ["file:///etc/hostname", "http://127.0.0.1:9/x", "x.png"])
def test_nothing_is_fetched(reference: str) -> None:
    page = html("en").replace("</body>", f'<img src="{reference}" alt="x"></body>')
    with pytest.raises(
        MigrationError, match=r"would not be what it should: .*(refers to|without a base).*\(quote-pages\)"
    ):
        pdf(page)


def test_another_font_is_refused() -> None:
    page = html("en").replace("Noto Sans CJK JP", "DejaVu Sans")
    with pytest.raises(MigrationError, match=r"The font Noto Sans CJK JP .*DejaVu Sans.*\(quote-pages\)"):
        pdf(page)


def test_every_word_of_one_language_is_in_the_other() -> None:
    def shape(words: object) -> object:
        if isinstance(words, dict):
            return {key: shape(value) for key, value in words.items() if key not in ("money", "seals")}
        fields = sorted(re.findall(r"\{(\w+)", words)) if isinstance(words, str) else None
        return [f for f in fields if f not in ("month", "month_name", "weekday", "day", "year")] if fields else None

    one, other = (yaml.safe_load((PAGES / f"words.{language}.yml").read_text()) for language in LANGUAGES)
    assert shape(one) == shape(other)


def test_every_word_is_used() -> None:
    template = (PAGES / "quote.html.j2").read_text()
    code = (ROOT / "module_utils" / "ireporter" / "quote_pages.py").read_text()
    words = yaml.safe_load((PAGES / "words.en.yml").read_text())
    assert [name for name in words if f"words.{name}" not in template and f'"{name}"' not in code] == []


def test_a_template_that_is_missing_is_named(tmp_path: Path) -> None:
    shutil.copytree(PAGES, tmp_path / "pages")
    (tmp_path / "pages" / "words.ja.yml").unlink()
    with pytest.raises(MigrationError, match=r"words\.ja\.yml is missing.*\(quote-pages\)"):
        Pages(tmp_path / "pages", LANGUAGES)


def test_another_wording_is_another_digest(tmp_path: Path) -> None:
    shutil.copytree(PAGES, tmp_path / "pages")
    with (tmp_path / "pages" / "words.ja.yml").open("a") as words:
        words.write("# another\n")
    assert Pages(tmp_path / "pages", LANGUAGES).digest != pages().digest
