"""The freeze's lease: systemd units on the host itself that reopen the tenant when nobody took the freeze over in time.

``ireporter-lease-<tenant>.timer`` counts on this host's monotonic clock. Its service is also wanted by ``multi-user.target``: a freeze that a
reboot interrupted is undone at once, because the copy is dead and the read-only mounts are gone. (``OnBootSec=`` could not say that: armed on a
host that has been up longer, it would fire immediately.) After the lease was disarmed, ``ireporter-freeze-<tenant>.service`` instead makes the
read-only mounts again at every boot.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .clock import Clock
from .commands import Runner
from .errors import MigrationError
from .json_files import naming
from .tenant_model import LAUNCHER
from .tenant_units import Units
from .whole_files import write_whole

SYSTEMD_DIRECTORY: Final = Path("/etc/systemd/system")
_SHORTEST_SECONDS: Final = 5


@dataclass(frozen=True)
class Deadline:
    """A moment on this host's boot clock; ``boot`` tells one boot from another."""

    boot: str
    boot_seconds: float

    def remaining(self, clock: Clock, boot: str) -> float:
        """Seconds left; negative or zero when it has passed, also when the host was started anew since."""
        return self.boot_seconds - clock.monotonic() if boot == self.boot else 0.0


def boot_identity(proc: Path = Path("/proc")) -> str:
    """Differs after every start of this host – also of a container, whose boot id is its host's, but whose process 1 is its own."""
    boot = (proc / "sys/kernel/random/boot_id").read_text().strip()
    started = (proc / "1/stat").read_text().rsplit(")", 1)[1].split()[19]
    return f"{boot}:{started}"


class Lease:
    """The units of one tenant's lease."""

    def __init__(
        self, tenant: str, run: Runner, clock: Clock, *, directory: Path = SYSTEMD_DIRECTORY, proc: Path = Path("/proc")
    ) -> None:
        self._tenant = tenant
        self._run = run
        self._clock = clock
        self._directory = directory
        self._proc = proc
        self._units = Units(run, clock)
        self.timer = f"ireporter-lease-{tenant}.timer"
        self.service = f"ireporter-lease-{tenant}.service"
        self.holder = f"ireporter-freeze-{tenant}.service"

    def deadline(self, seconds: int) -> Deadline:
        """The moment ``seconds`` from now."""
        return Deadline(boot_identity(self._proc), self._clock.monotonic() + seconds)

    def remaining(self, deadline: Deadline) -> float:
        """Seconds left of ``deadline`` on this host."""
        return deadline.remaining(self._clock, boot_identity(self._proc))

    def arm(self, seconds: int) -> None:
        """Write, enable and start the timer; an armed one begins anew.

        :raises MigrationError: the timer does not run afterwards (check ``lease``).
        """
        if seconds < _SHORTEST_SECONDS:
            raise MigrationError(
                f"A lease of {seconds} s is too short", check="lease", action=f"Use {_SHORTEST_SECONDS} s or more"
            )
        self._write(
            self.service,
            f"""[Unit]
Description=Reopens i-Reporter tenant {self._tenant} when the lease of its freeze has ended
After=network.target local-fs.target postgresql.service nginx.service
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart={LAUNCHER} thaw {self._tenant} --by-lease
Restart=on-failure
RestartSec=5

[Install]
WantedBy=multi-user.target
""",
        )
        self._write(
            self.timer,
            f"""[Unit]
Description=Lease of the freeze of i-Reporter tenant {self._tenant}

[Timer]
OnActiveSec={seconds}s
AccuracySec=1s

[Install]
WantedBy=timers.target
""",
        )
        self._run(["systemctl", "enable", "--no-reload", self.timer, self.service])
        self._units.reload_where_changed(self.timer, self.service)
        self._run(["systemctl", "restart", self.timer])
        if not self.armed():
            raise MigrationError(
                f"The timer {self.timer} does not run although it was started",
                check="lease",
                action=f"See systemctl status {self.timer}",
            )

    def armed(self) -> bool:
        """Whether the timer still counts: it runs and has not elapsed."""
        shown = self._units.show(self.timer, "ActiveState", "SubState")
        return shown["ActiveState"] == "active" and shown["SubState"] == "waiting"

    def present(self) -> bool:
        """Whether any unit file of the lease exists."""
        return (self._directory / self.timer).exists() or (self._directory / self.service).exists()

    def remove(self) -> bool:
        """Stop the timer and delete both units, durably; ``False`` when there were none.

        The service itself is not stopped: it may be the one that calls.
        """
        return self._remove(self.timer, self.service)

    def hold(self) -> bool:
        """Install the unit that makes the read-only mounts again at boot; ``False`` when it is there."""
        content = f"""[Unit]
Description=Keeps i-Reporter tenant {self._tenant} frozen on this server: its file trees stay read-only
After=local-fs.target
Before=nginx.service

[Service]
Type=oneshot
ExecStart={LAUNCHER} hold {self._tenant}

[Install]
WantedBy=multi-user.target
"""
        if self.held():
            return False
        self._write(self.holder, content)
        self._run(["systemctl", "enable", "--no-reload", self.holder])
        return True

    def held(self) -> bool:
        """Whether that unit is installed and enabled."""
        return (self._directory / self.holder).exists() and self._units.state(self.holder).enabled == "enabled"

    def release(self) -> bool:
        """Remove that unit; ``False`` when there was none."""
        return self._remove(self.holder)

    def _remove(self, *names: str) -> bool:
        present = [name for name in names if (self._directory / name).exists()]
        for name in present:
            if name.endswith(".timer"):
                self._run(["systemctl", "stop", name])
            self._run(["systemctl", "disable", "--no-reload", name])
        for name in present:
            with contextlib.suppress(FileNotFoundError):
                (self._directory / name).unlink()
        if present:
            _sync(self._directory)
            self._run(["systemctl", "reset-failed", *present], check=False)
        return bool(present)

    def _write(self, name: str, content: str) -> None:
        # Whole or not at all: an empty unit, left by a full disk, would be a lease that never fires.
        with naming(self._directory / name):
            write_whole(self._directory / name, content.encode(), mode=0o644)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
