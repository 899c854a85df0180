import LibPQ
import LogicalReplication

/// Compares the schemas of both ends as pg_dump writes them, object by object.
struct SchemaComparison: Sendable {
  struct Side: Sendable {
    var connection: ConnectionString
    /// `source` or `target`.
    var end: String
    /// The snapshot it is read under; nil: its state when pg_dump begins.
    var snapshot: String?
    /// 150004 is 15.4.
    var versionNumber: Int
    /// As in `server_encoding`.
    var encoding: String

    init(
      _ connection: ConnectionString, end: String, snapshot: String? = nil, versionNumber: Int,
      encoding: String
    ) {
      (self.connection, self.end, self.snapshot) = (connection, end, snapshot)
      (self.versionNumber, self.encoding) = (versionNumber, encoding)
    }

    init(_ connection: ConnectionString, of session: Connection) async throws {
      self.init(
        connection, end: session.end, versionNumber: try await session.serverVersion(),
        encoding: try await session.serverEncoding() ?? "")
    }
  }

  /// What was found, in how many objects.
  struct Findings: Sendable {
    var differences: [VerificationReport.ObjectDifference]
    var objects: Int
  }

  let source: Side
  let target: Side
  /// The direction that writes go, or will go.
  let direction: Direction
  let own: OwnObjects
  /// Tables that are not migrated, whatever is done to them.
  let excluded: Set<RelationName>
  /// The stream is running: what it needs on either end is no difference.
  let isStreaming: Bool
  /// How long to wait for the tables' locks, in seconds; nil: as long as it takes.
  var longestLockWait: Double?

  func findings() async throws -> Findings {
    async let here = dump(source)
    async let there = dump(target)
    let (left, right) = try await (SchemaText(here), SchemaText(there))
    let differences = SchemaDifferences(
      own: own, isStreaming: isStreaming,
      isAcrossVersions: source.versionNumber / 10_000 != target.versionNumber / 10_000,
      newer: NewerSchemaParts(source.versionNumber, target.versionNumber), direction: direction
    ).differences(source: left, target: right)
    return Findings(
      differences: differences, objects: Set(left.entries.keys).union(right.entries.keys).count)
  }

  private func dump(_ side: Side) async throws -> String {
    var arguments = ["--schema-only", "--no-subscriptions", "--exclude-schema=replicate"]
    // Quoted, so that nothing in a name is read as a pattern (manual, psql, "Patterns").
    arguments += excluded.sorted().map { "--exclude-table=\($0)" }
    if let longestLockWait {
      // A little less than the caller waits, so that pg_dump names the table.
      arguments.append("--lock-wait-timeout=\(Int(longestLockWait * 900))")
    }
    // In one encoding, whatever the databases have; but bytes without a defined encoding cannot be converted.
    if side.encoding != "SQL_ASCII" { arguments.append("--encoding=UTF8") }
    if let snapshot = side.snapshot { arguments.append("--snapshot=\(snapshot)") }
    return try await PostgresTool.dump(
      arguments + [try await side.connection.argument(end: side.end, purpose: "verify")], on: side.connection,
      doing: "dumping the \(side.end)'s schema to compare it")
  }
}

extension Comparison {
  /// Under the snapshots of both ends.
  func schema() async throws -> [VerificationReport.ObjectDifference] {
    guard options.comparesSchema, let here = source.snapshot, let there = target.snapshot else { return [] }
    return try await SchemaComparison(
      source: SchemaComparison.Side(
        source.side.connection, end: source.side.end, snapshot: here, versionNumber: source.versionNumber,
        encoding: source.encoding),
      target: SchemaComparison.Side(
        target.side.connection, end: target.side.end, snapshot: there, versionNumber: target.versionNumber,
        encoding: target.encoding),
      direction: options.direction, own: options.own, excluded: options.excluded,
      isStreaming: options.scope == .streaming
    ).findings().differences
  }
}
