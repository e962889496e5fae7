-- Every object kind pg_dump knows that nasty.sql has not, in a database nobody here designed. Run in an empty database.
CREATE ROLE any_owner; CREATE ROLE any_app LOGIN; CREATE ROLE any_readers; CREATE ROLE any_policy; CREATE ROLE any_mapped;
CREATE ROLE any_default; CREATE ROLE any_named_in_a_value; CREATE ROLE any_grantor; CREATE ROLE any_extension_owner;
CREATE ROLE any_subscriber SUPERUSER; CREATE ROLE any_setting; CREATE ROLE any_named_in_a_grant_value;
DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO any_extension_owner, any_app', current_database()); END $$;

-- Schemas, also public of another owner.
CREATE SCHEMA sales AUTHORIZATION any_owner;
CREATE SCHEMA rare;
ALTER SCHEMA public OWNER TO any_owner;

-- Extensions: one with configuration tables, an older version, one of another owner, one in a schema of its own.
CREATE EXTENSION acme_config VERSION '1.0' SCHEMA rare;
INSERT INTO rare.acme_kind VALUES (2, 'ours');
INSERT INTO rare.acme_entry (kind, note) VALUES (2, 'ours'), (1, 'more');
SELECT setval('rare.acme_entry_id_seq', 77);
GRANT SELECT ON rare.acme_entry TO any_readers;
SET SESSION AUTHORIZATION any_extension_owner; CREATE EXTENSION hstore; RESET SESSION AUTHORIZATION;
CREATE EXTENSION pg_trgm SCHEMA rare VERSION '1.5';
CREATE EXTENSION btree_gist; CREATE EXTENSION postgres_fdw; CREATE EXTENSION cube; CREATE EXTENSION ltree; CREATE EXTENSION isn; CREATE EXTENSION seg; CREATE EXTENSION intarray; CREATE EXTENSION lo; CREATE EXTENSION unaccent; CREATE EXTENSION pgcrypto; CREATE EXTENSION bloom; CREATE EXTENSION tablefunc; CREATE EXTENSION citext;
REVOKE EXECUTE ON FUNCTION public.digest(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_dir(text) TO any_app;
COMMENT ON EXTENSION cube IS 'our cube';

-- Types.
CREATE TYPE shell_type;
CREATE TYPE colour AS ENUM ('red', 'green', 'blue'); ALTER TYPE colour ADD VALUE 'orange' AFTER 'red';
CREATE TYPE empty_enum AS ENUM ();
CREATE TYPE pair AS (a int, b text COLLATE "C");
CREATE TYPE nothing_at_all AS ();
CREATE TYPE price_range AS RANGE (subtype = numeric, multirange_type_name = prices);
CREATE FUNCTION days(a date, b date) RETURNS float8 LANGUAGE sql IMMUTABLE STRICT AS 'SELECT (a - b)::float8';
CREATE TYPE day_range AS RANGE (subtype = date, subtype_diff = days);
CREATE DOMAIN year AS int DEFAULT 2000 NOT NULL CONSTRAINT after_1900 CHECK (VALUE > 1900);
CREATE DOMAIN code AS text COLLATE "C" CHECK (VALUE ~ '^[A-Z]*$');
ALTER DOMAIN code ADD CONSTRAINT short CHECK (length(VALUE) < 9) NOT VALID;
CREATE DOMAIN pairs AS pair[];
CREATE DOMAIN pair_valid AS pair CHECK ((VALUE).a > 0);
COMMENT ON TYPE colour IS 'a colour'; COMMENT ON DOMAIN year IS 'a year'; COMMENT ON CONSTRAINT after_1900 ON DOMAIN year IS 'late';
CREATE FUNCTION own_in(cstring) RETURNS own_type LANGUAGE internal IMMUTABLE STRICT AS 'int4in';
CREATE FUNCTION own_out(own_type) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'int4out';
CREATE FUNCTION own_send(own_type) RETURNS bytea LANGUAGE internal IMMUTABLE STRICT AS 'int4send';
CREATE FUNCTION own_recv(internal) RETURNS own_type LANGUAGE internal IMMUTABLE STRICT AS 'int4recv';
CREATE TYPE own_type (INPUT = own_in, OUTPUT = own_out, SEND = own_send, RECEIVE = own_recv, LIKE = int4, CATEGORY = 'N');
CREATE FUNCTION deaf_in(cstring) RETURNS deaf_type LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION deaf_out(deaf_type) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE TYPE deaf_type (INPUT = deaf_in, OUTPUT = deaf_out, LIKE = text);

-- Functions, operators, classes, casts, transforms, languages, access methods, conversions, collations.
CREATE FUNCTION own_lt(own_type, own_type) RETURNS bool LANGUAGE internal IMMUTABLE STRICT AS 'int4lt';
CREATE FUNCTION own_le(own_type, own_type) RETURNS bool LANGUAGE internal IMMUTABLE STRICT AS 'int4le';
CREATE FUNCTION own_eq(own_type, own_type) RETURNS bool LANGUAGE internal IMMUTABLE STRICT AS 'int4eq';
CREATE FUNCTION own_ge(own_type, own_type) RETURNS bool LANGUAGE internal IMMUTABLE STRICT AS 'int4ge';
CREATE FUNCTION own_gt(own_type, own_type) RETURNS bool LANGUAGE internal IMMUTABLE STRICT AS 'int4gt';
CREATE FUNCTION own_cmp(own_type, own_type) RETURNS int LANGUAGE internal IMMUTABLE STRICT AS 'btint4cmp';
CREATE FUNCTION own_hash(own_type) RETURNS int LANGUAGE internal IMMUTABLE STRICT AS 'hashint4';
CREATE OPERATOR < (LEFTARG = own_type, RIGHTARG = own_type, FUNCTION = own_lt, COMMUTATOR = >, NEGATOR = >=, RESTRICT = scalarltsel, JOIN = scalarltjoinsel);
CREATE OPERATOR <= (LEFTARG = own_type, RIGHTARG = own_type, FUNCTION = own_le, COMMUTATOR = >=, NEGATOR = >);
CREATE OPERATOR = (LEFTARG = own_type, RIGHTARG = own_type, FUNCTION = own_eq, COMMUTATOR = =, RESTRICT = eqsel, JOIN = eqjoinsel, HASHES, MERGES);
CREATE OPERATOR >= (LEFTARG = own_type, RIGHTARG = own_type, FUNCTION = own_ge, COMMUTATOR = <=, NEGATOR = <);
CREATE OPERATOR > (LEFTARG = own_type, RIGHTARG = own_type, FUNCTION = own_gt, COMMUTATOR = <, NEGATOR = <=);
CREATE OPERATOR FAMILY own_family USING btree;
CREATE OPERATOR CLASS own_class DEFAULT FOR TYPE own_type USING btree FAMILY own_family AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 own_cmp(own_type, own_type);
CREATE OPERATOR CLASS own_class DEFAULT FOR TYPE own_type USING hash AS OPERATOR 1 =, FUNCTION 1 own_hash(own_type);
CREATE OPERATOR FAMILY loose USING gin;
COMMENT ON OPERATOR <(own_type, own_type) IS 'less';
CREATE CAST (own_type AS int) WITHOUT FUNCTION AS ASSIGNMENT;
CREATE CAST (text AS own_type) WITH INOUT;
COMMENT ON CAST (own_type AS int) IS 'same bits';
CREATE TRANSFORM FOR own_type LANGUAGE sql (FROM SQL WITH FUNCTION prsd_lextype(internal), TO SQL WITH FUNCTION own_recv(internal));
CREATE COLLATION german (provider = icu, locale = 'de-u-co-phonebk');
CREATE COLLATION swedish (provider = icu, locale = 'sv');
CREATE COLLATION careless (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
COMMENT ON COLLATION german IS 'phone book';
CREATE CONVERSION own_conversion FOR 'UTF8' TO 'LATIN1' FROM utf8_to_iso8859_1;
CREATE ACCESS METHOD own_heap TYPE TABLE HANDLER heap_tableam_handler;
CREATE ACCESS METHOD own_btree TYPE INDEX HANDLER bthandler;
CREATE FUNCTION own_handler() RETURNS language_handler LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_call_handler';
CREATE TRUSTED LANGUAGE own_language HANDLER own_handler;
GRANT USAGE ON LANGUAGE own_language TO any_app;
CREATE FUNCTION variadic_one(VARIADIC a int[] DEFAULT '{}', OUT n int, OUT m text) LANGUAGE sql STABLE PARALLEL SAFE COST 7 LEAKPROOF SET work_mem = '3MB' SET search_path = sales, "$user" AS 'SELECT cardinality(a), ''x''';
CREATE FUNCTION standard_body(a int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT a + 1; END;
CREATE FUNCTION a_table(n int) RETURNS TABLE (a int, b text) LANGUAGE sql ROWS 3 AS 'SELECT 1, ''x''';
CREATE FUNCTION a_window(anyelement) RETURNS anyelement WINDOW LANGUAGE internal AS 'window_lag';
CREATE FUNCTION planned(internal) RETURNS internal LANGUAGE internal STRICT AS 'generate_series_int4_support';
CREATE FUNCTION with_support(int, int) RETURNS SETOF int LANGUAGE internal IMMUTABLE STRICT SUPPORT planned AS 'generate_series_int4';
CREATE PROCEDURE increase(INOUT a int) LANGUAGE plpgsql AS $p$ BEGIN a := a + 1; COMMIT; END $p$;
CREATE AGGREGATE moving(int) (SFUNC = int4pl, STYPE = int, MSFUNC = int4pl, MINVFUNC = int4mi, MSTYPE = int, INITCOND = '0', MINITCOND = '0', COMBINEFUNC = int4pl, PARALLEL = SAFE);
CREATE AGGREGATE percent(float8 ORDER BY anyelement) (SFUNC = ordered_set_transition, STYPE = internal, FINALFUNC = percentile_disc_final, FINALFUNC_EXTRA);

-- Text search of every kind.
CREATE TEXT SEARCH PARSER own_parser (START = prsd_start, GETTOKEN = prsd_nexttoken, END = prsd_end, LEXTYPES = prsd_lextype, HEADLINE = prsd_headline);
CREATE TEXT SEARCH TEMPLATE own_template (INIT = dsimple_init, LEXIZE = dsimple_lexize);
CREATE TEXT SEARCH DICTIONARY own_dictionary (TEMPLATE = own_template, accept = false);
CREATE TEXT SEARCH CONFIGURATION own_search (PARSER = own_parser);
ALTER TEXT SEARCH CONFIGURATION own_search ADD MAPPING FOR asciiword, word WITH own_dictionary, simple;

-- Tables of every kind.
CREATE TABLE every_kind (id bigint GENERATED BY DEFAULT AS IDENTITY (START 10 INCREMENT 5 CACHE 3 CYCLE MAXVALUE 100000) PRIMARY KEY, y year, c code, k colour DEFAULT 'orange', p pair DEFAULT ROW(1, 'x'), pv pair_valid, ps pairs, e nothing_at_all,
  price price_range, all_prices prices, days day_range, own own_type, deaf deaf_type, t text COMPRESSION lz4 COLLATE careless, own_many own_type[], doubled int GENERATED ALWAYS AS (y * 2) STORED);
ALTER TABLE every_kind ALTER t SET STORAGE EXTERNAL, ALTER t SET (n_distinct = -0.5);
INSERT INTO every_kind (y, c, p, pv, ps, e, price, all_prices, days, own, deaf, t, own_many) VALUES
 (1999, 'ABC', (1, NULL), (1, ''), ARRAY[(1,'x'), NULL, (NULL,NULL)]::pair[], ROW(), '[1.0,2.00)', '{[1.0,2.00),[3,)}', '[2025-01-01,)', '7', 'x', 'Straße', '{1,NULL}'),
 (1901, NULL, NULL, NULL, '{}', NULL, 'empty', '{}', 'empty', NULL, '', '', '{}');
CREATE TABLE typed OF pair (PRIMARY KEY (a), b WITH OPTIONS DEFAULT 'typed');
INSERT INTO typed VALUES (1, 'one');
CREATE TABLE sales.sold (id int, at date NOT NULL, region text, amount numeric CHECK (amount >= 0)) PARTITION BY LIST (region);
CREATE TABLE sales.sold_east PARTITION OF sales.sold FOR VALUES IN ('east', NULL) PARTITION BY RANGE (at, (amount * 2));
CREATE TABLE sales.sold_east_old PARTITION OF sales.sold_east FOR VALUES FROM (MINVALUE, MINVALUE) TO ('2025-01-01', 10);
CREATE TABLE sales.sold_east_new (amount numeric CONSTRAINT sold_amount_check CHECK (amount >= 0), gone int, at date NOT NULL, id int, region text);
ALTER TABLE sales.sold_east_new DROP COLUMN gone;
ALTER TABLE sales.sold_east ATTACH PARTITION sales.sold_east_new FOR VALUES FROM ('2025-01-01', 10) TO (MAXVALUE, MAXVALUE);
CREATE TABLE sales.sold_other PARTITION OF sales.sold DEFAULT PARTITION BY HASH (id);
CREATE TABLE sales.sold_other_0 PARTITION OF sales.sold_other FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE sales.sold_other_1 PARTITION OF sales.sold_other FOR VALUES WITH (MODULUS 2, REMAINDER 1) WITH (fillfactor = 70);
INSERT INTO sales.sold SELECT g, '2024-12-01'::date + g, (ARRAY['east', 'west', NULL])[g % 3 + 1], g FROM generate_series(1, 60) g;
CREATE INDEX sold_at ON sales.sold (at);
CREATE INDEX sold_only ON ONLY sales.sold (id);
ALTER TABLE sales.sold_east ADD CONSTRAINT positive CHECK (id > 0);
CREATE TABLE base (id int CHECK (id > 0) NO INHERIT, name text DEFAULT 'base', n int NOT NULL DEFAULT 1);
CREATE TABLE derived (name text DEFAULT 'derived', more int) INHERITS (base);
CREATE TABLE second_base (id int, z int);
CREATE TABLE twice_derived (own int) INHERITS (derived, second_base);
INSERT INTO base VALUES (1); INSERT INTO derived VALUES (2); INSERT INTO twice_derived VALUES (3);
ALTER TABLE derived ALTER n SET DEFAULT 2;
CREATE TABLE other_method (a int) USING own_heap; INSERT INTO other_method VALUES (1);
CREATE TABLE with_options (a int, b text) WITH (fillfactor = 50, autovacuum_enabled = false, toast.autovacuum_enabled = false);
CREATE UNLOGGED TABLE unlogged (id serial, a int); INSERT INTO unlogged (a) VALUES (1), (2);
CREATE UNLOGGED SEQUENCE unlogged_sequence AS smallint;
CREATE TABLE foreign_parts (id int) PARTITION BY RANGE (id);
CREATE TABLE foreign_parts_near PARTITION OF foreign_parts FOR VALUES FROM (0) TO (10);
INSERT INTO foreign_parts VALUES (5);

-- Constraints and indexes.
CREATE TABLE allowed (id int PRIMARY KEY); INSERT INTO allowed VALUES (1), (2);
CREATE FUNCTION reads_tables(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT EXISTS (SELECT FROM allowed WHERE id = $1)';
CREATE TABLE checked (id int CHECK (reads_tables(id))); INSERT INTO checked VALUES (1), (2);
CREATE TABLE keys (a int, b int, c text, d int4range, UNIQUE NULLS NOT DISTINCT (c), UNIQUE (a, b) INCLUDE (c), UNIQUE (c, a) DEFERRABLE INITIALLY DEFERRED,
  EXCLUDE USING gist (a WITH =, d WITH &&) WHERE (b > 0) DEFERRABLE);
INSERT INTO keys VALUES (1, 1, NULL, '[1,5)'), (2, 1, '', '[1,5)');
CREATE TABLE refers (a int, b int, c int, FOREIGN KEY (a, b) REFERENCES keys (a, b) MATCH FULL ON DELETE SET NULL (a) ON UPDATE CASCADE NOT VALID);
ALTER TABLE keys ADD UNIQUE (b, a);
ALTER TABLE refers ADD FOREIGN KEY (c, b) REFERENCES keys (b, a) ON DELETE SET NULL (c) ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED;
INSERT INTO refers VALUES (1, 1, 1), (NULL, NULL, 2);
CREATE TABLE tree (id int PRIMARY KEY, parent int REFERENCES tree); INSERT INTO tree VALUES (1, 2), (2, 1);
CREATE TABLE egg (id int PRIMARY KEY, hen int); CREATE TABLE hen (id int PRIMARY KEY, egg int REFERENCES egg);
ALTER TABLE egg ADD CONSTRAINT egg_hen FOREIGN KEY (hen) REFERENCES hen DEFERRABLE;
INSERT INTO egg VALUES (1, NULL); INSERT INTO hen VALUES (1, 1); UPDATE egg SET hen = 1;
CREATE INDEX by_expression ON keys USING btree ((lower(c)) text_pattern_ops DESC NULLS LAST, (a + b)) INCLUDE (d) WITH (fillfactor = 60, deduplicate_items = off) WHERE c IS NOT NULL;
ALTER INDEX by_expression ALTER COLUMN 2 SET STATISTICS 300;
CREATE INDEX by_trigram ON keys USING gist (c rare.gist_trgm_ops (siglen = 32));
CREATE INDEX by_bloom ON keys USING bloom (a, b) WITH (length = 100);
CREATE OPERATOR CLASS by_method FOR TYPE int USING own_btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 btint4cmp(int, int);
CREATE INDEX by_brin ON keys USING brin (a int4_minmax_multi_ops (values_per_range = 16));
CREATE INDEX by_hash ON keys USING hash (c);
CREATE INDEX by_own_class ON every_kind (own);
ALTER TABLE keys CLUSTER ON keys_a_b_c_key;
CREATE UNIQUE INDEX identity_index ON second_base (id); ALTER TABLE second_base ALTER id SET NOT NULL, REPLICA IDENTITY USING INDEX identity_index;
ALTER TABLE typed REPLICA IDENTITY NOTHING;
CREATE STATISTICS of_expressions (ndistinct, mcv) ON (lower(c)), a, (a + b) FROM keys; ALTER STATISTICS of_expressions SET STATISTICS 77;
COMMENT ON STATISTICS of_expressions IS 'stats'; ALTER STATISTICS of_expressions OWNER TO any_owner;
COMMENT ON INDEX by_hash IS 'hashed'; COMMENT ON CONSTRAINT egg_hen ON egg IS 'first';

-- Definitions that the rows do not obey, or that do not work while a database is restored.
CREATE FUNCTION twice_of(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2';
CREATE FUNCTION fits(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 < 100';
CREATE TABLE stale (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (twice_of(id)) STORED, CHECK (fits(id)), odd int CHECK (odd % 2 = 1));
INSERT INTO stale VALUES (1, DEFAULT, 1), (20, DEFAULT, 3);
CREATE OR REPLACE FUNCTION twice_of(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 3';
CREATE OR REPLACE FUNCTION fits(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 < 10';
CREATE DOMAIN known AS int CHECK (reads_tables(VALUE)); CREATE TABLE of_domain (k known); INSERT INTO of_domain VALUES (1), (2);
DELETE FROM allowed WHERE id = 2;
CREATE TABLE unenforced (id int PRIMARY KEY, parent int REFERENCES unenforced); INSERT INTO unenforced VALUES (1, 1);
ALTER TABLE unenforced DISABLE TRIGGER ALL;

-- Views and rules.
CREATE VIEW guarded_view WITH (security_barrier, security_invoker) AS SELECT id FROM base WHERE id > 0 WITH CASCADED CHECK OPTION;
CREATE RECURSIVE VIEW counting (n) AS VALUES (1) UNION ALL SELECT n + 1 FROM counting WHERE n < 5;
CREATE VIEW circular AS SELECT 1 AS a; CREATE VIEW uses_circular AS SELECT a FROM circular; 
CREATE OR REPLACE VIEW circular AS SELECT 1 AS a;
ALTER VIEW guarded_view ALTER id SET DEFAULT 8; COMMENT ON COLUMN guarded_view.id IS 'the id';
CREATE MATERIALIZED VIEW summed WITH (fillfactor = 55) AS SELECT region, sum(amount) AS total FROM sales.sold GROUP BY 1;
CREATE MATERIALIZED VIEW of_summed AS SELECT count(*) FROM summed; DELETE FROM sales.sold WHERE id = 5;
CREATE RULE notify_insert AS ON INSERT TO second_base DO ALSO NOTIFY changed;
CREATE RULE to_view AS ON INSERT TO uses_circular DO INSTEAD INSERT INTO second_base VALUES (NEW.a, 1);
ALTER TABLE second_base DISABLE RULE notify_insert; COMMENT ON RULE notify_insert ON second_base IS 'rule';

-- Triggers of every kind.
CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER when_columns BEFORE UPDATE OF a, b ON keys FOR EACH ROW WHEN (OLD.a IS DISTINCT FROM NEW.a) EXECUTE FUNCTION act('arg', E'\\x\'');
CREATE TRIGGER per_statement AFTER DELETE ON keys REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION act();
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON keys FROM allowed DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION act();
CREATE TRIGGER on_view INSTEAD OF INSERT ON counting FOR EACH ROW EXECUTE FUNCTION act();
CREATE TRIGGER on_partitions AFTER INSERT ON sales.sold FOR EACH ROW EXECUTE FUNCTION act();
ALTER TABLE sales.sold_other_0 DISABLE TRIGGER on_partitions;
ALTER TABLE keys ENABLE REPLICA TRIGGER per_statement; COMMENT ON TRIGGER later ON keys IS 'late';
CREATE FUNCTION on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER watch_drops ON sql_drop WHEN TAG IN ('DROP TABLE', 'DROP VIEW') EXECUTE FUNCTION on_ddl();
CREATE EVENT TRIGGER asleep ON ddl_command_start EXECUTE FUNCTION on_ddl(); ALTER EVENT TRIGGER asleep DISABLE;
CREATE EVENT TRIGGER always ON table_rewrite EXECUTE FUNCTION on_ddl(); ALTER EVENT TRIGGER always ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER asleep IS 'asleep';

-- Row-level security.
CREATE TABLE rows_of (owner text, secret text); INSERT INTO rows_of VALUES ('any_app', 's');
ALTER TABLE rows_of ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY, OWNER TO any_owner;
CREATE POLICY restrictive ON rows_of AS RESTRICTIVE FOR UPDATE TO any_policy, PUBLIC USING (owner = current_user) WITH CHECK (secret <> '');
CREATE POLICY to_one ON rows_of FOR SELECT TO any_policy USING (true); COMMENT ON POLICY to_one ON rows_of IS 'one';
ALTER TABLE base FORCE ROW LEVEL SECURITY;

-- Outside data, replication.
CREATE FOREIGN DATA WRAPPER dummy_wrapper OPTIONS (debug 'true');
CREATE SERVER elsewhere TYPE 'x' VERSION '1' FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'db.example.com', dbname 'acme');
CREATE USER MAPPING FOR any_mapped SERVER elsewhere OPTIONS (user 'acme', password 'mapped-secret');
CREATE USER MAPPING FOR PUBLIC SERVER elsewhere OPTIONS (user 'anybody');
CREATE FOREIGN TABLE outside (id int OPTIONS (column_name 'nr') NOT NULL, CHECK (id > 0)) SERVER elsewhere OPTIONS (table_name 'x');
CREATE FOREIGN TABLE foreign_parts_far PARTITION OF foreign_parts FOR VALUES FROM (10) TO (20) SERVER elsewhere;
GRANT USAGE ON FOREIGN SERVER elsewhere TO any_app; GRANT USAGE ON FOREIGN DATA WRAPPER dummy_wrapper TO any_app;
CREATE PUBLICATION parts FOR TABLE keys (a, b) WHERE (a > 1), ONLY base WITH (publish = 'insert, truncate', publish_via_partition_root = true);
CREATE PUBLICATION of_schemas FOR TABLES IN SCHEMA sales; CREATE PUBLICATION everything FOR ALL TABLES;
ALTER PUBLICATION parts OWNER TO any_owner; COMMENT ON PUBLICATION parts IS 'some';
CREATE SUBSCRIPTION incoming CONNECTION 'host=db.example.com dbname=acme password=subscribed-secret' PUBLICATION theirs WITH (connect = false, slot_name = 'slot_of_acme', binary = true, streaming = true, two_phase = true);
ALTER SUBSCRIPTION incoming OWNER TO any_subscriber;

-- Grants.
ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO any_readers;
ALTER DEFAULT PRIVILEGES FOR ROLE any_default REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE any_default IN SCHEMA sales GRANT ALL ON SEQUENCES TO any_app WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES FOR ROLE any_default GRANT USAGE ON TYPES TO any_app; ALTER DEFAULT PRIVILEGES FOR ROLE any_default GRANT ALL ON SCHEMAS TO any_app;
GRANT SELECT (id, name), UPDATE (name), REFERENCES (id) ON base TO any_app; REVOKE ALL ON base FROM postgres;
GRANT ALL ON SCHEMA sales TO any_grantor WITH GRANT OPTION; SET SESSION AUTHORIZATION any_grantor; GRANT USAGE ON SCHEMA sales TO any_app; RESET SESSION AUTHORIZATION;
REVOKE USAGE ON TYPE colour FROM PUBLIC; GRANT USAGE ON TYPE colour TO any_app; GRANT USAGE ON DOMAIN year TO any_app;
GRANT EXECUTE ON PROCEDURE increase TO any_app; REVOKE ALL ON FUNCTION days FROM PUBLIC; GRANT USAGE ON SEQUENCE unlogged_sequence TO any_app;
GRANT SELECT ON pg_catalog.pg_authid TO any_app;
GRANT SET ON PARAMETER log_statement TO any_app; GRANT ALTER SYSTEM ON PARAMETER work_mem TO any_readers WITH GRANT OPTION;
GRANT pg_read_all_stats TO any_readers; GRANT any_readers TO any_app;

-- Values that name things.
CREATE TABLE names (r regrole, acl aclitem[], c regclass, t regtype, p regprocedure, n regnamespace, f regconfig, d regdictionary, o regoperator, co regcollation);
INSERT INTO names VALUES ('any_named_in_a_value', '{any_named_in_a_grant_value=r/postgres}', 'sales.sold', 'colour[]', 'act()', 'sales', 'own_search', 'own_dictionary', '<(own_type,own_type)', 'german');
INSERT INTO names VALUES (0, '{}', 0, 0, 0, 0, 0, 0, 0, 0); INSERT INTO names (r) VALUES (NULL);

-- Large objects.
SELECT lo_from_bytea(5001, '\x00'); ALTER LARGE OBJECT 5001 OWNER TO any_owner; GRANT ALL ON LARGE OBJECT 5001 TO any_app WITH GRANT OPTION;

-- The database itself.
DO $$ BEGIN
  EXECUTE format('ALTER ROLE any_setting IN DATABASE %I SET work_mem = %L', current_database(), '7MB');
  EXECUTE format('ALTER DATABASE %I IS_TEMPLATE true', current_database());
END $$;
