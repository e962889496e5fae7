"""Tables that take every row as it lies on the source while they are loaded, whatever their definitions would say today.

A CHECK may call a function that reads a table whose rows are not there yet, that finds nothing under the empty search
path of a restore, or that has become another one since the rows were written; so may a domain's. A domain that is NOT NULL has
NULLs where a query found no row. A generated column's value is the one that
was computed then. A copy asks neither: it is to hold what the source holds.
"""

from __future__ import annotations

from dataclasses import dataclass

from .database_connection import Connection, query

_STORED = "attgenerated = 's' AND attrelid >= 16384"


@dataclass(frozen=True)
class Loosened:
    """What :func:`loosen` took away, for :func:`tighten`, by numbers of the catalogue.

    :param checks: tables with the number of their CHECKs.
    :param generated: tables with columns.
    :param domains: constraints of domains.
    :param not_null: domains.
    """

    checks: tuple[tuple[int, int], ...]
    generated: tuple[tuple[int, int], ...]
    domains: tuple[int, ...]
    not_null: tuple[int, ...]


def asks_functions(inside: Connection) -> bool:
    """Whether a CHECK of a table or domain calls a function that somebody made, so that a load without :func:`loosen` may fail."""
    return bool(
        query(
            inside,
            "SELECT FROM pg_constraint c JOIN pg_depend d ON d.classid = 'pg_constraint'::regclass AND d.objid = c.oid"
            " WHERE c.contype = 'c' AND d.refclassid = 'pg_proc'::regclass AND d.refobjid >= 16384 LIMIT 1",
        )
    )


def loosen(inside: Connection, *, generated_too: bool = True) -> Loosened:
    """Let the tables of the session's database take every row. A copy that ends before :func:`tighten` is incomplete.

    :param generated_too: the values of generated columns come along. A dump has none: there they are computed anew.
    """
    generated: list[tuple[int, int]] = []
    with inside.transaction():
        checks = query(inside, "SELECT oid, relchecks FROM pg_class WHERE relchecks > 0 AND oid >= 16384")
        inside.execute("UPDATE pg_class SET relchecks = 0 WHERE relchecks > 0 AND oid >= 16384")
        # A constraint of an unknown kind is none that a domain asks.
        domains = query(
            inside,
            "UPDATE pg_constraint SET contype = '-' WHERE contype = 'c' AND contypid >= 16384 RETURNING oid",
        )
        not_null = query(
            inside,
            "UPDATE pg_type SET typnotnull = false WHERE typnotnull AND typtype = 'd' AND oid >= 16384 RETURNING oid",
        )
        if generated_too and inside.info.server_version >= 120000:
            generated += query(
                inside,
                f"UPDATE pg_attribute SET attgenerated = '' WHERE {_STORED} RETURNING attrelid, attnum",  # noqa: S608
            )
    return Loosened(
        checks=tuple((row[0], row[1]) for row in checks),
        generated=tuple(generated),
        domains=tuple(row[0] for row in domains),
        not_null=tuple(row[0] for row in not_null),
    )


def tighten(inside: Connection, loosened: Loosened) -> None:
    """Put back what :func:`loosen` took away."""
    with inside.transaction():
        for table, number in loosened.checks:
            inside.execute("UPDATE pg_class SET relchecks = %s WHERE oid = %s", (number, table))
        inside.execute("UPDATE pg_constraint SET contype = 'c' WHERE oid = ANY (%s)", (list(loosened.domains),))
        inside.execute("UPDATE pg_type SET typnotnull = true WHERE oid = ANY (%s)", (list(loosened.not_null),))
        for table, column in loosened.generated:
            inside.execute(
                "UPDATE pg_attribute SET attgenerated = 's' WHERE attrelid = %s AND attnum = %s", (table, column)
            )
