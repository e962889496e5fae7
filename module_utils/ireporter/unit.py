"""Long work as a systemd unit of the host that does it: it outlives the connection that started it, and is found again after a crash."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from .clock import Clock, SystemClock
from .commands import Runner
from .commands import run as run_command
from .errors import MigrationError
from .json_files import read_json, read_json_if_whole, write_json
from .run_lock import refresh
from .tenant_model import LAUNCHER, STATE_DIRECTORY, tenant_name
from .tenant_units import Units

MIGRATION_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,80}")
_WORK: Final = re.compile(r"[a-z][a-z_]{0,30}")
_POLL_SECONDS: Final = 0.3
_HEARTBEAT_SECONDS: Final = 10.0

Progress = Callable[[dict[str, object]], None]
Work = Callable[[dict[str, object], Progress], dict[str, object]]


def execute(
    work: str,
    function: Work,
    spec: dict[str, object],
    *,
    run: Mapping[str, object] | None,
    progress: Progress | None = None,
) -> dict[str, object]:
    """Do ``work`` in a unit of the migration ``run``, or here and now when there is none.

    :param work: name in the table of ``work.py``.
    :param function: what the worker will call; called directly without ``run``.
    :param spec: its input; fit for JSON, without a secret.
    :param run: ``tenant`` and ``id`` of the migration.
    :return: what ``function`` returned.
    :raises MigrationError: as ``function`` did, or the unit ended without a result (check ``unit-result``).
    """
    if run is None:
        return function(spec, progress or _silent)
    unit = WorkUnit(work, str(run["tenant"]), str(run["id"]))
    unit.start(spec)
    return unit.follow(progress or _silent)


class WorkUnit:
    """One piece of long work of one migration on this host.

    :raises MigrationError: a name that could not stand in a unit's name (check ``migration-id``).
    """

    def __init__(
        self,
        work: str,
        tenant: str,
        migration_id: str,
        *,
        state_directory: Path = STATE_DIRECTORY,
        run: Runner = run_command,
        clock: Clock | None = None,
        launcher: str = LAUNCHER,
    ) -> None:
        if not MIGRATION_ID.fullmatch(migration_id) or not _WORK.fullmatch(work):
            raise MigrationError(
                f"{migration_id!r} or {work!r} can name no unit",
                check="migration-id",
                action="Use the id that ireporter_run returned",
            )
        self.work = work
        self.tenant = tenant_name(tenant)
        self.migration_id = migration_id
        self.name = f"ireporter-migration-{migration_id}-{work}.service"
        self.directory = state_directory / self.tenant / migration_id
        self._state_directory = state_directory
        self._run = run
        self._clock = clock or SystemClock()
        self._launcher = launcher
        self._units = Units(run, self._clock)

    def _file(self, kind: str) -> Path:
        return self.directory / f"{self.work}.{kind}"

    def start(self, spec: dict[str, object]) -> bool:
        """Start the unit; ``False`` when one with the same input is at work already: it is adopted. With another input it is stopped first.

        :raises MigrationError: it could not be started.
        """
        if not os.access(self._launcher, os.X_OK):
            raise MigrationError(
                f"{self._launcher} is not installed on this server",
                check="tools-installed",
                action="Apply the role ireporter_migration_tools to this server",
            )
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._units.state(self.name).active:
            if read_json(self._file("spec.json")) == spec:
                return False
            self._units.stop(self.name)
        for kind in ("result.json", "progress.json", "ended"):
            self._file(kind).unlink(missing_ok=True)
        write_json(self._file("spec.json"), spec)
        self._run(["systemctl", "reset-failed", self.name], check=False)
        self._run(
            [
                "systemd-run",
                "--quiet",
                "--collect",
                f"--unit={self.name}",
                f"--description=i-Reporter migration {self.migration_id}: {self.work}",
                "--property=CPUWeight=20",
                "--property=IOWeight=20",
                "--property=Nice=5",
                "--property=TimeoutStopSec=10",
                "--property=UMask=0077",
                # A collected unit leaves nothing for systemctl show: how it ended is written down by systemd's own last command.
                '--property=ExecStopPost=/bin/sh -c \'echo "$$SERVICE_RESULT $$EXIT_CODE $$EXIT_STATUS" > "$$0"\' '
                + str(self._file("ended")),
                self._launcher,
                "work",
                self.work,
                str(self.directory),
            ]
        )
        return True

    def follow(self, progress: Progress) -> dict[str, object]:
        """Wait for the unit, pass its progress on, keep the migration's lock alive, and return its result.

        :raises MigrationError: the work's own error, or the unit died without a result.
        """
        shown: object = None
        beat = float("-inf")
        while self._units.state(self.name).active:
            if self._clock.monotonic() - beat >= _HEARTBEAT_SECONDS:
                beat = self._clock.monotonic()
                refresh(self._state_directory, self.tenant, self.migration_id, self._clock)
            # Not written durably: after a power cut it may be empty, and then no progress is known.
            now = read_json_if_whole(self._file("progress.json"))
            if isinstance(now, dict) and now != shown:
                shown = now
                progress(now)
            self._clock.sleep(_POLL_SECONDS)
        return self.result()

    def result(self) -> dict[str, object]:
        """What the ended unit left behind.

        :raises MigrationError: the work's own error (its figures in ``figures``), or no result (check ``unit-result``).
        """
        result = read_json(self._file("result.json"))
        if not isinstance(result, dict):
            raise MigrationError(
                f"The unit {self.name} ended without a result: {self._ending()}",
                check="unit-result",
                action=f"See journalctl -u {self.name}, then run again: what is complete is kept",
            )
        if result.pop("failed"):
            error = MigrationError(str(result["msg"]), check=str(result["check"]), action=str(result["action"]))
            error.figures = result.get("figures", {})  # type: ignore[attr-defined]
            raise error
        return result

    def _ending(self) -> str:
        try:
            return f"systemd says {self._file('ended').read_text().strip()}"
        except FileNotFoundError:
            shown = self._units.show(self.name, "Result", "ExecMainStatus", "ActiveState")
            return "systemd says " + " ".join(f"{key}={value}" for key, value in shown.items())


def status(
    tenant: str, migration_id: str, *, state_directory: Path = STATE_DIRECTORY, run: Runner = run_command
) -> list[dict[str, object]]:
    """Every piece of long work the migration has begun on this host: ``unit``, ``work``, ``active``, ``progress``, ``failed`` (or ``None``)."""
    found: list[dict[str, object]] = []
    units = Units(run, SystemClock())
    for spec in sorted((state_directory / tenant_name(tenant) / migration_id).glob("*.spec.json")):
        work = spec.name.removesuffix(".spec.json")
        name = f"ireporter-migration-{migration_id}-{work}.service"
        result = read_json(spec.with_name(f"{work}.result.json"))
        found.append(
            {
                "unit": name,
                "work": work,
                "active": units.state(name).active,
                "progress": read_json_if_whole(spec.with_name(f"{work}.progress.json")),
                "failed": result.get("failed") if isinstance(result, dict) else None,
            }
        )
    return found


def active_units(tenant: str, *, run: Runner = run_command, migration_id: str | None = None) -> list[str]:
    """Units of the tenant's migrations that are not over. Tenants may be called ``acme`` and ``acme-d``: the whole id is compared."""
    tenant_name(tenant)
    listed = Units(run, SystemClock()).active_matching(f"ireporter-migration-{tenant}-*")
    own = re.compile(
        rf"ireporter-migration-{re.escape(migration_id) if migration_id else rf'{re.escape(tenant)}-[a-z]-[0-9]{{8}}t[0-9]{{6}}z'}-[a-z_]+\.service"
    )
    return [name for name in listed if own.fullmatch(name)]


def working_units(tenant: str, *, run: Runner = run_command) -> list[str]:
    """Those that do something. A channel only waits for work: left by a dead controller, it must not keep the next operator away for hours."""
    return [name for name in active_units(tenant, run=run) if not name.endswith("-channel.service")]


def stop_all(tenant: str, *, run: Runner = run_command, migration_id: str | None = None) -> list[str]:
    """Stop every unit of the tenant's migrations (of one of them): work and channel; returns their names.

    :raises MigrationError: one does not stop.
    """
    names = active_units(tenant, run=run, migration_id=migration_id)
    units = Units(run, SystemClock())
    for name in names:
        units.stop(name)
    if names:
        run(["systemctl", "reset-failed", *names], check=False)
    return names


def _silent(_progress: dict[str, object]) -> None:
    """Progress nobody asked for."""
