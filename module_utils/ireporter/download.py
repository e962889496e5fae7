"""Fetches the three files of a bundle by links that expire, with resume, by ``curl``. A link stands in no argument, environment, message or log."""

from __future__ import annotations

import errno
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .bundle_encryption import require_programs
from .bundle_format import Paths, Statement
from .bundle_places import disk_full, locked, sync_folder
from .bundle_verify import Received, digest_of, read_statement
from .clock import Clock
from .errors import MigrationError

Progress = Callable[[dict[str, object]], None]

KINDS: Final = ("statement", "signature", "bundle")
"""In the order in which they are fetched: what is small and says how large the rest is, first."""
_ENDINGS: Final = {"statement": ".tar.zst.age.sha256", "signature": ".tar.zst.age.sha256.sig", "bundle": ".tar.zst.age"}
_LINK: Final = re.compile(
    r"https://[A-Za-z0-9.-]+(?::\d{1,5})?/(?:[A-Za-z0-9._~%-]+/)*([a-z0-9][a-z0-9-]{0,80})(\.[a-z0-9.]+)", re.ASCII
)
_URL: Final = re.compile(r"https?://\S+")
_SMALL_BYTES: Final = 1 << 16
_RESERVE_BYTES: Final = 16 << 20
_KEPT_ENVIRONMENT: Final = ("PATH", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY")
_EXPIRED: Final = {
    403: "it was altered on its way to you",
    404: "it is incomplete",
    410: "it has expired or was withdrawn",
}
# Exit codes, curl(1).
_NO_RANGE: Final = 33
_WRITE_ERROR: Final = 23
# Of these nothing mends itself: a URL, a file, a certificate that is wrong, a file that is too large.
_LASTING: Final = frozenset({3, _WRITE_ERROR, 60, 63, 77})


@dataclass(frozen=True)
class Order:
    """:param links: ``bundle``, ``statement``, ``signature``; secrets.
    :param directory: existing folder for the three files.
    :param signer: public key or fingerprint of the sender.
    :param ca_file: authorities of the delivery host's certificate, or ``None`` for the system's.
    :param retries: attempts after the first; each goes on where the one before broke off.
    """

    links: Mapping[str, str]
    directory: Path
    tenant: str
    signer: str
    ca_file: Path | None = None
    retries: int = 10
    retry_seconds: int = 5

    @property
    def migration_id(self) -> str:
        """What the files are called.

        :raises MigrationError: they are no links to one bundle (check ``download-links``).
        """
        names = set()
        for kind in KINDS:
            found = _LINK.fullmatch(self.links.get(kind, ""))
            if found is None or found[2] != _ENDINGS[kind]:
                raise MigrationError(
                    f"The link of the {kind} is none to a file …{_ENDINGS[kind]}",
                    check="download-links",
                    action="Copy the three links of the mail, each to its place (R17)",
                )
            names.add(found[1])
        if len(names) != 1:
            raise MigrationError(
                "The three links lead to files of different bundles",
                check="download-links",
                action="Take all three from the last mail (R17)",
            )
        return names.pop()


def run(order: Order, progress: Progress, clock: Clock, *, check: bool) -> dict[str, Any]:
    """Fetch what is not there.

    :returns: ``changed``, ``path``, ``statement``, ``signature``, ``migration_id``, ``bytes``, ``resumed_at`` (bytes that were there already).
    :raises MigrationError: a link is dead (check ``R17``), the transfer broke off (``download``), what came is not the sender's, or damaged.
    """
    require_programs("curl")
    paths = Paths.within(order.directory, order.migration_id)
    with locked(order.directory, f"{order.migration_id}-download"):
        there = all(path.is_file() for path in (paths.ciphertext, paths.statement, paths.signature))
        if there or check:
            found = (
                _described(paths, order)
                if there
                else {"path": str(paths.ciphertext), "migration_id": order.migration_id}
            )
            return {"changed": not there, **found}
        try:
            return _fetch_all(order, paths, progress, clock)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise disk_full(order.directory) from error
            raise MigrationError(
                f"{error.filename or 'A file'} cannot be used: {error.strerror}",
                check="download-file",
                action="Mend the cause, then run again: the download goes on where it broke off",
            ) from error


def _fetch_all(order: Order, paths: Paths, progress: Progress, clock: Clock) -> dict[str, Any]:
    for kind, path in (("statement", paths.statement), ("signature", paths.signature)):
        # A former download may have brought that of another bundle of this name: small, so it comes anew.
        path.unlink(missing_ok=True)
        _fetch(order, kind, path, clock)
    statement = _statement(paths, order)
    partial = _partial(paths.ciphertext)
    resumed_at = partial.stat().st_size if partial.exists() else 0
    if resumed_at > statement.size:
        partial.unlink()
        resumed_at = 0
    room = os.statvfs(order.directory)
    if room.f_bavail * room.f_frsize < statement.size - resumed_at + _RESERVE_BYTES:
        raise disk_full(order.directory)
    progress({"step": "download", "bytes": resumed_at, "total_bytes": statement.size})
    if resumed_at < statement.size:
        _transfer(order, "bundle", partial, most=statement.size, clock=clock)
    with partial.open("rb") as file:
        progress({"step": "checksum", "bytes": 0, "total_bytes": statement.size})
        found = digest_of(file)
    if found != (statement.sha256, statement.size):
        # Resumed, it would stay what it is.
        partial.unlink()
        raise MigrationError(
            "What was downloaded is not the bundle of the signed statement, and was removed",
            check="bundle-checksum",
            action="Run again: it is downloaded anew; if that happens twice, tell the sender",
        )
    _in_place(partial, paths.ciphertext)
    return {"changed": True, **_described(paths, order), "resumed_at": resumed_at}


def _statement(paths: Paths, order: Order) -> Statement:
    """:raises MigrationError: the sender did not sign it, or it is of another tenant or migration; then it does not stay."""
    expected = Received(paths, order.signer, order.tenant, order.migration_id, identity=Path(os.devnull))
    try:
        return read_statement(expected)
    except MigrationError:
        paths.signature.unlink(missing_ok=True)
        raise


def _described(paths: Paths, order: Order) -> dict[str, Any]:
    statement = _statement(paths, order)
    return {
        "path": str(paths.ciphertext),
        "statement": str(paths.statement),
        "signature": str(paths.signature),
        "migration_id": statement.migration_id,
        "cut_off": statement.cut_off,
        "bytes": statement.size,
        "sha256": statement.sha256,
    }


def _fetch(order: Order, kind: str, path: Path, clock: Clock) -> None:
    partial = _partial(path)
    partial.unlink(missing_ok=True)
    _transfer(order, kind, partial, most=_SMALL_BYTES, clock=clock)
    _in_place(partial, path)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def _in_place(partial: Path, path: Path) -> None:
    descriptor = os.open(partial, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    partial.replace(path)
    sync_folder(path.parent)


def _transfer(order: Order, kind: str, partial: Path, *, most: int, clock: Clock) -> None:
    """One file, from where ``partial`` ends. Each attempt goes on where the last broke off (curl's own would begin anew)."""
    with partial.open("ab"):
        partial.chmod(0o600)
    for attempt in range(order.retries + 1):
        if attempt:
            clock.sleep(order.retry_seconds)
        done = _curl(order, kind, partial, most)
        if done.returncode == 0:
            return
        if done.returncode == _NO_RANGE:
            # The server begins anew each time; so do we.
            os.truncate(partial, 0)
        status = int(done.stdout) if done.stdout.isdigit() else 0
        if done.returncode in _LASTING or 400 <= status < 500:
            break
    if status in _EXPIRED:
        raise MigrationError(
            f"The link of the {kind} does not work any more (HTTP {status}): {_EXPIRED[status]}",
            check="R17",
            action="The contact person asks the sender for a new link (R20); what was downloaded is kept, and a new link resumes it",
        )
    if done.returncode == _WRITE_ERROR:
        raise disk_full(order.directory)
    complaint = " ".join(_URL.sub("…", done.stderr.decode(errors="backslashreplace")).split())
    raise MigrationError(
        f"The {kind} could not be downloaded: {complaint or f'curl ended with {done.returncode}'}",
        check="download",
        action="Mend the network (or its proxy, or the certificates trusted), then run again: the download goes on where it broke off",
    )


def _curl(order: Order, kind: str, partial: Path, most: int) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["curl", "--disable", "--config", "-"],
        input=_config(order, kind, partial, most).encode(),
        capture_output=True,
        check=False,
        env={name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ} | {"LC_ALL": "C"},
    )


def _config(order: Order, kind: str, partial: Path, most: int) -> str:
    """What curl reads from its standard input. The links were held against a pattern without quotes."""
    options: dict[str, object] = {
        "url": order.links[kind],
        "output": partial,
        "continue-at": "-",
        "proto": "=https",
        "max-filesize": most,
        "connect-timeout": 30,
        "speed-limit": 1,
        "speed-time": 60,
        "write-out": "%{http_code}",
    }
    if order.ca_file is not None:
        options["cacert"] = order.ca_file
    lines = [f'{name} = "{_quoted(str(value))}"' for name, value in options.items()]
    return "\n".join([*lines, "fail", "silent", "show-error"]) + "\n"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
