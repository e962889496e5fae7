"""HTTPS to a given address, whatever DNS says, while SNI, certificate check and Host header keep the public name."""

from __future__ import annotations

import http.client
import socket
import ssl


class PinnedConnection(http.client.HTTPSConnection):
    """Connects to ``address``, speaks TLS and HTTP to ``host``. ``timeout`` in seconds."""

    def __init__(self, host: str, port: int, *, address: str, context: ssl.SSLContext, timeout: float) -> None:
        super().__init__(host, port, context=context, timeout=timeout)
        self._address = address
        self._tls = context

    def connect(self) -> None:
        plain = socket.create_connection((self._address, self.port), self.timeout)
        try:
            self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise
