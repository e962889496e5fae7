"""The XML the stand-in sends, byte for byte where it is documented."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from urllib.parse import unquote

from lab.standin.ireporter_standin import answers

HEAD = '<?xml version="1.0" encoding="utf-8"?>\n'


def test_login_result() -> None:
    assert answers.login_result(0).body.decode() == HEAD + (
        "<conmas><loginResult><code>0</code><remark /></loginResult></conmas>"
    )


def test_error_and_results() -> None:
    assert answers.error(3, "a<b").body.decode() == HEAD + (
        "<conmas><error><code>3</code><remark>a&lt;b</remark></error></conmas>"
    )
    assert answers.results([(12, 0, ""), ("", 5, "gone")]).body.decode() == HEAD + (
        "<conmas><results><result><topId>12</topId><code>0</code></result>"
        "<result><topId /><code>5</code><remark>gone</remark></result></results></conmas>"
    )


def test_an_empty_list_is_an_empty_items() -> None:
    assert answers.items([]).body.decode() == HEAD + "<conmas><items /></conmas>"


def test_every_value_survives_a_parser_or_is_replaced() -> None:
    value = "漢字 𠮷 \"q\" 'a' & ]]> \t\n\r\n{{x}}"
    root = ET.fromstring(answers.xml(("value", value + "\x00\x1b\ufffe\ud800")).body)
    assert root.findtext("value") == value + "\ufffd" * 4


def test_detail_keeps_the_documented_order() -> None:
    answer = answers.detail({"topId": 1, "topName": None}, [{"sheetNo": 1, "clusterId": 0, "name": "n", "value": ""}])
    assert answer.body.decode() == HEAD + (
        "<conmas><detailInfo><topId>1</topId><topName /><clusters><cluster><sheetNo>1</sheetNo><clusterId>0</clusterId>"
        "<name>n</name><value /></cluster></clusters></detailInfo></conmas>"
    )


def test_numbered_fills_up() -> None:
    assert answers.numbered("systemKey", ["a", None], 3) == [
        ("systemKey1", "a"),
        ("systemKey2", None),
        ("systemKey3", None),
    ]
    assert answers.numbered("k", None, 1) == [("k1", None)]


def test_a_file_says_its_name() -> None:
    answer = answers.file(b"%PDF", "7.pdf", "application/pdf")
    assert answer.headers == [("Content-Disposition", 'attachment; filename="7.pdf"')]


def test_a_file_name_beyond_ascii_is_sent_for_old_clients_and_for_new_ones() -> None:
    (header,) = answers.file(b"", '7_日報 "1"\r\n.pdf', "application/pdf").headers
    assert header == (
        "Content-Disposition",
        "attachment; filename=\"7___ _1___.pdf\"; filename*=UTF-8''7_%E6%97%A5%E5%A0%B1%20%221%22%0D%0A.pdf",
    )
    assert unquote(header[1].rpartition("''")[2]) == '7_日報 "1"\r\n.pdf'
