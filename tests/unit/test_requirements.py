"""requirements.yml (Galaxy, AWX) and the pinned `ansible` package must offer the same collections."""

from __future__ import annotations

import json
import re
from pathlib import Path

import ansible_collections
import pytest
import yaml
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[2]
COLLECTIONS = Path(next(iter(ansible_collections.__path__)))
REQUIRED = {
    entry["name"]: entry["version"] for entry in yaml.safe_load((ROOT / "requirements.yml").read_text())["collections"]
}


@pytest.mark.parametrize("name", sorted(REQUIRED))
def test_what_ansible_ships_satisfies_the_range(name: str) -> None:
    manifest = json.loads((COLLECTIONS / name.replace(".", "/") / "MANIFEST.json").read_text())
    shipped = manifest["collection_info"]["version"]
    assert shipped in SpecifierSet(REQUIRED[name]), f"{name} {shipped} is outside {REQUIRED[name]}"


def test_every_collection_used_is_required_and_every_required_one_is_used() -> None:
    used: set[str] = set()
    for folder in ("playbooks", "roles", "molecule", "inventories"):
        for path in (ROOT / folder).rglob("*.yml"):
            for namespace, name in re.findall(
                r"\b(ansible|community|containers)\.(\w+)\.\w+", path.read_text(encoding="utf-8")
            ):
                if (namespace, name) != ("ansible", "builtin"):
                    used.add(f"{namespace}.{name}")
    assert used == set(REQUIRED)
