import LibPQ
import Logging
import LogicalReplication

/// A handover while a stream runs: both legs do it in the same way, with stages of their own.
protocol StreamedHandover: Handover {
  var stages: HandoverStages { get }
}

/// The stages of one leg, prepared for one cutover or rollback: read before the fence, where nobody waits for
/// it.
struct HandoverStages: Sendable {
  let leg: Leg
  let stored: StoredCutover
  let options: MigrationOptions
  let board: StatusBoard
  let monitor: StreamMonitor
  let tables: MigratedTables
  let catalog: Catalog
  let schemas: SchemaAgreement
  let switchover: Switchover
  let comparison: CutoverComparison?
  let largeObjects: LargeObjectUpdates
  let logger: Logger

  var drain: Drain { Drain(direction: leg.direction, monitor: monitor, board: board) }
}

extension StreamedHandover {
  func lag() async -> (bytes: Int64, predictedPauseSeconds: Double?) {
    let reading = stages.board.catchUp.reading
    return (reading.lagBytes, reading.predictedPauseSeconds)
  }

  func origins() async -> [(name: String, age: Duration)] { stages.monitor.origins }

  func finalisingSeconds() async throws -> Double {
    try await ScheduledJobs(excluded: excluded).rehearse(
      from: stages.leg.from.connection, to: stages.leg.to.connection)
    return try await stages.tables.finalisingSeconds(stages.catalog, to: stages.leg.to.connection) {
      try await stages.largeObjects.bringOver()
    }
  }

  func ensureSchemas() async throws -> [String] { try await stages.schemas.again(stages.stored.request) }

  var excluded: Set<RelationName> { stages.tables.excluded }

  var poolers: (any HandoverPoolers)? {
    stages.options.switchPlan.pausesPoolers ? SwitchPoolers(switchover: stages.switchover) : nil
  }

  var messages: SentMessages { stages.monitor.messages }

  func expectMarker(_ nonce: String, for purpose: MarkerPurpose) async {
    stages.monitor.expectMarker(nonce, for: purpose)
  }

  func drain(_ nonce: String, until deadline: ContinuousClock.Instant) async throws {
    try await stages.drain.wait(for: nonce, until: deadline)
  }

  func forgetMarker() async { stages.monitor.forgetMarker() }

  func ensureNoBreach() async throws { try stages.drain.ensureNoBreach() }

  func finaliseTables() async throws -> String {
    let changed = try await stages.largeObjects.bringOver()
    let tables = try await stages.tables.finalise(stages.catalog, stages.leg, jobs: stages.options.jobs)
    return "\(tables), \(changed) large objects"
  }

  var comparison: (any HandoverComparison)? { stages.comparison }

  func hold(until deadline: ContinuousClock.Instant) async throws -> String? {
    try await stages.drain.hold(until: deadline)
  }

  func leftBehind() async -> String? {
    let left = stages.monitor.leftBehind
    return left.isEmpty ? nil : left.words
  }

  /// Not before the seal: until then the stream may have to continue.
  func bringOverAgain() async throws -> String {
    let ofExtensions = try await stages.tables.finaliseAgain(
      stages.leg, jobs: stages.options.jobs, stages.logger)
    let objects = try await stages.largeObjects.bringOverAgain()
    let activated = try await stages.tables.activateJobs(stages.leg, stages.logger)
    return ofExtensions + objects + activated
  }
}

/// The poolers of the switch plan.
struct SwitchPoolers: HandoverPoolers {
  let switchover: Switchover

  func pause(until deadline: ContinuousClock.Instant) async throws -> String {
    try await switchover.pause(until: deadline)
  }
  func busyServers() async throws -> [Int32] { try await switchover.busyServers() }
  func resume() async throws -> String { try await switchover.resume() }
}

extension Switchover.Events {
  init(_ events: SwitchEvents) {
    self.init(onStep: events.onStep, onClientsResumed: events.onClientsResumed)
  }
}
