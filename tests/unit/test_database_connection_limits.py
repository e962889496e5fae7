"""No session of a copy has a limit of time, also where only newer servers know it."""

from __future__ import annotations

from types import SimpleNamespace

import psycopg
import pytest
from ireporter.database_connection import Address, unlimited


@pytest.mark.parametrize(
    ("version", "limits"),
    [(130000, set()), (150000, {"idle_session_timeout"}), (170000, {"idle_session_timeout", "transaction_timeout"})],
)
def test_limits_are_lifted_where_the_server_knows_them(
    monkeypatch: pytest.MonkeyPatch, version: int, limits: set[str]
) -> None:
    said: list[str] = []
    session = SimpleNamespace(info=SimpleNamespace(server_version=version), execute=said.append)
    monkeypatch.setattr(psycopg, "connect", lambda *_, **__: session)
    Address.parse("dbname=x", "source").connect_raw()
    assert set(said) == {f"SET {limit} = 0" for limit in limits}
    assert unlimited(version) == ("-c transaction_timeout=0" if "transaction_timeout" in limits else "")
