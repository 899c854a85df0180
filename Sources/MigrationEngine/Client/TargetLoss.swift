import Foundation
package import LibPQ
package import Logging
import LogicalReplication

/// Ends a migration whose target is lost: its disk, its key, its cluster. Everything the source needs to be
/// the application's database again is on the source.
package struct TargetLoss: Sendable {
  private let source: ConnectionString
  /// Nil where it is no longer known where it was.
  private let target: ConnectionString?
  private let logger: Logger

  /// - Parameter target: where it was; nil when the user does not say.
  package init(source: ConnectionString, target: ConnectionString?, logger: Logger) {
    self.source = source
    self.target = target
    self.logger = logger
  }

  /// How long everything must be silent: a restarting server is not lost.
  private static let patience = Duration.seconds(5)

  /// Changes nothing.
  /// - Returns: what happens to the source, and what is lost, in words.
  /// - Throws: `MigrationError` with kind `.usage` when something answers for the target, when an engine is
  ///   running, or when the source is not part of a migration.
  package func examine() async throws -> String {
    if let target { try await ensureLost(target) }
    let source = try await Session.open(source, end: "source", purpose: "abort")
    return try await closing(source) {
      let fence = try await verify(source)
      let lost = try await loss(on: source, fence)
      return "Gives up the migration: the target is lost. \(lost)"
    }
  }

  /// - Returns: what was removed, and what could not be, with the command that removes it.
  package func cleanUpSource() async throws -> (removed: [String], left: [String]) {
    if let target { try await ensureLost(target) }
    let source = try await Session.open(source, end: "source", purpose: "abort")
    return try await closing(source) {
      let fence = try await verify(source)
      let identity = try await DatabaseIdentity.read(from: source)
      try await Session.actAsReplica(source)
      var cleanup = Cleanup(logger: logger)
      // First what reverse replication changed: once the fence is gone others use the tables.
      await cleanup.attempt("what the way back has changed on the source", "replicate abort, again") {
        let left = try await restore(source)
        guard left.isEmpty else {
          throw MigrationError(
            .failed, doing: "restoring the definitions of the source's tables", reason: left.words)
        }
      }
      if fence == .sealed {
        // Rows were replicated back, but not the state of their sequences.
        let unknown = try await ColumnSequences.raise(on: source)
        if !unknown.isEmpty {
          logger.warning(
            """
            sequences of no column stand where they stood at the cutover: what they gave out on the target \
            they give out again
            """, metadata: ["sequences": "\(unknown.joined(separator: ", "))"])
        }
        try await WriteGate.ofSealedSource.open(source)
      } else {
        try await WriteFence(source).unfence()
      }
      try await cleanup.clean(source, of: identity, nil)
      return (cleanup.removed, cleanup.left)
    }
  }

  private func restore(_ source: Connection) async throws -> LateChanges.Left {
    try await LateChanges(connection: source).make(
      try await Settlement.changedByReverseReplication(on: source), within: .seconds(20))
  }

  // MARK: Whether it may be

  private func ensureLost(_ target: ConnectionString) async throws {
    let heard = try await Silence.listen(target, end: "target", for: Self.patience)
    switch heard.verdict {
    case .silent(let words): logger.warning("nobody answers for the target", metadata: ["seen": "\(words)"])
    case .answers(let words):
      throw refusal(
        "the target answers, and may have taken writes: \(words)",
        "Before the cutover run replicate abort, after it replicate rollback: both ask the target. If what "
          + "answers is no server, or must not come back: stop it, or cut it off, then give this command "
          + "again."
      )
    case .unknown(let words):
      throw refusal(
        "it cannot be known whether the target is lost: \(words)",
        "Make sure that this machine could reach it. Where its name has gone with the server, do not name it "
          + "(--target, REPLICATE_TARGET): then its loss is taken on your word.")
    }
  }

  /// - Returns: the state of the fence.
  private func verify(_ source: Connection) async throws -> SourceState.Fence {
    guard try await !OwnSchema.isOfOthers(on: source), let fence = try await SourceState(source).fence()
    else {
      throw refusal(
        "the source is part of no migration", "Give the source that the migration was begun with.")
    }
    let rows = try await source.query(
      """
      SELECT pid, application_name FROM pg_catalog.pg_stat_activity
      WHERE datname = pg_catalog.current_database() AND pid <> pg_catalog.pg_backend_pid()
        AND application_name IN ('replicate engine', 'replicate apply', 'replicate monitor',
          'replicate cutover')
      """, doing: "looking for an engine on the source", within: .seconds(15))
    guard let row = rows.first else { return fence }
    throw refusal(
      "an engine is at work on the source (pid \(try row.text("pid")), "
        + "\(try row.text("application_name")))",
      "Stop the engine first. One that reaches its target shows that it is not lost.")
  }

  private func refusal(_ reason: String, _ remedy: String) -> MigrationError {
    MigrationError(
      .usage, doing: "giving the migration up without its target", reason: reason, remedy: remedy)
  }

  // MARK: What is lost

  private func loss(on source: Connection, _ fence: SourceState.Fence) async throws -> String {
    guard fence == .sealed else {
      return "The source was not sealed: it has everything, and takes writes as before."
    }
    let words = "The source was sealed by the cutover, and takes writes again. "
    guard try await NotedRows.progress.exist(on: source, doing: "looking for a way back"),
      let progress = try await StateStore(source).progress()
    else { return words + "Nothing came back from the target: all that was written there is lost." }
    guard let anchor = progress.anchor else {
      return words + "No change had come back from the target: whatever was written there is lost."
    }
    let date = Date(timeIntervalSince1970: Double(anchor.commitTime.unixMicroseconds) / 1_000_000)
    return words
      + "The last transaction that came back was committed on the target at \(date.formatted(.iso8601)) "
      + "(\(progress.appliedLSN)): what was committed there later is lost."
  }
}
