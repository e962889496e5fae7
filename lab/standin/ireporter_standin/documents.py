# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A report as PDF and as CSV, and the auto-output folder both are written to."""

from __future__ import annotations

import csv
import datetime
import io
import logging
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reportlab.lib.pagesizes import A4
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfgen.canvas import Canvas

MAXIMUM_PIXELS = 25_000_000
_log = logging.getLogger("ireporter-standin")
_FONT = "HeiseiKakuGo-W5"
pdfmetrics.registerFont(UnicodeCIDFont(_FONT))


@dataclass(frozen=True)
class Value:
    """One cluster of a saved report."""

    sheet_no: int
    cluster_id: int
    name: str
    kind: str
    value: str | None
    image: bytes | None


@dataclass(frozen=True)
class Report:
    """What the documents show of a report."""

    top_id: int
    name: str
    definition: str
    updated: datetime.datetime
    user: str
    values: Sequence[Value]


def pdf(report: Report, page: int | None = None) -> bytes:
    """A real PDF, a page per sheet (more where values need it); ``page`` picks one sheet. Same input, same bytes."""
    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=A4, invariant=1, pageCompression=1)
    canvas.setTitle(report.name)
    canvas.setAuthor("i-Reporter stand-in (test equipment)")
    sheets = sorted({v.sheet_no for v in report.values}) or [1]
    for sheet in sheets if page is None else [page]:
        _sheet(canvas, report, sheet)
    canvas.save()
    return buffer.getvalue()


def _sheet(canvas: Canvas, report: Report, sheet: int) -> None:
    width, height = A4
    left, line = 40, height - 50

    def head() -> None:
        canvas.setFont(_FONT, 14)
        canvas.drawString(left, line, report.name[:60])
        canvas.setFont(_FONT, 8)
        canvas.drawString(left, line - 16, f"{report.definition}  No. {report.top_id}  {report.user}  シート {sheet}")

    head()
    line -= 40
    canvas.setFont(_FONT, 8)
    for value in (v for v in report.values if v.sheet_no == sheet):
        if line < 60:
            canvas.showPage()
            line = height - 50
            head()
            line -= 40
            canvas.setFont(_FONT, 8)
        canvas.drawString(left, line, f"{value.cluster_id}. {value.name}"[:40])
        if value.image is not None:
            picture = _readable(value.image)
            if picture is None:
                canvas.drawString(250, line, f"画像 {len(value.image)} bytes")
            else:
                canvas.drawImage(picture, 250, line - 50, 80, 60, preserveAspectRatio=True)
            line -= 60
        else:
            canvas.drawString(250, line, (value.value or "").replace("\n", " ")[:60])
        canvas.line(left, line - 3, width - 40, line - 3)
        line -= 14
    canvas.showPage()


def _readable(image: bytes) -> ImageReader | None:
    """The picture, or ``None`` where it is none or unpacks to more than the memory should hold: no reason to lose a report."""
    try:
        picture = ImageReader(io.BytesIO(image))
        width, height = picture.getSize()
        if width * height > MAXIMUM_PIXELS:
            return None
        picture.getRGBData()
    except Exception as error:  # whatever the many decoders of Pillow raise
        _log.warning("a picture of %d bytes is not printed: %s", len(image), error)
        return None
    return picture


def blank(title: str) -> bytes:
    """The empty form of a definition."""
    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=A4, invariant=1, pageCompression=1)
    canvas.setTitle(title)
    canvas.setFont(_FONT, 16)
    canvas.drawString(40, A4[1] - 60, title[:60])
    canvas.rect(40, 40, A4[0] - 80, A4[1] - 120)
    canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def csv_text(report: Report) -> str:
    """One line per cluster, quoted as spreadsheets expect it."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(["帳票ID", "帳票名称", "定義名称", "シートNo", "クラスターID", "クラスター名称", "種別", "値"])
    for v in report.values:
        shown = "Image" if v.image is not None else v.value
        writer.writerow(
            [report.top_id, report.name, report.definition, v.sheet_no, v.cluster_id, v.name, v.kind, shown]
        )
    return buffer.getvalue()


def csv_bytes(report: Report, encoding: str) -> bytes:
    """Encoded as asked: ``932`` (what it cannot hold becomes ``?``) or ``65001`` (with the mark Excel looks for)."""
    text = csv_text(report)
    return text.encode("cp932", errors="replace") if encoding == "932" else text.encode("utf-8-sig")


def write_output(folder: Path, report: Report, content: bytes) -> list[Path]:
    """Write PDF and CSV into the auto-output folder, each whole or not at all.

    The folder of a report depends on its definition and id only, so saving again replaces.
    """
    directory = folder / safe_name(report.definition, 120) / f"{report.top_id // 1000:05d}"
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for suffix, data in ((".pdf", content), (".csv", csv_bytes(report, "65001"))):
        path = directory / f"{report.top_id}_{safe_name(report.name, 180)}{suffix}"
        descriptor, temporary = tempfile.mkstemp(dir=directory, prefix=".")
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
                os.fchmod(stream.fileno(), 0o640)
            os.replace(temporary, path)  # noqa: PTH105
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        for stale in directory.glob(f"{report.top_id}_*{suffix}"):  # the report was renamed
            if stale != path:
                stale.unlink(missing_ok=True)
        written.append(path)
    return written


def safe_name(name: str, limit: int) -> str:
    """A file name from a report name: no separators, no control characters, at most ``limit`` bytes of UTF-8."""
    cleaned = re.sub(r'[\x00-\x1f\x7f/\\:*?"<>|]', "_", name).strip(" .") or "_"
    return cleaned.encode()[:limit].decode(errors="ignore")
