extension EverythingDatabase {
  /// Functions and what is built of them.
  static func code(role: String) -> String {
    """
    CREATE FUNCTION plus(int, int DEFAULT 7) RETURNS int LANGUAGE sql STRICT IMMUTABLE PARALLEL SAFE COST 5
      AS 'SELECT $1 + $2';
    CREATE FUNCTION body(a int, OUT b int, OUT c text) LANGUAGE sql
      BEGIN ATOMIC SELECT a + 1 AS b, 'x'::text AS c; END; /*14+*/
      AS $f$SELECT a + 1 AS b, 'x'::text AS c$f$; /*14-*/
    CREATE PROCEDURE gives(OUT a int) LANGUAGE sql AS 'SELECT 1'; /*14+*/
    CREATE FUNCTION "odd ""name"" "(VARIADIC int[]) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET
      search_path = public, pg_temp
      AS $f$ BEGIN RETURN array_length($1, 1); -- TOC entry 1 (class 2 OID 3)
      END $f$;
    CREATE PROCEDURE work(INOUT a int) LANGUAGE plpgsql AS $p$ BEGIN a := a + 1; END $p$;
    CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS $t$ BEGIN RAISE 'the trigger fired'; END
      $t$;
    CREATE FUNCTION passes() RETURNS trigger LANGUAGE plpgsql AS $t$ BEGIN RETURN NEW; END $t$;
    CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');
    CREATE AGGREGATE ranked(int ORDER BY int) (SFUNC = int4pl, STYPE = int);
    CREATE FUNCTION longer(text, text) RETURNS bool LANGUAGE sql IMMUTABLE AS
      'SELECT length($1) > length($2)';
    CREATE OPERATOR >># (LEFTARG = text, RIGHTARG = text, FUNCTION = longer, RESTRICT = scalargtsel);
    CREATE FUNCTION mood_to_int(mood) RETURNS int LANGUAGE sql IMMUTABLE AS
      'SELECT CASE $1 WHEN ''sad'' THEN 0 ELSE 1 END';
    CREATE CAST (mood AS int) WITH FUNCTION mood_to_int(mood) AS ASSIGNMENT;
    CREATE FUNCTION compare_length(text, text) RETURNS int LANGUAGE sql IMMUTABLE AS
      'SELECT length($1) - length($2)';
    CREATE OPERATOR FAMILY lengths USING btree;
    CREATE OPERATOR CLASS by_length FOR TYPE text USING btree FAMILY lengths AS FUNCTION 1
      compare_length(text, text),
      OPERATOR 1 <, OPERATOR 3 =, OPERATOR 5 >;
    CREATE CONVERSION my_conversion FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
    CREATE FUNCTION own_handler() RETURNS language_handler LANGUAGE c AS '$libdir/plpgsql',
      'plpgsql_call_handler';
    CREATE LANGUAGE own HANDLER own_handler;
    CREATE ACCESS METHOD own_heap TYPE TABLE HANDLER heap_tableam_handler;
    CREATE TABLE in_own_heap (id int PRIMARY KEY, v text) USING own_heap;
    INSERT INTO in_own_heap VALUES (1, 'x');
    ALTER TABLE no_partitions SET ACCESS METHOD own_heap; /*17+*/
    CREATE COLLATION by_number (provider = icu, locale = 'en-u-kn-true'); /*ICU*/
    CREATE COLLATION with_rules (provider = icu, locale = 'und', rules = '&a < g'); /*ICU*/ /*16+*/
    CREATE COLLATION of_the_server (provider = builtin, locale = 'C.UTF-8'); /*17+*/
    CREATE TABLE collated (id int PRIMARY KEY, v text, w text);
    ALTER TABLE collated ALTER v TYPE text COLLATE by_number; /*ICU*/
    ALTER TABLE collated ALTER w TYPE text COLLATE of_the_server; /*17+*/
    CREATE INDEX ON collated (v);
    CREATE INDEX ON collated (w);
    INSERT INTO collated VALUES (1, 'a10'), (2, 'a9');
    ALTER FUNCTION plus OWNER TO \(role);
    """
  }

  /// In every state of being enabled; one that fired would refuse the copy.
  static let triggers = """
    CREATE TABLE triggered (id int PRIMARY KEY, v text);
    INSERT INTO triggered VALUES (1, 'one');
    CREATE TRIGGER enabled BEFORE INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION refuses();
    CREATE TRIGGER disabled BEFORE UPDATE OF v ON triggered FOR EACH ROW WHEN (NEW.v IS DISTINCT FROM OLD.v)
      EXECUTE FUNCTION refuses();
    ALTER TABLE triggered DISABLE TRIGGER disabled;
    CREATE TRIGGER always_fires AFTER INSERT ON triggered FOR EACH STATEMENT EXECUTE FUNCTION refuses();
    ALTER TABLE triggered ENABLE ALWAYS TRIGGER always_fires;
    CREATE TRIGGER replica_fires AFTER DELETE ON triggered REFERENCING OLD TABLE AS old FOR EACH STATEMENT
      EXECUTE FUNCTION passes();
    ALTER TABLE triggered ENABLE REPLICA TRIGGER replica_fires;
    CREATE CONSTRAINT TRIGGER late AFTER INSERT ON triggered DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
      EXECUTE FUNCTION refuses();
    CREATE TRIGGER on_partitions AFTER INSERT ON by_hash FOR EACH ROW EXECUTE FUNCTION passes();
    ALTER TABLE by_hash_0 DISABLE TRIGGER on_partitions;
    CREATE RULE redirect AS ON INSERT TO triggered WHERE NEW.id < 0 DO INSTEAD NOTHING;
    CREATE RULE quiet AS ON DELETE TO triggered DO ALSO NOTIFY gone;
    ALTER TABLE triggered DISABLE RULE quiet;
    CREATE FUNCTION on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $e$ BEGIN RAISE NOTICE 'ddl'; END $e$;
    CREATE EVENT TRIGGER watch ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION on_ddl();
    ALTER EVENT TRIGGER watch DISABLE;
    CREATE EVENT TRIGGER watch_login ON login EXECUTE FUNCTION on_ddl(); /*17+*/
    ALTER EVENT TRIGGER watch_login DISABLE; /*17+*/
    CREATE EVENT TRIGGER watch_always ON sql_drop EXECUTE FUNCTION on_ddl();
    ALTER EVENT TRIGGER watch_always ENABLE ALWAYS;
    """

  static let views = """
    CREATE VIEW simple AS SELECT id, v FROM triggered WHERE id > 0 WITH LOCAL CHECK OPTION;
    CREATE VIEW barrier WITH (security_barrier) AS SELECT * FROM simple;
    ALTER VIEW barrier SET (security_invoker); /*15+*/
    CREATE RECURSIVE VIEW countdown (n) AS SELECT 3 UNION ALL SELECT n - 1 FROM countdown WHERE n > 1;
    CREATE VIEW walked AS WITH RECURSIVE w (id, up) AS (SELECT id, up FROM itself /*14+*/
      UNION ALL SELECT i.id, i.up FROM itself AS i JOIN w ON i.up = w.id) /*14+*/
      SEARCH DEPTH FIRST BY id SET place CYCLE id SET seen USING path SELECT id, seen FROM w; /*14+*/
    CREATE VIEW of_json AS SELECT JSON_OBJECT('a': id, 'b': v) AS j, v IS JSON AS k FROM triggered; /*16+*/
    CREATE VIEW json_rows AS SELECT * FROM JSON_TABLE(jsonb '[{"a": 1}]', '$[*]' /*17+*/
      COLUMNS (a int PATH '$.a' DEFAULT 7 ON EMPTY)) AS j; /*17+*/
    ALTER VIEW simple ALTER COLUMN v SET DEFAULT 'from the view';
    CREATE RULE instead AS ON UPDATE TO barrier DO INSTEAD NOTHING;
    CREATE MATERIALIZED VIEW summed AS SELECT a, count(*) AS n FROM indexed GROUP BY a;
    CREATE UNIQUE INDEX ON summed (a);
    CREATE MATERIALIZED VIEW a_summed_again AS SELECT sum(n) AS n FROM summed;
    CREATE MATERIALIZED VIEW not_populated AS SELECT 1 AS one WITH NO DATA;
    CREATE VIEW between AS SELECT n FROM a_summed_again;
    CREATE MATERIALIZED VIEW aa_through_view AS SELECT n + 1 AS n FROM between;
    """

  /// Who may do what.
  static func access(role: String) -> String {
    """
    CREATE SCHEMA owned AUTHORIZATION \(role);
    CREATE TABLE owned.t (id int PRIMARY KEY, secret text);
    INSERT INTO owned.t VALUES (1, 's'), (2, 't');
    ALTER TABLE owned.t OWNER TO \(role);
    GRANT SELECT (id), UPDATE (secret) ON owned.t TO \(role), PUBLIC;
    REVOKE DELETE ON owned.t FROM \(role);
    GRANT SELECT ON built_in TO \(role) WITH GRANT OPTION;
    GRANT MAINTAIN ON indexed TO \(role); /*17+*/
    GRANT USAGE ON TYPE mood TO \(role);
    REVOKE USAGE ON TYPE positive FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION passes() TO \(role);
    REVOKE EXECUTE ON FUNCTION refuses() FROM PUBLIC;
    REVOKE CREATE ON SCHEMA public FROM PUBLIC;
    GRANT CREATE ON SCHEMA public TO \(role);
    ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO \(role);
    ALTER DEFAULT PRIVILEGES FOR ROLE \(role) IN SCHEMA owned REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
    ALTER DEFAULT PRIVILEGES GRANT SELECT ON LARGE OBJECTS TO \(role); /*18+*/
    ALTER TABLE owned.t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
    CREATE POLICY mine ON owned.t AS RESTRICTIVE FOR SELECT TO \(role) USING (id = 1);
    CREATE POLICY everybody ON owned.t USING (id > 0) WITH CHECK (secret <> '');
    COMMENT ON SCHEMA owned IS 'comment''s "quotes"';
    COMMENT ON TABLE owned.t IS E'two\\nlines';
    COMMENT ON COLUMN owned.t.secret IS 'column';
    COMMENT ON INDEX indexed_unique IS 'index';
    COMMENT ON CONSTRAINT circle ON left_side IS 'constraint';
    COMMENT ON TYPE mood IS 'type';
    COMMENT ON FUNCTION passes() IS 'function';
    COMMENT ON TRIGGER enabled ON triggered IS 'trigger';
    COMMENT ON POLICY mine ON owned.t IS 'policy';
    COMMENT ON EXTENSION hstore IS 'changed';
    COMMENT ON STATISTICS indexed_statistics IS 'statistics';
    COMMENT ON EVENT TRIGGER watch IS 'event trigger';
    """
  }

  static let texts = """
    CREATE TEXT SEARCH DICTIONARY stems (TEMPLATE = snowball, language = english, stopwords = english);
    CREATE TEXT SEARCH CONFIGURATION own_english (COPY = english);
    ALTER TEXT SEARCH CONFIGURATION own_english ALTER MAPPING FOR asciiword WITH stems;
    CREATE TEXT SEARCH PARSER own_parser (START = prsd_start, GETTOKEN = prsd_nexttoken, END = prsd_end,
      LEXTYPES = prsd_lextype);
    CREATE TEXT SEARCH TEMPLATE own_template (LEXIZE = dsimple_lexize, INIT = dsimple_init);
    CREATE TABLE documents (id int PRIMARY KEY, body text,
      vector tsvector GENERATED ALWAYS AS (to_tsvector('own_english', body)) STORED);
    CREATE INDEX ON documents USING gin (vector);
    INSERT INTO documents VALUES (1, 'the running cats'), (2, NULL);
    CREATE EXTENSION postgres_fdw;
    CREATE SERVER far_away FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'nowhere.example', dbname 'x');
    CREATE USER MAPPING FOR PUBLIC SERVER far_away OPTIONS (user 'guest');
    CREATE FOREIGN TABLE far_table (id int NOT NULL, v text OPTIONS (column_name 'w')) SERVER far_away;
    CREATE FOREIGN DATA WRAPPER own_wrapper;
    CREATE PUBLICATION theirs FOR TABLE
      built_in (id, t), indexed WHERE (id > 10) /*15+*/
      built_in, indexed /*15-*/
      WITH (publish = 'insert, update');
    CREATE PUBLICATION all_of_schema FOR TABLES IN SCHEMA owned; /*15+*/
    CREATE PUBLICATION by_root FOR TABLE by_hash WITH (publish_via_partition_root);
    CREATE PUBLICATION computed FOR TABLE generated WITH (publish_generated_columns = stored); /*18+*/
    """

  static let sequences = """
    CREATE SEQUENCE small AS smallint INCREMENT -1 CACHE 100;
    CREATE SEQUENCE not_called START 42;
    CREATE SEQUENCE cycles MINVALUE 1 MAXVALUE 3 CYCLE;
    CREATE SEQUENCE exhausted MAXVALUE 2;
    CREATE TABLE serial_table (id serial PRIMARY KEY, v int);
    CREATE SEQUENCE owned_by_column OWNED BY serial_table.v;
    CREATE UNLOGGED SEQUENCE unlogged_sequence; /*15+*/
    CREATE SEQUENCE unlogged_sequence; /*15-*/
    SELECT nextval('small'), nextval('cycles'), nextval('cycles'), nextval('exhausted'), nextval('exhausted'),
      setval('owned_by_column', 77, false), nextval('unlogged_sequence');
    INSERT INTO serial_table (v) VALUES (1), (2), (3);
    """

  /// What `ALTER DATABASE` and `ALTER ROLE … IN DATABASE` have set.
  static func settings(role: String) -> String {
    """
    DO $$ BEGIN
      EXECUTE format('ALTER DATABASE %I SET work_mem = ''7MB''', current_database());
      EXECUTE format('ALTER DATABASE %I SET search_path = public, owned', current_database());
      EXECUTE format('ALTER DATABASE %I SET DateStyle = ''SQL, DMY''', current_database());
      EXECUTE format('ALTER DATABASE %I SET IntervalStyle = ''sql_standard''', current_database());
      EXECUTE format('ALTER DATABASE %I SET extra_float_digits = -3', current_database());
      EXECUTE format('ALTER DATABASE %I SET bytea_output = escape', current_database());
      EXECUTE format('ALTER ROLE \(role) IN DATABASE %I SET statement_timeout = ''30s''', current_database());
      EXECUTE format('COMMENT ON DATABASE %I IS ''a comment''', current_database());
      EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
      EXECUTE format('GRANT CREATE ON DATABASE %I TO \(role)', current_database());
    END $$;
    """
  }

  static func largeObjects(role: String) -> String {
    """
    SELECT lo_from_bytea(100001, '\\x00ff'), lo_from_bytea(100002, ''), lo_from_bytea(100003,
      decode(repeat('ab', 100000), 'hex'));
    ALTER LARGE OBJECT 100001 OWNER TO \(role);
    GRANT SELECT ON LARGE OBJECT 100003 TO \(role), PUBLIC;
    COMMENT ON LARGE OBJECT 100001 IS 'a large comment';
    """
  }
}
