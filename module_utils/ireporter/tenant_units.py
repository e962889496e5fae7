"""The systemd units of a tenant: what they are doing, stop, start, exactly as before."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from .clock import Clock
from .commands import Runner
from .errors import MigrationError


@dataclass(frozen=True)
class UnitState:
    """``enabled`` is systemd's own word (``enabled``, ``disabled``, ``static``, …); ``loaded`` is false where no unit file exists."""

    loaded: bool
    active: bool
    enabled: str

    def as_record(self) -> dict[str, object]:
        return asdict(self)


class Units:
    """systemctl, with errors that name the unit.

    Enabling and disabling matters at the next boot only, so systemd is not made to read all its files again: that takes a second in the freeze.
    """

    def __init__(self, run: Runner, clock: Clock) -> None:
        self._run = run
        self._clock = clock

    def state(self, unit: str) -> UnitState:
        shown = self.show(unit, "LoadState", "ActiveState")
        return UnitState(
            loaded=shown["LoadState"] == "loaded",
            # "activating" and "deactivating" still may write, and "reloading" certainly does.
            active=shown["ActiveState"] not in ("inactive", "failed"),
            # Asked of the files: what systemd remembers may be older than our last enable or disable.
            enabled=self._run(["systemctl", "is-enabled", unit], check=False).stdout.strip() or "none",
        )

    def show(self, unit: str, *names: str) -> dict[str, str]:
        """Properties of a unit; empty text where it has none."""
        output = self._run(["systemctl", "show", unit, *(f"--property={name}" for name in names)]).stdout
        values = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
        return {name: values.get(name, "") for name in names}

    def triggered_by(self, unit: str) -> list[str]:
        """What a timer (or path, socket) starts: it may still be at work after the timer stopped."""
        return [] if unit.endswith(".service") else self.show(unit, "Triggers")["Triggers"].split()

    def active_matching(self, pattern: str) -> list[str]:
        """Names of the units that match ``pattern`` (systemd glob) and are not inactive."""
        output = self._run(["systemctl", "list-units", "--all", "--plain", "--no-legend", "--full", pattern]).stdout
        rows = [line.split() for line in output.splitlines()]
        return [row[0] for row in rows if len(row) >= 3 and row[2] not in ("inactive",)]

    def stop(self, unit: str) -> None:
        self._run(["systemctl", "stop", unit], timeout_seconds=120)
        if self.state(unit).active:
            raise MigrationError(
                f"The unit {unit} is still running after systemctl stop",
                check="unit-stop",
                action=f"Look at systemctl status {unit}, then run again",
            )

    def disable(self, unit: str) -> None:
        if self.state(unit).enabled in ("enabled", "enabled-runtime", "linked"):
            self._run(["systemctl", "disable", "--no-reload", unit])

    def enable(self, unit: str) -> None:
        self._run(["systemctl", "enable", "--no-reload", unit])

    def start(self, unit: str) -> None:
        self._run(["systemctl", "reset-failed", unit], check=False)
        self._run(["systemctl", "start", unit], timeout_seconds=120)

    def reload_where_changed(self, *units: str) -> None:
        """Let systemd read its files anew if it knows one of these otherwise: a unit it does not know yet it reads by itself.

        Reading every unit anew takes more than a second on some servers, and happens inside the freeze.
        """
        shown = self._run(["systemctl", "show", "--value", "--property=NeedDaemonReload", *units], check=False)
        if "yes" in shown.stdout:
            self._run(["systemctl", "daemon-reload"])
