"""Settings of databases and roles, and grants, as statements that put exactly the same there again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .database_connection import Connection, identifier, literal, query

COPY_OF = "ireporter_migration.copy_of"
"""Database setting that tells a copy of ours from foreign data, until the tenant opens on it."""

# These hold lists of names, each quoted for itself (pg_dump knows the same list: variable_is_guc_list_quote).
_LISTS = {
    "local_preload_libraries", "search_path", "session_preload_libraries", "shared_preload_libraries",
    "temp_tablespaces", "unix_socket_directories",
}  # fmt: skip


@dataclass(frozen=True)
class Grant:
    """One privilege of an access list. ``grantee`` is ``None`` for PUBLIC."""

    grantor: str
    grantee: str | None
    privilege: str
    grantable: bool

    def __str__(self) -> str:
        option = " with grant option" if self.grantable else ""
        return f"{self.privilege} to {self.grantee if self.grantee is not None else 'PUBLIC'} by {self.grantor}{option}"


def split_list(text: str) -> list[str]:
    """Elements of a stored list setting: ``"$user", public`` → ``$user``, ``public``."""
    elements: list[str] = []
    position = 0
    while position < len(text):
        if text[position] in " ,\t\n":
            position += 1
        elif text[position] == '"':
            element = ""
            position += 1
            while position < len(text):
                if text[position] == '"':
                    if text[position + 1 : position + 2] != '"':
                        break
                    position += 1
                element += text[position]
                position += 1
            position += 1
            elements.append(element)
        else:
            end = position
            while end < len(text) and text[end] not in " ,\t\n":
                end += 1
            elements.append(text[position:end])
            position = end
    return elements


def set_clause(setting: str) -> str:
    """``SET name = value`` for one element (``name=value``) of ``pg_db_role_setting.setconfig``."""
    name, _, text = setting.partition("=")
    quoted_name = ".".join(identifier(part) for part in name.split("."))
    values = ", ".join(map(literal, split_list(text) or [""])) if name in _LISTS else literal(text)
    return f"SET {quoted_name} = {values}"


def setting_name(setting: str) -> str:
    """``name`` of ``name=value``."""
    return setting.partition("=")[0]


def explode(connection: Connection, expression: str, table: str, condition: str) -> dict[object, list[Grant]]:
    """Access lists by the first column of ``expression`` (``key, acl``), in the order in which they were granted."""
    rows = query(
        connection,
        f"""
        SELECT x.key, grantor.rolname, grantee.rolname, e.privilege_type, e.is_grantable
        FROM (SELECT {expression} FROM {table} WHERE {condition}) x (key, acl)
        CROSS JOIN LATERAL aclexplode(x.acl) WITH ORDINALITY e
        JOIN pg_roles grantor ON grantor.oid = e.grantor
        LEFT JOIN pg_roles grantee ON grantee.oid = e.grantee
        ORDER BY e.ordinality
        """,  # noqa: S608 - the three parts are constants of this project
    )
    result: dict[object, list[Grant]] = {}
    for key, *grant in rows:
        result.setdefault(key, []).append(Grant(*grant))
    return result


def grant_statements(what: str, owner: str, grants: Sequence[Grant]) -> Iterable[str]:
    """Statements that give ``what`` (``DATABASE "x"``) exactly ``grants``, whoever granted them.

    To be run by a superuser, in one transaction.
    """
    yield f"REVOKE ALL ON {what} FROM PUBLIC"
    yield f"REVOKE ALL ON {what} FROM {identifier(owner)}"
    for grant in sorted(grants, key=lambda grant: grant.grantor != owner):
        grantee = "PUBLIC" if grant.grantee is None else identifier(grant.grantee)
        option = " WITH GRANT OPTION" if grant.grantable else ""
        if grant.grantor != owner:
            yield f"SET LOCAL SESSION AUTHORIZATION {identifier(grant.grantor)}"
        yield f"GRANT {grant.privilege} ON {what} TO {grantee}{option}"
        if grant.grantor != owner:
            yield "RESET SESSION AUTHORIZATION"
