"""The table that decides, from what both servers look like, where a tenant is: whatever may be read there, exactly one run is right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

VARIABLES = yaml.safe_load(
    (Path(__file__).parents[2] / "roles/shared_to_dedicated/vars/main.yml").read_text(encoding="utf-8")
)


def seen(state: str, lease: str = "none", content: str = "own") -> dict[str, Any]:
    """What ireporter_tenant_info returns, as far as the table asks for it."""
    return {"state": state, "database_content": content, "lease": {"status": lease}}


NEVER_OPENED = seen("closed", content="copy")
BARE = seen("absent", content="absent")
OPENED = seen("open")


@pytest.mark.parametrize(
    ("source", "target", "position"),
    [
        (seen("open"), BARE, "source"),
        (seen("open"), NEVER_OPENED, "source"),
        (seen("open"), seen("closed", content="incomplete"), "source"),
        (seen("frozen", "armed"), NEVER_OPENED, "frozen"),
        (seen("partial", "lost"), NEVER_OPENED, "frozen"),
        (seen("frozen", "disarmed"), NEVER_OPENED, "switching"),
        (seen("partial", "disarmed"), seen("partial", content="copy"), "switching"),
        (seen("frozen", "disarmed"), OPENED, "target"),
        (seen("closed"), OPENED, "target"),
        (seen("absent", content="absent"), OPENED, "target"),
        # Its rows exist nowhere else, so it must not be taken for a copy.
        (seen("frozen", "disarmed"), seen("partial"), "target"),
        (seen("closed"), seen("closed"), "target"),
        (seen("frozen", "disarmed"), seen("frozen", "armed"), "returning"),
        (seen("open"), seen("frozen", "disarmed"), "returning"),
        (seen("open"), OPENED, "both"),
        (BARE, BARE, "absent"),
        (seen("partial", content="absent"), NEVER_OPENED, "absent"),
        (seen("partial"), NEVER_OPENED, "nowhere"),
        (seen("unknown"), NEVER_OPENED, "unknown"),
        (seen("frozen", "armed"), seen("unknown"), "unknown"),
    ],
)
def test_where_the_tenant_is(source: dict[str, Any], target: dict[str, Any], position: str) -> None:
    names = [
        name
        for name in VARIABLES
        if name.startswith(("__shared_to_dedicated_source_", "__shared_to_dedicated_target_"))
    ]
    templar = Templar(
        loader=DataLoader(),
        variables={
            "__shared_to_dedicated_source": source,
            "__shared_to_dedicated_target": target,
            **{name: trust_as_template(VARIABLES[name]) for name in names if name.endswith(("_state", "_lease"))},
        },
    )
    lines = [
        line["position"]
        for line in VARIABLES["__shared_to_dedicated_position_table"]
        if line["holds"] is True or templar.template(trust_as_template(line["holds"]))
    ]
    assert lines[0] == position
