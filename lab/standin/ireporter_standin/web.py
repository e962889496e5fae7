# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The WSGI application: paths with the tenant's suffix, sessions, one command per request."""

from __future__ import annotations

import html
import logging
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

import psycopg

from . import answers, store, uploads
from .answers import Answer
from .commands import COMMANDS, Session
from .config import Config
from .errors import (
    BAD_PARAMETER,
    LOGIN_REFUSED,
    NOT_LOGGED_IN,
    OK,
    SERVER_ERROR,
    TOO_LARGE,
    UNKNOWN_COMMAND,
    RefusedError,
)
from .passwords import matches
from .uploads import Request

_COOKIE = "ASP.NET_SessionId"
_BANNER = ("X-Test-Equipment", "i-Reporter stand-in, not the product")
_log = logging.getLogger("ireporter-standin")

Environ = dict[str, Any]


class Application:
    """One tenant's web application."""

    def __init__(self, config: Config, version: str) -> None:
        self._config = config
        self._version = version
        self._store = store.Store(config.database)
        suffix = config.suffix
        self._command_paths = {
            path.lower()
            for path in (
                f"/ConMasAPI{suffix}/Rests/APIExecute.aspx",
                f"/ConMasWeb{suffix}/Rests/APIExecute.aspx",
                f"/ConMasWeb{suffix}/Rests/ConMasIReporter.aspx",
            )
        }
        self._manager_path = f"/ConMasManager{suffix}".lower()

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        status, answer = self._answer(environ)
        start_response(
            f"{status.value} {status.phrase}",
            [
                ("Content-Type", answer.content_type),
                ("Content-Length", str(len(answer.body))),
                ("Cache-Control", "no-store"),
                _BANNER,
                *answer.headers,
            ],
        )
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer.body]

    def _answer(self, environ: Environ) -> tuple[HTTPStatus, Answer]:  # noqa: PLR0911 - one per outcome
        path = str(environ.get("PATH_INFO", "")).lower()  # the product's web server ignores case
        try:
            if path in self._command_paths:
                if environ["REQUEST_METHOD"] != "POST":
                    refusal = answers.error(BAD_PARAMETER, "Commands are sent by POST")
                    return HTTPStatus.METHOD_NOT_ALLOWED, Answer(
                        refusal.body, refusal.content_type, [("Allow", "POST")]
                    )
                return HTTPStatus.OK, self._command(environ)
            if path.rstrip("/") == self._manager_path and environ["REQUEST_METHOD"] in ("GET", "HEAD"):
                return HTTPStatus.OK, self._manager()
        except RefusedError as refused:
            return HTTPStatus.OK, answers.error(refused.code, refused.remark)
        except store.DOES_NOT_FIT as error:
            _log.warning("refused by the database: %s", error)
            return HTTPStatus.OK, answers.error(BAD_PARAMETER, store.DOES_NOT_FIT_REMARK)
        except psycopg.OperationalError as error:
            _log.error("database: %s", error)
            return HTTPStatus.SERVICE_UNAVAILABLE, answers.error(SERVER_ERROR, "The database is away or too busy")
        except Exception:
            _log.exception("%s failed", path)
            return HTTPStatus.INTERNAL_SERVER_ERROR, answers.error(SERVER_ERROR, "The server failed; see its log")
        return HTTPStatus.NOT_FOUND, Answer(b"<h1>404</h1>\n", "text/html; charset=utf-8")

    def _command(self, environ: Environ) -> Answer:
        # WSGI hands bytes over as Latin-1; a query that is not percent-encoded is UTF-8.
        query = str(environ.get("QUERY_STRING", "")).encode("latin-1").decode(errors="replace")
        request = uploads.read_request(query, environ.get("CONTENT_TYPE", ""), _body(environ))
        if any("\0" in value for value in request.parameters.values()):
            raise RefusedError(BAD_PARAMETER, "A parameter holds a null character")
        name = request.parameters.get("command", "")
        if name == "Login":
            return self._login(environ, request)
        session = _session_id(environ)
        if name == "Logout":
            with self._store.transaction() as connection:
                known = bool(session) and store.close_session(connection, session)
            expired = ("Set-Cookie", f"{_COOKIE}=; path=/; expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly")
            answer = answers.error(OK) if known else answers.error(NOT_LOGGED_IN, "There is no session")
            return Answer(answer.body, answer.content_type, [expired])
        handler = COMMANDS.get(name)
        if handler is None:
            raise RefusedError(UNKNOWN_COMMAND, f"The command {name[:60]!r} is unknown")
        with self._store.transaction() as connection:
            user = store.session_user(connection, session) if session else None
        if user is None:
            raise RefusedError(NOT_LOGGED_IN, "There is no session; log in first")
        return handler(Session(user, self._config.output, self._store), request)

    def _login(self, environ: Environ, request: Request) -> Answer:
        login, password = request.parameters.get("user", ""), request.parameters.get("password", "")
        address = str(environ.get("HTTP_X_REAL_IP") or environ.get("REMOTE_ADDR") or "")[:60]
        with self._store.transaction(login) as connection:
            user = store.find_user(connection, login)
            accepted = user is not None and matches(password, user["password_hash"])
            allowed = accepted and user is not None and bool(user["api_permission"])
            store.record_login(connection, login, allowed, address)
            if not allowed or user is None:
                remark = "The group may not use the API" if accepted else "The user or the password is wrong"
                return answers.login_result(LOGIN_REFUSED, remark)
            session = store.open_session(connection, user["user_id"])
        answer = answers.login_result(OK)
        return Answer(
            answer.body, answer.content_type, [("Set-Cookie", f"{_COOKIE}={session}; path=/; HttpOnly; SameSite=Lax")]
        )

    def _manager(self) -> Answer:
        page = (
            "<!doctype html><html lang='ja'><meta charset='utf-8'><title>Manager (test equipment)</title>"
            f"<h1>i-Reporter stand-in {html.escape(self._version)}</h1>"
            "<p>これは試験用の代替サーバーです。製品ではありません。</p>"
            "<p>This is test equipment that stands in for an i-Reporter server. It is not the product.</p>"
            f"<p>Suffix: {html.escape(self._config.suffix)}</p></html>\n"
        )
        return Answer(page.encode(), "text/html; charset=utf-8")


def _body(environ: Environ) -> bytes:
    stream = environ["wsgi.input"]
    announced = str(environ.get("CONTENT_LENGTH") or "")
    if announced:
        if not (announced.isascii() and announced.isdigit()):
            raise RefusedError(BAD_PARAMETER, "Content-Length is not a number")
        if int(announced) > uploads.MAXIMUM_BODY:
            raise RefusedError(TOO_LARGE, f"A request has at most {uploads.MAXIMUM_BODY} bytes")
        content: bytes = stream.read(int(announced))
        if len(content) < int(announced):
            raise RefusedError(BAD_PARAMETER, "The request ended early")
        return content
    if environ.get("wsgi.input_terminated"):
        content = stream.read(uploads.MAXIMUM_BODY + 1)
        if len(content) > uploads.MAXIMUM_BODY:
            raise RefusedError(TOO_LARGE, f"A request has at most {uploads.MAXIMUM_BODY} bytes")
        return content
    return b""


def _session_id(environ: Environ) -> str:
    # Not http.cookies: that drops every cookie where one of them, set by a proxy perhaps, is not as it likes.
    for pair in str(environ.get("HTTP_COOKIE", "")).split(";"):
        name, _, value = pair.strip().partition("=")
        value = value.strip('"')
        if name == _COOKIE and value.isascii() and value.isalnum() and len(value) <= 64:
            return value
    return ""
