import LibPQ
import Logging

/// One preparation, as it is done: what takes long while clients go on, then `PAUSE`, the restart, `RESUME`.
struct PreparationRun: Sendable {
  let request: PreparationRequest
  let scene: SourcePreparation.Scene
  let restart: any ServerRestart
  let source: Connection
  let logger: Logger

  private var limit: Duration { .seconds(request.timeoutSeconds) }
  private static let action = "preparing the source"

  func perform() async throws -> PreparationReport {
    let watch = try await RestartWatch.began(with: source, request.source)
    try await makeReady()
    let began = ContinuousClock.now
    try await pause()
    await Failpoint.reached("before restart")
    if Task.isCancelled { throw await notBegun(CancellationError(), isPaused: true) }
    // From here on nothing is interrupted: half a restart is a server that is down.
    return try await Task { try await restarted(watch, pausedAt: began) }.value
  }

  // MARK: While clients go on

  private func makeReady() async throws {
    do {
      try await restart.makeReady(until: .now + limit)
    } catch {
      throw failure(error, "its server was not restarted")
    }
    guard scene.mayCheckpoint else { return }
    do {
      // The shutdown has less left to write.
      try await source.query("CHECKPOINT", doing: "writing a checkpoint before the restart", within: limit)
    } catch let error as PostgresError where !error.isConnectionLoss || error.code == .timedOut {
      logger.warning("no checkpoint before the restart", metadata: ["why": "\(error)"])
    } catch {
      throw await notBegun(error, isPaused: false)
    }
  }

  private func pause() async throws {
    guard let poolers = scene.poolers else { return }
    do {
      let said = try await poolers.pause(until: .now + .seconds(request.maxPauseSeconds))
      logger.info("\(said)")
    } catch {
      let remedy = "Let those transactions end, or give a longer --max-pause."
      throw await notBegun(error, isPaused: true, remedy: remedy)
    }
  }

  private func notBegun(
    _ error: any Error, isPaused: Bool, remedy: String? = nil
  ) async -> any Error {
    // Also in a cancelled task.
    let state = await Task {
      let clients = isPaused ? await letGo() : ""
      let words = [clients, "its server was not restarted", await restart.undoReadying()]
      return words.filter { !$0.isEmpty }.joined(separator: "; ")
    }.value
    return failure(error, state, remedy: remedy)
  }

  // MARK: While clients wait

  private func restarted(
    _ watch: RestartWatch, pausedAt paused: ContinuousClock.Instant
  ) async throws -> PreparationReport {
    let began = ContinuousClock.now
    let session: Connection
    do {
      session = try await order(watch)
    } catch {
      throw said(error, await letGo())
    }
    let seconds = (ContinuousClock.now - began) / .seconds(1)
    return try await closing(session) {
      let wait = try await resume(pausedAt: paused)
      logger.info("the source's server is back", metadata: ["seconds": "\(seconds)"])
      do {
        try await restart.settle(until: began + limit)
      } catch {
        logger.warning("the server answers, but: \(error)")
      }
      let settings = try await inEffect(session)
      return PreparationReport(settings: settings, restartSeconds: seconds, waitSeconds: wait)
    }
  }

  /// - Returns: a session of the restarted server.
  private func order(_ watch: RestartWatch) async throws -> Connection {
    let deadline = ContinuousClock.now + limit
    do {
      try await restart.restart(source, until: deadline)
    } catch {
      if let failure = error as? RestartFailure, failure.isUnderWay {
        throw MigrationError(
          .failed, doing: Self.action, reason: "\(failure)",
          remedy: "See what it waits for. Once the server has been restarted, replicate prepare says what is "
            + "missing.")
      }
      return try await survived(error, watch, until: deadline)
    }
    do {
      return try await watch.session(until: deadline, patience: restart.grace)
    } catch let error as RestartWatch.Away {
      throw away(error)
    } catch is RestartWatch.NotRestarted {
      let state = await restart.undo()
      throw MigrationError(
        .failed, doing: Self.action,
        reason: "\(restart.withoutEffect); \(state)", remedy: restart.remedy)
    }
  }

  /// A command that failed may have restarted the server, or have left it down.
  private func survived(
    _ failure: any Error, _ watch: RestartWatch, until deadline: ContinuousClock.Instant
  ) async throws -> Connection {
    do {
      let session = try await watch.session(until: deadline, patience: .zero)
      logger.warning("the server was restarted, although not without an error: \(failure)")
      return session
    } catch let error as RestartWatch.Away {
      throw away(error, after: failure)
    } catch is RestartWatch.NotRestarted {
      throw self.failure(
        failure, "its server was not restarted; \(await restart.undo())",
        remedy: restart.remedy)
    }
  }

  private func away(_ error: RestartWatch.Away, after failure: (any Error)? = nil) -> MigrationError {
    let before = failure.map { "\($0), and " } ?? ""
    return MigrationError(
      .failed, doing: Self.action,
      reason: "\(before)its server did not come back within \(request.timeoutSeconds) s: \(error.newest)",
      remedy: restart.undoByHand)
  }

  // MARK: Letting clients go

  /// - Returns: how long a client can have waited, in seconds.
  private func resume(pausedAt paused: ContinuousClock.Instant) async throws -> Double? {
    guard let poolers = scene.poolers else { return nil }
    do {
      let said = try await poolers.resume()
      logger.info("\(said)")
    } catch {
      throw MigrationError(
        .failed, doing: "letting clients go on after the restart", reason: "\(error)",
        remedy: "The server has been restarted, and replicate prepare says whether anything is missing.")
    }
    return (ContinuousClock.now - paused) / .seconds(1)
  }

  /// - Returns: what became of the clients, as a phrase; empty without poolers.
  private func letGo() async -> String {
    guard let poolers = scene.poolers else { return "" }
    do { return try await poolers.resume() } catch { return "\(error)" }
  }

  // MARK: What is so now

  private func inEffect(_ session: Connection) async throws -> [(name: String, value: String)] {
    let missing = try await DecodingSettings.read(from: session).needs
    guard missing.isEmpty else {
      let names = missing.map { SQL.literal($0.setting) }.joined(separator: ", ")
      throw MigrationError(
        .failed, doing: Self.action,
        reason: "its server was restarted, but "
          + missing.map { "\($0.setting) is \($0.now)" }.joined(separator: ", "),
        remedy: "Ask where that comes from: SELECT name, setting, source, sourcefile FROM pg_settings WHERE "
          + "name IN (\(names));")
    }
    var settings: [(name: String, value: String)] = []
    for setting in scene.plan.missing {
      let rows = try await session.query(
        "SELECT pg_catalog.current_setting($1) AS value", [setting.name],
        doing: "asking the source for its settings", within: .seconds(15))
      settings.append((setting.name, try rows.first?.text("value") ?? ""))
    }
    return settings
  }

  private func failure(_ error: any Error, _ state: String, remedy: String? = nil) -> any Error {
    if error is CancellationError {
      return MigrationError(.failed, doing: Self.action, reason: "interrupted; \(state)")
    }
    let advice = (error as? RestartFailure)?.remedy ?? remedy
    return MigrationError(
      .failed, doing: Self.action, reason: "\(error); \(state)",
      remedy: advice ?? "Correct what the message says, then run replicate prepare again.")
  }

  /// With what became of the clients.
  private func said(_ error: any Error, _ clients: String) -> any Error {
    guard !clients.isEmpty else { return error }
    guard var failure = error as? MigrationError else {
      return MigrationError(.failed, doing: Self.action, reason: "\(error); \(clients)")
    }
    failure.reason += "; \(clients)"
    return failure
  }
}
