"""What the target must have before anything is made there: everything that would stop the copy later, named now."""

from __future__ import annotations

import psycopg

from .database_check_lost import check_what_gets_lost
from .database_check_values import check_foreign_keys, check_values
from .database_connection import Connection, identifier, keep_bytes, literal, one_line, query, value
from .database_roles import Role
from .database_settings import set_clause, setting_name
from .database_target import Properties
from .errors import MigrationError


def check_versions(source: Connection, target: Connection) -> None:
    """
    :raises MigrationError: the target is of an older major version (check ``target-version``).
    """
    versions = [connection.info.server_version for connection in (source, target)]
    if versions[1] // 10000 < versions[0] // 10000:
        raise MigrationError(
            f"The target runs PostgreSQL {versions[1] // 10000}, older than the source's {versions[0] // 10000}",
            check="target-version",
            action=f"Give the target PostgreSQL {versions[0] // 10000} or newer",
        )


def check_libraries(source: Connection, target: Connection) -> None:
    """Every library of functions in C, also of extensions, loads on the target and has the functions' symbols.

    :raises MigrationError: one does not (check ``library-missing``).
    """
    rows = query(
        source,
        """
        SELECT l.lanname, coalesce(p.probin, ''), p.prosrc, p.oid::regprocedure::text
        FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
        WHERE l.lanname IN ('c', 'internal') AND p.oid >= 16384 AND p.prosrc <> 'aggregate_dummy'
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid
                          AND d.deptype = 'e')
        UNION ALL
        SELECT 'c', p.probin, min(p.prosrc), min(p.oid::regprocedure::text)
        FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
        WHERE l.lanname = 'c' AND p.oid >= 16384 AND p.probin IS NOT NULL
          AND EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid
                      AND d.deptype = 'e')
        GROUP BY 2
        ORDER BY 1, 2, 4
        """,
    )
    for language, library, symbol, function in rows:
        place = f"{literal(library)}, {literal(symbol)}" if language == "c" else literal(symbol)
        try:
            with target.transaction(force_rollback=True):
                target.execute(
                    f"CREATE FUNCTION pg_temp.ireporter_migration_probe() RETURNS void LANGUAGE {language} AS {place}".encode()
                )
        except psycopg.Error as error:
            needed = f"the library {library}" if language == "c" else f"{symbol} inside of PostgreSQL"
            raise MigrationError(
                f"The function {function} needs {needed}, which the target cannot load: {one_line(error)}",
                check="library-missing",
                action=f"Install the library {library} on the target"
                if language == "c"
                else f"Drop the function {function} on the source",
            ) from error


def check_locales(source: Connection, target: Connection, properties: Properties) -> None:
    """
    :raises MigrationError: the database's locale, or a collation's, is unknown on the target (check ``locale-missing``).
    """
    wanted = {(str(properties.locale["collate"]), str(properties.locale["ctype"]), f"database {properties.name}")}
    for collate, ctype, name in query(
        source,
        "SELECT collcollate, collctype, oid::regcollation::text FROM pg_collation"
        " WHERE oid >= 16384 AND collprovider = 'c' AND collcollate IS NOT NULL",
    ):
        wanted.add((collate, ctype, f"collation {name}"))
    for collate, ctype, name in sorted(wanted):
        refuse_unknown_locale(target, collate, ctype, name)


def refuse_unknown_locale(target: Connection, collate: str, ctype: str, name: str) -> None:
    """
    :param name: what has this locale, for the message.
    :raises MigrationError: the target does not know it (check ``locale-missing``).
    """
    target.execute("SET lc_messages = 'C'")  # one kind of message is recognised below
    try:
        with target.transaction(force_rollback=True):
            target.execute(
                f"CREATE COLLATION pg_temp.ireporter_migration_probe "
                f"(LC_COLLATE = {literal(collate)}, LC_CTYPE = {literal(ctype)})".encode()
            )
    except psycopg.Error as error:
        if "encoding" in str(error):  # the locale exists, with another encoding than the maintenance database's
            return
        raise MigrationError(
            f"The target does not know the locale {collate} of the {name}: {one_line(error)}",
            check="locale-missing",
            action=f"Generate the locale {collate} on the target and restart its PostgreSQL",
        ) from error


def check_source(source: Connection) -> None:
    """
    :raises MigrationError: a prepared transaction's rows would be in neither database (check ``prepared-transactions``).
    """
    number = value(source, "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()")
    if number:
        raise MigrationError(
            f"The source has {number} prepared transaction(s) in the database",
            check="prepared-transactions",
            action="Commit or roll them back (pg_prepared_xacts names them), then run again",
        )


def check_for_dump(source: Connection) -> None:
    """What neither ``pg_dump`` nor any other tool can carry into a database of which nothing is known yet.

    Not here: a CHECK or a generated column whose function was replaced. Finding that would run the tenant's functions as superuser, beside
    other tenants; the import finds it, on the customer's server.

    :raises MigrationError: there is something of that kind, named in the message.
    """
    check_source(source)
    check_hidden_objects(source)
    check_what_gets_lost(source)
    check_languages(source)
    check_owners(source)
    check_grantors(source)
    check_hash_partitions(source)
    check_values(source)
    check_foreign_keys(source)


def check_hash_partitions(source: Connection) -> None:
    """
    :raises MigrationError: rows are spread by the hash of an enum or of a reference to an object, which is another one in another
        database, so that they would belong into other partitions there (check ``hash-partition``).
    """
    rows = query(
        source,
        """
        WITH RECURSIVE inside (partitioned, type) AS (
          SELECT p.partrelid, a.atttypid FROM pg_partitioned_table p
          JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = ANY (p.partattrs) WHERE p.partstrat = 'h'
          UNION
          SELECT i.partitioned, n.type FROM inside i JOIN pg_type t ON t.oid = i.type, LATERAL (
            SELECT t.typbasetype UNION ALL SELECT t.typelem
            UNION ALL SELECT rngsubtype FROM pg_range WHERE rngtypid = t.oid
            UNION ALL SELECT atttypid FROM pg_attribute WHERE attrelid = t.typrelid AND attnum > 0 AND NOT attisdropped
          ) n (type) WHERE n.type <> 0
        )
        SELECT i.partitioned::regclass::text, min(CASE t.typtype WHEN 'e' THEN 'an enum' ELSE 'a reference to an object' END)
        FROM inside i JOIN pg_type t ON t.oid = i.type
        WHERE t.typtype = 'e' OR t.oid < 16384 AND t.typname ~ '^reg' GROUP BY 1 ORDER BY 1
        """,
    )
    if rows:
        raise MigrationError(
            f"The table {rows[0][0]} is partitioned by the hash of {rows[0][1]}, which differs between databases",
            check="hash-partition",
            action=f"Partition {rows[0][0]} by the hash of a text column instead, then run again",
        )


def check_owners(source: Connection) -> None:
    """
    :raises MigrationError: an event trigger or a foreign data wrapper belongs to a role that is no superuser any more, to whom
        nobody can give it again (check ``owner-superuser``).
    """
    rows = query(
        source,
        """
        SELECT o.kind, o.name, r.rolname FROM (
          SELECT 'event trigger', 'pg_event_trigger'::regclass, oid, evtname, evtowner FROM pg_event_trigger
          UNION ALL SELECT 'foreign data wrapper', 'pg_foreign_data_wrapper'::regclass, oid, fdwname, fdwowner FROM pg_foreign_data_wrapper
        ) o (kind, catalogue, number, name, owner) JOIN pg_roles r ON r.oid = o.owner
        WHERE NOT r.rolsuper
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = o.catalogue AND d.objid = o.number AND d.deptype = 'e')
        ORDER BY 1, 2
        """,
    )
    if rows:
        kind, name, owner = rows[0]
        raise MigrationError(
            f"The {kind} {name} belongs to {owner}, who is no superuser any more, so that it could not be made on the target",
            check="owner-superuser",
            action=f"Give the {kind} {name} to a superuser on the source (ALTER {kind.upper()} … OWNER TO), then run again",
        )


def check_grantors(source: Connection) -> None:
    """
    :raises MigrationError: who gave a privilege may not use the schema any more, and could not give it again (check ``grantor-schema``).
    """
    rows = query(
        source,
        """
        SELECT DISTINCT r.rolname, n.nspname, i.type, i.identity FROM (
          SELECT 'pg_class'::regclass, oid, relnamespace, relowner, relacl FROM pg_class
          UNION ALL SELECT 'pg_class'::regclass, c.oid, relnamespace, relowner, attacl
                    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid WHERE attacl IS NOT NULL
          UNION ALL SELECT 'pg_proc'::regclass, oid, pronamespace, proowner, proacl FROM pg_proc
          UNION ALL SELECT 'pg_type'::regclass, oid, typnamespace, typowner, typacl FROM pg_type
        ) o (catalogue, number, namespace, owner, acl) JOIN pg_namespace n ON n.oid = o.namespace,
        aclexplode(o.acl) g JOIN pg_roles r ON r.oid = g.grantor, pg_identify_object(o.catalogue, o.number, 0) i
        WHERE o.number >= 16384 AND n.nspname !~ '^pg_' AND g.grantor <> o.owner
          AND NOT has_schema_privilege(g.grantor, n.oid, 'USAGE')
        ORDER BY 4, 1
        """,
    )
    if rows:
        grantor, schema, kind, name = rows[0]
        raise MigrationError(
            f"The role {grantor} gave a privilege on the {kind} {name} and may not use the schema {schema} any more: nobody could give it so again",
            check="grantor-schema",
            action=f"GRANT USAGE ON SCHEMA {schema} TO {grantor}, or take back what {grantor} gave, then run again",
        )


def check_collations(source: Connection, target: Connection, properties: Properties) -> None:
    """
    :raises MigrationError: a collation of the operating system that something uses is not there (check ``locale-missing``).
    """
    rows = query(
        source,
        """
        SELECT DISTINCT c.collname, pg_describe_object(d.classid, d.objid, d.objsubid)
        FROM pg_depend d JOIN pg_collation c ON c.oid = d.refobjid
        JOIN pg_namespace n ON n.oid = c.collnamespace
        WHERE d.refclassid = 'pg_collation'::regclass AND n.nspname = 'pg_catalog' ORDER BY 1, 2
        """,
    )
    for name, user in rows:
        if not query(
            target,
            "SELECT FROM pg_collation WHERE collname = %s AND collnamespace = 'pg_catalog'::regnamespace"
            " AND collencoding IN (-1, pg_char_to_encoding(%s))",
            (name, properties.encoding),
        ):
            raise MigrationError(
                f"The target has no collation {name}, which the source uses for {user}",
                check="locale-missing",
                action=f"Generate the locale of {name} on the target and make its cluster anew, or use another collation",
            )


def check_hidden_objects(source: Connection) -> None:
    """
    :raises MigrationError: somebody made an object in a schema of PostgreSQL's own, where ``pg_dump`` never looks
        (check ``hidden-object``).
    """
    rows = query(
        source,
        """
        SELECT i.type, i.identity FROM (
          SELECT 'pg_class'::regclass, oid, relnamespace FROM pg_class WHERE relkind NOT IN ('i', 'I', 't', 'c')
          UNION ALL SELECT 'pg_proc'::regclass, oid, pronamespace FROM pg_proc
          UNION ALL SELECT 'pg_type'::regclass, t.oid, t.typnamespace FROM pg_type t WHERE t.typelem = 0
            AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind <> 'c')
          UNION ALL SELECT 'pg_operator'::regclass, oid, oprnamespace FROM pg_operator
          UNION ALL SELECT 'pg_opclass'::regclass, oid, opcnamespace FROM pg_opclass
          UNION ALL SELECT 'pg_opfamily'::regclass, oid, opfnamespace FROM pg_opfamily
          UNION ALL SELECT 'pg_conversion'::regclass, oid, connamespace FROM pg_conversion
          UNION ALL SELECT 'pg_statistic_ext'::regclass, oid, stxnamespace FROM pg_statistic_ext
          UNION ALL SELECT 'pg_ts_config'::regclass, oid, cfgnamespace FROM pg_ts_config
          UNION ALL SELECT 'pg_ts_dict'::regclass, oid, dictnamespace FROM pg_ts_dict
          UNION ALL SELECT 'pg_ts_parser'::regclass, oid, prsnamespace FROM pg_ts_parser
          UNION ALL SELECT 'pg_ts_template'::regclass, oid, tmplnamespace FROM pg_ts_template
        ) o (catalogue, number, namespace) JOIN pg_namespace n ON n.oid = o.namespace,
        pg_identify_object(o.catalogue, o.number, 0) i
        WHERE n.nspname IN ('pg_catalog', 'information_schema') AND n.oid < 16384 AND o.number >= 16384
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = o.catalogue AND d.objid = o.number AND d.deptype = 'e')
        ORDER BY 1, 2
        """,
    )
    if rows:
        raise MigrationError(
            f"The {rows[0][0]} {rows[0][1]} lies in a schema of PostgreSQL's own, from where no tool copies it",
            check="hidden-object",
            action=f"Move the {rows[0][0]} {rows[0][1]} to another schema, or drop it, then run again",
        )


def check_languages(source: Connection) -> None:
    """
    :raises MigrationError: a language uses another extension's handler, which ``pg_dump`` does not write down (check ``language``).
    """
    rows = query(
        source,
        """
        SELECT l.lanname, n.nspname || '.' || p.proname FROM pg_language l
        JOIN pg_proc p ON p.oid = l.lanplcallfoid JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE l.oid >= 16384
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_language'::regclass AND d.objid = l.oid
                          AND d.deptype = 'e')
          AND (n.nspname = 'pg_catalog' OR EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass
                                                   AND d.objid = p.oid AND d.deptype = 'e'))
        ORDER BY 1
        """,
    )
    if rows:
        raise MigrationError(
            f"The language {rows[0][0]} uses the handler {rows[0][1]} of an extension, which no tool writes down",
            check="language",
            action=f"Make a handler function of its own for {rows[0][0]}, or drop the language, then run again",
        )


def check_security_labels(source: Connection, target: Connection, roles: list[Role]) -> None:
    """
    :raises MigrationError: the target does not load the provider of a label, or a label is a role's or the database's, which
        are not copied (check ``security-label``).
    """
    role = value(target, "SELECT current_user")
    for provider, what in query(
        source,
        "SELECT provider, min(pg_describe_object(classoid, objoid, objsubid)) FROM pg_seclabel GROUP BY 1 ORDER BY 1",
    ):
        try:
            with target.transaction(force_rollback=True):
                target.execute(f"SECURITY LABEL FOR {identifier(provider)} ON ROLE {identifier(role)} IS NULL".encode())
        except psycopg.errors.InvalidParameterValue as error:
            raise MigrationError(
                f"The target does not know the provider {provider} of the security label on {what}: {one_line(error)}",
                check="security-label",
                action=f"Load the module that provides {provider} on the target (shared_preload_libraries)",
            ) from error
    shared = query(
        source,
        """
        SELECT l.provider, coalesce('role ' || r.rolname, 'database ' || d.datname) FROM pg_shseclabel l
        LEFT JOIN pg_roles r ON l.classoid = 'pg_authid'::regclass AND r.oid = l.objoid
        LEFT JOIN pg_database d ON l.classoid = 'pg_database'::regclass AND d.oid = l.objoid
        WHERE r.rolname = ANY (%s) OR d.datname = current_database() ORDER BY 2, 1
        """,
        ([role.name for role in roles],),
    )
    if shared:
        raise MigrationError(
            f"The {shared[0][1]} has a security label of {shared[0][0]}, which is not copied",
            check="security-label",
            action=f"Take the label from the {shared[0][1]}, or copy with other means",
        )


def check_settings(target: Connection, properties: Properties, roles: list[Role]) -> None:
    """Give every setting to the maintenance database and take it back: its value must mean something on the target.

    :raises MigrationError: the target refuses one (check ``setting-refused``).
    """
    settings = [(f"the database {properties.name}", setting) for setting in properties.settings]
    settings += [(f"the role {role.name}", setting) for role in roles for setting in role.database_settings]
    for owner, setting in settings:
        try:
            with target.transaction(force_rollback=True):
                target.execute(f"ALTER DATABASE {identifier(target.info.dbname)} {set_clause(setting)}".encode())
        except psycopg.Error as error:
            raise MigrationError(
                f"The target refuses the setting {setting_name(setting)} of {owner}: {one_line(error)}",
                check="setting-refused",
                action=f"Mend the cause on the target, or take {setting_name(setting)} from {owner} on the source",
            ) from error


def check_encoding(source: Connection, properties: Properties) -> None:
    """
    :raises MigrationError: the database's encoding is none that Python knows (check ``encoding``).
    """
    try:
        with source.transaction(force_rollback=True):
            keep_bytes(source, properties.encoding)
    except psycopg.NotSupportedError as error:
        raise MigrationError(
            f"The database {properties.name} has the encoding {properties.encoding}, which cannot be copied: {one_line(error)}",
            check="encoding",
            action="Copy it with pg_dump and pg_restore",
        ) from error
