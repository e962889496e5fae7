"""The load client's bookkeeping: content, journal, outages, names."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from lab import load_client
from lab.load_client import Content, Form, LoadError, Names, Seen

FORM = Form(3, tuple((1 + n % 2, n, "Image" if n % 5 == 4 else "KeyboardText") for n in range(24)))


def content(name: str = "点検", value: str = "異常なし") -> Content:
    return Content(name, ("k1", "k2"), ((1, 0, value), (2, 1, "x\ny")))


def entry(outcome: str, report: int | None, what: Content, kind: str = "create", tenant: str = "acme") -> str:
    fields: dict[str, Any] = {"tenant": tenant, "kind": kind, "outcome": outcome, "report": report}
    return json.dumps(fields | {"digest": what.digest(), "content": what.as_json()}, ensure_ascii=False) + "\n"


def detail(what: Content) -> ET.Element:
    clusters = "".join(
        f"<cluster><sheetNo>{s}</sheetNo><clusterId>{c}</clusterId><value>{v}</value></cluster>"
        for s, c, v in what.values
    )
    return ET.fromstring(
        f"<conmas><detailInfo><topName>{what.name}</topName><systemKey1>{what.keys[0]}</systemKey1>"
        f"<systemKey2>{what.keys[1]}</systemKey2><clusters>{clusters}</clusters></detailInfo></conmas>"
    )


def test_content_survives_the_journal_and_its_digest_names_every_part() -> None:
    made, image = load_client.make_content(random.Random(1), FORM, "acme-00", with_photo=True)
    assert image is not None
    assert made.photo is not None
    again = Content.of_json(json.loads(json.dumps(made.as_json())))
    assert again == made
    assert again.digest() == made.digest()
    others = [content(), content(name="x"), content(value="x"), Content("点検", ("k1", "K2"), content().values)]
    assert len({other.digest() for other in others}) == 4


def test_the_upload_holds_what_is_expected() -> None:
    made, _ = load_client.make_content(random.Random(2), FORM, "acme-00", with_photo=True)
    root = ET.fromstring(load_client.report_xml(made, definition=3))
    assert root.findtext("top/defTopId") == "3"
    values = [(c.findtext("sheetNo"), c.findtext("clusterId"), c.findtext("value")) for c in root.iter("cluster")]
    assert ("1", "4", "photo.png") in values
    assert len(values) == len(made.values) + 1
    update = ET.fromstring(load_client.report_xml(content(), report=9))
    assert (update.findtext("top/repTopId"), update.find("top/defTopId")) == ("9", None)


def test_differences_are_named() -> None:
    assert load_client.differences(content(), detail(content())) == []
    assert load_client.differences(content(), detail(content(value="要確認"))) == ["cluster 1/0"]
    assert load_client.differences(content(), detail(content(name="x"))) == ["topName"]
    assert load_client.differences(content(), ET.fromstring("<conmas/>")) == ["no detailInfo"]
    with_photo = Content("点検", ("k1", "k2"), content().values, (1, 4, "00"))
    assert load_client.differences(with_photo, detail(content())) == ["photo"]


def test_the_journal_keeps_the_last_acknowledged_content_and_what_may_have_followed() -> None:
    first, second, third = content("1"), content("2"), content("3")
    lines = [
        entry("acknowledged", 7, first),
        entry("unknown", 7, second, "update"),
        entry("unknown", None, content("never answered")),
        entry("acknowledged", 8, first),
        entry("unknown", 8, second, "update"),
        entry("acknowledged", 8, third, "update"),
        entry("acknowledged", 7, first, tenant="bravo"),
        '{"torn":',
    ]
    recorded = load_client.read_journal(iter(lines), "acme")
    assert (recorded.acknowledged, recorded.unknown) == (3, 3)
    assert (recorded.expected[7].acknowledged, recorded.expected[7].unknown) == (first, [second])
    assert (recorded.expected[8].acknowledged, recorded.expected[8].unknown, recorded.expected[8].writes) == (
        third,
        [],
        2,
    )


def test_an_id_handed_out_twice_is_a_lost_write() -> None:
    lines = [entry("acknowledged", 7, content("1")), entry("acknowledged", 7, content("2"))]
    recorded = load_client.read_journal(iter(lines), "acme")
    assert [report for report, _ in recorded.handed_out_twice] == [7]


def test_a_damaged_journal_is_refused() -> None:
    line = entry("acknowledged", 7, content()).replace("異常なし", "異常あり")
    with pytest.raises(LoadError, match="damaged"):
        load_client.read_journal(iter([line]), "acme")


def test_an_outage_lasts_from_the_first_failed_to_the_first_good_request(monkeypatch: pytest.MonkeyPatch) -> None:
    now = itertools.count(100.0, 0.0)
    clock = {"now": 100.0}
    monkeypatch.setattr(time, "monotonic", lambda: clock["now"])
    assert next(now) == 100.0
    seen = Seen("tablets", 100.0)
    seen.good(100.0, 100.1, None)
    clock["now"] = 105.2
    seen.failed(105.0, "http 503")
    seen.good(104.9, 105.3, None)  # asked for before the failure was seen: ends nothing
    clock["now"] = 106.0
    seen.failed(105.9, "connect")
    clock["now"] = 110.0
    seen.good(109.5, 110.0, 5.0)
    summary = seen.summary()
    assert summary["outage_seconds"] == 5.0
    assert summary["failed_requests"] == 2
    assert summary["failures"] == {"http 503": 1, "connect": 1}
    assert summary["client_outage_seconds_max"] == 5.0
    assert summary["requests"] == 5
    clock["now"] = 120.0
    seen.failed(120.0, "timeout")
    clock["now"] = 130.0
    open_outage = seen.summary()
    assert open_outage["outage_seconds"] == 10.0
    assert open_outage["first_good"] is None


class FakeRecord:
    def __init__(self, address: str) -> None:
        self.address = address


class FakeAnswer(list[FakeRecord]):
    class rrset:
        ttl = 30


class FakeResolver:
    def __init__(self) -> None:
        self.asked = 0

    async def resolve(self, host: str, kind: str) -> FakeAnswer:
        self.asked += 1
        return FakeAnswer([FakeRecord(f"192.0.2.{self.asked}")])


def test_an_address_is_kept_for_its_ttl_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = {"now": 0.0}
    names = Names(["192.0.2.53"], 53)
    monkeypatch.setattr(names, "_resolver", FakeResolver())
    monkeypatch.setattr(time, "monotonic", lambda: clock["now"])
    loop = asyncio.new_event_loop()
    try:
        assert loop.run_until_complete(names.addresses("a")) == ["192.0.2.1"]
        clock["now"] = 29.9
        assert loop.run_until_complete(names.addresses("a")) == ["192.0.2.1"]
        clock["now"] = 30.1
        assert loop.run_until_complete(names.addresses("a")) == ["192.0.2.2"]
        fixed = Names([], 53, {"a": "198.51.100.9"})
        assert loop.run_until_complete(fixed.addresses("a")) == ["198.51.100.9"]
    finally:
        loop.close()


def test_a_password_stands_in_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "password"
    secret.write_text("geheim\n")
    monkeypatch.setenv("LAB_PASSWORD", "auch")
    tenant = {"name": "a", "role": "tablets", "url": "https://a/", "users": ["u"]}
    path = tmp_path / "load.json"
    path.write_text(
        json.dumps(
            {
                "tenants": [
                    tenant | {"password_file": str(secret)},
                    tenant | {"role": "neighbour", "password_environment": "LAB_PASSWORD"},
                ]
            }
        )
    )
    assert [t.password for t in load_client.read_config(path).tenants] == ["geheim", "auch"]
    path.write_text(json.dumps({"tenants": [tenant]}))
    with pytest.raises(LoadError, match="lacks 'password_environment'"):
        load_client.read_config(path)
    path.write_text(json.dumps({"tenants": [tenant | {"role": "x", "password_file": str(secret)}]}))
    with pytest.raises(LoadError, match="neither tablets nor neighbour"):
        load_client.read_config(path)
