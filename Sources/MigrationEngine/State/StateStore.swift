import Foundation
import LibPQ

/// What is stored of a migration as a whole.
struct StoredMigration: Sendable {
  var phase: Phase
  var sourceSystem: String
  var sourceDatabase: String
  var slot: String
  var publication: String
  /// Excluded tables, as given at the first start.
  var excluded: [RelationName]
  /// What the target had before; for `TargetData`.
  var targetBefore: [String]
  var encryption: EncryptionEvidence
  var failure: String?
  var isAbortRequested: Bool
  /// `replicate finish` has ended or is about to end the reverse stream.
  var isFinishRequested = false
  /// `replicate finish` has cleaned up: there is nothing left to do.
  var isFinished = false
  /// Sections of the schema whose restore was begun, perhaps not finished.
  var restoreAttempted: Set<String>
  var copySeconds: Double
  /// From which transaction on large objects may have changed; nil until they are copied.
  var largeObjectsHorizon: String?
}

/// Reads and writes the state in the target. One value belongs to one connection and its user.
struct StateStore: Sendable {
  let connection: Connection

  init(_ connection: Connection) { self.connection = connection }

  /// For each statement: the state is small, so anything slower is waiting for someone.
  static let limit = Duration.seconds(30)

  // MARK: The lock

  /// Spells "replicat": advisory locks are identified by numbers, and are local to one database.
  private static let lockKey: Int64 = 0x7265_706c_6963_6174

  /// Takes the lock that admits one engine; it lasts as long as the connection (manual, section 13.3.5).
  func tryLock() async throws -> Bool {
    let rows = try await connection.query(
      "SELECT pg_catalog.pg_try_advisory_lock(\(Self.lockKey)) AS taken", doing: "taking the engine's lock",
      within: Self.limit)
    return try rows.first?.bool("taken") ?? false
  }

  /// The process id of the server's backend that holds the lock for an engine; nil when none runs.
  func lockHolder() async throws -> Int? {
    let rows = try await connection.query(
      """
      SELECT l.pid FROM pg_catalog.pg_locks l WHERE l.locktype = 'advisory' AND l.granted
        AND l.classid = \(Self.lockKey >> 32) AND l.objid = \(Self.lockKey & 0xffff_ffff)
        AND l.database =
          (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
      """, doing: "looking for a running engine", within: Self.limit)
    return try rows.first?.integer("pid")
  }

  // MARK: The migration

  /// The stored migration, nil when this target has none.
  /// - Throws: `MigrationError` when it was stored by a newer version.
  func load() async throws -> StoredMigration? {
    let exists = try await connection.query(
      "SELECT pg_catalog.to_regclass('replicate.migration') IS NOT NULL AS it_does",
      doing: "looking for a migration's state", within: Self.limit)
    guard try exists.first?.bool("it_does") == true else { return nil }
    let rows = try await connection.query(
      "SELECT *, pg_catalog.array_to_string(restore_attempted, ',') AS attempted FROM replicate.migration",
      doing: "reading the migration's state", within: Self.limit)
    guard let row = rows.first else { return nil }
    guard try row.integer("format") == StateSchema.format, let phase = Phase(rawValue: try row.text("phase"))
    else {
      throw MigrationError(
        .failed, doing: "reading the migration's state",
        reason: "it was written by another version of replicate",
        remedy: "Use the version that began this migration.")
    }
    return StoredMigration(
      phase: phase, sourceSystem: try row.text("source_system"),
      sourceDatabase: try row.text("source_database"),
      slot: try row.text("slot"), publication: try row.text("publication"),
      excluded: try Self.decode([RelationName].self, try row.text("excluded")),
      targetBefore: try Self.decode([String].self, try row.text("target_before")),
      encryption: try Self.decode(EncryptionEvidence.self, try row.text("encryption")),
      failure: try row.optional("failure"), isAbortRequested: try row.bool("abort_requested"),
      isFinishRequested: try row.bool("finish_requested"), isFinished: try row.bool("finished"),
      restoreAttempted: Set(try row.text("attempted").split(separator: ",").map(String.init)),
      copySeconds: try row.double("copy_seconds"),
      largeObjectsHorizon: try row.optional("large_objects_horizon"))
  }

  func create(_ migration: StoredMigration) async throws {
    let evidence = try Self.encode(migration.encryption)
    let excluded = try Self.encode(migration.excluded)
    let before = try Self.encode(migration.targetBefore)
    try await connection.transaction(doing: "creating schema replicate on the target") { connection in
      try await connection.query(
        StateSchema.create, doing: "creating schema replicate on the target", within: Self.limit)
      try await connection.query(
        """
        INSERT INTO replicate.migration
          (format, phase, source_system, source_database, slot, publication, encryption, excluded,
            target_before)
        VALUES (\(StateSchema.format), $1, $2, $3, $4, $5, $6, $7, $8)
        """,
        [
          migration.phase.rawValue, migration.sourceSystem, migration.sourceDatabase, migration.slot,
          migration.publication, evidence, excluded, before,
        ], doing: "storing the migration", within: Self.limit)
    }
  }

  /// Stores the phase that an event leads to: the only way to change it.
  func store(_ machine: PhaseMachine) async throws {
    let phase = machine.phase.rawValue
    try await connection.query(
      "UPDATE replicate.migration SET phase = $1, failure = NULL", [phase],
      doing: "storing phase \(phase)", within: Self.limit)
    try await note("phase \(phase)")
  }

  func store(encryption: EncryptionEvidence) async throws {
    try await connection.query(
      "UPDATE replicate.migration SET encryption = $1", [try Self.encode(encryption)],
      doing: "storing the evidence of encryption", within: Self.limit)
  }

  func store(failure: String?) async throws {
    try await connection.query(
      "UPDATE replicate.migration SET failure = $1", [failure], doing: "storing why the engine stopped",
      within: Self.limit)
  }

  func noteRestoreAttempt(of section: String) async throws {
    try await connection.query(
      "UPDATE replicate.migration SET restore_attempted = pg_catalog.array_append(restore_attempted, $1)",
      [section], doing: "noting that \(section) is being restored", within: Self.limit)
  }

  func addCopySeconds(_ seconds: Double) async throws {
    try await connection.query(
      "UPDATE replicate.migration SET copy_seconds = copy_seconds + $1", [String(seconds)],
      doing: "storing how long the copy took", within: Self.limit)
  }

  func store(largeObjectsHorizon: String) async throws {
    try await connection.query(
      "UPDATE replicate.migration SET large_objects_horizon = $1", [largeObjectsHorizon],
      doing: "storing from where on large objects may have changed", within: Self.limit)
  }

  /// A line for the audit trail: names, counts and LSNs, never values.
  func note(_ what: String) async throws {
    try await connection.query(
      "INSERT INTO replicate.event (what) VALUES ($1)", [what], doing: "noting an event", within: Self.limit)
  }

  // MARK: Abort

  func requestAbort() async throws {
    try await connection.query(
      "UPDATE replicate.migration SET abort_requested = true", doing: "requesting the abort",
      within: Self.limit)
  }

  /// The migration can no longer be aborted.
  func withdrawAbort() async throws {
    try await connection.query(
      "UPDATE replicate.migration SET abort_requested = false WHERE phase <> 'aborted'",
      doing: "withdrawing the request to abort", within: Self.limit)
  }

  func isAbortRequested() async throws -> Bool {
    let rows = try await connection.query(
      "SELECT abort_requested FROM replicate.migration", doing: "looking for a request to abort",
      within: Self.limit)
    return try rows.first?.bool("abort_requested") ?? false
  }

  // MARK: The engine's heartbeat

  func publish(_ status: Status) async throws {
    try await connection.query(
      """
      INSERT INTO replicate.engine (heartbeat, backend, status)
      VALUES (pg_catalog.clock_timestamp(), pg_catalog.pg_backend_pid(), $1)
      ON CONFLICT (only_row) DO UPDATE
        SET heartbeat = EXCLUDED.heartbeat, backend = EXCLUDED.backend, status = EXCLUDED.status
      """, [try Self.encode(status)], doing: "publishing the engine's status", within: .seconds(30))
  }

  /// What an engine published last, with the heartbeat's age.
  /// - Returns: also the backend it was published with: the `lockHolder` if that engine still runs.
  func publishedStatus() async throws -> (status: Status, backend: Int)? {
    let rows = try await connection.query(
      """
      SELECT status, backend, pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - heartbeat) AS age
      FROM replicate.engine
      """, doing: "reading the engine's status", within: Self.limit)
    guard let row = rows.first else { return nil }
    var status = try Self.decode(Status.self, try row.text("status"))
    status.engine.heartbeatAgeSeconds = max(0, try row.double("age"))
    return (status, try row.integer("backend"))
  }

  // MARK: JSON

  static func encode(_ value: some Encodable) throws -> String {
    String(decoding: try JSONEncoder().encode(value), as: UTF8.self)
  }

  static func decode<Value: Decodable>(_ type: Value.Type, _ text: String) throws -> Value {
    try JSONDecoder().decode(type, from: Data(text.utf8))
  }
}
