package import LibPQ
package import Logging

/// One cutover: from the request to a target that takes writes, or back to a source that does.
package struct Cutover: Sendable {
  /// What other stages do for the cutover.
  package struct Stages: Sendable {
    /// How far the target is behind, and the write pause that this would cost; nil when it is not known.
    package var lag: @Sendable () async -> (bytes: Int64, predictedPauseSeconds: Double?)
    package var expectMarker: @Sendable (_ nonce: String) async -> Void
    /// Returns once the target has committed the transaction that carries the marker.
    package var drain: @Sendable (_ nonce: String, _ deadline: ContinuousClock.Instant) async throws -> Void
    package var forgetMarker: @Sendable () async -> Void
    /// Throws when a change was committed after the marker.
    package var ensureNoBreach: @Sendable () async throws -> Void
    /// What is known of changes that pass the guard.
    package var passing: Passing
    /// Brings over as much as can be before the fence of what the stream does not carry, and predicts what
    /// the rest will take.
    package var finalisingSeconds: @Sendable () async throws -> Double
    /// Just before the fence: whether the schemas are still what they were when they were compared. Returns
    /// what somebody should look at.
    package var ensureSchemas: @Sendable () async throws -> [String]
    /// Brings over what the stream does not carry, and says what that was.
    package var finaliseTables: @Sendable () async throws -> String
    /// Compares both ends before the seal; nil when they are not to be.
    package var comparison: Comparison?
    /// Makes the target's tables what they are to be when it opens, after the seal, and brings over what no
    /// fence stops. Says what that was, beginning with a comma.
    package var restoreTables: @Sendable () async throws -> String
    /// Holds the clients that come through poolers, and lets them go on; nil when there are no poolers.
    package var poolers: Poolers?
    /// Tables that are not migrated, which the fence spares where they are others'.
    package var leftBehind: Set<RelationName>
    /// Stores on the target what is told so far: just before the seal, once the seal is known to stand and
    /// the target to have everything, and once it is open. From the second on the source is not needed any
    /// more.
    package var record: @Sendable (Status.Cutover) async throws -> Void
    /// Runs the switch steps. Returns why one of them failed; nil when none did.
    package var switchOver: @Sendable (_ fenceLSN: String?, SwitchEvents) async -> String?

    package init(
      lag: @escaping @Sendable () async -> (bytes: Int64, predictedPauseSeconds: Double?),
      expectMarker: @escaping @Sendable (String) async -> Void,
      drain: @escaping @Sendable (String, ContinuousClock.Instant) async throws -> Void,
      forgetMarker: @escaping @Sendable () async -> Void,
      ensureNoBreach: @escaping @Sendable () async throws -> Void,
      passing: Passing = Passing(),
      finalisingSeconds: @escaping @Sendable () async throws -> Double = { 0 },
      ensureSchemas: @escaping @Sendable () async throws -> [String] = { [] },
      finaliseTables: @escaping @Sendable () async throws -> String,
      comparison: Comparison? = nil,
      restoreTables: @escaping @Sendable () async throws -> String,
      poolers: Poolers? = nil, leftBehind: Set<RelationName> = [],
      record: @escaping @Sendable (Status.Cutover) async throws -> Void = { _ in },
      switchOver: @escaping @Sendable (String?, SwitchEvents) async -> String?
    ) {
      self.lag = lag
      self.expectMarker = expectMarker
      self.drain = drain
      self.forgetMarker = forgetMarker
      self.ensureNoBreach = ensureNoBreach
      self.passing = passing
      self.finalisingSeconds = finalisingSeconds
      self.ensureSchemas = ensureSchemas
      self.finaliseTables = finaliseTables
      self.comparison = comparison
      self.restoreTables = restoreTables
      self.poolers = poolers
      self.leftBehind = leftBehind
      self.record = record
      self.switchOver = switchOver
    }
  }

  /// Changes that no guard stops, since they are written below the executor or by whoever can take it off.
  package struct Passing: Sendable {
    /// The replication origins of changes that came by the stream, and how long ago the last of each did.
    package var origins: @Sendable () async -> [(name: String, age: Duration)]
    /// Before a marker is written after the seal; `drain` waits for it, too. What comes behind it is no
    /// breach, and what has come since the marker before is remembered when that is asked for.
    package var expectMarker: @Sendable (_ nonce: String, _ remembers: Bool) async -> Void
    /// Has nothing more applied: the end that writes go to is about to open. Says what was changed there
    /// since the fence's marker; nil when nothing was.
    package var hold: @Sendable (_ deadline: ContinuousClock.Instant) async throws -> String?
    /// What has come since, and is not applied; nil when nothing has.
    package var leftBehind: @Sendable () async -> String?

    package init(
      origins: @escaping @Sendable () async -> [(name: String, age: Duration)] = { [] },
      expectMarker: @escaping @Sendable (String, Bool) async -> Void = { _, _ in },
      hold: @escaping @Sendable (ContinuousClock.Instant) async throws -> String? = { _ in nil },
      leftBehind: @escaping @Sendable () async -> String? = { nil }
    ) {
      self.origins = origins
      self.expectMarker = expectMarker
      self.hold = hold
      self.leftBehind = leftBehind
    }
  }

  package struct Comparison: Sendable {
    /// Settles what is compared, and tells what it may take inside the write pause. What was not asked for
    /// may take no more than `secondsLeft`.
    package var predictedSeconds: @Sendable (_ secondsLeft: Double) async throws -> Double
    package var compare: @Sendable (_ fenceLSN: String?) async throws -> Status.Comparison
    /// Gives back what was made ready for it.
    package var close: @Sendable () async -> Void

    package init(
      predictedSeconds: @escaping @Sendable (Double) async throws -> Double,
      compare: @escaping @Sendable (String?) async throws -> Status.Comparison,
      close: @escaping @Sendable () async -> Void = {}
    ) {
      self.predictedSeconds = predictedSeconds
      self.compare = compare
      self.close = close
    }
  }

  package struct Poolers: Sendable {
    /// Returns once no client is in a transaction, and says what waits where. When it throws, some may wait.
    package var pause: @Sendable (_ deadline: ContinuousClock.Instant) async throws -> String
    /// The sessions on the server that clients' transactions have, by their pids: who keeps a pause waiting.
    package var busy: @Sendable () async throws -> [Int32]
    /// Lets all go on that wait, and says so.
    package var resume: @Sendable () async throws -> String

    package init(
      pause: @escaping @Sendable (ContinuousClock.Instant) async throws -> String,
      busy: @escaping @Sendable () async throws -> [Int32] = { [] },
      resume: @escaping @Sendable () async throws -> String
    ) {
      self.pause = pause
      self.busy = busy
      self.resume = resume
    }
  }

  /// What the switch steps tell while they run.
  package struct SwitchEvents: Sendable {
    /// A step has ended: its name, how long it took, and what it did.
    package var onStep: @Sendable (String, Duration, String) async -> Void
    /// Clients that waited in poolers go on, on the target.
    package var onClientsResumed: @Sendable () async -> Void
  }

  private let ends: Ends
  private let stages: Stages
  private let logger: Logger
  private let onStep: @Sendable (Status.Cutover) -> Void

  /// The end that writes leave and the one that they go to.
  struct Ends: Sendable {
    var direction: Direction
    var from: ConnectionString
    var to: ConnectionString

    func open() async throws -> Connection {
      let connection = try await Session.open(from, end: direction.from, purpose: "cutover")
      try await Session.actAsReplica(connection)
      // What a failover may lose of this the fence's expiry makes good; the seal asks for more. A standby
      // that is lost would hold up everything else, the un-fencing too.
      try await connection.query(
        "SET synchronous_commit = local", doing: "preparing the cutover on the \(direction.from)",
        within: .seconds(15))
      return connection
    }

    func openTarget() async throws -> Connection {
      try await Session.open(to, end: direction.to, purpose: "cutover")
    }
  }

  /// - Parameters:
  ///   - direction: `back` for a rollback, whose steps are the same with the ends' parts exchanged.
  ///   - from: the end that writes leave.
  ///   - to: the end that they go to.
  ///   - onStep: called when a step begins, inside the write pause: it must not wait for anything.
  package init(
    _ direction: Direction = .forward, from: ConnectionString, to: ConnectionString, stages: Stages,
    logger: Logger, onStep: @escaping @Sendable (Status.Cutover) -> Void
  ) {
    ends = Ends(direction: direction, from: from, to: to)
    self.stages = stages
    self.logger = logger
    self.onStep = onStep
  }

  /// - Parameter prelude: what is told of it already.
  /// - Returns: a report whose result is `complete`, or `aborted` with the reason: then the source takes
  ///   writes.
  /// - Throws: `CancellationError` when the engine was told to stop while the source may be sealed and the
  ///   target is not open: `resume` leads on. `PostgresError` when an end that is lost let nothing begin.
  package func run(
    _ request: CutoverRequest, after prelude: Status.Cutover? = nil
  ) async throws -> Status.Cutover {
    do {
      return try await withRun(request) { try await $0.begin(after: prelude) }
    } catch let error as PostgresError where error.isAnswered {
      // A login that is refused: nothing has begun, and what is connected goes on.
      var report = prelude ?? Status.Cutover(step: "aborted")
      report.step = "aborted"
      if ends.direction == .back { report.direction = .back }
      report.result = .aborted
      report.reason = "\(error)"
      return report
    }
  }

  /// Finishes or undoes the cutover of an engine that ended in its middle.
  /// - Parameters:
  ///   - earlier: what that engine had stored. Once it says that the source is sealed and the target has
  ///     everything, the source is not needed any more.
  ///   - asksSource: false where it is known to be lost.
  package func resume(
    from fence: SourceState.Fence, request: CutoverRequest, earlier: Status.Cutover? = nil,
    asksSource: Bool = true
  ) async throws -> Status.Cutover {
    try await withRun(request, !asksSource ? .lost : earlier?.isSealed == true ? .useful : .needed) {
      try await $0.resume(from: fence, earlier)
    }
  }

  /// What the source is for a cutover that goes on.
  enum Need: Sendable {
    case needed
    /// It may be silent.
    case useful
    /// It is not to be asked.
    case lost
  }

  private func withRun(
    _ request: CutoverRequest, _ need: Need = .needed, _ body: (CutoverRun) async throws -> Status.Cutover
  ) async throws -> Status.Cutover {
    let target = try await ends.openTarget()
    let run: CutoverRun
    do {
      run = try await CutoverRun(
        request: request, ends: ends, target: target, need: need, stages: stages,
        logger: logger, onStep: onStep)
    } catch {
      await target.close()
      throw error
    }
    func end() async {
      await stages.forgetMarker()
      await stages.comparison?.close()
      await run.close()
    }
    return try await finally(end) { try await body(run) }
  }
}
