-- Configuration tables that refer to each other and have a trigger: an extension of the tests (conftest.py installs it).
CREATE TABLE acme_kind (id int PRIMARY KEY, name text);
INSERT INTO acme_kind VALUES (1, 'built in');
CREATE TABLE acme_entry (id serial PRIMARY KEY, kind int REFERENCES acme_kind, note text, own bool DEFAULT true);
INSERT INTO acme_entry (kind, note, own) VALUES (1, 'built in', false);
CREATE FUNCTION acme_log() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.note := NEW.note || '!'; RETURN NEW; END $$;
CREATE TRIGGER acme_log BEFORE INSERT ON acme_entry FOR EACH ROW EXECUTE FUNCTION acme_log();
SELECT pg_extension_config_dump('acme_kind', '');
SELECT pg_extension_config_dump('acme_entry', 'WHERE own');
SELECT pg_extension_config_dump('acme_entry_id_seq', '');
