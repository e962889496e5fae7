"""Schema texts are compared object by object; the list of expected differences is closed."""

from __future__ import annotations

import pytest
from ireporter.verification_exceptions import split
from ireporter.verification_objects import compare_schema

TEXT = """
-- Dumped from database version 15.1

\\restrict one
SET row_security = off;

--
-- Name: plain; Type: TABLE; Schema: public; Owner: someone
--

CREATE TABLE public.plain (
    id integer
);

--
-- Name: TABLE plain; Type: ACL; Schema: public; Owner: someone
--

GRANT SELECT ON TABLE public.plain TO a;
GRANT SELECT ON TABLE public.plain TO b;
"""
LINKAGE = """
--
-- Name: report_12_s_1; Type: TABLE; Schema: public; Owner: someone
--

CREATE TABLE public.report_12_s_1 ();
"""


def test_equal_whatever_the_order_of_grants_and_the_version_of_the_server() -> None:
    other = TEXT.replace("15.1", "15.2").replace("restrict one", "restrict two")
    first, second = "GRANT SELECT ON TABLE public.plain TO a;", "GRANT SELECT ON TABLE public.plain TO b;"
    other = other.replace(first, "X").replace(second, first).replace("X", second)
    assert compare_schema(TEXT, other, structure=False) == ([], 2)


def test_an_owner_is_a_difference() -> None:
    found, _ = compare_schema(TEXT, TEXT.replace("Owner: someone", "Owner: other", 1), structure=False)
    assert found == [
        {"kind": "object", "object": "TABLE public.plain", "source": "owner someone", "target": "owner other"}
    ]


FUNCTION = """
--
-- Name: f(); Type: FUNCTION; Schema: public; Owner: someone
--

CREATE FUNCTION public.f() RETURNS text
    LANGUAGE sql
    AS $$SELECT 'BODY'$$;


--
-- PostgreSQL database dump complete
--

"""


@pytest.mark.parametrize(
    ("body", "other"),
    [
        ("a\n\nb", "a\nb"),
        ("a\n--\nb", "a\nb"),
        ("a\n-- Dumped 1\nb", "a\n-- Dumped 2\nb"),
        ("a\n\\restrict one\nb", "a\n\\restrict two\nb"),
        ("a\n\\unrestrict one\nb", "a\nb"),
        ("a\nSET default_table_access_method = x;\nb", "a\nb"),
        *((f"a{end}b", "a\nb") for end in ("\r\n", "\x0b", "\x0c", "\x85", "\u2028")),
        ("a \nb", "a\nb"),
    ],
)
def test_nothing_inside_of_a_definition_is_left_out(body: str, other: str) -> None:
    ours, theirs = (TEXT + FUNCTION.replace("BODY", text) for text in (body, other))
    for source, target in ((ours, theirs), (theirs, ours)):
        found, _ = compare_schema(source, target, structure=False)
        assert [row["object"] for row in found] == ["FUNCTION public.f()"]
        assert found[0]["source"] != found[0]["target"]
    assert compare_schema(ours, ours, structure=False)[0] == []


def test_a_grant_belongs_to_who_gave_it() -> None:
    def acl(*grants: tuple[str, str]) -> str:
        return TEXT + "".join(
            f"SET SESSION AUTHORIZATION {grantor};\nGRANT SELECT ON TABLE public.plain TO {role};\nRESET SESSION AUTHORIZATION;\n"
            for role, grantor in grants
        )

    ours = acl(("r1", "g1"), ("r2", "g2"))
    found, _ = compare_schema(ours, acl(("r2", "g1"), ("r1", "g2")), structure=False)
    assert [row["object"] for row in found] == ["ACL public.TABLE plain"]
    assert found[0]["source"] != found[0]["target"]
    assert compare_schema(ours, acl(("r2", "g2"), ("r1", "g1")), structure=False)[0] == []


def test_a_name_with_the_end_of_a_statement_stays_whole() -> None:
    def acl(*names: str) -> str:
        return TEXT + "".join(f'GRANT SELECT ON TABLE public.plain TO "{name}";\n' for name in names)

    assert compare_schema(acl("a;\nb", "c;\nd"), acl("c;\nd", "a;\nb"), structure=False)[0] == []
    assert compare_schema(acl("a;\nb", "c;\nd"), acl("c;\nb", "a;\nd"), structure=False)[0] != []


def test_linkage_objects_may_be_more_on_a_target_at_work() -> None:
    assert compare_schema(TEXT, TEXT + LINKAGE, structure=True)[0] == []
    assert [row["source"] for row in compare_schema(TEXT, TEXT + LINKAGE, structure=False)[0]] == ["absent"]
    assert [row["target"] for row in compare_schema(TEXT + LINKAGE, TEXT, structure=True)[0]] == ["absent"]


def test_only_what_has_the_expected_value_is_expected() -> None:
    own = {
        "kind": "role password",
        "object": "app",
        "source": "password verifier 12ab",
        "target": "password verifier 34cd",
    }
    lost = own | {"target": "absent"}
    marker = {"kind": "database setting", "object": "ireporter_migration.copy_of", "source": "absent", "target": "1/2"}
    forged = marker | {"target": "anything"}
    real, expected = split([own, lost, marker, forged])
    assert real == [lost, forged]
    assert [row["object"] for row in expected] == ["app", "ireporter_migration.copy_of"]
    assert all(row["reason"] for row in expected)
