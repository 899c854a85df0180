import Clusters
import Testing

@testable import MigrationEngine

/// Values that others have lost on the way.
@Suite(.serialized, .servers, .timeLimit(.minutes(5)))
struct ValueCases {
  @Test(
    """
    Cases 8–15, 51, 52: values of every kind and in every setting of the ends arrive to the last bit
    """, arguments: Pace.allCases)
  func values(_ pace: Pace) async throws {
    try await Running.stream("values", tables: Self.settings(.source) + Self.tables + [Self.change]) {
      running in
      // The target's own settings, against those that came with the source's database.
      try await running.target(Self.settings(.target))
      try await running.replaceEngine()
      let oids = "SELECT 'hstore'::regtype::oid || ' ' || 'c15_mood'::regtype::oid"
      let scene = running.scene
      #expect(try await scene.sourceValue(oids) != scene.targetValue(oids))
      try await running.both(["ALTER TYPE c15_mood ADD VALUE 'great' BEFORE 'ok'"])
      try await running.source(Self.changes, pace)
      #expect(try await scene.targetValue("SELECT count(*) > 200 FROM c10_values") == "t")
      let identity =
        "SELECT attidentity FROM pg_attribute WHERE attrelid = 'c8_values'::regclass AND attname = 'id'"
      #expect(try await scene.targetValue(identity) == "d", "while it streams it takes any value")
      try await running.expectEqualEnds(
        accepting: ["DateStyle", "IntervalStyle", "TimeZone", "extra_float_digits"].map {
          "setting \($0) of the database"
        })
      #expect(try await scene.targetValue(identity) == "a")
    }
  }

  /// Nothing that a role or a database sets may change what a value looks like on its way.
  private static func settings(_ end: Scene.End) -> [String] {
    let database =
      end == .source
      ? [
        "DateStyle": "SQL, DMY", "IntervalStyle": "sql_standard", "extra_float_digits": "-15",
        "bytea_output": "escape", "TimeZone": "America/St_Johns", "standard_conforming_strings": "off",
        "lc_monetary": "C",
      ]
      : [
        "DateStyle": "German", "IntervalStyle": "iso_8601", "extra_float_digits": "0",
        "bytea_output": "escape", "TimeZone": "Asia/Kathmandu", "standard_conforming_strings": "off",
        "xmloption": "document",
      ]
    let role = end == .source ? ["DateStyle": "Postgres, MDY"] : ["IntervalStyle": "postgres_verbose"]
    return database.map { name, value in
      """
      DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET \(name) = %L', current_database(), '\(value)');
        END $$
      """
    }
      + role.map { name, value in
        """
        DO $$ BEGIN
          EXECUTE format('ALTER ROLE %I IN DATABASE %I SET \(name) = %L', current_user,
            current_database(), '\(value)');
        END $$
        """
      }
  }

  private static let tables = [
    #"""
    CREATE TABLE c8_values (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, touched int DEFAULT 0) \;
    INSERT INTO c8_values (touched) SELECT 0 FROM generate_series(1, 40) \;
    CREATE TABLE c9_values (id int PRIMARY KEY, touched int DEFAULT 0, w numeric, h numeric,
      area numeric GENERATED ALWAYS AS (w * h) STORED, label text GENERATED ALWAYS AS ('#' || w) STORED) \;
    INSERT INTO c9_values (id, w, h) SELECT i, i, i * 1.5 FROM generate_series(1, 40) i
    """#,
    #"""
    CREATE TABLE c10_values (id int PRIMARY KEY, touched int DEFAULT 0, n numeric, p numeric(1000, 20),
      f float8, g float4) \;
    INSERT INTO c10_values (id, n, p, f, g) VALUES
      (1, 0.00000000000000006938893903907228, 0.1, '1.7976931348623157e308', '3.4028235e38'),
      (2, 'NaN', 'NaN', 'NaN', 'NaN'),
      (3, 'Infinity', 0, 'Infinity', '-Infinity'), (11, '-Infinity', 0, 0, 0), /*14+*/
      (4, -1, -0.00000000000000000001, '-0', '-0'), (5, repeat('9', 1000)::numeric, repeat('8',
        980)::numeric, '5e-324', '1e-45'),
      (6, repeat('7', 131072)::numeric, NULL, 0.1::float8 + 0.2::float8, 0.1::float4),
      (7, ('0.' || repeat('0', 16000) || '1')::numeric, 1, '2.2250738585072014e-308', 16777217),
      (8, 1.10, 1.1, 9007199254740993, 1e-7), (9, 1.1000, 1e10, 123456789012345678, 1.1754944e-38), (10,
        0.000, 0, 0, 0)
    """#,
    #"""
    CREATE TABLE c11_values (id int PRIMARY KEY, touched int DEFAULT 0, b bigint, f float8, n numeric, s
      smallint, o oid) \;
    INSERT INTO c11_values (id, b, f, n, s, o) VALUES (1, 9007199254740993, 9007199254740992,
      9007199254740993, 32767, 4294967295),
      (2, 35506143, 35506143, 35506143, -32768, 0), (3, 9223372036854775807, 1e15, 1e15, 0, 2147483648),
      (4, -9223372036854775808, 1e16, 100000000000000000000, NULL, NULL)
    """#,
    #"""
    CREATE TABLE c12_values (id int PRIMARY KEY, touched int DEFAULT 0, d date, t time, tz timetz, s
      timestamp, z timestamptz,
      i interval, j interval day to second(3), r tstzrange,
      rs datemultirange, /*14+*/
      rs text, /*14-*/
      m money) \;
    INSERT INTO c12_values (id, d, t, tz, s, z, i, j, r, rs, m) VALUES
      (1, 'infinity', '24:00:00', '00:00:00+15:59:59', 'infinity', '-infinity',
        '1 year -2 mons +3 days -04:05:06.789',
        '1 day 02:03:04.567', '[2020-01-02 03:04:05+06,)', '{[2020-01-02,2020-03-04),[2021-01-01,)}',
          1234567.89),
      (2, '4713-01-01 BC', '00:00:00.000001', '23:59:59.999999-15:59:59', '4713-01-01 00:00:00 BC',
        '4713-11-24 00:00:00+00 BC',
        '-178000000 years', '-1 day -00:00:00.001', 'empty', '{}', -0.01),
      (3, '5874897-12-31', '12:34:56.789', '12:34:56+00', '294276-12-31 23:59:59.999999',
        '294276-12-31 23:59:59.999999+00',
        '178000000 years', '0', '(,2020-01-01 00:00:00+00]', '{(,2020-01-01)}', '92233720368547758.07'),
      (4, '0044-03-15 BC', '01:02:03', '01:02:03+05:45', '2024-02-29 12:00:00',
        '1883-11-18 12:03:57+00', '-1 mon +2 days',
        NULL, NULL, NULL, NULL), (5, '2001-02-03', NULL, NULL, '2001-02-03',
          '2001-02-03 04:05:06-03:30', '00:00:00', '1 sec', NULL, NULL, 0)
    """#,
    #"""
    CREATE TABLE c13_values (id int PRIMARY KEY, touched int DEFAULT 0, b bytea, t text, v varchar(20)) \;
    INSERT INTO c13_values (id, b, t, v) VALUES (1, '\x00', '', ''), (2, '\x5c5c78303041', NULL, NULL),
      (3, '', 'null', 'NULL'),
      (4, '\x5c', '"null"', '\N'), (5, NULL, '\N', '\.'), (6, '\x27',
        E'tab\tnew\nline\rback\\slash''quote', E'\\.\n\\N'),
      (7, (SELECT decode(string_agg(lpad(to_hex(i), 2, '0'), ''), 'hex') FROM generate_series(0, 255)
        i), E'\b\f\v\x01\x7f', '{}'),
      (8, '\xefbbbf', U&'\FEFF\200B\+01F600', '   '), (9, '\x7b2c7d', '{"a",NULL,b}', '(,")')
    """#,
    #"""
    CREATE TABLE c14_values (id int PRIMARY KEY, touched int DEFAULT 0, j json, jb jsonb, t text) \;
    INSERT INTO c14_values (id, j, jb, t) VALUES (1, '{"a": "\u0000", "a" : 1,  "a":[]}',
      '{"a": 1, "a": 2}', 'it''s \ "so"'),
      (2, ' null ', 'null', '\\'), (3, '"\ud83d\ude00"', '"\ud83d\ude00"', '\'''), (4, '1e400', '1.10',
        '$$'),
      (5, NULL, NULL, '\u0041'), (6, E'{\n}', '{"\"": "\\"}', '''''')
    """#,
    #"""
    CREATE EXTENSION hstore \; CREATE EXTENSION citext \;
    CREATE TYPE c15_mood AS ENUM ('sad', 'ok') \; CREATE DOMAIN c15_tags AS text[] CHECK
      (cardinality(VALUE) < 10) \;
    CREATE DOMAIN c15_moods AS c15_mood[] \; CREATE TYPE c15_pair AS (a int, gone text, b text) \;
    CREATE TYPE c15_span AS RANGE (subtype = numeric, multirange_type_name = c15_spans) \; /*14+*/
    CREATE TYPE c15_span AS RANGE (subtype = numeric) \; /*14-*/
    CREATE TABLE c15_values (id int PRIMARY KEY, touched int DEFAULT 0, m c15_mood, tags c15_tags, ms
      c15_moods, p c15_pair,
      ps c15_pair[], s c15_span,
      ss c15_spans, nm nummultirange, /*14+*/
      ss text, nm text, /*14-*/
      vb varbit, vs varbit(9)[], h hstore, hs
        hstore[], c citext, cs citext[]) \;
    INSERT INTO c15_values VALUES (1, 0, 'sad', '{x,NULL,"q\"uo\\te"}', '{sad,ok}', '(1,lost,"a,b")',
      ARRAY['(2,x,)'::c15_pair],
        '[1.5,2)', '{[1,2),[3,4)}', '{[1,2),(3,4]}', B'10110', ARRAY[B'1', B'']::varbit[],
          'a=>1,b=>NULL,"c d"=>"e\"f"', ARRAY['x=>y'::hstore], 'AbC', '{A,b}'),
      (2, 0, 'ok', '{}', NULL, NULL, '{}', 'empty', '{}', '{}', B'', '{}', '', '{}', '', '{}') \;
    INSERT INTO c15_values (id, ms, p) VALUES (3, '{}', '(,,)')
    """#,
    #"ALTER TYPE c15_pair DROP ATTRIBUTE gone"#,
    #"""
    CREATE TABLE c15_keys (m c15_mood, c citext, k varbit, v int, PRIMARY KEY (m, c, k)) \;
    INSERT INTO c15_keys SELECT m::c15_mood, 'Key' || i, i::bit(8)::varbit, 0 FROM generate_series(1,
      30) i, (VALUES ('sad'), ('ok')) AS x (m)
    """#,
    #"""
    CREATE TABLE c51_values (id int PRIMARY KEY, touched int DEFAULT 0, a int[], t text[], e c15_mood[],
      b box[], c c15_pair[], d c15_tags) \;
    INSERT INTO c51_values VALUES (1, 0, '{{1,2},{3,4}}', '{NULL,"NULL","",","}', '{{sad,ok},{ok,sad}}',
      '{(1,1),(0,0);(2,2),(1,1)}', '{"(1,x)",NULL}', '{{a,b},{c,d}}'),
      (2, 0, '[0:1]={1,2}', '[-1:0][5:5]={{x},{y}}', '{}', '{}', '{}', '{}'), (3, 0, '{}', '{{""}}',
        NULL, NULL, NULL, NULL)
    """#,
    #"""
    CREATE TYPE c52_own AS (x int, y int) \;
    CREATE FUNCTION c52_wrong(text) RETURNS c52_own LANGUAGE sql IMMUTABLE AS 'SELECT ROW(0, 0)::c52_own' \;
    CREATE CAST (text AS c52_own) WITH FUNCTION c52_wrong(text) \;
    CREATE FUNCTION c52_sad(text) RETURNS c15_mood LANGUAGE sql IMMUTABLE AS $$SELECT 'sad'::c15_mood$$ \;
    CREATE CAST (text AS c15_mood) WITH FUNCTION c52_sad(text) AS IMPLICIT \;
    CREATE TABLE c52_values (id int PRIMARY KEY, touched int DEFAULT 0, c char(5), ch "char", n name, b
      bit(5), v varchar(3), o c52_own, m c15_mood,
      x xml, cs char(3)[], bs bit(3)[], os c52_own[]) \;
    INSERT INTO c52_values VALUES (1, 0, 'ab', 'x', 'name', B'10101', 'abc', '(1,2)', 'ok', '<a/>',
      '{a,bc}', '{101,000}', '{"(3,4)"}'),
      (2, 0, ' é', '\377', repeat('n', 63), B'00000', '', '(,)', 'sad', 'text', '{}', '{}', '{}'),
      (3, 0, '', '', '', B'11111', ' é ', NULL, NULL, NULL, NULL, NULL, NULL) \;
    CREATE TABLE c52_keys (c char(5), ch "char", n name, b bit(5), v varchar(3), o c52_own, w int,
      PRIMARY KEY (c, ch, n, b, v, o)) \;
    INSERT INTO c52_keys SELECT 'k ' || i, 'x', 'n' || i, i::bit(5), 'v' || i, ROW(i, NULL)::c52_own, 0
      FROM generate_series(1, 40) i
    """#,
  ]

  /// One kind of change for every row of every table.
  private static let change = #"""
    CREATE FUNCTION change_values(change text) RETURNS void LANGUAGE plpgsql AS $f$
    DECLARE name text; columns text; id text;
    BEGIN
      FOR name IN SELECT relname FROM pg_class WHERE relname ~ '^c[0-9]+_values$' AND relkind = 'r' LOOP
        SELECT string_agg(quote_ident(attname), ', ') FILTER (WHERE attname <> 'id') INTO columns FROM
          pg_attribute
          WHERE attrelid = name::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '';
        CASE change
          WHEN 'insert' THEN EXECUTE
            format('INSERT INTO %1$I (id, %2$s) OVERRIDING SYSTEM VALUE SELECT id + 100 * number, %2$s
            FROM %1$I, generate_series(1, 40) AS copy (number)', name, columns);
          WHEN 'touch' THEN EXECUTE format('UPDATE %I SET touched = touched + 1', name);
          WHEN 'delete' THEN EXECUTE format('DELETE FROM %I WHERE id %% 3 = 0', name);
          WHEN 'move' THEN
            IF name <> 'c8_values' THEN EXECUTE
              format('UPDATE %I SET id = id + 100000 WHERE id %% 2 = 0', name); END IF;
        END CASE;
      END LOOP;
    END $f$
    """#

  private static let changes = [
    ["SELECT change_values('insert')"], ["SELECT change_values('touch')"],
    [
      "SELECT change_values('delete')", "SELECT setval(pg_get_serial_sequence('c8_values', 'id'), 2000000)",
      "UPDATE c8_values SET id = DEFAULT WHERE id % 2 = 0",
      "INSERT INTO c8_values (id) OVERRIDING SYSTEM VALUE VALUES (1000000)",
      "UPDATE c8_values SET id = DEFAULT WHERE id = 7",
      "UPDATE c9_values SET w = h, h = -1 WHERE id % 5 = 0",
    ],
    ["SELECT change_values('move')", "SELECT change_values('touch')"],
    [
      "UPDATE c15_values SET m = 'great', ms = '{great,sad}', tags = '{a}' WHERE id % 2 = 1",
      "INSERT INTO c15_keys SELECT 'great', c, k, v FROM c15_keys WHERE m = 'ok'",
      "UPDATE c15_keys SET v = v + 1",
      "UPDATE c15_keys SET c = upper(c::text) WHERE m = 'sad'",
      "UPDATE c15_keys SET m = 'great', c = c || 'x' WHERE m = 'ok'",
      "DELETE FROM c15_keys WHERE k > B'00010000'",
    ],
    [
      "UPDATE c52_keys SET w = w + 1",
      "UPDATE c52_keys SET c = 'm' || c, o = ROW(1, w)::c52_own WHERE b > B'01000'",
      "DELETE FROM c52_keys WHERE b < B'00100'",
    ],
  ]

  @Test(
    """
    Cases 1, 2, 4, 54: unchanged TOAST survives the UPDATE of another column, whatever came before it in
      a batch
    """,
    arguments: Pace.allCases)
  func toast(_ pace: Pace) async throws {
    try await Running.stream("toast", tables: Self.toastTables) { running in
      try await running.source(Self.toastChanges, pace)
      let scene = running.scene
      try await scene.expectEqual(
        "SELECT string_agg(length(body::text)::text, ',' ORDER BY id) FROM c1_full")
      #expect(
        try await scene.targetValue("SELECT length(body::text) > 1000000 FROM c1_index WHERE id = 1")
          == "t")
      try await running.expectEqualEnds()
    }
  }

  private static let toastTables =
    ["default", "index", "full"].map { identity in
      #"""
      CREATE TABLE c1_\#(identity) (id int PRIMARY KEY, k int NOT NULL UNIQUE, body jsonb, note text) \;
      ALTER TABLE c1_\#(identity) ALTER body SET STORAGE EXTERNAL,
        REPLICA IDENTITY \#(identity == "index" ? "USING INDEX c1_index_k_key" : identity) \;
      INSERT INTO c1_\#(identity) SELECT i, i, jsonb_build_object('v', (SELECT string_agg(md5((i *
        j)::text), '')
          FROM generate_series(1, CASE WHEN i = 1 THEN 32768 ELSE 300 END) j)), 'first' FROM
            generate_series(1, 50) i
      """#
    } + [
      #"""
      CREATE TABLE c2 (id int PRIMARY KEY, body text, other text, v int) \;
      ALTER TABLE c2 ALTER body SET STORAGE EXTERNAL, ALTER other SET STORAGE EXTERNAL \;
      CREATE FUNCTION big(int) RETURNS text LANGUAGE sql AS
        'SELECT string_agg(md5(($1 * i)::text), '''') FROM generate_series(1, 200) i' \;
      CREATE TABLE c4 (a int, b int, PRIMARY KEY (a, b)) \; INSERT INTO c4 SELECT i, i FROM
        generate_series(1, 50) i \;
      CREATE TABLE c4_plain (id int PRIMARY KEY, v int, body text) \; ALTER TABLE c4_plain ALTER body
        SET STORAGE EXTERNAL \;
      INSERT INTO c4_plain SELECT i, i, big(i) FROM generate_series(1, 50) i \;
      CREATE TABLE c4_full (a int, body text) \; ALTER TABLE c4_full REPLICA IDENTITY FULL, ALTER body
        SET STORAGE EXTERNAL \;
      INSERT INTO c4_full SELECT i % 5, big(i % 5) FROM generate_series(1, 50) i
      """#
    ]

  private static let toastChanges =
    ["default", "index", "full"].map { identity in
      let table = "c1_\(identity)"
      return [
        "UPDATE \(table) SET note = 'second'", "UPDATE \(table) SET k = k + 1000 WHERE id % 3 <> 0",
        "UPDATE \(table) SET body = body || '{\"w\": 1}', note = 'w' WHERE id % 5 = 0",
        "UPDATE \(table) SET id = id + 100 WHERE id % 7 = 0",
        "UPDATE \(table) SET note = NULL WHERE id < 20",
        "UPDATE \(table) SET body = NULL WHERE id = 2", "DELETE FROM \(table) WHERE id % 11 = 0",
      ]
    } + [
      ["INSERT INTO c2 SELECT i, big(i), big(-i), 0 FROM generate_series(1, 50) i"],
      ["UPDATE c2 SET v = 1"],
      [
        #"""
        BEGIN \; INSERT INTO c2 VALUES (100, big(100), 'x', 0) \; UPDATE c2 SET v = 1 WHERE id = 100 \;
          UPDATE c2 SET other = big(101) WHERE id = 100 \; UPDATE c2 SET v = 2, id = 101 WHERE id = 100
          \; COMMIT
        """#,
        "INSERT INTO c2 VALUES (200, big(200), big(201), 0)",
        "UPDATE c2 SET v = 5 WHERE id = 200",
        "UPDATE c2 SET id = 202 WHERE id = 200",
        "UPDATE c2 SET body = big(300) WHERE id = 10",
        "UPDATE c2 SET v = 7 WHERE id = 10",
        "UPDATE c2 SET other = NULL WHERE id = 10",
        "UPDATE c2 SET id = 1000 + id WHERE id BETWEEN 10 AND 15", "DELETE FROM c2 WHERE id = 20",
        "INSERT INTO c2 VALUES (20, 'short', big(20), 9)",
        "UPDATE c2 SET v = 10 WHERE id = 20",
        "UPDATE c2 SET v = v + 1",
      ],
      [
        "UPDATE c4 SET a = a",
        "UPDATE c4 SET a = a + 100, b = b WHERE b % 2 = 0",
        "UPDATE c4_plain SET v = v",
        "UPDATE c4_plain SET id = id",
        "UPDATE c4_full SET a = a",
        "UPDATE c4_full SET a = a + 1 WHERE a = 1",
        "UPDATE c4_plain SET v = v WHERE id = 1",
      ],
    ]
}
