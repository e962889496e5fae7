# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The API's commands: parameters in, answer out."""

from __future__ import annotations

import io
import logging
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from . import answers, archive, documents, store, uploads
from .answers import Answer
from .errors import BAD_PARAMETER, OK, TOO_LARGE, RefusedError
from .uploads import Request, Top

_log = logging.getLogger("ireporter-standin")
ENCODINGS = ("932", "65001")


@dataclass(frozen=True)
class Session:
    """Who calls, and where his reports are written."""

    user: str
    output: Path
    store: store.Store


def _required(request: Request, name: str) -> str:
    value = request.parameters.get(name, "").strip()
    if not value:
        raise RefusedError(BAD_PARAMETER, f"The parameter {name} is missing")
    return value


def _id(request: Request, name: str) -> int:
    return uploads.integer(_required(request, name), name)


def _optional_id(request: Request, name: str) -> int | None:
    value = request.parameters.get(name, "").strip()
    return uploads.integer(value, name) if value else None


def _ids(request: Request, name: str) -> list[int]:
    numbers = [uploads.integer(part, name) for part in _required(request, name).split(",")]
    if len(numbers) > 100:
        raise RefusedError(BAD_PARAMETER, f"{name} names more than 100 reports")
    return numbers


def _choice(request: Request, name: str, allowed: tuple[str, ...], default: str | None = None) -> str:
    value = request.parameters.get(name, "").strip() or default
    for choice in allowed:
        if value is not None and value.lower() == choice.lower():
            return choice
    raise RefusedError(BAD_PARAMETER, f"The parameter {name} must be one of {', '.join(allowed)}")


def _flag(request: Request, name: str) -> bool:
    return request.parameters.get(name, "").strip().lower() in ("1", "true", "yes")


def _system_keys(request: Request) -> list[str | None]:
    return [request.parameters.get(f"systemKey{n}") for n in range(1, 6)]


# Lists and details ----------------------------------------------------------------------------------------------------
def _item(row: Mapping[str, Any]) -> list[answers.Node]:
    return [
        ("type", row["report_type"]),
        ("itemId", row["item_id"]),
        ("name", row["name"]),
        ("revNo", row["rev_no"]),
        ("editStatus", row["edit_status"]),
        ("publicStatus", row["public_status"]),
        ("registTime", row["regist_time"]),
        ("updateTime", row["update_time"]),
        *answers.numbered("systemKey", row["system_key"], 5),
    ]


def get_definition_list(session: Session, request: Request) -> Answer:
    with session.store.transaction() as connection:
        rows = store.definitions(connection, request.parameters.get("word", ""), _system_keys(request))
    return answers.items(_item(row) for row in rows)


def get_report_list(session: Session, request: Request) -> Answer:
    with session.store.transaction() as connection:
        rows = store.reports(connection, request.parameters.get("word", ""), _system_keys(request))
    return answers.items(_item(row) for row in rows)


def _detail(top: Mapping[str, Any], clusters: list[store.Row]) -> Answer:
    fields = {
        "topId": top["top_id"],
        "topName": top["top_name"],
        "reportType": top["report_type"],
        "registTime": top["regist_time"],
        "registUser": top["regist_user"],
        "updateTime": top["update_time"],
        "updateUser": top["update_user"],
        "publicStatus": top["public_status"],
        "sheetCount": top["sheet_count"],
        "editStatus": top["edit_status"],
    }
    fields |= dict(answers.numbered("remarksName", top["remarks_name"], 10))
    fields |= dict(answers.numbered("remarksValue", top["remarks_value"], 10))
    fields |= dict(answers.numbered("systemKey", top["system_key"], 5))
    return answers.detail(
        fields,
        (
            {
                "sheetNo": c["sheet_no"],
                "clusterId": c["cluster_id"],
                "name": c["cluster_name"],
                "type": c["cluster_type"],
                "value": c["value"],
            }
            for c in clusters
        ),
    )


def get_definition_detail(session: Session, request: Request) -> Answer:
    with session.store.transaction() as connection:
        return _detail(*store.definition(connection, _id(request, "topId")))


def get_report_detail(session: Session, request: Request) -> Answer:
    with session.store.transaction() as connection:
        return _detail(*store.report(connection, _id(request, "topId")))


def get_master_record_list(session: Session, request: Request) -> Answer:
    master = (_optional_id(request, "masterId"), request.parameters.get("masterKey", ""))
    if master == (None, ""):
        raise RefusedError(BAD_PARAMETER, "The parameter masterId or masterKey is missing")
    record = (_optional_id(request, "recordId"), request.parameters.get("recordKey", ""))
    with session.store.transaction() as connection:
        found, rows = store.master_records(connection, master, record, request.parameters.get("fieldSearch", ""))
    return answers.items(
        [
            ("masterId", found["master_id"]),
            ("masterKey", found["master_key"]),
            ("masterName", found["master_name"]),
            ("recordId", row["record_id"]),
            ("recordKey", row["record_key"]),
            (
                "fields",
                [
                    ("field", [("fieldNo", n + 1), ("name", name), ("value", value)])
                    for n, (name, value) in enumerate(zip(found["field_names"], row["field_values"], strict=False))
                ],
            ),
        ]
        for row in rows
    )


# Files ----------------------------------------------------------------------------------------------------------------
def get_report_file(session: Session, request: Request) -> Answer:
    kind = _choice(request, "fileType", ("pdf", "pdfLayer", "excel"), "pdf")
    if kind == "excel":
        raise RefusedError(BAD_PARAMETER, "This stand-in makes no Excel files")
    top_id, page = _id(request, "report"), _optional_id(request, "pageNo")
    with session.store.transaction() as connection:
        name = documents.safe_name(store.report_name(connection, top_id), 180)
        if page:
            report = store.document(connection, top_id)
            if page not in {value.sheet_no for value in report.values}:
                raise RefusedError(BAD_PARAMETER, f"The report {top_id} has no page {page}")
            content = documents.pdf(report, page)
        else:
            content = store.stored_file(connection, top_id, kind == "pdfLayer")
    return answers.file(content, f"{top_id}_{name}.pdf", "application/pdf")


def download_csv(session: Session, request: Request) -> Answer:
    encoding = _choice(request, "encoding", ENCODINGS, "65001")
    buffer = io.BytesIO()
    numbers = list(dict.fromkeys(_ids(request, "report")))  # a report named twice is in the ZIP once
    with session.store.transaction() as connection, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for top_id in numbers:
            report = store.document(connection, top_id)
            packed.writestr(f"{top_id}.csv", documents.csv_bytes(report, encoding))
            if _flag(request, "withImage"):
                for value in report.values:
                    if value.image is not None:
                        suffix = ".jpg" if value.image.startswith(b"\xff\xd8\xff") else ".png"
                        packed.writestr(f"{top_id}_{value.sheet_no}_{value.cluster_id}{suffix}", value.image)
            if _flag(request, "withPDF"):
                packed.writestr(f"{top_id}.pdf", store.stored_file(connection, top_id, layer=False))
            if _flag(request, "withPDFLayer"):
                packed.writestr(f"{top_id}_layer.pdf", store.stored_file(connection, top_id, layer=True))
    return answers.file(buffer.getvalue(), f"{numbers[0]}.zip", "application/zip")


# Writes ---------------------------------------------------------------------------------------------------------------
def _uploaded(request: Request) -> list[Top]:
    kind = _choice(request, "type", ("xml", "xmlZip", "csv", "csvSimple", "csvZip", "csvZipSimple"))
    if kind.startswith("csv"):
        raise RefusedError(BAD_PARAMETER, "This stand-in takes the types xml and xmlZip only")
    encoding = _choice(request, "encoding", ENCODINGS, "65001")
    if not request.file:
        raise RefusedError(BAD_PARAMETER, "No file was uploaded")
    content, pictures = archive.unpack(request.file) if kind == "xmlZip" else (request.file, {})
    return uploads.read_tops(uploads.parse_xml(content, encoding), pictures)


def _save(session: Session, tops: list[Top], write: Callable[[psycopg.Connection[store.Row], Top], int]) -> Answer:
    """Each report in a transaction of its own; acknowledged only when rows, PDF and output files are all there."""
    rows: list[tuple[int | str, int, str]] = []
    for top in tops:
        try:
            with session.store.transaction(session.user) as connection:
                top_id = write(connection, top)
                report = store.document(connection, top_id)
                content = documents.pdf(report)
                store.keep_pdf(connection, top_id, content)
                documents.write_output(session.output, report, content)
        except RefusedError as refused:
            rows.append((top.rep_top_id or "", refused.code, refused.remark))
        except store.DOES_NOT_FIT as error:
            # Of this report alone: those before it are saved, and their ids must reach the client.
            _log.warning("refused by the database: %s", error)
            rows.append((top.rep_top_id or "", BAD_PARAMETER, store.DOES_NOT_FIT_REMARK))
        else:
            rows.append((top_id, OK, ""))
    return answers.results(rows)


def auto_generate(session: Session, request: Request) -> Answer:
    return _save(session, _uploaded(request), lambda c, top: store.create_report(c, top, session.user))


def update_report(session: Session, request: Request) -> Answer:
    replace = _choice(request, "mode", ("0", "1"), "0") == "1"
    user = request.parameters.get("updateUser") or session.user
    if len(user) > uploads.MAXIMUM_NAME:
        raise RefusedError(TOO_LARGE, f"updateUser is longer than {uploads.MAXIMUM_NAME} characters")
    return _save(session, _uploaded(request), lambda c, top: store.update_report(c, top, user, replace))


def delete_report(session: Session, request: Request) -> Answer:
    physical = _choice(request, "mode", ("0", "1"), "0") == "1"
    rows: list[tuple[int | str, int, str]] = []
    for top_id in _ids(request, "report"):
        try:
            with session.store.transaction(session.user) as connection:
                store.delete_report(connection, top_id, physical)
        except RefusedError as refused:
            rows.append((top_id, refused.code, refused.remark))
        else:
            rows.append((top_id, OK, ""))
    return answers.results(rows)


COMMANDS: dict[str, Callable[[Session, Request], Answer]] = {
    "GetDefinitionList": get_definition_list,
    "GetDefinitionDetail": get_definition_detail,
    "GetReportList": get_report_list,
    "GetReportDetail": get_report_detail,
    "GetReportFile": get_report_file,
    "DownloadCsv": download_csv,
    "AutoGenerate": auto_generate,
    "UpdateReport": update_report,
    "DeleteReport": delete_report,
    "GetMasterRecordList": get_master_record_list,
}
