import LibPQ

/// One PgBouncer during one cutover. Its console stays open from the pause on, when the pooler may have no
/// room for another.
actor PoolerSession {
  nonisolated let pooler: SwitchStep.Pooler
  private var console: PgBouncerConsole?

  /// For each of the console's answers except the one to PAUSE.
  private static let answerLimit = Duration.seconds(5)

  init(_ pooler: SwitchStep.Pooler) { self.pooler = pooler }

  func close() async {
    await console?.close()
    console = nil
  }

  /// Makes the clients wait.
  /// - Throws: `SwitchFailure` when transactions continue past the deadline.
  func pause(until deadline: ContinuousClock.Instant) async throws {
    do {
      let console = try await opened()
      let left = deadline - .now
      guard left > .zero else { throw SwitchFailure("\(pooler.label): no time was left to pause it") }
      try await console.pause(pooler.database, within: left)
    } catch let error as PostgresError where error.code == .timedOut {
      await close()
      throw SwitchFailure(
        "\(pooler.label): PAUSE \(SQL.identifier(pooler.database)) was not done in time, "
          + "since transactions of its clients did not end\(await whoIsBusy())")
    } catch let error as PostgresError {
      throw failure(error)
    }
  }

  /// What keeps a PAUSE waiting. Uses its own console: the other one is waiting.
  nonisolated func busyServers() async throws -> [PgBouncerConsole.BusyServer] {
    let console = try await PgBouncerConsole.open(pooler, within: Self.answerLimit)
    return try await finally(console.close) {
      try await console.busyServers(of: pooler.database, within: Self.answerLimit)
    }
  }

  /// For people; empty when the pooler does not say.
  private func whoIsBusy() async -> String {
    guard let servers = try? await busyServers(), !servers.isEmpty else { return "" }
    let more = servers.count > 10 ? " and \(servers.count - 10) more" : ""
    return ": " + servers.prefix(10).map(\.words).joined(separator: "; ") + more
  }

  /// Lets the clients continue, if they wait.
  /// - Returns: whether they waited.
  func resume(until deadline: ContinuousClock.Instant) async throws -> Bool {
    do {
      return try await retried(until: deadline) { console, pooler in
        let entry = try await console.entry(pooler.database, within: Self.answerLimit)
        guard entry?.isPaused == true else { return false }
        try await console.resume(pooler.database, within: Self.answerLimit)
        return true
      }
    } catch {
      let command = "RESUME \(SQL.identifier(pooler.database));"
      throw SwitchFailure("\(error): its clients may wait still; on its console run \(command)")
    }
  }

  /// Reloads the file, and makes sure that the database is where it should be.
  /// - Returns: false when it was there before.
  func reload(
    expecting address: PgBouncerFile.Address, until deadline: ContinuousClock.Instant
  ) async throws -> Bool {
    try await retried(until: deadline) { console, pooler in
      let before = try await console.entry(pooler.database, within: Self.answerLimit)
      if before?.address == address { return false }
      try await console.reload(within: Self.answerLimit)
      let after = try await console.entry(pooler.database, within: Self.answerLimit)?.address
      if after == address { return true }
      let place = after.map { "\($0.host):\($0.port)/\($0.database)" } ?? "nowhere"
      throw SwitchFailure(
        "\(pooler.label): after RELOAD \(pooler.database) is at \(place) and not at "
          + "\(address.host):\(address.port)/\(address.database): its log says why, or it reads another file")
    }
  }

  // MARK: The console

  func opened() async throws -> PgBouncerConsole {
    if let console { return console }
    let opened = try await PgBouncerConsole.open(pooler, within: Self.answerLimit)
    console = opened
    return opened
  }

  /// A lost console is opened again.
  func retried<Value: Sendable>(
    until deadline: ContinuousClock.Instant,
    _ body: @Sendable (PgBouncerConsole, SwitchStep.Pooler) async throws -> Value
  ) async throws -> Value {
    while true {
      do {
        return try await body(try await opened(), pooler)
      } catch let error as PostgresError {
        // A refusal has an SQLSTATE; without one the console is gone.
        guard error.sqlState == nil, .now < deadline else { throw failure(error) }
        await close()
        try await Task.sleep(for: .milliseconds(200))
      }
    }
  }

  private func failure(_ error: PostgresError) -> SwitchFailure {
    SwitchFailure("\(pooler.label): \(error.message)")
  }
}
