"""Large objects: page by page as they are stored (holes stay holes), with owner, grants and comment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .database_connection import Connection, identifier, literal, query, value
from .database_settings import explode, grant_statements

_BATCH_PAGES = 512
_BATCH_OBJECTS = 1000


def copy_large_objects(source: Connection, target: Connection, progress: Callable[[int], None]) -> int:
    """Copy all of them; ``source`` is inside its snapshot. Returns how many; ``progress`` gets bytes as they pass."""
    if not value(source, "SELECT EXISTS (SELECT FROM pg_largeobject_metadata)"):
        return 0
    page_bytes = int(value(source, "SELECT current_setting('block_size')::int / 4"))
    grants = explode(source, "oid, lomacl", "pg_largeobject_metadata", "lomacl IS NOT NULL")
    count = 0
    with source.cursor("large_objects") as objects:
        objects.itersize = _BATCH_OBJECTS
        objects.execute(
            "SELECT oid, pg_get_userbyid(lomowner), obj_description(oid, 'pg_largeobject'), lomacl IS NULL"
            " FROM pg_largeobject_metadata"
        )
        # A transaction each: an owner or a comment keeps a lock until its end, and a server has few thousands of them.
        for number, owner, comment, default_grants in objects:
            count += 1
            statements = [f"SELECT lo_create({number})", f"ALTER LARGE OBJECT {number} OWNER TO {identifier(owner)}"]
            if comment is not None:
                statements.append(f"COMMENT ON LARGE OBJECT {number} IS {literal(comment)}")
            if not default_grants:
                statements += grant_statements(f"LARGE OBJECT {number}", owner, grants.get(number, []))
            target.execute(";".join(statements).encode())
    with target.transaction(), source.cursor("pages") as pages:
        pages.itersize = _BATCH_PAGES
        pages.execute("SELECT loid, pageno, data FROM pg_largeobject ORDER BY loid, pageno", binary=True)
        run: list[Any] = []
        for loid, number, data in pages:
            complete = run and len(run[2][-1]) == page_bytes
            if run and (
                run[0] != loid or run[1] + len(run[2]) != number or len(run[2]) >= _BATCH_PAGES or not complete
            ):
                _put(target, run, page_bytes, progress)
                run = []
            if not run:
                run = [loid, number, []]
            run[2].append(data)
        if run:
            _put(target, run, page_bytes, progress)
    return count


def _put(target: Connection, run: list[Any], page_bytes: int, progress: Callable[[int], None]) -> None:
    loid, first, pages = run
    data = b"".join(pages)
    query(target, "SELECT lo_put(%b, %b, %b)::text", (loid, first * page_bytes, data))
    progress(len(data))
