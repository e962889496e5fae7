"""Bundles: making them from a frozen picture, verifying and unpacking them where they arrive. Entry point of the unit and the module."""

from __future__ import annotations

import errno
import re
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from .bundle_format import Paths, tree_members
from .bundle_places import disk_full
from .bundle_unpack import unpack, unpacked
from .bundle_verify import Received, described, verify
from .clock import Clock, SystemClock
from .errors import MigrationError
from .file_trees import FileTree, absolute, relative
from .recipient_key import recipient
from .unit import MIGRATION_ID

Progress = Callable[[dict[str, object]], None]
_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def run(spec: dict[str, object], progress: Progress, clock: Clock | None = None) -> dict[str, object]:
    """Bring a bundle into the state wanted.

    :param spec: ``state`` (``present``, ``verified``, ``unpacked``), ``check`` (change nothing), ``tenant``, ``migration_id``, and

        - present: ``directory``, ``picture`` and ``original`` (libpq strings), ``file_trees`` (``{name, path, licence_file}``),
          ``webdav`` (folders), ``cut_off``, ``recipient``, ``signing_key``, ``readme``, ``versions``, ``jobs``, ``level``;
        - verified, unpacked: ``path`` of the ciphertext, ``signer``, ``identity``;
        - unpacked: ``target``, ``trees``.
    :param progress: gets ``{step, bytes, total_bytes}``.
    :returns: ``changed``, ``seconds`` and what :func:`bundle_verify.described` and :func:`bundle_verify.figures` give.
    :raises MigrationError: it cannot be brought there; nothing half is left.
    """
    try:
        return _run(spec, progress, clock or SystemClock())
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(Path(error.filename or tempfile.gettempdir())) from error
        raise MigrationError(
            f"{error.filename or 'A file'} cannot be used: {error.strerror}",
            check="bundle-file",
            action="Mend the cause, then run again",
        ) from error


def _run(spec: dict[str, Any], progress: Progress, clock: Clock) -> dict[str, object]:
    started = time.monotonic()
    check = bool(spec.get("check"))
    if spec["state"] == "present":
        return _present(spec, clock, progress, check=check)
    received = _received(spec)
    if spec["state"] == "verified":
        result: dict[str, Any] = {"changed": False, **verify(received, progress)}
    else:
        target = absolute(spec["target"])
        trees = bool(spec.get("trees"))
        if check:
            found = unpacked(received, target, progress, trees=trees)
            result = {"changed": found is None, **(verify(received, progress) if found is None else found)}
        else:
            result = unpack(received, target, progress, trees=trees)
    return {**result, "seconds": round(time.monotonic() - started, 3)}


def _present(spec: Mapping[str, Any], clock: Clock, progress: Progress, *, check: bool) -> dict[str, object]:
    # Where bundles are verified only, nothing of PostgreSQL is installed.
    from . import bundle_write  # noqa: PLC0415
    from .database_connection import Address  # noqa: PLC0415

    picture = Address.parse(str(spec["picture"]), "picture")
    cut_off = str(spec["cut_off"])
    if not _INSTANT.fullmatch(cut_off):
        raise MigrationError(
            f"{cut_off!r} is no cut-off instant",
            check="bundle-cut-off",
            action="Write it in UTC like 2026-01-01T00:00:00Z",
        )
    order = bundle_write.Order(
        directory=absolute(spec["directory"]),
        tenant=_name(spec["tenant"], "tenant"),
        migration_id=_name(spec["migration_id"], "migration_id"),
        picture=picture,
        original=Address.parse(str(spec["original"]), "original") if spec.get("original") else picture,
        trees=_trees(spec.get("file_trees") or []),
        webdav=tuple(absolute(path) for path in spec.get("webdav") or []),
        cut_off=cut_off,
        recipient=recipient(spec["recipient"]).text,
        signing_key=Path(str(spec["signing_key"])),
        readme=str(spec["readme"]),
        versions=dict(spec.get("versions") or {}),
        accounts_query=str(spec["accounts_query"]) if spec.get("accounts_query") else None,
        jobs=int(spec.get("jobs") or 2),
        level=int(spec.get("level") or 1),
    )
    bundle_write.must_be_possible(order)
    if check:
        found = bundle_write.existing(order)
        return {
            "changed": found is None,
            "seconds": 0.0,
            **({} if found is None else described(order.paths, found)),
        }
    return bundle_write.write(order, clock, progress)


def _trees(raw: list[Mapping[str, object]]) -> tuple[FileTree, ...]:
    trees = []
    for one in raw:
        tree_members(str(one.get("name")))
        path = absolute(one.get("path"))
        trees.append(FileTree(str(one["name"]), path, path, relative(one.get("licence_file"))))
    if len({tree.name for tree in trees}) != len(trees):
        raise MigrationError("Two file trees have the same name", check="file-trees", action="Give each its own name")
    return tuple(trees)


def _received(spec: Mapping[str, Any]) -> Received:
    wanted = spec.get("migration_id")
    return Received(
        paths=Paths.beside(absolute(spec["path"])),
        signer=str(spec["signer"]),
        tenant=_name(spec["tenant"], "tenant"),
        migration_id=None if wanted is None else _name(wanted, "migration_id"),
        identity=Path(str(spec["identity"])),
    )


def _name(text: object, option: str) -> str:
    if not isinstance(text, str) or not MIGRATION_ID.fullmatch(text):
        raise MigrationError(
            f"{text!r} cannot be the {option} of a bundle",
            check="bundle-name",
            action="Use at most 81 small letters, digits and -",
        )
    return text
