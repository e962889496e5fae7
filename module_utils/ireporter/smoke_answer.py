"""Reads what the API answers: XML with root ``conmas`` (no DTD, no entities), or a file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.etree import ElementTree  # DOCTYPE is refused below, before anything of it is read

from .errors import MigrationError
from .smoke_http import Reply

_STARTXREF = re.compile(rb"startxref\s+(\d+)\s+%%EOF\s*\Z")
_ACTION = "Look at the application's and the web server's log on the server asked, then run again"


class _NoDocumentType(ElementTree.TreeBuilder):
    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:  # noqa: ARG002 – expat's interface
        raise ValueError("it carries a document type, which this API never sends")


@dataclass(frozen=True)
class Item:
    """One line of a list: what it is called and its id."""

    item_id: str
    name: str


def read_xml(step: str, reply: Reply) -> ElementTree.Element:
    """The answer's root.

    :raises MigrationError: HTTP status other than 200, no XML, another root, or a code other than 0 (under HTTP 200).
    """
    if reply.status != 200:
        raise _failed(step, f"HTTP status {reply.status}")
    try:
        root = ElementTree.fromstring(reply.body, ElementTree.XMLParser(target=_NoDocumentType()))  # noqa: S314
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise _failed(step, f"an answer that is no XML: {error}") from error
    if root.tag != "conmas":
        raise _failed(step, f"XML with the root {root.tag!r} instead of conmas")
    for path in ("loginResult/code", "error/code"):
        code = root.findtext(path)
        if code is not None and code.strip() != "0":
            remark = root.findtext(path.replace("code", "remark")) or "no remark"
            raise _failed(step, f"code {code.strip()}: {' '.join(remark.split())}")
    return root


def read_login(reply: Reply) -> None:
    """:raises MigrationError: nobody is logged in now."""
    if read_xml("login", reply).findtext("loginResult/code") is None:
        raise _failed("login", "no loginResult/code")


def read_items(step: str, reply: Reply) -> list[Item]:
    """The list's items, in the server's order.

    :raises MigrationError: no list, or an item without id.
    """
    root = read_xml(step, reply)
    if root.find("items") is None:
        raise _failed(step, "no items")
    items = [
        Item((item.findtext("itemId") or "").strip(), item.findtext("name") or "")
        for item in root.iterfind("items/item")
    ]
    if any(not item.item_id for item in items):
        raise _failed(step, "an item without itemId")
    return items


def read_detail(reply: Reply, report: str) -> int:
    """How many cluster values the report ``report`` has.

    :raises MigrationError: it is another report, or none.
    """
    root = read_xml("report", reply)
    found = (root.findtext("detailInfo/topId") or "").strip()
    if found != report:
        raise _failed("report", f"report {found or 'without topId'} instead of {report}")
    return sum(1 for _ in root.iter("cluster"))


def read_pdf(reply: Reply) -> int:
    """Bytes of the PDF: it begins and ends as one, and its end points at a cross-reference within it.

    :raises MigrationError: it is something else; a refusal comes as XML and is read as such.
    """
    if reply.status == 200 and reply.body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        read_xml("pdf", reply)
        raise _failed("pdf", "XML instead of a PDF")
    if reply.status != 200:
        raise _failed("pdf", f"HTTP status {reply.status}")
    if not reply.body.startswith(b"%PDF-"):
        raise _failed("pdf", f"a file that begins with {reply.body[:8]!r} instead of %PDF-")
    end = _STARTXREF.search(reply.body[-1024:])
    if end is None:
        raise _failed("pdf", f"a PDF of {len(reply.body)} bytes without an end (startxref, %%EOF)")
    target = reply.body[int(end[1]) :][:32].lstrip()
    if not (target.startswith(b"xref") or re.match(rb"\d+\s+\d+\s+obj", target)):
        raise _failed("pdf", f"a PDF of {len(reply.body)} bytes whose cross-reference is not where its end says")
    return len(reply.body)


def _failed(step: str, got: str) -> MigrationError:
    return MigrationError(f"The smoke test's step {step} got {got}", check=f"smoke-{step}", action=_ACTION)
