"""An unpacked bundle becomes the tenant's database and file trees on this server. Entry point of the unit and of the module.

States, in the order of an import: ``restored`` (beside what is there, and verified), ``rewritten`` (rules), ``swapped`` (by renaming), and
the ways back: ``returned`` (swapped back), ``absent`` (what was only made aside is gone), ``forgotten`` (what was kept is gone).
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import (
    import_check,
    import_journal,
    import_kept,
    import_restore,
    import_rewrite,
    import_rules,
    import_swap,
    import_trees,
)
from .bundle_places import disk_full
from .clock import Clock, SystemClock
from .errors import MigrationError
from .import_bag import Bag
from .import_journal import (
    ASIDE_PHASES,
    REMOVED,
    REMOVING,
    RESTORED,
    RESTORING,
    RETURNED,
    RETURNING,
    REWRITING,
    REWRITTEN,
    SWAPPED,
    SWAPPING,
    VERIFIED,
    Journal,
)
from .import_names import ASIDE, BEFORE, database_name
from .import_names import RETURNED as RETURNED_NAME
from .import_server import IMPORTED, Server
from .import_verify import verify
from .import_wish import STATES, Wish, parse

Progress = Callable[[dict[str, object]], None]
Result = dict[str, Any]


def run(spec: dict[str, object], progress: Progress, clock: Clock | None = None) -> Result:
    """Bring an import into the state wanted.

    :param spec: ``state``, ``check`` (change nothing), ``tenant``, ``import_id``, ``database`` (libpq string of the tenant's database as a
        superuser), and as the state needs them ``bag``, ``file_trees`` (``{name, path}``), ``known_roles``, ``owners``, ``groups``,
        ``application_version_file``, ``accounts_query``, ``replace``, ``jobs``, ``value_rules``, ``file_rules``, ``kept_days``.
    :param progress: gets ``{step, bytes, total_bytes}``.
    :returns: ``changed``, ``phase``, ``import_id``, ``bundle``, ``database`` with ``aside``, ``before``, ``returned``, ``file_trees``,
        ``verified``, ``rewritten``, ``removed``, ``imported`` (what the tenant's database came with), ``seconds``.
    :raises MigrationError: it cannot be brought there; what is the tenant's was not touched, or is where it was.
    """
    started = time.monotonic()
    state = str(spec.get("state"))
    if state not in STATES:
        raise MigrationError(f"{state!r} is no state of an import", check="import-state", action=f"Use one of {STATES}")
    wish = parse(spec)
    try:
        # Looking disturbs nobody.
        with nullcontext() if state == "read" else _alone(wish), Server.connected(wish) as server:
            work = _Import(wish, server, progress, clock or SystemClock())
            result = getattr(work, state)()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(Path(error.filename or wish.state_directory)) from error
        raise MigrationError(
            f"{error.filename or 'A file'} cannot be used: {error.strerror}",
            check="import-file",
            action="Mend the cause, then run again",
        ) from error
    return {**result, "seconds": round(time.monotonic() - started, 3)}


@contextmanager
def _alone(wish: Wish) -> Iterator[None]:
    """One import of a tenant at a time. The kernel gives the lock back when this process ends.

    :raises MigrationError: another one is at work (check ``import-running``).
    """
    folder = wish.state_directory / wish.tenant
    path = folder / "import.lock"
    if wish.check and not path.exists():
        # Check mode leaves nothing behind.
        yield
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise MigrationError(
                f"Another import of {wish.tenant} is at work on this server",
                check="import-running",
                action="Wait until it has ended (ireporter_import state: read says where it stands), then run again",
            ) from error
        yield
    finally:
        os.close(descriptor)


class _Import:
    def __init__(self, wish: Wish, server: Server, progress: Progress, clock: Clock) -> None:
        self._wish = wish
        self._server = server
        self._progress = progress
        self._clock = clock
        self._journal = import_journal.read(wish.directory)

    def read(self) -> Result:
        """Where it stands; nothing changes."""
        return self._result(changed=False)

    def restored(self) -> Result:
        """Restored beside what is there, and verified."""
        wish, journal = self._wish, self._journal
        bag = self._bag()
        if journal is not None:
            self._must_be_of(journal, bag)
            if journal.phase not in ASIDE_PHASES:
                # Further than that, or over: both stay.
                return self._result(changed=False)
            if journal.phase in (VERIFIED, REWRITING, REWRITTEN) and self._still_aside(journal):
                return self._result(changed=False)
        import_check.refuse(wish, bag, self._server, journal)
        if wish.check:
            return self._result(changed=True)
        if journal is None or journal.phase != RESTORED or not self._still_aside(journal):
            journal = self._restore(bag, journal)
        trees = {tree.name: import_trees.aside(tree) for tree in journal.trees}
        try:
            figures = verify(wish, bag, self._server, journal.aside, trees=trees, progress=self._progress)
        except MigrationError as error:
            if error.check == "import-verification":
                # What differs is not looked at again, but restored anew.
                self._write(replace(journal, phase=RESTORING))
            raise
        self._write(replace(journal, phase=VERIFIED, verified=figures))
        return self._result(changed=True)

    def _restore(self, bag: Bag, journal: Journal | None) -> Journal:
        wish, server = self._wish, self._server
        database = wish.database.database
        missing = import_check.roles(wish, bag, server, journal)
        known = journal.roles if journal else ()
        journal = self._write(
            Journal(
                tenant=wish.tenant,
                import_id=wish.import_id,
                bundle=bag.migration_id,
                phase=RESTORING,
                database=database,
                aside=database_name(database, ASIDE, wish.import_id),
                before=database_name(database, BEFORE, wish.import_id),
                returned=database_name(database, RETURNED_NAME, wish.import_id),
                trees=import_trees.notes(wish, bag),
                # Noted before they are made: whoever comes after a kill knows whose they are.
                roles=tuple(sorted({*known, *missing})),
            )
        )
        import_restore.make_roles(bag, server, missing)
        with ThreadPoolExecutor(1) as pool:
            # PostgreSQL's processes and tar's do the work: together they take less time than one after the other.
            files = pool.submit(self._unpack, bag, journal)
            number = import_restore.restore(bag, server, journal.aside, jobs=wish.jobs, step=self._step)
            files.result()
        trees = tuple(replace(tree, imported=import_trees.identity(import_trees.aside(tree))) for tree in journal.trees)
        return self._write(replace(journal, phase=RESTORED, imported=number, trees=trees))

    def _unpack(self, bag: Bag, journal: Journal) -> None:
        for tree in journal.trees:
            self._progress({"step": "file trees", "tree": tree.name})
            import_trees.unpack(self._wish, bag, tree)

    def rewritten(self) -> Result:
        """The rules are carried out on what was verified."""
        wish = self._wish
        rules = import_rules.digest(wish.value_rules, wish.file_rules)
        if wish.check and (self._journal is None or self._journal.phase in (RESTORING, RESTORED)):
            # Check mode restored nothing, so nothing can be counted.
            rules_of_both: tuple[import_rules.ValueRule | import_rules.FileRule, ...] = (
                *wish.value_rules,
                *wish.file_rules,
            )
            foretold = [{"rule": rule.name, "reason": rule.reason} for rule in rules_of_both]
            return {**self._result(changed=True), "rewritten": foretold}
        journal = self._need(VERIFIED, REWRITING, REWRITTEN, SWAPPING, SWAPPED)
        if journal.rules is not None and journal.rules != rules:
            raise MigrationError(
                f"The rules were changed after they had been carried out for the import {journal.import_id}",
                check="import-rules",
                action="Put them back as they were; or take the import away (state: absent) and begin again",
            )
        if journal.phase not in (VERIFIED, REWRITING):
            return self._result(changed=False)
        trees = {tree.name: import_trees.aside(tree) for tree in journal.trees}
        if wish.check:
            counted = import_rewrite.count(self._server, journal.aside, wish.value_rules)
            counted += import_rewrite.files(trees, wish.file_rules, keep=False)
            return {**self._result(changed=True), "rewritten": counted}
        self._step("rewrite")
        # Counted before anything is: what was killed in the middle is told with the same figures.
        if journal.phase == VERIFIED:
            done = import_rewrite.count(self._server, journal.aside, wish.value_rules)
            done += import_rewrite.files(trees, wish.file_rules, keep=False)
            journal = self._write(replace(journal, phase=REWRITING, rules=rules, rewritten=done))
        import_rewrite.values(self._server, journal.aside, wish.value_rules, journal.import_id)
        import_rewrite.files(trees, wish.file_rules, keep=True)
        self._write(replace(journal, phase=REWRITTEN))
        return self._result(changed=True)

    def swapped(self) -> Result:
        """What was imported has the tenant's names."""
        if self._wish.check and (self._journal is None or self._journal.phase in ASIDE_PHASES):
            return self._result(changed=True)
        journal = self._need(REWRITTEN, SWAPPING, SWAPPED)
        if journal.phase == SWAPPED or self._wish.check:
            return self._result(changed=journal.phase != SWAPPED)
        self._step("swap")
        if journal.phase == REWRITTEN:
            journal = self._write(replace(import_swap.identified(self._server, journal), phase=SWAPPING))
        import_swap.forward(self._server, journal, self._clock)
        self._write(replace(journal, phase=SWAPPED))
        return self._result(changed=True)

    def returned(self) -> Result:
        """What was there before has the tenant's names again."""
        journal = self._journal
        if journal is None or journal.phase in (*ASIDE_PHASES, RETURNED, REMOVING, REMOVED):
            # Nothing of the tenant's was touched, or it is back.
            return self._result(changed=False)
        self._must_be_closed(journal)
        if self._wish.check:
            return self._result(changed=True)
        self._step("swap back")
        journal = self._write(replace(journal, phase=RETURNING))
        import_swap.backward(self._server, journal, self._clock)
        self._write(replace(journal, phase=RETURNED))
        return self._result(changed=True)

    def absent(self) -> Result:
        """What this import made, and nobody wrote in, is gone."""
        journal = self._journal
        if journal is None or journal.phase == REMOVED:
            return self._result(changed=False)
        import_kept.refuse_discard(self._server, journal)
        if self._wish.check:
            return self._result(changed=True)
        removed = import_kept.discard(self._server, self._wish.directory, journal, self._now())
        self._journal = import_journal.read(self._wish.directory)
        return {**self._result(changed=True), "removed": removed}

    def forgotten(self) -> Result:
        """What imports of the tenant keep for longer than some days is gone."""
        wish = self._wish
        directories = import_journal.of_tenant(wish.state_directory, wish.tenant)
        removed = import_kept.forget(self._server, directories, wish.kept_days, self._clock, check=wish.check)
        self._journal = import_journal.read(wish.directory)
        return {**self._result(changed=bool(removed)), "removed": removed}

    def _bag(self) -> Bag:
        if self._wish.bag is None:
            raise MigrationError("No bag is named", check="import-bag", action="Say where the bundle was unpacked")
        return Bag(self._wish.bag)

    def _must_be_of(self, journal: Journal, bag: Bag) -> None:
        if journal.bundle != bag.migration_id or journal.database != self._wish.database.database:
            raise MigrationError(
                f"The import {journal.import_id} is of the bundle {journal.bundle} into the database {journal.database}",
                check="import-id",
                action="Begin a new import for another bundle or another database",
            )

    def _need(self, *phases: str) -> Journal:
        journal = self._journal
        if journal is None or journal.phase not in phases:
            raise MigrationError(
                f"The import {self._wish.import_id} is {journal.phase if journal else 'not begun'}, so this cannot come next",
                check="import-order",
                action="Bring it through restored, rewritten and swapped in this order",
            )
        return journal

    def _must_be_closed(self, journal: Journal) -> None:
        found = self._server.database(journal.database)
        if found is not None and found.connection_limit != 0:
            raise MigrationError(
                f"The database {journal.database} lets users in, so nothing can be swapped",
                check="import-open",
                action="Close the tenant first (ireporter_tenant state: closed), then run again",
            )

    def _still_aside(self, journal: Journal) -> bool:
        found = self._server.database(journal.aside)
        return (
            found is not None
            and found.number == journal.imported
            and all(import_trees.identity(import_trees.aside(tree)) == tree.imported for tree in journal.trees)
        )

    def _step(self, name: str) -> None:
        self._progress({"step": name})

    def _now(self) -> str:
        return self._clock.now().isoformat(timespec="seconds")

    def _write(self, journal: Journal) -> Journal:
        self._journal = import_journal.write(self._wish.directory, journal, self._now())
        return self._journal

    def _result(self, *, changed: bool) -> Result:
        journal = self._journal
        found = self._server.database(self._wish.database.database)
        names: Mapping[str, Any] = {}
        if journal is not None:
            names = {
                "bundle": journal.bundle,
                "database": journal.database,
                "aside": journal.aside,
                "before": journal.before if journal.current is not None else None,
                "returned": journal.returned,
                "file_trees": [
                    {"name": tree.name, "path": tree.path, "before": tree.before if tree.current is not None else None}
                    for tree in journal.trees
                ],
                "verified": journal.verified,
                "rewritten": journal.rewritten,
                "roles": list(journal.roles),
                "at": journal.at,
            }
        mark = found.settings.get(IMPORTED) if found is not None else None
        return {
            "changed": changed,
            "import_id": self._wish.import_id,
            "phase": journal.phase if journal is not None else "none",
            "imported": dict(zip(("tenant", "bundle", "import_id"), mark.split("/"), strict=False)) if mark else None,
            **names,
        }
