"""The roles a database needs: read on the source, made on the target; what exists there is never weakened or overwritten."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

import psycopg

from .database_connection import Connection, identifier, literal, query, value
from .database_settings import set_clause
from .database_value_places import read_value_places
from .errors import MigrationError

_BOOTSTRAP = 10
SERVER_POWERS = ("superuser", "createrole", "createdb", "replication")
"""Attributes with which a role acts beyond one database."""
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
UNION SELECT subowner FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
      WHERE d.datname = current_database()
"""

# PostgreSQL keeps no dependencies on the bootstrap superuser: what names it is looked up one by one.
_NAMES_BOOTSTRAP = """
SELECT EXISTS (SELECT FROM pg_class WHERE oid >= 16384 AND (relowner = 10 OR {acl_of_pg_class}))
    OR EXISTS (SELECT FROM pg_attribute WHERE attrelid >= 16384 AND {acl_of_pg_attribute})
    OR EXISTS (SELECT FROM pg_proc WHERE oid >= 16384 AND (proowner = 10 OR {acl_of_pg_proc}))
    OR EXISTS (SELECT FROM pg_namespace WHERE oid >= 16384 AND (nspowner = 10 OR {acl_of_pg_namespace}))
    OR EXISTS (SELECT FROM pg_type WHERE oid >= 16384 AND (typowner = 10 OR {acl_of_pg_type}))
    OR EXISTS (SELECT FROM pg_largeobject_metadata WHERE lomowner = 10 OR {acl_of_pg_largeobject_metadata})
    OR EXISTS (SELECT FROM pg_operator WHERE oid >= 16384 AND oprowner = 10)
    OR EXISTS (SELECT FROM pg_opclass WHERE oid >= 16384 AND opcowner = 10)
    OR EXISTS (SELECT FROM pg_opfamily WHERE oid >= 16384 AND opfowner = 10)
    OR EXISTS (SELECT FROM pg_collation WHERE oid >= 16384 AND collowner = 10)
    OR EXISTS (SELECT FROM pg_conversion WHERE oid >= 16384 AND conowner = 10)
    OR EXISTS (SELECT FROM pg_language WHERE oid >= 16384 AND lanowner = 10)
    OR EXISTS (SELECT FROM pg_ts_config WHERE oid >= 16384 AND cfgowner = 10)
    OR EXISTS (SELECT FROM pg_ts_dict WHERE oid >= 16384 AND dictowner = 10)
    OR EXISTS (SELECT FROM pg_statistic_ext WHERE stxowner = 10)
    OR EXISTS (SELECT FROM pg_foreign_data_wrapper WHERE fdwowner = 10)
    OR EXISTS (SELECT FROM pg_foreign_server WHERE srvowner = 10)
    OR EXISTS (SELECT FROM pg_user_mapping WHERE umuser = 10)
    OR EXISTS (SELECT FROM pg_event_trigger WHERE evtowner = 10)
    OR EXISTS (SELECT FROM pg_publication WHERE pubowner = 10)
    OR EXISTS (SELECT FROM pg_extension WHERE oid >= 16384 AND extowner = 10)
    OR EXISTS (SELECT FROM pg_policy WHERE 10 = ANY (polroles))
    OR EXISTS (SELECT FROM pg_default_acl WHERE defaclrole = 10 OR {acl_of_pg_default_acl})
"""
_ACLS = {
    "pg_class": "relacl", "pg_attribute": "attacl", "pg_proc": "proacl", "pg_namespace": "nspacl", "pg_type": "typacl",
    "pg_largeobject_metadata": "lomacl", "pg_default_acl": "defaclacl",
}  # fmt: skip

# Roles that values name: without them the values could not be read on the target.
_NAMED_ROLES = {
    "regrole": "SELECT {value}::oid FROM {rows}",
    "aclitem": "SELECT unnest(ARRAY[g.grantee, g.grantor]) FROM {rows},"
    " aclexplode(CASE WHEN {value} IS NOT NULL THEN ARRAY[{value}] END) g",
}


@dataclass(frozen=True)
class Role:
    """A role with everything that belongs to it outside of the database.

    :param bootstrap: the server's first superuser. It stays as it is; another server's may have another name.
    :param attributes: ``superuser``, ``login`` … ``connection_limit``, ``valid_until`` as text.
    :param verifier: of the password, a secret (SCRAM or MD5), or ``None``.
    :param settings: ``name=value`` for every database.
    :param database_settings: ``name=value`` in this database.
    :param member_of: role → with admin option; none of the first superuser, who may do everything anyway.
    :param parameter_grants: ``(parameter, privilege)`` → with grant option; none of the first superuser.
    """

    name: str
    bootstrap: bool
    attributes: Mapping[str, object]
    verifier: str | None = field(repr=False)
    comment: str | None
    settings: tuple[str, ...]
    database_settings: tuple[str, ...]
    member_of: Mapping[str, bool]
    parameter_grants: Mapping[tuple[str, str], bool] = field(default_factory=dict)


def _direct(connection: Connection) -> set[int]:
    """Numbers of the roles that the database names: in definitions, grants, settings and values."""
    direct = {int(row[0]) for row in query(connection, _DIRECT)}
    acls = {
        f"acl_of_{catalogue}": f"EXISTS (SELECT FROM aclexplode({acl}) WHERE 10 IN (grantor, grantee))"
        for catalogue, acl in _ACLS.items()
    }
    if value(connection, _NAMES_BOOTSTRAP.format(**acls)):
        direct.add(_BOOTSTRAP)
    for place in read_value_places(connection, _NAMED_ROLES):
        statement = _NAMED_ROLES[place.type_name].format(value=place.expression, rows=place.rows)
        found = query(connection, f"SELECT DISTINCT * FROM ({statement}) r".encode())  # noqa: S608 - quoted
        direct |= {int(row[0]) for row in found if row[0]}
    return direct & {int(row[0]) for row in query(connection, "SELECT oid FROM pg_roles")}


def _needed(connection: Connection) -> tuple[set[int], set[int]]:
    """Numbers of the roles: those the database names, their members, and everything all of these are members of.

    :returns: these, and of them those that act in the database (named in it, or member of one that is).
    """
    direct = _direct(connection)
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
            return needed, below
        needed |= groups


def read_named_roles(connection: Connection, database: str | None = None) -> list[Role]:
    """The roles that the session's database itself names, without those that are merely members of them; sorted by name.

    :param database: whose role settings are read; default is the session's.
    """
    numbers = sorted(number for number in _direct(connection) if number >= 16384)
    names = [str(row[0]) for row in query(connection, "SELECT rolname FROM pg_roles WHERE oid = ANY (%s)", (numbers,))]
    return read_roles(connection, names, database)


def creation_statements(roles: list[Role]) -> Iterator[str]:
    """What makes the roles on a server that has none of them: without passwords, without power over the server.

    Memberships are made in roles of the list and in PostgreSQL's own only.
    """
    names = {role.name for role in roles}
    for role in roles:
        attributes = {**role.attributes, **dict.fromkeys(SERVER_POWERS, False)}
        yield from _statements(replace(role, attributes=attributes, verifier=None), None, keep_password=True)
    for role in roles:
        groups = {group: admin for group, admin in role.member_of.items() if group in names or group.startswith("pg_")}
        yield from _grants(replace(role, member_of=groups, parameter_grants={}), None)


def read_roles(connection: Connection, only: Collection[str] | None = None, database: str | None = None) -> list[Role]:
    """The roles the session's database needs, or those of the names ``only`` that exist; sorted by name.

    :param database: whose role settings are read; default is the session's.
    """
    numbers = (
        sorted(_needed(connection)[0])
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
        " WHERE m.member = ANY (%s) AND m.member <> %s GROUP BY 1, 2",
        (numbers, _BOOTSTRAP),
    ):
        member_of.setdefault(member, {})[group] = admin
    parameter_grants: dict[int, dict[tuple[str, str], bool]] = {}
    if connection.info.server_version >= 150000:
        for grantee, parameter, privilege, grantable in query(
            connection,
            "SELECT g.grantee, p.parname, g.privilege_type, bool_or(g.is_grantable)"
            " FROM pg_parameter_acl p, aclexplode(p.paracl) g WHERE g.grantee = ANY (%s) AND g.grantee <> %s GROUP BY 1, 2, 3",
            (numbers, _BOOTSTRAP),
        ):
            parameter_grants.setdefault(grantee, {})[parameter, privilege] = grantable
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
            parameter_grants=parameter_grants.get(row[0], {}),
        )
        for row in rows
    ]


def refuse_clashes(source: list[Role], target: list[Role]) -> None:
    """Roles of the same name must have the same power on both sides. Two first superusers have.

    :raises MigrationError: they have not, or the target's first superuser, which is never changed, would have to be changed for a
        role of the source that is not its first superuser (check ``role-clash``).
    """
    existing = {role.name: role for role in target}
    for role in source:
        other = existing.get(role.name)
        if other is None or (role.bootstrap and other.bootstrap):
            continue
        for attribute in _DANGEROUS:
            if role.attributes[attribute] != other.attributes[attribute]:
                raise MigrationError(
                    f"The role {role.name} exists on the target, but is {_word(other, attribute)} there and "
                    f"{_word(role, attribute)} on the source",
                    check="role-clash",
                    action=f"Make the attribute {attribute.upper()} of the role {role.name} the same on both servers",
                )
        if other.bootstrap and any(_statements(role, other, keep_password=False)):
            raise MigrationError(
                f"The role {role.name} is the target's first superuser, which is never changed, and differs from the source's",
                check="role-clash",
                action=f"Give the role {role.name} the same attributes, settings, password and comment on both servers, or rename it",
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


def _grants(role: Role, found: Role | None) -> Iterator[str]:
    """What gives the role, ``found`` on the target or not, memberships and privileges on parameters."""
    name = identifier(role.name)
    for group, admin in role.member_of.items():
        if found is None or found.member_of.get(group) not in (admin, True):
            yield f"GRANT {identifier(group)} TO {name}{' WITH ADMIN OPTION' if admin else ''}"
    for (parameter, privilege), grantable in role.parameter_grants.items():
        if found is None or found.parameter_grants.get((parameter, privilege)) not in (grantable, True):
            quoted = ".".join(identifier(part) for part in parameter.split("."))
            yield f"GRANT {privilege} ON PARAMETER {quoted} TO {name}{' WITH GRANT OPTION' if grantable else ''}"


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
            if found is not None and found.bootstrap:
                continue  # refuse_clashes has made sure that there is nothing to change
            statements = list(_statements(role, found, keep_password=role.name in keep_passwords))
            for statement in statements:
                try:
                    connection.execute(statement.encode())
                except psycopg.Error as error:
                    raise MigrationError(
                        f"The target refuses the role {role.name}: {error.diag.message_primary}",
                        check="role-refused",
                        action=f"Mend the cause on the target, or rename {role.name} on the source, then run again",
                    ) from None  # PostgreSQL's error may quote the statement, and with it the verifier
            if statements:
                (created if found is None else changed).append(role.name)
        for role in source:
            found = existing.get(role.name)
            if found is not None and found.bootstrap:
                continue
            statements = list(_grants(role, found))
            for statement in statements:
                connection.execute(statement.encode())
            if statements and found is not None and role.name not in changed:
                changed.append(role.name)
    return created, changed


def rehearse_roles(
    connection: Connection, source: list[Role], *, database: str, keep_passwords: Collection[str]
) -> None:
    """Make the roles as :func:`apply_roles` will, and take everything back.

    :raises MigrationError: the target refuses one of them (check ``role-refused``).
    """
    with connection.transaction(force_rollback=True):
        apply_roles(connection, source, database=database, keep_passwords=keep_passwords)


def members_elsewhere(source: Connection, target: Connection) -> list[tuple[str, str]]:
    """``(member, role)`` on the target where the role acts in the source's database and the member is none there.

    Superusers may do everything anyway and are left out.
    """
    needed, below = _needed(source)
    names = {int(number): str(name) for number, name in query(source, "SELECT oid, rolname FROM pg_roles")}
    return [
        (str(member), str(role))
        for member, role in query(
            target,
            "SELECT m.rolname, r.rolname FROM pg_auth_members a JOIN pg_roles m ON m.oid = a.member"
            " JOIN pg_roles r ON r.oid = a.roleid"
            " WHERE r.rolname = ANY (%s) AND NOT m.rolname = ANY (%s) AND NOT m.rolsuper ORDER BY 1, 2",
            ([names[number] for number in below], [names[number] for number in needed]),
        )
    ]


def settings_elsewhere(target: Connection, known: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Settings in the target's database of roles that are not ``known``, by role."""
    return {
        str(name): tuple(settings)
        for name, settings in query(
            target,
            "SELECT r.rolname, s.setconfig FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase"
            " JOIN pg_roles r ON r.oid = s.setrole WHERE d.datname = current_database() AND NOT r.rolname = ANY (%s)",
            (list(known),),
        )
    }


def apply_database_settings(connection: Connection, source: list[Role], database: str) -> None:
    """``ALTER ROLE … IN DATABASE … SET`` for every role, in the transaction of the caller."""
    for role in source:
        for setting in role.database_settings:
            connection.execute(
                f"ALTER ROLE {identifier(role.name)} IN DATABASE {identifier(database)} {set_clause(setting)}".encode()
            )
