# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an administrator of the stand-in does at the command line."""

from __future__ import annotations

import argparse
import csv
import io
import os
import sys
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from . import config
from .errors import ConfigurationError
from .passwords import hashed, matches

SCHEMA = Path(__file__).resolve().parent.parent / "schema.sql"
ACCOUNTS_QUERY = "SELECT count(*) FROM mst_user WHERE delete_flag = 0 AND user_type <> 9"
# Else the encoding of the client is that of the database connected to, which an old cluster may have as SQL_ASCII.
_UTF8: dict[str, Any] = {"client_encoding": "UTF8"}
USER_TYPES = {"user": 0, "administrator": 1, "service": 9}


class UsageError(Exception):
    """The command cannot be carried out as asked; one sentence says why."""


# The database ---------------------------------------------------------------------------------------------------------
def passfile_passwords(path: Path) -> dict[str, str]:
    """Role name → password from a libpq password file."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            fields: list[str] = [""]
            characters = iter(line)
            for character in characters:
                if character == "\\":
                    fields[-1] += next(characters, "")
                elif character == ":" and len(fields) < 5:
                    fields.append("")
                else:
                    fields[-1] += character
            if len(fields) == 5:
                found[fields[3]] = fields[4]
    return found


def create_database(admin: str, database: str, prefix: str, pgpass: Path | None, locale: str) -> bool:
    """Roles ``<prefix>_owner``, ``_app``, ``_report``, and the database with its schema. Whether any was made."""
    owner, app, report = (f"{prefix}_{kind}" for kind in ("owner", "app", "report"))
    passwords = passfile_passwords(pgpass) if pgpass else {}
    changed = False
    with psycopg.connect(admin, autocommit=True, **_UTF8) as connection:
        for role in (owner, app, report):
            if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone() is None:
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
                changed = True
                if role in passwords:
                    # Hashed here, so that the password is in no statement and no server log.
                    verifier = connection.pgconn.encrypt_password(
                        passwords[role].encode(), role.encode(), b"scram-sha-256"
                    ).decode()
                    connection.execute(
                        sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(verifier))
                    )
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,)).fetchone() is None:
            connection.execute(
                sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING 'UTF8' LOCALE {}").format(
                    sql.Identifier(database), sql.Identifier(owner), sql.Literal(locale)
                )
            )
            for statement in (
                sql.SQL("REVOKE CONNECT, TEMPORARY ON DATABASE {d} FROM PUBLIC"),
                sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {d} TO {a}"),
                sql.SQL("GRANT CONNECT ON DATABASE {d} TO {r}"),
                sql.SQL("ALTER DATABASE {d} SET timezone = 'Asia/Tokyo'"),
                sql.SQL('ALTER DATABASE {d} SET "ireporter.site" = \'本社工場 "A"\''),
                sql.SQL("ALTER ROLE {a} IN DATABASE {d} SET lock_timeout = '20s'"),
                sql.SQL("ALTER ROLE {r} SET statement_timeout = '10min'"),
                sql.SQL("COMMENT ON DATABASE {d} IS 'i-Reporter stand-in (test equipment)'"),
            ):
                connection.execute(
                    statement.format(d=sql.Identifier(database), a=sql.Identifier(app), r=sql.Identifier(report))
                )
            changed = True
    with psycopg.connect(admin, dbname=database, **_UTF8) as connection:
        if connection.execute("SELECT to_regclass('public.rep_top')").fetchone() != (None,):
            return changed
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(owner)))
        connection.execute(SCHEMA.read_text(encoding="utf-8"))
        for grant in _GRANTS:
            connection.execute(sql.SQL(grant).format(a=sql.Identifier(app), r=sql.Identifier(report)))
    return True


# Tables made later – linkage tables, made by the owner's function – get theirs from the default privileges.
_GRANTS = (
    "GRANT USAGE ON SCHEMA public TO {a}, {r}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {a}",
    "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {a}",
    "REVOKE UPDATE, DELETE ON log_login, log_operation, log_rep_cluster FROM {a}",
    "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {r}",
    "REVOKE ALL ON tmp_session, mst_user FROM {r}",
    "GRANT SELECT (user_id, login_id, user_name, group_id, user_type) ON mst_user TO {r}",
    "GRANT EXECUTE ON FUNCTION publish_definition(integer, integer), refresh_report_count() TO {a}",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {a}",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO {r}",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO {a}",
)


# Accounts and definitions ---------------------------------------------------------------------------------------------
def add_user(connection: psycopg.Connection, login: str, name: str, kind: str, password: str) -> bool:
    """An account that may call the API, with this password. Returns whether anything changed."""
    row = connection.execute(
        "SELECT password_hash FROM mst_user WHERE lower(login_id) = lower(%s) AND delete_flag = 0", (login,)
    ).fetchone()
    if row is None:
        connection.execute(
            "INSERT INTO mst_user (login_id, user_name, password_hash, group_id, user_type) "
            "SELECT %s, %s, %s, group_id, %s FROM mst_group WHERE group_name = 'API'",
            (login, name, hashed(password), USER_TYPES[kind]),
        )
        return True
    if matches(password, row[0]):
        return False
    connection.execute(
        "UPDATE mst_user SET password_hash = %s, update_time = now() WHERE lower(login_id) = lower(%s) AND "
        "delete_flag = 0",
        (hashed(password), login),
    )
    return True


def create_definition(connection: psycopg.Connection, name: str, sheets: int, clusters: int, background: bytes) -> int:
    """A definition, not yet published, with ``clusters`` fields spread over ``sheets``. Returns its id."""
    row = connection.execute(
        "INSERT INTO def_top (original_def_top_id, def_top_name, sheet_count, remarks_name, regist_user, pdf) "
        "VALUES (0, %s, %s, ARRAY['ライン', '担当'], 'designer', %s) RETURNING def_top_id",
        (name, sheets, background),
    ).fetchone()
    assert row is not None
    definition = int(row[0])
    connection.execute("UPDATE def_top SET original_def_top_id = def_top_id WHERE def_top_id = %s", (definition,))
    connection.execute(
        "INSERT INTO def_sheet SELECT %s, n, 'シート ' || n, %s FROM generate_series(1, %s) n",
        (definition, background, sheets),
    )
    connection.execute(
        "INSERT INTO def_cluster (def_top_id, sheet_no, cluster_id, cluster_name, cluster_type, position_x, "
        "position_y, input_parameter) "
        "SELECT %(d)s, (n - 1) %% %(s)s + 1, (n - 1) / %(s)s, '項目 ' || n, "
        "(ARRAY['KeyboardText', 'InputNumeric', 'Date', 'Check', 'Image'])[(n - 1) / %(s)s %% 5 + 1], n * 0.1, n "
        "/ 3.0::float8, "
        "xmlparse(content '<Required>' || n %% 2 || '</Required>') FROM generate_series(1, %(c)s) n",
        {"d": definition, "s": sheets, "c": clusters},
    )
    return definition


def new_revision(connection: psycopg.Connection, original: int) -> int:
    """Copy the newest revision of a definition as the next one. Returns the new id."""
    row = connection.execute(
        "INSERT INTO def_top (original_def_top_id, def_top_name, rev_no, report_type, sheet_count, remarks_name, "
        "remarks_value, "
        "system_key, pdf, regist_user, update_user) SELECT original_def_top_id, def_top_name, rev_no + 1, "
        "report_type, sheet_count, "
        "remarks_name, remarks_value, system_key, pdf, 'designer', 'designer' FROM def_top WHERE "
        "original_def_top_id = %s "
        "AND delete_flag = 0 ORDER BY rev_no DESC LIMIT 1 RETURNING def_top_id",
        (original,),
    ).fetchone()
    if row is None:
        raise UsageError(f"There is no definition whose original is {original}")
    latest, definition = original, int(row[0])
    found = connection.execute(
        "SELECT def_top_id FROM def_top WHERE original_def_top_id = %s AND def_top_id <> %s ORDER BY rev_no DESC "
        "LIMIT 1",
        (original, definition),
    ).fetchone()
    latest = found[0] if found else latest
    connection.execute(
        "INSERT INTO def_sheet SELECT %s, sheet_no, sheet_name, background FROM def_sheet WHERE def_top_id = %s",
        (definition, latest),
    )
    connection.execute(
        "INSERT INTO def_cluster SELECT %s, sheet_no, cluster_id, cluster_name, cluster_type, position_x, "
        "position_y, input_parameter "
        "FROM def_cluster WHERE def_top_id = %s",
        (definition, latest),
    )
    return definition


def publish(connection: psycopg.Connection, definition: int, columns: int) -> int:
    """Make linkage tables and view. Returns the columns per table, 0 where it was published before."""
    row = connection.execute("SELECT publish_definition(%s, %s)", (definition, columns)).fetchone()
    assert row is not None
    return int(row[0])


def refresh_statistics(connection: psycopg.Connection, output: Path) -> Path:
    """The scheduled job: refresh the materialised view and write it into the auto-output folder."""
    connection.execute("SELECT refresh_report_count()")
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(["定義ID", "日", "帳票数"])
    writer.writerows(connection.execute("SELECT * FROM mv_report_count ORDER BY 1, 2").fetchall())
    folder = output / "集計"
    folder.mkdir(parents=True, exist_ok=True)
    path, temporary = folder / "report_count.csv", folder / f".report_count.{os.getpid()}"
    temporary.write_text(buffer.getvalue(), encoding="utf-8-sig")
    temporary.replace(path)
    return path


# Command line ---------------------------------------------------------------------------------------------------------
def _password(arguments: argparse.Namespace) -> str:
    text = arguments.password_file.read_text(encoding="utf-8") if arguments.password_file else sys.stdin.readline()
    password = text.rstrip("\n")
    if not password:
        raise UsageError("The password is empty")
    return password


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ireporter-standin-admin", description="Administers the i-Reporter stand-in (test equipment)."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument("--config", type=Path, help="server.toml of the tenant (connects as the application role)")
    where.add_argument("--database", help="libpq connection string, instead of --config")

    create = commands.add_parser("create-database", help="roles, database and schema")
    create.add_argument("--admin", required=True, help="libpq connection string of a superuser")
    create.add_argument("--database", required=True, help="name of the database")
    create.add_argument("--prefix", required=True, help="roles are <prefix>_owner, <prefix>_app, <prefix>_report")
    create.add_argument("--pgpass", type=Path, help="password file the new roles' passwords are read from")
    create.add_argument("--locale", default="C.UTF-8")

    licence = commands.add_parser("issue-licence", help="print a licence for one server")
    licence.add_argument("--hostname", required=True)
    licence.add_argument("--maximum-users", type=int, required=True)
    licence.add_argument("--customer", default="")

    user = commands.add_parser("add-user", parents=[where], help="an account; its password comes from stdin or a file")
    user.add_argument("--login", required=True)
    user.add_argument("--name", default="")
    user.add_argument("--type", choices=sorted(USER_TYPES), default="user")
    user.add_argument("--password-file", type=Path)

    commands.add_parser("count-accounts", parents=[where], help="print the number of accounts a licence counts")

    definition = commands.add_parser("create-definition", parents=[where], help="print the id of a new definition")
    definition.add_argument("--name", required=True)
    definition.add_argument("--sheets", type=int, default=2)
    definition.add_argument("--clusters", type=int, default=24)

    publishing = commands.add_parser("publish-definition", parents=[where], help="make linkage tables and view")
    which = publishing.add_mutually_exclusive_group(required=True)
    which.add_argument("--id", type=int, help="the definition")
    which.add_argument(
        "--new-revision-of", type=int, metavar="ORIGINAL", help="copy the newest revision, publish the copy"
    )
    publishing.add_argument("--columns-per-table", type=int, default=200)

    commands.add_parser("refresh-statistics", parents=[where], help="the scheduled job (needs --config)")
    return parser


def _run(arguments: argparse.Namespace) -> None:
    if arguments.command == "create-database":
        made = create_database(
            arguments.admin, arguments.database, arguments.prefix, arguments.pgpass, arguments.locale
        )
        print("created" if made else "unchanged")
        return
    if arguments.command == "issue-licence":
        print(config.licence_text(arguments.hostname, arguments.maximum_users, arguments.customer), end="")
        return
    settings = config.load(arguments.config) if arguments.config else None
    conninfo = arguments.database or (settings.database if settings else None)
    if conninfo is None:
        raise UsageError("--config or --database is needed")
    with psycopg.connect(conninfo, **_UTF8) as connection:
        if arguments.command == "add-user":
            name = arguments.name or arguments.login
            changed = add_user(connection, arguments.login, name, arguments.type, _password(arguments))
            print("created" if changed else "unchanged")
        elif arguments.command == "count-accounts":
            row = connection.execute(ACCOUNTS_QUERY).fetchone()
            print(row[0] if row else 0)
        elif arguments.command == "create-definition":
            from . import documents  # noqa: PLC0415 - reportlab is slow to import and only needed here

            blank = documents.blank(arguments.name)
            print(create_definition(connection, arguments.name, arguments.sheets, arguments.clusters, blank))
        elif arguments.command == "publish-definition":
            definition = arguments.id or new_revision(connection, arguments.new_revision_of)
            columns = publish(connection, definition, arguments.columns_per_table)
            print(f"{definition} {columns}")
        elif settings is None:
            raise UsageError("refresh-statistics needs --config")
        else:
            print(refresh_statistics(connection, settings.output))


def main() -> int:
    """Exit 0, or 1 with one sentence on stderr."""
    arguments = _parser().parse_args()
    try:
        _run(arguments)
    except (UsageError, ConfigurationError, psycopg.Error, OSError) as error:
        print(f"ireporter-standin-admin: {str(error).strip()}", file=sys.stderr)
        return 1
    return 0
