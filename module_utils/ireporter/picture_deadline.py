"""The deadline of a picture: a systemd timer on the host itself that drops it when nobody did.

It counts from when it was armed, and anew after a start of the host: what it guards against is being forgotten.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from .clock import SystemClock
from .commands import Runner
from .errors import MigrationError
from .lease import SYSTEMD_DIRECTORY
from .tenant_model import LAUNCHER
from .tenant_units import Units
from .whole_files import write_whole

_SHORTEST: Final = 60
_LONGEST: Final = 90 * 86400


class PictureDeadline:
    """The units of one tenant's picture."""

    def __init__(self, tenant: str, run: Runner, *, directory: Path = SYSTEMD_DIRECTORY) -> None:
        self._tenant = tenant
        self._run = run
        self._directory = directory
        self.timer = f"ireporter-picture-{tenant}.timer"
        self.service = f"ireporter-picture-{tenant}.service"

    def present(self) -> bool:
        return (self._directory / self.timer).exists()

    def arm(self, seconds: int) -> None:
        """Write, enable and start the timer; an armed one begins anew.

        :raises MigrationError: so many seconds make no sense (check ``picture-deadline``).
        """
        if not _SHORTEST <= seconds <= _LONGEST:
            raise MigrationError(
                f"A picture for {seconds} s is not sensible", check="picture-deadline", action="Give 60 s to 90 days"
            )
        about = f"picture of i-Reporter tenant {self._tenant}"
        # Tried again while, for instance, PostgreSQL is down.
        self._write(
            self.service,
            f"[Unit]\nDescription=Drops the {about}\nAfter=postgresql.service\nStartLimitIntervalSec=0\n\n[Service]\nType=oneshot\n"
            f"ExecStart={LAUNCHER} drop-picture {self._tenant}\nRestart=on-failure\nRestartSec=60\n",
        )
        self._write(
            self.timer,
            f"[Unit]\nDescription=Deadline of the {about}\n\n[Timer]\nOnActiveSec={seconds}s\nAccuracySec=1s\n\n"
            "[Install]\nWantedBy=timers.target\n",
        )
        self._run(["systemctl", "stop", self.service], check=False)
        self._run(["systemctl", "enable", "--no-reload", self.timer])
        Units(self._run, SystemClock()).reload_where_changed(self.timer, self.service)
        self._run(["systemctl", "restart", self.timer])

    def disarm(self) -> None:
        """Remove the units. Not the service's process: it may be what runs this."""
        if not self.present():
            return
        self._run(["systemctl", "disable", "--no-reload", "--now", self.timer])
        for name in (self.timer, self.service):
            (self._directory / name).unlink(missing_ok=True)
        self._run(["systemctl", "daemon-reload"])

    def _write(self, name: str, text: str) -> None:
        write_whole(self._directory / name, text.encode(), mode=0o644)
