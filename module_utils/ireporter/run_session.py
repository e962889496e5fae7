"""What ireporter_run does: record and lock together, in the order that survives a crash between the two."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from .errors import MigrationError
from .run_lock import RunLock
from .run_record import RunRecords

Result = dict[str, Any]


class RunSession:
    """One call of one playbook process.

    :param check_mode: look, refuse what would be refused, write nothing.
    """

    def __init__(self, records: RunRecords, lock: RunLock, *, check_mode: bool) -> None:
        self._records = records
        self._lock = lock
        self._check_mode = check_mode

    def start(
        self,
        kind: str,
        operator: str,
        session: str,
        *,
        ttl_seconds: int,
        take_over: bool,
        versions: Mapping[str, object],
    ) -> Result:
        """Take the lock, then go on with the unfinished run, or begin one.

        :raises MigrationError: somebody else holds the lock (check ``run-lock``).
        :raises OSError: lock or record could not be written; it names the file, and the lock is as before.
        """
        unfinished = self._records.unfinished(kind)
        run_id = str(unfinished["id"]) if unfinished else self._records.new_id(kind)
        if self._check_mode:
            self._lock.assert_free(operator, session, take_over=take_over)
            return {"changed": True, "id": run_id, "resumed": unfinished is not None, "run": unfinished}
        taken = self._lock.take(run_id, operator, session, ttl_seconds=ttl_seconds, take_over=take_over)
        # Under the lock once more: another session may have begun a run, or ended this one, in between.
        again = self._records.unfinished(kind)
        if (again["id"] if again else None) != (unfinished["id"] if unfinished else None):
            unfinished = again
            run_id = str(again["id"]) if again else self._records.new_id(kind)
            self._lock.take(run_id, operator, session, ttl_seconds=ttl_seconds)
        if unfinished is not None and not taken:
            # The same playbook process asks again: it is not another attempt.
            return self._result(run_id, changed=False, resumed=True)
        try:
            self._records.start(kind, run_id, operator, resumed=unfinished is not None, versions=versions)
        except OSError:
            # This attempt is over before it began: whoever makes room need not wait until its lock goes out.
            with suppress(OSError):
                self._lock.give_back(session)
            raise
        return self._result(run_id, changed=True, resumed=unfinished is not None)

    def record(self, run_id: str, session: str, *, finish: bool, pause: bool = False, **values: Any) -> Result:
        """Write where the run stands; with ``finish`` it ends, with ``pause`` another session may go on. Either releases the lock.

        :raises MigrationError: the lock is not ours (check ``run-lock``), or something looks like a secret (check ``record-secret``).
        """
        known = self._records.read(run_id)
        if finish and known is not None and known["finished_at"] is not None and known["status"] == values["status"]:
            released = False if self._check_mode else self._lock.release(session)
            return self._result(run_id, changed=released)
        if self._check_mode:
            return {**self._result(run_id, changed=True)} if known else {"changed": True, "id": run_id, "run": None}
        self._lock.assert_held(run_id, session)
        self._records.record(run_id, finish=finish, **values)
        if finish or pause:
            self._lock.release(session)
        return self._result(run_id, changed=True)

    def withdraw(self, run_id: str, session: str) -> Result:
        """This session took the lock of a run on which another one is still at work: that one goes on as if nobody had asked."""
        held = self._lock.read()
        ours = held is not None and held.session == session
        return self._result(run_id, changed=ours if self._check_mode else self._lock.give_back(session))

    def mirror(self, content: Mapping[str, Any]) -> Result:
        """Keep another server's record."""
        if self._check_mode and not content["run"]:
            # The record of a run that check mode did not begin.
            return {"changed": True, "run": None}
        changed = self._records.would_mirror(content) if self._check_mode else self._records.mirror(content)
        return {"changed": changed, "id": content["run"]["id"], "run": content["run"]}

    def read(self, run_id: str | None) -> Result:
        """One run, or just the list.

        :raises MigrationError: there is no such run (check ``run-record``).
        """
        if run_id is None:
            return {"changed": False, "run": None}
        if self._records.read(run_id) is None:
            raise MigrationError(
                f"There is no run {run_id} on this server", check="run-record", action="List them with state: read"
            )
        return self._result(run_id, changed=False)

    def _result(self, run_id: str, *, changed: bool, resumed: bool | None = None) -> Result:
        content = self._records.content(run_id)
        result: Result = {"changed": changed, "id": run_id, "run": content["run"], "content": content}
        if resumed is not None:
            result["resumed"] = resumed
        return result
