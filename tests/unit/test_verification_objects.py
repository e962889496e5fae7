"""Schema texts are compared object by object; the list of expected differences is closed."""

from __future__ import annotations

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
