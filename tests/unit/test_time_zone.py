"""The control node may live in any time zone."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=["UTC", "Asia/Tokyo", "America/New_York"], autouse=True)
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def template(text: str) -> str:
    return str(Templar(loader=DataLoader(), variables={}).template(trust_as_template(text)))


def test_the_clock_that_servers_are_compared_with() -> None:
    tasks = yaml.safe_load((ROOT / "roles/ireporter_tenant/tasks/clock.yml").read_text(encoding="utf-8"))
    for asked in (
        tasks[0]["ansible.builtin.set_fact"]["__ireporter_tenant_asked_at"],
        tasks[2]["vars"]["__ireporter_tenant_answered_at"],
    ):
        assert float(template(asked)) == pytest.approx(time.time(), abs=5)


def test_seconds_as_the_other_roles_ask_for_them() -> None:
    assert int(template("{{ '%s' | ansible.builtin.strftime | int }}")) == pytest.approx(time.time(), abs=5)


def test_no_role_takes_a_time_without_a_zone_for_local_time() -> None:
    for path in [*ROOT.glob("roles/**/*.yml"), *ROOT.glob("inventories/**/*.yml"), *ROOT.glob("playbooks/*.yml")]:
        assert not re.search(r"now\([^)]*\)\.(timestamp|strftime\('%s)", path.read_text(encoding="utf-8")), path
