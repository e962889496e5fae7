# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a client sends: parameters from query or form alike, the first file, and the XML inside it. Bounded."""

from __future__ import annotations

import re
import urllib.parse
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from xml.parsers import expat

from . import archive
from .archive import Pictures
from .errors import BAD_PARAMETER, TOO_LARGE, RefusedError

MAXIMUM_BODY = 64 * 1024 * 1024
MAXIMUM_PARTS = 1000
MAXIMUM_PART_HEAD = 8192
MAXIMUM_ELEMENTS = 1_000_000  # 100 reports of 2,000 clusters with their fields
MAXIMUM_DEPTH = 100
MAXIMUM_ATTRIBUTES = 100
MAXIMUM_CLUSTERS = 2000
MAXIMUM_TOPS = 100
MAXIMUM_VALUE = 1024 * 1024
MAXIMUM_NAME = 500  # characters of names, keys and users: an index entry of PostgreSQL holds them
IGNORE = "(ignore)"  # what clients send for "leave as it is"


@dataclass(frozen=True)
class Request:
    """Parameters (names as sent, last one wins, form over query) and the first file."""

    parameters: dict[str, str]
    file: bytes | None


@dataclass
class Cluster:
    """One value of an uploaded report; ``None`` means not mentioned."""

    sheet_no: int
    cluster_id: int
    value: str | None
    approver: str | None = None
    approval_date: str | None = None
    comment: str | None = None
    image: bytes | None = None


@dataclass
class Top:
    """One uploaded report; ``None`` means not mentioned or ``(ignore)``."""

    def_top_id: int | None
    rep_top_id: int | None
    name: str | None
    edit_status: int | None
    user: str | None
    system_keys: list[str | None]
    remarks: list[str | None]
    clusters: list[Cluster] = field(default_factory=list)


def read_request(query: str, content_type: str, body: bytes) -> Request:
    """Both upload styles and plain forms.

    A: everything in ``multipart/form-data`` with file field ``dataFile``. B: parameters in the query, one file part
    that may have no field name.
    """
    parameters = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
    kind, options = _header(content_type)
    file = None
    if kind == "application/x-www-form-urlencoded":
        try:
            # Not ASCII only: curl's -d and hand-made clients send Japanese text as it is.
            parameters |= urllib.parse.parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=1000)
        except ValueError as error:
            raise RefusedError(BAD_PARAMETER, "The form is not URL-encoded") from error
    elif kind == "multipart/form-data":
        boundary = options.get("boundary", "")
        if not boundary:
            raise RefusedError(BAD_PARAMETER, "multipart/form-data without a boundary")
        for name, is_file, content in _parts(body, boundary):
            if is_file or name is None:
                file = content if file is None else file
            elif name == "dataFile" and file is None:
                file = content
            else:
                parameters[name] = content.decode("utf-8", errors="replace")
    return Request(parameters, file)


def _header(value: str) -> tuple[str, dict[str, str]]:
    kind, _, rest = value.partition(";")
    found = re.findall(r';?\s*([\w*-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;]*))', rest)
    return kind.strip().lower(), {k.lower(): (quoted or plain.strip()) for k, quoted, plain in found}


def _parts(body: bytes, boundary: str) -> list[tuple[str | None, bool, bytes]]:
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary.encode("latin-1"))
    found: list[tuple[str | None, bool, bytes]] = []
    for piece in pieces[1:]:
        if piece.startswith(b"--"):
            return found
        if len(found) >= MAXIMUM_PARTS:
            raise RefusedError(TOO_LARGE, "Too many parts in the upload")
        head, separator, content = piece.partition(b"\r\n\r\n")
        if len(head) > MAXIMUM_PART_HEAD:
            raise RefusedError(TOO_LARGE, "The head of a part is too long")
        if not separator:
            break
        headers = {}
        for line in head.decode("utf-8", errors="replace").split("\r\n"):
            key, _, value = line.partition(":")
            headers[key.strip().lower()] = value.strip()
        _, options = _header(headers.get("content-disposition", ""))
        is_file = "filename" in options or "filename*" in options
        found.append((options.get("name") or None, is_file, content))
    raise RefusedError(BAD_PARAMETER, "The multipart upload is not complete")


class _Bounds:
    """Counts elements before a tree is made of them: a small ZIP unpacks to more than the memory holds."""

    def __init__(self) -> None:
        self._elements = 0
        self._depth = 0

    def start(self, _name: str, attributes: dict[str, str]) -> None:
        self._elements += 1
        self._depth += 1
        if self._elements > MAXIMUM_ELEMENTS or self._depth > MAXIMUM_DEPTH or len(attributes) > MAXIMUM_ATTRIBUTES:
            raise RefusedError(TOO_LARGE, "The document has too many elements or attributes, or is nested too deeply")

    def end(self, _name: str) -> None:
        self._depth -= 1


def _refuse_document_type(*_: object) -> None:
    raise RefusedError(BAD_PARAMETER, "A document type is not allowed")


def parse_xml(content: bytes, encoding: str = "65001") -> ET.Element:
    """The document's root. A document type – and so every entity trick – is refused before anything is expanded."""
    document: bytes | str = content
    if encoding == "932":
        try:
            document = re.sub(r"^\s*<\?xml[^>]*\?>", "", content.decode("cp932"), count=1)
        except UnicodeDecodeError as error:
            raise RefusedError(BAD_PARAMETER, "The document is not in code page 932") from error

    checker = expat.ParserCreate()
    checker.StartDoctypeDeclHandler = _refuse_document_type
    checker.EntityDeclHandler = _refuse_document_type
    bounds = _Bounds()
    checker.StartElementHandler = bounds.start
    checker.EndElementHandler = bounds.end
    try:
        checker.Parse(document, True)
        root = ET.fromstring(document)
    except (expat.ExpatError, ET.ParseError, ValueError, LookupError) as error:
        raise RefusedError(BAD_PARAMETER, f"The document is not XML: {error}") from error
    if root.tag != "conmas":
        raise RefusedError(BAD_PARAMETER, f"The root element is {root.tag}, conmas was expected")
    return root


def read_tops(root: ET.Element, files: Pictures) -> list[Top]:
    """Every ``top`` of an upload. Clusters stand in ``top/clusters`` or ``top/sheets/sheet/clusters``; both exist."""
    tops = root.findall("top")
    if not 1 <= len(tops) <= MAXIMUM_TOPS:
        raise RefusedError(BAD_PARAMETER, f"1 to {MAXIMUM_TOPS} top elements are expected, there are {len(tops)}")
    return [_read_top(top, files) for top in tops]


def _read_top(element: ET.Element, files: Pictures) -> Top:
    top = Top(
        def_top_id=_number(element, "defTopId"),
        rep_top_id=_number(element, "repTopId"),
        name=_given(element, "repTopName", MAXIMUM_NAME),
        edit_status=_number(element, "editStatus"),
        user=_given(element, "createUserId", MAXIMUM_NAME),
        system_keys=[_given(element, f"systemKey{n}", MAXIMUM_NAME) for n in range(1, 6)],
        remarks=[_given(element, f"remarksValue{n}") for n in range(1, 11)],
    )
    if top.edit_status is not None and not 0 <= top.edit_status <= 4:
        raise RefusedError(BAD_PARAMETER, "editStatus is 0 to 4")
    found = [(None, cluster) for cluster in element.findall("clusters/cluster")]
    for sheet in element.findall("sheets/sheet"):
        number = _number(sheet, "sheetNo")
        found += [(number, cluster) for cluster in sheet.findall("clusters/cluster")]  # type: ignore[misc]
    if len(found) > MAXIMUM_CLUSTERS:
        raise RefusedError(TOO_LARGE, f"A report has at most {MAXIMUM_CLUSTERS} clusters")
    for of_sheet, cluster in found:
        number, cluster_id = _number(cluster, "sheetNo") or of_sheet, _number(cluster, "clusterId")
        if number is None or cluster_id is None:
            raise RefusedError(BAD_PARAMETER, "A cluster lacks sheetNo or clusterId")
        value = _given(cluster, "value")
        image = archive.picture(files, value) if value else None
        if image is not None:
            value = "Image"
        if stamp := _given(cluster, "approvalSignImage"):
            image = archive.picture(files, stamp) or image
        top.clusters.append(
            Cluster(
                number,
                cluster_id,
                value,
                _given(cluster, "approver"),
                _given(cluster, "approvalDate"),
                _given(cluster, "approverComment"),
                image,
            )
        )
    return top


def _given(element: ET.Element, name: str, limit: int = MAXIMUM_VALUE) -> str | None:
    child = element.find(name)
    if child is None or (text := child.text or "") == IGNORE:
        return None
    if len(text) > limit:
        raise RefusedError(TOO_LARGE, f"{name} is longer than {limit} characters")
    return text


def _number(element: ET.Element, name: str) -> int | None:
    text = _given(element, name)
    if text is None or not text.strip():
        return None
    return integer(text, name)


def integer(text: str, name: str) -> int:
    """A non-negative id that fits the database's integer."""
    text = text.strip()
    if not re.fullmatch(r"[0-9]{1,10}", text) or int(text) > 2**31 - 1:
        raise RefusedError(BAD_PARAMETER, f"{name} is not a number")
    return int(text)
