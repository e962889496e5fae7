# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a client sends: parameters from query or form alike, the first file, and the XML or ZIP inside it. Bounded."""

from __future__ import annotations

import io
import re
import urllib.parse
import xml.etree.ElementTree as ET
import zipfile
from dataclasses import dataclass, field
from xml.parsers import expat

from .errors import BAD_PARAMETER, TOO_LARGE, RefusedError

MAXIMUM_BODY = 64 * 1024 * 1024
MAXIMUM_UNPACKED = 128 * 1024 * 1024
MAXIMUM_MEMBERS = 1000
MAXIMUM_CLUSTERS = 2000
MAXIMUM_TOPS = 100
MAXIMUM_VALUE = 1024 * 1024
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
            parameters |= urllib.parse.parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=1000)
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
        if len(found) >= MAXIMUM_MEMBERS:
            raise RefusedError(TOO_LARGE, "Too many parts in the upload")
        head, separator, content = piece.partition(b"\r\n\r\n")
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


def unpack(content: bytes) -> tuple[bytes, dict[str, bytes]]:
    """The XML document of an ``xmlZip`` and its other members by base name; nothing is written to disk."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
        members = [member for member in archive.infolist() if not member.is_dir()]
        if len(members) > MAXIMUM_MEMBERS or sum(member.file_size for member in members) > MAXIMUM_UNPACKED:
            raise RefusedError(TOO_LARGE, "The ZIP holds too much")
        files: dict[str, bytes] = {}
        left = MAXIMUM_UNPACKED
        for member in members:
            with archive.open(member) as stream:
                data = stream.read(left + 1)  # the size in the directory may lie
            left -= len(data)
            if left < 0:
                raise RefusedError(TOO_LARGE, "The ZIP holds too much")
            files[member.filename.replace("\\", "/").rsplit("/", 1)[-1]] = data
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError, ValueError) as error:
        raise RefusedError(BAD_PARAMETER, "The file is not a readable ZIP") from error
    documents = sorted(name for name in files if name.lower().endswith(".xml"))
    if len(documents) != 1:
        raise RefusedError(BAD_PARAMETER, f"The ZIP must hold one XML document, it holds {len(documents)}")
    return files.pop(documents[0]), files


def parse_xml(content: bytes, encoding: str = "65001") -> ET.Element:
    """The document's root. A document type – and so every entity trick – is refused before anything is expanded."""
    document: bytes | str = content
    if encoding.lower() in ("932", "shift_jis", "sjis", "cp932"):
        try:
            document = re.sub(r"^\s*<\?xml[^>]*\?>", "", content.decode("cp932"), count=1)
        except UnicodeDecodeError as error:
            raise RefusedError(BAD_PARAMETER, "The document is not in code page 932") from error

    def refuse(*_: object) -> None:
        raise RefusedError(BAD_PARAMETER, "A document type is not allowed")

    checker = expat.ParserCreate()
    checker.StartDoctypeDeclHandler = refuse
    checker.EntityDeclHandler = refuse
    try:
        checker.Parse(document, True)
        root = ET.fromstring(document)
    except (expat.ExpatError, ET.ParseError, ValueError, LookupError) as error:
        raise RefusedError(BAD_PARAMETER, f"The document is not XML: {error}") from error
    if root.tag != "conmas":
        raise RefusedError(BAD_PARAMETER, f"The root element is {root.tag}, conmas was expected")
    return root


def read_tops(root: ET.Element, files: dict[str, bytes]) -> list[Top]:
    """Every ``top`` of an upload. Clusters stand in ``top/clusters`` or ``top/sheets/sheet/clusters``; both exist."""
    tops = root.findall("top")
    if not 1 <= len(tops) <= MAXIMUM_TOPS:
        raise RefusedError(BAD_PARAMETER, f"1 to {MAXIMUM_TOPS} top elements are expected, there are {len(tops)}")
    return [_read_top(top, files) for top in tops]


def _read_top(element: ET.Element, files: dict[str, bytes]) -> Top:
    top = Top(
        def_top_id=_number(element, "defTopId"),
        rep_top_id=_number(element, "repTopId"),
        name=_given(element, "repTopName"),
        edit_status=_number(element, "editStatus"),
        user=_given(element, "createUserId"),
        system_keys=[_given(element, f"systemKey{n}") for n in range(1, 6)],
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
        image = None
        for reference in (value, _given(cluster, "approvalSignImage")):
            if reference and (name := reference.replace("\\", "/").rsplit("/", 1)[-1]) in files:
                image = files[name]
        if image is not None and value is not None and value.replace("\\", "/").rsplit("/", 1)[-1] in files:
            value = "Image"
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


def _given(element: ET.Element, name: str) -> str | None:
    child = element.find(name)
    if child is None or (text := child.text or "") == IGNORE:
        return None
    if len(text) > MAXIMUM_VALUE:
        raise RefusedError(TOO_LARGE, f"{name} is longer than {MAXIMUM_VALUE} characters")
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
