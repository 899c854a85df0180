import Foundation
package import LibPQ
package import Logging
import LogicalReplication

/// Shows a migration, and makes requests to its engine, from any machine: all through the target.
package struct MigrationClient: Sendable {
  private let source: ConnectionString?
  let target: ConnectionString
  let logger: Logger

  /// - Parameter source: when given, the status has the slot's state even while no engine runs.
  package init(source: ConnectionString?, target: ConnectionString, logger: Logger) {
    self.source = source
    self.target = target
    self.logger = logger
  }

  /// - Throws: `MigrationError` when the target holds no migration.
  package func status() async throws -> Status {
    let connection = try await Session.open(target, end: "target", purpose: "status")
    return try await closing(connection) { try await status(StateStore(connection)) }
  }

  /// - Throws: `MigrationError` when the target holds no migration.
  package func report() async throws -> MigrationReport {
    let connection = try await Session.open(target, end: "target", purpose: "report")
    return try await closing(connection) {
      let store = StateStore(connection)
      guard let report = try await store.report(try await status(store)) else { throw Self.noMigration }
      return report
    }
  }

  func status(_ store: StateStore) async throws -> Status {
    let migration = try await stored(store)
    let engine = try await store.lockHolder()
    let published = try await store.publishedStatus()
    var status = published?.status ?? Status(phase: migration.phase)
    status.phase = migration.phase
    status.target.encryption = migration.encryption
    status.engine.running = engine != nil
    // An engine that has just started has not reported yet; its predecessor's report no longer holds.
    if published?.backend != engine {
      status.ready = false
      status.verification = nil
    }
    // While one is running the engine reports its steps with its status; only its beginning is stored.
    if let latest = try await store.latestCutover(), latest.state != .running || status.cutover == nil {
      status.cutover = latest.report ?? status.cutover
    }
    if !status.engine.running {
      status.failure = migration.failure
      if migration.failure != nil { status.phase = .failed }
      if migration.phase == .reverse, let way = try await store.reverseReplication() {
        try await lookAtSlot(way.slot, on: store.connection, &status)
      } else {
        await lookAtSlot(migration.slot, &status)
      }
    }
    return status
  }

  func stored(_ store: StateStore) async throws -> StoredMigration {
    guard let migration = try await store.load() else { throw Self.noMigration }
    return migration
  }

  private static let noMigration = MigrationError(
    .failed, doing: "looking for a migration on the target", reason: "there is none",
    remedy: "Begin one with replicate start, or give the target it was begun with.")

  /// With no engine to watch it, the slot keeps retaining WAL on the source.
  private func lookAtSlot(_ slot: String, _ status: inout Status) async {
    guard let source else { return }
    do {
      try await lookAtSlot(slot, of: source, &status)
    } catch {
      // The target's information is worth showing without it, above all when the source is the problem.
      logger.warning("the source could not be asked for its slot", metadata: ["why": "\(error)"])
    }
  }

  private func lookAtSlot(_ slot: String, of source: ConnectionString, _ status: inout Status) async throws {
    let connection = try await Session.open(source, end: "source", purpose: "status")
    try await closing(connection) { try await lookAtSlot(slot, on: connection, &status) }
  }

  private func lookAtSlot(_ slot: String, on connection: Connection, _ status: inout Status) async throws {
    let rows = try await connection.query(
      """
      SELECT wal_status, safe_wal_size,
        pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), restart_lsn)::bigint AS retained
      FROM pg_catalog.pg_replication_slots WHERE slot_name = $1
      """, [slot], doing: "reading the slot's state", within: .seconds(15))
    status.slot.name = slot
    status.slot.status = try rows.first?.optional("wal_status") ?? ""
    status.slot.retainedBytes = try rows.first?.optional("retained").flatMap(Int64.init) ?? 0
    status.slot.safeBytes = try rows.first?.optional("safe_wal_size").flatMap(Int64.init)
  }
}
