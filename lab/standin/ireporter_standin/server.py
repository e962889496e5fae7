# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs one tenant's web application: gunicorn with threads on a Unix socket."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from gunicorn.app.base import BaseApplication

from . import config
from .errors import ConfigurationError
from .web import Application

EXIT_CONFIGURATION = 78  # EX_CONFIG: systemd does not try again


class _Server(BaseApplication):  # type: ignore[misc]
    def __init__(self, settings: config.Config, version: str) -> None:
        self._settings = settings
        self._version = version
        super().__init__()

    def load_config(self) -> None:
        for name, value in {
            "bind": f"unix:{self._settings.listen}",
            "umask": 0,  # the directory of the socket decides who may connect
            "worker_class": "gthread",
            "workers": 1,
            "threads": self._settings.threads,
            "timeout": 120,
            "graceful_timeout": 30,  # requests in flight are finished on SIGTERM
            "worker_tmp_dir": "/dev/shm",
            "forwarded_allow_ips": "*",
            "proc_name": f"ireporter-standin {self._settings.suffix}",
            "errorlog": "-",
            "loglevel": "info",
        }.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        return Application(self._settings, self._version)


def main() -> int:
    """``ireporter-standin-server CONFIG``."""
    parser = argparse.ArgumentParser(description="Stand-in for an i-Reporter server (test equipment).")
    parser.add_argument("config", type=Path, help="server.toml")
    arguments = parser.parse_args()
    version_file = Path(__file__).resolve().parent.parent / "VERSION"
    try:
        settings = config.load(arguments.config)
        config.check_licence(settings.licence_file)
    except ConfigurationError as error:
        print(f"{error}.", file=sys.stderr)
        return EXIT_CONFIGURATION
    _Server(settings, version_file.read_text(encoding="utf-8").strip()).run()
    return 0
