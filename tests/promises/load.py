"""Tablets of ``acme`` and of its neighbours that work while a test breaks something, and what they were told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from playing import ROOT

from lab.load_configuration import write_load_configuration

_CLIENT = [sys.executable, "lab/load_client.py"]


class Load:
    """A few tablets, bounded in count and time; light enough to leave the two cores to the migration."""

    def __init__(self, folder: Path, *, seconds: int = 1200) -> None:
        self._seconds = seconds
        self._configuration = write_load_configuration(folder / "load.json")
        self._journal = folder / "writes.jsonl"
        self._summary = folder / "summary.json"
        self._log = folder / "load.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Load:
        self._process = subprocess.Popen(
            [
                *(*_CLIENT, "run", *self._files(), "--summary", str(self._summary), "--seconds", str(self._seconds)),
                *("--tablets", "4", "--writes-per-second", "4", "--requests-per-second", "4", "--timeout", "10"),
            ],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=self._log.open("wb"),
        )
        began = time.monotonic()
        while self._acknowledged() < 10:
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() - began < 60, f"no tablet can write: {self._log.read_text()}"
            time.sleep(0.5)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> dict[str, Any]:
        """The tablets are put down; what they saw, by tenant."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(timeout=60)
            self._process = None
        return self._tenants()

    def works_again(self, *, seconds: float = 60) -> None:
        """Wait until ``acme``'s tablets are acknowledged again, wherever their name leads them."""
        before, began = self._acknowledged(), time.monotonic()
        while self._acknowledged() < before + 5:
            assert time.monotonic() - began < seconds, f"tablets cannot write {seconds:.0f} s after the fault"
            time.sleep(0.5)

    def lost(self) -> list[Any]:
        """Every acknowledged write of ``acme`` that its server does not give back as it was written."""
        read = subprocess.run(
            [*_CLIENT, "readback", *self._files(), "--tenant", "acme"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        assert read.stdout, read.stderr
        found = json.loads(read.stdout)
        assert found["acknowledged"] >= 10
        return [*found["lost"], *found["different"], *found["unreadable"]]

    def neighbours_failed(self) -> int:
        """Failed requests of the other tenants so far."""
        return sum(seen["failed_requests"] for seen in self._tenants().values() if seen["role"] == "neighbour")

    def _acknowledged(self) -> int:
        tenants = self._tenants()
        return int(tenants["acme"]["acknowledged_writes"]) if tenants else 0

    def _tenants(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self._summary.read_text(encoding="utf-8"))["tenants"]
        except FileNotFoundError:
            return {}
        return found

    def _files(self) -> list[str]:
        return ["--config", str(self._configuration), "--journal", str(self._journal)]
