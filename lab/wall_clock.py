# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets the wall clock of one host, for every program that starts there from now on; see ``wall_clock.c``."""

from __future__ import annotations

import subprocess
from pathlib import Path

from lab.checkout import STATE, LabError
from lab.podman import podman

_SOURCE = Path(__file__).with_suffix(".c")
_LIBRARY = "/usr/local/lib/lab-wall-clock.so"
_PRELOAD = "/etc/ld.so.preload"


def set_later(container: str, days: int) -> None:
    """``days`` later than it is; 0: as it is.

    :raises LabError: there is no compiler, or the host is not running.
    """
    if days == 0:
        podman("exec", container, "rm", "--force", _PRELOAD)
        return
    built = STATE / "wall-clock.so"
    compiler = ["gcc", "-shared", "-fPIC", "-O2", f"-DLATER_SECONDS={days * 86400}", "-o", str(built), str(_SOURCE)]
    try:
        subprocess.run(compiler, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise LabError("gcc is not installed. Run script/bootstrap.") from error
    except subprocess.CalledProcessError as error:
        raise LabError(f"gcc does not compile {_SOURCE.name}: {error.stderr.strip()}") from error
    podman("cp", str(built), f"{container}:{_LIBRARY}")
    podman("exec", "--interactive", container, "tee", _PRELOAD, stdin=f"{_LIBRARY}\n".encode())
