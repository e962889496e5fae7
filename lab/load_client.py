#!/usr/bin/env python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plays tablets and neighbours' tablets against i-Reporter servers, and finds out later whether a write was lost.

``run`` logs in, creates, updates and reads through the public API. Every write the server acknowledged goes into a
journal (JSON lines) with its content; a write whose answer never came is "unknown": it may be there or not, and is not
counted as acknowledged. ``readback`` reads every acknowledged write through the API of a given server and compares.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import hashlib
import io
import itertools
import json
import os
import random
import secrets
import signal
import socket
import ssl
import statistics
import struct
import sys
import time
import xml.etree.ElementTree as ET
import zipfile
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO, TypeVar
from urllib.parse import urlsplit

import aiohttp
import dns.asyncresolver
import dns.exception
from aiohttp.abc import AbstractResolver, ResolveResult

OK = "0"
NOT_LOGGED_IN = "2"  # this and the next are the stand-in's own codes
NOT_FOUND = "5"
RETRY_SECONDS = 0.5
SUMMARY_SECONDS = 2.0
LATENCIES_KEPT = 50_000
LONGEST_LINE = 1 << 20  # of a journal
MARGIN = 1.05  # a rate asked for is the least, also when a device was held up now and then
T = TypeVar("T")
_ANSWERS = ("text/xml", "application/pdf", "application/zip")


class LoadError(Exception):
    """Why the client cannot do what it was asked, in one sentence."""


class FailedRequestError(Exception):
    """No good answer. ``maybe``: the server may have carried it out all the same. ``again``: it can be sent again."""

    def __init__(self, kind: str, *, maybe: bool, again: bool) -> None:
        self.kind = kind
        self.maybe = maybe
        self.again = again
        super().__init__(kind)


class ApiError(Exception):
    """An answer with a code other than 0."""

    def __init__(self, code: str, remark: str) -> None:
        self.code = code
        super().__init__(f"code {code}: {remark}")


class LoginRefusedError(ApiError):
    """The server does not want this user: nothing is known about any report."""


# Configuration --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Tenant:
    """One tenant as its tablets know it. ``role``: ``tablets`` (write load) or ``neighbour`` (steady requests)."""

    name: str
    role: str
    url: str
    users: tuple[str, ...]
    password: str


@dataclass(frozen=True)
class Config:
    """Content of the configuration file."""

    tenants: tuple[Tenant, ...]
    name_servers: tuple[str, ...]
    name_server_port: int
    ca_file: str | None


def _role(role: str) -> str:
    if role not in ("tablets", "neighbour"):
        raise ValueError(f"the role {role!r} is neither tablets nor neighbour")
    return role


def _password(entry: dict[str, Any]) -> str:
    if "password_file" in entry:
        return Path(entry["password_file"]).read_text(encoding="utf-8").rstrip("\n")
    return os.environ[entry["password_environment"]]


def read_config(path: Path) -> Config:
    """Read the JSON configuration. A password stands in a file or in the environment, never here."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        tenants = []
        for entry in content["tenants"]:
            users = tuple(entry["users"])
            if not users:
                raise LoadError(f"{path}: the tenant {entry['name']} has no users")
            tenants.append(Tenant(entry["name"], _role(entry["role"]), entry["url"], users, _password(entry)))
        servers = tuple(content.get("name_servers", ()))
        return Config(tuple(tenants), servers, int(content.get("name_server_port", 53)), content.get("ca_file"))
    except (OSError, ValueError, TypeError) as error:
        raise LoadError(f"{path} cannot be read: {error}") from error
    except KeyError as error:
        raise LoadError(f"{path} or the environment lacks {error}") from error


# Names ----------------------------------------------------------------------------------------------------------------
class Names(AbstractResolver):
    """Asks the given name servers and keeps an answer for its TTL, as a device's own resolver does."""

    def __init__(self, servers: Sequence[str], port: int, fixed: dict[str, str] | None = None) -> None:
        self._resolver = None
        if servers:
            self._resolver = dns.asyncresolver.Resolver(configure=False)
            self._resolver.nameservers = list(servers)
            self._resolver.port = port
            self._resolver.lifetime = 4.0
            self._resolver.timeout = 1.5
        self._fixed = fixed or {}
        self._cache: dict[str, tuple[float, list[str]]] = {}
        self.current: dict[str, list[str]] = {}

    async def addresses(self, host: str) -> list[str]:
        """Addresses of ``host``; an expired answer is never used, so a dead name server is an outage."""
        if host in self._fixed:
            return [self._fixed[host]]
        kept = self._cache.get(host)
        if kept and kept[0] > time.monotonic():
            return kept[1]
        if self._resolver is None:
            found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
            return [str(entry[4][0]) for entry in found]
        try:
            answer = await self._resolver.resolve(host, "A")
        except dns.exception.DNSException as error:
            raise OSError(f"{host} cannot be resolved: {error}") from error
        ttl = answer.rrset.ttl if answer.rrset is not None else 0
        addresses = [record.address for record in answer]
        self._cache[host] = (time.monotonic() + ttl, addresses)
        return addresses

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_INET,  # noqa: ARG002 - the address found says which
    ) -> list[ResolveResult]:
        addresses = await self.addresses(host)
        self.current[host] = addresses
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""


# What is written ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Content:
    """A report as a tablet sends it and as it must be read back."""

    name: str
    keys: tuple[str, str]
    values: tuple[tuple[int, int, str], ...]
    photo: tuple[int, int, str] | None = None  # sheet, cluster, SHA-256 of the image

    def as_json(self) -> dict[str, object]:
        """For the journal."""
        return {
            "name": self.name,
            "keys": list(self.keys),
            "values": [list(v) for v in self.values],
            "photo": self.photo,
        }

    @staticmethod
    def of_json(content: dict[str, Any]) -> Content:
        """From the journal."""
        photo = content.get("photo")
        return Content(
            content["name"],
            (content["keys"][0], content["keys"][1]),
            tuple((int(s), int(c), str(v)) for s, c, v in content["values"]),
            (int(photo[0]), int(photo[1]), str(photo[2])) if photo else None,
        )

    def digest(self) -> str:
        """SHA-256 of the content in one fixed form."""
        text = json.dumps(self.as_json(), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Form:
    """A published definition: its id and its clusters (sheet, cluster, kind)."""

    definition: int
    clusters: tuple[tuple[int, int, str], ...]


_WORDS = (
    "異常なし",
    "要確認",
    "温度 上昇",
    "<漏れ> & 'ひび'",
    'quote "q"',
    "二行\n目",
    "ｶﾅ",
    "𠮷野家",
    "Kiểm tra",
    "-0",
    "1.00",
    "{{ x }}",
    "$(id)",
)


def make_content(rng: random.Random, form: Form, who: str, with_photo: bool) -> tuple[Content, bytes | None]:
    """A filled-in form, and its photo's bytes where it has one."""
    fillable = [c for c in form.clusters if c[2] != "Image"]
    chosen = sorted(rng.sample(fillable, min(len(fillable), rng.randrange(6, 16))))
    values = tuple((sheet, cluster, f"{rng.choice(_WORDS)} {rng.getrandbits(48):x}") for sheet, cluster, _ in chosen)
    write_id = f"{who}-{secrets.token_hex(8)}"
    photo, image = None, None
    places = [c for c in form.clusters if c[2] == "Image"]
    if with_photo and places:
        image = make_photo(rng, 20_000)
        photo = (places[0][0], places[0][1], hashlib.sha256(image).hexdigest())
    return Content(f"点検 {who} {write_id[-6:]}", (write_id, f"{rng.getrandbits(32):08x}"), values, photo), image


def make_photo(rng: random.Random, size: int) -> bytes:
    """A valid grey PNG of noise."""
    width = 100
    rows = b"".join(b"\0" + rng.randbytes(width) for _ in range(max(1, size // width)))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, len(rows) // (width + 1), 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 0)) + chunk(b"IEND", b"")


def report_xml(content: Content, *, definition: int | None = None, report: int | None = None) -> bytes:
    """The upload of ``AutoGenerate`` (``definition``) or ``UpdateReport`` (``report``)."""
    root = ET.Element("conmas")
    top = ET.SubElement(root, "top")
    if definition is not None:
        ET.SubElement(top, "defTopId").text = str(definition)
    if report is not None:
        ET.SubElement(top, "repTopId").text = str(report)
        ET.SubElement(top, "editStatus").text = "1"
    ET.SubElement(top, "repTopName").text = content.name
    for number, key in enumerate(content.keys, 1):
        ET.SubElement(top, f"systemKey{number}").text = key
    values = [*content.values]
    if content.photo is not None and definition is not None:
        values.append((content.photo[0], content.photo[1], "photo.png"))
    sheets = ET.SubElement(top, "sheets")
    for sheet_no, group in itertools.groupby(sorted(values), key=lambda value: value[0]):
        sheet = ET.SubElement(sheets, "sheet")
        ET.SubElement(sheet, "sheetNo").text = str(sheet_no)
        clusters = ET.SubElement(sheet, "clusters")
        for _, cluster_id, value in group:
            cluster = ET.SubElement(clusters, "cluster")
            ET.SubElement(cluster, "sheetNo").text = str(sheet_no)
            ET.SubElement(cluster, "clusterId").text = str(cluster_id)
            ET.SubElement(cluster, "value").text = value
    body: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=False)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + body


def differences(expected: Content, detail: ET.Element) -> list[str]:
    """What of ``expected`` the answer of ``GetReportDetail`` does not show."""
    info = detail.find("detailInfo")
    if info is None:
        return ["no detailInfo"]
    found = []
    for name, value in (("topName", expected.name), ("systemKey1", expected.keys[0]), ("systemKey2", expected.keys[1])):
        if (info.findtext(name) or "") != value:
            found.append(name)
    values = {
        (c.findtext("sheetNo"), c.findtext("clusterId")): c.findtext("value") or ""
        for c in info.findall("clusters/cluster")
    }
    found += [f"cluster {s}/{c}" for s, c, value in expected.values if values.get((str(s), str(c))) != value]
    if expected.photo and values.get((str(expected.photo[0]), str(expected.photo[1]))) != "Image":
        found.append("photo")
    return found


# The journal ----------------------------------------------------------------------------------------------------------
class Journal:
    """Append-only JSON lines: a line survives the end of this process at once, of the machine after half a second."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._dirty = False

    def write(self, **entry: object) -> None:
        """One event, with the time of day."""
        entry["at"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        self._stream.write(json.dumps(entry, ensure_ascii=False, sort_keys=True) + "\n")
        self._stream.flush()
        self._dirty = True

    async def keep_durable(self) -> None:
        """Bring what was written to disk, again and again."""
        while True:
            await asyncio.sleep(0.5)
            await self.sync()

    async def sync(self) -> None:
        """Bring what was written to disk."""
        if self._dirty:
            self._dirty = False
            try:
                await asyncio.to_thread(os.fsync, self._stream.fileno())
            except BaseException:
                self._dirty = True  # whoever syncs next must not believe it is done
                raise


def cut_torn_line(path: Path) -> None:
    """Cut off what an earlier run did not finish writing: appending to it would spoil the next line as well."""
    if not path.exists():
        return
    with path.open("r+b") as stream:
        start = max(0, stream.seek(0, os.SEEK_END) - LONGEST_LINE)
        stream.seek(start)
        last = stream.read().rfind(b"\n")
        if last < 0 and start > 0:
            raise LoadError(f"{path} is no journal: it ends in a line of more than {LONGEST_LINE} bytes")
        stream.truncate(start + last + 1)


@dataclass
class Expected:
    """What a report may look like: the last acknowledged content, or one that was sent later and never answered."""

    acknowledged: Content
    writes: int = 1
    unknown: list[Content] = field(default_factory=list)


@dataclass
class Recorded:
    """A tenant's writes: expected content per report, counts, and ids the server handed out twice.

    An id handed out twice means the report that had it first was lost: an update of it can no longer be told apart.
    """

    expected: dict[int, Expected] = field(default_factory=dict)
    acknowledged: int = 0
    unknown: int = 0
    handed_out_twice: list[tuple[int, Expected]] = field(default_factory=list)


def read_journal(lines: Iterator[str], tenant: str, until: datetime.datetime | None = None) -> Recorded:
    """Read the journal. A torn last line is no event.

    :param until: what was acknowledged later does not count. A write that was never answered does whenever it was given up: it
        may have been done before.
    """
    recorded = Recorded()
    expected = recorded.expected
    for line in lines:
        if not line.endswith("\n"):
            break
        try:
            entry = json.loads(line)
            if entry["tenant"] != tenant:
                continue
            content, report = Content.of_json(entry["content"]), entry["report"]
            late = until is not None and datetime.datetime.fromisoformat(entry["at"]) > until
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise LoadError(f"The journal is damaged: {line[:80]!r} is no event") from error
        if content.digest() != entry["digest"]:
            raise LoadError(f"The journal is damaged: digest of write {content.keys[0]}")
        if entry["outcome"] == "acknowledged":
            if late:
                continue
            recorded.acknowledged += 1
            known = expected.get(report)
            if known is not None and entry["kind"] == "create":
                recorded.handed_out_twice.append((report, known))
                known = None
            if known is None:
                expected[report] = Expected(content)
            else:
                known.acknowledged, known.writes, known.unknown = content, known.writes + 1, []
        else:
            recorded.unknown += 1
            if report in expected:
                expected[report].unknown.append(content)
    return recorded


# One user at one server -----------------------------------------------------------------------------------------------
class Client:
    """A device: one user, one session, one request at a time."""

    def __init__(self, http: aiohttp.ClientSession, tenant: Tenant, user: str, seen: Seen, timeout: float) -> None:
        self._http = http
        self._tenant = tenant
        self._user = user
        self._seen = seen
        self._timeout = aiohttp.ClientTimeout(total=timeout, connect=min(5.0, timeout))
        self._cookie: str | None = None

    async def _post(self, query: dict[str, str], data: Any) -> tuple[bytes, str, Any]:
        started = time.monotonic()
        headers = {"Cookie": self._cookie} if self._cookie else {}
        try:
            async with self._http.post(
                self._tenant.url, params=query, data=data, headers=headers, timeout=self._timeout
            ) as response:
                body = await response.read()
                _check_answer(response.status, response.content_type, body)
                result = body, response.content_type, response.headers.getall("Set-Cookie", [])
        except FailedRequestError as error:
            self._failed(started, error.kind)
            raise
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            kind = "connect"
            if isinstance(error, aiohttp.ClientConnectorDNSError):
                kind = "name"
            elif isinstance(error, aiohttp.ClientSSLError):
                kind = "tls"
            self._failed(started, kind)
            raise FailedRequestError(kind, maybe=False, again=True) from error
        except TimeoutError as error:
            self._failed(started, "timeout")
            raise FailedRequestError("timeout", maybe=True, again=False) from error
        except (aiohttp.ClientError, OSError) as error:
            self._failed(started, "broken")
            raise FailedRequestError("broken", maybe=True, again=False) from error
        now = time.monotonic()
        failed_since = self._seen.failing.pop(id(self), None)
        self._seen.good(started, now, now - failed_since if failed_since is not None else None)
        return result

    def _failed(self, started: float, kind: str) -> None:
        self._seen.failing.setdefault(id(self), started)
        self._seen.failed(started, kind)

    async def login(self) -> None:
        """Start a session."""
        self._cookie = None
        body, _, cookies = await self._post(
            {}, {"command": "Login", "user": self._user, "password": self._tenant.password}
        )
        root = _parsed(body)
        code = root.findtext("loginResult/code")
        if code != OK:
            self._seen.api_errors[f"login {code or '?'}"] += 1
            raise LoginRefusedError(
                code or "?", f"login of {self._user} at {self._tenant.name}: {root.findtext('loginResult/remark')}"
            )
        for cookie in cookies:
            if cookie.startswith("ASP.NET_SessionId="):
                self._cookie = cookie.split(";")[0]

    async def logout(self) -> None:
        """End the session; one that is gone already is none to end."""
        await self._post({}, {"command": "Logout"})
        self._cookie = None

    async def _command(self, query: dict[str, str], data: Any) -> tuple[bytes, str]:
        """One command. ``data`` is a function where it can be sent once only. A lost session is opened again."""
        for attempt in (1, 2):
            if self._cookie is None:
                try:
                    await self.login()
                except FailedRequestError as failed:
                    # Whatever became of the login, the command was not sent.
                    raise FailedRequestError(failed.kind, maybe=False, again=True) from failed
            body, kind, _ = await self._post(query, data() if callable(data) else data)
            if "xml" not in kind:
                return body, kind
            error = _parsed(body).find("error")
            if error is None or error.findtext("code") == OK:
                return body, kind
            code = error.findtext("code") or "?"
            if code != NOT_LOGGED_IN or attempt == 2:
                self._seen.api_errors[code] += 1
                raise ApiError(code, error.findtext("remark") or "")
            self._cookie = None
        raise AssertionError("unreachable")

    async def xml(self, command: str, **parameters: str) -> ET.Element:
        """A command that answers XML."""
        body, _ = await self._command({}, {"command": command, **parameters})
        return _parsed(body)

    async def file(self, command: str, **parameters: str) -> bytes:
        """A command that answers a file."""
        body, kind = await self._command({}, {"command": command, **parameters})
        if "xml" in kind:
            raise ApiError("?", f"{command} answered XML where a file was expected")
        return body

    async def create(self, form: Form, content: Content, image: bytes | None, style: str) -> int:
        """``AutoGenerate``; returns the id the server gave. ``style`` A or B: the two ways real clients upload."""
        document = report_xml(content, definition=form.definition)
        if image is None:
            return await self._upload("AutoGenerate", "xml", document, "report.xml", style)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("import.xml", document)
            archive.writestr("photo.png", image)
        return await self._upload("AutoGenerate", "xmlZip", buffer.getvalue(), "report.zip", style)

    async def update(self, report: int, content: Content, style: str) -> None:
        """``UpdateReport``."""
        document = report_xml(content, report=report)
        if await self._upload("UpdateReport", "xml", document, "report.xml", style, mode="0") != report:
            self._seen.api_errors["?"] += 1
            raise FailedRequestError("another id", maybe=True, again=False)

    async def _upload(self, command: str, kind: str, document: bytes, name: str, style: str, **more: str) -> int:
        parameters = {"command": command, "type": kind, "encoding": "65001", **more}

        def form() -> aiohttp.FormData | aiohttp.MultipartWriter:
            if style == "B":
                parts = aiohttp.MultipartWriter("form-data")
                parts.append(document, {"Content-Type": "application/octet-stream"}).set_content_disposition(
                    "form-data", filename=name
                )
                return parts
            data = aiohttp.FormData(parameters)
            data.add_field("dataFile", document, filename=name, content_type="application/octet-stream")
            return data

        body, answered = await self._command(parameters if style == "B" else {}, form)
        result = _parsed(body).find("results/result") if "xml" in answered else None
        code = (result.findtext("code") or "") if result is not None else ""
        if result is None or not code:
            # Neither acknowledged nor refused.
            self._seen.api_errors["?"] += 1
            raise FailedRequestError("no result", maybe=True, again=False)
        if code != OK:
            self._seen.api_errors[code] += 1
            raise ApiError(code, result.findtext("remark") or f"{command} was refused")
        top_id = result.findtext("topId") or ""
        if not top_id.isdecimal():
            self._seen.api_errors["?"] += 1
            raise FailedRequestError("no id", maybe=True, again=False)
        return int(top_id)


def _parsed(body: bytes) -> ET.Element:
    try:
        return ET.fromstring(body)
    except ET.ParseError as error:
        raise ApiError("?", f"the answer is not XML: {error}") from error


def _check_answer(status: int, content_type: str, body: bytes) -> None:
    """Refuse what is no answer of the API, such as a proxy's page with status 200."""
    if status != 200:
        # 503 may also mean that the database went away while committing: not surely "nothing done".
        raise FailedRequestError(f"http {status}", maybe=True, again=status in (410, 503))
    if content_type not in _ANSWERS:
        raise FailedRequestError("not the api", maybe=True, again=False)
    if content_type == "text/xml":
        try:
            root = ET.fromstring(body)
        except ET.ParseError as error:
            raise FailedRequestError("not xml", maybe=True, again=False) from error
        if root.tag != "conmas":
            raise FailedRequestError("not the api", maybe=True, again=False)


# What is seen ---------------------------------------------------------------------------------------------------------
@dataclass
class Seen:
    """A tenant as its devices see it."""

    role: str
    begun: float
    requests: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    api_errors: Counter[str] = field(default_factory=Counter)
    creates: int = 0
    updates: int = 0
    unknown: int = 0
    reads: int = 0
    read_mismatches: int = 0
    outages: list[dict[str, Any]] = field(default_factory=list)
    client_outage_max: float = 0.0
    failing: dict[int, float] = field(default_factory=dict)  # client → since when it has had no good answer
    latencies: list[float] = field(default_factory=list)
    slowest: float = 0.0
    _good: int = 0
    _open: dict[str, Any] | None = None

    def good(self, started: float, ended: float, client_outage: float | None) -> None:
        """A good answer. It ends an outage only if it was asked for after the outage began."""
        self.requests += 1
        self._good += 1
        self.slowest = max(self.slowest, ended - started)
        if len(self.latencies) < LATENCIES_KEPT:
            self.latencies.append(ended - started)
        elif (place := random.randrange(self._good)) < LATENCIES_KEPT:
            # A fair sample of the whole run, not its beginning.
            self.latencies[place] = ended - started
        if client_outage is not None:
            self.client_outage_max = max(self.client_outage_max, client_outage)
        if self._open is not None and started >= self._open["noticed"]:
            outage, self._open = self._open, None
            self.outages.append(_outage(outage, ended))

    def failed(self, started: float, kind: str) -> None:
        """A failed request; the outage began when it was asked for."""
        self.requests += 1
        self.failures[kind] += 1
        if self._open is None:
            self._open = {"began": started, "noticed": time.monotonic(), "failed": 0, "kinds": Counter()}
        self._open["failed"] += 1
        self._open["kinds"][kind] += 1

    def summary(self) -> dict[str, object]:
        """Figures so far; an outage that has not ended, of all or of one client, counts until now."""
        now = time.monotonic()
        outages = [*self.outages]
        if self._open is not None:
            outages.append(_outage(self._open, None))
        worst = max(outages, key=lambda o: o["seconds"], default=None)
        down = sum(o["seconds"] for o in outages)
        elapsed = max(now - self.begun, 0.001)
        writes = self.creates + self.updates
        ordered = sorted(self.latencies)
        return {
            "role": self.role,
            "acknowledged_writes": writes,
            "acknowledged_creates": self.creates,
            "acknowledged_updates": self.updates,
            "unknown_writes": self.unknown,
            "reads": self.reads,
            "read_mismatches": self.read_mismatches,
            "requests": self.requests,
            "failed_requests": sum(self.failures.values()),
            "failures": dict(self.failures),
            "api_errors": dict(self.api_errors),
            "requests_per_second": round(self.requests / elapsed, 2),
            "writes_per_second": round(writes / elapsed, 2),
            "writes_per_second_while_serving": round(writes / max(elapsed - down, 0.001), 2),
            "outage_seconds": worst["seconds"] if worst else 0.0,
            "first_failed": worst["first_failed"] if worst else None,
            "first_good": worst["first_good"] if worst else None,
            "client_outage_seconds_max": round(
                max(self.client_outage_max, *(now - since for since in self.failing.values()), 0.0), 3
            ),
            "clients_still_failing": len(self.failing),
            "outages": outages[-200:],
            "latency_ms": {
                "median": round(statistics.median(ordered) * 1000, 1) if ordered else None,
                "p95": round(ordered[int(len(ordered) * 0.95)] * 1000, 1) if ordered else None,
                "max": round(self.slowest * 1000, 1) if ordered else None,
            },
        }


def _outage(outage: dict[str, Any], ended: float | None) -> dict[str, Any]:
    def clock(moment: float) -> str:
        at = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=time.monotonic() - moment)
        return at.isoformat(timespec="milliseconds")

    return {
        "first_failed": clock(outage["began"]),
        "first_good": clock(ended) if ended is not None else None,
        "seconds": round((time.monotonic() if ended is None else ended) - outage["began"], 3),
        "failed_requests": outage["failed"],
        "kinds": dict(outage["kinds"]),
    }


# Devices --------------------------------------------------------------------------------------------------------------
@dataclass
class Run:
    """What all devices of a run share."""

    journal: Journal
    stop: asyncio.Event
    writes_left: int
    forms: dict[str, Form] = field(default_factory=dict)
    form_locks: dict[str, asyncio.Lock] = field(default_factory=dict)

    async def pause(self, seconds: float) -> None:
        """Wait, or less if the run stops."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stop.wait(), max(seconds, 0.0))


@dataclass
class Device:
    """A tablet: one operation per ``_interval`` seconds, of which the share ``_share`` writes."""

    _run: Run
    _client: Client
    _tenant: Tenant
    _seen: Seen
    _name: str
    _interval: float
    _share: float
    _rng: random.Random = field(default_factory=lambda: random.Random(secrets.randbits(64)))
    _own: dict[int, Content] = field(default_factory=dict)

    async def work(self) -> None:
        """Until the run stops. A server that is away is asked again; an API refusal of the login ends the run."""
        form = await self._until_served(self._form)
        due = time.monotonic() + self._rng.random() * self._interval  # not all devices in the same instant
        while form is not None and not self._run.stop.is_set():
            await self._run.pause(due - time.monotonic())
            if self._run.stop.is_set():
                return
            due = max(due + self._interval, time.monotonic() - self._interval)  # no burst after an outage
            if self._rng.random() < self._share:
                await self._write(form)
            if self._rng.random() >= self._share * 0.8:
                await self._read()
            if self._rng.random() < 0.02:
                with contextlib.suppress(FailedRequestError):
                    await self._client.logout()

    async def _until_served(self, action: Any) -> Any:
        while not self._run.stop.is_set():
            try:
                return await action()
            except FailedRequestError:
                await self._run.pause(RETRY_SECONDS)
        return None

    async def _form(self) -> Form:
        """The tenant's first definition a tablet can fill in; looked up once for all of its devices."""
        lock = self._run.form_locks.setdefault(self._tenant.name, asyncio.Lock())
        async with lock:
            if self._tenant.name not in self._run.forms:
                listed = await self._client.xml("GetDefinitionList")
                for item in listed.findall("items/item"):
                    definition = int(item.findtext("itemId") or 0)
                    detail = await self._client.xml("GetDefinitionDetail", topId=str(definition))
                    clusters = tuple(
                        (int(c.findtext("sheetNo") or 0), int(c.findtext("clusterId") or 0), c.findtext("type") or "")
                        for c in detail.findall("detailInfo/clusters/cluster")
                    )
                    if 1 <= len(clusters) <= 100:
                        self._run.forms[self._tenant.name] = Form(definition, clusters)
                        break
                else:
                    raise LoadError(f"The tenant {self._tenant.name} has no published definition of 1 to 100 clusters")
            return self._run.forms[self._tenant.name]

    async def _write(self, form: Form) -> None:
        """Create or update, again while the server is away and surely did nothing, until it is acknowledged."""
        if self._run.writes_left <= 0:
            self._run.stop.set()
            return
        self._run.writes_left -= 1
        report = self._rng.choice(list(self._own)) if self._own and self._rng.random() < 0.35 else None
        content, image = make_content(
            self._rng, form, self._name, with_photo=report is None and self._rng.random() < 0.1
        )
        if report is not None:
            content = _updated(self._own[report], content)
        style = self._rng.choice("AB")
        maybe = False
        while True:
            try:
                if report is None:
                    created = await self._client.create(form, content, image, style)
                    self._acknowledged("create", created, content)
                else:
                    await self._client.update(report, content, style)
                    self._acknowledged("update", report, content)
            except FailedRequestError as error:
                maybe = maybe or error.maybe
                if error.again and not self._run.stop.is_set():
                    await self._run.pause(RETRY_SECONDS)
                    continue
                if maybe:
                    self._unknown(report, content)
                return
            except ApiError as error:
                # Refused, so surely not done – unless an earlier try of the same write went unanswered.
                print(f"{self._name}: write refused: {error}", file=sys.stderr)
                if maybe:
                    self._unknown(report, content)
                return
            else:
                return

    def _acknowledged(self, kind: str, report: int, content: Content) -> None:
        self._journal(kind, "acknowledged", report, content)
        if kind == "create":
            self._seen.creates += 1
        else:
            self._seen.updates += 1
        self._own[report] = content
        if len(self._own) > 50:
            del self._own[next(iter(self._own))]

    def _unknown(self, report: int | None, content: Content) -> None:
        self._journal("create" if report is None else "update", "unknown", report, content)
        self._seen.unknown += 1
        if report is not None:
            # Never touched again: a late arrival of the unanswered write must not undo a later one.
            self._own.pop(report, None)

    def _journal(self, kind: str, outcome: str, report: int | None, content: Content) -> None:
        self._run.journal.write(
            tenant=self._tenant.name,
            device=self._name,
            kind=kind,
            outcome=outcome,
            report=report,
            digest=content.digest(),
            content=content.as_json(),
        )

    async def _read(self) -> None:
        report = self._rng.choice(list(self._own)) if self._own else None
        try:
            if report is None:
                listed = await self._client.xml("GetDefinitionList")
                found = [] if listed.find("items/item") is not None else ["no definition"]
            elif self._rng.random() < 0.2:
                content = await self._client.file("GetReportFile", fileType="pdf", report=str(report))
                found = [] if content.startswith(b"%PDF") else ["not a PDF"]
            else:
                found = differences(self._own[report], await self._client.xml("GetReportDetail", topId=str(report)))
        except FailedRequestError:
            await self._run.pause(RETRY_SECONDS)
            return
        except ApiError as error:
            found = [str(error)]
        self._seen.reads += 1
        if found:
            self._seen.read_mismatches += 1
            print(f"{self._name}: report {report} reads differently: {', '.join(found)}", file=sys.stderr)


def _updated(current: Content, change: Content) -> Content:
    """What the report is after the update: values not sent again stay. Sent is the whole of it."""
    values = {(s, c): v for s, c, v in current.values} | {(s, c): v for s, c, v in change.values}
    merged = tuple((s, c, v) for (s, c), v in sorted(values.items()))
    return Content(change.name, change.keys, merged, current.photo)


# Commands -------------------------------------------------------------------------------------------------------------
def _http(config: Config, names: Names) -> aiohttp.ClientSession:
    context = ssl.create_default_context(cafile=config.ca_file) if config.ca_file else ssl.create_default_context()
    # A connection per request, as the API clients of integrations do: each one looks the name up (its TTL permitting),
    # and a web server that reloads can not cut an idle connection at the moment it is used again.
    connector = aiohttp.TCPConnector(resolver=names, use_dns_cache=False, ssl=context, limit=0, force_close=True)
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)


def _write_summary(path: Path, summary: dict[str, object]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(summary, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def _devices(
    arguments: argparse.Namespace, config: Config, run: Run, http: aiohttp.ClientSession, seen: dict[str, Seen]
) -> Iterator[Device]:
    """The tablets of each tenant; four slower ones for a neighbour, which mostly read."""
    for tenant in config.tenants:
        tablets = tenant.role == "tablets"
        count = arguments.tablets if tablets else 4
        rate = arguments.writes_per_second if tablets else arguments.requests_per_second
        for n in range(count):
            client = Client(http, tenant, tenant.users[n % len(tenant.users)], seen[tenant.name], arguments.timeout)
            name, interval = f"{tenant.name}-{n:02d}", count / (rate * MARGIN)
            yield Device(run, client, tenant, seen[tenant.name], name, interval, 1.0 if tablets else 0.1)


async def run_load(arguments: argparse.Namespace, config: Config) -> dict[str, object]:
    """Play the devices until a bound or a signal; return the summary."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    reason = {"stopped_by": "bound"}

    def on_signal(name: str) -> None:
        reason["stopped_by"] = name
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number.name)
    begun = time.monotonic()
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    names = Names(config.name_servers, config.name_server_port)
    seen = {tenant.name: Seen(tenant.role, begun) for tenant in config.tenants}

    def summary() -> dict[str, object]:
        tenants = {name: s.summary() for name, s in seen.items()}
        return {
            "started": started,
            "ended": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
            "seconds": round(time.monotonic() - begun, 1),
            **reason,
            "acknowledged_writes": sum(s.creates + s.updates for s in seen.values()),
            "unknown_writes": sum(s.unknown for s in seen.values()),
            "tablets": arguments.tablets,
            "addresses": names.current,
            "tenants": tenants,
        }

    async def report() -> None:
        while True:
            await asyncio.sleep(SUMMARY_SECONDS)
            if arguments.summary:
                _write_summary(arguments.summary, summary())

    cut_torn_line(arguments.journal)
    with arguments.journal.open("a", encoding="utf-8") as stream:
        journal = Journal(stream)
        run = Run(journal, stop, arguments.writes)
        async with _http(config, names) as http:
            devices = [d.work() for d in _devices(arguments, config, run, http, seen)]
            background = [asyncio.create_task(report()), asyncio.create_task(journal.keep_durable())]
            timer = loop.call_later(arguments.seconds, stop.set)
            tasks = [asyncio.create_task(device) for device in devices]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            finally:
                stop.set()
                timer.cancel()
                outcomes = await asyncio.gather(*tasks, return_exceptions=True)
                for task in background:
                    task.cancel()
                outcomes += await asyncio.gather(*background, return_exceptions=True)
                await journal.sync()
        for outcome in outcomes:
            if isinstance(outcome, asyncio.CancelledError):
                continue  # only the background tasks are ever cancelled
            if isinstance(outcome, ApiError | LoadError):
                raise LoadError(str(outcome)) from outcome
            if isinstance(outcome, BaseException):
                raise outcome
    result = summary()
    if arguments.summary:
        _write_summary(arguments.summary, result)
    return result


@dataclass
class ReadBack:
    """What reading the acknowledged writes back shows."""

    recorded: Recorded
    ends: float  # of the monotonic clock
    found: int = 0
    unknown_applied: int = 0
    lost: list[dict[str, object]] = field(default_factory=list)
    different: list[dict[str, object]] = field(default_factory=list)
    unreadable: list[dict[str, object]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for report, first in self.recorded.handed_out_twice:
            self.lost.append({"report": report, "writes": first.writes, "why": "its id was handed out again"})

    async def _asked(self, action: Callable[[], Awaitable[T]]) -> T:
        """The answer, asked for up to five times."""
        for attempt in itertools.count(1):
            if time.monotonic() > self.ends:
                raise FailedRequestError("out of time", maybe=False, again=False)
            try:
                return await action()
            except FailedRequestError:
                if attempt == 5:
                    raise
                await asyncio.sleep(1)
        raise AssertionError("unreachable")

    async def _compared(self, client: Client, report: int, wanted: Expected) -> list[str]:
        detail = await self._asked(lambda: client.xml("GetReportDetail", topId=str(report)))
        problem = differences(wanted.acknowledged, detail)
        applied = bool(problem) and any(not differences(candidate, detail) for candidate in wanted.unknown)
        if (not problem or applied) and (photo := wanted.acknowledged.photo):
            parameters = {"report": str(report), "withImage": "1", "encoding": "65001"}
            problem = photo_problem(await self._asked(lambda: client.file("DownloadCsv", **parameters)), photo)
        elif applied:
            problem = []
        self.unknown_applied += applied and not problem
        return problem

    async def check(self, client: Client, report: int, wanted: Expected) -> None:
        """Read one report."""
        about: dict[str, object] = {"report": report, "writes": wanted.writes}
        try:
            problem = await self._compared(client, report, wanted)
        except FailedRequestError as error:
            self.unreadable.append(about | {"why": error.kind})
        except LoginRefusedError:
            raise  # says nothing about reports
        except ApiError as error:
            # Only "there is none" says that it is lost; any other refusal says nothing about the report.
            (self.lost if error.code == NOT_FOUND else self.unreadable).append(about | {"why": str(error)})
        else:
            if problem:
                self.different.append(about | {"differs": problem})
            else:
                self.found += wanted.writes


async def read_back(arguments: argparse.Namespace, config: Config) -> dict[str, object]:
    """Read every acknowledged write of a tenant through the API and compare."""
    found = [tenant for tenant in config.tenants if tenant.name == arguments.tenant]
    if not found:
        raise LoadError(f"The configuration has no tenant {arguments.tenant}")
    tenant = found[0]
    url = arguments.url or tenant.url
    if arguments.name:
        url = url.replace(f"//{urlsplit(url).netloc}", f"//{arguments.name}", 1)
    tenant = Tenant(tenant.name, tenant.role, url, tenant.users, tenant.password)
    fixed = {urlsplit(url).hostname or "": arguments.address} if arguments.address else None
    with arguments.journal.open(encoding="utf-8", newline="\n") as stream:
        recorded = read_journal(iter(stream), tenant.name, arguments.until)
    seen = Seen("readback", time.monotonic())
    back = ReadBack(recorded, seen.begun + arguments.seconds)
    waiting = iter(sorted(recorded.expected.items()))

    async def reader(number: int) -> None:
        user = tenant.users[number % len(tenant.users)]
        client = Client(http, tenant, user, seen, arguments.timeout)
        for report, wanted in waiting:
            await back.check(client, report, wanted)

    names = Names(config.name_servers, config.name_server_port, fixed)
    async with _http(config, names) as http:
        await asyncio.gather(*(reader(n) for n in range(4)))
    return {
        "tenant": tenant.name,
        "url": url,
        "addresses": names.current,
        "acknowledged": recorded.acknowledged,
        "found": back.found,
        "reports": len(recorded.expected),
        "lost": back.lost,
        "different": back.different,
        "unreadable": back.unreadable,
        "unknown": recorded.unknown,
        "unknown_updates_applied": back.unknown_applied,
        "seconds": round(time.monotonic() - seen.begun, 1),
    }


def photo_problem(packed: bytes, photo: tuple[int, int, str]) -> list[str]:
    """What is wrong with the photo in what ``DownloadCsv`` sent."""
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            digests = {hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}
    except (zipfile.BadZipFile, zlib.error) as error:
        return [f"photo cannot be read: {error}"]
    return [] if photo[2] in digests else [f"photo {photo[0]}/{photo[1]}"]


def main() -> int:
    """Exit 0; 1 where something is lost, different or could not be done; JSON on stdout."""
    parser = argparse.ArgumentParser(description="Plays tablets, and reads their acknowledged writes back.")
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", type=Path, required=True, help="JSON: name_servers, ca_file, tenants")
    common.add_argument("--journal", type=Path, required=True, help="JSON lines of the writes")
    common.add_argument("--timeout", type=float, default=15.0, help="seconds a device waits for an answer")
    run = commands.add_parser("run", parents=[common], help="play tablets until a bound, SIGTERM or SIGINT")
    run.add_argument("--summary", type=Path, help="also written every 2 s while running")
    run.add_argument("--seconds", type=float, default=3600.0)
    run.add_argument("--writes", type=int, default=200_000, help="at most so many writes are begun")
    run.add_argument("--tablets", type=int, default=20)
    run.add_argument(
        "--writes-per-second", type=float, default=20.0, help="at least, of all tablets of a tenant together"
    )
    run.add_argument("--requests-per-second", type=float, default=10.0, help="at least, of each neighbour")
    back = commands.add_parser("readback", parents=[common], help="read every acknowledged write back")
    back.add_argument("--tenant", required=True)
    back.add_argument("--seconds", type=float, default=3600.0, help="what is not read by then is unreadable")
    back.add_argument(
        "--until",
        type=datetime.datetime.fromisoformat,
        help="instant with offset; what was acknowledged later is left out",
    )
    back.add_argument("--name", help="host name instead of the one in the tenant's URL")
    back.add_argument("--url", help="API URL instead of the tenant's")
    back.add_argument("--address", help="connect here instead of resolving the name")
    arguments = parser.parse_args()
    if arguments.command == "run":
        bounds = (arguments.tablets, arguments.writes, arguments.seconds)
        if min(*bounds, arguments.writes_per_second, arguments.requests_per_second) <= 0:
            parser.error("tablets, writes, seconds and rates must be more than 0")
    try:
        config = read_config(arguments.config)
        if arguments.command == "run":
            result = asyncio.run(run_load(arguments, config))
            good = True
        else:
            result = asyncio.run(read_back(arguments, config))
            good = not (result["lost"] or result["different"] or result["unreadable"])
    except (LoadError, ApiError, FailedRequestError, OSError) as error:
        print(f"load_client: {error}", file=sys.stderr)
        return 1
    print(json.dumps(result, ensure_ascii=False))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
