"""The smoke test: does i-Reporter serve its users at this address? It reads only.

Login and logout each write a line into the product's own login log; nothing else is written.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TypeVar

from .clock import Clock
from .errors import MigrationError
from .smoke_answer import Item, read_detail, read_items, read_login, read_pdf, read_xml
from .smoke_http import Api, Reply

_T = TypeVar("_T")


@dataclass(frozen=True)
class Step:
    """One request and what it showed."""

    step: str
    milliseconds: int
    message: str


@dataclass
class Result:
    """What was seen so far; a failed test returns the same fields as a passed one."""

    steps: list[Step] = field(default_factory=list)
    definitions: int = 0
    reports: int = 0
    report: str = ""
    pdf_bytes: int = 0

    def as_result(self) -> dict[str, object]:
        """Plain values for a module's result."""
        milliseconds = sum(step.milliseconds for step in self.steps)
        return {**asdict(self), "seconds": round(milliseconds / 1000, 3)}


def smoke(
    api: Api,
    clock: Clock,
    result: Result,
    *,
    user: str,
    password: str,
    report: str = "",
    least_definitions: int = 0,
    least_reports: int = 0,
) -> None:
    """Log in, list definitions and reports, open a report, fetch its PDF, log out; fills ``result`` on the way.

    :param report: which report to open; empty: the first in the list. Of 0 reports none is opened, the step says so.
    :raises MigrationError: a step failed (``smoke-<step>``), or fewer definitions or reports than expected are there.
    """

    def step(name: str, command: str, read: Callable[[Reply], _T], say: Callable[[_T], str], **parameters: str) -> _T:
        started = clock.monotonic()
        try:
            value = read(api(command, **parameters))
        except ssl.SSLCertVerificationError as error:
            raise _unanswered(name, f"a certificate that does not verify: {error.verify_message}") from error
        except (OSError, http.client.HTTPException) as error:
            raise _unanswered(name, f"no answer: {str(error) or type(error).__name__}") from error
        result.steps.append(Step(name, round((clock.monotonic() - started) * 1000), say(value)))
        return value

    step("login", "Login", read_login, lambda _: f"logged in as {user}", user=user, password=password)
    try:
        definitions = step(
            "definitions",
            "GetDefinitionList",
            lambda reply: read_items("definitions", reply),
            lambda items: f"{len(items)} definitions listed",
        )
        result.definitions = len(definitions)
        _enough("definitions", len(definitions), least_definitions)
        reports = step(
            "reports",
            "GetReportList",
            lambda reply: read_items("reports", reply),
            lambda items: f"{len(items)} reports listed",
        )
        result.reports = len(reports)
        _enough("reports", len(reports), least_reports)
        result.report = _choose(reports, report)
        if result.report:
            step(
                "report",
                "GetReportDetail",
                lambda reply: read_detail(reply, result.report),
                lambda clusters: f"report {result.report} opened, {clusters} clusters",
                topId=result.report,
            )
            result.pdf_bytes = step(
                "pdf",
                "GetReportFile",
                read_pdf,
                lambda size: f"PDF of report {result.report}, {size} bytes",
                fileType="pdf",
                report=result.report,
            )
        else:
            result.steps.append(Step("report", 0, "0 of 0 reports opened: the tenant has none"))
    except MigrationError:
        # A session left behind is tidied up if it can be; what went wrong before is what counts.
        try:
            api("Logout")
        except (OSError, http.client.HTTPException) as error:
            result.steps.append(Step("logout", 0, f"not logged out: {str(error) or type(error).__name__}"))
        raise
    step("logout", "Logout", lambda reply: read_xml("logout", reply), lambda _: "logged out")


def _choose(reports: list[Item], wanted: str) -> str:
    if wanted:
        if all(item.item_id != wanted for item in reports):
            raise MigrationError(
                f"Report {wanted} is not among the {len(reports)} reports listed",
                check="smoke-reports",
                action="Name a report the smoke account may see, or none to take the first",
            )
        return wanted
    return reports[0].item_id if reports else ""


def _enough(what: str, found: int, least: int) -> None:
    if found < least:
        raise MigrationError(
            f"{found} {what} are listed, at least {least} were expected",
            check=f"smoke-{what}",
            action="Compare what the smoke account may see on the source and on the target",
        )


def _unanswered(step: str, got: str) -> MigrationError:
    return MigrationError(
        f"The smoke test's step {step} got {got}",
        check=f"smoke-{step}",
        action="Look at the web server on the address asked, then run again",
    )
