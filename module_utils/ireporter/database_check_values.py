"""Values that no other database can take, found on the source before anything is made on the target."""

from __future__ import annotations

from .database_connection import Connection, query
from .database_value_places import read_value_places
from .errors import MigrationError

# What each type's value must be so that its text is understood again. Only types that lie in few columns of few databases.
_NO_INPUT = (
    "pg_node_tree", "pg_ndistinct", "pg_dependencies", "pg_mcv_list", "pg_brin_bloom_summary",
    "pg_brin_minmax_multi_summary", "gtsvector",
)  # fmt: skip
_REFUSED = {
    **dict.fromkeys(_NO_INPUT, "{value} IS NOT NULL"),
    "regproc": "{value} <> 0 AND to_regproc({value}::text) IS NULL",
    "regoper": "{value} <> 0 AND to_regoper({value}::text) IS NULL",
    "aclitem": "EXISTS (SELECT FROM aclexplode(CASE WHEN {value} IS NOT NULL THEN ARRAY[{value}] END) g"
    " WHERE g.grantee <> 0 AND NOT EXISTS (SELECT FROM pg_roles WHERE oid = g.grantee)"
    " OR NOT EXISTS (SELECT FROM pg_roles WHERE oid = g.grantor))",
}


def check_values(source: Connection) -> None:
    """
    :raises MigrationError: a value cannot be written down so that another database understands it (check ``value-refused``).
    """
    for place in read_value_places(source, _REFUSED):
        condition = _REFUSED[place.type_name].format(value=place.expression)
        if query(source, f"SELECT FROM {place.rows} WHERE {condition} LIMIT 1".encode()):
            table = f"{place.schema}.{place.table}"
            raise MigrationError(
                f"The table {table} holds values of {place.type_name} in the column {place.column} that no other database can take",
                check="value-refused",
                action=f"Drop the column {place.column} of {table}, or make it text, then run again",
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
