"""The lab's inventory, as script/lab up writes it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lab import credentials, inventory, tenants
from tests.unit.test_lab_configuration import NETWORKS


def test_tenants_are_grouped_by_the_kind_of_their_migration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "STATE", tmp_path / "state")
    monkeypatch.setattr(inventory, "FOLDER", tmp_path / "inventory")
    inventory.write(NETWORKS, tenants.Package(tmp_path / "ireporter-standin_8.2_all.deb", "0"))
    written = yaml.safe_load((tmp_path / "inventory" / "hosts.yml").read_text())["tenants"]
    assert set(written["hosts"]) == {tenant.name for tenant in tenants.TENANTS}
    groups = {name: set(group["hosts"]) for name, group in written["children"].items()}
    assert groups == {"to_dedicated": {"acme"}, "to_self_hosted": {"bravo"}}
    # Only who moves to a server of ours has one.
    targets = {}
    for group in inventory.CHECKOUT.glob("inventories/lab/group_vars/*"):
        for path in group.glob("*.yml"):
            if "ireporter_target" in (values := yaml.safe_load(path.read_text())):
                targets[group.name] = values["ireporter_target"]
    assert targets == {"to_dedicated": "dedicated01", "to_self_hosted": ""}
