import Clusters
import Testing

/// A comparison that finds nothing is worth only what it would have found.
@Suite(.serialized, .servers, .timeLimit(.minutes(2)))
struct ComparisonTests {
  private static let schema = """
    CREATE TABLE plain (id int, text text);
    INSERT INTO plain SELECT n, 'row ' || n FROM generate_series(1, 1000) AS n;
    CREATE TABLE parts (id int, at timestamptz, f float8) PARTITION BY RANGE (id);
    CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (100);
    CREATE TABLE "Sélect ""it"" " (replicate_row jsonb);
    INSERT INTO parts VALUES (1, '2001-02-03 04:05:06+07', 0.1), (2, NULL, 'NaN');
    INSERT INTO "Sélect ""it"" " VALUES ('{"a": null}'), (NULL);
    CREATE SEQUENCE counter INCREMENT 5; SELECT nextval('counter')
    """

  @Test(
    "A planted difference is found, and nothing else",
    arguments: [
      ("", []),
      ("UPDATE plain SET text = 'other' WHERE id = 500", ["table public.plain"]),
      ("UPDATE plain SET text = NULL WHERE id = 500", ["table public.plain"]),
      ("DELETE FROM plain WHERE id = 1000", ["table public.plain"]),
      ("INSERT INTO plain VALUES (1, 'row 1')", ["table public.plain"]),
      ("UPDATE parts SET at = at + interval '1 microsecond'", ["table public.parts_low"]),
      ("DROP TABLE plain", ["table public.plain"]),
      ("CREATE TABLE more ()", ["table public.more"]),
      ("SELECT nextval('counter')", ["sequence public.counter"]),
    ] as [(String, [String])])
  func differences(_ planted: String, _ expected: [String]) async throws {
    try await ClusterPair.shared.withFreshDatabases(named: "compare") { databases in
      for server in [databases.source, databases.target] {
        let session = try await SQLSession(server)
        for statement in Self.schema.split(separator: ";") { try await session.execute(String(statement)) }
        await session.close()
      }
      // Settings of the database must not show as differences.
      let target = try await SQLSession(databases.target)
      try await target.execute("ALTER DATABASE \(databases.name) SET TimeZone = 'Asia/Tokyo'")
      try await target.execute("ALTER DATABASE \(databases.name) SET extra_float_digits = -5")
      if !planted.isEmpty { try await target.execute(planted) }
      await target.close()

      let found = try await DatabaseComparison().differences(
        source: databases.source, target: databases.target)
      #expect(found.count == expected.count, "\(found)")
      for (line, start) in zip(found, expected) { #expect(line.hasPrefix(start + ":")) }

      let tolerant = DatabaseComparison(sequences: .targetNotBehind)
      let sequences = try await tolerant.differences(source: databases.source, target: databases.target)
        .filter { $0.hasPrefix("sequence") }
      #expect(sequences.isEmpty)
    }
  }

  @Test("A sequence that lags behind on the target is found also where a margin is allowed")
  func laggingSequence() async throws {
    try await ClusterPair.shared.withFreshDatabases(named: "sequences") { databases in
      for (server, value) in [(databases.source, 10), (databases.target, 9)] {
        let session = try await SQLSession(server)
        try await session.execute("CREATE SEQUENCE counter")
        try await session.execute("SELECT setval('counter', \(value))")
        await session.close()
      }
      let found = try await DatabaseComparison(sequences: .targetNotBehind).differences(
        source: databases.source, target: databases.target)
      #expect(found.count == 1 && found.allSatisfy { $0.hasPrefix("sequence public.counter:") })
    }
  }
}
