"""What is told of PostgreSQL's programs that fail."""

from __future__ import annotations

import pytest
from ireporter.database_schema import call
from ireporter.errors import MigrationError

_SAID = "pg_restore: error: could not execute query: ERROR:  it is there already"


@pytest.mark.parametrize("quotation", ["Command was: CREATE USER MAPPING", "LINE 1: CREATE USER MAPPING", ""])
def test_a_failed_statement_is_not_quoted(quotation: str) -> None:
    said = f"{_SAID}\n{quotation} FOR PUBLIC OPTIONS (\n    password 'canary'\n);" if quotation else _SAID
    with pytest.raises(MigrationError) as raised:
        call(["sh", "-c", 'echo "$0" >&2; exit 1', said], "Making it")
    assert str(raised.value).startswith(f"Making it failed: {_SAID}")
    assert "canary" not in str(raised.value)
    assert "USER MAPPING" not in str(raised.value)


def test_a_program_that_says_nothing() -> None:
    with pytest.raises(MigrationError, match="Making it failed: exit status 3"):
        call(["sh", "-c", "exit 3"], "Making it")
