import LibPQ
import Logging
import LogicalReplication
import Synchronization

/// Compares both ends when `replicate verify` asks for it, one request after another, while the stream
/// continues. The command must stay: a request that nobody follows any more is dropped without a trace.
struct RequestedVerifications: PhasePart {
  let context: PhaseContext
  let direction: Direction
  /// As given: `source` is the end that is moved, whichever way it streams.
  let monitor: StreamMonitor
  let tables: MigratedTables
  let gate: VerificationGate

  private static let poll = Duration.milliseconds(200)

  /// The command that asked has withdrawn the request.
  private struct Dismissal: Error {}

  /// Runs until it is cancelled. A lost or refused session here is no reason to end the stream, which notices
  /// by itself when an end is lost.
  func answer() async throws {
    while true {
      do {
        try await serve()
      } catch let error as PostgresError where error.isConnectionLoss {
        try Task.checkCancellation()
        logger.warning("requests for comparisons cannot be taken", metadata: ["why": "\(error)"])
      }
      try await Task.sleep(for: Self.pause)
    }
  }

  /// How long until a retry.
  private static let pause = Duration.seconds(5)

  private func serve() async throws {
    let connection = try await Session.open(options.target, end: "target", purpose: "verify")
    try await closing(connection) {
      let store = StateStore(connection)
      try await store.forgetVerifications()
      while true {
        if monitor.reading.passing == nil, let requested = try await store.requestedVerification(),
          gate.begin()
        {
          defer { gate.end() }
          try await perform(requested, store)
        }
        try await Task.sleep(for: Self.poll)
      }
    }
  }

  private func perform(_ requested: StoredVerification, _ store: StateStore) async throws {
    guard requested.isFollowed else { return try await store.cancelVerification(requested.id) }
    guard try await store.store(.running, of: requested.id) else { return }
    logger.info("comparing both ends", metadata: ["asked by": "\(requested.request.requestedBy)"])
    board.update { $0.verification = Status.Verification(id: requested.id) }
    defer { board.update { $0.verification = nil } }
    do {
      let report = try await watched(requested, store)
      if try await store.store(.complete, of: requested.id, report: report) {
        try await store.note("verified: \(report.summary)")
        logger.notice("compared both ends", metadata: ["result": "\(report.summary)"])
      }
      try await store.forgetVerifications()
    } catch is Dismissal {
      logger.info("the command that asked for the comparison is gone, or has withdrawn the request")
      try await store.cancelVerification(requested.id)
    } catch  where Task.isCancelled {
      // A new table joins, or the engine is replaced: it begins anew for as long as somebody waits for it.
      try await Task { _ = try await store.store(.requested, of: requested.id) }.value
      throw error
    } catch {
      logger.warning("both ends could not be compared", metadata: ["why": "\(error)"])
      try await store.store(.failed, of: requested.id, failure: "\(error)")
    }
  }

  /// Ends the comparison as soon as nobody waits for it, or something more urgent must run.
  private func watched(
    _ requested: StoredVerification, _ store: StateStore
  ) async throws -> VerificationReport {
    try await withThrowingTaskGroup(of: VerificationReport?.self) { group in
      group.addTask { try await compare(requested.request) }
      group.addTask {
        while true {
          try await Task.sleep(for: Self.poll)
          guard try await store.verification(requested.id)?.isFollowed == true else { throw Dismissal() }
          if gate.isWanted {
            throw MigrationError(
              .failed, doing: "comparing both ends", reason: "a cutover began, which must not wait for it",
              remedy: "Ask again after it.")
          }
        }
      }
      defer { group.cancelAll() }
      guard let report = try await group.next() ?? nil else { throw CancellationError() }
      return report
    }
  }

  // MARK: The comparison

  private func compare(_ request: VerificationRequest) async throws -> VerificationReport {
    if let obstacle = monitor.reading.obstacle {
      throw MigrationError(.failed, doing: "comparing both ends", reason: "the stream waits: \(obstacle)")
    }
    let wanted = try await wanted(request.tables)
    let before = try await TableVersions.read(source: options.source, target: options.target)
    let isWhole = request.tables.isEmpty
    let memory = monitor.touched
    let pair = try await SnapshotPairing(
      direction: direction, from: direction == .forward ? options.source : options.target,
      to: direction == .forward ? options.target : options.source, monitor: monitor, logger: logger,
      onHeld: { if isWhole { memory.begin(at: $0, before) } }
    ).take()
    board.update { $0.verification?.lsn = pair.lsn.description }
    var report: VerificationReport
    let anew: Set<RelationName>
    do {
      report = try await finally(pair.release) {
        try await compare(wanted, request, pair)
      }
      anew = try await TableVersions.read(source: options.source, target: options.target).changed(
        since: before)
      report.setAside(anew)
    } catch {
      if isWhole { memory.discard() }
      throw error
    }
    if isWhole {
      // What differs, or could not be compared, is compared again before a cutover.
      memory.keep(
        different: numbered(report.tables.filter { $0.verdict == .different || anew.contains($0.name) }))
    }
    return report
  }

  /// By OID on the end that changes come from; a table that it lacks gets an OID that no relation has.
  private func numbered(_ tables: [VerificationReport.Table]) -> [UInt32: RelationName] {
    var numbered: [UInt32: RelationName] = [:]
    for table in tables {
      let oid = direction == .forward ? table.sourceOID : table.targetOID
      numbered[oid ?? .max - UInt32(numbered.count)] = table.name
    }
    return numbered
  }

  private func compare(
    _ wanted: Wanted, _ request: VerificationRequest, _ pair: SnapshotPair
  ) async throws -> VerificationReport {
    var how = Verification.Options(scope: .streaming)
    how.jobs = request.jobs
    how.maxBytesPerSecond = request.maxBytesPerSecond
    how.comparesObjects = request.tables.isEmpty
    how.comparesLargeObjects = wanted.carriesLargeObjects
    how.comparesSchema = request.tables.isEmpty
    how.excluded = tables.excluded
    how.direction = direction
    how.own = wanted.own
    let (source, target) = direction == .forward ? (pair.from, pair.to) : (pair.to, pair.from)
    var report = try await Verification(
      source: .init(options.source, end: "source", snapshot: source.name),
      target: .init(options.target, end: "target", snapshot: target.name),
      relations: wanted.relations, options: how,
      onProgress: { progress in board.update { $0.verification?.progress = progress } }, logger: logger
    ).compare()
    report.lsn = pair.lsn
    if how.comparesSchema { report.objects += wanted.ofDatabases }
    return report
  }

  private struct Wanted: Sendable {
    /// The migrated relations, or those of them that were named.
    var relations: [Relation]
    var carriesLargeObjects: Bool
    var own: OwnObjects
    var ofDatabases: [VerificationReport.ObjectDifference]
  }

  private func wanted(_ names: [RelationName]) async throws -> Wanted {
    let source = try await Session.open(options.source, end: "source", purpose: "verify")
    let target = try await Session.open(options.target, end: "target", purpose: "verify")
    return try await closing(source, target) {
      let all = try await tables.comparable(direction, source: source, target: target)
      let whole = Wanted(
        relations: all, carriesLargeObjects: try await StateStore(target).carriesLargeObjects(options),
        own: try await SchemaAgreement.own(source: source, target: target),
        ofDatabases: try await SchemaAgreement.ofDatabases(
          source: source, target: target, direction))
      guard !names.isEmpty else { return whole }
      let wanted = try await Set(names).union(partitions(of: names, on: source))
      let chosen = all.filter { wanted.contains($0.name) }
      let missing = Set(names).subtracting(chosen.map(\.name)).sorted()
      guard missing.isEmpty else {
        throw MigrationError(
          .failed, doing: "comparing both ends",
          reason: "not among the migrated tables: \(missing.map(\.description).joined(separator: ", "))",
          remedy: "Give tables with their schemas, as replicate report lists them.")
      }
      var part = whole
      part.relations = chosen
      return part
    }
  }

  private func partitions(of names: [RelationName], on source: Connection) async throws -> [RelationName] {
    let rows = try await source.query(
      """
      SELECT n.nspname, c.relname
      FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS k (schema, name)
        JOIN pg_catalog.pg_namespace m ON m.nspname = k.schema
        JOIN pg_catalog.pg_class p ON p.relnamespace = m.oid AND p.relname = k.name AND p.relkind = 'p'
        CROSS JOIN pg_catalog.pg_partition_tree(p.oid) AS t
        JOIN pg_catalog.pg_class c ON c.oid = t.relid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      """, [SQL.array(names.map(\.schema)), SQL.array(names.map(\.name))],
      doing: "looking for partitions on the source", within: .seconds(30))
    return try rows.map { RelationName(schema: try $0.text("nspname"), name: try $0.text("relname")) }
  }
}

/// Gives a cutover precedence over comparisons: they end, and none begins before it is over.
final class VerificationGate: Sendable {
  private struct State {
    var wanted = 0
    var isBusy = false
  }

  private let state = Mutex(State())

  /// Runs `body` while no comparison runs.
  func during<Value>(
    isolation: isolated (any Actor)? = #isolation, _ body: () async throws -> Value
  ) async throws -> Value {
    state.withLock { $0.wanted += 1 }
    defer { state.withLock { $0.wanted -= 1 } }
    while state.withLock({ $0.isBusy }) { try await Task.sleep(for: .milliseconds(10)) }
    return try await body()
  }

  var isWanted: Bool { state.withLock { $0.wanted > 0 } }

  /// A comparison begins, unless it must not.
  func begin() -> Bool {
    state.withLock { state in
      guard state.wanted == 0 else { return false }
      state.isBusy = true
      return true
    }
  }

  func end() { state.withLock { $0.isBusy = false } }
}
