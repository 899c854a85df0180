import LibPQ
import Logging

/// What passes a fence: an extension's apply worker writes rows without firing triggers. Known writers of
/// this kind refuse the fence and the seal. What unknown ones wrote before the seal is carried over after it;
/// what comes later stays, and is reported.
extension CutoverRun {
  /// How long to wait until the end that opens has what came before the seal. Usually that is nothing, and
  /// takes milliseconds.
  private static let proofPatience = Duration.seconds(5)
  /// How long to wait for a transaction that is writing past the fence.
  private static let passerPatience = Duration.milliseconds(500)

  /// Writes a second marker after the seal, and waits for it: then everything committed before the seal is on
  /// the target, whatever wrote it. From here on nothing more is applied.
  /// - Returns: what to report, ending with a comma; empty where the source is lost.
  func proveAgain() async throws -> String {
    guard !isProven else { return "" }
    let began = ContinuousClock.now
    let isMarked = try await markAgain()
    let passed = try await handover.hold(until: .now + Self.proofPatience)
    isProven = true
    if let passed {
      hasPassed = true
      warn(
        "changes passed the fence of the \(ends.direction.from) after the fence's marker, and were brought "
          + "over: \(passed). What wrote them may continue, and what it writes now stays there: "
          + "look for what replicates into the \(ends.direction.from)")
    }
    guard isMarked else { return "" }
    return "drained again in \(Self.seconds((ContinuousClock.now - began) / .seconds(1))), "
  }

  /// - Returns: whether the target has committed the second marker.
  private func markAgain() async throws -> Bool {
    guard reachedSource != nil else { return false }
    do {
      try await writeAndAwaitMarker()
      return true
    } catch let loss as PostgresError where loss.isConnectionLoss {
      logger.warning("lost the \(ends.direction.from) after its seal", metadata: ["why": "\(loss)"])
      try await reachSourceOrForgetIt()
    } catch is CancellationError {
      throw CancellationError()
    } catch {
      return reportUnproven(error)
    }
    guard reachedSource != nil else { return false }
    do {
      try await writeAndAwaitMarker()
      return true
    } catch let error as MigrationError {
      return reportUnproven(error)
    }
  }

  /// Nothing is refused after the seal. The first marker has proven that the target has all ordinary writes.
  private func reportUnproven(_ error: any Error) -> Bool {
    warn(
      "it is not known whether anything passed the fence of the \(ends.direction.from) between the fence's "
        + "marker and its seal: \(error)")
    return false
  }

  private func writeAndAwaitMarker() async throws {
    let source = try source
    try await awaitPassers(source)
    let nonce = "\(UInt64.random(in: 0 ... .max))"
    await handover.expectMarker(nonce, for: .again)
    try await source.emit(
      MessagePrefix.fence, nonce, noting: handover.messages,
      doing: "writing a marker after the seal", within: .seconds(5))
    try await handover.drain(nonce, until: .now + Self.proofPatience)
  }

  /// Their commits must come before the marker.
  private func awaitPassers(_ source: Connection) async throws {
    let deadline = ContinuousClock.now + Self.passerPatience
    while true {
      let writers = try await Writers(source).pastGuard()
      if writers.isEmpty { return }
      guard ContinuousClock.now < deadline else {
        hasPassed = true
        return warn(
          "transactions were writing past the fence of the \(ends.direction.from) when it was sealed, and "
            + "what they commit stays there: \(Writers.list(writers))")
      }
      try await Task.sleep(for: .milliseconds(10))
    }
  }

  /// How long to watch, after the switch, whether writes that passed the fence continue.
  private static let lookPatience = Duration.seconds(3)

  /// Called when nobody waits any more.
  /// - Returns: what was written after the seal and is only on the old end, so that somebody must act.
  func lookForWhatStays() async -> String? {
    let deadline = ContinuousClock.now + (hasPassed ? Self.lookPatience : .zero)
    while true {
      if let left = await handover.leftBehind() {
        let what =
          "changes were committed on the \(ends.direction.from) after its seal, and are not on the "
          + "\(ends.direction.to): \(left)"
        warn("\(what). Something replicates into the \(ends.direction.from), and no fence stops it")
        return "\(what). Stop what writes them, and copy them by hand"
      }
      guard ContinuousClock.now < deadline else { return nil }
      do { try await Task.sleep(for: .milliseconds(100)) } catch { return nil }
    }
  }
}
