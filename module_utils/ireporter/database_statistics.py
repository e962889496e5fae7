"""Planner statistics of a database that was just filled."""

from __future__ import annotations

from .database_connection import Connection, identifier, query


def analyse(inside: Connection) -> None:
    """Of every table but foreign ones and those above them: nobody promised that other servers answer."""
    tables = query(
        inside,
        """
        WITH RECURSIVE outside AS (
            SELECT oid FROM pg_class WHERE relkind = 'f'
            UNION SELECT i.inhparent FROM pg_inherits i JOIN outside o ON o.oid = i.inhrelid)
        SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE (c.relkind IN ('r', 'p') OR c.relkind = 'm' AND c.relispopulated) AND c.relpersistence <> 't'
          AND c.oid NOT IN (SELECT oid FROM outside)
        """,
    )
    if tables:
        inside.execute(f"ANALYZE {', '.join(identifier(*row) for row in tables)}".encode())
