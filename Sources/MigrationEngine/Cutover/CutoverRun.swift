import Foundation
import LibPQ
import Logging
import LogicalReplication

/// Performs what the state machine asks for, times it, and writes the timeline. Here `source` is the end that
/// writes leave and `target` the end that they move to: in a rollback the two are exchanged.
actor CutoverRun {
  let request: CutoverRequest
  let ends: Leg.Addresses
  let handover: any Handover
  let logger: Logger
  let onStep: @Sendable (Status.Cutover) -> Void

  /// Nil when it is silent and no longer needed.
  var reachedSource: Connection?
  /// Where it was reached.
  var place: Knock.Place?
  let need: Cutover.Need
  var target: Connection
  var machine: CutoverMachine
  var report = Status.Cutover(step: .begin)
  private var began = ContinuousClock.now
  private var fence: WriteFence.Fence?
  /// Our fence's token, known before it is put up: it may stand although that failed. Nil when another
  /// engine's fence is taken over.
  private var token: String? = WriteFence.newToken()
  /// When the fence was sent to the source, or clients began to wait in poolers: from here on users may have
  /// been refused or made to wait.
  private(set) var pauseBegan: ContinuousClock.Instant?
  /// How long clients waited in poolers, in words.
  var pooledPause = ""
  /// Whose sessions our role may not terminate, and what would let it.
  private var refusal = ""
  private var nonce = ""
  /// The nonce of the marker that the stream expects, before it is written.
  private var announced: String?
  /// What distinguishes large objects written on the source since; nil when it is not known.
  var largeObjectsHorizon: String?
  private var wasSealTried = false
  /// The target has everything from before the seal, and nothing more is applied.
  var isProven = false
  /// Whether something has passed the fence.
  var hasPassed = false
  /// Another engine has continued this cutover: this one must no longer touch it.
  var isForeign = false
  var retryPause = RetryPause(first: .milliseconds(250))

  /// How much longer the fence lasts than the cutover may take, for the seal's own round trip.
  static let margin = Duration.seconds(5)
  /// For each step once the source is sealed: there is nothing to return to.
  private static let patience = Duration.seconds(600)

  /// - Parameter target: handed over; `close()` closes it.
  init(
    _ request: CutoverRequest, of cutover: Cutover, target: Connection, need: Cutover.Need
  ) async throws {
    self.request = request
    ends = cutover.ends
    self.need = need
    self.target = target
    handover = cutover.handover
    machine = CutoverMachine(
      pausesPoolers: handover.poolers != nil, isRehearsal: request.isRehearsal,
      verifies: handover.comparison != nil)
    logger = cutover.logger
    onStep = cutover.onStep
    if ends.direction == .back { report.direction = .back }
    guard need != .lost else { return }
    do {
      try await reachSource()
    } catch  where need == .useful && !Task.isCancelled {
      try await ensureSilence(after: error)
    }
  }

  /// Keeps the target closed until the source is sealed.
  var door: WriteGate { ends.direction == .forward ? .ofTarget : .ofSealedSource }
  private func writeFence() throws -> WriteFence {
    WriteFence(try source, moving: ends.direction, leaving: handover.excluded)
  }

  var source: Connection {
    get throws {
      guard let reachedSource else {
        throw MigrationError(
          .failed, doing: "asking the \(ends.direction.from)", reason: "it cannot be reached")
      }
      return reachedSource
    }
  }

  func close() async {
    await reachedSource?.close()
    await target.close()
  }

  /// - Parameter prelude: what was done before.
  func begin(after prelude: Status.Cutover? = nil) async throws -> Status.Cutover {
    if let prelude { goOn(from: prelude) }
    return try await carryOut(machine.begin())
  }

  /// - Parameter earlier: what the previous engine has stored.
  func resume(from fence: SourceState.Fence, _ earlier: Status.Cutover?) async throws -> Status.Cutover {
    token = nil
    if let earlier { goOn(from: earlier) }
    let isOpen = fence == .sealed ? try await door.isOpen(target) : false
    return try await carryOut(
      machine.resume(from: fence, targetIsOpen: isOpen, isDrained: earlier?.seal == .stands))
  }

  /// Keeps what was already reported of the cutover; no clock measured the time between two engines.
  private func goOn(from earlier: Status.Cutover) {
    report = earlier
    report.result = nil
    report.reason = nil
    let past = earlier.timeline.map { $0.startSeconds + $0.seconds }.max() ?? 0
    began = .now - .seconds(past)
    guard earlier.writePauseSeconds == nil, let stoppedAt = earlier.stoppedAt else { return }
    pauseBegan = .now - .seconds(max(0, Date().timeIntervalSince1970 - stoppedAt))
  }

  private func carryOut(_ first: CutoverMachine.Action) async throws -> Status.Cutover {
    var action = first
    while true {
      switch action {
      case .perform(let step): action = try machine.handle(await perform(step))
      case .complete:
        report.step = .complete
        report.result = .complete
        return report
      case .rehearsed:
        report.step = .rehearsed
        report.seal = .none
        report.result = .rehearsed
        return report
      case .aborted(let reason):
        report.step = .aborted
        report.seal = .none
        report.result = .aborted
        report.reason = reason + refusal
        return report
      case .tryAgain(let reason): action = try await again(after: reason)
      }
    }
  }

  // MARK: Steps

  private func perform(_ step: CutoverMachine.Step) async -> CutoverMachine.Event {
    report.step = step.reported
    // The reason for a retry stays in the report until the step is done.
    if step == .switchOver { report.reason = nil }
    onStep(report)
    await Failpoint.reached("before \(step.rawValue)")
    let start = ContinuousClock.now
    if step == .pause || step == .fence, pauseBegan == nil {
      pauseBegan = start
      report.stoppedAt = Date().timeIntervalSince1970
    }
    var detail = ""
    var event: CutoverMachine.Event
    do {
      (event, detail) = try await act(step)
    } catch is CancellationError {
      event = .failed("the engine was asked to stop")
    } catch {
      event = .failed("\(error)")
    }
    if case .failed = event { detail = "failed" }
    note(step.rawValue, start, .now - start, detail)
    if step == .open, event == .done { await recordOpening() }
    await Failpoint.reached("after \(step.rawValue)")
    return event
  }

  func note(_ step: String, _ start: ContinuousClock.Instant, _ duration: Duration, _ detail: String) {
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
      try await limited(step) { try await self.handover.drain(self.nonce, until: self.deadline) }
      return (.done, "the \(ends.direction.to) has committed the marker")
    case .finalise: return (.done, try await limited(step) { try await self.finalise() })
    case .verify: return (.done, try await limited(step) { try await self.compare() })
    case .examine:
      try await limited(step) { try await self.examine() }
      return (.done, "nothing would keep the \(ends.direction.from) from being sealed")
    case .seal: return try await sealShielded()
    case .unfence: return await unfenceShielded()
    case .resume: return (.done, try await resumePoolers())
    case .open: return (.done, try await limited(step) { try await self.openTarget() })
    case .switchOver: return (.done, await switchOver())
    }
  }

  /// By when the source must be writable again, or sealed.
  var deadline: ContinuousClock.Instant {
    guard !machine.isSealed, let pauseBegan else { return .now + Self.patience }
    return pauseBegan + .seconds(request.limitSeconds)
  }

  private var outOfTime: String {
    "the time for the cutover ran out (\(request.limitName) \(Self.seconds(request.limitSeconds)))"
  }

  /// Ends `body` a little after the deadline: a body with its own limit reports better what it waited for.
  /// Before the seal a body that waits for a silent server is abandoned, since users wait. Not where the
  /// action must end before it is undone: a pause of poolers, and the fence.
  private func limited<Value: Sendable>(
    _ step: CutoverMachine.Step, _ body: @escaping @Sendable () async throws -> Value
  ) async throws -> Value {
    let end = deadline + .milliseconds(100)
    let error = MigrationError(
      .failed, doing: "cutover step \(step.rawValue)", reason: outOfTime,
      remedy: "Try again at a quieter moment, or with a longer \(request.limitName).")
    guard !machine.isSealed, ![.pause, .fence].contains(step) else {
      return try await TimeLimit.cancelling(until: end, or: error, body)
    }
    return try await TimeLimit.abandoning(until: end, or: error, body)
  }

  private func arm() async throws -> String {
    _ = try await predictedPause()
    let writers = Writers(try source)
    let action = "looking for writers that no fence stops"
    try await writers.ensureNoReplicators(doing: action)
    try await writers.ensureNoOrigins(await handover.origins(), doing: action)
    var culprits = try await writers.holding().filter {
      $0.pid == nil || $0.ageSeconds > request.maxPauseSeconds
    }
    if request.terminatesBlockers {
      if let remedy = try await writers.missingPermission() {
        logger.warning("not every session could be terminated", metadata: ["remedy": "\(remedy)"])
      }
      let termination = try await writers.terminate(culprits)
      note(termination)
      culprits.removeAll { $0.pid != nil && !termination.refused.contains($0) }
    }
    guard culprits.isEmpty else {
      throw MigrationError(
        .failed, doing: "looking for transactions that would hold up the cutover",
        reason: "they have written and are still open: \(Writers.list(culprits))",
        remedy: Writers.remedy(culprits)
      )
    }
    let count = try await writeFence().arm(within: .seconds(request.timeoutSeconds)) { blockers in
      guard self.request.terminatesBlockers else { return }
      self.note(try await writers.terminate(blockers))
    }
    try await meetObjects()
    for warning in try await handover.ensureSchemas() { warn(warning) }
    let predicted = try await predictedPause()
    return "\(count) tables newly guarded; predicted write pause \(Self.seconds(predicted))"
  }

  /// A session is slow the first time it uses an object, and after the fence users wait for it. The target is
  /// closed, and gets the sequences' states again.
  private func meetObjects() async throws {
    try await Sequences.copy(from: source, to: target, without: handover.excluded)
    let writers = Writers(try source)
    _ = try await writers.ofDefinitions()
    _ = try await writers.ofUnfenced()
    _ = try await writers.pastGuard()
    try await door.prepare(target)
  }

  // MARK: Poolers

  /// Also for an engine that was asked to stop: clients must not keep waiting.
  private func resumePoolers() async throws -> String {
    let handover = handover
    let said = try await Task { try await handover.poolers?.resume() ?? "" }.value
    return "\(said)\(pause())"
  }

  /// A transaction that takes half of the allowed pause is terminated, if that was requested.
  private func awaitWriters() async throws -> String {
    let writers = Writers(try source)
    let patience = request.terminatesBlockers ? Duration.seconds(request.maxPauseSeconds / 2) : nil
    let (count, ended) = try await writers.awaitHolding(
      until: deadline, terminatingAfter: patience, onTermination: { self.note($0) })
    let words = count == 1 ? "1 transaction was under way" : "\(count) transactions were under way"
    return ended.isEmpty ? words : "\(words), \(ended.count) ended by force"
  }

  func note(_ termination: Writers.Termination) {
    if let remedy = termination.remedy {
      let who = Writers.list(termination.refused)
      logger.warning("may not end sessions that hold up the cutover", metadata: ["who": "\(who)"])
      refusal = "\n  --terminate-blockers: our role may not end \(who); \(remedy)"
    }
    guard !termination.ended.isEmpty else { return }
    let who = Writers.list(termination.ended)
    logger.warning("ended sessions that held up the cutover", metadata: ["who": "\(who)"])
    report.terminated = (report.terminated ?? []) + termination.ended.map(\.description)
  }

  private func putUpFence() async throws -> String {
    _ = await announceMarker()
    let lifetime = Duration.seconds(request.limitSeconds) + Self.margin
    let fence = try await writeFence().fence(
      expiringAfter: lifetime, token: token ?? WriteFence.newToken())
    self.fence = fence
    return "expires at \(fence.expiry)"
  }

  /// A stream that expects the marker reads without pausing, from before the fence.
  private func announceMarker() async -> String {
    let nonce = announced ?? "\(UInt64.random(in: 0 ... .max))"
    announced = nonce
    await handover.expectMarker(nonce, for: machine.isSealed ? .seal : .fence)
    return nonce
  }

  private func mark() async throws -> String {
    nonce = await announceMarker()
    announced = nil
    let lsn = try await source.emit(
      MessagePrefix.fence, nonce, noting: handover.messages, doing: "writing the fence's marker",
      within: .seconds(15))
    report.fenceLSN = lsn
    return "nonce \(nonce) at \(lsn)"
  }

  private func finalise() async throws -> String {
    async let sequences = Sequences.copy(from: source, to: target, without: handover.excluded)
    async let tables = handover.finaliseTables()
    let detail = try await "\(sequences) sequences, \(tables)"
    try await handover.ensureNoBreach()
    return detail
  }

  private func compare() async throws -> String {
    guard let comparison = try await handover.comparison?.compare(at: report.fenceLSN) else { return "" }
    report.verification = comparison
    guard comparison.result != .different else {
      throw MigrationError(
        .failed, doing: "comparing both ends after the fence", reason: comparison.summary,
        remedy: "Run replicate verify to see all of it. Something other than the stream wrote to an end.")
    }
    try await handover.ensureNoBreach()
    guard let notice = comparison.notice else { return comparison.summary }
    logger.warning("\(comparison.summary)", metadata: ["why": "\(notice)"])
    return "\(comparison.summary); \(notice)"
  }

  // MARK: The point of no return

  /// Not cancelled halfway: whether the seal was committed must be known.
  private func sealShielded() async throws -> (CutoverMachine.Event, String) {
    try Task.checkCancellation()
    guard let fence else { return (.failed("there is no fence"), "") }
    try await handover.ensureNoBreach()
    // If this engine dies at the seal, the next one knows that the target has everything.
    report.seal = .announced
    let announcement = report
    try await limited(.seal) { try await self.handover.record(announcement) }
    await Failpoint.reached("seal announced")
    guard ContinuousClock.now < deadline else { return (.failed(outOfTime), "") }
    wasSealTried = true
    let writeFence = try writeFence()
    let inTime = try await Task { try await writeFence.seal(fence) }.value
    return (
      .sealed(inTime: inTime),
      inTime ? "no way back" : "after the fence may have expired: draining what was written"
    )
  }

  /// Retries until it is done or the fence has expired; nothing stops it before.
  private func unfenceShielded() async -> (CutoverMachine.Event, String) {
    await Task { await self.unfence() }.value
  }

  private func unfence() async -> (CutoverMachine.Event, String) {
    let end = fence?.localDeadline ?? .now + .seconds(request.limitSeconds) + Self.margin
    while true {
      do {
        try await writeFence().unfence(token)
        // Clients in poolers are still waiting.
        return (
          .done, "the \(ends.direction.from) takes writes again\(handover.poolers == nil ? pause() : "")"
        )
      } catch let sealed as WriteFence.Sealed {
        guard sealed.isOurs || token == nil else {
          isForeign = true
          return (.failed("another engine has sealed the \(ends.direction.from)"), "")
        }
        return (.sealed(inTime: false), "the seal had been committed")
      } catch {
        logger.error("could not take down the fence", metadata: ["why": "\(error)"])
        if ContinuousClock.now > end {
          // If a seal was tried, it may stand; otherwise the fence has expired by now and lets writes pass.
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
      try await reachSource()
    } catch {
      logger.error("could not reconnect to the \(ends.direction.from)", metadata: ["why": "\(error)"])
    }
  }

  /// Checks what the seal would refuse.
  private func examine() async throws {
    guard let fence else { return }
    try await handover.ensureNoBreach()
    try await writeFence().examine(fence)
  }

  /// Ends the users' pause, once.
  func pause() -> String {
    guard let pauseBegan, report.writePauseSeconds == nil else { return "" }
    let seconds = (ContinuousClock.now - pauseBegan) / .seconds(1)
    report.writePauseSeconds = seconds
    return "; writes were stopped for \(Self.seconds(seconds))"
  }

  static func seconds(_ value: Double) -> String { "\((value * 1000).rounded() / 1000) s" }
}
