import LibPQ
import Logging

/// Why an engine run ended that is followed by another.
struct Hindrance: Sendable {
  /// What the status shows until the engine is past it.
  let words: String
  /// How long until the next run.
  let pause: Duration

  init(_ error: any Error, pause: Duration) {
    // Our own errors say what to do.
    let remedy = error is MigrationError ? "" : "\n  what to do: \(Self.remedy(for: error))"
    words = "the engine waits, and tries again by itself: \(error)\(remedy)"
    self.pause = pause
  }

  static func remedy(for error: any Error) -> String {
    guard let error = error as? PostgresError, let state = error.sqlState else {
      return "see that both servers answer and admit the engine's roles."
    }
    let server = Self.server(in: error.action)
    switch state {
    case .diskFull: return "give \(server) more room on its disk."
    case .outOfMemory: return "give \(server) memory, or end what takes it."
    case .tooManyConnections:
      return """
        leave room on \(server) for about ten sessions of the engine: end others, or raise \
        max_connections, or the CONNECTION LIMIT of the role or the database (ALTER ROLE …, ALTER DATABASE … \
        CONNECTION LIMIT -1).
        """
    case .readOnlySQLTransaction:
      return """
        let \(server) take writes again; if it has become a standby, lead the name in the connection string \
        to the primary.
        """
    case .queryCanceled: return "nothing, unless somebody keeps cancelling the engine's statements."
    case .lockNotAvailable, .deadlockDetected:
      return "end whoever holds the lock, or wait until they have ended."
    case .invalidPassword, .invalidAuthorization:
      return "let the role log in again (VALID UNTIL, its password, pg_hba.conf)."
    default:
      return state.errorClass == "53"
        ? "give \(server) what it lacks." : "see that both servers answer and admit the roles."
    }
  }

  /// An error's action names the end it came from.
  private static func server(in action: String) -> String {
    let ends = ["source", "target"].filter { action.contains("\($0): ") || action.hasSuffix("the \($0)") }
    return ends.count == 1 ? "the \(ends.joined())" : "the server that says so"
  }
}

/// The time between two runs: the engine keeps its lock, and the status says what it waits for, as far as the
/// target can store it.
struct HindranceWait: Sendable {
  let options: MigrationOptions
  let logger: Logger
  let onProgress: @Sendable (Status) -> Void

  private static let interval = Duration.milliseconds(500)

  /// - Throws: when the task is cancelled, or `replicate abort` asks the engine to stop.
  func wait(for hindrance: Hindrance) async throws {
    let end = ContinuousClock.now + hindrance.pause
    do {
      try await publish(hindrance, until: end)
    } catch let error as PostgresError {
      logger.debug("could not report what the engine waits for", metadata: ["why": "\(error)"])
    }
    try await Task.sleep(until: end)
  }

  private func publish(_ hindrance: Hindrance, until end: ContinuousClock.Instant) async throws {
    let control = try await Session.open(options.target, end: "target", purpose: "control")
    try await closing(control) {
      let store = StateStore(control)
      try await control.query("SET synchronous_commit = local", doing: "preparing the engine's status")
      // Another engine may have taken over; the next run says so.
      guard let migration = try await store.load(), try await store.tryLock() else { return }
      var status = try await store.publishedStatus()?.status ?? Status(phase: migration.phase)
      status.phase = migration.phase
      status.engine = .thisProcess
      status.ready = false
      status.verification = nil
      status.failure = nil
      status.stream.waitsFor = hindrance.words
      repeat {
        do {
          try await store.publish(status)
        } catch let error as PostgresError where error.mayPass {
          logger.debug("the status could not be published", metadata: ["why": "\(error)"])
        }
        onProgress(status)
        if try await store.isAbortRequested() { return }
        try await Task.sleep(until: min(end, .now + Self.interval))
      } while ContinuousClock.now < end
    }
  }
}
