import Clusters

/// What is copied: each shows another cost.
enum CopyDataset: String, CaseIterable {
  /// Few narrow tables, one of them most of it.
  case pgbench
  /// Mixed types and five indexes.
  case wide
  /// Values of 8 to 30 kB, outside the row.
  case toast
  /// A thousand tables that are almost empty: round trips.
  case small

  /// - Parameter scale: 1 is a few hundred MB.
  func load(_ server: ConnectionString, scale: Double) async throws {
    func count(_ rows: Int) -> Int { max(1, Int(Double(rows) * scale)) }
    let session = try await SQLSession(server)
    switch self {
    case .pgbench: try await Pgbench.initialize(server, scale: count(30))
    case .wide: try await session.execute(Self.wide(rows: count(600_000)))
    case .toast: try await session.execute(Self.toast(rows: count(20_000)))
    case .small: try await session.execute(Self.small(tables: count(1000)))
    }
    try await session.execute("VACUUM (ANALYZE)")
    await session.close()
  }

  private static func wide(rows: Int) -> String {
    """
    CREATE TABLE wide (id bigint PRIMARY KEY, a int, b numeric(12, 2), c text, d timestamptz, e jsonb, f uuid,
      g bool, h double precision, i date, j varchar(40), k text[]) \\;
    INSERT INTO wide SELECT n, n % 1000, n / 7.0, md5(n::text), timestamptz '2020-01-01' + n * interval '1 s',
      jsonb_build_object('n', n, 'text', md5((n + 1)::text)), md5((n + 2)::text)::uuid, n % 2 = 0, sqrt(n),
      date '2000-01-01' + n % 9000, 'value ' || n, ARRAY[n::text, md5((n + 3)::text)]
      FROM generate_series(1, \(rows)) n \\;
    CREATE INDEX ON wide (a, d) \\; CREATE INDEX ON wide (c) \\; CREATE INDEX ON wide (f) \\;
    CREATE INDEX ON wide (j) WHERE g
    """
  }

  /// Text that hardly compresses, as what is stored outside the row does not.
  private static func toast(rows: Int) -> String {
    """
    CREATE TABLE toast (id int PRIMARY KEY, body text) \\;
    INSERT INTO toast SELECT n, (SELECT string_agg(md5((n * 1000 + m)::text), '')
      FROM generate_series(1, 250 + n % 690) m) FROM generate_series(1, \(rows)) n
    """
  }

  private static func small(tables: Int) -> String {
    """
    DO $$ BEGIN FOR n IN 1..\(tables) LOOP
      EXECUTE format('CREATE TABLE small_%s (id int PRIMARY KEY, a text, b timestamptz)', n);
      EXECUTE format('INSERT INTO small_%s SELECT i, md5(i::text), now() FROM generate_series(1, 100) i', n);
      EXECUTE format('CREATE INDEX ON small_%s (a)', n);
    END LOOP; END $$
    """
  }
}
