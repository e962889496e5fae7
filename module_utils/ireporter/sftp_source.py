# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that offers SFTP, read through paramiko (2.12 on Debian 12, 5.1 on the control node) with names as bytes."""

from __future__ import annotations

import contextlib
import logging
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import paramiko
from paramiko.message import Message
from paramiko.sftp import (
    CMD_CLOSE,
    CMD_DATA,
    CMD_HANDLE,
    CMD_NAME,
    CMD_OPENDIR,
    CMD_READ,
    CMD_READDIR,
    CMD_STATUS,
    SFTP_EOF,
    SFTPError,
)

from .errors import MigrationError
from .file_verification import text_of
from .sftp_entry import Entry, Refused, Vanished, kind_of

try:
    from paramiko.sftp import int64
except ImportError:  # before paramiko 3
    from paramiko.py3compat import long as int64  # type: ignore[import-not-found, no-redef]

MOST_CHANNELS: Final = 8  # OpenSSH's MaxSessions is 10, and one more lists folders
_CONNECT_SECONDS: Final = 30.0
_ANSWER_SECONDS: Final = 120.0
_KEEPALIVE_SECONDS: Final = 15
_MOST_REQUEST_BYTES: Final = 32768  # more is refused by some servers
_BYTES_TOGETHER: Final = 1 << 20  # asked for before the first answer is awaited
_LEAST_REQUEST_BYTES: Final = 1024


@dataclass(frozen=True)
class SftpServer:
    """Where the source is and how to log in. ``channels``: files that are read at the same time."""

    host: str
    port: int
    user: str
    key_file: Path
    known_hosts_file: Path
    channels: int

    @classmethod
    def parse(cls, raw: Mapping[str, object]) -> SftpServer:
        """Check ``host``, ``port`` (22), ``user``, ``key_file``, ``known_hosts_file``, ``channels`` (4) once.

        :raises MigrationError: something is missing, out of range or readable by others (check ``sftp-settings``).
        """
        for name in ("host", "user", "key_file", "known_hosts_file"):
            if not isinstance(raw.get(name), str) or not raw[name]:
                raise _settings(f"The SFTP server's {name} is missing", f"Set sftp.{name}")
        port, channels = _whole(raw.get("port"), 22), _whole(raw.get("channels"), 4)
        if not 0 < port < 65536:
            raise _settings(f"{raw.get('port')!r} is no port", "Set sftp.port to a number from 1 to 65535")
        if not 0 < channels <= MOST_CHANNELS:
            raise _settings(
                f"{raw.get('channels')!r} is no number of channels", f"Set sftp.channels to 1 to {MOST_CHANNELS}"
            )
        server = cls(
            str(raw["host"]),
            port,
            str(raw["user"]),
            Path(str(raw["key_file"])),
            Path(str(raw["known_hosts_file"])),
            channels,
        )
        server._check_files()
        return server

    def _check_files(self) -> None:
        try:
            mode = self.key_file.stat().st_mode
            known = self.known_hosts_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise _settings(
                f"The private key {self.key_file} or the host keys {self.known_hosts_file} cannot be read: {error}",
                "Put both on the server that holds the target trees",
            ) from error
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise _settings(
                f"The private key {self.key_file} can be read by others",
                "Make it mode 0600, and think about whether it must be replaced",
            )
        # paramiko skips these lines without a word: a revoked key would be trusted.
        if any(line.lstrip().startswith("@") for line in known.splitlines()):
            raise _settings(
                f"{self.known_hosts_file} has lines with @cert-authority or @revoked, which paramiko does not understand",
                "Name a file with the plain key of this server only",
            )


class Connection:
    """A logged-in SSH connection whose server proved its host key. Close it to end every session.

    :raises MigrationError: host key unknown or another one (check ``sftp-host-key``), login refused (``sftp-login``), not reached (``sftp-connection``).
    """

    def __init__(self, server: SftpServer) -> None:
        self.server = server
        # What paramiko would log (and print, where nobody set up logging) is in our errors.
        logging.getLogger("paramiko").addHandler(logging.NullHandler())
        self._client = paramiko.SSHClient()
        self._client.set_missing_host_key_policy(paramiko.RejectPolicy())
        try:
            self._connect()
        except BaseException:
            self._client.close()
            raise

    def _connect(self) -> None:
        server = self.server
        where = f"{server.host} port {server.port}"
        try:
            self._client.load_host_keys(str(server.known_hosts_file))
            name = server.host if server.port == 22 else f"[{server.host}]:{server.port}"
            if self._client.get_host_keys().lookup(name) is None:
                raise _host_key(f"{server.known_hosts_file} has no key of {name}")
            self._client.connect(
                server.host,
                server.port,
                server.user,
                key_filename=str(server.key_file),
                allow_agent=False,
                look_for_keys=False,
                timeout=_CONNECT_SECONDS,
                banner_timeout=_CONNECT_SECONDS,
                auth_timeout=_CONNECT_SECONDS,
            )
        except paramiko.BadHostKeyException as error:
            raise _host_key(f"{where} showed another host key than {server.known_hosts_file} says") from error
        except paramiko.PasswordRequiredException as error:
            raise _settings(
                f"The private key {server.key_file} has a passphrase", "Make a key for this migration without one"
            ) from error
        except paramiko.AuthenticationException as error:
            raise MigrationError(
                f"{where} does not let {server.user} in with the key {server.key_file}: {error}",
                check="sftp-login",
                action="Put the public key among the account's authorized keys (on Windows, for administrators: administrators_authorized_keys)",
            ) from error
        except (paramiko.SSHException, OSError, EOFError, ValueError) as error:
            raise MigrationError(
                f"No SSH connection to {where}: {_said(error)}",
                check="sftp-connection",
                action="See that the server runs and that this host may reach the port, then run again",
            ) from error
        transport = self._client.get_transport()
        if transport is not None:
            transport.set_keepalive(_KEEPALIVE_SECONDS)

    def session(self) -> Session:
        """Another SFTP session on a channel of its own.

        :raises MigrationError: the server gives no further channel, or no SFTP (check ``sftp-connection``).
        """
        transport = self._client.get_transport()
        try:
            if transport is None:
                raise paramiko.SSHException("the connection has ended")  # noqa: TRY301 - becomes the sentence below
            client = _Client.from_transport(transport)
            if client is None:
                raise paramiko.SSHException("no channel")  # noqa: TRY301
        except (paramiko.SSHException, SFTPError, OSError, EOFError) as error:
            raise MigrationError(
                f"{self.server.host} opened no further SFTP session: {_said(error)}",
                check="sftp-connection",
                action="See that the account may use SFTP; if it may, set sftp.channels lower (MaxSessions of the server)",
            ) from error
        return Session(client, self.server.host)

    def close(self) -> None:
        """End the connection and everything that waits for it."""
        self._client.close()


class Session:
    """One SFTP session; see ``sftp_entry.Source``."""

    def __init__(self, client: _Client, host: str) -> None:
        self._client = client
        self._host = host
        channel = client.get_channel()
        if channel is not None:
            # A server that hangs is as bad as one that is gone.
            channel.settimeout(_ANSWER_SECONDS)

    def list(self, path: bytes) -> Iterator[Entry]:
        with self.asking(path):
            yield from self._client.entries(path)

    def look(self, path: bytes) -> Entry:
        with self.asking(path):
            return _entry(b"", self._client.lstat(path))

    def link_target(self, path: bytes) -> bytes:
        with self.asking(path):
            # Text where it is UTF-8, the bytes themselves where not: exact either way.
            found: object = self._client.readlink(path)
            target = found.encode() if isinstance(found, str) else found
            if not isinstance(target, bytes) or not target or b"\0" in target:
                raise Refused(f"the server says that the link points to {target!r}")
            return target

    def open(self, path: bytes) -> RemoteFile:
        with self.asking(path):
            return RemoteFile(self, self._client, path)

    def close(self) -> None:
        with contextlib.suppress(paramiko.SSHException, OSError, EOFError):
            self._client.close()

    @contextlib.contextmanager
    def asking(self, path: bytes) -> Iterator[None]:
        """Tell what one file's trouble is from the loss of the connection."""
        try:
            yield
        except FileNotFoundError as error:
            raise Vanished(text_of(path)) from error
        except PermissionError as error:
            raise Refused("the server does not let the account read it") from error
        except (paramiko.SSHException, SFTPError, EOFError, OSError) as error:
            # paramiko has no other sign for "the server answered no" than an OSError on a channel that still works.
            if isinstance(error, OSError) and not isinstance(error, TimeoutError) and self._alive():
                raise Refused(f"the server cannot read it: {_said(error)}") from error
            raise self.lost(error) from error

    def lost(self, error: BaseException) -> MigrationError:
        """What to say where no answer comes any more."""
        return MigrationError(
            f"The SFTP connection to {self._host} was lost during the copy: {_said(error)}",
            check="sftp-connection",
            action="Run again when the server can be reached: the copy resumes from where it ended",
        )

    def _alive(self) -> bool:
        channel = self._client.get_channel()
        transport = channel.get_transport() if channel is not None else None
        return channel is not None and not channel.closed and transport is not None and transport.is_active()


class RemoteFile:
    """A file of the source; see ``sftp_entry.SourceFile``."""

    def __init__(self, session: Session, client: _Client, path: bytes) -> None:
        self._session = session
        self._client = client
        self._path = path
        self._opened = client.open(path, "rb")

    def version(self) -> tuple[int, int | None]:
        with self._session.asking(self._path):
            seen = self._opened.stat()
            if seen.st_size is None:
                raise Refused("the server does not say how long it is")
            return seen.st_size, seen.st_mtime

    def read(self, offset: int, length: int) -> bytearray:
        with self._session.asking(self._path):
            return self._client.read_at(self._opened, offset, length)

    def close(self) -> None:
        with contextlib.suppress(paramiko.SSHException, SFTPError, OSError, EOFError):
            self._opened.close()


class _Answers:
    """What the server answers to requests that were sent together; paramiko hands each over as it arrives."""

    def __init__(self) -> None:
        self.content: dict[int, bytes] = {}
        self.error: Exception | None = None
        self.arrived = 0

    def _async_response(self, kind: int, message: Message, number: int) -> None:
        self.arrived += 1
        if kind == CMD_DATA:
            self.content[number] = message.get_binary()
        elif kind == CMD_STATUS:
            code, text = message.get_int(), message.get_binary().decode(errors="backslashreplace")
            if code == SFTP_EOF:
                self.content[number] = b""
            else:
                self.error = OSError(text)
        else:
            self.error = SFTPError("Expected data")


class _Client(paramiko.SFTPClient):
    """paramiko's client where its own way does not do.

    Its listings decode names strictly as UTF-8 and keep a whole folder in memory. Its read-ahead leaves a thread behind that prints a
    traceback when the connection is lost, keeps what it read in vain, and waits for ever where a file became shorter.
    """

    _request_bytes = _MOST_REQUEST_BYTES

    def entries(self, path: bytes) -> Iterator[Entry]:
        kind, message = self._request(CMD_OPENDIR, path)  # type: ignore[attr-defined]
        if kind != CMD_HANDLE:
            raise SFTPError("Expected handle")
        handle = message.get_binary()
        while True:
            try:
                kind, message = self._request(CMD_READDIR, handle)  # type: ignore[attr-defined]
            except EOFError:
                break
            if kind != CMD_NAME:
                raise SFTPError("Expected name response")
            for _number in range(message.get_int()):
                name = message.get_binary()
                message.get_binary()  # the line of an "ls -l", for people
                yield _entry(name, paramiko.SFTPAttributes._from_msg(message))  # type: ignore[attr-defined]
        # Also the proof that the listing ended, and not the connection.
        self._request(CMD_CLOSE, handle)  # type: ignore[attr-defined]

    def read_at(self, opened: paramiko.SFTPFile, offset: int, length: int) -> bytearray:
        """``length`` bytes from ``offset``; shorter only where the file ends."""
        content = bytearray()
        while len(content) < length:
            together = min(length - len(content), _BYTES_TOGETHER)
            if not self._read_together(opened, offset + len(content), together, content):
                break
        return content

    def _read_together(self, opened: paramiko.SFTPFile, offset: int, length: int, content: bytearray) -> int:
        """All requests first, then the answers: one round trip instead of one per 32 KiB. Up to the first short answer; how many bytes."""
        answers = _Answers()
        asked: list[tuple[int, int]] = []
        end = offset + length
        for start in range(offset, end, self._request_bytes):
            size = min(self._request_bytes, end - start)
            number = self._async_request(answers, CMD_READ, opened.handle, int64(start), size)  # type: ignore[attr-defined]
            asked.append((number, size))
        while answers.arrived < len(asked):
            self._read_response()  # type: ignore[attr-defined]
        if answers.error is not None:
            raise answers.error
        before = len(content)
        for number, size in asked:
            part = answers.content.pop(number)
            content += part[:size]
            if len(part) < size:
                if any(answers.content.values()):
                    # Not the end: this server gives less at a time than it is asked for.
                    self._request_bytes = max(len(part), _LEAST_REQUEST_BYTES)
                break
        return len(content) - before

    def _convert_status(self, msg: Message) -> None:
        # The text of an error is for people, in whatever encoding the server's language has.
        code, text = msg.get_int(), msg.get_binary().decode(errors="backslashreplace")
        readable = Message()
        readable.add_int(code)
        readable.add_string(text)
        readable.rewind()
        super()._convert_status(readable)  # type: ignore[misc]


def _entry(name: bytes, seen: paramiko.SFTPAttributes) -> Entry:
    mode = None if seen.st_mode is None else stat.S_IMODE(seen.st_mode)
    return Entry(name, kind_of(seen.st_mode), mode, seen.st_size, seen.st_mtime)


def _said(error: BaseException) -> str:
    return str(error).rstrip(".") or type(error).__name__


def _whole(value: object, default: int) -> int:
    if value is None:
        return default
    return value if isinstance(value, int) else -1


def _settings(happened: str, action: str) -> MigrationError:
    return MigrationError(happened, check="sftp-settings", action=action)


def _host_key(happened: str) -> MigrationError:
    return MigrationError(
        happened,
        check="sftp-host-key",
        action="Compare with what the server's owner says its key is (ssh-keygen -lf on the server), then write it into the file; never take it from the network unseen",
    )
