/// Sessions that a wait looks through: each is opened at its first look and kept until the wait is over,
/// since to open one costs a server more than most looks.
actor KeptSessions {
  @TaskLocal static var current: KeptSessions?

  private var sessions: [String: SQLSession] = [:]

  func value(_ sql: String, on server: ConnectionString) async throws -> String? {
    if let kept = sessions[server.text] {
      do {
        return try await kept.value(sql)
      } catch SQLFailure.connectionLost {
        // The server may be another by now, which is asked anew.
        sessions[server.text] = nil
      }
    }
    let session = try await SQLSession(server)
    sessions[server.text] = session
    return try await session.value(sql)
  }

  func close() async {
    for session in sessions.values { await session.close() }
    sessions = [:]
  }
}

extension SQLSession {
  /// The first column of the first row, asked in a session of its own, or of the wait that asks.
  package static func value(_ sql: String, on server: ConnectionString) async throws -> String? {
    if let kept = KeptSessions.current { return try await kept.value(sql, on: server) }
    let session = try await SQLSession(server)
    let value = try await session.value(sql)
    await session.close()
    return value
  }

  /// Runs statements one after another in a session of their own.
  package static func run(_ statements: [String], on server: ConnectionString) async throws {
    let session = try await SQLSession(server)
    for sql in statements { try await session.execute(sql) }
    await session.close()
  }

  /// The SQLSTATE that one of these statements, in a session of their own, is refused with; nil when none is.
  package static func refusal(
    of statements: [String], on server: ConnectionString, settings: [String: String] = [:]
  ) async throws -> String? {
    let session = try await SQLSession(server, settings: settings)
    var state: String?
    do {
      for sql in statements { try await session.execute(sql) }
    } catch let failure as SQLFailure {
      state = failure.sqlState
    }
    await session.close()
    return state
  }
}
