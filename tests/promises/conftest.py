"""Promises are tested on the lab."""

from __future__ import annotations

import subprocess

import pytest
from playing import ROOT, Lab


@pytest.fixture(scope="session")
def lab() -> Lab:
    """The lab is up; tests say themselves from which state they start."""
    subprocess.run(["script/lab", "up"], cwd=ROOT, check=True, timeout=1200)
    return Lab()
