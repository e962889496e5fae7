"""Proves a link before anybody is told: asks this host's own web server for it, by its public name and certificate, as a customer would."""

from __future__ import annotations

import http.client
import ssl
from urllib.parse import urlsplit

from .errors import MigrationError
from .https_pinned import PinnedConnection


def prove(
    link: str, size: int, *, ca_file: str = "", address: str = "127.0.0.1", timeout_seconds: float = 10.0
) -> None:
    """One ``HEAD`` request; no message of ours holds the link.

    :param size: of the file, in bytes.
    :param ca_file: who signs the certificate; empty: the authorities this host trusts.
    :raises MigrationError: the answer is not the file (check ``delivery-link``).
    """
    parts = urlsplit(link)
    host, port = parts.hostname or "", parts.port or 443
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
        connection = PinnedConnection(host, port, address=address, context=context, timeout=timeout_seconds)
        try:
            connection.request("HEAD", parts.path, headers={"Connection": "close"})
            answer = connection.getresponse()
            answer.read()
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as error:
        raise _not_served(f"{host} gave no answer on this host: {error or type(error).__name__}") from error
    length = answer.getheader("Content-Length")
    if answer.status != 200 or length != str(size):
        raise _not_served(f"{host} answers the new link with HTTP {answer.status} and {length} bytes instead of {size}")


def _not_served(happened: str) -> MigrationError:
    return MigrationError(
        happened,
        check="delivery-link",
        action="Run the role ireporter_delivery (setup) for this host, look at nginx and its certificate, then publish again",
    )
