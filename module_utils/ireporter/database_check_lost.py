"""What ``pg_dump`` leaves out, or makes otherwise, without a word: found on the source before anything is made on the target."""

from __future__ import annotations

import re

from .database_connection import Connection, query
from .errors import MigrationError

# A table that inherits gets its parents' columns first, in their order, and its own after them. On the source a parent may have got
# a column later, or a table a parent.
_COLUMN_ORDER = """
SELECT c.oid::regclass::text FROM pg_class c
WHERE c.relkind IN ('r', 'f') AND NOT c.relispartition AND EXISTS (SELECT FROM pg_inherits WHERE inhrelid = c.oid)
  AND c.relpersistence <> 't'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
  AND (SELECT array_agg(a.attname ORDER BY a.attnum) <> array_agg(a.attname ORDER BY p.place NULLS LAST, p.number, a.attnum)
       FROM pg_attribute a
       LEFT JOIN LATERAL (
         SELECT i.inhseqno AS place, pa.attnum AS number FROM pg_inherits i
         JOIN pg_attribute pa ON pa.attrelid = i.inhparent AND pa.attname = a.attname AND pa.attnum > 0 AND NOT pa.attisdropped
         WHERE i.inhrelid = a.attrelid ORDER BY 1, 2 LIMIT 1) p ON true
       WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
ORDER BY 1
"""

# A partition's constraint is written down with the partition, and keeps its state.
_VALIDATION = """
SELECT o.conname, o.conrelid::regclass::text, p.conrelid::regclass::text
FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid JOIN pg_inherits i ON i.inhrelid = o.conrelid
JOIN pg_constraint p ON p.conrelid = i.inhparent AND p.conname = o.conname AND p.contype = 'c'
WHERE o.contype = 'c' AND NOT o.conislocal AND NOT c.relispartition AND o.convalidated AND NOT p.convalidated
  AND c.relpersistence <> 't'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 2, 1
"""

# Their grants and owners are part of PostgreSQL to pg_dump.
_LANGUAGES = """
SELECT lanname FROM pg_language l
WHERE NOT lanispl AND oid < 16384
  AND (lanowner <> 10 OR EXISTS (
    (SELECT * FROM aclexplode(coalesce(lanacl, acldefault('l', lanowner))) EXCEPT SELECT * FROM aclexplode(acldefault('l', lanowner)))
    UNION ALL
    (SELECT * FROM aclexplode(acldefault('l', lanowner)) EXCEPT SELECT * FROM aclexplode(coalesce(lanacl, acldefault('l', lanowner))))))
ORDER BY 1
"""

# What an extension adds works on something of its own.
_FAMILY_MEMBERS = """
SELECT pg_describe_object(m.catalogue, m.number, 0) FROM (
  SELECT 'pg_amop'::regclass, oid, amopfamily, 'pg_operator'::regclass, amopopr FROM pg_amop
  UNION ALL SELECT 'pg_amproc'::regclass, oid, amprocfamily, 'pg_proc'::regclass, amproc::oid FROM pg_amproc
) m (catalogue, number, family, of_catalogue, of_number)
WHERE m.number >= 16384 AND m.family < 16384
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = m.catalogue AND d.objid = m.number
                  AND (d.deptype = 'e' OR d.refclassid = 'pg_opclass'::regclass))
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = m.of_catalogue AND d.objid = m.of_number AND d.deptype = 'e')
ORDER BY 1
"""

# The triggers of an extension's script are no members of it, but what they call is (or is PostgreSQL's own).
_TRIGGERS = """
SELECT t.tgname, t.tgrelid::regclass::text, e.extname
FROM pg_trigger t JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = t.tgrelid AND d.deptype = 'e'
JOIN pg_extension e ON e.oid = d.refobjid
WHERE NOT t.tgisinternal AND t.tgfoid >= 16384
  AND NOT EXISTS (SELECT FROM pg_depend f WHERE f.classid = 'pg_proc'::regclass AND f.objid = t.tgfoid AND f.deptype = 'e')
ORDER BY 2, 1
"""

_MAPPINGS = """
SELECT c.cfgname, t.alias, array_agg(d.dictname::text ORDER BY m.mapseqno)
FROM pg_ts_config_map m JOIN pg_ts_config c ON c.oid = m.mapcfg JOIN pg_ts_dict d ON d.oid = m.mapdict
JOIN ts_token_type('default') t ON t.tokid = m.maptokentype
WHERE c.oid < 16384 GROUP BY 1, 2
"""
_DICTIONARIES = "SELECT dictname, coalesce(dictinitoption, '') FROM pg_ts_dict WHERE oid < 16384"
_INSTALLED = """
SELECT pg_read_file(setting || '/snowball_create.sql', 0, 10000000, true) FROM pg_config() WHERE name = 'SHAREDIR'
"""
_DICTIONARY = re.compile(
    r"CREATE TEXT SEARCH DICTIONARY (\w+)\s*\(TEMPLATE = snowball, Language = (\w+)\s*(?:, StopWords\s*=\s*(\w+)\s*)?\)"
)
_MAPPING = re.compile(r"ALTER TEXT SEARCH CONFIGURATION (\w+) ADD MAPPING\s+FOR ([\w\s,]+?)\s+WITH (\w+)\s*;")


def check_what_gets_lost(source: Connection) -> None:
    """
    :raises MigrationError: what :func:`check_column_order`, :func:`check_inherited_constraints`, :func:`check_changes_to_postgresql`
        and :func:`check_extension_tables` raise.
    """
    check_column_order(source)
    check_inherited_constraints(source)
    check_changes_to_postgresql(source)
    check_extension_tables(source)


def check_column_order(source: Connection) -> None:
    """
    :raises MigrationError: a table that inherits would get its columns in another order (check ``column-order``).
    """
    rows = query(source, _COLUMN_ORDER)
    if rows:
        tables = ", ".join(row[0] for row in rows)
        raise MigrationError(
            f"The columns of {tables} do not stand in the order in which a table that inherits is made, so that no copy could have it",
            check="column-order",
            action=f"Make {rows[0][0]} anew with its parent's columns first, or end the inheritance (NO INHERIT), then run again",
        )


def check_inherited_constraints(source: Connection) -> None:
    """
    :raises MigrationError: a table has validated a constraint that its parent has not: made anew, neither had
        (check ``constraint-validation``).
    """
    rows = query(source, _VALIDATION)
    if rows:
        name, child, parent = rows[0]
        raise MigrationError(
            f"The constraint {name} is validated in {child}, but not in {parent} from which it is inherited; no tool writes that down",
            check="constraint-validation",
            action=f"ALTER TABLE {parent} VALIDATE CONSTRAINT {name} on the source, then run again",
        )


def check_changes_to_postgresql(source: Connection) -> None:
    """
    :raises MigrationError: something that every database has was changed in this one (check ``changed-builtin``).
    """
    changed = [f"language {row[0]} (its owner or grants)" for row in query(source, _LANGUAGES)]
    changed += [str(row[0]) for row in query(source, _FAMILY_MEMBERS)]
    changed += _changed_text_search(source)
    if changed:
        raise MigrationError(
            f"The database has a change to PostgreSQL's own objects, which no tool copies: {changed[0]}",
            check="changed-builtin",
            action="Take the change back, and make an object of your own with it where one is needed, then run again",
        )


def _changed_text_search(source: Connection) -> list[str]:
    """Built-in configurations and dictionaries that are not as PostgreSQL's own script makes them.

    Empty where the server's installation has no such script to compare with.
    """
    rows = query(source, _INSTALLED)
    if not rows or not rows[0][0]:
        return []
    script = str(rows[0][0])
    options = {"simple": ""}
    for name, language, stop_words in _DICTIONARY.findall(script):
        options[name] = f"language = '{language}'" + (f", stopwords = '{stop_words}'" if stop_words else "")
    tokens = [str(row[0]) for row in query(source, "SELECT alias FROM ts_token_type('default')")]
    mappings = {
        ("simple", token): ["simple"] for token in tokens if token not in ("blank", "tag", "protocol", "entity")
    }
    for name, some, dictionary in _MAPPING.findall(script):
        mappings |= {(name, token.strip()): [dictionary] for token in some.split(",")}
    found = {(str(name), str(token)): list(dictionaries) for name, token, dictionaries in query(source, _MAPPINGS)}
    there = {str(name): str(text) for name, text in query(source, _DICTIONARIES)}
    return [
        f"text search configuration {name}"
        for name in sorted({key[0] for key in mappings.keys() | found.keys() if mappings.get(key) != found.get(key)})
    ] + [
        f"text search dictionary {name}"
        for name in sorted(options.keys() | there.keys())
        if options.get(name) != there.get(name)
    ]


def check_extension_tables(source: Connection) -> None:
    """
    :raises MigrationError: somebody made a trigger on an extension's table (check ``extension-changed``). Other changes to such a
        table cannot be told from what the extension made itself; verification finds them.
    """
    rows = query(source, _TRIGGERS)
    if rows:
        name, table, extension = rows[0]
        raise MigrationError(
            f"The trigger {name} stands on {table}, which belongs to the extension {extension}; no tool copies it",
            check="extension-changed",
            action=f"Drop the trigger {name} on {table}, and make it again on the target, then run again",
        )
