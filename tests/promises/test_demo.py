"""script/demo: a tenant moves under load, nothing is lost, no neighbour notices."""

from __future__ import annotations

import json
import subprocess

import pytest
from playing import ROOT

pytestmark = [
    pytest.mark.lab,
    pytest.mark.promise("No acknowledged write is lost under load, and no neighbour notices"),
]


def test_nothing_is_lost_under_load() -> None:
    process = subprocess.run(["script/demo"], cwd=ROOT, capture_output=True, text=True, timeout=1800, check=False)
    assert process.returncode == 0, process.stdout[-4000:] + process.stderr[-2000:]
    summary = json.loads((ROOT / "build" / "demo" / "summary.json").read_text(encoding="utf-8"))
    assert summary["acknowledged_writes"] > 1000
    assert summary["acknowledged_writes_lost"] == 0
    assert summary["differences"] == 0
    assert summary["neighbour_failed_requests"] == 0
    assert summary["shortcomings"] == []
