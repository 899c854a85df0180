package import LogicalReplication
import Synchronization

/// Where the stream stands: written by its tasks, read by the status, the catch-up monitor and the drain.
package final class StreamMonitor: Sendable {
  package struct Reading: Sendable {
    package var feedback: Feedback
    package var transactions: Int64
    package var changes: Int64
    package var lag: Duration?
    /// What people must do before the stream can go on.
    package var waitsFor: String?
  }

  /// How a marker fares that a cutover waits for.
  package enum Marker: Sendable, Equatable {
    case expected
    /// The target has committed the transaction that carries it.
    case committed
    /// A change came after it, though the fence stood: nothing is proven.
    case breached
  }

  private struct State {
    var feedback: Feedback
    var transactions: Int64
    var changes: Int64
    var waitsFor: String?
    var obstacle: String?
    var lagMeter: LagMeter
    var awaited: (nonce: String, marker: Marker)?
  }

  private let state: Mutex<State>
  /// Up to where changes may be applied.
  package let bound = StreamBound()
  /// Which rows were touched since both ends were compared.
  package let touched = TouchMemory()

  package init(feedback: Feedback, transactions: Int64, changes: Int64, firstBeat: UInt64) {
    state = Mutex(
      State(
        feedback: feedback, transactions: transactions, changes: changes,
        lagMeter: LagMeter(first: firstBeat)))
  }

  /// For a stream that goes on from where an end stands. What was confirmed to another run says nothing of
  /// the source that this one will meet.
  package convenience init(resuming progress: StoredProgress) {
    self.init(
      feedback: Feedback(appliedLSN: progress.appliedLSN, confirmedLSN: progress.appliedLSN),
      transactions: progress.transactions, changes: progress.changes,
      // Beats of an earlier engine may still be in the WAL.
      firstBeat: UInt64.random(in: 0...UInt64(UInt32.max)) << 24)
  }

  package var reading: Reading {
    state.withLock {
      Reading(
        feedback: $0.feedback, transactions: $0.transactions, changes: $0.changes,
        lag: $0.lagMeter.lag(at: .now), waitsFor: $0.waitsFor ?? $0.obstacle)
    }
  }

  package func nextBeat() -> UInt64 { state.withLock { $0.lagMeter.beat(at: .now) } }

  // MARK: One LSN

  /// Whether everything that commits before `lsn` is applied, while the bound is fixed there.
  package func hasReachedBound(at lsn: LSN) -> Bool { bound.isReached || feedback.confirmableLSN >= lsn }

  // MARK: The drain

  package func expectMarker(_ nonce: String) { state.withLock { $0.awaited = (nonce, .expected) } }
  package func forgetMarker() { state.withLock { $0.awaited = nil } }
  package func marker(_ nonce: String) -> Marker? {
    state.withLock { $0.awaited.flatMap { $0.nonce == nonce ? $0.marker : nil } }
  }

  /// Somebody waits for the stream to come to a marker or a bound.
  var isAwaited: Bool { bound.isFixed || state.withLock { $0.awaited?.marker == .expected } }

  package var isBreached: Bool { state.withLock { $0.awaited?.marker == .breached } }

  /// The target has the marker that is waited for: whatever is applied now lies behind it.
  var isBehindMarker: Bool {
    state.withLock { $0.awaited?.marker == .committed || $0.awaited?.marker == .breached }
  }

  // MARK: The stream's own side

  func waits(for what: String?) { state.withLock { $0.waitsFor = what } }
  /// What keeps tables from joining that were created on the source.
  /// - Returns: whether that is news.
  package func isHeldUp(by obstacle: String?) -> Bool {
    state.withLock { state in
      defer { state.obstacle = obstacle }
      return state.obstacle != obstacle
    }
  }

  /// A run of the stream begins. What was known of the source may have been of another one.
  func resume(_ progress: StoredProgress, from start: StreamStart) {
    state.withLock { state in
      state.feedback = Feedback(appliedLSN: start.appliedLSN, confirmedLSN: start.confirmedLSN)
      state.transactions = progress.transactions
      state.changes = progress.changes
    }
  }

  func received(upTo lsn: LSN) { state.withLock { $0.feedback.received(upTo: lsn) } }

  /// The target has committed a part of a chunk.
  func committed(_ point: ChunkPlan.CommitPoint) {
    state.withLock { state in
      state.feedback.committed(upTo: point.endLSN)
      state.transactions += point.transactions
      state.changes += point.changes
      if let awaited = state.awaited, awaited.nonce == point.marker, awaited.marker == .expected {
        state.awaited?.marker = .committed
      }
    }
  }

  /// A change came after the last marker of the stream.
  func breached() {
    state.withLock { state in
      if state.awaited?.marker == .committed { state.awaited?.marker = .breached }
    }
  }

  /// A chunk is done to its end.
  func finished(_ plan: ChunkPlan) {
    let now = ContinuousClock.now
    state.withLock { state in
      // A transaction that is still open began after everything that could be idle.
      state.feedback.idle(upTo: plan.idleLSN)
      for beat in plan.heartbeats { state.lagMeter.applied(beat, at: now) }
    }
  }

  var feedback: Feedback { state.withLock { $0.feedback } }
  func stored(_ lsn: LSN) { state.withLock { $0.feedback.stored(lsn) } }
}
