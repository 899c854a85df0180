import LibPQ
import LogicalReplication

extension StateStore {
  private static func time(_ expression: String) -> String {
    "pg_catalog.to_char(\(expression) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"
  }

  /// - Parameter status: at the same moment.
  func report(_ status: Status) async throws -> MigrationReport? {
    let action = "reading what is stored of the migration"
    guard let migration = try await load() else { return nil }
    let times = try await connection.query(
      """
      SELECT \(Self.time("pg_catalog.clock_timestamp()")) AS now, \(Self.time("created_at")) AS began
      FROM replicate.migration
      """, doing: action, within: Self.limit)
    let events = try await connection.query(
      "SELECT \(Self.time("at")) AS at, what FROM replicate.event ORDER BY id", doing: action,
      within: Self.limit)
    return MigrationReport(
      status: status, reportedAt: try times.first?.text("now") ?? "",
      beganAt: try times.first?.text("began") ?? "", sourceSystem: migration.sourceSystem,
      sourceDatabase: migration.sourceDatabase, excludedTables: migration.excluded.map(\.description),
      tables: try await relations().map { relation in
        MigrationReport.Table(
          name: relation.name.description, copiedRows: relation.rows, copiedBytes: relation.bytes,
          snapshotLSN: relation.snapshotLSN?.description)
      },
      cutovers: try await reportedCutovers(doing: action),
      verifications: try await reportedVerifications(doing: action),
      events: try events.map { MigrationReport.Event(at: try $0.text("at"), what: try $0.text("what")) })
  }

  private func reportedVerifications(doing action: String) async throws -> [MigrationReport.Verification] {
    let rows = try await connection.query(
      """
      SELECT \(Self.time("requested_at")) AS requested_at, request, report, failure
      FROM replicate.verification WHERE state IN ('complete', 'failed') ORDER BY id
      """, doing: action, within: Self.limit)
    return try rows.map { row in
      MigrationReport.Verification(
        requestedAt: try row.text("requested_at"),
        request: try Self.decode(VerificationRequest.self, try row.text("request")),
        outcome: try row.optional("report").map { try Self.decode(VerificationReport.self, $0) },
        failure: try row.optional("failure"))
    }
  }

  private func reportedCutovers(doing action: String) async throws -> [MigrationReport.Cutover] {
    let steps = try await connection.query(
      """
      SELECT cutover, definition, state, detail, \(Self.time("at")) AS at FROM replicate.switch_step
      ORDER BY cutover, position
      """, doing: action, within: Self.limit)
    var stepsOf: [Int64: [MigrationReport.SwitchStep]] = [:]
    for row in steps {
      stepsOf[try row.integer("cutover", as: Int64.self), default: []].append(
        MigrationReport.SwitchStep(
          definition: try row.text("definition"), state: try row.text("state"),
          detail: try row.text("detail"), at: try row.text("at")))
    }
    let rows = try await connection.query(
      """
      SELECT id, \(Self.time("requested_at")) AS requested_at, request, state, report
      FROM replicate.cutover ORDER BY id
      """, doing: action, within: Self.limit)
    return try rows.map { row in
      MigrationReport.Cutover(
        requestedAt: try row.text("requested_at"),
        request: try Self.decode(CutoverRequest.self, try row.text("request")), state: try row.text("state"),
        outcome: try row.optional("report").map { try Self.decode(Status.Cutover.self, $0) },
        switchSteps: stepsOf[try row.integer("id", as: Int64.self)] ?? [])
    }
  }
}
