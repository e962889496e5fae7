"""The roles a database needs: read on the source, made on the target; what exists there is never weakened or overwritten."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from .database_connection import Connection, identifier, literal, query, value
from .database_settings import set_clause
from .errors import MigrationError

_BOOTSTRAP = 10
_DANGEROUS = ("superuser", "createrole", "createdb", "replication", "bypassrls")

_DIRECT = """
SELECT refobjid FROM pg_shdepend
WHERE refclassid = 'pg_authid'::regclass
  AND (dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
       OR dbid = 0 AND classid = 'pg_database'::regclass
          AND objid = (SELECT oid FROM pg_database WHERE datname = current_database()))
UNION SELECT datdba FROM pg_database WHERE datname = current_database()
UNION SELECT setrole FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
      WHERE d.datname = current_database() AND setrole <> 0
UNION SELECT 10 WHERE EXISTS (SELECT FROM pg_class WHERE relowner = 10 AND oid >= 16384)
               OR EXISTS (SELECT FROM pg_proc WHERE proowner = 10 AND oid >= 16384)
               OR EXISTS (SELECT FROM pg_namespace WHERE nspowner = 10 AND oid >= 16384)
               OR EXISTS (SELECT FROM pg_type WHERE typowner = 10 AND oid >= 16384)
               OR EXISTS (SELECT FROM pg_largeobject_metadata WHERE lomowner = 10)
"""


@dataclass(frozen=True)
class Role:
    """A role with everything that belongs to it outside of the database.

    :param bootstrap: the server's first superuser: it exists everywhere and stays as it is.
    :param attributes: ``superuser``, ``login`` … ``connection_limit``, ``valid_until`` as text.
    :param verifier: of the password, a secret (SCRAM or MD5), or ``None``.
    :param settings: ``name=value`` for every database.
    :param database_settings: ``name=value`` in this database.
    :param member_of: role → with admin option.
    """

    name: str
    bootstrap: bool
    attributes: Mapping[str, object]
    verifier: str | None = field(repr=False)
    comment: str | None
    settings: tuple[str, ...]
    database_settings: tuple[str, ...]
    member_of: Mapping[str, bool]


def _needed(connection: Connection) -> set[int]:
    """Numbers of the roles: those the database names, their members, and everything all of these are members of."""
    direct = {int(row[0]) for row in query(connection, _DIRECT)}
    memberships = [
        (int(row[0]), int(row[1])) for row in query(connection, "SELECT roleid, member FROM pg_auth_members")
    ]
    needed = {number for number in direct if number >= 16384 or number == _BOOTSTRAP}
    below = {number for number in needed if number != _BOOTSTRAP}
    while True:
        members = {member for role, member in memberships if role in below and member != _BOOTSTRAP} - below
        if not members:
            break
        below |= members
    needed |= below
    while True:
        groups = {role for role, member in memberships if member in needed and member != _BOOTSTRAP} - needed
        groups = {number for number in groups if number >= 16384}
        if not groups:
            return needed
        needed |= groups


def read_roles(connection: Connection, only: Collection[str] | None = None, database: str | None = None) -> list[Role]:
    """The roles the session's database needs, or those of the names ``only`` that exist; sorted by name.

    :param database: whose role settings are read; default is the session's.
    """
    numbers = (
        sorted(_needed(connection))
        if only is None
        else [row[0] for row in query(connection, "SELECT oid FROM pg_roles WHERE rolname = ANY (%s)", (list(only),))]
    )
    rows = query(
        connection,
        """
        SELECT a.oid, a.rolname, a.rolsuper, a.rolinherit, a.rolcreaterole, a.rolcreatedb, a.rolcanlogin,
               a.rolreplication, a.rolbypassrls, a.rolconnlimit, a.rolvaliduntil::text, a.rolpassword,
               shobj_description(a.oid, 'pg_authid'),
               (SELECT setconfig FROM pg_db_role_setting WHERE setrole = a.oid AND setdatabase = 0),
               (SELECT setconfig FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
                WHERE s.setrole = a.oid AND d.datname = coalesce(%(database)s::text, current_database()))
        FROM pg_authid a WHERE a.oid = ANY (%(numbers)s) ORDER BY a.rolname
        """,
        {"numbers": numbers, "database": database},
    )
    member_of: dict[int, dict[str, bool]] = {}
    for member, group, admin in query(
        connection,
        "SELECT m.member, r.rolname, bool_or(m.admin_option) FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid"
        " WHERE m.member = ANY (%s) GROUP BY 1, 2",
        (numbers,),
    ):
        member_of.setdefault(member, {})[group] = admin
    names = ("superuser", "inherit", "createrole", "createdb", "login", "replication", "bypassrls", "connection_limit")
    return [
        Role(
            name=row[1],
            bootstrap=row[0] == _BOOTSTRAP,
            attributes={
                **dict(zip(names, row[2:10], strict=True)),
                "valid_until": None if row[10] == "infinity" else row[10],
            },
            verifier=row[11],
            comment=row[12],
            settings=tuple(row[13] or ()),
            database_settings=tuple(row[14] or ()),
            member_of=member_of.get(row[0], {}),
        )
        for row in rows
    ]


def refuse_clashes(source: list[Role], target: list[Role]) -> None:
    """Roles of the same name must have the same power on both sides.

    :raises MigrationError: they have not (check ``role-clash``).
    """
    existing = {role.name: role for role in target}
    for role in source:
        other = existing.get(role.name)
        if other is None or role.bootstrap or other.bootstrap:
            continue
        for attribute in _DANGEROUS:
            if role.attributes[attribute] != other.attributes[attribute]:
                raise MigrationError(
                    f"The role {role.name} exists on the target, but is {_word(other, attribute)} there and "
                    f"{_word(role, attribute)} on the source",
                    check="role-clash",
                    action=f"Make the attribute {attribute.upper()} of the role {role.name} the same on both servers",
                )


def _word(role: Role, attribute: str) -> str:
    return f"{'' if role.attributes[attribute] else 'NO'}{attribute.upper()}"


def _attribute_clause(role: Role) -> str:
    words = [
        _word(role, attribute)
        for attribute in ("superuser", "createrole", "createdb", "replication", "bypassrls", "inherit", "login")
    ]
    words.append(f"CONNECTION LIMIT {role.attributes['connection_limit']}")
    valid_until = role.attributes["valid_until"]
    if valid_until is not None:
        words.append(f"VALID UNTIL {literal(str(valid_until))}")
    return " ".join(words)


def _statements(role: Role, found: Role | None, *, keep_password: bool) -> Iterator[str]:
    """What makes the role, ``found`` on the target or not, like the source's, but for memberships."""
    name = identifier(role.name)
    if found is None:
        yield f"CREATE ROLE {name} {_attribute_clause(role)}"
    elif dict(found.attributes) != dict(role.attributes):
        if role.attributes["valid_until"] is None and found.attributes["valid_until"] is not None:
            yield f"ALTER ROLE {name} VALID UNTIL 'infinity'"
        yield f"ALTER ROLE {name} {_attribute_clause(role)}"
    if role.verifier and not keep_password and not (found and found.verifier):
        yield f"ALTER ROLE {name} PASSWORD {literal(role.verifier)}"
    if role.comment != (found.comment if found else None):
        yield f"COMMENT ON ROLE {name} IS {'NULL' if role.comment is None else literal(role.comment)}"
    if set(role.settings) != set(found.settings if found else ()):
        yield f"ALTER ROLE {name} RESET ALL"
        for setting in role.settings:
            yield f"ALTER ROLE {name} {set_clause(setting)}"


def apply_roles(
    connection: Connection, source: list[Role], *, database: str, keep_passwords: Collection[str]
) -> tuple[list[str], list[str]]:
    """Make the roles exist like on the source. Role settings in ``database`` are :func:`apply_database_settings`'.

    A password that is there stays; one of ``keep_passwords`` is never sent. In one transaction; idempotent.

    :returns: names of roles created and of roles changed.
    """
    created: list[str] = []
    changed: list[str] = []
    with connection.transaction():
        # The server's log never gets a verifier, even where it logs every statement.
        connection.execute("SET LOCAL log_statement = 'none'")
        connection.execute("SET LOCAL log_min_duration_statement = -1")
        connection.execute("SET LOCAL log_min_error_statement = 'panic'")
        if value(connection, "SELECT current_setting('pg_stat_statements.track_utility', true)") is not None:
            connection.execute("SET LOCAL pg_stat_statements.track_utility = off")
        existing = {role.name: role for role in read_roles(connection, [role.name for role in source], database)}
        for role in source:
            found = existing.get(role.name)
            if found is not None and (role.bootstrap or found.bootstrap):
                continue
            statements = list(_statements(role, found, keep_password=role.name in keep_passwords))
            for statement in statements:
                connection.execute(statement.encode())
            if statements:
                (created if found is None else changed).append(role.name)
        for role in source:
            found = existing.get(role.name)
            if role.bootstrap or (found and found.bootstrap):
                continue
            for group, admin in role.member_of.items():
                if found is None or found.member_of.get(group) not in (admin, True):
                    option = " WITH ADMIN OPTION" if admin else ""
                    connection.execute(f"GRANT {identifier(group)} TO {identifier(role.name)}{option}".encode())
                    if found is not None and role.name not in changed:
                        changed.append(role.name)
    return created, changed


def apply_database_settings(connection: Connection, source: list[Role], database: str) -> None:
    """``ALTER ROLE … IN DATABASE … SET`` for every role, in the transaction of the caller."""
    for role in source:
        for setting in role.database_settings:
            connection.execute(
                f"ALTER ROLE {identifier(role.name)} IN DATABASE {identifier(database)} {set_clause(setting)}".encode()
            )
