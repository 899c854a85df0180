import LogicalReplication
import Synchronization

/// The state of the stream: written by its tasks, read by the status, the catch-up monitor and the drain.
final class StreamMonitor: Sendable {
  struct Reading: Sendable {
    var feedback: Feedback
    var transactions: Int64
    var changes: Int64
    var lag: Duration?
    /// What people must do before the stream can continue.
    var waitsFor: String?
    /// The same without what is missing because the target's server refused it, and without what passes.
    var obstacle: String?
    /// What the stream waits for that ends without help: tables that join, for example.
    var passing: String?
  }

  /// The state of a marker that a cutover waits for.
  enum Marker: Sendable, Equatable {
    case expected
    /// The target has committed the transaction that carries it.
    case committed
    /// A change came after it although the fence stood: nothing is proven.
    case breached
  }

  private struct State {
    var feedback: Feedback
    var transactions: Int64
    var changes: Int64
    var waitsFor: String?
    var obstacle: String?
    var passing: String?
    var unseen: String?
    var missing: String?
    var stuck: String?
    var watched: Set<UInt32> = []
    var changed: Set<UInt32> = []
    var keptOut: String?
    var lagMeter: LagMeter
    var offset = PositionOffset()
    var awaited: (nonce: String, marker: Marker, purpose: MarkerPurpose)?
    /// What was applied after the fence's marker.
    var passed = Passed()
    /// What arrived after applying stopped.
    var leftBehind = Passed()
    var isHeld = false
    var isApplying = false
    /// When the last change of each replication origin came.
    var origins: [String: ContinuousClock.Instant] = [:]
    var tables: Set<UInt32> = []

    /// All of them, since one may have to be solved before the other.
    var waits: String? {
      let all = [waitsFor, stuck, obstacle, passing, missing, keptOut].compactMap { $0 }
      return all.isEmpty ? unseen : all.joined(separator: "\n")
    }
    var obstacles: String? {
      let all = [waitsFor, stuck, obstacle, keptOut].compactMap { $0 }
      return all.isEmpty ? unseen : all.joined(separator: "\n")
    }
  }

  /// Tables that were changed although a fence stood, and the replication origins that did it.
  struct Passed: Sendable, Equatable {
    var tables: Set<String> = []
    var origins: Set<String> = []

    var isEmpty: Bool { tables.isEmpty }

    fileprivate mutating func add(_ other: Set<String>, _ origins: Set<String>) {
      guard !other.isEmpty else { return }
      tables.formUnion(other)
      self.origins.formUnion(origins)
    }

    /// `"public"."t", by replication origin 'pgl_x'`.
    var words: String {
      let by = origins.sorted().map { "\(SQL.literal($0))" }.joined(separator: ", ")
      return tables.sorted().joined(separator: ", ") + (by.isEmpty ? "" : ", by replication origin \(by)")
    }
  }

  /// What a chunk changed after a marker.
  struct Passage: Sendable {
    /// Before another marker in the same chunk.
    var between: Set<String>
    /// After the last one.
    var after: Set<String>
    var origins: Set<String>
  }

  private let state: Mutex<State>
  /// Up to where changes may be applied.
  let bound = ApplyLimit()
  /// Ours, of a source that does not send them.
  let messages = SentMessages()
  /// Which rows were touched since both ends were compared.
  let touched = ChangedRowTracker()

  init(feedback: Feedback, transactions: Int64, changes: Int64, firstBeat: UInt64) {
    state = Mutex(
      State(
        feedback: feedback, transactions: transactions, changes: changes,
        lagMeter: LagMeter(first: firstBeat)))
  }

  /// For a stream that continues from stored progress. What an earlier run confirmed says nothing about the
  /// source that this one will find.
  convenience init(resuming progress: StoredProgress) {
    self.init(
      feedback: Feedback(appliedLSN: progress.appliedLSN, confirmedLSN: progress.appliedLSN),
      transactions: progress.transactions, changes: progress.changes,
      // Beats of an earlier engine may still be in the WAL.
      firstBeat: UInt64.random(in: 0...UInt64(UInt32.max)) << 24)
  }

  var reading: Reading {
    state.withLock {
      Reading(
        feedback: $0.feedback, transactions: $0.transactions, changes: $0.changes,
        lag: $0.lagMeter.lag(at: .now), waitsFor: $0.waits, obstacle: $0.obstacles,
        passing: $0.passing)
    }
  }

  func nextBeat() -> UInt64 { state.withLock { $0.lagMeter.beat(at: .now) } }

  /// - Parameter lsn: as the server's function told it.
  func wrote(_ beat: UInt64, at lsn: LSN) { state.withLock { $0.offset.wrote(beat, at: lsn) } }
  /// Where in the stream lies what a function of the server tells.
  func streamed(_ lsn: LSN) -> LSN { state.withLock { $0.offset.streamed(lsn) } }

  // MARK: One LSN

  /// Whether everything that commits before `lsn` is applied, while the limit is fixed there.
  func hasReachedBound(at lsn: LSN) -> Bool { bound.isReached || feedback.confirmableLSN >= lsn }

  // MARK: The drain

  func expectMarker(_ nonce: String, for purpose: MarkerPurpose = .fence) {
    state.withLock {
      $0.awaited = (nonce, .expected, purpose)
      if purpose != .again { $0.passed = Passed() }
    }
  }
  func forgetMarker() { state.withLock { $0.awaited = nil } }
  func marker(_ nonce: String) -> Marker? {
    state.withLock { $0.awaited.flatMap { $0.nonce == nonce ? $0.marker : nil } }
  }

  /// Something waits for the stream to reach a marker or a limit.
  var isAwaited: Bool { bound.isFixed || state.withLock { $0.awaited?.marker == .expected } }

  var isBreached: Bool { state.withLock { $0.awaited?.marker == .breached } }

  /// Whether an awaited marker is on the target: later changes have passed a fence.
  var isBehindMarker: Bool {
    state.withLock { state in state.awaited.map { $0.purpose == .again || $0.marker != .expected } ?? false }
  }

  /// What has been applied after the fence's marker.
  var passed: Passed { state.withLock { $0.passed } }
  /// What has arrived since applying stopped.
  var leftBehind: Passed { state.withLock { $0.leftBehind } }

  /// Stops applying for good: the end that changes go to is about to open.
  func hold() { state.withLock { $0.isHeld = true } }
  /// Whether a chunk begun earlier is still being applied.
  var isApplying: Bool { state.withLock { $0.isApplying } }

  /// The replication origins of changes in the stream, and how long ago the last of each came.
  var origins: [(name: String, age: Duration)] {
    let now = ContinuousClock.now
    return state.withLock { $0.origins.map { ($0.key, now - $0.value) } }.sorted { $0.0 < $1.0 }
  }

  // MARK: The stream's own side

  func waits(for what: String?) { state.withLock { $0.waitsFor = what } }
  /// A change refers to something that the target lacks; it waits until something is committed.
  /// - Returns: whether that is news.
  func isStuck(at what: String) -> Bool {
    state.withLock { state in
      defer { state.stuck = what }
      return state.stuck != what
    }
  }
  /// What keeps tables created on the source from joining.
  /// - Returns: whether that is news.
  func isHeldUp(by obstacle: String?) -> Bool {
    state.withLock { state in
      defer { state.obstacle = obstacle }
      return state.obstacle != obstacle
    }
  }

  /// Something is under way that ends without help, before which neither a cutover nor a comparison begins.
  func passes(_ what: String?) { state.withLock { $0.passing = what } }

  /// The parts of the schema that the target refused.
  func misses(_ words: String?) { state.withLock { $0.missing = words } }

  /// Watches for changes of these tables, by their OIDs.
  func watch(_ tables: Set<UInt32>) {
    state.withLock { state in
      state.watched = tables
      state.changed.formIntersection(tables)
    }
  }
  /// Those of them that got changes since the last call.
  func takeChanged() -> Set<UInt32> {
    state.withLock { state in
      defer { state.changed = [] }
      return state.changed
    }
  }

  /// Why the source's position cannot be read; nil: it can.
  /// - Returns: whether that is news.
  func isUnseen(_ reason: String?) -> Bool {
    state.withLock { state in
      defer { state.unseen = reason }
      return state.unseen != reason
    }
  }

  /// Why an end refuses a session that the stream needs; nil: it does not.
  /// - Returns: whether that is news.
  @discardableResult
  func isKeptOut(_ reason: String?) -> Bool {
    state.withLock { state in
      defer { state.keptOut = reason }
      return state.keptOut != reason
    }
  }

  /// A run of the stream begins. What was known about the source may belong to another one.
  func resume(_ progress: StoredProgress, from start: StreamStart) {
    state.withLock { state in
      state.feedback = Feedback(appliedLSN: start.appliedLSN, confirmedLSN: start.confirmedLSN)
      state.transactions = progress.transactions
      state.changes = progress.changes
    }
  }

  /// The OIDs of the tables whose changes are applied.
  var tables: Set<UInt32> { state.withLock { $0.tables } }
  func applies(to tables: Set<UInt32>) { state.withLock { $0.tables = tables } }

  func received(upTo lsn: LSN) { state.withLock { $0.feedback.received(upTo: lsn) } }

  /// The target has committed a part of a chunk.
  func committed(_ point: ChunkPlan.CommitPoint) {
    state.withLock { state in
      state.feedback.committed(upTo: point.endLSN)
      state.stuck = nil
      state.transactions += point.transactions
      state.changes += point.changes
      if let awaited = state.awaited, awaited.nonce == point.marker, awaited.marker == .expected {
        state.awaited?.marker = .committed
      }
    }
  }

  /// A change came after the last marker of the stream. After the seal it is only recorded.
  func breached() {
    state.withLock { state in
      guard let awaited = state.awaited, awaited.marker == .committed, awaited.purpose == .fence else {
        return
      }
      state.awaited?.marker = .breached
    }
  }

  /// - Returns: false when applying has stopped.
  func beginApplying() -> Bool {
    state.withLock { state in
      state.isApplying = !state.isHeld
      return state.isApplying
    }
  }

  func endApplying() { state.withLock { $0.isApplying = false } }

  /// What a chunk changed, just before its commit.
  /// - Parameter marker: the newest in it.
  func passing(_ passage: Passage, marker: String?) {
    state.withLock { state in
      guard let awaited = state.awaited else { return }
      if marker == awaited.nonce, awaited.purpose != .again {
        state.passed = Passed()
      } else if awaited.purpose == .again || awaited.marker != .expected {
        state.passed.add(passage.between, passage.origins)
      } else {
        return
      }
      state.passed.add(passage.after, passage.origins)
    }
  }

  func leftBehind(_ passage: Passage) {
    state.withLock { $0.leftBehind.add(passage.between.union(passage.after), passage.origins) }
  }

  /// How many origins are kept.
  private static let originLimit = 100

  /// - Returns: whether it is new.
  func saw(origin: String) -> Bool {
    state.withLock { state in
      let isNew = state.origins[origin] == nil
      if isNew, state.origins.count >= Self.originLimit,
        let oldest = state.origins.min(by: { $0.value < $1.value })
      {
        state.origins[oldest.key] = nil
      }
      state.origins[origin] = .now
      return isNew
    }
  }

  /// A chunk is completely applied.
  func finished(_ plan: ChunkPlan) {
    let now = ContinuousClock.now
    state.withLock { state in
      // An open transaction began after everything that could be idle.
      state.feedback.idle(upTo: plan.idleLSN)
      if !state.watched.isEmpty {
        let ids = plan.changedBetweenMarkers.ids.union(plan.changedAfterMarker.ids)
        state.changed.formUnion(ids.intersection(state.watched))
      }
      for beat in plan.heartbeats {
        state.lagMeter.applied(beat.number, at: now)
        state.offset.came(beat.number, at: beat.lsn)
      }
    }
  }

  var feedback: Feedback { state.withLock { $0.feedback } }
  func stored(_ lsn: LSN) { state.withLock { $0.feedback.stored(lsn) } }
}
