"""docs/by-hand.md reopens a frozen tenant without Ansible; its commands are executed literally."""

from __future__ import annotations

import re

import pytest
from playing import ROOT, SHORT_LOCK, Lab

pytestmark = [
    pytest.mark.lab,
    pytest.mark.promise("The tenant can be reopened without Ansible"),
]

BLOCKS = re.findall(
    r"^```(?:bash|sh) (by-hand-\w+)\n(.*?)^```", (ROOT / "docs" / "by-hand.md").read_text(), re.M | re.S
)


def test_the_page_has_both_ways() -> None:
    assert {name for name, _ in BLOCKS} == {"by-hand-tool", "by-hand-stock"}


@pytest.mark.slow
@pytest.mark.parametrize("way", ["by-hand-tool", "by-hand-stock"])
def test_the_commands_reopen_the_tenant(lab: Lab, way: str) -> None:
    lab.prepare()
    killed = lab.play_and_at(
        "Copy | Database", "SIGKILL", "shared_to_dedicated", "-e", "shared_to_dedicated_lease_seconds=3600", *SHORT_LOCK
    )
    assert killed.returncode == -9, killed.output[-5000:]
    assert not lab.serves("shared01")
    for name, commands in BLOCKS:
        if name == way:
            lab.on("shared01", "set -e\n" + commands)
    assert lab.serves("shared01")
    assert (
        lab.sql("shared01", "postgres", "SELECT datconnlimit FROM pg_database WHERE datname = 'irepodb_acme'") == "-1"
    )
    lab.on(
        "shared01",
        "setpriv --reuid ireporter-acme --regid ireporter-acme --clear-groups touch /srv/ireporter/acme/output/.by-hand && rm /srv/ireporter/acme/output/.by-hand",
    )
