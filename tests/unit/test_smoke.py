"""The smoke test against an API played in memory."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ireporter.errors import MigrationError
from ireporter.smoke import Result, smoke
from ireporter.smoke_answer import read_items, read_pdf
from ireporter.smoke_http import HttpApi, Reply

PDF = b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\nxref\n0 1\ntrailer\n<<>>\nstartxref\n29\n%%EOF\n"


class Ticking:
    """A clock on which every look takes 0.1 s."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime(2026, 11, 28, tzinfo=UTC)

    def monotonic(self) -> float:
        self.seconds += 0.1
        return self.seconds

    def sleep(self, seconds: float) -> None:
        raise AssertionError("a smoke test does not sleep")


def xml(inner: str) -> Reply:
    return Reply(
        200, {"content-type": "text/xml"}, f'<?xml version="1.0" encoding="utf-8"?><conmas>{inner}</conmas>'.encode()
    )


def items(*ids: int) -> Reply:
    return xml("<items>" + "".join(f"<item><itemId>{i}</itemId><name>日報 {i}</name></item>" for i in ids) + "</items>")


class Played:
    """An i-Reporter server in memory; ``answers`` replaces what a command gets."""

    def __init__(self, **answers: Reply | Exception) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.answers: dict[str, Reply | Exception] = {
            "Login": xml("<loginResult><code>0</code><remark/></loginResult>"),
            "GetDefinitionList": items(1, 2, 3),
            "GetReportList": items(41, 42),
            "GetReportDetail": xml(
                "<detailInfo><topId>41</topId><clusters><cluster/><cluster/></clusters></detailInfo>"
            ),
            "GetReportFile": Reply(200, {"content-type": "application/pdf"}, PDF),
            "Logout": xml("<error><code>0</code></error>"),
        } | answers

    def __call__(self, command: str, **parameters: str) -> Reply:
        self.asked.append((command, parameters))
        answer = self.answers[command]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def tested(self, **options: object) -> Result:
        result = Result()
        self.result = result
        smoke(self, Ticking(), result, user="smoke", password="canary-7", **options)  # type: ignore[arg-type]
        return result


def test_everything_is_used_once_and_in_order() -> None:
    played = Played()
    result = played.tested()
    assert [command for command, _ in played.asked] == list(played.answers)
    assert [step.step for step in result.steps] == ["login", "definitions", "reports", "report", "pdf", "logout"]
    assert all(step.milliseconds == 100 for step in result.steps)
    assert (result.definitions, result.reports, result.report, result.pdf_bytes) == (3, 2, "41", len(PDF))
    assert result.as_result()["seconds"] == 0.6
    assert "canary-7" not in str(result.as_result())


def test_the_report_named_is_the_one_opened() -> None:
    played = Played(GetReportDetail=xml("<detailInfo><topId>42</topId></detailInfo>"))
    assert played.tested(report="42").report == "42"
    with pytest.raises(MigrationError, match="Report 77 is not among the 2"):
        Played().tested(report="77")


def test_a_tenant_without_reports_passes_and_says_so() -> None:
    played = Played(GetReportList=items())
    result = played.tested()
    assert [step.message for step in result.steps if step.step == "report"] == [
        "0 of 0 reports opened: the tenant has none"
    ]
    with pytest.raises(MigrationError, match="0 reports are listed, at least 1"):
        Played(GetReportList=items()).tested(least_reports=1)


@pytest.mark.parametrize(
    ("command", "answer", "check", "said"),
    [
        (
            "Login",
            xml("<loginResult><code>1</code><remark>違います</remark></loginResult>"),
            "smoke-login",
            "code 1: 違",
        ),
        ("Login", xml("<somethingElse/>"), "smoke-login", "no loginResult"),
        ("Login", Reply(503, {}, b"<html>maintenance</html>"), "smoke-login", "HTTP status 503"),
        ("Login", Reply(200, {}, b"<html>hello"), "smoke-login", "no XML"),
        ("Login", OSError("connection refused"), "smoke-login", "connection refused"),
        ("GetDefinitionList", xml("<error><code>3</code></error>"), "smoke-definitions", "code 3"),
        ("GetDefinitionList", xml(""), "smoke-definitions", "no items"),
        ("GetReportList", xml("<items><item><name>x</name></item></items>"), "smoke-reports", "without itemId"),
        ("GetReportDetail", xml("<detailInfo><topId>9</topId></detailInfo>"), "smoke-report", "report 9 instead of 41"),
        ("GetReportFile", xml("<error><code>5</code><remark>gone</remark></error>"), "smoke-pdf", "code 5: gone"),
        ("GetReportFile", Reply(200, {}, PDF[:40]), "smoke-pdf", "without an end"),
        ("GetReportFile", Reply(200, {}, PDF.replace(b"29", b"11")), "smoke-pdf", "cross-reference"),
        ("GetReportFile", Reply(200, {}, b"PK\x03\x04"), "smoke-pdf", "instead of %PDF-"),
        ("Logout", xml("<error><code>2</code></error>"), "smoke-logout", "code 2"),
    ],
)
def test_what_goes_wrong_is_named(command: str, answer: Reply | Exception, check: str, said: str) -> None:
    played = Played(**{command: answer})
    with pytest.raises(MigrationError, match=said) as caught:
        played.tested()
    assert caught.value.check == check
    assert "canary-7" not in str(caught.value)
    if command not in {"Login", "Logout"}:
        assert played.asked[-1][0] == "Logout"


def test_entities_are_never_expanded() -> None:
    bomb = b'<!DOCTYPE conmas [<!ENTITY a "x">]><conmas><items><item><itemId>&a;</itemId></item></items></conmas>'
    with pytest.raises(MigrationError, match="document type"):
        read_items("reports", Reply(200, {}, bomb))


@given(st.binary(max_size=300))
def test_no_answer_breaks_the_readers(body: bytes) -> None:
    for read in (read_pdf, lambda reply: read_items("reports", reply)):
        try:
            read(Reply(200, {}, body))
        except MigrationError as error:
            assert error.check.startswith("smoke-")


@pytest.mark.parametrize(
    "url", ["http://a.example/x", "https:///x", "a.example", "https://u:p@a.example/x", "https://a.example/x?command=y"]
)
def test_the_endpoint_is_plain_https(url: str) -> None:
    with pytest.raises(MigrationError, match="smoke-url"):
        HttpApi(url)
