"""Settings and grants as statements: what was stored comes back, whatever is in it."""

from __future__ import annotations

import pytest
from ireporter.database_settings import Grant, grant_statements, set_clause, split_list


@pytest.mark.parametrize(
    ("stored", "elements"),
    [
        ('"$user", public', ["$user", "public"]),
        ('""', [""]),
        ("", []),
        ('"a""b, c",d', ['a"b, c', "d"]),
        ('"帳票 schema"', ["帳票 schema"]),
    ],
)
def test_lists_are_taken_apart(stored: str, elements: list[str]) -> None:
    assert split_list(stored) == elements


@pytest.mark.parametrize(
    ("setting", "clause"),
    [
        ("work_mem=5MB", "SET \"work_mem\" = '5MB'"),
        ('search_path="$user", public', "SET \"search_path\" = '$user', 'public'"),
        ("search_path=", "SET \"search_path\" = ''"),
        ("ireporter.site=a'b=c; DROP", "SET \"ireporter\".\"site\" = 'a''b=c; DROP'"),
    ],
)
def test_a_setting_is_quoted(setting: str, clause: str) -> None:
    assert set_clause(setting) == clause


def test_grants_of_others_are_given_in_their_name() -> None:
    statements = list(
        grant_statements('DATABASE "d"', "o", [Grant("g", None, "CONNECT", False), Grant("o", "g", "CONNECT", True)])
    )
    assert statements == [
        'REVOKE ALL ON DATABASE "d" FROM PUBLIC',
        'REVOKE ALL ON DATABASE "d" FROM "o"',
        'GRANT CONNECT ON DATABASE "d" TO "g" WITH GRANT OPTION',
        'SET LOCAL SESSION AUTHORIZATION "g"',
        'GRANT CONNECT ON DATABASE "d" TO PUBLIC',
        "RESET SESSION AUTHORIZATION",
    ]
