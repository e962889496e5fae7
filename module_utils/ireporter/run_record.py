"""The record of a migration: ``run.json`` (where it stands) and ``events.jsonl`` (what happened, append-only), one folder per run."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from . import file_known_contents
from .clock import Clock
from .errors import MigrationError
from .json_files import naming, read_json, write_json
from .tenant_model import tenant_name

# Kind → its letter in ids. A rollback after opening is a migration backwards, with a record of its own.
KINDS: Final = {"shared_to_dedicated": "d", "rollback": "r", "cloud_export": "s", "selfhost_import": "i"}
STATUSES: Final = ("running", "succeeded", "failed", "undone")
_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,80}")
_STEP: Final = re.compile(r"[a-z][a-z0-9_-]{0,40}")
_SECRET_KEY: Final = re.compile(
    r"passw|secret|token|passphrase|credential|api[-_ ]?key|private[-_ ]?key|authorization", re.IGNORECASE
)
_SECRET_VALUE: Final = re.compile(r"\bpassword\s*=|://[^/\s:@]+:[^/\s@]+@|-----BEGIN [A-Z ]*PRIVATE KEY", re.IGNORECASE)

Run = dict[str, Any]


class RunRecords:
    """All runs of one tenant on this server."""

    def __init__(self, state_directory: Path, tenant: str, clock: Clock) -> None:
        self._tenant = tenant_name(tenant)
        self._directory = state_directory / self._tenant
        self._clock = clock

    def list(self, kind: str | None = None) -> list[Run]:
        """Every run (of one kind), newest first.

        :raises MigrationError: a record cannot be understood (check ``run-record``).
        """
        runs = []
        for path in self._directory.glob("*/run.json"):
            run = self.read(path.parent.name)
            if run is not None and kind in (None, run["kind"]):
                runs.append(run)
        return sorted(runs, key=lambda run: (str(run["started_at"]), str(run["id"])), reverse=True)

    def read(self, run_id: str) -> Run | None:
        """One run, or ``None``.

        :raises MigrationError: it cannot be understood (check ``run-record``).
        """
        path = self._folder(run_id) / "run.json"
        try:
            run = read_json(path)
            if run is None:
                return None
            if not isinstance(run, dict) or run.get("format") != 1 or run.get("id") != run_id:
                raise ValueError("it is not a run record of this folder")  # noqa: TRY301 - one sentence for all
        except ValueError as error:
            raise MigrationError(
                f"{path} cannot be understood: {error}",
                check="run-record",
                action=f"Move {path.parent} away and run again",
            ) from error
        return run

    def unfinished(self, kind: str) -> Run | None:
        """The newest run of that kind that has not ended."""
        return next((run for run in self.list(kind) if run["finished_at"] is None), None)

    def new_id(self, kind: str) -> str:
        """An id nobody has: tenant, kind, the time in UTC."""
        if kind not in KINDS:
            raise MigrationError(
                f"There is no migration of kind {kind!r}", check="run-kind", action=f"Use one of {', '.join(KINDS)}"
            )
        moment = self._clock.now()
        run_id = f"{self._tenant}-{KINDS[kind]}-{moment:%Y%m%dt%H%M%Sz}"
        if (self._folder(run_id) / "run.json").exists():
            raise MigrationError(
                f"A run {run_id} was started within this very second", check="run-record", action="Run again"
            )
        return run_id

    def start(self, kind: str, run_id: str, operator: str, *, resumed: bool, versions: Mapping[str, object]) -> Run:
        """Write a new run, or the next attempt of an unfinished one.

        :raises OSError: it could not be written; it names the file.
        """
        _refuse_secrets({"operator": operator, "versions": dict(versions)})
        now = self._now()
        old = self.read(run_id) if resumed else None
        run: Run = (
            {**old, "attempt": int(old["attempt"]) + 1, "status": "running", "reason": None, "operator": operator}
            if old is not None
            else {
                "format": 1,
                "id": run_id,
                "tenant": self._tenant,
                "kind": kind,
                "step": "start",
                "status": "running",
                "attempt": 1,
                "reason": None,
                "operator": operator,
                "versions": {},
                "figures": {},
                "started_at": now,
                "finished_at": None,
            }
        )
        run["versions"] = {**run["versions"], **versions}
        run["updated_at"] = now
        self._write(run)
        self._append(run, "resumed" if resumed else "started", {})
        return run

    def record(
        self,
        run_id: str,
        *,
        step: str | None,
        status: str,
        reason: str | None = None,
        event: str | None = None,
        details: Mapping[str, object] | None = None,
        figures: Mapping[str, object] | None = None,
        versions: Mapping[str, object] | None = None,
        finish: bool = False,
    ) -> Run:
        """Say where the run stands, durably, and append one event.

        :param reason: a sentence a customer may read.
        :param finish: the run has ended; what it knew of files' content goes.
        :raises MigrationError: unknown run, or something that looks like a secret (check ``record-secret``).
        """
        run = self.read(run_id)
        if run is None:
            raise MigrationError(
                f"There is no run {run_id} of tenant {self._tenant} on this server",
                check="run-record",
                action="Start one with ireporter_run state=started",
            )
        if step is not None and not _STEP.fullmatch(step):
            raise MigrationError(f"{step!r} is no step", check="run-step", action="Use small letters, digits, _ and -")
        _refuse_secrets(
            {"reason": reason, "event": event, "details": details, "figures": figures, "versions": versions}
        )
        reason, event, details, figures = _plain(reason), _plain(event), _plain(details), _plain(figures)
        now = self._now()
        run.update(
            step=step or run["step"],
            status=status,
            reason=reason,
            figures={**run["figures"], **(figures or {})},
            versions={**run["versions"], **(versions or {})},
            updated_at=now,
        )
        if finish:
            run["finished_at"] = now
        known = self._folder(run_id) / file_known_contents.FOLDER
        if finish and known.exists():
            shutil.rmtree(known)
        # The event first: run.json never speaks of something the events do not tell.
        self._append(
            run,
            event or f"{run['step']} {status}",
            {**(details or {}), **({"figures": dict(figures)} if figures else {})},
        )
        self._write(run)
        return run

    def content(self, run_id: str) -> dict[str, Any]:
        """The whole record, for the mirror on the other server: ``run`` and ``events``."""
        return {"run": self.read(run_id), "events": self.events(run_id)}

    def events(self, run_id: str) -> Sequence[dict[str, Any]]:
        """Every event, oldest first. A last line cut short by a power cut is left out."""
        try:
            lines = (self._folder(run_id) / "events.jsonl").read_text(encoding="utf-8").split("\n")
        except FileNotFoundError:
            return []
        events = []
        # Not splitlines(): text may hold other characters that count as line ends there.
        for number, line in enumerate(lines):
            if not line:
                continue
            try:
                events.append(json.loads(line))
            except ValueError:
                if number != len(lines) - 1:
                    raise MigrationError(
                        f"Line {number + 1} of the events of run {run_id} cannot be understood",
                        check="run-record",
                        action="Compare it with the mirror on the other server",
                    ) from None
        return events

    def would_mirror(self, content: Mapping[str, Any]) -> bool:
        """Whether ``mirror`` would change something."""
        run = self._check_mirror(content)
        return self.content(str(run["id"])) != {"run": run, "events": list(content["events"])}

    def mirror(self, content: Mapping[str, Any]) -> bool:
        """Keep another server's record here; ``False`` when it is here already.

        :raises MigrationError: it is of another tenant, or no record (check ``run-record``).
        """
        if not self.would_mirror(content):
            return False
        run = self._check_mirror(content)
        folder = self._make_folder(str(run["id"]))
        path = folder / "events.jsonl"
        temporary = folder / ".events.jsonl.new"
        with naming(path), temporary.open("w", encoding="utf-8") as stream:
            temporary.chmod(0o600)
            stream.writelines(_line(event) for event in content["events"])
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        self._write(dict(run))
        return True

    def _check_mirror(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        run = content.get("run")
        events = content.get("events")
        if (
            not isinstance(run, Mapping)
            or not isinstance(events, Sequence)
            or run.get("tenant") != self._tenant
            or not _ID.fullmatch(str(run.get("id")))
        ):
            raise MigrationError(
                f"The content is no run record of tenant {self._tenant}",
                check="run-record",
                action="Pass on the content that ireporter_run returned on the source",
            )
        _refuse_secrets({"run": run, "events": events})
        return run

    def _folder(self, run_id: str) -> Path:
        if not _ID.fullmatch(run_id):
            raise MigrationError(
                f"{run_id!r} is no migration id", check="migration-id", action="Use the id that ireporter_run returned"
            )
        return self._directory / run_id

    def _make_folder(self, run_id: str) -> Path:
        folder = self._folder(run_id)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    def _write(self, run: Run) -> None:
        write_json(self._make_folder(str(run["id"])) / "run.json", run)

    def _append(self, run: Run, event: str, details: Mapping[str, object]) -> None:
        path = self._make_folder(str(run["id"])) / "events.jsonl"
        line = _line(
            {
                "at": self._now(),
                "id": run["id"],
                "attempt": run["attempt"],
                "step": run["step"],
                "status": run["status"],
                "event": event,
                "reason": run["reason"],
                "operator": run["operator"],
                **({"details": dict(details)} if details else {}),
            }
        )
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            # After a power cut the last line may lack its end: the new one must not be glued to it.
            torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            if torn:
                os.ftruncate(descriptor, _last_line_end(descriptor, size))
            with naming(path):
                os.write(descriptor, line.encode())
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _now(self) -> str:
        return self._clock.now().isoformat(timespec="milliseconds")


def _line(event: Mapping[str, object]) -> str:
    return json.dumps(event, ensure_ascii=False, sort_keys=True) + "\n"


def _last_line_end(descriptor: int, size: int) -> int:
    return os.pread(descriptor, size, 0).rfind(b"\n") + 1


def _plain(value: Any) -> Any:
    """The same with undecodable bytes (of file names) written as escapes: JSON files are UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, Mapping):
        return {_plain(str(key)): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, Sequence) else value


def _refuse_secrets(value: object, where: str = "") -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if _SECRET_KEY.search(str(key)):
                raise _secret(f"{where}{key}")
            _refuse_secrets(item, f"{where}{key}.")
    elif isinstance(value, str):
        if _SECRET_VALUE.search(value):
            raise _secret(where.rstrip("."))
    elif isinstance(value, Sequence):
        for item in value:
            _refuse_secrets(item, where)


def _secret(where: str) -> MigrationError:
    return MigrationError(
        f"{where} looks like a secret, and a run record holds none", check="record-secret", action=f"Leave {where} out"
    )
