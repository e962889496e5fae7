"""SIGKILL in every step of making, verifying and unpacking a bundle: the next run goes on, and nothing half is taken as whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ireporter.bundle_format import Paths
from ireporter.errors import MigrationError

from .bundle_kit import MIGRATION, ROOT, Kit
from .conftest import Cluster

pytestmark = pytest.mark.integration

# Ends itself without warning when ATTRIBUTE of MODULE is called for the Nth time, before or after it did its work.
_VICTIM = """
import importlib, json, os, signal, sys
specification, module, path, number, when = json.load(sys.stdin)
from ireporter import bundle
owner = importlib.import_module(module)
*outer, name = path.split(".")
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
bundle.run(specification, lambda progress: None)
"""

Step = tuple[str, str, int, str]

WRITE: dict[str, Step] = {
    "locking": ("ireporter.bundle_write", "existing", 1, "before"),
    "key made": ("ireporter.bundle_write", "make_key", 1, "after"),
    "tree looked at": ("ireporter.bundle_write", "look", 1, "after"),
    "dump running": ("ireporter.bundle_tar", "Writer.add", 1, "before"),
    "dump half packed": ("ireporter.bundle_tar", "Writer.add", 2, "after"),
    "table being packed": ("ireporter.bundle_encryption", "Encrypted.write", 5, "after"),
    "digests": ("ireporter.bundle_contents", "database_facts", 1, "before"),
    "tree packed": ("ireporter.bundle_write", "_add_tree", 1, "after"),
    "manifest written": ("ireporter.bundle_tar", "Writer.end", 1, "before"),
    "encrypted": ("ireporter.bundle_encryption", "Encrypted.close", 1, "before"),
    "on disk": ("ireporter.bundle_encryption", "Encrypted.close", 1, "after"),
    "being read back": ("ireporter.bundle_tar", "Member.sha256", 3, "after"),
    "read back": ("ireporter.bundle_write", "_read_back", 1, "after"),
    "signed": ("ireporter.bundle_write", "_publish", 1, "before"),
    "ciphertext in place": ("ireporter.bundle_write", "sync_folder", 1, "after"),
    "statement in place": ("ireporter.bundle_write", "sync_folder", 2, "after"),
    "signature in place": ("ireporter.bundle_write", "sync_folder", 3, "before"),
    "all but tidied up": ("ireporter.bundle_write", "remove_folder", 2, "before"),
}
UNPACK: dict[str, Step] = {
    "signature": ("ireporter.bundle_signature", "check", 1, "after"),
    "checksum": ("ireporter.bundle_unpack", "must_be_whole", 1, "after"),
    "verifying": ("ireporter.bundle_tar", "Member.sha256", 4, "before"),
    "verified": ("ireporter.bundle_unpack", "read_through", 1, "after"),
    "first file": ("ireporter.bundle_unpack", "create", 1, "after"),
    "half of the files": ("ireporter.bundle_unpack", "create", 6, "after"),
    "all files": ("ireporter.bundle_unpack", "read_through", 2, "after"),
    "trees": ("ireporter.bundle_unpack", "_tree_must_be", 1, "before"),
    "on disk": ("ireporter.bundle_unpack", "sync_file_system", 1, "after"),
    "in place": ("ireporter.bundle_unpack", "sync_folder", 1, "before"),
}
QUICK = {"table being packed", "signed", "statement in place", "half of the files", "on disk"}


def steps(table: dict[str, Step]) -> list[object]:
    return [
        pytest.param(step, id=name, marks=() if name in QUICK else pytest.mark.slow) for name, step in table.items()
    ]


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    return Kit.make(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    root = tmp_path_factory.mktemp("trees") / "output"
    root.mkdir()
    (root / "report.pdf").write_bytes(os.urandom(100_000))
    return [{"name": "output", "path": str(root)}]


@pytest.fixture(scope="module")
def database(cluster: Cluster) -> Iterator[str]:
    cluster.execute("postgres", "CREATE DATABASE killed")
    for number in range(3):
        cluster.execute(
            "killed", f"CREATE TABLE t{number} AS SELECT repeat(md5(g::text), 90) AS a FROM generate_series(1, 2000) g"
        )
    yield cluster.conninfo("killed")
    cluster.execute("postgres", "DROP DATABASE killed WITH (FORCE)")


def kill(specification: dict[str, object], step: Step) -> None:
    """Run it in a process of its own, which must die at ``step``."""
    done = subprocess.run(
        [sys.executable, "-c", _VICTIM],
        input=json.dumps([specification, *step]).encode(),
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'module_utils'}:{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def nobody_works_on(folder: Path) -> None:
    """What the dead process had started ends by itself."""
    deadline = time.monotonic() + 10
    while True:
        working = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if os.fsencode(folder) in command and process.name != str(os.getpid()):
                working.append(command)
        if not working:
            return
        assert time.monotonic() < deadline, working
        time.sleep(0.1)


@pytest.mark.parametrize("step", steps(WRITE))
def test_killed_while_it_is_made(
    kit: Kit, database: str, trees: list[dict[str, object]], tmp_path: Path, step: Step
) -> None:
    specification = kit.present(tmp_path, database, trees)
    kill(specification, step)
    nobody_works_on(tmp_path)
    paths = Paths.within(tmp_path, MIGRATION)
    # Twice in a row, too.
    if not paths.signature.exists():
        kill(specification, step)
        with pytest.raises(MigrationError):
            kit.run(kit.received(tmp_path))
        assert kit.run({**specification, "check": True})["changed"] is True
        assert kit.run(specification)["changed"] is True
    assert kit.run(kit.received(tmp_path))["rows"] == 6000
    assert kit.run(specification)["changed"] is False
    assert {path.name for path in tmp_path.iterdir()} == {
        paths.ciphertext.name, paths.statement.name, paths.signature.name, f".{MIGRATION}.lock",
    }  # fmt: skip


@pytest.fixture(scope="module")
def good(kit: Kit, database: str, trees: list[dict[str, object]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("good")
    kit.run(kit.present(directory, database, trees))
    return directory


@pytest.mark.parametrize("step", steps(UNPACK))
def test_killed_while_it_is_unpacked(kit: Kit, good: Path, tmp_path: Path, step: Step) -> None:
    target = tmp_path / "unpacked"
    specification = kit.received(good, "unpacked", target=str(target), trees=True)
    kill(specification, step)
    renamed = target.exists()
    assert renamed is (step == UNPACK["in place"])
    nobody_works_on(tmp_path)
    assert kit.run(specification)["changed"] is not renamed
    assert kit.run(specification)["changed"] is False
    assert {path.name for path in tmp_path.iterdir()} == {"unpacked", ".unpacked.lock"}


@pytest.mark.parametrize("step", steps({name: UNPACK[name] for name in ("signature", "verifying")}))
def test_killed_while_it_is_verified(kit: Kit, good: Path, step: Step) -> None:
    before = sorted(good.iterdir())
    kill(kit.received(good), step)
    assert sorted(good.iterdir()) == before
    assert kit.run(kit.received(good))["rows"] == 6000


@pytest.fixture
def uneven(cluster: Cluster) -> Iterator[str]:
    """A small table, and one whose dump (580 MB of a compressible text) still runs when the small one is taken."""
    cluster.execute("postgres", "CREATE DATABASE uneven")
    for table, rows in (("small", 2_000), ("large", 200_000)):
        cluster.execute(
            "uneven", f"CREATE TABLE {table} AS SELECT repeat(md5(g::text), 90) AS a FROM generate_series(1, {rows}) g"
        )
    yield cluster.conninfo("uneven")
    cluster.execute("postgres", "DROP DATABASE uneven WITH (FORCE)")


def test_a_halted_dump_does_not_outlive_its_run(kit: Kit, uneven: str, tmp_path: Path) -> None:
    """Halted by us and left alone it would stay for ever, with a session in the picture, which could not be dropped."""
    code = _VICTIM.replace(
        "bundle.run(", "from ireporter import bundle_dump, bundle_write\n"
        "bundle_dump._LOOK_EVERY_BYTES, bundle_write._WAITING_BYTES = 1 << 20, -1\nbundle.run(",
    )  # fmt: skip
    step = ("os", "killpg", 1, "after")
    specification = kit.present(tmp_path, uneven, [])
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps([specification, *step]).encode(),
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'module_utils'}:{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    nobody_works_on(tmp_path)
