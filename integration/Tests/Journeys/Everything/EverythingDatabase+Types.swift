extension EverythingDatabase {
  /// Every built-in type with its extremes, and the types of users.
  static let types = """
    CREATE SCHEMA elsewhere_extensions;
    CREATE TABLE built_in (id int PRIMARY KEY,
      b bool, y bytea, c "char", n name, i2 int2, i4 int4, i8 int8, t text, o oid, x xid, x8 xid8, ci cid,
        ti tid,
      j json, xm xml, jb jsonb, jp jsonpath, pt point, ls lseg, pa path, bx box, po polygon, ln line, cr
        circle,
      f4 float4, f8 float8, m money, nu numeric, ns numeric(20, 5), bc char(5), vc varchar(10), d date, tm
        time,
      tz timetz, ts timestamp, tt timestamptz, ts3 timestamptz(3), iv interval, ivd interval day to second,
      cd cidr, ip inet, ma macaddr, m8 macaddr8, bi bit(5), vb varbit, u uuid, tv tsvector, tq tsquery,
      pl pg_lsn, sn pg_snapshot, rc regclass, rt regtype, rp regprocedure, ro regoperator, rn regnamespace,
      rr regrole, rg regconfig, rd regdictionary, rl regcollation,
      r4 int4range, r8 int8range, rnu numrange, rts tsrange, rtt tstzrange, rda daterange,
      m4 int4multirange, mts tsmultirange, mnu nummultirange); /*14+*/
      m4 text, mts text, mnu text); /*14-*/
    INSERT INTO built_in (id) VALUES (0);
    INSERT INTO built_in VALUES (1, true, '\\x00ff5c27', 'x', 'name', -32768, -2147483648,
      -9223372036854775808,
      E'tab\\t newline\\n return\\r backslash\\\\ quote'' é', 4294967295, '4294967295',
        '18446744073709551615', '7',
      '(4294967295,65535)', '{"a": 1, "a": 2, "b": "\\u0001"}', '<a b="c">d</a>', '{"a": [1, null, {}]}',
        '$.a[*]',
      '(1.5,-0)', '[(0,0),(1,1)]', '[(0,0),(1,1),(2,0)]', '(1,1),(0,0)', '((0,0),(1,1),(2,0))', '{1,2,3}',
        '<(0,0),5>',
      'NaN', '-Infinity', '-92233720368547758.08', 'NaN', 123456789012345.12345, 'ab   ', 'ten chars.',
        '-infinity',
      '24:00:00', '23:59:59.999999+15:59', 'infinity', '4714-11-24 00:00:00+00 BC',
        '2020-01-01 00:00:00.123456+02',
      '-178000000 years', '3 days 04:05:06.789', '10.0.0.0/8', '::1/128', '08:00:2b:01:02:03',
      '08:00:2b:01:02:03:04:05', B'10101', B'1', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
      'a:1A fat:2B,4C', 'fat & (rat | !cat:A)', 'FFFFFFFF/FFFFFFFF', '10:20:10,14,15', 'pg_class', 'integer',
      'sum(int4)', '+(integer,integer)', 'public', 'pg_monitor', 'english', 'simple', '"C"',
      'empty', '[1,)', '(1.5,2.5]', '[2020-01-01,infinity]', '(,2020-01-01 00:00:00+00)', '[2020-01-01,)',
      '{[1,3),[5,7)}', '{}', '{(,1),(2,)}');
    INSERT INTO built_in (id, f4, f8, nu, d, ts, tt, iv, t, bc, y, i8) VALUES
      (2, '-0', '-0', '0.00000000000000006938893903907228', '4713-01-01 BC', '294276-12-31 23:59:59.999999',
        'infinity',
        '1 mon -1 day 00:00:00.000001', '', '', '', 9007199254740993),
      (3, '3.4028235e38', '4.9e-324',
        '-Infinity', /*14+*/
        'NaN', /*14-*/
        'infinity', '-infinity', '-infinity', '0', '\\N', NULL, '\\x', 35506143),
      (4, '1.17549435e-38', '1.7976931348623157e308', \(String(repeating: "9", count: 1000)).5,
        '5874897-12-31',
        '4714-11-24 00:00:00 BC', '2020-01-01 00:00:00+00', '178000000 years', 'null', 'x', '\\x5c4e', 1);
    CREATE TABLE arrays (id int PRIMARY KEY, a int[], b text[][], c timestamptz[], d numeric[], e jsonb[], f
      "char"[],
      g bytea[], h int4range[], i name[], j bool[], k box[], l regclass[]);
    INSERT INTO arrays VALUES (1, '[2:4]={1,NULL,3}', '{{a,"b,c"},{"",NULL}}',
      '{infinity,"2020-01-01 00:00+00"}', '{NaN,1.10}',
      ARRAY['{"a":1}'::jsonb, NULL], '{a,"\\""}', ARRAY['\\x00'::bytea], '{"[1,2)",empty}', '{x}', '{t,f}',
      '{(1,1),(0,0);(2,2),(1,1)}', '{pg_class}'), (2, '{}', '{}', NULL, NULL, NULL, NULL, NULL, NULL, NULL,
        NULL, NULL, NULL);
    CREATE TYPE mood AS ENUM ('sad', 'o''k', 'happy, "very"');
    ALTER TYPE mood ADD VALUE 'meh' BEFORE 'happy, "very"';
    COMMIT;
    CREATE DOMAIN positive AS int CHECK (VALUE > 0) DEFAULT 1;
    CREATE DOMAIN even AS positive CHECK (VALUE % 2 = 0);
    CREATE TABLE labels (id mood PRIMARY KEY, p positive, e even, raw bytea);
    INSERT INTO labels VALUES ('sad', 1, 2, '\\x00'), ('meh', NULL, NULL, NULL),
      ('happy, "very"', 2147483647, 2147483646, '');
    CREATE DOMAIN moods AS mood[] NOT NULL;
    CREATE TYPE pair AS (a int, m mood, "quoted name" text[]);
    ALTER TYPE pair ADD ATTRIBUTE later numeric, DROP ATTRIBUTE a;
    CREATE DOMAIN floats AS text; /*14-*/
    CREATE TYPE float_range AS RANGE (subtype = float8, subtype_diff = float8mi
      , multirange_type_name = floats /*14+*/
      );
    CREATE TYPE mood_range AS RANGE (subtype = mood);
    CREATE TYPE nothing AS ();
    CREATE TYPE shell;
    CREATE TABLE of_users (id mood PRIMARY KEY, p positive, ms moods, pr pair, prs pair[], fr float_range,
      fm floats,
      mr mood_range, arr mood[]);
    INSERT INTO of_users VALUES ('meh', 7, '{sad,meh}', ROW('sad', '{x,NULL}', 1.50), ARRAY[ROW('meh', NULL,
      NULL)::pair],
      '[1.5,2.5)', '{[1,2),[3,4)}', '[sad,meh]', '{"happy, \\"very\\"",NULL}'), ('o''k', NULL, '{}', NULL,
        '{}', 'empty', '{}', NULL, NULL);
    CREATE EXTENSION hstore;
    CREATE EXTENSION citext SCHEMA elsewhere_extensions;
    CREATE EXTENSION ltree;
    CREATE EXTENSION pg_trgm;
    CREATE EXTENSION "uuid-ossp"; /*ICU*/
    CREATE TABLE of_extensions (id elsewhere_extensions.citext PRIMARY KEY, h hstore, hs hstore[], l ltree);
    INSERT INTO of_extensions VALUES ('AbC', 'a=>1,b=>NULL', ARRAY['x=>"y z"'::hstore], 'Top.Science'),
      ('d', '', '{}', NULL);
    CREATE INDEX of_extensions_trigrams ON of_extensions USING gin ((h -> 'a') gin_trgm_ops);
    """
}
