"""Imports for tests: a bundle, unpacked, and the specification that imports it on a throw-away server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from ireporter import bundle_import
from ireporter.bundle_format import BASE

from .bundle_kit import ROOT, quiet
from .conftest import Cluster

DATABASE = "irepodb"
IMPORT = "acme-i-20260103t000000z"

# Ends itself without warning when ATTRIBUTE of MODULE is called for the Nth time, before or after it did its work.
_VICTIM = """
import importlib, json, os, signal, sys
specification, module, name, number, when = json.load(sys.stdin)
from ireporter import bundle_import
owner = importlib.import_module(module)
*outer, name = name.split(".")
for part in outer:
    owner = getattr(owner, part)
real = getattr(owner, name)
calls = 0
def deadly(*arguments, **named):
    global calls
    calls += 1
    if calls == number and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = real(*arguments, **named)
    if calls == number:
        os.kill(os.getpid(), signal.SIGKILL)
    return result
setattr(owner, name, deadly)
bundle_import.run(specification, lambda progress: None)
"""

Step = tuple[str, str, int, str]


@dataclass
class ImportKit:
    """A customer's server: where the bundle was unpacked, where the trees belong, what an import remembers."""

    cluster: Cluster
    folder: Path
    bag: Path
    trees: tuple[str, ...] = ()
    import_id: str = IMPORT
    more: dict[str, object] = field(default_factory=dict)

    @property
    def site(self) -> Path:
        """The folder in which the trees belong."""
        return self.folder / "site"

    def spec(self, state: str, **more: object) -> dict[str, object]:
        self.site.mkdir(exist_ok=True)
        return {
            "state": state, "tenant": "acme", "import_id": self.import_id, "bag": str(self.bag),
            "database": self.cluster.conninfo(DATABASE),
            "file_trees": [{"name": name, "path": str(self.site / name)} for name in self.trees],
            "application_version_file": str(self.version_file()),
            "state_directory": str(self.folder / "state"), **self.more, **more,
        }  # fmt: skip

    def version_file(self, version: str = "8.2.26020") -> Path:
        """What the application here says it is."""
        path = self.folder / "VERSION"
        if not path.exists() or version != "8.2.26020":
            path.write_text(f"{version}\n")
        return path

    def run(self, state: str, **more: object) -> dict[str, object]:
        return bundle_import.run(self.spec(state, **more), quiet)

    def through(self, last: str = "swapped", **more: object) -> dict[str, object]:
        """All states up to ``last``."""
        result: dict[str, object] = {}
        for state in ("restored", "rewritten", "swapped"):
            result = self.run(state, **more)
            if state == last:
                return result
        return result

    def kill(self, state: str, step: Step, **more: object) -> None:
        """Run it in a process of its own, which must die at ``step``."""
        done = subprocess.run(
            [sys.executable, "-c", _VICTIM],
            input=json.dumps([self.spec(state, **more), *step]).encode(),
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'module_utils'}:{os.environ.get('PYTHONPATH', '')}"},
            capture_output=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()

    def databases(self) -> set[str]:
        """Names of all databases that are not the server's own."""
        with self.cluster.connect() as session:
            rows = session.execute(
                "SELECT datname FROM pg_database WHERE datname !~ '^(postgres|template[01])$'"
            ).fetchall()
        return {str(name) for (name,) in rows}

    def site_names(self) -> set[str]:
        """What lies in the folder of the trees, marks apart."""
        return {path.name for path in self.site.iterdir() if not path.name.startswith(".")}

    def open(self, database: str = DATABASE) -> None:
        """What ireporter_tenant does with the database when the tenant opens on it."""
        self.cluster.execute("postgres", f'ALTER DATABASE "{database}" CONNECTION LIMIT -1')
        self.cluster.execute("postgres", f'ALTER DATABASE "{database}" RESET ireporter_migration.copy_of')

    def close(self, database: str = DATABASE) -> None:
        """What it does when the tenant closes."""
        self.cluster.execute("postgres", f'ALTER DATABASE "{database}" CONNECTION LIMIT 0')

    def about(self) -> dict[str, object]:
        found: dict[str, object] = json.loads((self.bag / BASE / "data/migration.json").read_text())
        return found
