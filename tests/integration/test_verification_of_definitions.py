"""What a definition holds in its lines, and what pg_dump's text says nothing about, is compared, too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ireporter import database_copy, verification

from .conftest import Cluster

pytestmark = pytest.mark.integration


def named(source: str, target: str) -> set[tuple[str, str]]:
    rows = verification.run({"source": source, "target": target}, lambda progress: None)["differences"]
    assert isinstance(rows, list)
    return {(row["kind"], row["object"]) for row in rows}


MADE = r"""
CREATE TABLE lines (a text DEFAULT E'p\r\nq', b int);
COMMENT ON TABLE lines IS E'x\n\ny';
CREATE FUNCTION body() RETURNS text LANGUAGE sql AS E'SELECT \'a\n\nb\'';
CREATE FUNCTION dumped() RETURNS text LANGUAGE sql AS E'SELECT \'\n-- Dumped 1\n\'';
CREATE ROLE lines_g1; CREATE ROLE lines_g2; CREATE ROLE lines_r1; CREATE ROLE lines_r2;
GRANT SELECT ON lines TO lines_g1, lines_g2 WITH GRANT OPTION;
SET ROLE lines_g1; GRANT SELECT ON lines TO lines_r1;
SET ROLE lines_g2; GRANT SELECT ON lines TO lines_r2;
RESET ROLE;
CREATE TABLE parent (a int); CREATE TABLE child () INHERITS (parent);
ALTER TABLE parent ADD CONSTRAINT positive CHECK (a > 0) NOT VALID;
"""
# What is done to the copy, what must be named.
CHANGES = {
    "a blank line in a body": (r"CREATE OR REPLACE FUNCTION body() RETURNS text LANGUAGE sql AS E'SELECT \'a\nb\''", ("object", "FUNCTION public.body()")),
    "a line like pg_dump's own": (
        r"CREATE OR REPLACE FUNCTION dumped() RETURNS text LANGUAGE sql AS E'SELECT \'\n-- Dumped 2\n\''", ("object", "FUNCTION public.dumped()"),
    ),
    "a blank line in a comment": (r"COMMENT ON TABLE lines IS E'x\ny'", ("object", "COMMENT public.TABLE lines")),
    "a carriage return in a default": (r"ALTER TABLE lines ALTER a SET DEFAULT E'p\nq'", ("object", "TABLE public.lines")),
    "who gave a grant": (
        "SET ROLE lines_g1; REVOKE SELECT ON lines FROM lines_r1; GRANT SELECT ON lines TO lines_r2; "
        "SET ROLE lines_g2; REVOKE SELECT ON lines FROM lines_r2; GRANT SELECT ON lines TO lines_r1; RESET ROLE",
        ("object", "ACL public.TABLE lines"),
    ),
    "an inherited constraint validated": ("ALTER TABLE child VALIDATE CONSTRAINT positive", ("constraint", "positive on public.child")),
}  # fmt: skip


@pytest.fixture(scope="module")
def changed(cluster: Cluster, second_cluster: Cluster) -> Iterator[set[tuple[str, str]]]:
    """The differences of a copy after all changes; before them there was none."""
    cluster.execute("postgres", "CREATE DATABASE lines")
    cluster.execute("lines", MADE)
    source, target = cluster.conninfo("lines"), second_cluster.conninfo("lines")
    database_copy.run({"source": source, "target": target}, lambda progress: None)
    assert named(source, target) == set()
    second_cluster.execute("lines", ";\n".join(change for change, _ in CHANGES.values()))
    yield named(source, target)
    for server in (cluster, second_cluster):
        server.execute("postgres", "DROP DATABASE lines WITH (FORCE); DROP ROLE lines_g1, lines_g2, lines_r1, lines_r2")


@pytest.mark.parametrize("change", CHANGES)
def test_it_is_named(changed: set[tuple[str, str]], change: str) -> None:
    assert CHANGES[change][1] in changed, changed


def test_nothing_else_is_named(changed: set[tuple[str, str]]) -> None:
    assert changed == {pair for _, pair in CHANGES.values()}
