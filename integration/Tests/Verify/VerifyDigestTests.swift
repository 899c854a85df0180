import Clusters
import Foundation
import LibPQ
import Logging
import Testing

@testable import MigrationEngine

/// What a comparison of two databases distinguishes, and what it does not take for a difference.
@Suite(.serialized, .servers(about: 80), .timeLimit(.minutes(4)))
struct VerifyDigestTests {
  private static let schema = """
    CREATE TABLE plain (id int PRIMARY KEY, v text, n int);
    INSERT INTO plain SELECT n, 'row ' || n, n % 7 FROM generate_series(1, 5000) n;
    CREATE TABLE no_key (a int, b text);
    INSERT INTO no_key VALUES (1, 'x'), (2, 'y'), (2, 'y'), (NULL, NULL);
    CREATE TABLE two_keys (a int, b text, v int, PRIMARY KEY (b, a));
    INSERT INTO two_keys VALUES (1, 'x', 1), (2, 'x', 2), (1, 'y', 3);
    CREATE TABLE parts (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
    CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (100);
    CREATE TABLE parts_high PARTITION OF parts FOR VALUES FROM (100) TO (200);
    INSERT INTO parts SELECT n, 'part ' || n FROM generate_series(1, 199) n;
    CREATE TABLE "Sélect ""it"" %s $1 " ("in "" side" int PRIMARY KEY, "per%cent" text);
    INSERT INTO "Sélect ""it"" %s $1 " VALUES (1, 'x');
    CREATE TABLE none ();
    INSERT INTO none DEFAULT VALUES;
    CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (v int) INHERITS (parent);
    INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1, 1), (1, 1);
    """

  @Test(
    "A planted difference is found and named, and nothing else",
    arguments: [
      ("", []),
      ("UPDATE plain SET v = 'other' WHERE id = 500", ["plain: -0 +0 ~1 different (id)=(500)"]),
      ("UPDATE plain SET v = NULL WHERE id = 7", ["plain: -0 +0 ~1 different (id)=(7)"]),
      ("UPDATE plain SET v = '' WHERE id = 5000", ["plain: -0 +0 ~1 different (id)=(5000)"]),
      ("DELETE FROM plain WHERE id = 1", ["plain: -1 +0 ~0 missing (id)=(1)"]),
      ("INSERT INTO plain VALUES (-1, 'row', 0)", ["plain: -0 +1 ~0 extra (id)=(-1)"]),
      (
        "UPDATE plain SET id = 6000 WHERE id = 3",
        ["plain: -1 +1 ~0 missing (id)=(3), extra (id)=(6000)"]
      ),
      (
        "UPDATE plain p SET v = o.v FROM plain o WHERE p.id + o.id = 21 AND p.id IN (10, 11)",
        ["plain: -0 +0 ~2 different (id)=(10), different (id)=(11)"]
      ),
      (
        "UPDATE plain p SET n = o.n FROM plain o WHERE p.id + o.id = 15 AND p.id IN (5, 10)",
        ["plain: -0 +0 ~2 different (id)=(5), different (id)=(10)"]
      ),
      ("INSERT INTO no_key VALUES (1, 'x')", ["no_key: -0 +1 ~0 extra ctid (0,1) on the target"]),
      (
        "DELETE FROM no_key WHERE ctid = '(0,3)'",
        ["no_key: -1 +0 ~0 missing ctid (0,2) on the source"]
      ),
      (
        "UPDATE no_key SET b = '' WHERE a IS NULL",
        [
          "no_key: -1 +1 ~0 missing ctid (0,4) on the source, extra ctid (0,5) on the target"
        ]
      ),
      ("UPDATE two_keys SET v = 9 WHERE a = 2", ["two_keys: -0 +0 ~1 different (b, a)=(x, 2)"]),
      ("UPDATE parts SET v = 'p' WHERE id = 150", ["parts_high: -0 +0 ~1 different (id)=(150)"]),
      (
        "UPDATE \"Sélect \"\"it\"\" %s $1 \" SET \"per%cent\" = '%'",
        ["Sélect \"it\" %s $1 : -0 +0 ~1 different (in \" side)=(1)"]
      ),
      ("INSERT INTO none DEFAULT VALUES", ["none: -0 +1 ~0 extra ctid (0,1) on the target"]),
      (
        "UPDATE child SET v = 2 WHERE ctid = '(0,1)'",
        ["child: -1 +1 ~0 missing ctid (0,1) on the source, extra ctid (0,3) on the target"]
      ),
      ("DROP TABLE no_key", ["no_key: -0 +0 ~0 "]),
      ("ALTER TABLE plain DROP COLUMN n", ["plain: -0 +0 ~0 "]),
      ("ALTER TABLE plain ADD COLUMN more int", ["plain: -0 +0 ~0 "]),
    ] as [(String, [String])])
  func plantedRows(_ planted: String, _ expected: [String]) async throws {
    try await Scene.compared("rows", Self.schema) { scene in
      // Neither end writes values as the other does by default.
      try await scene.script(
        on: .target,
        """
        DO $$ BEGIN
          EXECUTE format('ALTER DATABASE %I SET TimeZone = ''Asia/Tokyo''', current_database());
          EXECUTE format('ALTER DATABASE %I SET extra_float_digits = -5', current_database());
        END $$; \(planted)
        """)
      let report = try await scene.compare()
      #expect(report.lines == expected)
      #expect(report.hasDifferences == !expected.isEmpty)
      #expect(report.tables.count == 9)
      #expect(!report.digest.isEmpty && report.seconds > 0)
      // A backend outlives its client by a moment.
      try await waitUntil("the end of the comparison's sessions", within: .seconds(10)) {
        try await scene.sessions() == 0
      }
    }
  }

  /// Two values of a type that are to be distinguished; under each digest.
  private static let values: [(type: String, one: String, other: String)] = [
    ("text", "NULL", "''"), ("text", "'a'", "'a '"), ("text", "'é'", "E'e\\u0301'"),
    ("bpchar", "'a'", "'a '"),
    ("char(3)", "'a'", "'b'"), ("varchar", "'a'", "'A'"), ("name", "'a'", "'b'"), ("\"char\"", "'a'", "''"),
    ("float8", "'0'", "'-0'"), ("float4", "'0'", "'-0'"), ("float8", "'NaN'", "'Infinity'"),
    ("float8", "'Infinity'", "'-Infinity'"), ("float8", "1", "1.0000000000000002"),
    ("numeric", "1.0", "1.00"), ("numeric", "'NaN'", "NULL"), ("numeric", "1e100", "1e100 + 1"),
    ("numeric(12,2)", "0.10", "0.11"), ("numeric(12,2)", "'NaN'", "0"), ("numeric(12,2)", "0", "NULL"),
    // Whose own hashes are equal.
    ("numeric(30,0)", "-4294967296", "4294967296"),
    ("int8", "1", "4294967296"), ("int8", "-1", "-4294967296"), ("int8", "0", "-1"),
    ("int2", "1", "-1"), ("bool", "true", "NULL"), ("bytea", "'\\x00'", "'\\x0000'"), ("oid", "1", "2"),
    ("timestamptz", "'2020-01-01 00:00:00+00'", "'2020-01-01 00:00:00.000001+00'"),
    ("timestamp", "'infinity'", "'-infinity'"), ("date", "'infinity'", "'2020-01-01'"),
    ("timetz", "'01:00+01'", "'00:00+00'"), ("interval", "'1 day'", "'24:00'"),
    ("interval", "'1 mon'", "'30 days'"), ("json", "'{\"a\":1}'", "'{\"a\": 1}'"),
    ("jsonb", "'1.0'", "'1.00'"), ("jsonb", "'null'", "NULL"), ("xml", "'<a/>'", "'<a></a>'"),
    ("int[]", "'{1}'", "'[0:0]={1}'"), ("text[]", "'{NULL}'", "'{\"NULL\"}'"),
    ("text[]", "'{}'", "'{\"\"}'"), ("int[]", "'{{1},{2}}'", "'{{1,2}}'"), ("uuid[]", "'{}'", "NULL"),
    ("text[]", "'{a,b}'", "'{{a,b}}'"), ("varchar(3)[]", "'[3:4]={a,b}'", "'{a,b}'"),
    ("date[]", "'{2020-01-01}'", "'{NULL}'"), ("bool[]", "'{t,f}'", "'{f,t}'"),
    ("float8[]", "'{0}'", "'{-0}'"), ("numrange", "'[1.0,2]'", "'[1.00,2]'"),
    ("int4range", "'empty'", "'(,)'"),
    ("inet", "'10.0.0.1/32'", "'10.0.0.1/24'"), ("bit(4)", "B'0001'", "B'0010'"),
    ("varbit", "B'0'", "B'00'"), ("point", "'(0,0)'", "'(-0,0)'"), ("tsvector", "'a:1'", "'a:2'"),
    ("uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12'"),
    ("mood", "'sad'", "'glad'"), ("mood[]", "'{sad}'", "'{glad}'"), ("moody", "'sad'", "'glad'"),
    ("pair", "'(1,)'", "'(1,\"\")'"), ("pair", "'(,)'", "NULL"),
    ("pair[]", "'{\"(1,a)\"}'", "'{\"(1,b)\"}'"),
    ("positive", "1", "2"), ("citext", "'A'", "'a'"), ("hstore", "'a=>NULL'", "'a=>\"\"'"),
    ("mood_range", "'[sad,glad)'", "'[sad,glad]'"), ("regclass", "'pg_class'", "'pg_proc'"),
    ("text COLLATE whatever", "'A'", "'a'"), ("money", "1", "1.01"), ("ltree", "'a.b'", "'a.B'"),
  ]

  /// PostgreSQL 13 hashes no record.
  private static func isKnown(_ digest: DigestFunction) async throws -> Bool {
    if digest != .record { return true }
    return try await ClusterPair.sourceMajor() >= 14
  }

  /// A server without ICU has no such collation.
  private static func knownValues() async throws -> [(type: String, one: String, other: String)] {
    try await ClusterPair.hasICU() ? values : values.filter { !$0.type.contains("COLLATE") }
  }

  private static let valueTypes = """
    CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE DOMAIN moody AS mood;
    CREATE TYPE pair AS (a int, b text);
    CREATE DOMAIN positive AS int CHECK (VALUE > 0); CREATE TYPE mood_range AS RANGE (subtype = mood);
    CREATE EXTENSION citext; CREATE EXTENSION hstore; CREATE EXTENSION ltree;
    CREATE COLLATION whatever (provider = icu, locale = 'und-u-ks-level2', deterministic = false); /*ICU*/
    """

  @Test(
    "Values are distinguished as their output does, and equal ones are equal though their types' OIDs differ",
    arguments: DigestFunction.allCases)
  func values(digest: DigestFunction) async throws {
    // So that everything made after it has other OIDs.
    try await Scene.compared("values", "") { scene in
      try await scene.script(on: .target, "CREATE TYPE shift AS ENUM (); CREATE TYPE shift2 AS (a shift)")
      let values = try await Self.knownValues()
      let tables = values.enumerated().map { index, value in
        // The column once more, dropped: attribute numbers are not to matter.
        "CREATE TABLE v\(index) (id int PRIMARY KEY, x \(value.type)); "
          + "INSERT INTO v\(index) VALUES (1, \(value.one)), (2, \(value.one)); "
      }
      try await scene.script("\(Self.valueTypes)\n\(tables.joined())")
      guard try await Self.isKnown(digest) else {
        await #expect(throws: (any Error).self) { try await scene.compare { $0.digests = [digest] } }
        return
      }
      #expect(try await scene.compare { $0.digests = [digest] }.lines == [])
      try await scene.script(
        on: .target,
        values.enumerated().map { "UPDATE v\($0) SET x = \($1.other) WHERE id = 2; " }.joined())
      let report = try await scene.compare { $0.digests = [digest] }
      for (index, value) in values.enumerated() {
        let table = report.table("v\(index)")
        #expect(table?.rows.map(\.words) == ["(id)=(2)"], "\(value)")
        #expect(table?.different == 1, "\(value)")
      }
      // The values as keys, which are then missing and extra.
      try await scene.script(
        values.indices.map { "ALTER TABLE v\($0) DROP COLUMN id; " }.joined())
      let keyless = try await scene.compare { $0.digests = [digest] }
      for (index, value) in values.enumerated() {
        let table = keyless.table("v\(index)")
        #expect(table?.missing == 1 && table?.extra == 1, "\(value)")
      }
    }
  }

  @Test("Values that the server takes for one are equal however they came about")
  func stored() async throws {
    let schema = """
      CREATE TABLE lists (id int PRIMARY KEY, a int[], f float8, g float4, h float8[], i float4[]);
      INSERT INTO lists VALUES (1, '{1,NULL,3}', 1, 1), (2, '{1,NULL,3}', 1, 1);
      UPDATE lists SET h = '{{NaN,1.1},{NULL,-0}}', i = '{NaN,1.1}';
      """
    try await Scene.compared("stored", schema) { scene in
      try await scene.script(
        on: .source,
        "UPDATE lists SET a[2] = 2, f = 'inf'::float8 - 'inf'::float8, g = 'inf'::float4 - 'inf'::float4")
      try await scene.script(
        on: .source,
        "UPDATE lists SET h[1][1] = 'inf'::float8 - 'inf'::float8, i[1] = 'inf'::float4 - 'inf'::float4")
      try await scene.script(on: .target, "UPDATE lists SET a = '{1,2,3}', f = 'NaN', g = 'NaN'")
      for digest in DigestFunction.allCases {
        guard try await Self.isKnown(digest) else { continue }
        #expect(try await scene.compare { $0.digests = [digest] }.lines == [], "\(digest)")
      }
      try await scene.script(on: .target, "UPDATE lists SET a = '{1,NULL,3}' WHERE id = 2")
      #expect(try await scene.compare().table("lists")?.rows.map(\.words) == ["(id)=(2)"])
    }
  }

  @Test("Columns in another order, and with other holes, hold the same rows")
  func columnOrder() async throws {
    try await Scene.compared("order", "") { scene in
      try await scene.script(on: .source, "CREATE TABLE t (id int PRIMARY KEY, a int, b text, c json)")
      try await scene.script(
        on: .target,
        "CREATE TABLE t (gone int, c json, b text, id int PRIMARY KEY, a int); ALTER TABLE t DROP gone")
      try await scene.script(
        "INSERT INTO t (id, a, b, c) SELECT n, -n, n, '{}' FROM generate_series(1, 100) n")
      #expect(try await scene.compare().lines == [])
      try await scene.script(on: .target, "UPDATE t SET a = 0 WHERE id = 50")
      #expect(try await scene.compare().lines == ["t: -0 +0 ~1 different (id)=(50)"])
    }
  }

  @Test("One row of a million is found in a time that anybody waits for")
  func million() async throws {
    let script = """
      CREATE TABLE big (id bigint PRIMARY KEY, v int, filler char(80));
      INSERT INTO big SELECT n, n % 1000, 'x' FROM generate_series(1, 1000000) n
      """
    try await Scene.compared("million", script) { scene in
      #expect(try await scene.compare().lines == [])
      try await scene.script(on: .target, "UPDATE big SET v = v + 1 WHERE id = 777777")
      let began = ContinuousClock.now
      let report = try await scene.compare()
      #expect(report.lines == ["big: -0 +0 ~1 different (id)=(777777)"])
      #expect(ContinuousClock.now - began < .seconds(30))
      #expect(report.table("big")?.sourceRows == 1_000_000)
    }
  }

  @Test("Where everything differs, a bounded number of rows is named, and that there are more")
  func everyRow() async throws {
    let script = """
      CREATE TABLE big (id bigint PRIMARY KEY, v int);
      INSERT INTO big SELECT n, 0 FROM generate_series(1, 100000) n
      """
    try await Scene.compared("every", script) { scene in
      try await scene.script(on: .target, "UPDATE big SET v = 1")
      let table = try #require(try await scene.compare { $0.namedRows = 5 }.table("big"))
      #expect(table.rows.count == 5)
      #expect(table.hasMore)
      #expect(table.different > 1000 && table.missing == 0 && table.extra == 0)
    }
  }
}
