# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab takes away a host whose monitor died with it, as after the machine was switched off."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import hosts
from lab.checkout import LabError

MAIL01 = next(host for host in hosts.HOSTS if host.name == "mail01")


def podman_that_fails(times: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a podman first on the path that knows no container and fails to remove one so many times; each removal is a line of the file."""
    removals = folder / "removals"
    program = folder / "podman"
    program.write_text(
        "#!/bin/sh\n"
        f'[ "$1" = rm ] || exit 125\necho "$@" >>{removals}\n'
        f'[ "$(wc -l <{removals})" -gt {times} ] || {{ echo "container state improper: stopped" >&2; exit 2; }}\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return removals


@pytest.mark.parametrize("times", [0, 1])
def test_a_removal_that_fails_once_is_repeated(times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    removals = podman_that_fails(times, tmp_path, monkeypatch)
    hosts.remove(MAIL01)
    assert len(removals.read_text().splitlines()) == times + 1


def test_a_removal_that_fails_again_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    podman_that_fails(9, tmp_path, monkeypatch)
    with pytest.raises(LabError, match="container state improper"):
        hosts.remove(MAIL01)
