import LibPQ
import Logging
import LogicalReplication

/// Performs what the state machine asks for, times it, and writes the timeline. Here `source` is the end that
/// writes leave and `target` the one that they go to: in a rollback the two are exchanged.
actor CutoverRun {
  private let request: CutoverRequest
  private let ends: Cutover.Ends
  private let stages: Cutover.Stages
  private let logger: Logger
  private let onStep: @Sendable (Status.Cutover) -> Void

  private var source: Connection
  private let target: Connection
  private var machine: CutoverMachine
  private var report = Status.Cutover(step: "begin")
  private let began = ContinuousClock.now
  private var fence: WriteGuard.Fence?
  /// When the fence was sent to the source, or clients began to wait in poolers: from here on users may have
  /// been refused or held.
  private var pauseBegan: ContinuousClock.Instant?
  /// How long clients waited in poolers, in words.
  private var pooledPause = ""
  private var nonce = ""
  private var wasSealTried = false

  /// How much longer the guard lasts than the cutover may take, for the seal's own round trip.
  private static let margin = Duration.seconds(5)
  /// For each step once the source is sealed: there is nothing to hurry back to.
  private static let patience = Duration.seconds(600)

  /// - Parameter target: handed over; `close()` closes it.
  init(
    request: CutoverRequest, ends: Cutover.Ends, target: Connection, stages: Cutover.Stages,
    logger: Logger, onStep: @escaping @Sendable (Status.Cutover) -> Void
  ) async throws {
    self.request = request
    self.ends = ends
    source = try await ends.open()
    self.target = target
    self.stages = stages
    machine = CutoverMachine(
      pausesPoolers: stages.poolers != nil, isRehearsal: request.isRehearsal,
      verifies: stages.comparison != nil)
    self.logger = logger
    self.onStep = onStep
    if ends.direction == .back { report.direction = .back }
  }

  /// What keeps the target closed until the source is sealed.
  private var door: Door { ends.direction == .forward ? .ofTarget : .ofSealedSource }
  private func guardian() -> WriteGuard { WriteGuard(source, moving: ends.direction) }

  func close() async {
    await source.close()
    await target.close()
  }

  func begin() async throws -> Status.Cutover { try await run(machine.begin()) }

  func resume(from fence: SourceState.Fence) async throws -> Status.Cutover {
    let isOpen = fence == .sealed ? try await door.isOpen(target) : false
    return try await run(machine.resume(from: fence, targetIsOpen: isOpen))
  }

  private func run(_ first: CutoverMachine.Action) async throws -> Status.Cutover {
    var action = first
    while true {
      switch action {
      case .perform(let step): action = try machine.handle(await perform(step))
      case .complete:
        report.step = "complete"
        report.result = .complete
        return report
      case .rehearsed:
        report.step = "rehearsed"
        report.result = .rehearsed
        return report
      case .aborted(let reason):
        report.step = "aborted"
        report.result = .aborted
        report.reason = reason
        return report
      case .tryAgain(let reason):
        try Task.checkCancellation()
        throw MigrationError(
          .failed, doing: "cutting over behind the seal", reason: reason,
          remedy: "Start the engine again: it goes on where this stopped, and opens the \(ends.direction.to)."
        )
      }
    }
  }

  // MARK: Steps

  private func perform(_ step: CutoverMachine.Step) async -> CutoverMachine.Event {
    report.step = step.rawValue
    onStep(report)
    await Failpoint.reached("before \(step.rawValue)")
    let start = ContinuousClock.now
    if step == .pause || step == .fence { pauseBegan = pauseBegan ?? start }
    var detail = ""
    var event: CutoverMachine.Event
    do {
      (event, detail) = try await act(step)
    } catch is CancellationError {
      event = .failed("the engine was told to stop")
    } catch {
      event = .failed("\(error)")
    }
    if case .failed = event { detail = "failed" }
    note(step.rawValue, start, .now - start, detail)
    await Failpoint.reached("after \(step.rawValue)")
    return event
  }

  private func note(_ step: String, _ start: ContinuousClock.Instant, _ duration: Duration, _ detail: String)
  {
    report.timeline.append(
      Status.TimelineEntry(
        step: step, startSeconds: (start - began) / .seconds(1), seconds: duration / .seconds(1),
        detail: detail))
    logger.info(
      "\(ends.direction == .forward ? "cutover" : "rollback"): \(step)",
      metadata: ["took": "\(duration)", "detail": "\(detail)"])
  }

  private func act(_ step: CutoverMachine.Step) async throws -> (CutoverMachine.Event, String) {
    switch step {
    case .arm: return (.done, try await arm())
    case .pause: return (.done, try await limited(step) { try await self.pausePoolers() })
    case .fence:
      let detail = try await limited(step) { try await self.putUpFence() }
      return (.done, detail)
    case .awaitWriters:
      return (.done, try await limited(step) { try await self.awaitWriters() })
    case .mark: return (.done, try await limited(step) { try await self.mark() })
    case .drain:
      try await limited(step) { try await self.stages.drain(self.nonce, self.deadline) }
      return (.done, "the \(ends.direction.to) has committed the marker")
    case .finalise: return (.done, try await limited(step) { try await self.finalise() })
    case .verify: return (.done, try await limited(step) { try await self.compare() })
    case .seal: return try await sealShielded()
    case .unfence: return await unfenceShielded()
    case .resume: return (.done, try await resumePoolers())
    case .open: return (.done, try await limited(step) { try await self.openTarget() })
    case .switchOver: return (.done, await switchOver())
    }
  }

  /// When the source must be writable again, or sealed.
  private var deadline: ContinuousClock.Instant {
    guard !machine.isSealed, let pauseBegan else { return .now + Self.patience }
    return pauseBegan + .seconds(request.timeoutSeconds)
  }

  /// Ends `body` a little after the deadline: what waits by itself tells better what it waited for.
  private func limited<Value: Sendable>(
    _ step: CutoverMachine.Step, _ body: @escaping @Sendable () async throws -> Value
  ) async throws -> Value {
    let end = deadline + .milliseconds(100)
    return try await withThrowingTaskGroup(of: Value.self) { group in
      group.addTask { try await body() }
      group.addTask {
        try await Task.sleep(until: end, clock: .continuous)
        throw MigrationError(
          .failed, doing: "cutover step \(step.rawValue)", reason: "the time for the cutover ran out",
          remedy: "Try again at a quieter moment, or with a longer --timeout.")
      }
      defer { group.cancelAll() }
      guard let value = try await group.next() else { throw CancellationError() }
      return value
    }
  }

  private func arm() async throws -> String {
    try await checkBudget()
    let writers = Writers(source)
    try await writers.ensureNoSubscriptions(doing: "looking for writers that no fence stops")
    var culprits = try await writers.holding().filter {
      $0.pid == nil || $0.ageSeconds > request.maxPauseSeconds
    }
    if request.terminatesBlockers {
      warnOfEnded(try await writers.terminate(culprits))
      culprits.removeAll { $0.pid != nil }
    }
    guard culprits.isEmpty else {
      throw MigrationError(
        .failed, doing: "looking for transactions that would hold up the cutover",
        reason: "they have written and not ended: \(Writers.list(culprits))", remedy: Writers.remedy(culprits)
      )
    }
    let count = try await guardian().arm(within: .seconds(request.timeoutSeconds)) { blockers in
      guard self.request.terminatesBlockers else { return }
      self.warnOfEnded(try await writers.terminate(blockers))
    }
    let predicted = try await checkBudget()
    return "\(count) tables newly guarded; predicted write pause \(Self.seconds(predicted))"
  }

  @discardableResult
  private func checkBudget() async throws -> Double {
    let action = "predicting the write pause"
    // A stream that has just begun has not measured its lag yet.
    let patience = ContinuousClock.now + .seconds(request.timeoutSeconds)
    var lag = await stages.lag()
    while lag.predictedPauseSeconds == nil, .now < patience {
      try await Task.sleep(for: .milliseconds(50))
      lag = await stages.lag()
    }
    guard let predicted = lag.predictedPauseSeconds else {
      throw MigrationError(
        .failed, doing: action, reason: "the lag is not known yet",
        remedy: "Wait until replicate status says ready.")
    }
    let left = min(request.maxPauseSeconds - predicted, request.unaskedSeconds ?? .infinity)
    let comparing = try await stages.comparison?.predictedSeconds(left) ?? 0
    guard predicted > request.maxPauseSeconds || predicted + comparing <= request.maxPauseSeconds else {
      throw MigrationError(
        .failed, doing: action,
        reason:
          "it would take about \(Self.seconds(predicted + comparing)), \(Self.seconds(comparing)) of it to "
          + "compare both ends (--verify \(request.verification.rawValue)), and --max-pause is "
          + Self.seconds(request.maxPauseSeconds),
        remedy: request.verification == .changed
          ? "Run replicate verify and then cut over at once, allow a longer pause, or give --verify none."
          : "Run replicate verify and give --verify changed, allow a longer pause, or give --verify none.")
    }
    guard predicted <= request.maxPauseSeconds else {
      throw MigrationError(
        .failed, doing: action,
        reason:
          "it would take about \(Self.seconds(predicted)), the \(ends.direction.to) is "
          + "\(lag.bytes) bytes behind, "
          + "and --max-pause is \(Self.seconds(request.maxPauseSeconds))",
        remedy: "Wait until the stream has caught up, or allow a longer pause.")
    }
    return predicted + comparing
  }

  // MARK: Poolers

  private func pausePoolers() async throws -> String {
    let budget = (pauseBegan ?? .now) + .seconds(request.maxPauseSeconds)
    return try await stages.poolers?.pause(min(deadline, budget)) ?? ""
  }

  /// Also for an engine that was told to stop: clients must not go on waiting.
  private func resumePoolers() async throws -> String {
    let stages = stages
    let said = try await Task { try await stages.poolers?.resume() ?? "" }.value
    return "\(said)\(pause())"
  }

  /// A transaction that goes on for half of the pause that is allowed is ended, where that was asked for.
  private func awaitWriters() async throws -> String {
    let writers = Writers(source)
    let patience = request.terminatesBlockers ? Duration.seconds(request.maxPauseSeconds / 2) : nil
    let (count, ended) = try await writers.awaitHolding(until: deadline, terminatingAfter: patience)
    warnOfEnded(ended)
    let words = count == 1 ? "1 transaction was under way" : "\(count) transactions were under way"
    return ended.isEmpty ? words : "\(words), \(ended.count) ended by force"
  }

  private func warnOfEnded(_ writers: [Writer]) {
    guard !writers.isEmpty else { return }
    logger.warning("ended sessions that held up the cutover", metadata: ["who": "\(Writers.list(writers))"])
    report.terminated = (report.terminated ?? []) + writers.map(\.description)
  }

  private func putUpFence() async throws -> String {
    let lifetime = Duration.seconds(request.timeoutSeconds) + Self.margin
    let fence = try await guardian().fence(expiringAfter: lifetime)
    self.fence = fence
    return "expires at \(fence.expiry)"
  }

  private func mark() async throws -> String {
    nonce = "\(UInt64.random(in: 0 ... .max))"
    await stages.expectMarker(nonce)
    let rows = try await source.query(
      "SELECT pg_catalog.pg_logical_emit_message(true, $1, $2) AS lsn", [MessagePrefix.fence, nonce],
      doing: "writing the fence's marker", within: .seconds(15))
    let lsn = try rows.first?.text("lsn") ?? ""
    report.fenceLSN = lsn
    return "nonce \(nonce) at \(lsn)"
  }

  private func finalise() async throws -> String {
    let sequences = try await Sequences.copy(from: source, to: target)
    let tables = try await stages.finaliseTables()
    try await stages.ensureNoBreach()
    return "\(sequences) sequences, \(tables)"
  }

  private func compare() async throws -> String {
    guard let comparison = try await stages.comparison?.compare(report.fenceLSN) else { return "" }
    report.verification = comparison
    guard comparison.result != .different else {
      throw MigrationError(
        .failed, doing: "comparing both ends behind the fence", reason: comparison.summary,
        remedy: "Run replicate verify to see all of it. Something else than the stream wrote to an end.")
    }
    try await stages.ensureNoBreach()
    guard let notice = comparison.notice else { return comparison.summary }
    logger.warning("\(comparison.summary)", metadata: ["why": "\(notice)"])
    return "\(comparison.summary); \(notice)"
  }

  // MARK: The point of no return

  /// Not cancelled half-way: whether the seal was committed must be known.
  private func sealShielded() async throws -> (CutoverMachine.Event, String) {
    try Task.checkCancellation()
    guard let fence else { return (.failed("there is no fence"), "") }
    try await stages.ensureNoBreach()
    guard ContinuousClock.now < deadline else { return (.failed("the time for the cutover ran out"), "") }
    wasSealTried = true
    let guardian = guardian()
    let inTime = try await Task { try await guardian.seal(fence) }.value
    return (
      .sealed(inTime: inTime),
      inTime ? "no way back" : "after the guard may have expired: what was written is drained again"
    )
  }

  /// Tries until it is done or the guard has expired by itself; nothing stops it before.
  private func unfenceShielded() async -> (CutoverMachine.Event, String) {
    await Task { await self.unfence() }.value
  }

  private func unfence() async -> (CutoverMachine.Event, String) {
    let end = fence?.localDeadline ?? .now + .seconds(request.timeoutSeconds) + Self.margin
    while true {
      do {
        try await guardian().unfence()
        // Clients that wait in poolers do so still.
        return (.done, "the \(ends.direction.from) takes writes again\(stages.poolers == nil ? pause() : "")")
      } catch is WriteGuard.Sealed {
        return (.sealed(inTime: false), "the seal had been committed")
      } catch {
        logger.error("could not take down the fence", metadata: ["why": "\(error)"])
        if ContinuousClock.now > end {
          // An unknown seal may stand; without one the guard lets writes pass by now.
          let words = "the \(ends.direction.from) cannot be reached: \(error)"
          return wasSealTried ? (.failed(words), "") : (.done, "\(words); the fence has expired by itself")
        }
        await reconnect()
      }
    }
  }

  private func reconnect() async {
    do {
      try await Task.sleep(for: .milliseconds(200))
      let connection = try await ends.open()
      await source.close()
      source = connection
    } catch {
      logger.error("could not reconnect to the \(ends.direction.from)", metadata: ["why": "\(error)"])
    }
  }

  // MARK: Behind the seal

  private func openTarget() async throws -> String {
    let sequences = await copySequencesAgain()
    let restored = try await stages.restoreTables()
    await warnOfLargeObjects()
    try await door.open(target)
    return "\(sequences)\(restored)\(stages.poolers == nil ? pause() : "")"
  }

  /// Values may have been drawn since, without a write that the fence could refuse. The source is not needed
  /// any more for a complete target, so its loss stops nothing.
  private func copySequencesAgain() async -> String {
    do {
      return "\(try await Sequences.copy(from: source, to: target)) sequences read again"
    } catch {
      logger.warning("sequences could not be read again behind the seal", metadata: ["why": "\(error)"])
      return "sequences stand as they were read behind the fence"
    }
  }

  /// What was committed before the seal has been read again; whoever goes on writes into the old database.
  private func warnOfLargeObjects() async {
    do {
      let writers = try await Writers(source).ofLargeObjects()
      guard !writers.isEmpty else { return }
      logger.warning(
        "large objects are written on the \(ends.direction.from) behind its seal, which moves nowhere",
        metadata: ["who": "\(Writers.list(writers))"])
    } catch {
      logger.warning(
        "it is not known whether large objects are written on the \(ends.direction.from) behind its seal",
        metadata: ["why": "\(error)"])
    }
  }

  private func switchOver() async -> String {
    // Nobody waits for the belt where clients wait in poolers.
    var belt = stages.poolers == nil ? await putOnSecondBelt() : ""
    let events = Cutover.SwitchEvents(
      onStep: { step, duration, detail in await self.note(step, .now - duration, duration, detail) },
      onClientsResumed: { await self.noteClientsResumed() })
    let failure = await stages.switchOver(report.fenceLSN, events)
    report.reason = failure
    if stages.poolers != nil { belt = await putOnSecondBelt() }
    return "\(belt)\(pooledPause)\(pause())\(failure.map { "; \($0)" } ?? "")"
  }

  private func noteClientsResumed() { pooledPause = pause() }

  /// New sessions on the source are told at once what the guard would tell them at their first write.
  private func putOnSecondBelt() async -> String {
    let end = ends.direction.from
    do {
      let rows = try await source.query(
        "SELECT pg_catalog.current_database() AS name", doing: "asking for the \(end)'s name",
        within: .seconds(15))
      let name = SQL.identifier(try rows.first?.text("name") ?? "")
      try await source.query(
        "ALTER DATABASE \(name) SET default_transaction_read_only = on",
        doing: "setting default_transaction_read_only on the \(end)", within: .seconds(15))
      return "default_transaction_read_only is on for new sessions on the \(end)"
    } catch {
      logger.warning(
        "default_transaction_read_only could not be set on the \(end)", metadata: ["why": "\(error)"])
      return "default_transaction_read_only could not be set on the \(end); the guard stands"
    }
  }

  /// Ends the pause that users see, once.
  private func pause() -> String {
    guard let pauseBegan, report.writePauseSeconds == nil else { return "" }
    let seconds = (ContinuousClock.now - pauseBegan) / .seconds(1)
    report.writePauseSeconds = seconds
    return "; writes were stopped for \(Self.seconds(seconds))"
  }

  private static func seconds(_ value: Double) -> String { "\((value * 1000).rounded() / 1000) s" }
}
