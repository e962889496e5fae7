"""File trees made read-only with real mounts, killed at any moment. With a kernel in memory: tests/unit/test_tenant_trees.py."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from ireporter.commands import Completed, run
from ireporter.errors import MigrationError
from ireporter.tenant_trees import Trees

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounts are root's"),
]

# In a process of its own: makes the tree argv[1] read-only, staged below argv[2], and dies after argv[3] commands.
_KILLED = """
import os, signal, sys
from pathlib import Path
from ireporter.commands import run
from ireporter.tenant_trees import Trees
left = int(sys.argv[3])
def counting(argv, **options):
    global left
    answer = run(argv, **options)
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return answer
Trees(counting, stages=Path(sys.argv[2])).make_read_only(Path(sys.argv[1]))
"""


def mounts_below(folder: Path) -> list[str]:
    points = [line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in points if point.startswith(f"{folder}/")]


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "srv/acme/output"
    path.mkdir(parents=True)
    (path / "file").write_text("x")
    (path.parent / "neighbour").mkdir()
    (tmp_path / "run").mkdir()
    probe = tmp_path / "probe"
    probe.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", probe], check=False, capture_output=True).returncode:
        pytest.skip("this machine does not let us mount")
    subprocess.run(["umount", probe], check=True)
    yield path
    for point in reversed(mounts_below(tmp_path)):
        subprocess.run(["umount", "--lazy", point], check=True)


def stages(tree: Path) -> Path:
    return tree.parents[2] / "run"


def writable(folder: Path) -> bool:
    try:
        (folder / "written").write_text("x")
    except OSError:
        return False
    (folder / "written").unlink()
    return True


def test_read_only_and_back(tree: Path) -> None:
    trees = Trees(run, stages=stages(tree))
    assert trees.make_read_only(tree)
    assert not writable(tree)
    assert (tree / "file").read_text() == "x"
    assert mounts_below(tree.parents[2]) == [str(tree)]
    assert not trees.make_read_only(tree)
    assert trees.make_writable(tree, mounts_before=0)
    assert writable(tree)
    assert mounts_below(tree.parents[2]) == list(stages(tree).iterdir()) == []


def test_a_mount_that_was_there_before_stays(tree: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tree], check=True)
    trees = Trees(run, stages=stages(tree))
    assert trees.make_read_only(tree)
    assert not writable(tree)
    assert trees.make_writable(tree, mounts_before=1)
    assert writable(tree)
    assert mounts_below(tree.parents[2]) == [str(tree)]


@pytest.mark.parametrize("commands", range(1, 6))
@pytest.mark.parametrize("then", ["thaw", "freeze"])
def test_killed_at_any_moment_it_leaves_no_second_way(tree: Path, commands: int, then: str) -> None:
    died = subprocess.run(
        [sys.executable, "-c", _KILLED, tree, stages(tree), str(commands)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "module_utils")},
        check=False,
    )
    assert died.returncode == -signal.SIGKILL
    trees = Trees(run, stages=stages(tree))
    if then == "freeze":
        trees.make_read_only(tree)
        assert not writable(tree)
        assert mounts_below(tree.parents[2]) == [str(tree)]
    trees.make_writable(tree, mounts_before=0)
    assert writable(tree)
    assert mounts_below(tree.parents[2]) == list(stages(tree).iterdir()) == []


@pytest.mark.parametrize("swapped_before", range(4))
def test_swapped_meanwhile_it_shuts_no_neighbour(tree: Path, swapped_before: int) -> None:
    commands = 0

    def swapping(argv: Sequence[str], **options: Any) -> Completed:
        nonlocal commands
        if commands == swapped_before:
            tree.rename(tree.parent / "renamed")
            tree.symlink_to(tree.parent / "neighbour")
        commands += 1
        return run(argv, **options)

    with pytest.raises(MigrationError, match="was renamed while it was mounted"):
        Trees(swapping, stages=stages(tree)).make_read_only(tree)
    assert writable(tree.parent / "neighbour")
    assert writable(tree.parent / "renamed")
    assert mounts_below(tree.parents[2]) == list(stages(tree).iterdir()) == []


def test_a_mount_on_another_path_is_not_passed_over(tree: Path) -> None:
    """As after a freeze of an earlier version through a link."""
    trees = Trees(run, stages=stages(tree))
    trees.make_read_only(tree)
    link = tree.parent / "link"
    link.symlink_to(tree)
    with pytest.raises(MigrationError, match="still read-only"):
        trees.make_writable(link, mounts_before=0)


def test_a_file_system_that_is_read_only_itself_is_not_ours_to_change(tree: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", tree], check=True)
    assert not Trees(run, stages=stages(tree)).make_writable(tree, mounts_before=1)
