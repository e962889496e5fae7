"""Every object kind of a database nobody here designed: what is changed on the copy is named, and nothing else is.

All changes are made at once, each to an object of its own, and the copy is verified once: without them it has no difference,
so whatever is named is named for the change its test holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from ireporter import database_copy, verification

from .conftest import Cluster, remove_all

pytestmark = pytest.mark.integration

# What is done to the copy, what must be named.
CHANGES = {
    "forced row-level security": ("ALTER TABLE base NO FORCE ROW LEVEL SECURITY", {("object", "TABLE public.base")}),
    "a policy's roles": ("ALTER POLICY restrictive ON rows_of TO any_app", {("object", "POLICY public.rows_of restrictive")}),
    "a rule enabled": ("ALTER TABLE second_base ENABLE RULE notify_insert", {("object", "RULE public.second_base notify_insert")}),
    "a rule's action": ("CREATE OR REPLACE RULE to_view AS ON INSERT TO uses_circular DO INSTEAD NOTHING",
                        {("object", "RULE public.uses_circular to_view")}),
    "an event trigger's state": ("ALTER EVENT TRIGGER asleep ENABLE", {("object", "EVENT TRIGGER asleep")}),
    "an event trigger's tags": ("UPDATE pg_event_trigger SET evttags = '{DROP TABLE}' WHERE evtname = 'watch_drops'",
                                {("object", "EVENT TRIGGER watch_drops")}),
    "what a publication publishes": ("ALTER PUBLICATION everything SET (publish = 'insert')", {("object", "PUBLICATION everything")}),
    "a publication's row filter": ("ALTER PUBLICATION parts SET TABLE keys (a, b) WHERE (a > 2), ONLY base",
                                   {("object", "PUBLICATION TABLE public.parts keys")}),
    "a publication's schemas": ("ALTER PUBLICATION of_schemas ADD TABLES IN SCHEMA rare",
                                {("object", "PUBLICATION TABLES IN SCHEMA rare.of_schemas rare")}),
    "a subscription": ("ALTER SUBSCRIPTION incoming SET PUBLICATION others WITH (refresh = false)", {("object", "SUBSCRIPTION incoming")}),
    "the order of an enum's labels": (
        "UPDATE pg_enum SET enumsortorder = 10 WHERE enumlabel = 'red' AND enumtypid = 'colour'::regtype", {("object", "TYPE public.colour")},
    ),
    "a domain's constraint": ("ALTER DOMAIN year DROP CONSTRAINT after_1900", {
        ("object", "DOMAIN public.year"), ("object", "COMMENT public.CONSTRAINT after_1900 ON DOMAIN year")}),
    "a domain's constraint validated": ("ALTER DOMAIN code VALIDATE CONSTRAINT short", {
        ("object", "DOMAIN public.code"), ("object", "CHECK CONSTRAINT public.code short")}),
    "a composite type's attribute": ("ALTER TYPE nothing_at_all ADD ATTRIBUTE a int", {("object", "TYPE public.nothing_at_all")}),
    "an index's definition": ("DROP INDEX by_brin; CREATE INDEX by_brin ON keys USING brin (a int4_minmax_multi_ops (values_per_range = 32))",
                              {("object", "INDEX public.by_brin")}),
    "an index column's statistics target": ("ALTER INDEX by_expression ALTER COLUMN 2 SET STATISTICS 5", {("object", "INDEX public.by_expression")}),
    "the index a table is clustered on": ("ALTER TABLE keys SET WITHOUT CLUSTER", {("object", "CONSTRAINT public.keys keys_a_b_c_key")}),
    "a replica identity": ("ALTER TABLE typed REPLICA IDENTITY FULL", {("object", "TABLE public.typed")}),
    "a foreign key's deferral": ("ALTER TABLE egg ALTER CONSTRAINT egg_hen NOT DEFERRABLE", {("object", "FK CONSTRAINT public.egg egg_hen")}),
    "a foreign key that is not enforced": ("ALTER TABLE tree DISABLE TRIGGER ALL", {
        ("enforcement", f'public.tree: tree_parent_fkey ("RI_FKey_{action}")') for action in ("check_ins", "check_upd", "noaction_del", "noaction_upd")}),
    "a unique constraint's nulls": (
        "ALTER TABLE keys DROP CONSTRAINT keys_c_key; ALTER TABLE keys ADD CONSTRAINT keys_c_key UNIQUE (c)",
        {("object", "CONSTRAINT public.keys keys_c_key")},
    ),
    "a trigger for replicas only": ("ALTER TABLE keys ENABLE TRIGGER per_statement", {("object", "TRIGGER public.keys per_statement")}),
    "a trigger's condition": (
        "DROP TRIGGER when_columns ON keys; CREATE TRIGGER when_columns BEFORE UPDATE OF a, b ON keys FOR EACH ROW EXECUTE FUNCTION act('arg')",
        {("object", "TRIGGER public.keys when_columns")},
    ),
    "a partition's trigger": ("ALTER TABLE sales.sold_other_0 ENABLE TRIGGER on_partitions", {("object", "TRIGGER sales.sold_other_0 on_partitions")}),
    "a partition's bounds": (
        "ALTER TABLE foreign_parts DETACH PARTITION foreign_parts_near;"
        "ALTER TABLE foreign_parts ATTACH PARTITION foreign_parts_near FOR VALUES FROM (0) TO (9)",
        {("object", "TABLE ATTACH public.foreign_parts_near")},
    ),
    "a table's parents": ("ALTER TABLE twice_derived NO INHERIT second_base", {("object", "TABLE public.twice_derived")}),
    "a table's options": ("ALTER TABLE with_options SET (fillfactor = 51)", {("object", "TABLE public.with_options")}),
    "an identity's increment": ("ALTER TABLE every_kind ALTER id SET INCREMENT 6", {("object", "SEQUENCE public.every_kind_id_seq")}),
    "a sequence's definition": ("ALTER SEQUENCE unlogged_sequence CYCLE", {("object", "SEQUENCE public.unlogged_sequence")}),
    "a view's options": ("ALTER VIEW guarded_view RESET (security_barrier)", {("object", "VIEW public.guarded_view")}),
    "a view column's default": ("ALTER VIEW counting ALTER n SET DEFAULT 1", {("object", "DEFAULT public.counting n")}),
    "a materialised view's definition": (
        "UPDATE pg_class SET reloptions = '{fillfactor=56}' WHERE relname = 'summed'", {("object", "MATERIALIZED VIEW public.summed")},
    ),
    "a function's settings": ("ALTER FUNCTION variadic_one RESET work_mem",
                              {("object", "FUNCTION public.variadic_one(integer[])")}),
    "a function's owner": ("ALTER FUNCTION a_table OWNER TO any_owner", {("object", "FUNCTION public.a_table(integer)")}),
    "a procedure's body": ("CREATE OR REPLACE PROCEDURE increase(INOUT a int) LANGUAGE plpgsql AS 'BEGIN END'",
                           {("object", "PROCEDURE public.increase(integer)")}),
    "an aggregate": ("UPDATE pg_aggregate SET agginitval = '1' WHERE aggfnoid = 'moving'::regproc", {("object", "AGGREGATE public.moving(integer)")}),
    "an operator": ("ALTER OPERATOR < (own_type, own_type) SET (RESTRICT = NONE)", {("object", "OPERATOR public.<")}),
    "an operator class": ("DROP OPERATOR CLASS by_method USING own_btree", {("object", "OPERATOR CLASS public.by_method")}),
    "an operator family": ("ALTER OPERATOR FAMILY loose USING gin RENAME TO looser", {
        ("object", "OPERATOR FAMILY public.loose"), ("object", "OPERATOR FAMILY public.looser")}),
    "a cast": ("DROP CAST (text AS own_type)", {("object", "CAST CAST (text AS public.own_type)")}),
    "a transform": ("DROP TRANSFORM FOR own_type LANGUAGE sql", {("object", "TRANSFORM TRANSFORM FOR public.own_type LANGUAGE sql")}),
    "a collation": ("DROP COLLATION swedish; CREATE COLLATION swedish (provider = icu, locale = 'de')", {("object", "COLLATION public.swedish")}),
    "a conversion": ("DROP CONVERSION own_conversion", {("object", "CONVERSION public.own_conversion")}),
    "a language's grant": ("REVOKE USAGE ON LANGUAGE own_language FROM any_app", {("object", "ACL LANGUAGE own_language")}),
    "an access method": ("ALTER TABLE other_method SET ACCESS METHOD heap", {("object", "TABLE public.other_method")}),
    "a search configuration": ("ALTER TEXT SEARCH CONFIGURATION own_search DROP MAPPING FOR word", {
        ("object", "TEXT SEARCH CONFIGURATION public.own_search")}),
    "a search dictionary": ("ALTER TEXT SEARCH DICTIONARY own_dictionary (accept = true)", {("object", "TEXT SEARCH DICTIONARY public.own_dictionary")}),
    "a statistics object's target": ("ALTER STATISTICS of_expressions SET STATISTICS 5", {("object", "STATISTICS public.of_expressions")}),
    "a foreign server": ("ALTER SERVER elsewhere OPTIONS (ADD port '1')", {("object", "SERVER elsewhere")}),
    "a user mapping": ("ALTER USER MAPPING FOR any_mapped SERVER elsewhere OPTIONS (SET password 'canary')",
                       {("object", "USER MAPPING USER MAPPING any_mapped SERVER elsewhere")}),
    "a foreign data wrapper": ("ALTER FOREIGN DATA WRAPPER dummy_wrapper OPTIONS (SET debug 'false')", {("object", "FOREIGN DATA WRAPPER dummy_wrapper")}),
    "a foreign column's options": ("ALTER FOREIGN TABLE outside ALTER id OPTIONS (SET column_name 'no')", {("object", "FOREIGN TABLE public.outside")}),
    "default privileges everywhere": ("ALTER DEFAULT PRIVILEGES FOR ROLE any_default REVOKE USAGE ON TYPES FROM any_app", {
        ("object", "DEFAULT ACL DEFAULT PRIVILEGES FOR TYPES")}),
    "a grant option": ("REVOKE GRANT OPTION FOR USAGE ON SCHEMA sales FROM any_grantor CASCADE", {("object", "ACL SCHEMA sales")}),
    "a type's grant": ("GRANT USAGE ON TYPE colour TO PUBLIC", {("object", "ACL public.TYPE colour")}),
    "a grant inside of PostgreSQL": ("REVOKE EXECUTE ON FUNCTION pg_ls_dir(text) FROM any_app", {
        ("object", "ACL pg_catalog.FUNCTION pg_ls_dir(text)")}),
    "a schema's owner": ("ALTER SCHEMA rare OWNER TO any_owner", {("object", "SCHEMA rare")}),
    "a comment on a constraint": ("COMMENT ON CONSTRAINT egg_hen ON egg IS 'other'", {("object", "COMMENT public.CONSTRAINT egg_hen ON egg")}),
    "an extension's owner": ("UPDATE pg_extension SET extowner = 10 WHERE extname = 'hstore'", {("extension", "hstore")}),
    "an extension's schema": ("ALTER EXTENSION cube SET SCHEMA rare", {("extension", "cube"), ("object", "EXTENSION cube")}),
    "an extension updated": ("ALTER EXTENSION acme_config UPDATE", {("extension", "acme_config"), ("object", "ACL rare.FUNCTION acme_new()")}),
    "an extension's comment": ("COMMENT ON EXTENSION ltree IS 'other'", {("object", "COMMENT EXTENSION ltree")}),
    "a row of an extension's configuration": ("UPDATE rare.acme_entry SET note = 'other' WHERE own AND note = 'more!'", {
        ("table data", "rare.acme_entry"), ("row", "rare.acme_entry: id=3")}),
    "a grant on an extension's table": ("REVOKE SELECT ON rare.acme_entry FROM any_readers", {("object", "ACL rare.TABLE acme_entry")}),
    "a generated value": (
        "UPDATE pg_attribute SET attgenerated = '' WHERE attrelid = 'stale'::regclass AND attname = 'twice';"
        "UPDATE stale SET twice = 3 WHERE id = 1;"
        "UPDATE pg_attribute SET attgenerated = 's' WHERE attrelid = 'stale'::regclass AND attname = 'twice'",
        {("table data", "public.stale"), ("row", "public.stale: id=1")},
    ),
    "a grant on a parameter": ("REVOKE SET ON PARAMETER log_statement FROM any_app", {("parameter grant", "any_app: SET on log_statement")}),
    "a setting of a role the source does not know": (
        "CREATE ROLE any_stranger; ALTER ROLE any_stranger IN DATABASE any_database SET work_mem = '1MB'",
        {("role setting", "any_stranger in the database: work_mem")},
    ),
    "a member the source does not know": ("CREATE ROLE any_intruder IN ROLE any_owner", {("role membership", "any_intruder in any_owner")}),
}  # fmt: skip


@pytest.fixture(scope="module")
def found(cluster: Cluster, second_cluster: Cluster, any_database: str) -> Iterator[list[dict[str, str]]]:
    """The differences after all changes; before them there were none."""
    source, target = cluster.conninfo(any_database), second_cluster.conninfo(any_database)
    database_copy.run({"source": source, "target": target}, lambda progress: None)

    def differences() -> list[dict[str, str]]:
        rows = verification.run({"source": source, "target": target}, lambda progress: None)["differences"]
        assert isinstance(rows, list)
        return rows

    assert differences() == []
    second_cluster.execute(any_database, ";\n".join(change for change, _ in CHANGES.values()))
    yield differences()
    remove_all(second_cluster)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_named(found: list[dict[str, str]], change: str) -> None:
    expected = CHANGES[change][1]
    named = {(row["kind"], row["object"]) for row in found}
    assert expected <= named, sorted(named)


def test_nothing_else_is_named(found: list[dict[str, str]]) -> None:
    named = {(row["kind"], row["object"]) for row in found}
    expected = {pair for _, pairs in CHANGES.values() for pair in pairs}
    assert named - expected == set()


def test_no_password_of_another_server_is_shown(found: list[dict[str, str]]) -> None:
    text = json.dumps(found)
    for secret in ("canary", "mapped-secret", "subscribed-secret"):
        assert secret not in text


def test_objects_have_one_change_each() -> None:
    pairs = [pair for _, expected in CHANGES.values() for pair in expected]
    assert len(pairs) == len(set(pairs))
