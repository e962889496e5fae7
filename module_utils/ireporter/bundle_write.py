"""Makes a bundle out of a frozen picture. It counts as made only after it was read back in full and signed."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg

from . import bundle_contents, bundle_read, bundle_signature
from .account_count import accounts_of
from .bundle_dump import Dump
from .bundle_encryption import Encrypted, Identity, make_key, require_programs
from .bundle_format import (
    ABOUT,
    BAGIT,
    CREATION,
    PAYLOAD_MANIFEST,
    README,
    ROLES,
    SETTINGS,
    TAG_MANIFEST,
    TAGS,
    Paths,
    Statement,
    content_error,
    manifest_lines,
    tree_members,
)
from .bundle_places import create, disk_full, locked, remove_folder, sync_folder
from .bundle_read_back import read_back
from .bundle_tar import READ_BYTES, Writer
from .bundle_trees import Packed, content, look
from .bundle_verify import described, digest_of
from .clock import Clock
from .database_connection import Address, exported_snapshot, one_line, require_superuser
from .errors import MigrationError
from .file_trees import FileTree
from .verification_rows import Seeds

Progress = Callable[[dict[str, object]], None]
_ZSTD_THREADS: Final = 2
# Of the dump, beside the table being packed, at which pg_dump is halted.
_WAITING_BYTES: Final = 256 << 20


@dataclass(frozen=True)
class Order:
    """What is wanted.

    :param directory: of the three files; what is being made lies there, too.
    :param picture: the frozen database. ``original``: the tenant's own, whose settings count.
    :param cut_off: UTC, like ``2026-01-01T00:00:00Z``.
    :param recipient: the customer's public key, as :mod:`recipient_key` has read it.
    :param readme: how to import by hand, for people.
    :param versions: of whatever made the data (``application``), beside PostgreSQL's.
    :param accounts_query: statement that counts user accounts.
    """

    directory: Path
    tenant: str
    migration_id: str
    picture: Address
    original: Address
    trees: tuple[FileTree, ...]
    webdav: tuple[Path, ...]
    cut_off: str
    recipient: str
    signing_key: Path
    readme: str
    versions: dict[str, object]
    accounts_query: str | None = None
    jobs: int = 2
    level: int = 1

    @property
    def paths(self) -> Paths:
        return Paths.within(self.directory, self.migration_id)

    @property
    def work(self) -> Path:
        """Everything unfinished."""
        return self.directory / f".{self.migration_id}.unfinished"


def must_be_possible(order: Order) -> None:
    """What can be asked before hours of work is asked before.

    :raises MigrationError: a program is missing (check ``server-programs``), or the key cannot sign (``bundle-signing-key``).
    """
    require_programs("age", "age-keygen", "zstd", "tar", "setpriv")
    bundle_signature.public_fingerprint(order.signing_key)


def existing(order: Order) -> Statement | None:
    """The statement of the bundle when it is there, whole, and signed by our key; ``None`` when it has to be made.

    :raises MigrationError: a whole bundle is there which is of another tenant (check ``bundle-exists``).
    """
    paths = order.paths
    try:
        raw, signature = paths.statement.read_bytes(), paths.signature.read_bytes()
    except FileNotFoundError:
        return None
    try:
        bundle_signature.check(raw, signature, bundle_signature.public_fingerprint(order.signing_key))
        statement = Statement.parse(raw)
        with paths.ciphertext.open("rb") as file:
            whole = digest_of(file) == (statement.sha256, statement.size)
    except FileNotFoundError:
        return None
    except MigrationError as error:
        if error.check == "bundle-signing-key":
            raise
        whole = False
    if not whole or (statement.tenant, statement.migration_id, statement.cut_off) != (
        order.tenant,
        order.migration_id,
        order.cut_off,
    ):
        raise MigrationError(
            f"{paths.ciphertext} is there and is not the bundle wanted: it was altered, signed by another key, or has another cut-off",
            check="bundle-exists",
            action="Look at it, move its three files away, then run again",
        )
    return statement


def write(order: Order, clock: Clock, progress: Progress) -> dict[str, Any]:
    """Make the bundle, unless it is there.

    :raises MigrationError: it could not be made; nothing unfinished stays that looks like a bundle.
    """
    started = clock.monotonic()
    with locked(order.directory, order.migration_id):
        statement = existing(order)
        if statement is not None:
            remove_folder(order.work)
            return {"changed": False, **described(order.paths, statement), "seconds": 0.0}
        remove_folder(order.work)
        order.work.mkdir(mode=0o700)
        try:
            result = _make(order, clock, progress)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise disk_full(order.directory) from error
            raise
        except psycopg.Error as error:
            raise MigrationError(
                f"The picture could not be read: {one_line(error)}",
                check="bundle-incomplete",
                action="Mend the cause that PostgreSQL names, then run again: the bundle is made anew",
            ) from error
        finally:
            remove_folder(order.work)
    return {"changed": True, **result, "seconds": round(clock.monotonic() - started, 3)}


def _make(order: Order, clock: Clock, progress: Progress) -> dict[str, Any]:
    key, public = make_key()
    ciphertext = order.work / order.paths.ciphertext.name
    pipeline = Encrypted(ciphertext, (order.recipient, public), level=order.level, threads=_ZSTD_THREADS)
    try:
        digests, total, figures = _fill(pipeline, order, clock, progress)
        pipeline.close()
    except BaseException:
        pipeline.abort()
        raise
    tag_manifest = digests[TAG_MANIFEST]
    statement = Statement(
        order.tenant, order.migration_id, order.cut_off, pipeline.size, total, tag_manifest, pipeline.sha256
    )
    seen = _read_back(ciphertext, key, statement, order, progress)
    signed = bundle_signature.sign(order.signing_key, statement.render())
    _publish(order, statement.render(), signed)
    return {
        **described(order.paths, statement),
        **figures,
        "members": seen.members,
        "tar_bytes": seen.bytes,
        "left_out": seen.about["left_out"],
    }


def _fill(
    pipeline: Encrypted, order: Order, clock: Clock, progress: Progress
) -> tuple[dict[str, str], int, dict[str, Any]]:
    now = clock.now()
    step, done, rows_done = "database", 0, 0

    def passed(size: int) -> None:
        nonlocal done
        done += size
        progress({"step": step, "bytes": done})

    def passed_rows(size: int) -> None:
        nonlocal rows_done
        rows_done += size
        progress({"step": step, "bytes": rows_done})

    writer = Writer(pipeline, int(now.timestamp()), passed)
    identity = {"tenant": order.tenant, "migration_id": order.migration_id, "cut_off": order.cut_off}
    with (
        ThreadPoolExecutor(1) as pool,
        order.picture.connect() as session,
        order.original.connect() as original,
    ):
        require_superuser(session, "picture")
        surroundings = bundle_contents.Surroundings(session, original)
        # Beside the dump, which leaves a processor idle now and then.
        looking = pool.submit(lambda: [look(tree, order.work) for tree in order.trees])
        with exported_snapshot(session) as snapshot:
            most = _add_dump(writer, order, session.info.server_version, snapshot)
            step = "digests"
            accounts = accounts_of(order.picture, order.accounts_query)
            facts = bundle_contents.database_facts(
                order.picture, session, snapshot, seeds=Seeds.draw(), jobs=order.jobs, progress=passed_rows
            )
        versions = {**order.versions, "postgresql": session.info.server_version}
        packed = looking.result()
        without = bundle_contents.left_out(packed, order.webdav, surroundings)
    step = "files"
    for tree in packed:
        _add_tree(writer, tree)
    about = bundle_contents.about(
        identity=identity,
        made_at=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        versions=versions,
        accounts=accounts,
        properties=surroundings.properties,
        facts=facts,
        trees=packed,
        without=without,
    )
    for name, text in (
        (ROLES, surroundings.roles_sql()),
        (CREATION, surroundings.creation_sql()),
        (SETTINGS, surroundings.settings_sql()),
        (README, order.readme.encode()),
        (ABOUT, about),
    ):
        writer.add_bytes(name, text)
    payload = dict(writer.digests)
    info = bundle_contents.bag_info(identity, now.strftime("%Y-%m-%d"), writer.bytes, len(payload))
    for name, text in ((PAYLOAD_MANIFEST, manifest_lines(payload)), ("bag-info.txt", info), ("bagit.txt", BAGIT)):
        writer.add_bytes(name, text)
    writer.add_bytes(TAG_MANIFEST, manifest_lines({name: writer.digests[name] for name in TAGS}))
    writer.end()
    tables: Any = facts["tables"]
    figures = {
        "tables": len(tables),
        "rows": sum(table["rows"] for table in tables),
        "files": sum(tree.files for tree in packed),
        "file_bytes": sum(tree.file_bytes for tree in packed),
        "unencrypted_bytes_on_disk": most,
    }
    return writer.digests, writer.bytes, figures


def _add_dump(writer: Writer, order: Order, version: int, snapshot: str) -> int:
    folder = order.work / "database"
    folder.mkdir(mode=0o700)
    dump = Dump(order.picture, (version,), folder, jobs=order.jobs, limit=_WAITING_BYTES, snapshot=snapshot)
    try:
        with closing(dump.files()) as files:
            for name, size, chunks in files:
                writer.add(f"data/database/{name}", size, chunks)
    finally:
        dump.close()
    return dump.most_on_disk


def _add_tree(writer: Writer, packed: Packed) -> None:
    manifest, tar = tree_members(packed.tree.name)
    with packed.manifest.open("rb") as file:
        writer.add(manifest, packed.manifest.stat().st_size, iter(lambda: file.read(READ_BYTES), b""))
    with closing(content(packed)) as chunks:
        writer.add(tar, packed.tar_bytes, chunks)


def _read_back(
    ciphertext: Path, key: Identity, statement: Statement, order: Order, progress: Progress
) -> bundle_read.Seen:
    """Everything once more, from disk, with the run's key.

    :raises MigrationError: it is not what was written.
    """
    done = 0

    def passed(size: int) -> None:
        nonlocal done
        done += size
        progress({"step": "read back", "bytes": done, "total_bytes": statement.unpacked_bytes})

    seen = read_back(
        ciphertext,
        key,
        (statement.sha256, statement.size),
        lambda stream: bundle_read.read(stream, scratch=order.work, limit=statement.unpacked_bytes, progress=passed),
    )
    bundle_read.refuse_another(seen.about, statement)
    if (seen.tag_manifest, seen.bytes) != (statement.tag_manifest, statement.unpacked_bytes):
        raise content_error("The bundle that was read back is not the one that was written")
    return seen


def _publish(order: Order, statement: bytes, signature: bytes) -> None:
    """Three renames, the signature last: without it nothing is a bundle."""
    for path, text in ((order.paths.statement, statement), (order.paths.signature, signature)):
        with create(order.work / path.name) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    for path in (order.paths.ciphertext, order.paths.statement, order.paths.signature):
        (order.work / path.name).replace(path)
        sync_folder(order.directory)
