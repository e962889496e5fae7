"""The customer's side: is this file the bundle of this tenant, from this sender, whole, and for us? Nothing is written."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from . import bundle_read, bundle_signature
from .bundle_encryption import Identity, decrypted
from .bundle_format import Paths, Statement, content_error
from .bundle_tar import READ_BYTES
from .errors import MigrationError

Progress = Callable[[dict[str, object]], None]


@dataclass(frozen=True)
class Received:
    """A bundle as it came, and what is expected of it.

    :param signer: public key or fingerprint of the sender.
    :param tenant: whose data it must be. ``migration_id``: of which export, or ``None`` for any.
    :param identity: the customer's private key.
    """

    paths: Paths
    signer: str
    tenant: str
    migration_id: str | None
    identity: Path


def digest_of(file: IO[bytes], progress: Callable[[int], None] | None = None) -> tuple[str, int]:
    """SHA-256 and number of the bytes from where ``file`` stands."""
    digest = hashlib.sha256()
    size = 0
    while chunk := file.read(READ_BYTES):
        digest.update(chunk)
        size += len(chunk)
        if progress is not None:
            progress(len(chunk))
    return digest.hexdigest(), size


def read_statement(received: Received) -> Statement:
    """The statement, after its signature was found good.

    :raises MigrationError: a file is missing (check ``bundle-missing``), nobody or somebody else signed (``bundle-signature``),
        another format (``bundle-format``), another tenant or migration (``bundle-tenant``).
    """
    raw = _small(received.paths.statement)
    try:
        signature = _small(received.paths.signature)
    except MigrationError as error:
        raise MigrationError(
            f"The bundle is not signed: there is no {received.paths.signature.name}",
            check="bundle-signature",
            action="Use nothing of it; ask the sender for the signature that belongs to it",
        ) from error
    bundle_signature.check(raw, signature, received.signer)
    statement = Statement.parse(raw)
    if statement.tenant != received.tenant:
        raise MigrationError(
            f"The bundle is of tenant {statement.tenant}, not of {received.tenant}",
            check="bundle-tenant",
            action="Take the bundle that was made for you, and tell the sender",
        )
    if received.migration_id not in (None, statement.migration_id):
        raise MigrationError(
            f"The bundle is of migration {statement.migration_id}, not of {received.migration_id}",
            check="bundle-tenant",
            action="Take the bundle that the last mail names",
        )
    return statement


def _small(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(1 << 16)
    except FileNotFoundError as error:
        raise MigrationError(
            f"{path} is missing", check="bundle-missing", action="Put the three files of the bundle into one folder"
        ) from error


def must_be_whole(file: IO[bytes], statement: Statement, progress: Progress) -> None:
    """Hold the ciphertext against its statement; ``file`` stands at its start again.

    :raises MigrationError: it is another (check ``bundle-checksum``).
    """
    done = 0

    def passed(size: int) -> None:
        nonlocal done
        done += size
        progress({"step": "checksum", "bytes": done, "total_bytes": statement.size})

    sha256, size = digest_of(file, passed)
    if size != statement.size:
        raise _damaged(f"The bundle has {size} bytes, its signed statement says {statement.size}")
    if sha256 != statement.sha256:
        raise _damaged("The bundle has another SHA-256 than its signed statement says")
    file.seek(0)


def _damaged(happened: str) -> MigrationError:
    return MigrationError(
        happened, check="bundle-checksum", action="Download it again: the download resumes where it broke off"
    )


def read_through(
    file: IO[bytes],
    received: Received,
    statement: Statement,
    progress: Progress,
    *,
    step: str,
    scratch: Path,
    keep: Callable[[str], IO[bytes]] | None = None,
) -> bundle_read.Seen:
    """Decrypt and check everything inside; see :func:`bundle_read.read`."""
    done = 0

    def passed(size: int) -> None:
        nonlocal done
        done += size
        progress({"step": step, "bytes": done, "total_bytes": statement.unpacked_bytes})

    with decrypted(file, Identity(path=received.identity)) as stream:
        seen = bundle_read.read(stream, scratch=scratch, limit=statement.unpacked_bytes, progress=passed, keep=keep)
    bundle_read.refuse_another(seen.about, statement)
    if (seen.tag_manifest, seen.bytes) != (statement.tag_manifest, statement.unpacked_bytes):
        raise content_error("The bundle holds something else than its signed statement says")
    return seen


def open_ciphertext(paths: Paths) -> IO[bytes]:
    """
    :raises MigrationError: there is none (check ``bundle-missing``).
    """
    try:
        return paths.ciphertext.open("rb")
    except FileNotFoundError as error:
        raise MigrationError(
            f"{paths.ciphertext} is missing",
            check="bundle-missing",
            action="Put the three files of the bundle into one folder",
        ) from error


def verify(received: Received, progress: Progress) -> dict[str, Any]:
    """Signature, then checksum, then everything inside.

    :raises MigrationError: the first thing that is wrong.
    """
    statement = read_statement(received)
    with open_ciphertext(received.paths) as file:
        must_be_whole(file, statement, progress)
        seen = read_through(file, received, statement, progress, step="verify", scratch=Path(tempfile.gettempdir()))
    return {**described(received.paths, statement), **figures(seen)}


def figures(seen: bundle_read.Seen) -> dict[str, Any]:
    """What was counted while the bag was read."""
    return {
        "members": seen.members,
        "entries": seen.entries,
        "files": seen.files,
        "file_bytes": seen.file_bytes,
        "tables": len(seen.about["database"]["tables"]),
        "rows": sum(table["rows"] for table in seen.about["database"]["tables"]),
        "versions": seen.about["versions"],
        "left_out": seen.about["left_out"],
    }


def described(paths: Paths, statement: Statement) -> dict[str, Any]:
    """What callers learn about a bundle."""
    return {
        "path": str(paths.ciphertext),
        "statement": str(paths.statement),
        "signature": str(paths.signature),
        "tenant": statement.tenant,
        "migration_id": statement.migration_id,
        "cut_off": statement.cut_off,
        "bytes": statement.size,
        "unpacked_bytes": statement.unpacked_bytes,
        "sha256": statement.sha256,
    }
