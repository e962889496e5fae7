# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the two images of the lab, once per recipe: the tag is the recipe's digest, podman's store is the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from lab.checkout import LabError
from lab.podman import attempt, choose_runtime, inspect, podman

_RECIPE = Path(__file__).parent / "image"

BARE = ("systemd", "systemd-sysv", "dbus", "python3", "openssh-server", "sudo", "iproute2", "ca-certificates")
EXTRA = (
    *("postgresql-15", "postgresql-client-15", "python3-psycopg"),
    *("nginx", "gunicorn", "python3-reportlab", "python3-pil"),
    *("bind9", "bind9-utils", "bind9-dnsutils"),
    *("postfix", "rsync", "acl", "attr", "procps", "age", "zstd"),
)
ARCHIVES = "ireporter-lab-archives"
"""Volume of the .deb files the server image was made from; each lab's apt cache begins with them."""

_REGISTRY_IMAGE = "docker.io/library/debian:12"


def ensure() -> dict[str, str]:
    """Build what is missing.

    :return: image reference by name, ``base`` and ``server``.
    """
    digest = _digest()
    names = {name: f"localhost/ireporter-lab-{name}:{digest}" for name in ("base", "server")}
    if all(inspect("image", name) for name in names.values()) and inspect("volume", ARCHIVES):
        choose_runtime(names["base"])
        return names
    root = f"localhost/ireporter-lab-root:{digest}"
    if inspect("image", root) is None:
        _make_root(root)
    choose_runtime(root)
    if inspect("volume", ARCHIVES) is None:
        podman("volume", "create", ARCHIVES)
    archives = podman("volume", "inspect", "--format", "{{.Mountpoint}}", ARCHIVES).strip()
    for target, name in names.items():
        podman(
            *("build", "--quiet", "--target", target, "--tag", name),
            *("--build-arg", f"ROOT={root}", "--build-arg", f"BARE={' '.join(BARE)}"),
            *("--build-arg", f"EXTRA={' '.join(EXTRA)}", "--volume", f"{archives}:/var/cache/apt/archives"),
            str(_RECIPE),
            timeout_seconds=1200,
        )
    return names


def seed_archives(volume: str) -> None:
    """Fill a lab's package cache with what the images were made from, so that servers of the lab install without a download."""
    if inspect("volume", volume) is not None:
        return
    podman("volume", "create", volume)
    source, target = (
        Path(podman("volume", "inspect", "--format", "{{.Mountpoint}}", name).strip()) for name in (ARCHIVES, volume)
    )
    for path in source.glob("*.deb"):
        try:
            os.link(path, target / path.name)  # apt replaces and removes names, never content
        except OSError:  # another disk
            shutil.copy2(path, target)


def remove() -> None:
    """Take every image of ours out of podman's store, and the cached archives; what another checkout's lab uses stays."""
    listed = podman("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    for name in (name for name in listed if name.startswith("localhost/ireporter-lab-")):
        attempt("rmi", name)
    podman("volume", "rm", "--force", ARCHIVES)


def _digest() -> str:
    parts = [" ".join((*BARE, "+", *EXTRA)).encode()]
    parts += [path.read_bytes() for path in sorted(_RECIPE.iterdir())]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


def _make_root(name: str) -> None:
    """A plain Debian 12: a registry's image where one answers, else straight from Debian's packages."""
    with suppress(LabError):  # a registry that never answers is none
        if attempt("pull", "--quiet", _REGISTRY_IMAGE, timeout_seconds=180).returncode == 0:
            podman("tag", _REGISTRY_IMAGE, name)
            return
    made = subprocess.Popen(
        ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(BARE)}", "bookworm", "-"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    imported = subprocess.run(
        ["podman", "import", "--quiet", "-", name], stdin=made.stdout, capture_output=True, check=False
    )
    said = made.stderr.read().decode(errors="replace") if made.stderr else ""
    if made.wait() != 0 or imported.returncode != 0:
        attempt("rmi", "--force", name)
        raise LabError(
            f"No Debian 12 root could be made: {said.strip()[-2000:]} {imported.stderr.decode(errors='replace').strip()} "
            "Run script/bootstrap, and check that a Debian mirror can be reached."
        )
