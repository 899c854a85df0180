import LibPQ
import LogicalReplication

/// Large objects, which no publication carries (manual, section 31.6): copied under the snapshot, and what
/// has changed since is copied again when nobody writes any more.
struct LargeObjects: Sendable {
  let source: ConnectionString
  let target: ConnectionString
  let workers: Int
  let rateLimit: RateLimit?

  struct Outcome: Sendable {
    /// How many were copied or removed.
    var changed = 0
    /// Whatever a transaction from here on did is not in the target yet; for the next `copy`.
    var horizon: String
  }

  static func exist(on connection: Connection) async throws -> Bool {
    let rows = try await connection.query(
      "SELECT EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata) AS they_do",
      doing: "looking for large objects", within: .seconds(15))
    return try rows.first?.bool("they_do") ?? false
  }

  /// Makes the target's large objects those of the snapshot.
  /// - Parameter horizon: what an earlier call gave; nil: all are copied, whatever the target has.
  func copy(under snapshot: ExportedSnapshot, since horizon: String?) async throws -> Outcome {
    let from = try await open(source, at: snapshot)
    let to = try await Session.open(target, end: snapshot.direction.to, purpose: "copy")
    return try await closing(from, to) {
      let wanted = try await LargeObjectCatalog.read(from: from)
      let present = try await LargeObjectCatalog.read(from: to)
      let others = try await LargeObjectCatalog.changed(since: horizon, from, to)
      let plan = LargeObjectPlan(source: wanted, target: present) { others?.contains($0) ?? true }
      for batch in plan.removed.batches(of: LargeObjectPlan.batchSize) {
        try await to.query(
          "SELECT pg_catalog.lo_unlink(o) FROM pg_catalog.unnest($1::oid[]) o", [Self.array(batch)],
          doing: "removing large objects")
      }
      let queue = WorkQueue(plan.copied.batches(of: LargeObjectPlan.batchSize))
      try await withThrowingTaskGroup(of: Void.self) { group in
        for _ in 0..<min(workers, max(1, plan.copied.count / 1000)) {
          group.addTask { try await work(through: queue, under: snapshot) }
        }
        try await group.waitForAll()
      }
      try await LargeObjectCatalog.copyComments(from, to)
      return Outcome(
        changed: Set(plan.removed).union(plan.copied.map(\.oid)).count,
        horizon: try await LargeObjectCatalog.horizon(of: from))
    }
  }

  private func open(_ string: ConnectionString, at snapshot: ExportedSnapshot) async throws -> Connection {
    let connection = try await Session.open(string, end: snapshot.direction.from, purpose: "copy")
    try await snapshot.enter(connection)
    return connection
  }

  private func work(through queue: WorkQueue<ArraySlice<LargeObject>>, under snapshot: ExportedSnapshot)
    async throws
  {
    let from = try await open(source, at: snapshot)
    let to = try await Session.open(target, end: snapshot.direction.to, purpose: "copy")
    try await closing(from, to) {
      try await to.query(
        """
        CREATE TEMP TABLE part (object oid, at bigint, data bytea) ON COMMIT DELETE ROWS;
        ALTER TABLE pg_temp.part ALTER COLUMN data SET STORAGE EXTERNAL
        """, doing: "making room for large objects")
      while let batch = await queue.next() { try await copy(batch, from, to) }
    }
  }

  /// At a time of one object, in bytes.
  private static let partBytes = 1 << 20

  private func copy(_ batch: ArraySlice<LargeObject>, _ source: Connection, _ target: Connection) async throws
  {
    let action = "copying large objects"
    try await target.query("BEGIN", doing: action)
    try await source.startCopyOut(
      """
      COPY (SELECT o.object, p.at, pg_catalog.lo_get(o.object, p.at, \(Self.partBytes))
        FROM (\(LargeObjectCatalog.sizes(of: "'\(Self.array(batch.map(\.oid)))'::oid[]"))) AS o,
          LATERAL pg_catalog.generate_series(0, o.size - 1, \(Self.partBytes)) AS p (at)
      ) TO STDOUT (FORMAT binary)
      """, doing: action)
    try await target.startCopyIn(
      "COPY pg_temp.part (object, at, data) FROM STDIN (FORMAT binary)", doing: action)
    _ = try await CopyPump(source: source, target: target, rateLimit: rateLimit, onBytes: { _ in }).pump(
      doing: action)
    for (owner, objects) in Dictionary(grouping: batch, by: \.owner) {
      // Who makes it owns it; a statement for each object would take far longer.
      try await target.query(
        """
        SET LOCAL ROLE \(SQL.identifier(owner));
        SELECT pg_catalog.lo_create(o) FROM pg_catalog.unnest('\(Self.array(objects.map(\.oid)))'::oid[]) o;
        SET LOCAL ROLE NONE
        """, doing: "making large objects of role \(SQL.identifier(owner))")
    }
    try await target.query("SELECT pg_catalog.lo_put(object, at, data) FROM pg_temp.part", doing: action)
    let grants = batch.compactMap(\.grants)
    if !grants.isEmpty {
      try await target.query(
        grants.joined(separator: ";\n"), doing: "granting privileges on large objects")
    }
    try await target.query("COMMIT", doing: action)
  }

  private static func array(_ oids: some Sequence<UInt32>) -> String {
    "{\(oids.map(String.init).joined(separator: ","))}"
  }
}
