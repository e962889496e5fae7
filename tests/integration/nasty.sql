-- One of nearly everything pg_dump knows, and values whose text hides what they are. Run in an empty database.
CREATE EXTENSION pg_trgm;
CREATE EXTENSION hstore;
CREATE EXTENSION citext;
CREATE SCHEMA "帳票 schema";
CREATE TYPE mood AS ENUM ('good', 'bad', 'so "so"');
CREATE TYPE address AS (street text, number int, moods mood[]);
CREATE DOMAIN positive AS numeric CHECK (VALUE > 0);
CREATE DOMAIN moods AS mood[];
CREATE TYPE mood_range AS RANGE (subtype = mood);
CREATE COLLATION "coll C" (locale = 'C');

CREATE TABLE plain (id int PRIMARY KEY, name text, amount numeric, ratio float8, span interval, doc json, docb jsonb,
                    x xml, at timestamptz, p point, bits bit(5), raw bytea, tags text[], cash money);
INSERT INTO plain VALUES
  (1, 'あ"''\', 1.0, '-0', '1 day', '{"a": 1}', '{"a": 1}', '<a/>', 'infinity', '(1,-0)', B'10101', '\x00ff', '{a,NULL,"NULL",""}', 12.34),
  (2, '', 1.00, 0, '24:00', '{"a":1}', '[]', '<a />', '-infinity', '(NaN,Infinity)', B'00000', '', '{}', -1),
  (3, NULL, 'NaN', 'NaN', '-1 month 1 day', 'null', 'null', NULL, '2020-02-29 12:00:00.000001+09', NULL, NULL, NULL, NULL, NULL)
  ON CONFLICT DO NOTHING;
CREATE TABLE numbered (id int, m mood, ms mood[], a address, d moods, r mood_range, c regclass, cs regclass[], k citext, h hstore, pos positive, acl aclitem);
INSERT INTO numbered VALUES
  (1, 'so "so"', '{good,NULL}', ROW('x', 1, '{bad}'), '{good}', '[good,bad)', 'plain', '{plain,numbered}', 'CaSe', 'a=>1,b=>NULL', 1.50, 'postgres=r/postgres'),
  (2, NULL, NULL, ROW(NULL, NULL, NULL), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
  (2, NULL, NULL, ROW(NULL, NULL, NULL), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
  (3, NULL, '[0:1]={good,bad}', NULL, '{}', 'empty', 0, '{}', '', '', 1.5, NULL);
CREATE TABLE no_columns ();
INSERT INTO no_columns SELECT FROM generate_series(1, 3);
CREATE TABLE empty_table (a int);
CREATE TABLE keyless (report int, cluster int, value text);
INSERT INTO keyless SELECT g % 7, g, 'v' || g FROM generate_series(1, 500) g;
INSERT INTO keyless VALUES (1, 1, 'twice'), (1, 1, 'twice');
CREATE TABLE dropped (a int, gone text, b int);
INSERT INTO dropped VALUES (1, 'x', 2);
ALTER TABLE dropped DROP COLUMN gone;
ALTER TABLE dropped ADD COLUMN c int DEFAULT 7;
CREATE TABLE "Weird "" name; -- $()" ("col "" %s {{ x }}" int GENERATED ALWAYS AS IDENTITY, "日本語" text DEFAULT 'ソ', len int GENERATED ALWAYS AS (length("日本語")) STORED);
INSERT INTO "Weird "" name; -- $()" ("日本語") VALUES ('一'), ('二二');
CREATE TABLE only_generated (g int GENERATED ALWAYS AS (1 + 1) STORED);
INSERT INTO only_generated DEFAULT VALUES;
CREATE UNLOGGED TABLE fleeting (a int, b text COLLATE "coll C");
INSERT INTO fleeting VALUES (1, 'u');
CREATE TABLE parent (id int, name text);
CREATE TABLE child (extra int) INHERITS (parent);
INSERT INTO parent VALUES (1, 'parent'); INSERT INTO child VALUES (2, 'child', 3);
CREATE TABLE measured (day date NOT NULL, v int) PARTITION BY RANGE (day);
CREATE TABLE measured_2025 PARTITION OF measured FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE measured_rest PARTITION OF measured DEFAULT;
INSERT INTO measured SELECT '2025-06-01'::date + g * 50, g FROM generate_series(1, 10) g;
CREATE INDEX ON measured (day);
CREATE TABLE circular_a (id int PRIMARY KEY, b int);
CREATE TABLE circular_b (id int PRIMARY KEY, a int REFERENCES circular_a DEFERRABLE INITIALLY DEFERRED);
INSERT INTO circular_a VALUES (1, 1); INSERT INTO circular_b VALUES (1, 1);
ALTER TABLE circular_a ADD FOREIGN KEY (b) REFERENCES circular_b;
CREATE TABLE booking (room int, during tsrange, EXCLUDE USING gist (during WITH &&));
INSERT INTO booking VALUES (1, '[2025-01-01,2025-01-02)');
CREATE TABLE guarded (id serial, owner text, secret text);
ALTER TABLE guarded ADD CONSTRAINT guarded_id_check CHECK (id > 0) NOT VALID;
INSERT INTO guarded (owner, secret) VALUES ('x', 's');
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY; ALTER TABLE guarded FORCE ROW LEVEL SECURITY;
CREATE INDEX guarded_name ON guarded USING gin (owner gin_trgm_ops);
CREATE STATISTICS some_statistics (dependencies) ON report, cluster FROM keyless;
ALTER TABLE keyless ALTER COLUMN value SET STATISTICS 500;
ALTER TABLE keyless REPLICA IDENTITY FULL;
CREATE SEQUENCE "seq Label" START 5 INCREMENT 3 CYCLE MAXVALUE 1000; SELECT nextval('"seq Label"'); SELECT nextval('"seq Label"');
CREATE SEQUENCE never_called START 17;
CREATE SEQUENCE set_back; SELECT setval('set_back', 40, false);
CREATE TABLE audit (at timestamptz, what text);
CREATE FUNCTION audit_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.audit VALUES (now(), TG_TABLE_NAME || E'\n-- Name: fake; Type: TABLE'); RETURN NEW; END $$;
CREATE TRIGGER audit_plain AFTER INSERT ON plain FOR EACH ROW EXECUTE FUNCTION audit_row();
CREATE TRIGGER audit_keyless AFTER INSERT ON keyless FOR EACH ROW EXECUTE FUNCTION audit_row();
ALTER TABLE keyless DISABLE TRIGGER audit_keyless;
ALTER TABLE plain ENABLE ALWAYS TRIGGER audit_plain;
CREATE RULE plain_rule AS ON DELETE TO plain WHERE OLD.id < 0 DO INSTEAD NOTHING;
CREATE VIEW plain_view AS SELECT id, name FROM plain;
CREATE MATERIALIZED VIEW stale AS SELECT count(*) AS n, now() AS at FROM keyless;
INSERT INTO keyless VALUES (9, 9, 'after the view');
CREATE UNIQUE INDEX ON stale (n);
CREATE MATERIALIZED VIEW unfilled AS SELECT 1 AS one WITH NO DATA;
CREATE FUNCTION plus(a int, b int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT a + b';
CREATE OPERATOR |+| (LEFTARG = int, RIGHTARG = int, FUNCTION = plus);
CREATE AGGREGATE total(int) (SFUNC = plus, STYPE = int, INITCOND = '0');
CREATE FUNCTION in_c(text) RETURNS int LANGUAGE c STRICT AS '$libdir/fuzzystrmatch', 'soundex';
CREATE PROCEDURE nothing() LANGUAGE sql AS 'SELECT 1';
CREATE TEXT SEARCH CONFIGURATION own (COPY = simple);
CREATE PUBLICATION everything FOR TABLE plain;
CREATE FUNCTION on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION on_ddl();
CREATE EXTENSION file_fdw;
CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
CREATE FOREIGN TABLE outside (line text) SERVER files OPTIONS (filename '/dev/null');
CREATE TABLE "帳票 schema".wide AS SELECT g AS id, repeat(md5(g::text), 200) AS body FROM generate_series(1, 2000) g;

CREATE ROLE nasty_owner LOGIN PASSWORD 'owner-secret' CONNECTION LIMIT 9 VALID UNTIL '2099-01-01';
CREATE ROLE "nasty App" LOGIN PASSWORD 'app-secret';
CREATE ROLE nasty_readers NOLOGIN;
CREATE ROLE nasty_member LOGIN IN ROLE nasty_readers;
CREATE ROLE nasty_group; GRANT nasty_group TO nasty_owner WITH ADMIN OPTION;
CREATE ROLE nasty_settings;
CREATE ROLE nasty_stranger;
COMMENT ON ROLE nasty_owner IS 'owns "it"';
ALTER ROLE "nasty App" SET work_mem = '5MB';
ALTER ROLE "nasty App" SET search_path = "$user", public, "帳票 schema";
ALTER TABLE plain OWNER TO nasty_owner;
ALTER SCHEMA "帳票 schema" OWNER TO nasty_owner;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO nasty_readers;
GRANT INSERT, UPDATE (name) ON plain TO "nasty App" WITH GRANT OPTION;
SET ROLE "nasty App"; GRANT INSERT ON plain TO nasty_readers; RESET ROLE;
REVOKE ALL ON FUNCTION plus FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE nasty_owner IN SCHEMA public GRANT SELECT ON TABLES TO nasty_readers;
CREATE POLICY own_rows ON guarded TO nasty_readers USING (owner = current_user);
COMMENT ON TABLE plain IS 'コメント';
COMMENT ON COLUMN plain.name IS '';
COMMENT ON SCHEMA public IS 'ours';
SELECT lo_from_bytea(4711, '\x0102ff'); SELECT lo_create(4712);
SELECT lo_from_bytea(4713, decode(repeat('ab', 5000), 'hex')); SELECT lo_put(4713, 100000, '\x01'); SELECT lo_create(3000000000);
ALTER LARGE OBJECT 4711 OWNER TO nasty_owner; GRANT SELECT ON LARGE OBJECT 4711 TO nasty_readers; COMMENT ON LARGE OBJECT 4711 IS 'photo';
DO $$ BEGIN
  EXECUTE format('ALTER DATABASE %I OWNER TO nasty_owner', current_database());
  EXECUTE format('ALTER DATABASE %I CONNECTION LIMIT 33', current_database());
  EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM PUBLIC', current_database());
  EXECUTE format('GRANT CONNECT ON DATABASE %I TO nasty_readers', current_database());
  EXECUTE format('ALTER DATABASE %I SET timezone = %L', current_database(), 'Asia/Tokyo');
  EXECUTE format('ALTER DATABASE %I SET search_path = %s', current_database(), '"$user", public');
  EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database());
  EXECUTE format('ALTER DATABASE %I SET "ireporter.site" = %L', current_database(), '工場 ''A'' "1"');
  EXECUTE format('ALTER ROLE nasty_settings IN DATABASE %I SET lock_timeout = 100', current_database());
  EXECUTE format('COMMENT ON DATABASE %I IS %L', current_database(), 'the nasty ''one''');
END $$;
