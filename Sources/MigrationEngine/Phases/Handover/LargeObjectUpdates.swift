import LibPQ
import Logging

/// Changes to large objects since they were copied, which the stream does not carry.
struct LargeObjectUpdates: Sendable {
  let leg: Leg
  let options: MigrationOptions
  let store: StateStore
  let logger: Logger

  /// Copies them.
  /// - Parameter observer: a session on the end that changes come from; nil: the leg's own.
  /// - Returns: how many have changed.
  @discardableResult
  func bringOver(observer: Connection? = nil) async throws -> Int {
    guard let horizon = try await horizon() else { return 0 }
    var exist = try await LargeObjects.exist(on: observer ?? leg.from.connection)
    // The last of them may be gone.
    if !exist { exist = try await LargeObjects.exist(on: leg.to.connection) }
    guard exist else { return 0 }
    let snapshot = try await ExportedSnapshot.current(on: leg.from.address, leg.direction)
    return try await finally(snapshot.release) {
      let outcome = try await LargeObjects(
        source: leg.from.address, target: leg.to.address, workers: options.jobs, rateLimit: nil
      ).copy(under: snapshot, since: horizon)
      switch leg.direction {
      case .forward: try await store.store(largeObjectsHorizon: outcome.horizon)
      case .back: try await store.store(reverseHorizon: outcome.horizon)
      }
      if outcome.changed > 0 { logger.info("large objects", metadata: ["changed": "\(outcome.changed)"]) }
      return outcome.changed
    }
  }

  /// Nil where they were excluded: they are not on the target, and the source keeps its own. Read during the
  /// write pause, so nothing is read twice.
  private func horizon() async throws -> String? {
    switch leg.direction {
    case .forward: options.leavesLargeObjectsBehind ? nil : try await store.load()?.largeObjectsHorizon
    case .back:
      try await store.carriesLargeObjects(options)
        ? try await store.reverseReplication()?.largeObjectsHorizon : nil
    }
  }

  /// Large objects written after the fence, which does not stop such writes, are copied once more after the
  /// seal. The loss of the end that was left does not stop the cutover.
  /// - Returns: what was done, for the timeline; empty when there was nothing to do.
  func bringOverAgain() async throws -> String {
    let changed = try await Silence.reading(leg.from.address, end: leg.direction.from) {
      try await bringOver(observer: $0)
    }
    guard let changed else {
      logger.warning("large objects could not be read again after the seal")
      return ", large objects as they were after the fence"
    }
    return changed == 0 ? "" : ", \(changed) large objects again"
  }
}
