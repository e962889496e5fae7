# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything the server asks of its database. One connection per worker thread; a transaction per request."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import psycopg.sql
from psycopg.rows import dict_row

from .documents import Report, Value
from .errors import BAD_PARAMETER, NOT_FOUND, RefusedError
from .uploads import Top

SESSION_MINUTES = 20  # what ASP.NET does unless told otherwise
LIST_LIMIT = 5000
# The request's fault, not the database's, although psycopg counts an index entry or a row too long as operational.
DOES_NOT_FIT = (psycopg.DataError, psycopg.errors.ProgramLimitExceeded)
DOES_NOT_FIT_REMARK = "A value does not fit the database"
_TIME = "YYYY/MM/DD HH24:MI:SS"

Row = dict[str, Any]


class Store:
    """The tenant's database, reached as the application role."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._local = threading.local()

    @contextlib.contextmanager
    def transaction(self, user: str = "") -> Iterator[psycopg.Connection[Row]]:
        """A transaction in the name of ``user`` (the audit triggers read it). A broken connection is replaced."""
        connection = getattr(self._local, "connection", None)
        if connection is None or connection.closed:
            connection = psycopg.connect(
                self._conninfo,
                row_factory=dict_row,
                application_name="ireporter-standin",
                connect_timeout=5,
                client_encoding="UTF8",
            )
            self._local.connection = connection
        try:
            with connection.transaction():
                if user:
                    connection.execute("SELECT set_config('ireporter.user', %s, true)", (user,))
                yield connection
        except DOES_NOT_FIT:
            raise  # nothing is wrong with the connection
        except psycopg.OperationalError:
            connection.close()
            raise


# Users and sessions ---------------------------------------------------------------------------------------------------
def find_user(connection: psycopg.Connection[Row], login: str) -> Row | None:
    """The account with its group's API permission."""
    return connection.execute(
        "SELECT u.user_id, u.login_id, u.password_hash, g.api_permission FROM mst_user u JOIN mst_group g USING "
        "(group_id) "
        "WHERE lower(u.login_id) = lower(%s) AND u.delete_flag = 0",
        (login,),
    ).fetchone()


def record_login(connection: psycopg.Connection[Row], login: str, accepted: bool, address: str) -> None:
    """The login history counts refusals too."""
    connection.execute(
        "INSERT INTO log_login (login_id, accepted, address) VALUES (%s, %s, %s)", (login[:200], accepted, address)
    )


def open_session(connection: psycopg.Connection[Row], user_id: int) -> str:
    """A new session id; sessions idle for too long are swept on the way."""
    connection.execute(
        "DELETE FROM tmp_session WHERE last_access < now() - make_interval(mins => %s)", (SESSION_MINUTES,)
    )
    session = secrets.token_hex(12)
    connection.execute("INSERT INTO tmp_session (session_id, user_id) VALUES (%s, %s)", (session, user_id))
    connection.execute("UPDATE mst_user SET last_login = now() WHERE user_id = %s", (user_id,))
    return session


def session_user(connection: psycopg.Connection[Row], session: str) -> str | None:
    """Login id of a live session; its idle time starts again (written once a minute, not with every request)."""
    row = connection.execute(
        "SELECT s.last_access < now() - interval '1 minute' AS stale, u.login_id FROM tmp_session s JOIN mst_user u "
        "USING (user_id) WHERE s.session_id = %s AND u.delete_flag = 0 "
        "AND s.last_access > now() - make_interval(mins => %s)",
        (session, SESSION_MINUTES),
    ).fetchone()
    if row is None:
        return None
    if row["stale"]:
        connection.execute("UPDATE tmp_session SET last_access = now() WHERE session_id = %s", (session,))
    return str(row["login_id"])


def close_session(connection: psycopg.Connection[Row], session: str) -> bool:
    """Whether there was one."""
    return connection.execute("DELETE FROM tmp_session WHERE session_id = %s", (session,)).rowcount > 0


# Reading --------------------------------------------------------------------------------------------------------------
def definitions(connection: psycopg.Connection[Row], word: str, keys: Sequence[str | None]) -> list[Row]:
    """Newest revision of each published definition."""
    return connection.execute(
        "SELECT * FROM (SELECT DISTINCT ON (original_def_top_id) def_top_id AS item_id, def_top_name AS name, rev_no, "
        "edit_status, public_status, report_type, system_key, to_char(regist_time, %(t)s) AS regist_time, "
        "to_char(update_time, %(t)s) AS update_time FROM def_top WHERE delete_flag = 0 AND public_status = 2 "
        "ORDER BY original_def_top_id, rev_no DESC) d WHERE name ILIKE %(word)s AND "
        + _keys()
        + " ORDER BY item_id LIMIT %(limit)s",
        {"t": _TIME, "word": _like(word), "limit": LIST_LIMIT, **_key_values(keys)},
    ).fetchall()


def reports(connection: psycopg.Connection[Row], word: str, keys: Sequence[str | None]) -> list[Row]:
    """Reports, newest first, at most ``LIST_LIMIT``."""
    return connection.execute(
        "SELECT rep_top_id AS item_id, rep_top_name AS name, rev_no, edit_status, public_status, report_type, "
        "system_key, "
        "to_char(regist_time, %(t)s) AS regist_time, to_char(update_time, %(t)s) AS update_time FROM rep_top "
        "WHERE delete_flag = 0 AND rep_top_name ILIKE %(word)s AND "
        + _keys()
        + " ORDER BY rep_top_id DESC LIMIT %(limit)s",
        {"t": _TIME, "word": _like(word), "limit": LIST_LIMIT, **_key_values(keys)},
    ).fetchall()


def _keys() -> str:
    # Placeholders only; the values travel beside them.
    return " AND ".join(f"(%(k{n})s::text IS NULL OR system_key[{n}] = %(k{n})s)" for n in range(1, 6))


def _key_values(keys: Sequence[str | None]) -> dict[str, str | None]:
    return {f"k{n}": (keys[n - 1] or None) for n in range(1, 6)}


def _like(word: str) -> str:
    return "%" + word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"


def definition(connection: psycopg.Connection[Row], top_id: int) -> tuple[Row, list[Row]]:
    """One definition and its clusters."""
    return _detail(connection, "def", top_id)


def report(connection: psycopg.Connection[Row], top_id: int) -> tuple[Row, list[Row]]:
    """One report and its clusters."""
    return _detail(connection, "rep", top_id)


def _detail(connection: psycopg.Connection[Row], kind: str, top_id: int) -> tuple[Row, list[Row]]:
    # kind is "def" or "rep", never input.
    top = connection.execute(
        f"SELECT {kind}_top_id AS top_id, {kind}_top_name AS top_name, report_type, public_status, sheet_count, "
        f"edit_status, "
        "remarks_name, remarks_value, system_key, regist_user, update_user, to_char(regist_time, %(t)s) AS "
        "regist_time, "
        f"to_char(update_time, %(t)s) AS update_time FROM {kind}_top WHERE {kind}_top_id = %(id)s AND delete_flag = 0",
        {"t": _TIME, "id": top_id},
    ).fetchone()
    if top is None:
        raise RefusedError(NOT_FOUND, f"There is no {'definition' if kind == 'def' else 'report'} {top_id}")
    values = "NULL AS value" if kind == "def" else "CASE WHEN image IS NOT NULL THEN 'Image' ELSE value END AS value"
    clusters = connection.execute(
        f"SELECT sheet_no, cluster_id, cluster_name, cluster_type, {values} FROM {kind}_cluster "
        f"WHERE {kind}_top_id = %s ORDER BY sheet_no, cluster_id",
        (top_id,),
    ).fetchall()
    return top, clusters


def document(connection: psycopg.Connection[Row], top_id: int) -> Report:
    """What PDF and CSV are made from."""
    top = connection.execute(
        "SELECT r.rep_top_name, d.def_top_name, r.update_time, r.update_user FROM rep_top r JOIN def_top d USING "
        "(def_top_id) "
        "WHERE r.rep_top_id = %s AND r.delete_flag = 0",
        (top_id,),
    ).fetchone()
    if top is None:
        raise RefusedError(NOT_FOUND, f"There is no report {top_id}")
    values = connection.execute(
        "SELECT sheet_no, cluster_id, cluster_name, cluster_type, value, image FROM rep_cluster WHERE rep_top_id = %s "
        "ORDER BY sheet_no, cluster_id",
        (top_id,),
    ).fetchall()
    return Report(
        top_id,
        top["rep_top_name"],
        top["def_top_name"],
        top["update_time"],
        top["update_user"],
        [
            Value(*(v[k] for k in ("sheet_no", "cluster_id", "cluster_name", "cluster_type", "value", "image")))
            for v in values
        ],
    )


def report_name(connection: psycopg.Connection[Row], top_id: int) -> str:
    """What the report is called."""
    row = connection.execute(
        "SELECT rep_top_name FROM rep_top WHERE rep_top_id = %s AND delete_flag = 0", (top_id,)
    ).fetchone()
    if row is None:
        raise RefusedError(NOT_FOUND, f"There is no report {top_id}")
    return str(row["rep_top_name"])


def stored_file(connection: psycopg.Connection[Row], top_id: int, layer: bool) -> bytes:
    """The PDF kept with the report."""
    column = "pdf_layer" if layer else "pdf"
    row = connection.execute(
        f"SELECT coalesce(f.{column}, f.pdf) AS content FROM rep_top r JOIN rep_file f USING (rep_top_id) "
        "WHERE r.rep_top_id = %s AND r.delete_flag = 0",
        (top_id,),
    ).fetchone()
    if row is None or row["content"] is None:
        raise RefusedError(NOT_FOUND, f"There is no report {top_id}, or it has no PDF")
    return bytes(row["content"])


def master_records(
    connection: psycopg.Connection[Row], master: tuple[int | None, str], record: tuple[int | None, str], search: str
) -> tuple[Row, list[Row]]:
    """A common master and its records, narrowed by id, key and a text found in any field."""
    found = connection.execute(
        "SELECT master_id, master_key, master_name, field_names FROM mst_common "
        "WHERE (%(id)s::integer IS NULL OR master_id = %(id)s) AND (%(key)s = '' OR master_key = %(key)s) ORDER "
        "BY 1 LIMIT 1",
        {"id": master[0], "key": master[1]},
    ).fetchone()
    if found is None:
        raise RefusedError(NOT_FOUND, "There is no such master")
    rows = connection.execute(
        "SELECT record_id, record_key, field_values FROM mst_common_record WHERE master_id = %(m)s "
        "AND (%(id)s::integer IS NULL OR record_id = %(id)s) AND (%(key)s = '' OR record_key = %(key)s) "
        "AND (%(search)s = '' OR EXISTS (SELECT FROM unnest(field_values) AS v WHERE strpos(v, %(search)s) > 0)) "
        "ORDER BY record_id LIMIT %(limit)s",
        {"m": found["master_id"], "id": record[0], "key": record[1], "search": search, "limit": LIST_LIMIT},
    ).fetchall()
    return found, rows


# Writing --------------------------------------------------------------------------------------------------------------
def create_report(connection: psycopg.Connection[Row], top: Top, user: str) -> int:
    """A new report from its definition; the server hands out the id. Returns it."""
    if top.def_top_id is None:
        raise RefusedError(BAD_PARAMETER, "defTopId is missing")
    made_from = connection.execute(
        "SELECT def_top_name, report_type, sheet_count, remarks_name, remarks_value, rev_no FROM def_top "
        "WHERE def_top_id = %s AND delete_flag = 0 AND public_status = 2",
        (top.def_top_id,),
    ).fetchone()
    if made_from is None:
        raise RefusedError(NOT_FOUND, f"There is no published definition {top.def_top_id}")
    row = connection.execute(
        "INSERT INTO rep_top (def_top_id, rep_top_name, rev_no, report_type, edit_status, sheet_count, "
        "remarks_name, remarks_value, "
        "system_key, regist_user, update_user) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING "
        "rep_top_id",
        (
            top.def_top_id,
            top.name or made_from["def_top_name"],
            made_from["rev_no"],
            made_from["report_type"],
            top.edit_status if top.edit_status is not None else 0,
            made_from["sheet_count"],
            made_from["remarks_name"],
            _merged(top.remarks, made_from["remarks_value"]),
            _merged(top.system_keys, []),
            top.user or user,
            top.user or user,
        ),
    ).fetchone()
    assert row is not None
    top_id = int(row["rep_top_id"])
    connection.execute(
        "INSERT INTO rep_sheet SELECT %s, sheet_no, sheet_name, background FROM def_sheet WHERE def_top_id = %s",
        (top_id, top.def_top_id),
    )
    connection.execute(
        "INSERT INTO rep_cluster (rep_top_id, sheet_no, cluster_id, cluster_name, cluster_type) "
        "SELECT %s, sheet_no, cluster_id, cluster_name, cluster_type FROM def_cluster WHERE def_top_id = %s",
        (top_id, top.def_top_id),
    )
    _write_clusters(connection, top_id, top)
    return top_id


def update_report(connection: psycopg.Connection[Row], top: Top, user: str, replace: bool) -> int:
    """Write what the upload mentions; ``replace`` also empties the clusters it does not mention."""
    if top.rep_top_id is None:
        raise RefusedError(BAD_PARAMETER, "repTopId is missing")
    current = connection.execute(
        "SELECT rep_top_name, edit_status, system_key, remarks_value FROM rep_top WHERE rep_top_id = %s AND "
        "delete_flag = 0 FOR UPDATE",
        (top.rep_top_id,),
    ).fetchone()
    if current is None:
        raise RefusedError(NOT_FOUND, f"There is no report {top.rep_top_id}")
    connection.execute(
        "UPDATE rep_top SET rep_top_name = %s, edit_status = %s, system_key = %s, remarks_value = %s, "
        "update_time = now(), "
        "update_user = %s WHERE rep_top_id = %s",
        (
            top.name or current["rep_top_name"],
            current["edit_status"] if top.edit_status is None else top.edit_status,
            _merged(top.system_keys, current["system_key"]),
            _merged(top.remarks, current["remarks_value"]),
            user,
            top.rep_top_id,
        ),
    )
    if replace:
        connection.execute("UPDATE rep_cluster SET value = NULL, image = NULL WHERE rep_top_id = %s", (top.rep_top_id,))
    _write_clusters(connection, top.rep_top_id, top)
    return top.rep_top_id


def _merged(given: Sequence[str | None], current: Sequence[str | None]) -> list[str | None]:
    padded = [*current, *([None] * (len(given) - len(current)))]
    return [kept if new is None else new for new, kept in zip(given, padded, strict=False)]


def _write_clusters(connection: psycopg.Connection[Row], top_id: int, top: Top) -> None:
    clusters = [
        c
        for c in top.clusters
        if any(v is not None for v in (c.value, c.approver, c.approval_date, c.comment, c.image))
    ]
    if clusters:
        # One statement for all of them. What is not mentioned stays; a text over an image removes the image.
        done = connection.execute(
            "UPDATE rep_cluster c SET value = coalesce(n.value, c.value), "
            "image = CASE WHEN n.image IS NOT NULL THEN n.image WHEN n.value IS NOT NULL AND n.value <> 'Image' "
            "THEN NULL ELSE c.image END, "
            "approver = coalesce(n.approver, c.approver), approval_date = coalesce(n.approval_date, c.approval_date), "
            "comment = coalesce(n.comment, c.comment) "
            "FROM unnest(%s::integer[], %s::integer[], %s::text[], %s::text[], %s::text[], %s::text[], %s::bytea[]) "
            "AS n(sheet_no, cluster_id, value, approver, approval_date, comment, image) "
            "WHERE c.rep_top_id = %s AND c.sheet_no = n.sheet_no AND c.cluster_id = n.cluster_id",
            (
                [c.sheet_no for c in clusters],
                [c.cluster_id for c in clusters],
                [c.value for c in clusters],
                [c.approver for c in clusters],
                [c.approval_date for c in clusters],
                [c.comment for c in clusters],
                [c.image for c in clusters],
                top_id,
            ),
        )
        wanted = {(c.sheet_no, c.cluster_id) for c in clusters}
        if done.rowcount < len(wanted):
            raise RefusedError(BAD_PARAMETER, "The upload names a cluster the report does not have")
    connection.execute("SELECT save_linkage(%s)", (top_id,))


def keep_pdf(connection: psycopg.Connection[Row], top_id: int, content: bytes) -> None:
    """Store the printed report beside its values."""
    connection.execute(
        "INSERT INTO rep_file (rep_top_id, pdf) VALUES (%s, %s) ON CONFLICT (rep_top_id) DO UPDATE SET pdf = "
        "excluded.pdf, pdf_layer = NULL",
        (top_id, content),
    )


def delete_report(connection: psycopg.Connection[Row], top_id: int, physical: bool) -> None:
    """Logical: the row stays, flagged. Physical: gone with everything that belongs to it, linkage rows included."""
    row = connection.execute(
        "SELECT def_top_id, delete_flag FROM rep_top WHERE rep_top_id = %s FOR UPDATE", (top_id,)
    ).fetchone()
    if row is None or (row["delete_flag"] and not physical):
        raise RefusedError(NOT_FOUND, f"There is no report {top_id}")
    if not physical:
        connection.execute("UPDATE rep_top SET delete_flag = 1, update_time = now() WHERE rep_top_id = %s", (top_id,))
        return
    linked = connection.execute(
        "SELECT DISTINCT table_no FROM generate_series(1, 4) AS table_no "
        "WHERE to_regclass(format('report_%%s_s_%%s', %s::integer, table_no)) IS NOT NULL",
        (row["def_top_id"],),
    ).fetchall()
    for table in linked:
        name = f"report_{row['def_top_id']}_s_{table['table_no']}"
        connection.execute(
            psycopg.sql.SQL("DELETE FROM {} WHERE rep_top_id = %s").format(psycopg.sql.Identifier(name)), (top_id,)
        )
    connection.execute("DELETE FROM rep_cluster WHERE rep_top_id = %s", (top_id,))
    connection.execute("DELETE FROM rep_measurement WHERE rep_top_id = %s", (top_id,))
    connection.execute("DELETE FROM rep_top WHERE rep_top_id = %s", (top_id,))
