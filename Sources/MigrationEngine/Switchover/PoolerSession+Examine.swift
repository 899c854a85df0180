import LibPQ

extension PoolerSession {
  /// What prevents sending the pooler's clients to `address`; changes nothing.
  func examine(_ address: PgBouncerFile.Address, in scene: SwitchScene) async -> [SwitchFinding] {
    var remarks = examineFile(address)
    do {
      remarks += try await retried(until: .now) { console, pooler in
        try await Look(console: console, pooler: pooler).remarks(address, scene)
      }
    } catch {
      remarks.append(unreachable(error))
    }
    await close()
    return remarks
  }

  /// What prevents the pooler's clients from waiting while the source restarts; changes nothing.
  func examinePause(in scene: SwitchScene) async -> [SwitchFinding] {
    var remarks: [SwitchFinding]
    do {
      remarks = try await retried(until: .now) { console, pooler in
        try await Look(console: console, pooler: pooler).remarksOfPause(scene)
      }
    } catch {
      remarks = [unreachable(error)]
    }
    await close()
    return remarks
  }

  private func unreachable(_ error: any Error) -> SwitchFinding {
    .blocker("\(error)", "Correct admin in the plan's file, and see that its user is let in from here.")
  }

  private func examineFile(_ address: PgBouncerFile.Address) -> [SwitchFinding] {
    guard case .file(let path) = pooler.configuration else { return [] }
    do {
      let file = try ReplacedFile(reading: path)
      _ = try PgBouncerFile(file.content).pointing(pooler.database, to: address)
      try file.tryReplacing()
      return []
    } catch {
      return [
        .blocker(
          "\(pooler.label): \(path) cannot be changed: \(error)",
          "Run where it can be read and replaced, or give repoint, a command that changes it.")
      ]
    }
  }

  /// An examination of a pooler through its console.
  private struct Look {
    let console: PgBouncerConsole
    let pooler: SwitchStep.Pooler

    private static let limit = Duration.seconds(5)

    private var label: String { pooler.label }
    private var database: String { pooler.database }

    func remarks(
      _ address: PgBouncerFile.Address, _ scene: SwitchScene
    ) async throws -> [SwitchFinding] {
      try await look { entry in
        try await place(entry, address, scene.source) + aliases(scene) + pooling(entry)
          + patience(scene.timeoutSeconds)
      }
    }

    func remarksOfPause(_ scene: SwitchScene) async throws -> [SwitchFinding] {
      try await look { entry in
        try await other(entry, scene.source) + neighbours(scene) + pooling(entry) + patienceOfPause()
      }
    }

    /// What holds for whatever is to be done with the clients, then `more`.
    private func look(
      _ more: (PgBouncerConsole.Entry) async throws -> [SwitchFinding]
    ) async throws -> [SwitchFinding] {
      guard let entry = try await console.entry(database, within: Self.limit) else {
        return [
          .blocker("\(label) knows no database \(database).", "Give it a line of its own in [databases].")
        ]
      }
      let resume = "RESUME \(SQL.identifier(database));"
      guard !entry.isPaused else {
        return [.blocker("\(label): \(database) is paused.", "On its console run \(resume)")]
      }
      return try await rights() + more(entry)
    }

    /// A command that only admins may give, and that has no effect where nothing is paused.
    private func rights() async throws -> [SwitchFinding] {
      do {
        try await console.resume(database, within: Self.limit)
      } catch let error as PostgresError where error.sqlState != nil {
        guard error.message.contains("admin access") else { return [] }
        return [.blocker("\(label): \(error.message).", "Put the user of its console into admin_users.")]
      }
      return []
    }

    private func place(
      _ entry: PgBouncerConsole.Entry, _ address: PgBouncerFile.Address, _ source: Switchover.End
    ) -> [SwitchFinding] {
      if entry.address == address {
        return [
          .warning("\(now(entry)), the target, already.", "Point it to the source until the cutover.")
        ]
      }
      return other(entry, source)
    }

    private func now(_ entry: PgBouncerConsole.Entry) -> String {
      "\(label): \(database) is at \(entry.address.host):\(entry.address.port)"
    }

    private func other(
      _ entry: PgBouncerConsole.Entry, _ source: Switchover.End
    ) -> [SwitchFinding] {
      guard entry.address.database != source.database else { return [] }
      return [
        .warning(
          "\(now(entry)) called \(entry.address.database), and the source's database is \(source.database).",
          "See that the step names the right database.")
      ]
    }

    /// Clients of these would stay on the end that is left.
    private func aliases(_ scene: SwitchScene) async throws -> [SwitchFinding] {
      let others = try await console.aliases(of: database, within: Self.limit)
        .filter { !scene.pooledDatabases.contains($0) }
      guard !others.isEmpty else { return [] }
      let names = others.map(SQL.identifier).joined(separator: ", ")
      return [
        .warning(
          "\(label) leads clients of \(names) to the same database as those of \(database), and no step "
            + "moves them.",
          "Give each a pgbouncer step of its own; without one its clients' writes fail after the cutover.")
      ]
    }

    /// A restart ends the sessions of all databases of the server.
    private func neighbours(_ scene: SwitchScene) async throws -> [SwitchFinding] {
      let others = try await console.neighbours(of: database, within: Self.limit)
        .filter { !scene.pooledDatabases.contains($0) }
      guard !others.isEmpty else { return [] }
      let names = others.map(SQL.identifier).joined(separator: ", ")
      return [
        .warning(
          "\(label) leads clients of \(names) to the same server, and no step makes them wait.",
          "Give each a pgbouncer step of its own; without one its clients are disconnected.")
      ]
    }

    private func pooling(_ entry: PgBouncerConsole.Entry) async throws -> [SwitchFinding] {
      let general = try await console.setting("pool_mode", within: Self.limit)
      let mode = entry.poolMode ?? general ?? "session"
      guard mode == "session" else {
        return [.note("\(label) pools \(mode)s of \(database).", "None: this is as it should be.")]
      }
      return [
        .warning(
          "\(label) pools sessions: PAUSE waits until every client of \(database) has disconnected.",
          "Set pool_mode = transaction, or have the clients disconnect.")
      ]
    }

    private func patienceOfPause() async throws -> [SwitchFinding] {
      guard let limit = try await queryWait(), limit > 0 else { return [] }
      return [
        .note(
          "\(label) disconnects clients that wait for more than \(Int(limit)) s (query_wait_timeout).",
          "Raise it on the pooler if the restart may take longer.")
      ]
    }

    private func queryWait() async throws -> Double? {
      try await console.setting("query_wait_timeout", within: Self.limit).flatMap(Double.init)
    }

    /// - Parameter seconds: that a cutover may take.
    private func patience(_ seconds: Double) async throws -> [SwitchFinding] {
      guard let limit = try await queryWait(), limit > 0, limit < seconds else { return [] }
      return [
        .warning(
          "\(label) disconnects clients that wait for more than \(Int(limit)) s, and a cutover may take "
            + "\(Int(seconds)) s.",
          "Raise query_wait_timeout above that, or give the cutover a shorter --timeout.")
      ]
    }
  }
}
