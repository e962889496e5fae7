# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The XML answers: UTF-8, root ``conmas``, nothing in them that XML 1.0 cannot hold."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote
from xml.sax.saxutils import escape

# What XML 1.0 forbids even escaped. Values come from tablets, so they are replaced, never sent on.
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Node = tuple[str, "str | int | Sequence[Node] | None"]


@dataclass(frozen=True)
class Answer:
    """What one command sends back."""

    body: bytes
    content_type: str = "text/xml; charset=utf-8"
    headers: list[tuple[str, str]] = field(default_factory=list)


def _text(value: object) -> str:
    # A carriage return would come back as a line feed from every XML parser.
    return escape(_FORBIDDEN.sub("\ufffd", str(value)), {"\r": "&#13;"})


def _render(node: Node) -> str:
    name, content = node
    if content is None or content == "":
        return f"<{name} />"
    if isinstance(content, str | int):
        return f"<{name}>{_text(content)}</{name}>"
    inner = "".join(_render(child) for child in content)
    return f"<{name}>{inner}</{name}>" if inner else f"<{name} />"


def xml(*nodes: Node) -> Answer:
    """``<conmas>`` with these children."""
    text = '<?xml version="1.0" encoding="utf-8"?>\n' + _render(("conmas", nodes))
    return Answer(text.encode())


def login_result(code: int, remark: str = "") -> Answer:
    """Answer of ``Login``; a refusal is HTTP 200 with a code other than 0."""
    return xml(("loginResult", [("code", code), ("remark", remark)]))


def error(code: int, remark: str = "") -> Answer:
    """Answer of ``Logout`` and of everything that went wrong."""
    return xml(("error", [("code", code), ("remark", remark)]))


def results(rows: Iterable[tuple[int | str, int, str]]) -> Answer:
    """Answer of a bulk write: one ``result`` per report (id, code, remark)."""
    return xml(
        (
            "results",
            [
                ("result", [("topId", top), ("code", code), *([("remark", remark)] if remark else [])])
                for top, code, remark in rows
            ],
        )
    )


def items(rows: Iterable[Sequence[Node]]) -> Answer:
    """Answer of a list command."""
    return xml(("items", [("item", list(row)) for row in rows]))


def numbered(name: str, values: Sequence[str | None] | None, count: int) -> list[Node]:
    """``name1`` … ``name<count>`` from an array that may be shorter."""
    values = values or ()
    return [(f"{name}{n + 1}", values[n] if n < len(values) else None) for n in range(count)]


def detail(fields: Mapping[str, object], clusters: Iterable[Mapping[str, object]]) -> Answer:
    """``detailInfo`` with its clusters; ``fields`` in the documented order."""
    return xml(
        (
            "detailInfo",
            [
                *((name, None if value is None else str(value)) for name, value in fields.items()),
                (
                    "clusters",
                    [
                        ("cluster", [(k, None if v is None else str(v)) for k, v in cluster.items()])
                        for cluster in clusters
                    ],
                ),
            ],
        )
    )


def file(content: bytes, name: str, content_type: str) -> Answer:
    """A raw file. A name beyond ASCII is sent twice (RFC 6266), so that old clients find one as well."""
    plain = re.sub(r'[^ -~]|["\\]', "_", name)
    disposition = f'attachment; filename="{plain}"'
    if plain != name:
        disposition += f"; filename*=UTF-8''{quote(name, safe='')}"
    return Answer(content, content_type, [("Content-Disposition", disposition)])
