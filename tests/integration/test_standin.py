"""The stand-in as clients meet it: every command over a real database; then generator and load client against it."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import psycopg
import pytest

from lab import generate
from lab.standin.ireporter_standin import admin, config, web
from tests.integration.conftest import Cluster

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
API = "/ConMasAPIACME/Rests/APIExecute.aspx"
PASSWORD = "geheim ' \" %"


class Device:
    """Calls the WSGI application as a client would, with a cookie."""

    def __init__(self, application: web.Application) -> None:
        self._application = application
        self.cookie = ""
        self.status = ""
        self.headers: dict[str, str] = {}

    def send(self, body: bytes, kind: str, query: str = "", path: str = API, method: str = "POST") -> bytes:
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": kind,
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_COOKIE": self.cookie,
            "REMOTE_ADDR": "192.0.2.1",
            "wsgi.input": io.BytesIO(body),
        }

        def start(status: str, headers: list[tuple[str, str]]) -> None:
            self.status, self.headers = status, dict(headers)

        answer = b"".join(self._application(environ, start))
        if "Set-Cookie" in self.headers:
            self.cookie = self.headers["Set-Cookie"].split(";")[0]
        return answer

    def command(self, name: str, **parameters: object) -> ET.Element:
        return ET.fromstring(self.raw(name, **parameters))

    def raw(self, name: str, **parameters: object) -> bytes:
        body = urllib.parse.urlencode({"command": name, **parameters}).encode()
        return self.send(body, "application/x-www-form-urlencoded")

    def login(self, user: str = "smoke", password: str = PASSWORD) -> str | None:
        return self.command("Login", user=user, password=password).findtext("loginResult/code")

    def upload(self, command: str, document: bytes, style: str = "A", kind: str = "xml", **more: str) -> ET.Element:
        parameters = {"command": command, "type": kind, "encoding": "65001", **more}
        file_head = 'name="dataFile"; filename="u"' if style == "A" else 'filename="u"'
        parts = [] if style == "B" else [(f'name="{k}"', v.encode()) for k, v in parameters.items()]
        body = b""
        for head, content in [*parts, (file_head, document)]:
            body += f"--b\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + content + b"\r\n"
        query = urllib.parse.urlencode(parameters) if style == "B" else ""
        return ET.fromstring(self.send(body + b"--b--\r\n", "multipart/form-data; boundary=b", query))


def document(cluster: str = "値", *, definition: int | None = None, report: int | None = None, more: str = "") -> bytes:
    top = f"<defTopId>{definition}</defTopId>" if definition else f"<repTopId>{report}</repTopId>"
    return (
        f"<conmas><top>{top}{more}<sheets><sheet><sheetNo>1</sheetNo><clusters><cluster><sheetNo>1</sheetNo>"
        f"<clusterId>0</clusterId><value>{cluster}</value></cluster></clusters></sheet></sheets></top></conmas>"
    ).encode()


class Site:
    """A tenant: database, trees, application."""

    def __init__(self, cluster: Cluster, root: Path, name: str) -> None:
        self.cluster, self.root = cluster, root
        self.database = f"irepodb_{name}"
        self.superuser = cluster.conninfo(self.database)
        assert admin.create_database(cluster.conninfo(), self.database, name, None, "C.UTF-8")
        assert not admin.create_database(cluster.conninfo(), self.database, name, None, "C.UTF-8")
        self.app = cluster.conninfo(self.database, f"{name}_app")
        self.report_role = cluster.conninfo(self.database, f"{name}_report")
        with psycopg.connect(self.app) as connection:
            assert admin.add_user(connection, "smoke", "smoke", "service", PASSWORD)
            assert not admin.add_user(connection, "smoke", "smoke", "service", PASSWORD)
        for tree in ("output", "settings", "webdav"):
            (root / tree).mkdir()
        self.config = config.Config(
            "ACME",
            self.app,
            root / "License.xml",
            root / "sock",
            *(root / t for t in ("output", "settings", "webdav")),
            4,
        )
        self.application = web.Application(self.config, "8.2.26020")

    def value(self, sql: str) -> Any:
        return self.cluster.value(self.database, sql)


@pytest.fixture(scope="module")
def site(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(cluster, tmp_path_factory.mktemp("site"), "acme")
    with psycopg.connect(made.app) as connection:
        definition = admin.create_definition(connection, '点検 "A" / 日常', 2, 24, b"%PDF blank")
        assert admin.publish(connection, definition, 200) == 200
        assert admin.publish(connection, definition, 200) == 0
    yield made
    cluster.execute("postgres", f"DROP DATABASE {made.database} WITH (FORCE)")


@pytest.fixture
def device(site: Site) -> Device:
    made = Device(site.application)
    assert made.login() == "0"
    return made


def test_login_logout_and_refusals(site: Site) -> None:
    device = Device(site.application)
    assert device.login(password="wrong") == "1"
    assert device.status == "200 OK"
    assert device.login(user="' OR 1=1 --") == "1"
    assert device.login(user="a\0b") is None
    assert device.cookie == ""
    assert device.command("GetReportList").findtext("error/code") == "2"
    assert device.login(user="SMOKE") == "0"
    assert device.cookie.startswith("ASP.NET_SessionId=")
    kept = device.cookie
    assert device.command("GetReportList").find("items") is not None
    assert device.command("NoSuchCommand").findtext("error/code") == "3"
    assert device.command("Logout").findtext("error/code") == "0"
    device.cookie = kept
    assert device.command("GetReportList").findtext("error/code") == "2"
    assert site.value("SELECT count(*) FROM log_login WHERE NOT accepted") >= 2


def test_a_session_outlives_the_server(site: Site, device: Device) -> None:
    restarted = Device(web.Application(site.config, "8"))
    restarted.cookie = device.cookie
    assert restarted.command("GetDefinitionList").find("items") is not None


def test_a_group_without_api_permission_is_refused(site: Site) -> None:
    with psycopg.connect(site.app) as connection:
        admin.add_user(connection, "viewer", "v", "user", PASSWORD)
        connection.execute("UPDATE mst_user SET group_id = 2 WHERE login_id = 'viewer'")
    assert Device(site.application).login("viewer") == "1"


def test_paths_follow_the_suffix_and_ignore_case(site: Site) -> None:
    device = Device(site.application)
    login = urllib.parse.urlencode({"command": "Login", "user": "smoke", "password": PASSWORD}).encode()
    form = "application/x-www-form-urlencoded"
    for path in ("/conmasapiacme/rests/apiexecute.aspx", "/ConMasWebACME/Rests/ConMasIReporter.aspx"):
        assert b"<code>0</code>" in device.send(login, form, path=path)
    device.send(login, form, path="/ConMasAPIBRAVO/Rests/APIExecute.aspx")
    assert device.status == "404 Not Found"
    page = device.send(b"", "", path="/ConMasManagerACME/", method="GET")
    assert "試験用".encode() in page
    assert device.headers["X-Test-Equipment"]


@pytest.mark.parametrize("style", ["A", "B"])
def test_a_report_is_created_updated_read_printed_and_deleted(site: Site, device: Device, style: str) -> None:
    definition = int(device.command("GetDefinitionList").findtext("items/item/itemId") or 0)
    more = "<repTopName>日報 &lt;1&gt;</repTopName><systemKey1>K1</systemKey1><remarksValue2>備考</remarksValue2>"
    created = device.upload("AutoGenerate", document("温度 <![CDATA[<45>]]>", definition=definition, more=more), style)
    assert created.findtext("results/result/code") == "0"
    report = int(created.findtext("results/result/topId") or 0)

    listed = device.command("GetReportList", systemKey1="K1").findall("items/item")
    assert listed[0].findtext("itemId") == str(report)
    detail = device.command("GetReportDetail", topId=report).find("detailInfo")
    assert detail is not None
    names = [child.tag for child in detail]
    assert names[:10] == [
        "topId", "topName", "reportType", "registTime", "registUser", "updateTime", "updateUser", "publicStatus",
        "sheetCount", "editStatus",
    ]  # fmt: skip
    assert names[-6:] == [*(f"systemKey{n}" for n in range(1, 6)), "clusters"]
    assert (detail.findtext("topName"), detail.findtext("remarksValue2")) == ("日報 <1>", "備考")
    assert detail.findtext("clusters/cluster/value") == "温度 <45>"

    ignore = "<repTopName>(ignore)</repTopName><systemKey1>(ignore)</systemKey1><editStatus>4</editStatus>"
    creator = "<createUserId>creator</createUserId>"  # of no interest to an update
    updated = device.upload(
        "UpdateReport", document("30", report=report, more=ignore + creator), style, mode="0", updateUser="山田"
    )
    assert updated.findtext("results/result/topId") == str(report)
    detail = device.command("GetReportDetail", topId=report).find("detailInfo")
    assert detail is not None
    shown = [
        detail.findtext(n) for n in ("topName", "systemKey1", "editStatus", "updateUser", "clusters/cluster/value")
    ]
    assert shown == ["日報 <1>", "K1", "4", "山田", "30"]
    assert (
        site.value(f"SELECT new_value FROM log_rep_cluster WHERE rep_top_id = {report} ORDER BY logged_at DESC") == "30"
    )
    assert site.value(f"SELECT s1_c0 FROM view_report_{definition} WHERE rep_top_id = {report}") == "30"

    assert device.raw("GetReportFile", fileType="pdf", report=report).startswith(b"%PDF-")
    named = f"{report}_%E6%97%A5%E5%A0%B1%20_1_.pdf"  # 日報 <1>, as a file may be called
    assert device.headers["Content-Disposition"] == (
        f"attachment; filename=\"{report}___ _1_.pdf\"; filename*=UTF-8''{named}"
    )
    assert device.raw("GetReportFile", fileType="pdfLayer", report=report, pageNo=2).startswith(b"%PDF-")
    assert device.command("GetReportFile", fileType="pdf", report=report, pageNo=9).findtext("error/code") == "4"
    written = [path.name for path in site.config.output.rglob(f"{report}_*")]
    assert sorted(Path(name).suffix for name in written) == [".csv", ".pdf"]

    assert device.command("DeleteReport", report=report, mode=0).findtext("results/result/code") == "0"
    assert device.command("GetReportDetail", topId=report).findtext("error/code") == "5"
    assert device.command("DeleteReport", report=report, mode=1).findtext("results/result/code") == "0"
    assert site.value(f"SELECT count(*) FROM rep_cluster WHERE rep_top_id = {report}") == 0
    assert site.value(f"SELECT count(*) FROM report_{definition}_s_1 WHERE rep_top_id = {report}") == 0


def test_a_zip_brings_its_photo_and_download_gives_it_back(site: Site, device: Device) -> None:
    definition = int(device.command("GetDefinitionList").findtext("items/item/itemId") or 0)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("import.xml", document("p.png", definition=definition, more="<repTopName>写真</repTopName>"))
        archive.writestr("p.png", b"\x89PNG of a kind")
    report = device.upload("AutoGenerate", buffer.getvalue(), kind="xmlZip").findtext("results/result/topId")
    assert device.command("GetReportDetail", topId=report).findtext("detailInfo/clusters/cluster/value") == "Image"
    for encoding, codec in (("932", "cp932"), ("65001", "utf-8-sig")):
        content = device.raw("DownloadCsv", report=report, encoding=encoding, withImage=1, withPDF=1, withPDFLayer=1)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            assert len(archive.namelist()) == 4
            assert archive.read(f"{report}_1_0.png") == b"\x89PNG of a kind"
            rows = list(csv.reader(io.StringIO(archive.read(f"{report}.csv").decode(codec), newline="")))
            assert rows[1][1:3] == ["写真", '点検 "A" / 日常']
    assert device.command("DownloadCsv", report=report, encoding="1252").findtext("error/code") == "4"


def test_a_zip_of_japanese_windows_brings_its_photo(site: Site, device: Device) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("import.xml", document("写真.jpg", definition=1))
        archive.writestr("xxxxxxxx", b"\xff\xd8\xff of a kind")
    name = "写真.jpg".encode("cp932")
    content = buffer.getvalue().replace(b"xxxxxxxx", name)
    report = device.upload("AutoGenerate", content, kind="xmlZip").findtext("results/result/topId")
    downloaded = device.raw("DownloadCsv", report=f"{report},{report}", encoding="932", withImage=1)
    with zipfile.ZipFile(io.BytesIO(downloaded)) as archive:
        assert archive.namelist() == [f"{report}.csv", f"{report}_1_0.jpg"]
        assert archive.read(f"{report}_1_0.jpg") == b"\xff\xd8\xff of a kind"


def test_of_several_reports_each_has_its_own_result(site: Site, device: Device) -> None:
    both = document("gut", definition=1).replace(b"</conmas>", b"")
    both += document("x", definition=999999).removeprefix(b"<conmas>")
    results = device.upload("AutoGenerate", both).findall("results/result")
    assert [r.findtext("code") for r in results] == ["0", "5"]
    assert device.command("GetReportDetail", topId=results[0].findtext("topId")).find("detailInfo") is not None


def test_a_row_that_does_not_fit_is_the_request_s_fault(site: Site, device: Device) -> None:
    with psycopg.connect(site.app) as connection:
        definition = admin.create_definition(connection, "wide", 1, 1572, b"")
        admin.publish(connection, definition, 393)
    # 20 bytes are too short to be moved out of the row, and 393 of them too many for one page.
    clusters = "".join(
        f"<cluster><sheetNo>1</sheetNo><clusterId>{n}</clusterId><value>{n:020}</value></cluster>" for n in range(1572)
    )
    upload = f"<conmas><top><defTopId>{definition}</defTopId><clusters>{clusters}</clusters></top></conmas>".encode()
    answer = device.upload("AutoGenerate", upload)
    assert device.status == "200 OK"
    assert answer.findtext("results/result/code") == "4"
    assert device.command("GetDefinitionList").find("items") is not None


def test_a_key_as_long_as_allowed_fits_the_index(site: Site, device: Device) -> None:
    key = "".join(chr(0x20000 + n * 7919 % 40_000) for n in range(500))
    upload = document("x", definition=1, more=f"<systemKey1>{key}</systemKey1>")
    assert device.upload("AutoGenerate", upload).findtext("results/result/code") == "0"
    assert len(device.command("GetReportList", systemKey1=key).findall("items/item")) == 1


def test_an_update_publishes_nothing(site: Site, device: Device) -> None:
    report = device.upload("AutoGenerate", document(definition=1)).findtext("results/result/topId")
    with psycopg.connect(site.app) as connection:
        connection.execute("UPDATE rep_top SET public_status = 1 WHERE rep_top_id = %s", (int(report or 0),))
    assert device.upload("UpdateReport", document(report=int(report or 0))).findtext("results/result/code") == "0"
    assert device.command("GetReportDetail", topId=report).findtext("detailInfo/publicStatus") == "1"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
def test_commands_are_sent_by_post_only(site: Site, device: Device, method: str) -> None:
    before = site.value("SELECT count(*) FROM rep_top WHERE delete_flag = 1")
    report = device.upload("AutoGenerate", document(definition=1)).findtext("results/result/topId")
    device.send(b"", "", query=f"command=DeleteReport&report={report}", method=method)
    assert (device.status, device.headers["Allow"]) == ("405 Method Not Allowed", "POST")
    assert site.value("SELECT count(*) FROM rep_top WHERE delete_flag = 1") == before


def test_a_query_may_hold_text_that_is_not_percent_encoded(site: Site, device: Device) -> None:
    upload = document("x", definition=1, more="<repTopName>検索する帳票</repTopName>")
    assert device.upload("AutoGenerate", upload).findtext("results/result/code") == "0"
    query = "command=GetReportList&word=検索する".encode().decode("latin-1")  # as WSGI hands it over
    found = ET.fromstring(device.send(b"", "", query=query)).findall("items/item")
    assert [item.findtext("name") for item in found] == ["検索する帳票"]


def test_a_session_is_the_server_s_own_and_ends(site: Site) -> None:
    device = Device(site.application)
    device.cookie = "ASP.NET_SessionId=chosenbyanother0000000000"
    assert device.login() == "0"
    assert "chosenbyanother" not in device.cookie
    forced = Device(site.application)
    forced.cookie = "ASP.NET_SessionId=chosenbyanother0000000000"
    assert forced.command("GetReportList").findtext("error/code") == "2"
    other = Device(site.application)
    assert other.login() == "0"
    assert other.cookie != device.cookie
    with psycopg.connect(site.app) as connection:
        connection.execute(
            "UPDATE tmp_session SET last_access = now() - interval '21 minutes' WHERE session_id = %s",
            (device.cookie.partition("=")[2],),
        )
    assert device.command("GetReportList").findtext("error/code") == "2"
    assert other.command("GetReportList").find("items") is not None


@pytest.mark.parametrize("others", ["a[b]=1; {}", '{}; j={{"a":1}}', "日=本; {}; x", 'a="; {}'])
def test_the_cookies_of_others_do_not_end_a_session(site: Site, device: Device, others: str) -> None:
    device.cookie = others.format(device.cookie)
    assert device.command("GetDefinitionList").find("items") is not None


@pytest.mark.parametrize(
    ("upload", "code"),
    [
        (b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><conmas>&x;</conmas>', "4"),
        (document(definition=999999), "5"),
        (document("x", definition=1).replace(b"<clusterId>0<", b"<clusterId>999<"), "4"),
        (b"<conmas><top></top></conmas>", "4"),
        (b"", "4"),
    ],
)
def test_a_refused_upload_leaves_nothing(site: Site, device: Device, upload: bytes, code: str) -> None:
    before = site.value("SELECT count(*) FROM rep_top")
    answer = device.upload("AutoGenerate", upload)
    assert code in (answer.findtext("error/code"), answer.findtext("results/result/code"))
    assert site.value("SELECT count(*) FROM rep_top") == before


def test_parameters_that_make_no_sense_are_answered(device: Device) -> None:
    for command, parameters in (
        ("GetReportDetail", {}),
        ("GetReportDetail", {"topId": "1; DROP TABLE rep_top"}),
        ("GetReportDetail", {"topId": "99999999999999"}),
        ("GetReportFile", {"fileType": "excel", "report": 1}),
        ("AutoGenerate", {"type": "csv"}),
        ("AutoGenerate", {"type": "csvSimple"}),
        ("AutoGenerate", {"type": "csvZip"}),
        ("UpdateReport", {"type": "csvZipSimple"}),
        ("AutoGenerate", {"type": "xml", "encoding": "1252"}),
        ("UpdateReport", {"type": "xml"}),
        ("GetMasterRecordList", {}),
        ("DeleteReport", {"report": "1", "mode": "2"}),
    ):
        assert device.command(command, **parameters).findtext("error/code") == "4"
        assert device.status == "200 OK"


HOSTILE = "'; DROP TABLE rep_top; --\"\\%_$1 ../../etc/passwd\r\n<x>&"


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("Login", ("user", "password")),
        ("GetDefinitionList", ("word", "systemKey1")),
        ("GetReportList", ("word", "systemKey5")),
        ("GetDefinitionDetail", ("topId",)),
        ("GetReportDetail", ("topId",)),
        ("GetReportFile", ("report", "fileType", "pageNo")),
        ("DownloadCsv", ("report", "encoding", "withImage")),
        ("DeleteReport", ("report", "mode")),
        ("GetMasterRecordList", ("masterId", "masterKey", "recordId", "recordKey", "fieldSearch")),
        ("UpdateReport", ("type", "encoding", "mode", "updateUser")),
        (HOSTILE, ("type",)),
    ],
)
def test_no_parameter_is_more_than_a_value(site: Site, device: Device, command: str, names: tuple[str, ...]) -> None:
    before = site.value("SELECT count(*) FROM rep_top")
    for name in names:
        answer = device.command(command, **{name: HOSTILE})
        assert device.status == "200 OK"
        if answer.find("items") is None:
            assert (answer.findtext("error/code") or answer.findtext("loginResult/code")) in ("1", "3", "4", "5")
        else:
            assert answer.findall("items/item") == []
    assert site.value("SELECT count(*) FROM rep_top") == before


def test_a_zip_writes_nothing_outside_of_the_output_folder(site: Site, device: Device) -> None:
    def elsewhere() -> set[Path]:
        return {path for path in site.root.parent.rglob("*") if site.config.output not in path.parents}

    before = elsewhere()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        name = "<repTopName>../../../evil</repTopName>"
        archive.writestr("../../evil.xml", document("..\\..\\evil.png", definition=1, more=name))
        archive.writestr("../../evil.png", b"\x89PNG")
    answer = device.upload("AutoGenerate", buffer.getvalue(), kind="xmlZip")
    report = answer.findtext("results/result/topId")
    assert device.command("GetReportDetail", topId=report).findtext("detailInfo/clusters/cluster/value") == "Image"
    assert len(list(site.config.output.rglob(f"{report}_*evil*"))) == 2
    assert elsewhere() == before


def test_sessions_work_side_by_side_on_one_report(site: Site, device: Device) -> None:
    report = int(device.upload("AutoGenerate", document("first", definition=1)).findtext("results/result/topId") or 0)

    def work(number: int) -> list[str | None]:
        mine = Device(site.application)
        assert mine.login() == "0"
        made = []
        for turn in range(4):
            updated = mine.upload("UpdateReport", document(f"{number}.{turn}", report=report), "AB"[turn % 2])
            assert updated.findtext("results/result/code") == "0"
            made.append(mine.upload("AutoGenerate", document(definition=1)).findtext("results/result/topId"))
        return made

    with ThreadPoolExecutor(6) as pool:
        made = [top for each in pool.map(work, range(6)) for top in each]
    assert len(set(made)) == 24
    value = device.command("GetReportDetail", topId=report).findtext("detailInfo/clusters/cluster/value")
    assert value in {f"{number}.3" for number in range(6)}
    # Row, linkage row, audit and the file agree on it.
    assert site.value(f"SELECT s1_c0 FROM view_report_1 WHERE rep_top_id = {report}") == value
    assert site.value(f"SELECT count(*) FROM log_rep_cluster WHERE rep_top_id = {report}") == 25
    (written,) = site.config.output.rglob(f"{report}_*.csv")
    assert f",{value}\r\n" in written.read_bytes().decode("utf-8-sig")


def test_a_request_is_bounded(site: Site) -> None:
    device = Device(site.application)
    environ_body = io.BytesIO(b"")
    answered: dict[str, Any] = {}
    body = site.application(
        {
            "REQUEST_METHOD": "POST", "PATH_INFO": API, "CONTENT_LENGTH": str(1 << 40), "wsgi.input": environ_body,
        },
        lambda status, headers: answered.update(status=status),
    )  # fmt: skip
    assert b"<code>6</code>" in b"".join(body)
    assert device.cookie == ""


def test_a_lost_database_connection_is_replaced(site: Site, device: Device) -> None:
    assert device.command("GetDefinitionList").find("items") is not None
    site.value("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'acme_app'")
    device.raw("GetDefinitionList")
    assert device.status.startswith("503")
    assert device.command("GetDefinitionList").find("items") is not None


def test_what_roles_may_do(site: Site) -> None:
    with psycopg.connect(site.report_role, autocommit=True) as connection:
        connection.execute("SELECT * FROM view_report_1")
        connection.execute("SELECT login_id FROM mst_user")
        for forbidden in (
            "SELECT password_hash FROM mst_user",
            "DELETE FROM rep_top",
            "SELECT publish_definition(1, 2)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(forbidden)
    with psycopg.connect(site.app, autocommit=True) as connection:
        for forbidden in ("DELETE FROM log_operation", "CREATE TABLE x ()", "DROP TABLE report_1_s_1"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(forbidden)
        output = admin.refresh_statistics(connection, site.config.output)
        assert output.read_text(encoding="utf-8-sig").startswith("定義ID")


def test_a_new_revision_gets_its_own_tables_and_the_same_view(site: Site) -> None:
    with psycopg.connect(site.app) as connection:
        revision = admin.new_revision(connection, 1)
        assert admin.publish(connection, revision, 393) == 393
    assert site.value(f"SELECT count(*) FROM pg_class WHERE relname LIKE 'report\\_{revision}\\_s\\__'") == 4
    assert f"report_{revision}_s_4" in site.value("SELECT pg_get_viewdef('view_report_1'::regclass)")
    assert (
        site.value(f"SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname = 'report_{revision}_s_1'")
        == "acme_owner"
    )
    with psycopg.connect(site.app) as connection, pytest.raises(psycopg.errors.RaiseException, match="1,572"):
        admin.publish(connection, admin.create_definition(connection, "too wide", 2, 1573, b""), 200)


# Generator and load client ------------------------------------------------------------------------------------------
def _generate(site: Site, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(ROOT / "lab/generate.py"), "--database", site.superuser, *arguments],
        capture_output=True, check=True, text=True,
    )  # fmt: skip
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def _digests(site: Site) -> dict[str, str]:
    with psycopg.connect(site.superuser) as connection:
        tables = connection.execute(
            "SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'm') AND relnamespace = 'public'::regnamespace "
            "AND relname <> 'tmp_session' ORDER BY 1"
        ).fetchall()
        found = {}
        # The smoke account, its audit row and its logins are not the generator's.
        others = {
            "mst_user": "login_id = 'smoke'",
            "log_operation": "table_name = 'mst_user'",
            "log_login": "address = '192.0.2.1'",
        }
        for (table,) in tables:
            row = connection.execute(
                # The catalogue's own quoting.
                f"SELECT md5(string_agg(md5(t::text), '' ORDER BY md5(t::text))) FROM {table} t "
                f"WHERE NOT ({others.get(table, 'false')})"
            ).fetchone()
            found[table] = row[0] if row else ""
        return found


@pytest.fixture(scope="module")
def generated(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(cluster, tmp_path_factory.mktemp("generated"), "gen")
    password = made.root / "password"
    password.write_text(PASSWORD)
    figures = _generate(
        made, "--accounts", "30", "--gigabytes", "0.05", "--seed", "3", "--password-file", str(password)
    )
    assert figures["reports"] == generate.reports_for(0.05)
    assert 0.9 < figures["database_bytes"] / 0.05e9 < 1.1
    yield made
    cluster.execute("postgres", f"DROP DATABASE {made.database} WITH (FORCE)")


@pytest.mark.parametrize(
    "sql",
    [
        "FROM pg_largeobject_metadata WHERE pg_get_userbyid(lomowner) = 'gen_owner' AND lomacl::text LIKE '%gen_app=r%'",
        "FROM mst_library JOIN pg_largeobject_metadata m ON m.oid = content_oid",
        "FROM rep_measurement WHERE reading = 'NaN' OR amount = 'NaN'",
        "FROM mst_common_record WHERE field_values[2] LIKE 'C:\\\\ConMas%'",
        "FROM mst_common JOIN mst_common_record USING (master_id) "
        "WHERE master_key = 'PDF_SETTING' AND field_values[1] = 'FONT_FILE_PATH' AND field_values[2] LIKE '/srv/%'",
        "FROM mv_report_count",
        "FROM rep_cluster WHERE image IS NOT NULL",
        "FROM rep_cluster WHERE value LIKE '%異常%'",
        "FROM rep_file WHERE substr(pdf, 1, 5) = '%PDF-'",
        "FROM rep_sheet WHERE substr(background, 1, 5) = '%PDF-'",
        "FROM rep_top WHERE delete_flag = 1",
        "FROM rep_top WHERE rep_top_name ~ '[ァ-ヶ]'",
        "FROM log_operation WHERE table_name = 'rep_top'",
        "FROM log_rep_cluster",
        "FROM log_login WHERE NOT accepted",
        'FROM "mst_Custom ラベル" WHERE "表示名 ""日本語""" <> normalize("表示名 ""日本語""", NFC)',
        "FROM report_3_s_1 WHERE s1_c0 IS NOT NULL",
        "FROM pg_views WHERE viewname ~ '^view_report_[0-9]+$'",
        "FROM pg_class WHERE relname ~ '^report_[0-9]+_s_[1-4]$' AND relkind = 'r' AND relnatts > 200",
        "FROM (SELECT 1 FROM pg_attribute WHERE attnum > 0 GROUP BY attrelid HAVING count(*) > 1500) wide",
        "FROM pg_extension WHERE extname = 'pg_trgm'",
        "FROM pg_class WHERE relpersistence = 'u' AND relkind = 'r'",
        "FROM pg_class WHERE relkind = 'm' AND relispopulated",
        "FROM pg_sequences WHERE sequencename = 'seq_Label No' AND last_value > 1000",
        "FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid WHERE relname = 'rep_cluster' AND NOT tgisinternal",
        "FROM pg_class c WHERE relname IN ('def_cluster', 'rep_cluster') AND NOT EXISTS "
        "(SELECT FROM pg_constraint WHERE conrelid = c.oid AND contype IN ('p', 'u')) HAVING count(*) = 2",
        "FROM information_schema.role_table_grants WHERE grantee = 'gen_report' AND table_name = 'view_report_1'",
        "FROM pg_default_acl",
        "FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase "
        "WHERE datname = current_database() AND setrole = 0 AND setconfig::text LIKE '%本社工場%'",
        "FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = setrole WHERE rolname IN ('gen_app', 'gen_report') "
        "HAVING count(*) = 2",
    ],
)
def test_the_generator_makes_what_makes_the_real_database_hard(generated: Site, sql: str) -> None:
    assert generated.value(f"SELECT count(*) {sql}")


def test_the_same_seed_gives_the_same_rows(cluster: Cluster, generated: Site, tmp_path: Path) -> None:
    again = Site(cluster, tmp_path, "gen2")
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    try:
        _generate(again, "--accounts", "30", "--gigabytes", "0.05", "--seed", "3", "--password-file", str(password))
        first, second = _digests(generated), _digests(again)
        assert [table for table in first if first[table] != second.get(table)] == []
        assert len(first) > 40
    finally:
        cluster.execute("postgres", f"DROP DATABASE {again.database} WITH (FORCE)")


def test_a_database_in_use_is_not_generated_into(generated: Site) -> None:
    with pytest.raises(subprocess.CalledProcessError) as failed:
        _generate(generated, "--gigabytes", "0.01")
    assert "has reports already" in failed.value.stderr


def test_what_the_generator_made_can_be_worked_with(generated: Site) -> None:
    assert generated.value(admin.ACCOUNTS_QUERY) == 30
    assert generated.value("SELECT last_value FROM rep_top_rep_top_id_seq") == generated.value(
        "SELECT max(rep_top_id) FROM rep_top"
    )
    device = Device(generated.application)
    assert device.login("user001") == "0"
    report = device.command("GetReportList").findtext("items/item/itemId")
    assert device.command("GetReportDetail", topId=report).findtext("detailInfo/topId") == report
    assert device.raw("GetReportFile", report=report).startswith(b"%PDF-")
    found = device.command("GetMasterRecordList", masterKey="PDF_SETTING", recordKey="FONT_FILE_PATH")
    assert (found.findtext("items/item/fields/field[2]/value") or "").endswith("/ipaexg.ttf")


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 64


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


Serve = Callable[[Any], tuple[_Server, str]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers = []

    def start(application: Any, port: int = 0) -> tuple[_Server, str]:
        server = make_server("127.0.0.1", port, application, _Server, _Quiet)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
        return server, f"http://127.0.0.1:{server.server_port}{API}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def _load(site: Site, url: str, *arguments: str) -> list[str]:
    (site.root / "load.json").write_text(
        json.dumps(
            {
                "tenants": [
                    {
                        "name": "acme",
                        "role": "tablets",
                        "url": url,
                        "users": ["user001", "user002"],
                        "password_file": str(site.root / "password"),
                    },
                    {
                        "name": "bravo",
                        "role": "neighbour",
                        "url": url,
                        "users": ["user003"],
                        "password_file": str(site.root / "password"),
                    },
                ]
            }
        )
    )
    common = ["--config", str(site.root / "load.json"), "--journal", str(site.root / "journal.jsonl")]
    return [sys.executable, str(ROOT / "lab/load_client.py"), arguments[0], *common, *arguments[1:]]


def _wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 50
    while not holds():
        assert time.monotonic() < deadline, "nothing of the kind in 50 s"
        time.sleep(0.1)


def test_every_acknowledged_write_is_read_back_and_a_lost_one_is_noticed(generated: Site, serve: Serve) -> None:
    away = threading.Event()
    refused: list[float] = []

    def application(environ: Any, start: Any) -> Any:
        if away.is_set():
            refused.append(time.monotonic())
            environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            start("503 Service Unavailable", [("Content-Type", "text/html"), ("Content-Length", "0")])
            return []
        return generated.application(environ, start)

    _, url = serve(application)
    process = subprocess.Popen(
        _load(generated, url, "run", "--tablets", "4", "--writes-per-second", "20", "--seconds", "60"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip

    def acknowledged() -> int:
        journal = generated.root / "journal.jsonl"
        return journal.read_text().count('"acme"') if journal.exists() else 0

    try:
        _wait_for(lambda: acknowledged() >= 20)
        began = time.monotonic()
        away.set()
        _wait_for(lambda: len(refused) >= 20)
        away.clear()
        until = acknowledged() + 20
        _wait_for(lambda: acknowledged() >= until)
        longest = time.monotonic() - began
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    summary = json.loads(output)
    assert summary["stopped_by"] == "SIGTERM"
    tablets, neighbour = summary["tenants"]["acme"], summary["tenants"]["bravo"]
    assert tablets["acknowledged_writes"] >= 20
    assert (refused[-1] - refused[0]) / 2 < tablets["outage_seconds"] < longest
    assert set(tablets["failures"]) == {"http 503"}
    assert tablets["read_mismatches"] == neighbour["read_mismatches"] == 0
    assert neighbour["requests"] > neighbour["failed_requests"] > 0

    def read_back() -> tuple[int, dict[str, Any]]:
        done = subprocess.run(
            _load(generated, url, "readback", "--tenant", "acme"), capture_output=True, text=True, check=False
        )
        return done.returncode, json.loads(done.stdout)

    code, found = read_back()
    assert (code, found["found"], found["lost"]) == (0, tablets["acknowledged_writes"], [])
    journal = [json.loads(line) for line in (generated.root / "journal.jsonl").read_text().splitlines()]
    created = [e for e in journal if e["tenant"] == "acme" and e["kind"] == "create"]
    gone, changed = created[0]["report"], created[1]["report"]
    with psycopg.connect(generated.superuser) as connection:
        connection.execute("DELETE FROM rep_top WHERE rep_top_id = %s", (gone,))
        connection.execute("UPDATE rep_cluster SET value = value || ' ' WHERE rep_top_id = %s", (changed,))
    code, found = read_back()
    assert code == 1
    assert [entry["report"] for entry in found["lost"]] == [gone]
    assert [entry["report"] for entry in found["different"]] == [changed]


def test_a_write_without_an_answer_is_unknown_and_either_content_is_accepted(generated: Site, serve: Serve) -> None:
    applied = {"count": 0}

    def application(environ: Any, start: Any) -> Any:
        if b"UpdateReport" in environ["QUERY_STRING"].encode() and applied["count"] < 5:
            applied["count"] += 1
            list(generated.application(environ, lambda *_: None))
            raise ConnectionAbortedError  # carried out, but the answer is lost: wsgiref answers 500
        return generated.application(environ, start)

    (generated.root / "journal.jsonl").unlink(missing_ok=True)
    _, url = serve(application)
    done = subprocess.run(
        _load(generated, url, "run", "--tablets", "4", "--writes-per-second", "20", "--seconds", "8"),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert applied["count"] > 0
    assert summary["unknown_writes"] == applied["count"], "neighbours write as well"
    back = subprocess.run(
        _load(generated, url, "readback", "--tenant", "acme"), capture_output=True, text=True, check=False
    )
    found = json.loads(back.stdout)
    assert back.returncode == 0, found
    assert found["unknown"] == summary["tenants"]["acme"]["unknown_writes"]
    assert found["found"] == found["acknowledged"] == summary["tenants"]["acme"]["acknowledged_writes"]
    assert found["unknown_updates_applied"] == summary["tenants"]["acme"]["unknown_writes"]


def test_a_refused_login_ends_the_run_with_one_sentence(generated: Site, serve: Serve) -> None:
    _, url = serve(generated.application)
    command = _load(generated, url, "run", "--seconds", "5")
    (generated.root / "password").write_text("wrong")
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        (generated.root / "password").write_text(PASSWORD)
    assert done.returncode == 1
    assert "login of user00" in done.stderr
    assert "wrong" not in done.stderr.replace("is wrong", "")


# The package --------------------------------------------------------------------------------------------------------
def test_the_package_is_the_same_each_time_and_complete(tmp_path: Path) -> None:
    made = []
    for name in ("one", "two"):
        done = subprocess.run(
            [str(ROOT / "lab/standin/build-deb"), str(tmp_path / name)], check=True, capture_output=True, text=True
        )
        digest, path = done.stdout.split()
        made.append(Path(path))
        assert digest == hashlib.sha256(Path(path).read_bytes()).hexdigest()
    assert made[0].name == "ireporter-standin_8.2.26020_all.deb"
    assert made[0].read_bytes() == made[1].read_bytes()
    listed = subprocess.run(["dpkg-deb", "--contents", str(made[0])], check=True, capture_output=True, text=True).stdout
    for path in (
        "opt/ireporter-standin/VERSION",
        "bin/ireporter-standin-admin",
        "ireporter-standin@.service",
        "schema.sql",
    ):
        assert path in listed
    assert "__pycache__" not in listed
    assert os.access(made[0], os.R_OK)
