"""The load client's bookkeeping: content, journal, outages, names."""

from __future__ import annotations

import asyncio
import hashlib
import io
import itertools
import json
import random
import time
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from lab import load_client
from lab.load_client import (
    ApiError,
    Client,
    Content,
    Expected,
    FailedRequestError,
    Form,
    Journal,
    LoadError,
    LoginRefusedError,
    Names,
    ReadBack,
    Recorded,
    Seen,
    Tenant,
)

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


def test_what_was_acknowledged_after_a_cut_off_is_not_expected_in_an_export() -> None:
    def at(moment: str, line: str) -> str:
        return json.dumps({**json.loads(line), "at": moment}) + "\n"

    first, second, third = content("1"), content("2"), content("3")
    lines = [
        at("2026-01-01T10:00:00.000+00:00", entry("acknowledged", 7, first)),
        at("2026-01-01T10:00:01.000+00:00", entry("acknowledged", 8, first)),
        at("2026-01-01T10:00:09.000+00:00", entry("acknowledged", 7, second, "update")),
        at("2026-01-01T10:00:09.000+00:00", entry("unknown", 8, third, "update")),
        at("2026-01-01T10:00:09.000+00:00", entry("acknowledged", 9, first)),
    ]
    until = datetime.fromisoformat("2026-01-01T10:00:01+00:00")
    recorded = load_client.read_journal(iter(lines), "acme", until)
    assert (recorded.acknowledged, sorted(recorded.expected)) == (2, [7, 8])
    assert recorded.expected[7].acknowledged == first
    assert recorded.expected[8].unknown == [third]


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
    assert open_outage["clients_still_failing"] == 0
    # The tenant is served again, one client is not: its outage counts although it has not ended.
    seen.failing[1] = 104.0
    seen.good(129.0, 130.0, None)
    assert seen.summary()["client_outage_seconds_max"] == 26.0
    assert seen.summary()["clients_still_failing"] == 1


def test_the_slowest_answer_is_known_however_many_there_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_client, "LATENCIES_KEPT", 10)
    seen = Seen("tablets", 0.0)
    for n in range(200):
        seen.good(0.0, 0.1 if n < 100 else 0.3, None)
    seen.good(0.0, 7.0, None)
    latency = seen.summary()["latency_ms"]
    assert isinstance(latency, dict)
    assert latency["max"] == 7000.0
    assert len(seen.latencies) == 10


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


def test_a_torn_last_line_is_cut_off_before_more_is_written(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    load_client.cut_torn_line(journal)
    assert not journal.exists()
    whole = entry("acknowledged", 7, content())
    for rest in ("", '{"torn":'):
        journal.write_text(whole + rest)
        load_client.cut_torn_line(journal)
        assert journal.read_text() == whole
    journal.write_text("torn")
    load_client.cut_torn_line(journal)
    assert journal.read_text() == ""
    journal.write_bytes(b"x" * (load_client.LONGEST_LINE + 1))
    with pytest.raises(LoadError, match="is no journal"):
        load_client.cut_torn_line(journal)


@pytest.mark.parametrize("line", ["{\n", "[]\n", '{"tenant": "acme"}\n', '{"tenant": "acme", "content": {}}\n'])
def test_a_line_that_is_no_event_is_refused(line: str) -> None:
    with pytest.raises(LoadError, match="damaged"):
        load_client.read_journal(iter([line]), "acme")


def test_a_tenant_needs_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_PASSWORD", "x")
    tenant = {"name": "a", "role": "tablets", "url": "u", "users": [], "password_environment": "LAB_PASSWORD"}
    path = tmp_path / "load.json"
    path.write_text(json.dumps({"tenants": [tenant]}))
    with pytest.raises(LoadError, match="has no users"):
        load_client.read_config(path)
    path.write_text(json.dumps({"tenants": ["a"]}))
    with pytest.raises(LoadError, match="cannot be read"):
        load_client.read_config(path)


# What an answer means -------------------------------------------------------------------------------------------------
RESULT = "<conmas><results><result><topId>{}</topId><code>{}</code></result></results></conmas>"
Reply = tuple[int, str, str]  # status, content type, body


async def _served(replies: list[Reply | None], act: Callable[[Client], Awaitable[Any]], cookie: str | None) -> Any:
    """What ``act`` makes of a server that gives these answers; ``None``: it hangs up."""
    left = iter(replies)

    async def handler(request: web.Request) -> web.Response:
        await request.read()
        reply = next(left)
        if reply is None:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        return web.Response(status=reply[0], content_type=reply[1], text=reply[2])

    runner = web.AppRunner(web.Application())
    runner.app.router.add_post("/", handler)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        async with aiohttp.ClientSession() as http:
            tenant = Tenant("acme", "tablets", f"http://127.0.0.1:{port}/", ("u",), "p")
            client = Client(http, tenant, "u", Seen("tablets", 0.0), 5.0)
            client._cookie = cookie
            return await act(client)
    finally:
        await runner.cleanup()


def served(*replies: Reply | None, act: Callable[[Client], Awaitable[Any]], cookie: str | None = "a=b") -> Any:
    return asyncio.run(_served(list(replies), act, cookie))


def create(client: Client) -> Awaitable[int]:
    return client.create(FORM, content(), None, "A")


def test_a_write_is_acknowledged_by_code_0_and_an_id_only() -> None:
    assert served((200, "text/xml", RESULT.format(7, 0)), act=create) == 7
    with pytest.raises(ApiError, match="code 4"):
        served((200, "text/xml", RESULT.format(7, 4)), act=create)


@pytest.mark.parametrize(
    ("reply", "kind", "again"),
    [
        ((503, "text/html", "away"), "http 503", True),
        ((410, "text/html", "gone"), "http 410", True),
        ((502, "text/html", "proxy"), "http 502", False),
        ((500, "text/xml", RESULT.format(7, 0)), "http 500", False),
        ((200, "text/html", "<html/>"), "not the api", False),
        ((200, "text/xml", "<html><code>0</code></html>"), "not the api", False),
        ((200, "text/xml", "<conmas>"), "not xml", False),
        ((200, "text/xml", "<conmas/>"), "no result", False),
        (
            (200, "text/xml", "<conmas><results><result><topId>7</topId></result></results></conmas>"),
            "no result",
            False,
        ),
        ((200, "application/pdf", "%PDF-1.4"), "no result", False),
        ((200, "text/xml", RESULT.format("", 0)), "no id", False),
        (None, "broken", False),
    ],
)
def test_any_other_answer_may_mean_it_was_carried_out(reply: Reply | None, kind: str, again: bool) -> None:
    with pytest.raises(FailedRequestError) as failed:
        served(reply, act=create)
    assert (failed.value.kind, failed.value.maybe, failed.value.again) == (kind, True, again)


def test_an_update_of_another_report_is_no_acknowledgement() -> None:
    with pytest.raises(FailedRequestError, match="another id"):
        served((200, "text/xml", RESULT.format(8, 0)), act=lambda client: client.update(7, content(), "B"))


@pytest.mark.parametrize("reply", [None, (500, "text/html", "x"), (503, "text/html", "x")])
def test_a_login_that_fails_means_that_nothing_was_written(reply: Reply | None) -> None:
    with pytest.raises(FailedRequestError) as failed:
        served(reply, act=create, cookie=None)
    assert (failed.value.maybe, failed.value.again) == (False, True)


def test_a_server_that_does_not_listen_did_nothing() -> None:
    async def act() -> None:
        async with aiohttp.ClientSession() as http:
            tenant = Tenant("acme", "tablets", "http://127.0.0.1:1/", ("u",), "p")
            client = Client(http, tenant, "u", Seen("tablets", 0.0), 5.0)
            client._cookie = "a=b"
            await create(client)

    with pytest.raises(FailedRequestError) as failed:
        asyncio.run(act())
    assert (failed.value.kind, failed.value.maybe, failed.value.again) == ("connect", False, True)


@pytest.mark.parametrize("bad", [None, (503, "text/html", "x"), (410, "text/html", "x"), (200, "text/html", "x")])
def test_an_outage_is_seen_from_the_first_failed_to_the_first_good_answer(bad: Reply | None) -> None:
    async def act(client: Client) -> Seen:
        for _ in range(2):
            with pytest.raises(FailedRequestError):
                await create(client)
        assert len(client._seen.failing) == 1
        await create(client)
        return client._seen

    seen = served(bad, bad, (200, "text/xml", RESULT.format(7, 0)), act=act)
    assert seen.failing == {}
    (outage,) = seen.outages
    assert outage["failed_requests"] == 2
    assert outage["first_failed"] <= outage["first_good"]
    # One client's outage is the tenant's, when there is but one.
    assert round(seen.client_outage_max, 3) == outage["seconds"]


class Script:
    """A client whose writes and reads go as told."""

    def __init__(self, *outcomes: object) -> None:
        self.left = list(outcomes)

    async def _next(self) -> Any:
        outcome = self.left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def create(self, *_: object) -> Any:
        return await self._next()

    async def xml(self, *_: object, **__: object) -> Any:
        return await self._next()

    async def file(self, *_: object, **__: object) -> Any:
        return await self._next()


AWAY = FailedRequestError("connect", maybe=False, again=True)
REFUSING = FailedRequestError("http 503", maybe=True, again=True)
TIMEOUT = FailedRequestError("timeout", maybe=True, again=False)
REFUSED = ApiError("4", "no")


@pytest.mark.parametrize(
    ("outcomes", "written"),
    [
        ([7], ["acknowledged"]),
        ([AWAY, REFUSING, 7], ["acknowledged"]),
        ([TIMEOUT], ["unknown"]),
        ([REFUSING, TIMEOUT], ["unknown"]),
        ([REFUSED], []),
        ([AWAY, REFUSED], []),
        ([REFUSING, REFUSED], ["unknown"]),
        ([REFUSING, AWAY, REFUSED], ["unknown"]),
    ],
)
def test_a_write_is_journaled_as_what_is_known_of_it(
    outcomes: list[object], written: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_client, "RETRY_SECONDS", 0.0)
    seen, script = Seen("tablets", 0.0), Script(*outcomes)
    tenant = Tenant("acme", "tablets", "u", ("u",), "p")

    async def act() -> None:
        with (tmp_path / "journal").open("w") as stream:
            run = load_client.Run(Journal(stream), asyncio.Event(), 1)
            device = load_client.Device(run, script, tenant, seen, "acme-00", 1.0, 1.0)  # type: ignore[arg-type]
            await device._write(FORM)
            # Flushed already: the line outlives the process.
            lines = (tmp_path / "journal").read_text().splitlines()
            assert [json.loads(line)["outcome"] for line in lines] == written

    asyncio.run(act())
    assert script.left == []
    assert (seen.creates, seen.unknown) == (written.count("acknowledged"), written.count("unknown"))


def test_a_write_that_cannot_be_journaled_is_not_counted(tmp_path: Path) -> None:
    seen = Seen("tablets", 0.0)

    async def act() -> None:
        with (tmp_path / "journal").open("w+") as stream:
            run = load_client.Run(Journal(stream), asyncio.Event(), 1)
            tenant = Tenant("acme", "tablets", "u", ("u",), "p")
            device = load_client.Device(run, Script(7), tenant, seen, "acme-00", 1.0, 1.0)  # type: ignore[arg-type]
            stream.close()
            await device._write(FORM)

    with pytest.raises(ValueError, match="closed file"):
        asyncio.run(act())
    assert seen.creates == 0


NO_SUCH = ApiError("5", "There is no report 7")
PHOTO = b"\x89PNG"
WITH_PHOTO = Content("点検", ("k1", "k2"), content().values, (1, 4, hashlib.sha256(PHOTO).hexdigest()))


def packed(image: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("7_1_4.png", image)
    return buffer.getvalue()


def detail_with_photo() -> ET.Element:
    shown = detail(WITH_PHOTO)
    clusters = shown.find("detailInfo/clusters")
    assert clusters is not None
    clusters.append(
        ET.fromstring("<cluster><sheetNo>1</sheetNo><clusterId>4</clusterId><value>Image</value></cluster>")
    )
    return shown


@pytest.mark.parametrize(
    ("wanted", "outcomes", "where"),
    [
        (content(), [detail(content())], "found"),
        (content(), [AWAY, TIMEOUT, detail(content())], "found"),
        (content(), [detail(content(value="x"))], "different"),
        (content(), [NO_SUCH], "lost"),
        (content(), [ApiError("9", "The server failed")], "unreadable"),
        (content(), [TIMEOUT] * 5, "unreadable"),
        (WITH_PHOTO, [detail_with_photo(), packed(PHOTO)], "found"),
        (WITH_PHOTO, [detail_with_photo(), packed(b"other")], "different"),
        (WITH_PHOTO, [detail_with_photo(), b"no ZIP"], "different"),
        (WITH_PHOTO, [detail_with_photo(), *[TIMEOUT] * 5], "unreadable"),
    ],
)
def test_what_is_not_read_is_neither_found_nor_lost(
    wanted: Content, outcomes: list[object], where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def at_once(_: float) -> None:
        """No waiting."""

    monkeypatch.setattr(asyncio, "sleep", at_once)
    back = ReadBack(Recorded(), time.monotonic() + 1e6)
    script = Script(*outcomes)
    asyncio.run(back.check(script, 7, Expected(wanted)))  # type: ignore[arg-type]
    counts = {"found": back.found} | {k: len(getattr(back, k)) for k in ("lost", "different", "unreadable")}
    assert counts == dict.fromkeys(counts, 0) | {where: 1}
    assert script.left == []


def test_reading_back_ends_in_time() -> None:
    back = ReadBack(Recorded(), time.monotonic() - 1)
    asyncio.run(back.check(Script(), 7, Expected(content())))  # type: ignore[arg-type]
    assert back.unreadable == [{"report": 7, "writes": 1, "why": "out of time"}]


def test_a_refused_login_says_nothing_about_reports() -> None:
    back = ReadBack(Recorded(), time.monotonic() + 1e6)
    with pytest.raises(LoginRefusedError):
        asyncio.run(
            back.check(Script(LoginRefusedError("1", "login")), 7, Expected(content()))  # type: ignore[arg-type]
        )
    assert back.lost == back.unreadable == []
