"""Values that no other database can take, found on the source before anything is made on the target."""

from __future__ import annotations

from .database_connection import Connection, identifier, query
from .errors import MigrationError

# What each type's value must be so that its text is understood again. Only types that lie in few columns of few databases.
_NO_INPUT = (
    "pg_node_tree", "pg_ndistinct", "pg_dependencies", "pg_mcv_list", "pg_brin_bloom_summary",
    "pg_brin_minmax_multi_summary", "gtsvector",
)  # fmt: skip
_ORPHANS = (
    "EXISTS (SELECT FROM {items} i, aclexplode(CASE WHEN i IS NOT NULL THEN ARRAY[i] END) g"
    " WHERE g.grantee <> 0 AND NOT EXISTS (SELECT FROM pg_roles WHERE oid = g.grantee)"
    " OR NOT EXISTS (SELECT FROM pg_roles WHERE oid = g.grantor))"
)
_REFUSED = {
    **dict.fromkeys(_NO_INPUT, "{column} IS NOT NULL"),
    "regproc": "{column} <> 0 AND to_regproc({column}::text) IS NULL",
    "regoper": "{column} <> 0 AND to_regoper({column}::text) IS NULL",
    "aclitem": _ORPHANS.format(items="unnest(ARRAY[{column}])"),
    "_aclitem": _ORPHANS.format(items="unnest({column})"),
}
_COLUMNS = """
SELECT n.nspname, c.relname, a.attname, t.typname
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND c.oid >= 16384
  AND (c.relkind = 'r' OR c.relispopulated)
  AND t.oid < 16384 AND t.typname = ANY (%s)
ORDER BY 1, 2, 3
"""


def check_values(source: Connection) -> None:
    """
    :raises MigrationError: a value cannot be written down so that another database understands it (check ``value-refused``).
    """
    for schema, table, column, type_name in query(source, _COLUMNS, (list(_REFUSED),)):
        condition = _REFUSED[type_name].format(column=identifier(column))
        if query(source, f"SELECT FROM ONLY {identifier(schema, table)} WHERE {condition} LIMIT 1".encode()):
            raise MigrationError(
                f"The table {schema}.{table} holds values of {type_name} in the column {column} that no other database can take",
                check="value-refused",
                action=f"Drop the column {column} of {schema}.{table}, or make it text, then run again",
            )


# Foreign keys that are valid by their definition, but are not enforced.
_KEYS = """
SELECT c.conname, c.conrelid::regclass::text,
       (SELECT CASE relkind WHEN 'p' THEN '' ELSE 'ONLY ' END FROM pg_class WHERE oid = c.conrelid) || c.conrelid::regclass,
       (SELECT CASE relkind WHEN 'p' THEN '' ELSE 'ONLY ' END FROM pg_class WHERE oid = c.confrelid) || c.confrelid::regclass,
       array(SELECT quote_ident(attname) FROM unnest(c.conkey) WITH ORDINALITY k (n, o)
             JOIN pg_attribute ON attrelid = c.conrelid AND attnum = k.n ORDER BY k.o),
       array(SELECT quote_ident(attname) FROM unnest(c.confkey) WITH ORDINALITY k (n, o)
             JOIN pg_attribute ON attrelid = c.confrelid AND attnum = k.n ORDER BY k.o),
       array(SELECT format('OPERATOR(%I.%s)', nspname, oprname) FROM unnest(c.conpfeqop) WITH ORDINALITY k (n, o)
             JOIN pg_operator p ON p.oid = k.n JOIN pg_namespace s ON s.oid = p.oprnamespace ORDER BY k.o),
       c.confmatchtype = 'f'
FROM pg_constraint c
WHERE c.contype = 'f' AND c.convalidated AND c.conparentid = 0
  AND EXISTS (SELECT FROM pg_trigger t WHERE t.tgconstraint = c.oid AND t.tgisinternal AND t.tgenabled NOT IN ('O', 'A'))
ORDER BY 2, 1
"""


def check_foreign_keys(source: Connection) -> None:
    """
    :raises MigrationError: a foreign key whose triggers are disabled has rows that break it (check ``foreign-key-broken``).
    """
    for name, table, rows, other_rows, columns, others, operators, full in query(source, _KEYS):
        filled = f" {'OR' if full else 'AND'} ".join(f"a.{column} IS NOT NULL" for column in columns)
        found = " AND ".join(
            f"b.{right} {operator} a.{left}" for left, right, operator in zip(columns, others, operators, strict=True)
        )
        statement = (
            f"SELECT FROM {rows} a WHERE ({filled}) AND NOT EXISTS (SELECT FROM {other_rows} b WHERE {found}) LIMIT 1"  # noqa: S608
        )
        if query(source, statement.encode()):
            raise MigrationError(
                f"The foreign key {name} of {table} is not enforced, and rows break it: it could not be made on the target",
                check="foreign-key-broken",
                action=f"Mend the rows of {table}, or make {name} NOT VALID on the source, then run again",
            )
