"""Proof that a write is impossible: the same writes that succeeded, and were rolled back, just before."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .errors import MigrationError
from .tenant_model import Probe
from .tenant_server import Server

if TYPE_CHECKING:
    from .tenant_database import Connection

ACCEPTED = "accepted"
NOT_RECORDED = "not recorded"


@dataclass
class Row:
    """One way to write. ``before`` and ``after`` say what came of the attempt."""

    as_: str
    how: str
    before: str
    after: str = ""
    verified: bool = False

    def as_dict(self) -> dict[str, object]:
        return {"as": self.as_, "how": self.how, "before": self.before, "after": self.after, "verified": self.verified}


@dataclass
class Proof:
    """The probes of one tenant: ``before()`` while it is open, ``after()`` when nothing may pass any more."""

    server: Server
    rows: list[Row] = field(default_factory=list)
    sessions: dict[str, Connection] = field(default_factory=dict)

    def before(self) -> None:
        """Make every probe and keep one session per database role open.

        :raises MigrationError: one does not succeed: then its failing later would prove nothing (check ``freeze-proof``); or its role is a
            superuser, whom no connection limit holds (check ``superuser-probe``).
        """
        database = self.server.database
        for probe in self.server.tenant.database_probes:
            session = database.open_probe(probe)
            self.sessions[probe.name] = session
            if database.is_superuser(session):
                raise superuser_obstacle(probe)
            self.rows.append(Row(probe.name, _HOW_NEW, database.try_statement(session, probe)))
            self.rows.append(Row(probe.name, _HOW_READ_WRITE, database.try_statement(session, probe, read_write=True)))
            self.rows.append(Row(probe.name, _HOW_OLD, self.rows[-2].before))
            self.rows.append(Row(probe.name, _HOW_OLD_READ_WRITE, self.rows[-2].before))
        self.rows.extend(Row(who, how, self._http(how)) for who, how in self._http_ways())
        for tree in self.server.tenant.file_trees:
            answer = self.server.trees.try_write(tree)
            self.rows.append(Row(tree.write_as, _file_way(tree.name), ACCEPTED if answer == "created" else answer))
        failed = [row for row in self.rows if row.before != ACCEPTED]
        if failed:
            raise MigrationError(
                f"Before the freeze a write of {failed[0].as_} ({failed[0].how}) did not succeed: {failed[0].before}; not verified",
                check="freeze-proof",
                action="Correct the tenant's probes (database_probes, web.login, webdav_login, write_as) until each succeeds",
            )

    def after(self, *, status: int) -> list[dict[str, object]]:
        """Make every probe again.

        :param status: what the gate answers (503 or 410).
        :return: the rows.
        :raises MigrationError: a write is possible, or it failed for another reason than the freeze (check ``freeze-proof``). The rows are
            its ``figures``.
        """
        database = self.server.database
        for row in self.rows:
            if row.how in (_HOW_OLD, _HOW_OLD_READ_WRITE):
                probe = self._probe(row.as_)
                row.after = database.try_statement(
                    self.sessions[probe.name], probe, read_write=row.how == _HOW_OLD_READ_WRITE
                )
                row.verified = row.after.startswith("refused")
            elif row.how in (_HOW_NEW, _HOW_READ_WRITE):
                row.after = database.try_connection(self._probe(row.as_), read_write=row.how == _HOW_READ_WRITE)
                row.verified = row.after.startswith("refused")
            elif row.how.startswith(_FILE):
                tree = next(tree for tree in self.server.tenant.file_trees if _file_way(tree.name) == row.how)
                row.after = self.server.trees.try_write(tree)
                row.verified = row.after == "EROFS"
            else:
                row.after = self._http(row.how)
                row.verified = row.after == f"HTTP {status}"
        # A refused connection proves the freeze only while the server itself is there and says why.
        limit = database.connection_limit()
        if limit != 0 or (left := [session for session in database.sessions() if not session.superuser]):
            found = (
                f"the connection limit is {limit}" if limit != 0 else f"session {left[0].pid} of {left[0].user} is left"
            )
            raise self._failure(f"database {self.server.tenant.database} is not shut: {found}")
        for row in self.rows:
            if not row.verified:
                raise self._failure(f"a write of {row.as_} ({row.how}) was not refused by the freeze: {row.after}")
        return [row.as_dict() for row in self.rows]

    def again(self, recorded: list[dict[str, object]]) -> None:
        """Prepare ``after()`` for a freeze made earlier: its recorded rows stand for ``before``; sessions of then cannot be asked again."""
        known = {(str(row["as"]), str(row["how"])): str(row["before"]) for row in recorded}
        ways = [(p.name, how) for p in self.server.tenant.database_probes for how in (_HOW_NEW, _HOW_READ_WRITE)]
        ways += self._http_ways()
        ways += [(tree.write_as, _file_way(tree.name)) for tree in self.server.tenant.file_trees]
        self.rows = [Row(who, how, known.get((who, how), NOT_RECORDED)) for who, how in ways]

    def close(self) -> None:
        """End the sessions kept open."""
        for session in self.sessions.values():
            session.close()
        self.sessions = {}

    def _http_ways(self) -> list[tuple[str, str]]:
        web = self.server.tenant.web
        ways = [(web.login.user, _LOGIN) if web.login else ("anybody", _GET)]
        if web.webdav_path and web.webdav_login:
            ways.append((web.webdav_login.user, _WEBDAV))
        return ways

    def _http(self, how: str) -> str:
        web = self.server.tenant.web
        if how == _LOGIN and web.login:
            return self.server.web.login(web.login)
        if how == _WEBDAV and web.webdav_path:
            return self.server.web.webdav_write(web.webdav_path, web.webdav_login)
        status = self.server.web.request("GET", "/").status
        return ACCEPTED if status < 400 or status in (401, 403, 404) else f"HTTP {status}"

    def _probe(self, name: str) -> Probe:
        return next(probe for probe in self.server.tenant.database_probes if probe.name == name)

    def _failure(self, what: str) -> MigrationError:
        error = MigrationError(
            f"Tenant {self.server.tenant.name} is not frozen: {what}",
            check="freeze-proof",
            action="Find out how it gets past the freeze, then run again",
        )
        error.figures = {"proof": [row.as_dict() for row in self.rows]}  # type: ignore[attr-defined]
        return error


_HOW_NEW = "database, new session"
_HOW_READ_WRITE = "database, new session with default_transaction_read_only = off"
_HOW_OLD = "database, session opened before"
_HOW_OLD_READ_WRITE = "database, session opened before after SET default_transaction_read_only = off"
_LOGIN = "HTTPS, API Login"
_GET = "HTTPS, GET /"
_WEBDAV = "HTTPS, WebDAV PUT"
_FILE = "new file in tree "


def _file_way(tree: str) -> str:
    return f"{_FILE}{tree}"


def superuser_obstacle(probe: Probe) -> MigrationError:
    """What is said of a tenant's role that no connection limit could hold."""
    return MigrationError(
        f"The tenant's role of database probe {probe.name} is a superuser and could not be locked out",
        check="superuser-probe",
        action="Take SUPERUSER away from it (ALTER ROLE … NOSUPERUSER) and let the application run without",
    )
