"""How tables are cut into parts, and which form they travel in."""

from __future__ import annotations

from dataclasses import replace

from ireporter.database_catalog import Column, Table, Type, carries_numbers
from ireporter.database_transfer import cut, needs_text

INTEGER = Type(23, "int4", "pg_catalog", "b", 0, 0, False, 0, True, '"pg_catalog"."int4send"', "integer")
COLOUR = replace(INTEGER, oid=20000, name="colour", schema="public", kind="e", send_function='"pg_catalog"."enum_send"')
COLOURS = replace(INTEGER, oid=20001, name="_colour", schema="public", element=20000, is_array=True)
BELOW = replace(INTEGER, oid=20002, name="below", schema="public", kind="d", base=20001)
COMPOSITE = replace(INTEGER, oid=20003, name="address", schema="public", kind="c")
REGCLASS = replace(INTEGER, oid=2205, name="regclass")
REGCLASSES = replace(INTEGER, oid=2210, name="_regclass", element=2205, is_array=True)
GRANTS = replace(INTEGER, oid=1033, name="aclitem", has_binary=False)
TYPES = {t.oid: t for t in (INTEGER, COLOUR, COLOURS, BELOW, COMPOSITE, REGCLASS, REGCLASSES, GRANTS)}


def table(size: int, *, kind: str = "r", name: str = "t", columns: tuple[Column, ...] | None = None) -> Table:
    columns = (Column("a", INTEGER, False),) if columns is None else columns
    return Table("public", name, kind, True, size, size // 8192, "", False, columns)


def test_large_tables_are_cut_without_a_gap() -> None:
    parts = cut([table(1 << 30)], ranges=True, jobs=2)
    parts.sort(key=lambda part: part.first or 0)
    assert len(parts) == 10
    assert parts[0].first == 0
    assert [part.end for part in parts[:-1]] == [part.first for part in parts[1:]]
    assert parts[-1].end is None


def test_the_largest_part_comes_first() -> None:
    parts = cut(
        [table(10, name="small"), table(200 << 20, name="large"), table(50 << 20, name="middle")], ranges=True, jobs=2
    )
    assert [part.table.name for part in parts] == ["large", "large", "middle", "small"]


def test_what_cannot_be_cut_is_not() -> None:
    assert len(cut([table(1 << 30)], ranges=False, jobs=2)) == 1
    assert len(cut([table(1 << 30)], ranges=True, jobs=1)) == 1
    assert len(cut([table(1 << 30, columns=())], ranges=True, jobs=2)) == 1
    assert len(cut([table(1 << 30, kind="m")], ranges=True, jobs=2)) == 1
    assert cut([replace(table(1, kind="m"), populated=False)], ranges=True, jobs=2) == []


def test_generated_columns_are_read_as_they_are_stored() -> None:
    part = cut([table(1, columns=(Column('q"', INTEGER, False), Column("g", INTEGER, True)))], ranges=True, jobs=2)[0]
    assert part.source_statement(False) == 'COPY (SELECT "q""", "g" FROM ONLY "public"."t" ) TO STDOUT (FORMAT binary)'
    assert part.target_statement(True) == 'COPY "public"."t" ("q""", "g") FROM STDIN (FORMAT text)'


def test_plain_tables_are_read_without_a_query() -> None:
    part = cut([table(1)], ranges=True, jobs=2)[0]
    assert part.source_statement(False) == 'COPY "public"."t" ("a") TO STDOUT (FORMAT binary)'


def test_xml_travels_as_the_text_that_is_stored() -> None:
    xml = replace(INTEGER, oid=142, name="xml")
    part = cut([table(1, columns=(Column("x", xml, False, '"x"::xml::text'),))], ranges=True, jobs=2)[0]
    assert needs_text(part.table, same_major=True)
    assert part.source_statement(True) == 'COPY (SELECT "x"::xml::text FROM ONLY "public"."t" ) TO STDOUT (FORMAT text)'


def test_types_whose_binary_form_holds_numbers_of_the_catalogue() -> None:
    assert [t.name for t in TYPES.values() if carries_numbers(TYPES, t.oid)] == [
        "_colour", "below", "address", "regclass", "_regclass", "aclitem",
    ]  # fmt: skip


def test_own_types_travel_as_text_between_major_versions() -> None:
    own = table(1, columns=(Column("a", COLOUR, False),))
    assert not needs_text(own, same_major=True)
    assert needs_text(own, same_major=False)
    assert not needs_text(table(1), same_major=False)
    assert needs_text(replace(own, carries_numbers=frozenset({"a"})), same_major=True)
