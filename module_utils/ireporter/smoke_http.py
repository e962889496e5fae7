"""One client of the public HTTP API: connects to a given address, whatever DNS says, and verifies the public name."""

from __future__ import annotations

import http.client
import ssl
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Protocol
from urllib.parse import urlencode, urlsplit

from .errors import MigrationError
from .https_pinned import PinnedConnection

_LARGEST_ANSWER = 256 * 1024 * 1024


@dataclass(frozen=True)
class Reply:
    """Status, headers (names in lower case) and the whole body."""

    status: int
    headers: dict[str, str]
    body: bytes


class Api(Protocol):
    """Sends one command; keeps the session cookie. Tests pass a fake.

    :raises OSError: no connection, no answer in time. :raises http.client.HTTPException: no proper answer.
    """

    def __call__(self, command: str, **parameters: str) -> Reply: ...


@dataclass
class HttpApi:
    """The real client.

    :param url: the API's endpoint, ``https://<public name>/…/APIExecute.aspx``.
    :param address: where to connect; empty: what the name resolves to here.
    :param ca_file: who signs the certificate; empty: the system's authorities.
    :param headers: sent with every request.
    """

    url: str
    address: str = ""
    ca_file: str = ""
    timeout_seconds: float = 20.0
    headers: dict[str, str] = field(default_factory=dict)
    _cookies: dict[str, str] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme != "https" or not parts.hostname or parts.query or parts.fragment or parts.username:
            raise MigrationError(
                f"{self.url!r} is not the https:// address of an API endpoint",
                check="smoke-url",
                action="Give https://<public name>/ConMasAPI<SUFFIX>/Rests/APIExecute.aspx",
            )
        if self.ca_file and not Path(self.ca_file).is_file():
            raise MigrationError(
                f"The file {self.ca_file} with the certificate authority does not exist",
                check="smoke-ca-file",
                action="Correct ca_file",
            )
        self._host = parts.hostname
        self._port = parts.port or 443
        self._path = parts.path or "/"
        self._context = ssl.create_default_context(cafile=self.ca_file or None)

    def __call__(self, command: str, **parameters: str) -> Reply:
        connection = PinnedConnection(
            self._host,
            self._port,
            address=self.address or self._host,
            context=self._context,
            timeout=self.timeout_seconds,
        )
        headers = {"Content-Type": "application/x-www-form-urlencoded", **self.headers}
        if self._cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        try:
            connection.request("POST", self._path, urlencode({"command": command, **parameters}), headers)
            response = connection.getresponse()
            body = response.read(_LARGEST_ANSWER + 1)
            if len(body) > _LARGEST_ANSWER:
                raise http.client.HTTPException(f"the answer is longer than {_LARGEST_ANSWER} bytes")
            self._remember(response.headers.get_all("Set-Cookie", []))
            return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, body)
        finally:
            connection.close()

    def _remember(self, set_cookie: list[str]) -> None:
        for line in set_cookie:
            try:
                cookies = SimpleCookie(line)
            except CookieError as error:
                raise http.client.HTTPException(f"the server set a cookie that is none: {error}") from error
            for name, morsel in cookies.items():
                self._cookies[name] = morsel.coded_value
