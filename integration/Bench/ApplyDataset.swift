import Clusters

/// A backlog of changes: each shows another cost.
enum ApplyDataset: String, CaseIterable {
  /// pgbench's own transactions, small ones of four tables.
  case tpcb
  /// The same without the two hot tables.
  case simple
  /// One transaction that updates every row of a table.
  case update
  /// A few transactions that insert many rows of mixed types.
  case insert
  /// One row a transaction.
  case single
  /// One transaction that deletes half a million rows.
  case delete

  /// The tables and what is in them before the backlog is made, as commands of a shell in which `run_sql`
  /// speaks to the source.
  func preparation(_ count: (Int) -> Int) -> String {
    switch self {
    case .tpcb, .simple: "pgbench -i -q -s 10 \"$SRC\" 2>/dev/null"
    case .update: "pgbench -i -q -s \(count(10)) \"$SRC\" 2>/dev/null"
    case .insert: "run_sql -c \"\(Self.wide)\""
    case .single: "run_sql -c \"CREATE TABLE events (id bigserial PRIMARY KEY, at timestamptz, body text)\""
    case .delete:
      """
      run_sql -c "CREATE TABLE doomed (id int PRIMARY KEY, body text)" \
        -c "INSERT INTO doomed SELECT n, md5(n::text) FROM generate_series(1, \(count(500_000))) n"
      """
    }
  }

  func workload(_ count: (Int) -> Int) -> String {
    switch self {
    case .tpcb: "pgbench -n -c 4 -j 2 -t \(count(15_000)) \"$SRC\" >/dev/null 2>&1"
    case .simple: "pgbench -n -N -c 4 -j 2 -t \(count(15_000)) \"$SRC\" >/dev/null 2>&1"
    case .update: "run_sql -c \"UPDATE pgbench_accounts SET abalance = abalance + 1\""
    case .insert:
      """
      for part in 0 1 2 3; do
        run_sql -c "\(Self.wideRows(count(100_000)))"
      done
      """
    case .single:
      """
      echo "INSERT INTO events (at, body) VALUES (now(), md5(random()::text));" >"$DIR/single.sql"
      pgbench -n -f "$DIR/single.sql" -c 4 -j 2 -t \(count(15_000)) "$SRC" >/dev/null 2>&1
      """
    case .delete: "run_sql -c \"DELETE FROM doomed\""
    }
  }

  private static let wide = """
    CREATE TABLE wide (id bigint PRIMARY KEY, a int, b numeric(12, 2), c text, d timestamptz, e jsonb, f uuid,
      g bool, h double precision, i date, j varchar(40), k text[])
    """

  private static func wideRows(_ rows: Int) -> String {
    """
    INSERT INTO wide SELECT $part * \(rows) + n, n % 1000, n / 7.0, md5(n::text),
      timestamptz '2020-01-01' + n * interval '1 s',
      jsonb_build_object('n', n, 'text', md5((n + 1)::text)), md5((n + 2)::text)::uuid, n % 2 = 0, sqrt(n),
      date '2000-01-01' + n % 9000, 'value ' || n, ARRAY[n::text, md5((n + 3)::text)]
    FROM generate_series(1, \(rows)) n
    """
  }
}
