import Logging

/// Step `pgbouncer`: clients wait in their poolers from before the fence until these point to the target.
struct PgBouncerAction: SwitchAction {
  private let step: SwitchStep.PgBouncer
  private let sessions: [PoolerSession]
  private let watch: PoolerWatch

  init(_ step: SwitchStep.PgBouncer, watch: PoolerWatch.Command?, logger: Logger) {
    self.step = step
    sessions = step.poolers.map { PoolerSession($0) }
    self.watch = PoolerWatch(watch, over: step.poolers, logger: logger)
  }

  var label: String { step.poolers.map(\.label).joined(separator: ", ") }

  private func address(_ scene: SwitchScene) -> PgBouncerFile.Address {
    PgBouncerFile.Address(
      host: step.host ?? scene.target.host, port: step.port.map(String.init) ?? scene.target.port,
      database: step.database ?? scene.target.database)
  }

  func examine(_ scene: SwitchScene) async -> [SwitchFinding] {
    let address = address(scene)
    return await each { await $0.examine(address, in: scene) }.flatMap { $0 }
  }

  /// What prevents the clients from waiting while the end that they lead to restarts.
  func examinePause(_ scene: SwitchScene) async -> [SwitchFinding] {
    await each { await $0.examinePause(in: scene) }.flatMap { $0 }
  }

  /// - Throws: `SwitchFailure`; then some of the poolers may be paused, and `resume` releases their clients.
  func pause(until deadline: ContinuousClock.Instant) async throws {
    await watch.begin()
    try await eachTrying { try await $0.pause(until: deadline) }
  }

  func busyServers() async throws -> [Int32] {
    try await eachTrying { try await $0.busyServers().map(\.pid) }.flatMap { $0 }
  }

  /// - Returns: what happened to the clients.
  func resume(until deadline: ContinuousClock.Instant) async throws -> String {
    let waited = try await eachTrying { try await $0.resume(until: deadline) }
    for session in sessions { await session.close() }
    await watch.end()
    return "\(label) \(waited.contains(true) ? "let its clients go on" : "held no client")"
  }

  func perform(_ scene: SwitchScene, until deadline: ContinuousClock.Instant) async throws -> String {
    let address = address(scene)
    let moved = try await eachTrying { session in
      let isChanged = try await repoint(session.pooler, address, scene, until: deadline)
      let isNews = try await session.reload(expecting: address, until: deadline)
      _ = try await session.resume(until: deadline)
      return isChanged || isNews
    }
    for session in sessions { await session.close() }
    await watch.end()
    let place = "\(address.host):\(address.port)/\(address.database)"
    return "\(label) \(moved.contains(true) ? "leads" : "led already") to \(place)"
  }

  /// - Returns: whether anything was changed, as far as we know.
  private func repoint(
    _ pooler: SwitchStep.Pooler, _ address: PgBouncerFile.Address, _ scene: SwitchScene,
    until deadline: ContinuousClock.Instant
  ) async throws -> Bool {
    do {
      switch pooler.configuration {
      case .command(let command):
        _ = try await SwitchCommand(command: command, scene: scene).execute(within: deadline - .now)
        return true
      case .file(let path):
        let file = try ReplacedFile(reading: path)
        let content = try PgBouncerFile(file.content).pointing(pooler.database, to: address)
        guard content != file.content else { return false }
        try file.replace(with: content)
        return true
      }
    } catch {
      throw SwitchFailure("\(pooler.label): \(error)")
    }
  }

  // MARK: All of them

  /// At the same time: clients wait for the slowest of them.
  private func each<Value: Sendable>(_ body: @escaping @Sendable (PoolerSession) async -> Value) async
    -> [Value]
  {
    await withTaskGroup(of: (Int, Value).self) { group in
      for (index, session) in sessions.enumerated() { group.addTask { (index, await body(session)) } }
      return await group.reduce(into: [(Int, Value)]()) { $0.append($1) }.sorted { $0.0 < $1.0 }.map(\.1)
    }
  }

  /// A failure does not stop the others.
  /// - Throws: `SwitchFailure` with the errors of all that failed.
  @discardableResult
  private func eachTrying<Value: Sendable>(
    _ body: @escaping @Sendable (PoolerSession) async throws -> Value
  ) async throws -> [Value] {
    let results: [Result<Value, any Error>] = await each { session in
      do { return .success(try await body(session)) } catch { return .failure(error) }
    }
    let failures = results.compactMap { result -> String? in
      if case .failure(let error) = result { "\(error)" } else { nil }
    }
    guard failures.isEmpty else {
      try Task.checkCancellation()
      throw SwitchFailure(failures.joined(separator: "; "))
    }
    return try results.map { try $0.get() }
  }
}
