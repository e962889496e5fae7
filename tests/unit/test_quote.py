"""The quote: hours, prices, number, what it refuses, and the folder it lies in."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ireporter.errors import MigrationError
from ireporter.estimate_input import EstimateInput, Throughput
from ireporter.plan_facts import Facts
from ireporter.quote import japan_today
from ireporter.quote_files import issued_before, present
from ireporter.quote_money import ROUNDINGS, Money, decimal
from ireporter.quote_people import read_people
from ireporter.quote_settings import QuoteSettings

from tests.unit.quote_example import NOW, PEOPLE, SETTINGS, example, measured

# Friday 22:00 to Monday 12:00; Monday is a public holiday.
WINDOW = {"start": "2026-11-20 22:00", "end": "2026-11-23 12:00"}


def offers(**changes: Any) -> list[dict[str, Any]]:
    found = example(**changes).content["offers"]
    assert isinstance(found, list)
    return found


def test_without_a_window_both_prices_are_stated() -> None:
    """10 h, half of them attended: 5 h; 2 h of preparation. 12000 and 18000 an hour."""
    business, outside = offers()
    assert [(line["work"], line["minutes"], line["unit_price"], line["amount"]) for line in business["lines"]] == [
        ("preparation", 120, "12000", "24000"),
        ("migration", 300, "12000", "60000"),
    ]
    assert (business["subtotal"], business["tax"], business["total"]) == ("84000", "8400", "92400")
    assert [(line["unit_price"], line["amount"]) for line in outside["lines"]] == [
        ("12000", "24000"),
        ("18000", "90000"),
    ]
    assert (outside["when"], outside["total"]) == ("outside-hours", "125400")
    assert [line["start"] for line in outside["lines"]] == ["", ""]


def test_with_a_window_it_is_split_and_shown() -> None:
    (one,) = offers(window={"start": "2026-11-20 16:00", "end": "2026-11-22 16:00"}, hours=20)
    assert [(line["start"], line["end"], line["reason"], line["minutes"], line["amount"]) for line in one["lines"]] == [
        ("", "", "business", 120, "24000"),
        ("2026-11-20 16:00", "2026-11-20 18:00", "business", 120, "24000"),
        ("2026-11-20 18:00", "2026-11-21 00:00", "after-hours", 360, "108000"),
        ("2026-11-21 00:00", "2026-11-21 02:00", "weekend", 120, "36000"),
    ]
    assert one["total"] == "211200"


def test_exactly_as_long_as_the_window_fits_and_a_minute_less_is_refused() -> None:
    assert offers(window={"start": "2026-11-24 08:00", "end": "2026-11-24 18:00"})
    with pytest.raises(MigrationError, match=r"estimated at 10 h 00 min, the window .* has 9 h 59 min \(R11\)"):
        offers(window={"start": "2026-11-24 08:00", "end": "2026-11-24 17:59"})
    with pytest.raises(MigrationError, match=r"engineer's work in it is estimated at 20 h 00 min.*\(R11\)"):
        offers(window={"start": "2026-11-24 08:00", "end": "2026-11-24 18:00"}, settings={"attendance_percent": 200})


def test_the_high_figure_where_it_is_the_basis() -> None:
    slow = [{"part": "restore", "bytes": 120 * 10**9, "seconds": 20 * 3600 - 2}]
    wide = measured(more=slow)
    assert offers(measured=wide, settings={"basis": "high"})[0]["lines"][1]["minutes"] == 600
    assert offers(measured=wide)[0]["lines"][1]["minutes"] < 600


def test_work_is_rounded_up_to_increments() -> None:
    assert offers(settings={"increment_minutes": 480, "preparation_minutes": 0})[0]["lines"][0]["minutes"] == 480
    assert offers(settings={"attendance_percent": "50.1"})[0]["lines"][1]["minutes"] == 330
    assert offers(settings={"increment_minutes": 7})[0]["lines"][1]["minutes"] == 301


@given(
    st.sampled_from(ROUNDINGS),
    st.sampled_from(["1", "0.01", "10", "100"]),
    st.fractions(min_value=0, max_value=10**9),
)
def test_money_is_a_multiple_of_the_unit_in_the_direction_asked_for(rounding: Any, unit: str, exact: Fraction) -> None:
    money = Money("JPY", Decimal(unit), rounding)
    rounded = Fraction(money.round(exact))
    assert rounded % Fraction(unit) == 0
    off = rounded - exact
    if rounding == "down":
        assert -Fraction(unit) < off <= 0
    elif rounding == "up":
        assert 0 <= off < Fraction(unit)
    else:
        assert abs(off) <= Fraction(unit) / 2
        if abs(off) * 2 == Fraction(unit):
            assert off > 0 if rounding == "half_up" else rounded / Fraction(unit) % 2 == 0


@given(
    st.integers(1, 100_000),
    st.integers(1, 300),
    st.integers(0, 30),
    st.sampled_from(["1", "0.01"]),
    st.sampled_from(ROUNDINGS),
)
def test_totals_add_up_and_outside_is_one_and_a_half(
    rate: int, attendance: int, tax: int, unit: str, rounding: str
) -> None:
    """Property: no digit is lost, and outside the work costs 1.5 times as much but for one rounding."""
    changed = {"rate": rate, "attendance_percent": attendance, "tax_percent": tax, "rounding": rounding}
    business, outside = offers(settings={**changed, "rounding_unit": unit, "preparation_minutes": 0})
    for offer in (business, outside):
        assert sum(Decimal(line["amount"]) for line in offer["lines"]) == Decimal(offer["subtotal"])
        assert Decimal(offer["subtotal"]) + Decimal(offer["tax"]) == Decimal(offer["total"])
    once, more = (Decimal(offer["subtotal"]) for offer in (business, outside))
    assert abs(more - once * Decimal("1.5")) <= Decimal(unit) * Decimal("2.5")
    assert Decimal(outside["lines"][0]["unit_price"]) == Decimal(rate) * Decimal("1.5")


def test_money_is_never_a_float() -> None:
    for value in (0.1, 12000.0, True, None, "1e3", "-1", " 1", "1,000", "１", "0x10", "nan"):
        with pytest.raises(MigrationError, match="no exact number"):
            decimal(value, setting="rate", check="quote-settings")
    assert decimal("0.10", setting="rate", check="x") == Decimal("0.10")


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_no_setting_has_a_default(name: str) -> None:
    for missing in ({**SETTINGS, name: None}, {key: value for key, value in SETTINGS.items() if key != name}):
        with pytest.raises(MigrationError, match=rf"settings: {name}; .*\(quote-settings\)"):
            QuoteSettings.read(missing)


def test_all_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(
        MigrationError, match="rate, currency, tax_percent, rounding, rounding_unit, validity_days, basis"
    ):
        QuoteSettings.read({})


@pytest.mark.parametrize(
    "changes",
    [
        {"rate": "0"},
        {"rate": 1.5},
        {"currency": "yen"},
        {"tax_percent": "10%"},
        {"rounding": "nearest"},
        {"rounding_unit": 0},
        {"validity_days": 0},
        {"validity_days": "1.5"},
        {"basis": "low"},
        {"attendance_percent": 0},
        {"increment_minutes": 0},
        {"preparation_minutes": -1},
        {"rates": 1},
    ],
)
def test_settings_of_the_wrong_kind_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(MigrationError, match="quote-settings"):
        QuoteSettings.read(SETTINGS | changes)


def test_a_move_to_a_dedicated_server_has_no_quote() -> None:
    for found in (measured(), EstimateInput(Facts({}), "none", Throughput([]))):
        with pytest.raises(MigrationError, match=r"free of charge \(R02\)"):
            example(kind="shared_to_dedicated", measured=found)


def test_data_then_time_then_price() -> None:
    with pytest.raises(MigrationError, match=r"total amount of data is unknown.*\(R03\)"):
        example(measured=EstimateInput(Facts({}), "none", Throughput([])), window="none")
    with pytest.raises(MigrationError, match=r"no samples of throughput.*\(R03\)"):
        example(measured=replace(measured(), throughput=Throughput([])), window="none")
    with pytest.raises(MigrationError, match=r"\(R10\)"):
        example(window="none")


def test_a_window_that_is_over_is_refused() -> None:
    with pytest.raises(MigrationError, match=r"The window ended at 2026-11-20 11:59.*\(R10\)"):
        example(window={"start": "2026-11-20 01:00", "end": "2026-11-20 11:59"})
    with pytest.raises(MigrationError, match=r"\(R10\)"):
        example(window={"start": "2026-11-24 10:00", "end": "2026-11-24 10:00"})


@pytest.mark.parametrize("fingerprint", [None, "", "MD5:00", "SHA256:" + "a" * 42, "SHA256:" + "a" * 43 + "\n"])
def test_a_fingerprint_is_one(fingerprint: object) -> None:
    with pytest.raises(MigrationError, match="quote-signer"):
        example(signer_fingerprint=fingerprint)


@pytest.mark.parametrize(
    ("submitted", "month"), [("2026-11-25", "2026-12"), ("2026-11-26", "2027-01"), (None, ""), ("", "")]
)
def test_the_invoice_month_is_shown_and_refuses_nothing(submitted: object, month: str) -> None:
    assert example(plan_change_submitted=submitted).content["invoice_month"] == month


@pytest.mark.parametrize(
    ("who", "value", "rule"),
    [
        ("partner", "none", "R03"),
        ("partner", None, "R03"),
        ("partner", {"company": "x", "name": "x"}, "R03"),
        ("partner", {**PEOPLE["partner"], "password": "x"}, "R03"),
        ("partner", {**PEOPLE["partner"], "name": "a\nBcc: b@example.com"}, "R03"),
        ("customer", None, "R05"),
        ("sales", None, "R23"),
        ("sales", {"name": "x"}, "R23"),
        ("issuer", {}, "quote-issuer"),
        ("issuer", {**PEOPLE["issuer"], "address": "one line"}, "quote-issuer"),
        ("issuer", {**PEOPLE["issuer"], "url": "https://example.com"}, "quote-issuer"),
    ],
)
def test_who_is_named_is_complete_and_nothing_else_gets_in(who: str, value: object, rule: str) -> None:
    with pytest.raises(MigrationError, match=rf"\({rule}\)"):
        read_people(**(PEOPLE | {who: value}))


@pytest.mark.parametrize("terms", [{"ja": ["x"]}, {"de": ["x"]}, {"ja": "x", "en": "x"}, {"ja": [""], "en": ["x"]}])
def test_terms_are_said_in_every_language(terms: dict[str, object]) -> None:
    with pytest.raises(MigrationError, match="quote-terms"):
        example(terms=terms)


def test_the_number_says_tenant_day_and_content() -> None:
    number = str(example().issued(date(2026, 11, 20))["number"])
    assert number.startswith("Q-acme-20261120-")
    assert example().issued(date(2026, 11, 20))["number"] == number
    assert example().issued(date(2026, 11, 20))["valid_until"] == "2026-12-20"
    assert example().issued(date(2026, 11, 21))["number"] != number


@pytest.mark.parametrize(
    "changes",
    [
        {"tenant": "other"},
        {"hours": 11},
        {"settings": {"rate": 12001}},
        {"settings": {"tax_percent": 8}},
        {"settings": {"validity_days": 31}},
        {"window": WINDOW},
        {"closed_days": ["12-29"], "window": {"start": "2026-12-29 10:00", "end": "2026-12-30 10:00"}},
        {"business_hours": {"start": "09:00", "end": "17:30"}},
        {"people": {"customer": "Acme Example Inc."}},
        {"people": {"partner": {**PEOPLE["partner"], "name": "Other Person"}}},
        {"signer_fingerprint": "SHA256:" + "b" * 43},
        {"plan_change_submitted": "2026-11-26"},
        {"terms": {"ja": ["一文"], "en": ["A sentence"]}},
        {"pages_digest": "1" * 64},
    ],
)
def test_a_changed_input_is_another_number(changes: dict[str, Any]) -> None:
    assert example(**changes).digest != example().digest


def test_the_day_is_japans() -> None:
    assert japan_today(NOW.replace(hour=14, minute=59)) == date(2026, 11, 20)
    assert japan_today(NOW.replace(hour=15, minute=0)) == date(2026, 11, 21)


# The folder

TODAY = date(2026, 11, 20)


def write(folder: Path, day: date = TODAY, *, text: bytes = b"page", check_mode: bool = False, **changes: Any) -> bool:
    made = example(**changes)
    issued = made.issued(issued_before(folder, made.digest, day) or day)
    return present(
        folder / str(issued["number"]), issued, lambda: {"a.pdf": text, "b.html": b"b"}, check_mode=check_mode
    )[0]


def state_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_second_run_changes_nothing_also_tomorrow_until_it_expires(tmp_path: Path) -> None:
    folder = tmp_path / "quotes" / "acme"
    assert write(folder, check_mode=True)
    assert not folder.exists()
    assert write(folder)
    before = state_of(folder)
    assert {Path(name).name for name in before} == {"a.pdf", "b.html", "quote.json"}
    for day in (TODAY, TODAY + timedelta(days=1), TODAY + timedelta(days=30)):
        assert not write(folder, day)
        assert not write(folder, day, check_mode=True)
    assert state_of(folder) == before
    assert write(folder, TODAY + timedelta(days=31))
    assert len(list(folder.iterdir())) == 2


def test_a_changed_input_leaves_the_former_quote_as_it_was(tmp_path: Path) -> None:
    write(tmp_path)
    before = state_of(tmp_path)
    assert write(tmp_path, settings={"rate": 13000})
    assert {name: state_of(tmp_path)[name] for name in before} == before
    assert not write(tmp_path)


def test_only_the_owner_reads_a_quote(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    write(folder)
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.iterdir()]} == {0o700}


def test_what_was_altered_is_made_again_or_refused(tmp_path: Path) -> None:
    write(tmp_path)
    (page,) = tmp_path.glob("*/a.pdf")
    page.write_bytes(b"less money")
    assert write(tmp_path, check_mode=True)
    assert page.read_bytes() == b"less money"
    assert write(tmp_path)
    assert page.read_bytes() == b"page"
    page.unlink()
    with pytest.raises(MigrationError, match=r"a\.pdf was altered or removed.*\(quote-files\)"):
        write(tmp_path, text=b"made by another version")


@pytest.mark.parametrize("content", ["{", "{}", "[]"])
def test_an_altered_record_is_refused(tmp_path: Path, content: str) -> None:
    write(tmp_path)
    (record,) = tmp_path.glob("*/quote.json")
    record.write_text(content)
    with pytest.raises(MigrationError, match="quote-files"):
        write(tmp_path)


def test_an_altered_price_in_the_record_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    (record,) = tmp_path.glob("*/quote.json")
    content = json.loads(record.read_text())
    content["offers"][0]["total"] = "1"
    record.write_text(json.dumps(content))
    with pytest.raises(MigrationError, match=r"is not the record.*\(quote-files\)"):
        write(tmp_path)


def test_a_run_that_dies_leaves_nothing_that_looks_like_a_quote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", dies)
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert write(tmp_path)


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MigrationError, match=r"could not be written.*\(quote-files\)"):
        write(tmp_path / "file" / "acme")
