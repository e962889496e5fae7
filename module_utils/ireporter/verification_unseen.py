"""What the text of ``pg_dump`` says nothing about: state of constraints, what PostgreSQL or an extension brought and somebody changed."""

from __future__ import annotations

from .database_connection import Connection, query
from .verification_exceptions import Difference
from .verification_objects import compare_maps

_UNVALIDATED = """
SELECT i.identity, 'not validated' FROM pg_constraint c, pg_identify_object('pg_constraint'::regclass, c.oid, 0) i
WHERE c.conrelid >= 16384 AND NOT c.convalidated
"""

# Only of extensions that both sides have in one version: elsewhere the extension itself is named. Its schema is compared there, too.
_MEMBERS = """
SELECT i.type || ' ' || replace(i.identity, quote_ident(n.nspname) || '.', ''), e.extname
FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid JOIN pg_namespace n ON n.oid = e.extnamespace,
     pg_identify_object(d.classid, d.objid, d.objsubid) i
WHERE d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass AND e.extname = ANY (%(extensions)s)
"""

# Tables, views and so on of extensions, and everything that hangs on them. Grants, policies and security labels are in pg_dump's text.
_ON_MEMBERS = """
WITH member AS (
  SELECT c.oid, c.oid::regclass::text AS name, relkind, relpersistence, relrowsecurity, relforcerowsecurity, relreplident, reloptions
  FROM pg_class c JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0
    AND d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass
  JOIN pg_extension e ON e.oid = d.refobjid
  WHERE relkind IN ('r', 'p', 'f', 'v', 'm') AND e.extname = ANY (%(extensions)s)
)
SELECT name, concat_ws(' ', 'kind', relkind, relpersistence, 'row security', relrowsecurity, relforcerowsecurity,
                       'replica identity', relreplident, 'options', reloptions::text, 'comment', obj_description(oid, 'pg_class'))
FROM member
UNION ALL
SELECT name || ': column ' || a.attname,
       concat_ws(' ', format_type(a.atttypid, a.atttypmod), 'not null', a.attnotnull, 'storage', a.attstorage,
                 'options', a.attoptions::text, a.attfdwoptions::text, 'identity', a.attidentity,
                 'default', pg_get_expr(f.adbin, f.adrelid), 'comment', col_description(a.attrelid, a.attnum))
FROM member m JOIN pg_attribute a ON a.attrelid = m.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
UNION ALL
SELECT name || ': index ' || i.indexrelid::regclass::text, concat_ws(' ', pg_get_indexdef(i.indexrelid), 'clustered', indisclustered, 'replica identity', indisreplident)
FROM member m JOIN pg_index i ON i.indrelid = m.oid WHERE i.indisvalid
UNION ALL
SELECT name || ': constraint ' || conname, pg_get_constraintdef(c.oid) FROM member m JOIN pg_constraint c ON c.conrelid = m.oid
UNION ALL
SELECT name || ': trigger ' || tgname, concat_ws(' ', pg_get_triggerdef(t.oid), tgenabled)
FROM member m JOIN pg_trigger t ON t.tgrelid = m.oid WHERE NOT tgisinternal
UNION ALL
SELECT name || ': rule ' || rulename, concat_ws(' ', pg_get_ruledef(r.oid), ev_enabled) FROM member m JOIN pg_rewrite r ON r.ev_class = m.oid
UNION ALL
SELECT name || ': parent ' || inhparent::regclass::text, inhseqno::text FROM member m JOIN pg_inherits i ON i.inhrelid = m.oid
"""

_TEXT_SEARCH = """
SELECT 'text search configuration ' || cfgname, coalesce(string_agg(maptokentype || ' ' || dictname, ', ' ORDER BY maptokentype, mapseqno), '')
FROM pg_ts_config c LEFT JOIN pg_ts_config_map m ON m.mapcfg = c.oid LEFT JOIN pg_ts_dict d ON d.oid = m.mapdict
WHERE c.oid < 16384 GROUP BY 1
UNION ALL SELECT 'text search dictionary ' || dictname, coalesce(dictinitoption, '') FROM pg_ts_dict WHERE oid < 16384
"""
_LANGUAGES = """
SELECT 'language ' || lanname, (
  SELECT string_agg(privilege_type || ' to ' || CASE grantee WHEN lanowner THEN 'its owner' WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END
                    || CASE WHEN is_grantable THEN ' with grant option' ELSE '' END, ', ' ORDER BY grantee::regrole::text)
  FROM aclexplode(coalesce(lanacl, acldefault('l', lanowner)))) || CASE lanowner WHEN 10 THEN '' ELSE ' owner ' || lanowner::regrole END
FROM pg_language WHERE oid < 16384 AND NOT lanispl
"""
_FAMILY_MEMBERS = """
SELECT i.identity, 'added' FROM (
  SELECT 'pg_amop'::regclass, oid, amopfamily FROM pg_amop UNION ALL SELECT 'pg_amproc'::regclass, oid, amprocfamily FROM pg_amproc
) m (catalogue, number, family), pg_identify_object(m.catalogue, m.number, 0) i
WHERE m.number >= 16384 AND m.family < 16384
"""


def _read(connection: Connection, statement: str, extensions: list[str]) -> dict[str, str]:
    """Name → value of the rows; a name that comes more than once has all its values."""
    found: dict[str, list[str]] = {}
    for name, text in query(connection, statement, {"extensions": extensions}):
        found.setdefault(str(name), []).append(str(text))
    return {name: "\n".join(sorted(texts)) for name, texts in found.items()}


def compare_unseen(source: Connection, target: Connection) -> list[Difference]:
    """Constraints that nobody has validated; members of extensions, and what hangs on their tables; changes to built-in objects."""
    sides = [set(query(connection, "SELECT extname, extversion FROM pg_extension")) for connection in (source, target)]
    extensions = sorted(str(name) for name, _ in sides[0] & sides[1])

    def compare(kind: str, statement: str) -> list[Difference]:
        return compare_maps(kind, _read(source, statement, extensions), _read(target, statement, extensions))

    found = compare("constraint", _UNVALIDATED)
    found += compare("extension member", _MEMBERS) + compare("extension's table", _ON_MEMBERS)
    found += compare("built-in", _LANGUAGES) + compare("built-in", _FAMILY_MEMBERS)
    # Two major versions bring different ones, which is no difference of the databases.
    if source.info.server_version // 10000 == target.info.server_version // 10000:
        found += compare("built-in", _TEXT_SEARCH)
    return found
