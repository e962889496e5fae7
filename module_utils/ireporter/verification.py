"""Proves that a target is what its source is, or names what differs. One that did not finish has failed: it raises."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from . import database_schema, verification_objects
from .database_catalog import Table, read_tables, read_types
from .database_connection import Address, Connection, exported_snapshot, one_line, require_superuser, value
from .errors import MigrationError
from .verification_exceptions import ABSENT, CANNOT_DETECT, Difference, split
from .verification_rows import Seeds, Side, differing_rows, digest_tables
from .verification_unseen import compare_unseen

Progress = Callable[[dict[str, object]], None]

_TABLES_NAMED = 10


@dataclass
class _Findings:
    differences: list[Difference] = field(default_factory=list)
    expected: list[Difference] = field(default_factory=list)
    figures: dict[str, int] = field(default_factory=dict)
    cannot_detect: list[str] = field(default_factory=list)


def run(spec: dict[str, object], progress: Progress) -> dict[str, object]:
    """Compare target with source.

    :param spec: ``source``, ``target`` (libpq strings; both or none), ``scope`` (``all`` or ``structure``), ``connection_limit``
        (of the source before it was frozen), ``jobs`` (sessions per side), ``file_trees`` with ``channel``, ``direction`` and
        ``known_contents`` (a folder: what a copy of files remembered there is not read again unless it changed since).
    :param progress: gets ``{phase, bytes, total_bytes, seconds}``.
    :returns: ``differences``, ``expected_differences``, ``tables_verified``, ``rows_verified``, ``bytes_verified``,
        ``files_verified``, ``sequences_verified``, ``objects_verified``, ``large_objects_verified``, ``roles_verified``,
        ``seconds``, ``cannot_detect``.
    :raises MigrationError: it could not be finished (check ``verification-incomplete`` and others).
    """
    started = time.monotonic()
    findings = _Findings()
    findings.figures = dict.fromkeys(
        ("tables", "rows", "bytes", "files", "sequences", "objects", "large_objects", "roles"), 0
    )
    structure = spec.get("scope", "all") == "structure"
    if spec.get("source") is not None:
        try:
            _compare_databases(spec, findings, progress, structure=structure)
        except psycopg.Error as error:
            raise MigrationError(
                f"The databases could not be compared: {one_line(error)}",
                check="verification-incomplete",
                action="Mend the cause that PostgreSQL names, then verify again",
            ) from error
    if spec.get("file_trees"):
        _compare_files(spec, findings, progress)
    real, expected = split(findings.differences)
    return {
        "differences": real,
        "expected_differences": expected + findings.expected,
        **{f"{name}_verified": number for name, number in findings.figures.items()},
        "seconds": round(time.monotonic() - started, 3),
        "cannot_detect": findings.cannot_detect,
    }


def _compare_files(spec: dict[str, object], findings: _Findings, progress: Progress) -> None:
    from . import file_known_contents, file_verification  # noqa: PLC0415 - a database can be verified where only the database part is installed

    found = file_verification.compare(
        spec["file_trees"],  # type: ignore[arg-type]
        channel=spec.get("channel"),  # type: ignore[arg-type]
        direction=str(spec.get("direction") or "push"),
        scope=str(spec.get("scope", "all")),
        progress=progress,
        contents=file_known_contents.KNOWN,
        known_contents=Path(str(spec["known_contents"])) if spec.get("known_contents") else None,
    )
    findings.differences += [{name: str(text) for name, text in row.items()} for row in found.differences]
    findings.expected += [{name: str(text) for name, text in row.items()} for row in found.expected_differences]
    if found.differences_total > len(found.differences):
        findings.differences.append(
            {
                "kind": "file",
                "object": "further files",
                "source": f"{found.differences_total - len(found.differences)} more differences",
                "target": "not listed",
            }
        )
    findings.figures["files"] = found.files
    findings.figures["bytes"] += found.bytes
    findings.cannot_detect += file_verification.CANNOT_DETECT


def _compare_databases(spec: dict[str, object], findings: _Findings, progress: Progress, *, structure: bool) -> None:
    addresses = Address.parse(str(spec["source"]), "source"), Address.parse(str(spec["target"]), "target")
    jobs = max(1, int(str(spec.get("jobs", 2))))
    limit = spec.get("connection_limit")
    findings.cannot_detect += CANNOT_DETECT
    with ExitStack() as stack:
        sessions = tuple(stack.enter_context(address.connect()) for address in addresses)
        for session, side in zip(sessions, ("source", "target"), strict=True):
            require_superuser(session, side)
        snapshots = [stack.enter_context(exported_snapshot(session)) for session in sessions]
        versions = [session.info.server_version for session in sessions]
        # The schema texts take seconds of two other programs, meanwhile the rows are read.
        encodings = [str(value(session, "SHOW server_encoding")) for session in sessions]
        texts = _Texts(addresses, versions, snapshots, encodings)
        stack.callback(texts.wait)
        source, target = sessions
        seeds = Seeds.draw()
        if not structure:
            with ThreadPoolExecutor(len(sessions)) as pool:
                tables = list(pool.map(read_tables, sessions))
            sides = tuple(
                Side(name, address, snapshot, {(t.schema, t.name): t for t in found}, version)
                for name, address, snapshot, found, version in zip(
                    ("source", "target"), addresses, snapshots, tables, versions, strict=True
                )
            )
            _compare_rows((sides[0], sides[1]), source, findings, seeds=seeds, jobs=jobs, progress=progress)
            differences, findings.figures["sequences"] = verification_objects.compare_sequences(source, target)
            findings.differences += differences
            differences, findings.figures["large_objects"] = verification_objects.compare_large_objects(
                source, target, seeds
            )
            findings.differences += differences
        differences, findings.figures["roles"] = verification_objects.compare_roles(source, target)
        findings.differences += differences
        findings.differences += verification_objects.compare_extensions(source, target)
        findings.differences += verification_objects.compare_internal_triggers(source, target)
        findings.differences += compare_unseen(source, target)
        findings.differences += verification_objects.compare_database(
            source, target, None if limit is None else int(str(limit))
        )
        differences, findings.figures["objects"] = verification_objects.compare_schema(
            *texts.wait(), structure=structure
        )
        findings.differences += differences


class _Texts:
    """The schema texts of both sides, read at the same time in the background."""

    def __init__(
        self, addresses: tuple[Address, Address], versions: list[int], snapshots: list[str], encodings: list[str]
    ) -> None:
        self._found: list[str | BaseException] = ["", ""]

        def read(side: int) -> None:
            try:
                self._found[side] = database_schema.text(addresses[side], versions, snapshots[side], encodings[side])
            except BaseException as error:  # raised again by the thread that waits
                self._found[side] = error

        self._threads = [threading.Thread(target=read, args=(side,), daemon=True) for side in (0, 1)]
        for thread in self._threads:
            thread.start()

    def wait(self) -> tuple[str, str]:
        for thread in self._threads:
            thread.join()
        left, right = self._found
        if isinstance(left, BaseException):
            raise left
        if isinstance(right, BaseException):
            raise right
        return left, right


def _compare_rows(
    sides: tuple[Side, Side],
    source: Connection,
    findings: _Findings,
    *,
    seeds: Seeds,
    jobs: int,
    progress: Progress,
) -> None:
    types = read_types(source)
    common = []
    for name in sorted(sides[0].tables.keys() | sides[1].tables.keys()):
        ours, theirs = sides[0].tables.get(name), sides[1].tables.get(name)
        if ours is None or theirs is None or _shape(ours) != _shape(theirs):
            findings.differences.append(
                {
                    "kind": "table data",
                    "object": f"{name[0]}.{name[1]}",
                    "source": ABSENT if ours is None else _shape(ours),
                    "target": ABSENT if theirs is None else _shape(theirs),
                }
            )
        elif not ours.materialised_view or ours.populated:
            common.append(name)
    total = sum(side.tables[name].total_bytes for side in sides for name in common)
    done = 0
    started = time.monotonic()

    def passed(size: int) -> None:
        nonlocal done
        done += size
        progress(
            {
                "phase": "rows",
                "bytes": done,
                "total_bytes": total,
                "seconds": round(time.monotonic() - started, 1),
            }
        )

    digests = digest_tables(sides, types, common, seeds=seeds, jobs=jobs, progress=passed)
    named = 0
    for name, (left, right) in zip(common, digests, strict=True):
        findings.figures["rows"] += left.rows
        findings.figures["bytes"] += left.bytes
        if left.same(right):
            continue
        kind = "materialised view" if sides[0].tables[name].materialised_view else "table data"
        findings.differences.append(
            {"kind": kind, "object": f"{name[0]}.{name[1]}", "source": str(left), "target": str(right)}
        )
        if named < _TABLES_NAMED:
            findings.differences += differing_rows(sides, types, name, seeds, max(left.rows, right.rows))
            named += 1
    findings.figures["tables"] = len(common)


def _shape(table: Table) -> str:
    """What must agree before rows can be compared: kind, columns and their types (by name)."""
    columns = ", ".join(f"{column.name} {column.type.schema}.{column.type.name}" for column in table.columns)
    kind = "materialised view" if table.materialised_view else "table"
    filled = "" if table.populated else ", not populated"
    return f"{kind} ({columns}){filled}"
