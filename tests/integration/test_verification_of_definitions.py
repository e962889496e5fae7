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


BROUGHT = """
CREATE EXTENSION acme_config; CREATE EXTENSION hstore; CREATE EXTENSION ltree; CREATE EXTENSION cube;
CREATE TABLE important (id int PRIMARY KEY); CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1';
"""
# What is done to one side, what must be named.
ON_ONE_SIDE = {
    "an index on an extension's table": ("CREATE INDEX mine ON acme_entry (note)", ("extension's table", "public.acme_entry: index public.mine")),
    "a constraint": ("ALTER TABLE acme_entry ADD CONSTRAINT mine CHECK (id > 0)", ("extension's table", "public.acme_entry: constraint mine")),
    "a trigger": (
        "CREATE TRIGGER mine BEFORE UPDATE ON acme_kind FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        ("extension's table", "public.acme_kind: trigger mine"),
    ),
    "row-level security": ("ALTER TABLE acme_kind ENABLE ROW LEVEL SECURITY", ("extension's table", "public.acme_kind")),
    "a column's comment": ("COMMENT ON COLUMN acme_kind.name IS 'mine'", ("extension's table", "public.acme_kind: column name")),
    "a column": ("ALTER TABLE acme_kind ADD mine int", ("extension's table", "public.acme_kind: column mine")),
    "a member": ("ALTER EXTENSION hstore ADD TABLE important", ("extension member", "table important")),
    "a member less": ("ALTER EXTENSION ltree DROP FUNCTION lca(ltree[])", ("extension member", "function lca(ltree[])")),
    "a built-in search configuration": (
        "ALTER TEXT SEARCH CONFIGURATION pg_catalog.english ALTER MAPPING FOR asciiword WITH simple", ("built-in", "text search configuration english"),
    ),
    "a built-in search dictionary": (
        "ALTER TEXT SEARCH DICTIONARY pg_catalog.german_stem (StopWords)", ("built-in", "text search dictionary german_stem"),
    ),
    "a built-in language": ("REVOKE USAGE ON LANGUAGE sql FROM PUBLIC", ("built-in", "language sql")),
    "a built-in family": (
        "CREATE FUNCTION less(int, text) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT true';"
        "CREATE OPERATOR <<< (LEFTARG = int, RIGHTARG = text, FUNCTION = less);"
        "ALTER OPERATOR FAMILY integer_ops USING btree ADD OPERATOR 1 <<< (int, text)",
        ("built-in", "operator 1 (integer, pg_catalog.text) of pg_catalog.integer_ops USING btree"),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def brought(cluster: Cluster) -> Iterator[set[tuple[str, str]]]:
    """The differences of two databases with the same extensions, after all changes to one; before them there was none."""
    for name in ("brought", "brought_too"):
        cluster.execute("postgres", f"CREATE DATABASE {name}")
        cluster.execute(name, BROUGHT)
    source, target = cluster.conninfo("brought"), cluster.conninfo("brought_too")
    assert named(source, target) == set()
    cluster.execute("brought", ";\n".join(change for change, _ in ON_ONE_SIDE.values()))
    assert named(target, source) == named(source, target)
    yield named(source, target)
    cluster.execute("postgres", "DROP DATABASE brought")
    cluster.execute("postgres", "DROP DATABASE brought_too")


@pytest.mark.parametrize("change", ON_ONE_SIDE)
def test_a_change_to_what_came_from_elsewhere_is_named(brought: set[tuple[str, str]], change: str) -> None:
    assert ON_ONE_SIDE[change][1] in brought, brought
