"""What an import is made of, without a server: statements, names, rules, the journal, the bag's texts."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ireporter import import_journal, import_rules
from ireporter.bundle_contents import _script
from ireporter.bundle_format import ABOUT, BASE, CREATION, ROLES, SETTINGS
from ireporter.database_connection import identifier, literal
from ireporter.database_roles import Role, creation_statements
from ireporter.errors import MigrationError
from ireporter.import_bag import Bag
from ireporter.import_journal import Journal, TreeNote
from ireporter.import_names import database_name, tree_path
from ireporter.import_wish import parse
from ireporter.sql_statements import split_statements

NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(st.lists(st.tuples(NAMES, NAMES), max_size=5))
def test_statements_come_apart_as_they_were_put_together(pairs: list[tuple[str, str]]) -> None:
    statements = [f"COMMENT ON ROLE {identifier(name)} IS {literal(text)}" for name, text in pairs]
    assert list(split_statements(_script("-- head; 'of it\n", statements).decode())) == [
        "SET standard_conforming_strings = on",
        *statements,
    ]


@given(NAMES, NAMES)
def test_the_variable_is_the_database_s_name_outside_of_quotes_only(name: str, text: str) -> None:
    quoted = literal(f':"DBNAME" {text}')
    (found,) = split_statements(f':"DBNAME" IS {quoted};', identifier(name))
    assert found == f"{identifier(name)} IS {quoted}"


@pytest.mark.parametrize("text", ["SELECT 1", "SELECT 'a", 'SELECT "a;', "SELECT 1; SELECT"])
def test_what_is_not_ended_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not"):
        list(split_statements(text))


def test_names_fit_and_are_nobody_else_s() -> None:
    assert database_name("irepodb", "before", "acme-i-20260101t000000z") == "irepodb_before_acme-i-20260101t000000z"
    long = "a" * 31
    made = {
        database_name(f"irepodb_{long}", kind, f"{long}-i-2026010{day}t000000z")
        for kind in ("import", "before", "returned")
        for day in range(1, 4)
    }
    assert len(made) == 9
    assert all(len(name.encode()) <= 63 for name in made)
    assert tree_path(Path("/srv/帳票"), "import", "x") == Path("/srv/帳票_import_x")
    assert len(tree_path(Path("/srv") / ("が" * 80), "import", "x" * 81).name.encode()) <= 255


RULE = {"name": "r", "reason": "why", "table": "t", "column": "c", "value": "x"}


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"reason": ""}, "reason is missing"),
        ({"table": None}, "table is missing"),
        ({"part": "a"}, "value, or both part and by"),
        ({"value": None, "part": "a"}, "value, or both part and by"),
        ({"value": None, "part": "", "by": "x"}, "value, or both part and by"),
        ({"when": [{"column": "c"}]}, "one comparison"),
        ({"when": [{"column": "c", "equals": "a", "contains": "b"}]}, "one comparison"),
        ({"when": [{"equals": "a"}]}, "column is missing"),
    ],
)
def test_rules_that_say_nothing_or_two_things(changed: dict[str, Any], why: str) -> None:
    with pytest.raises(MigrationError, match=r"\(import-rules\)") as refused:
        import_rules.parse_value_rules([{**RULE, **changed}])
    assert why in refused.value.happened


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x", "."])
def test_files_outside_of_their_tree(path: str) -> None:
    with pytest.raises(MigrationError):
        import_rules.parse_file_rules([{"name": "r", "reason": "why", "tree": "output", "path": path}])


def test_rules_are_told_apart() -> None:
    one = import_rules.parse_value_rules([RULE])
    assert import_rules.digest(one, ()) == import_rules.digest(import_rules.parse_value_rules([dict(RULE)]), ())
    assert import_rules.digest(one, ()) != import_rules.digest(
        import_rules.parse_value_rules([{**RULE, "value": "y"}]), ()
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"import_id": "../x"},
        {"tenant": "Acme"},
        {"database": "host=x password=y dbname=z"},
        {"database": "host=x"},
        {"file_trees": [{"name": "a", "path": "/srv/a"}, {"name": "b", "path": "/srv/a/b"}]},
        {"file_trees": [{"name": "a", "path": "/srv/a"}, {"name": "a", "path": "/srv/b"}]},
        {"file_trees": [{"name": "a", "path": "srv"}]},
    ],
)
def test_wishes_that_cannot_be(changed: dict[str, Any]) -> None:
    good = {"tenant": "acme", "import_id": "acme-i-1", "database": "host=/x dbname=irepodb"}
    assert parse(good).address("other").database == "other"
    with pytest.raises(MigrationError):
        parse({**good, **changed})


def journal() -> Journal:
    tree = TreeNote("output", "/srv/output", "/srv/w", "/srv/b", "/srv/r")
    return Journal("acme", "acme-i-1", "acme-s-1", import_journal.RESTORING, "d", "a", "b", "r", (tree,), roles=("x",))


def test_the_journal_is_what_was_written(tmp_path: Path) -> None:
    folder = tmp_path / "acme" / "acme-i-1"
    assert import_journal.read(folder) is None
    written = import_journal.write(folder, journal(), "2026-01-01T00:00:00+00:00")
    assert import_journal.read(folder) == written
    later = import_journal.write(folder, replace(written, phase=import_journal.SWAPPED), "2026-01-02T00:00:00+00:00")
    assert later.at == {"restoring": "2026-01-01T00:00:00+00:00", "swapped": "2026-01-02T00:00:00+00:00"}
    assert import_journal.of_tenant(tmp_path, "acme") == [(folder, later)]
    assert (folder / import_journal.FILE).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("broken", ["{", "[]", '{"format": 2}', '{"format": 1, "phase": "restored"}'])
def test_a_journal_nobody_understands_is_no_empty_one(tmp_path: Path, broken: str) -> None:
    (tmp_path / import_journal.FILE).write_text(broken)
    with pytest.raises(MigrationError, match=r"\(import-journal\)"):
        import_journal.read(tmp_path)


def role(name: str, **more: Any) -> Role:
    attributes = {
        "superuser": True, "inherit": True, "createrole": True, "createdb": True, "login": True, "replication": True,
        "bypassrls": True, "connection_limit": 5, "valid_until": "2099-01-01 00:00:00+00",
    }  # fmt: skip
    given = {"comment": None, "settings": (), "database_settings": (), "member_of": {}, **more}
    return Role(name=name, bootstrap=False, attributes=attributes, verifier="SCRAM-SHA-256$x", **given)


def bag(folder: Path, **texts: bytes) -> Bag:
    data = folder / BASE / "data"
    data.mkdir(parents=True)
    about = {"format": "ireporter-bundle", "version": 1, "tenant": "acme", "migration_id": "acme-s-1"}
    for name, text in {ABOUT: json.dumps(about).encode(), ROLES: b"", CREATION: b"", SETTINGS: b"", **texts}.items():
        (folder / BASE / name).write_bytes(text)
    return Bag(folder)


@given(NAMES, NAMES)
def test_every_role_that_an_export_writes_is_understood(name: str, text: str) -> None:
    roles = [
        role(f"a{name}", comment=text, settings=('search_path="$user", public', f"acme.note={text}")),
        role(f"b{name}", member_of={f"a{name}": True, "pg_monitor": False}),
    ]
    written = _script("-- Roles.\n", creation_statements(roles))
    # Hypothesis and fixtures of a function do not go together.
    with tempfile.TemporaryDirectory() as folder:
        found = bag(Path(folder), **{ROLES: written}).role_statements()
    assert [one.creates for one in found if one.creates] == [f"a{name}", f"b{name}"]
    assert len(found) == len(list(creation_statements(roles)))


@pytest.mark.parametrize(
    "statement",
    [
        'GRANT CONNECT ON DATABASE "other" TO PUBLIC',
        'ALTER DATABASE "other" OWNER TO x',
        "DROP DATABASE irepodb",
        "COPY (SELECT 1) TO PROGRAM 'x'",
        'ALTER ROLE "x" SUPERUSER',
    ],
)
def test_settings_of_something_else_than_the_database(tmp_path: Path, statement: str) -> None:
    with pytest.raises(MigrationError, match=r"\(bundle-content\)"):
        bag(tmp_path, **{SETTINGS: f"{statement};\n".encode()}).database_statements('"irepodb"')
