import LibPQ
package import Logging

/// A migration from the first look to the open target, and the way back. Phases in order: preflight, schema,
/// copy, index, catch-up, streaming, cutover, reverse; `EngineRun` walks through them, and `EngineRuns`
/// begin it anew when a connection is lost.
package struct Migration: Sendable {
  /// How an engine came to its end without an error.
  package enum Outcome: Sendable {
    /// Asked to stop, at a commit; a new start continues from there.
    case stopped
    /// An end was opened and there is no rollback any more: the cutover to it.
    case complete(Status.Cutover)
  }

  private let options: MigrationOptions
  private let logger: Logger

  /// Connects to nothing yet.
  package init(options: MigrationOptions, logger: Logger) {
    self.options = options
    self.logger = logger
  }

  /// Looks at both ends and changes neither.
  /// - Throws: `PostgresError` when an end cannot be reached.
  package func check() async throws -> PreflightReport {
    let ends = try await Endpoints.open(options, purpose: "check")
    return try await finally(ends.close) {
      let isResuming = try await StateStore(ends.target).load() != nil
      return try await PreflightPhase(options: options, ends: ends, logger: logger).examine(
        isResuming: isResuming
      ).report
    }
  }

  /// Begins the migration, or resumes it from what the target has stored, and continues until the cutover is
  /// complete and no rollback is possible any more, or the task is cancelled.
  /// - Parameters:
  ///   - onProgress: twice a second, from any thread.
  ///   - onFindings: what preflight found, before anything is changed.
  package func start(
    onProgress: @escaping @Sendable (Status) -> Void,
    onFindings: @escaping @Sendable (PreflightReport) -> Void
  ) async throws -> Outcome {
    let unstored = PendingCutoverResult()
    return try await EngineRuns(logger: logger).untilDone { hindrance in
      try await EngineRun(
        options: options, logger: logger, unstored: unstored, hindrance: hindrance, onProgress: onProgress,
        onFindings: onFindings
      ).proceed()
    }
  }
}
