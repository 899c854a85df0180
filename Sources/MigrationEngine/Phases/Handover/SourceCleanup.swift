import LibPQ
import Logging
import LogicalReplication

/// Removes what the stream needed on the source, once a cutover is complete. The fence stays: it keeps the
/// old database from being written to.
struct SourceCleanup: Sendable {
  let address: ConnectionString
  let source: Connection
  let slot: ReplicationSlot
  let publication: Publication
  let store: StateStore
  let logger: Logger

  /// How long to try to reach a source that was lost after the seal.
  private static let patience = Duration.seconds(20)

  func cleanUp() async throws { try await cleanUp(source) }

  private func cleanUp(_ source: Connection) async throws {
    try await Session.actAsReplica(source)
    try await slot.drop(on: source)
    try await publication.drop(on: source)
  }

  /// The same, where the source may be lost: then reports what is left there.
  func runOrSay() async throws {
    let deadline = ContinuousClock.now + Self.patience
    var reached = source
    while true {
      do {
        try await cleanUp(reached)
        if reached !== source { await reached.close() }
        return
      } catch let error as PostgresError where error.isConnectionLoss {
        logger.warning("the source could not be cleaned", metadata: ["why": "\(error)"])
      }
      guard ContinuousClock.now < deadline else { break }
      try await Task.sleep(for: .milliseconds(500))
      do {
        reached = try await Session.open(address, end: "source", purpose: "engine")
      } catch let error as PostgresError where error.isConnectionLoss {
        logger.debug("the source cannot be reached", metadata: ["why": "\(error)"])
      }
    }
    try await Self.sayLeft(slot: slot.name.description, store, logger)
  }

  /// The cutover is complete without it.
  static func sayLeft(slot: String, _ store: StateStore, _ logger: Logger) async throws {
    try await store.note("the source could not be cleaned: slot \(slot) and the publication are still there")
    logger.warning(
      "the source could not be cleaned: its slot and publication are still there",
      metadata: [
        "slot": "\(slot)",
        "remedy": "run replicate start when it admits us; if it is lost, replicate finish --without-source",
      ])
  }
}
