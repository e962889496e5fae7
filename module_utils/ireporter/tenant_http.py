"""HTTPS requests to one server on behalf of a tenant's name: the address is given, never resolved."""

from __future__ import annotations

import base64
import http.client
import secrets
import ssl
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from xml.etree import ElementTree

from .errors import MigrationError
from .https_pinned import PinnedConnection
from .tenant_model import Login, Tenant, Web

_MOST_BODY_BYTES = 262_144


@dataclass(frozen=True)
class Response:
    """Status, header fields (names in small letters) and the first 256 KiB of the body."""

    status: int
    headers: dict[str, str]
    body: bytes


class TenantHttp:
    """A client for one tenant on one server; one connection per request, so that no old nginx worker answers from a kept one."""

    def __init__(self, public_name: str, web: Web, *, timeout_seconds: float = 10.0) -> None:
        self._name = public_name
        self._web = web
        self._timeout = timeout_seconds

    def request(
        self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Response:
        """One request and its answer, whatever the status.

        :raises MigrationError: no HTTP answer came (check ``https-request``).
        """
        try:
            context = ssl.create_default_context(cafile=self._web.ca_file)
            connection = PinnedConnection(
                self._name, self._web.port, address=self._web.address, context=context, timeout=self._timeout
            )
            try:
                connection.request(method, path, body=body, headers={"Connection": "close", **(headers or {})})
                answer = connection.getresponse()
                content = answer.read(_MOST_BODY_BYTES)
                return Response(answer.status, {k.lower(): v for k, v in answer.getheaders()}, content)
            finally:
                connection.close()
        except (OSError, http.client.HTTPException) as error:
            raise MigrationError(
                f"https://{self._name}{path} on {self._web.address} gave no answer: {error or type(error).__name__}",
                check="https-request",
                action="Check nginx, its certificate and web.address, web.ca_file of the tenant",
            ) from error

    def login(self, login: Login) -> str:
        """Log in and out through the public API, as a tablet does. Writes one row into the server's login history.

        :return: ``accepted``, or how it was refused.
        """
        form = {"command": "Login", "user": login.user, "password": login.password}
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = self.request("POST", self._web.api_path, body=urllib.parse.urlencode(form).encode(), headers=headers)
        if answer.status != 200:
            return f"HTTP {answer.status}"
        code = _result_code(answer.body)
        if code != "0":
            return f"HTTP 200, login code {code}"
        cookie = answer.headers.get("set-cookie", "").split(";", 1)[0]
        self.request("POST", self._web.api_path, body=b"command=Logout", headers={**headers, "Cookie": cookie})
        return "accepted"

    def webdav_write(self, path: str, login: Login | None) -> str:
        """PUT a file with a unique name and DELETE it again.

        :return: ``accepted``, or how it was refused.
        :raises MigrationError: it was stored, but could not be deleted (check ``webdav-probe``).
        """
        headers: dict[str, str] = {}
        if login is not None:
            token = base64.b64encode(f"{login.user}:{login.password}".encode()).decode("ascii")
            headers["Authorization"] = f"Basic {token}"
        name = f"{path}ireporter-migration-probe-{secrets.token_hex(8)}"
        stored = self.request("PUT", name, body=b"probe\n", headers=headers)
        if stored.status not in (200, 201, 204):
            return f"HTTP {stored.status}"
        deleted = self.request("DELETE", name, headers=headers)
        if deleted.status not in (200, 204):
            raise MigrationError(
                f"The probe file {name} was stored through WebDAV, but DELETE answered {deleted.status}",
                check="webdav-probe",
                action="Delete the file, and allow DELETE to the account of web.webdav_login",
            )
        return "accepted"


def client(tenant: Tenant) -> TenantHttp:
    """The client for the tenant's virtual host on this server."""
    return TenantHttp(tenant.public_name, tenant.web)


def _result_code(body: bytes) -> str:
    # Comes from the tenant's own server; expat neither loads external entities nor, since 2.4, expands without bound.
    try:
        root = ElementTree.fromstring(body)  # noqa: S314
    except ElementTree.ParseError:
        return "missing"
    found = root.find(".//loginResult/code")
    if found is None:
        found = root.find(".//code")
    return (found.text or "").strip() if found is not None else "missing"
