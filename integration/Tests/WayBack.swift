import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// A migration whose target is open, with an engine that carries its writes back.
struct WayBack: Sendable {
  let journey: Journey
  let engine: BackgroundProcess

  /// Runs `body` after a cutover.
  /// - Parameters:
  ///   - prepare: before the migration begins.
  ///   - before: between streaming and the cutover.
  static func run(
    _ name: String, prepare: [String] = [], options: [String] = [],
    before: (Journey) async throws -> Void = { _ in }, _ body: (WayBack) async throws -> Void
  ) async throws {
    try await Journey.run(name) { journey in
      for sql in prepare { try await journey.source(sql) }
      let engine = try await journey.replicate.start(
        ["start"] + ClusterPair.shared.encryptionArguments + options)
      try await journey.waitUntilReady(engine)
      try await before(journey)
      let cutover = try await journey.replicate.run("cutover", "--yes")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
      let back = WayBack(journey: journey, engine: engine)
      try await back.waitForStream()
      try await body(back)
    }
  }

  /// The same with another engine.
  func with(_ engine: BackgroundProcess) -> WayBack { WayBack(journey: journey, engine: engine) }

  func waitForStream() async throws {
    try await journey.waitUntil("the reverse stream", engine) { $0.phase == .reverse && $0.ready }
  }

  /// Waits until what the target has now is on the source.
  func waitForSource(_ sql: String) async throws {
    let wanted = try await journey.targetValue(sql)
    try await engine.waitUntil("the source to have what the target has: \(sql)", within: .seconds(30)) {
      try await journey.sourceValue(sql) == wanted
    }
  }

  /// On the sealed source: what the guard does not refuse.
  func define(_ sql: String) async throws {
    let session = try await SQLSession(
      journey.databases.source, settings: ["default_transaction_read_only": "off"])
    try await session.execute(sql)
    await session.close()
  }

  func isWritable(_ end: Journey.End, _ sql: String) async throws -> Bool {
    try await journey.refusal(
      of: sql, on: end == .source ? journey.databases.source : journey.databases.target) == nil
  }

  func differences() async throws -> [String] {
    try await DatabaseComparison().differences(
      source: journey.databases.source, target: journey.databases.target)
  }

  /// Slots, publications, triggers and schemas of ours on the target.
  func tracesOnTarget() async throws -> [String] {
    let session = try await SQLSession(journey.databases.target)
    let rows = try await session.rows(
      """
      SELECT 'slot ' || slot_name FROM pg_replication_slots WHERE database = current_database()
      UNION ALL SELECT 'publication ' || pubname FROM pg_publication
      UNION ALL SELECT 'trigger ' || tgname || ' on ' || tgrelid::regclass FROM pg_trigger
        WHERE NOT tgisinternal
      UNION ALL SELECT 'function ' || proname FROM pg_proc
        WHERE pronamespace::regnamespace::text = 'replicate'
      UNION ALL SELECT 'setting ' || array_to_string(setconfig, ',') FROM pg_db_role_setting
        WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
      """)
    await session.close()
    return rows.compactMap { $0.first ?? nil }
  }

  func report() async throws -> MigrationReport { try await journey.report() }
}
