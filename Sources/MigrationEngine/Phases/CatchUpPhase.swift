import LibPQ
import Logging
import LogicalReplication

/// The stream is applied until all tables are at one LSN; then foreign keys, triggers and the rest of the
/// schema are created.
struct CatchUpPhase: PhasePart {
  let context: PhaseContext
  let restoration: SchemaRestoration
  let newTables: NewTables
  let refused: RefusedTables
  let session: (stream: StreamSession, monitor: StreamMonitor)

  func catchUp() async throws {
    try await settle()
    // Now all tables are at one LSN, and foreign keys can hold.
    try await restoration.restore(.constraints)
    try await FullIdentity.setWherePublished(on: ends.target)
    for refusal in try await restoration.schema.restorePublicSchema(
      from: try await restoration.archive.file(), source: ends.source)
    {
      logger.warning(
        "the target refused a property of schema public",
        metadata: ["what": "\(refusal.name)", "why": "\(refusal.refusal.reason)"])
    }
    try await DatabaseProperties.read(from: ends.source).apply(to: ends.target, options.target) {
      step, reason in
      logger.warning(
        "the target refused a property of the database",
        metadata: ["statement": "\(step.name)", "why": "\(reason)"])
    }
    try await TargetFence(ends.target).close()
    // Each cutover retries what fails, and is refused while users would miss rows.
    for failure in try await MaterializedViews.refresh(from: ends.source, to: ends.target, options.target) {
      logger.warning("\(failure.words)", metadata: ["remedy": "\(failure.remedy)"])
      try await store.note(failure.words)
    }
  }

  /// How often to check whether a table that could not be copied can be now.
  private static let settlingPause = Duration.seconds(2)

  /// Streams until all tables are at one LSN. Tables created meanwhile join; rewritten ones are copied again.
  private func settle() async throws {
    while true {
      do {
        let stored = try await store.relations()
        let newest = stored.compactMap(\.snapshotLSN).max() ?? .zero
        if session.monitor.reading.feedback.confirmableLSN < newest {
          try await session.stream.follow(until: newest)
        }
        let found = try await newTables.findDefined(session.monitor)
        try await newTables.setAside(found.outdated)
        if !found.new.isEmpty || !found.again.isEmpty {
          try await newTables.prepare(found)
          let snapshot = try await newTables.snapshotAtLast(session.monitor)
          try await newTables.join(found, under: snapshot, session.monitor) {
            try await session.stream.follow(until: $0)
          }
          try await TargetFence(ends.target).close()
        } else if found.outdated.isEmpty {
          // Tables that cannot join are reported again while the stream runs; those no longer copied must be.
          let present = Set(try await Catalog.read(from: ends.source, measuring: false).relations.map(\.oid))
          let isMissing = stored.contains {
            $0.snapshotLSN == nil && present.contains($0.sourceOID) && !refused.holds($0.sourceOID)
          }
          if !isMissing { return }
          try await Task.sleep(for: Self.settlingPause)
        }
      } catch let outdated as OutdatedTable {
        try await newTables.setAside(try await newTables.outdated(outdated))
      }
    }
  }
}
