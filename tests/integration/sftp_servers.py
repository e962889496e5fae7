"""SFTP servers for tests: the real OpenSSH with a chrooted internal-sftp account, and one that lies."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import paramiko
import pytest

# An account every system has; it may read what others may.
ACCOUNT = "nobody"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ChrootedSftp:
    """An sshd on a loopback port that gives :data:`ACCOUNT` nothing but internal-sftp in a chroot, whose top is ``root``."""

    def __init__(self) -> None:
        daemon = shutil.which("sshd", path="/usr/sbin:/usr/bin")
        if daemon is None:
            pytest.skip("OpenSSH's server is not installed here")
        self.daemon = daemon
        # sshd wants every folder above a chroot to be root's alone: nothing below the folder for temporary files is.
        self.directory = Path(tempfile.mkdtemp(prefix="ireporter-sftp-", dir="/var/lib"))
        self.directory.chmod(0o755)
        self.root = self.directory / "chroot"
        self.root.mkdir()
        self.port = free_port()
        self.key, self.known_hosts = self.directory / "key", self.directory / "known_hosts"
        for name in ("host", "key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.directory / name], check=True)
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {(self.directory / 'host.pub').read_text()}")
        (self.directory / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1:{self.port}\nHostKey {self.directory}/host\nAuthorizedKeysFile {self.directory}/key.pub\n"
            f"PidFile none\nUsePAM no\nSubsystem sftp internal-sftp\nMatch User {ACCOUNT}\n"
            f" ChrootDirectory {self.root}\n ForceCommand internal-sftp\n AllowTcpForwarding no\n"
        )
        Path("/run/sshd").mkdir(exist_ok=True)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen([self.daemon, "-D", "-e", "-f", self.directory / "sshd_config"], stderr=log)
        for _attempt in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self.process.poll() is None, (self.directory / "log").read_text()
            time.sleep(0.05)
        raise AssertionError("sshd does not answer")

    def kill(self) -> None:
        """At once, with every session, like a server that lost its power."""
        if self.process is None:
            return
        for pid in [*_descendants(self.process.pid), self.process.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()
        self.process = None

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self.directory)

    def settings(self, **other: object) -> dict[str, object]:
        """What option ``sftp`` needs to reach it."""
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "user": ACCOUNT,
            "key_file": str(self.key),
            "known_hosts_file": str(self.known_hosts),
            **other,
        }


def can_be_chrooted() -> bool:
    return os.geteuid() == 0 and ACCOUNT in {one.pw_name for one in pwd.getpwall()}


def _descendants(pid: int) -> list[int]:
    below: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # The name in brackets may hold anything, so what follows the last bracket is read.
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            below.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    left = [pid]
    while left:
        children = below.get(left.pop(), [])
        found += children
        left += children
    return found


class LyingSftp:
    """A server that lists what it is told, whatever it is; every file has the same content."""

    CONTENT = b"evil"

    def __init__(self, directory: Path, names: list[bytes], kind: int = stat.S_IFREG) -> None:
        self.names = names
        self.mode = kind | 0o644
        host_key = paramiko.ECDSAKey.generate()
        self.key = directory / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key], check=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.known_hosts = directory / "known_hosts"
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {host_key.get_name()} {host_key.get_base64()}\n")
        self.host_key = host_key
        self.transports: list[paramiko.Transport] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _address = self.listener.accept()
            except OSError:
                return
            transport = paramiko.Transport(connection)
            transport.add_server_key(self.host_key)
            transport.set_subsystem_handler("sftp", paramiko.SFTPServer, _lying_files(self))
            self.transports.append(transport)
            transport.start_server(server=_Anybody())

    def close(self) -> None:
        self.listener.close()
        for transport in self.transports:
            transport.close()

    def settings(self) -> dict[str, object]:
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "user": "acme",
            "key_file": str(self.key),
            "known_hosts_file": str(self.known_hosts),
            "channels": 1,
        }


class _Anybody(paramiko.ServerInterface):
    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return paramiko.AUTH_SUCCESSFUL

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED


def _lying_files(server: LyingSftp) -> type[paramiko.SFTPServerInterface]:
    def seen(mode: int, size: int) -> paramiko.SFTPAttributes:
        attributes = paramiko.SFTPAttributes()
        attributes.st_mode, attributes.st_size = mode, size
        attributes.st_atime = attributes.st_mtime = 1_700_000_000
        return attributes

    class Handle(paramiko.SFTPHandle):
        def stat(self) -> paramiko.SFTPAttributes:
            return seen(server.mode, len(server.CONTENT))

        def read(self, offset: int, length: int) -> bytes:
            return server.CONTENT[offset : offset + length]

    class Files(paramiko.SFTPServerInterface):
        def list_folder(self, path: str) -> list[paramiko.SFTPAttributes]:
            listed = []
            for name in server.names:
                attributes = seen(server.mode, len(server.CONTENT))
                attributes.filename = name  # type: ignore[assignment]
                listed.append(attributes)
            return listed

        def lstat(self, path: str) -> paramiko.SFTPAttributes:
            return seen(stat.S_IFDIR | 0o755, 4096)

        def open(self, path: str, flags: int, attr: paramiko.SFTPAttributes) -> paramiko.SFTPHandle:
            return Handle(flags)

    return Files
