"""Holds what was restored against what the bundle says of itself: every table, sequence, large object, definition, file. Unknown is a failure."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg

from .account_count import accounts_of
from .bundle_contents import database_facts
from .database_connection import Address, Connection, exported_snapshot, keep_bytes, program, query, value
from .database_schema import call
from .database_target import read_properties
from .errors import MigrationError
from .file_manifest import Entry, manifest, order
from .file_verification import text_of
from .import_bag import Bag
from .import_server import Server, refused
from .import_trees import owner
from .import_wish import Wish
from .verification_exceptions import ABSENT, Difference
from .verification_objects import compare_maps, schema_objects

# Also who owns it, which another server may call by another name.
_COMPARED: Final = ("type", "size", "sha256", "link_target", "linked_to", "mtime_ns", "mode", "xattrs", "acl")
_SHOWN: Final = 50
_DEFINITIONS, _NAMES = "definitions", "names"


@dataclass
class _Differences:
    """How many there are, and the first: a tree of a million files that all differ must not fill the memory."""

    count: int = 0
    first: list[Difference] = field(default_factory=list)

    def add(self, found: Iterable[Difference]) -> None:
        for difference in found:
            self.count += 1
            if len(self.first) < _SHOWN:
                self.first.append(difference)


def verify(
    wish: Wish,
    bag: Bag,
    server: Server,
    aside: str,
    *,
    trees: Mapping[str, Path],
    progress: Callable[[dict[str, object]], None],
) -> dict[str, Any]:
    """Compare everything.

    :param trees: name → folder, of every tree in the bundle.
    :returns: ``tables``, ``rows``, ``sequences``, ``large_objects``, ``objects``, ``objects_compared`` (``definitions``, or ``names`` where
        another major version writes definitions otherwise), ``files``, ``file_bytes``, ``entries``, ``accounts``, ``notes``.
    :raises MigrationError: something differs (check ``import-verification``, differences in ``figures``) or could not be compared.
    """
    differences, others = _Differences(), _Differences()
    with ThreadPoolExecutor(1) as pool:
        files = pool.submit(_trees, wish, bag, trees, others)
        figures = _database(wish, bag, server, aside, progress=progress, differences=differences)
        progress({"step": "verify files"})
        counts = files.result()
    differences.add(others.first)
    differences.count += others.count - len(others.first)
    if differences.count:
        first = differences.first[0]
        error = MigrationError(
            f"What was restored differs from the bundle in {differences.count} points; the first: {first['kind']} {first['object']}"
            f" ({first['source']} in the bundle, {first['target']} here)",
            check="import-verification",
            action="Nothing was switched. Run again: it is restored anew; if it differs again, keep the bundle and tell the sender",
        )
        error.figures = {"differences": differences.first}  # type: ignore[attr-defined]
        raise error
    return {**figures, "entries": counts[0], "files": counts[1], "file_bytes": counts[2]}


def _database(
    wish: Wish,
    bag: Bag,
    server: Server,
    aside: str,
    *,
    progress: Callable[[dict[str, object]], None],
    differences: _Differences,
) -> dict[str, Any]:
    address = wish.address(aside)
    stated = bag.database
    total = sum(int(table["bytes"]) for table in stated["tables"])
    done = 0

    def passed(size: int) -> None:
        nonlocal done
        done += size
        progress({"step": "verify database", "bytes": done, "total_bytes": total})

    try:
        with address.connect() as session, exported_snapshot(session) as snapshot:
            found: dict[str, Any] = database_facts(
                address, session, snapshot, seeds=bag.seeds, jobs=wish.jobs, progress=passed
            )
            properties = read_properties(session)
            accounts = accounts_of(address, wish.accounts_query)
            objects, compared = _objects(bag, server, address, session, snapshot=snapshot, differences=differences)
    except psycopg.Error as error:
        raise refused(error) from error
    differences.add(compare_maps("table", _tables(stated), _tables(found)))
    differences.add(compare_maps("sequence", _sequences(stated), _sequences(found)))
    differences.add(compare_maps("large object", _contents(stated["large_objects"]), _contents(found["large_objects"])))
    notes = _extensions(bag, server, found["extensions"], differences)
    differences.add(
        compare_maps(
            "database",
            {
                "owner": str(stated["owner"]),
                "encoding": str(stated["encoding"]),
                "locale": str(_plain(stated["locale"])),
            },
            {"owner": properties.owner, "encoding": properties.encoding, "locale": str(_plain(properties.locale))},
        )
    )
    if None not in (accounts, bag.about.get("accounts")):
        differences.add(
            compare_maps("accounts", {"user accounts": str(bag.about["accounts"])}, {"user accounts": str(accounts)})
        )
    rows = found["tables"]
    return {
        "tables": len(stated["tables"]),
        "rows": sum(int(table["rows"]) for table in rows),
        "bytes": sum(int(table["bytes"]) for table in rows),
        "sequences": len(stated["sequences"]),
        "large_objects": len(stated["large_objects"]),
        "objects": objects,
        "objects_compared": compared,
        "accounts": accounts,
        "notes": notes,
    }


def _tables(facts: Mapping[str, Any]) -> dict[str, str]:
    """By name: rows and both sums. What pg_restore computes anew was perhaps out of date before: of that, its being there."""
    return {
        f"{table['schema']}.{table['name']}": "computed anew"
        if table["computed_by_restore"]
        else f"{table['rows']} rows, digest {table['first']}/{table['second']}"
        for table in facts["tables"]
    }


def _sequences(facts: Mapping[str, Any]) -> dict[str, str]:
    return {
        f"{one['schema']}.{one['name']}": f"{one['value']}, {'handed out' if one['handed_out'] else 'not handed out'}"
        for one in facts["sequences"]
    }


def _contents(objects: Mapping[str, list[str]]) -> dict[str, str]:
    return {number: " ".join(parts) for number, parts in objects.items()}


def _plain(locale: Mapping[str, object]) -> dict[str, object]:
    """Without what only newer versions of PostgreSQL know and is not set."""
    return {name: text for name, text in sorted(locale.items()) if text is not None}


def _extensions(bag: Bag, server: Server, found: Any, differences: _Differences) -> list[str]:
    """A newer PostgreSQL brings newer versions of its extensions: a note. Anything else is a difference."""
    different = compare_maps("extension", bag.database["extensions"], found)
    if server.version // 10000 == int(bag.about["versions"]["postgresql"]) // 10000:
        differences.add(different)
        return []
    differences.add([one for one in different if ABSENT in (one["source"], one["target"])])
    return [
        f"The extension {one['object']} has version {one['target']} here, {one['source']} in the bundle."
        for one in different
        if ABSENT not in (one["source"], one["target"])
    ]


def _objects(
    bag: Bag, server: Server, address: Address, session: Connection, *, snapshot: str, differences: _Differences
) -> tuple[int, str]:
    """Definitions as the dump has them against those of the restored database, both as ``pg_restore`` and ``pg_dump`` write them for people.

    Data apart, it is everything: tables, indexes, constraints, triggers, functions, policies, comments, grants, owners.
    """
    sections = ["--section=pre-data", "--section=post-data", "--no-tablespaces"]
    ours = call(
        [program("pg_restore", server.version), *sections, "--file=-", str(bag.archive)],
        "Reading the dump's definitions",
        check="import-verification",
    )
    theirs = call(
        [
            program("pg_dump", server.version), "--no-password", *sections, "--no-subscriptions",
            f"--snapshot={snapshot}", f"--dbname={address.string()}",
        ],
        "Reading the restored definitions",
        check="import-verification",
    )  # fmt: skip
    encoding = str(value(session, "SHOW server_encoding"))
    codec = "utf-8"
    if encoding not in ("UTF8", "SQL_ASCII"):
        with address.connect() as other:
            codec = keep_bytes(other, encoding)
    texts = [schema_objects(text.decode(codec, errors="surrogateescape")) for text in (ours, theirs)]
    same_version = server.version // 10000 == int(bag.about["versions"]["postgresql"]) // 10000
    if not same_version:
        # Another major version writes the same definition otherwise, and large objects not one by one.
        texts = [
            {
                name: text.partition("\n")[0]
                for name, text in objects.items()
                if "BLOB" not in name and name != "preamble"
            }
            for objects in texts
        ]
    differences.add(compare_maps("object", texts[0], texts[1]))
    missing = _roles(bag, session)
    differences.add([{"kind": "role", "object": name, "source": "present", "target": ABSENT} for name in missing])
    return len(texts[0]) - same_version, _DEFINITIONS if same_version else _NAMES


def _roles(bag: Bag, session: Connection) -> list[str]:
    wanted = [statement.creates for statement in bag.role_statements() if statement.creates is not None]
    there = {
        str(name) for (name,) in query(session, "SELECT rolname FROM pg_roles WHERE rolname = ANY (%s)", (wanted,))
    }
    return sorted(set(wanted) - there)


def _trees(wish: Wish, bag: Bag, trees: Mapping[str, Path], differences: _Differences) -> list[int]:
    """Entries, files and bytes of all."""
    counts = [0, 0, 0]
    for name, folder in trees.items():
        for number, count in enumerate(_tree(wish, bag, name, folder, differences)):
            counts[number] += count
    return counts


def _tree(wish: Wish, bag: Bag, tree: str, folder: Path, differences: _Differences) -> tuple[int, int, int]:
    """Entries, files and bytes in them."""
    entries = files = size = 0
    expected = bag.entries(tree)
    with closing(manifest(folder)) as present:
        found: Iterator[tuple[bytes, Entry]] = present
        for path, wanted, entry in _merged(expected, found):
            name = f"{tree}: {text_of(path)}"
            if wanted is None or entry is None:
                sides = ["present" if one is not None else ABSENT for one in (wanted, entry)]
                differences.add([{"kind": "file", "object": name, "source": sides[0], "target": sides[1]}])
                continue
            entries += 1
            files += wanted["type"] == "file"
            size += wanted.get("size", 0)
            differences.add(_entry(wish, name, wanted, entry))
    return entries, files, size


def _entry(wish: Wish, name: str, wanted: Entry, entry: Entry) -> Iterator[Difference]:
    if "error" in entry or "mount_point" in entry:
        yield {
            "kind": "file",
            "object": name,
            "source": "present",
            "target": f"not looked at: {entry.get('error', 'a mount')}",
        }
        return
    if os.geteuid() == 0:
        for kind, ours, theirs in zip(
            ("owner", "group"), owner(wish, wanted), (entry["owner"], entry["group"]), strict=True
        ):
            if ours != theirs:
                yield {"kind": kind, "object": name, "source": str(ours), "target": str(theirs)}
    for what in _COMPARED:
        if entry.get(what) != wanted.get(what):
            yield {
                "kind": f"file {what}",
                "object": name,
                "source": str(wanted.get(what)),
                "target": str(entry.get(what)),
            }


def _merged(
    expected: Iterator[tuple[bytes, Entry]], found: Iterator[tuple[bytes, Entry]]
) -> Iterator[tuple[bytes, Entry | None, Entry | None]]:
    """Both in the order of manifests, side by side."""
    ours, theirs = next(expected, None), next(found, None)
    while ours is not None or theirs is not None:
        if theirs is None or (ours is not None and order(ours[0]) < order(theirs[0])):
            assert ours is not None  # noqa: S101 - tells mypy what the loop says
            yield ours[0], ours[1], None
            ours = next(expected, None)
        elif ours is None or order(theirs[0]) < order(ours[0]):
            yield theirs[0], None, theirs[1]
            theirs = next(found, None)
        else:
            yield ours[0], ours[1], theirs[1]
            ours, theirs = next(expected, None), next(found, None)
