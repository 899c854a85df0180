import CLibPQ

extension Connection {
  /// Runs a statement and returns its rows as text. Without parameters it uses the simple protocol, which
  /// also accepts several statements and walsender commands; then the last result counts.
  /// - Parameters:
  ///   - parameters: texts for `$1`…, nil for NULL. The server infers their types.
  ///   - action: what this does to which object, for errors.
  ///   - limit: how long it may take; when it passes, the statement is cancelled on the server.
  ///   - isPrepared: the statement is kept on the connection, with its plan, for the next time. Only one
  ///     statement then.
  /// - Throws: `PostgresError`; `CancellationError` when the task was cancelled, after cancelling the
  ///   statement.
  @discardableResult
  package func query(
    _ sql: String, _ parameters: [String?] = [], doing action: String, within limit: Duration? = nil,
    isPrepared: Bool = false
  ) async throws -> Rows {
    let deadline = limit.map { ContinuousClock.now + $0 }
    return try await cancellable {
      if isPrepared { try prepare(sql, action: action, until: deadline) }
      try send(sql, parameters, action: action)
      guard let result = try finish(action: action, until: deadline) else {
        throw PostgresError(
          code: .unexpectedResult, action: "\(end): \(action)", message: "there was no result")
      }
      guard !result.beginsCopy else {
        close()
        throw PostgresError(
          code: .unexpectedResult, action: "\(end): \(action)", message: "a COPY began where rows were due")
      }
      return Rows(result.pointer)
    }
  }

  /// Runs `body` in one transaction: commits when it returns, rolls back when it throws or the task was
  /// cancelled.
  /// - Parameter limit: for the commit alone, which may wait for a standby. When it passes the transaction
  ///   may have been committed: callers that need to know must check.
  /// - Throws: what `body` throws; `PostgresError` when the server did not commit, even because of a failed
  ///   statement that `body` ignored, or when it did not answer in time.
  package func transaction<Result: Sendable>(
    _ begin: String = "BEGIN", doing action: String, within limit: Duration = .seconds(60),
    _ body: @Sendable (isolated Connection) async throws -> Result
  ) async throws -> Result {
    do {
      try await query(begin, doing: "\(action): beginning the transaction", within: .seconds(15))
      let result = try await body(self)
      try await commit(doing: "\(action): committing", until: .now + limit)
      return result
    } catch {
      rollback()
      throw error
    }
  }

  /// The server answers the COMMIT of a failed transaction with ROLLBACK and no error (manual, COMMIT).
  private func commit(doing action: String, until deadline: ContinuousClock.Instant) async throws {
    try await cancellable {
      try send("COMMIT", [], action: action)
      let result = try finish(action: action, until: deadline)
      guard let result, String(cString: PQcmdStatus(result.pointer)) == "COMMIT" else {
        throw PostgresError(
          code: .unexpectedResult, action: "\(end): \(action)",
          message: "the server rolled back, because a statement of the transaction had failed")
      }
    }
  }

  /// Rolls back what is open, even in a cancelled task; a connection that cannot even do that is closed, so
  /// that the server does it.
  package func rollback() {
    do {
      guard PQtransactionStatus(try live()) != PQTRANS_IDLE else { return }
      try send("ROLLBACK", [], action: "rolling back")
      _ = try finish(action: "rolling back", until: .now + .seconds(5), heedsCancellation: false)
    } catch {
      close()
    }
  }

  func send(_ sql: String, _ parameters: [String?], action: String) throws {
    let connection = try live()
    // C ends the text there: the server would receive, and run, only what comes before.
    guard !sql.utf8.contains(0), !parameters.contains(where: { $0?.utf8.contains(0) == true }) else {
      throw PostgresError(
        code: .unexpectedResult, action: "\(end): \(action)", message: "a text has a zero byte in it")
    }
    let isSent: Bool
    if let name = prepared[sql] {
      isSent = CStrings(parameters).withPointers {
        PQsendQueryPrepared(connection, name, Int32(parameters.count), $0, nil, nil, 0) == 1
      }
    } else if parameters.isEmpty {
      isSent = PQsendQuery(connection, sql) == 1
    } else {
      isSent = CStrings(parameters).withPointers {
        PQsendQueryParams(connection, sql, Int32(parameters.count), nil, $0, nil, nil, 0) == 1
      }
    }
    guard isSent else { throw lost(action) }
  }

  /// Sends what libpq has buffered and keeps reading while the server does not accept it: a server that waits
  /// for us to read would never accept it (manual, section 34.4 `PQflush`).
  func flush(action: String, until deadline: ContinuousClock.Instant? = nil, heedsCancellation: Bool = true)
    throws
  {
    let connection = try live()
    while true {
      switch PQflush(connection) {
      case 0: return
      case 1: break
      default: throw lost(action)
      }
      let outcome = waiter.wait(PQsocket(connection), for: [.readable, .writable], until: deadline)
      switch outcome {
      case .ready(let events):
        if events.contains(.readable), PQconsumeInput(connection) == 0 { throw lost(action) }
      case .nudged: if heedsCancellation { try Task.checkCancellation() }
      case .timedOut: throw timedOut(action)
      }
    }
  }

  /// The next result, nil at the end of the command.
  func nextResult(
    action: String, until deadline: ContinuousClock.Instant? = nil, heedsCancellation: Bool = true
  ) throws -> ResultHandle? {
    let connection = try live()
    while PQisBusy(connection) == 1 {
      switch waiter.wait(PQsocket(connection), for: .readable, until: deadline) {
      case .ready: if PQconsumeInput(connection) == 0 { throw lost(action) }
      case .nudged: if heedsCancellation { try Task.checkCancellation() }
      case .timedOut: throw timedOut(action)
      }
    }
    return PQgetResult(connection).map(ResultHandle.init)
  }

  /// Reads all results of a command and returns the last, or the first that began a COPY.
  @discardableResult
  func finish(
    action: String, until deadline: ContinuousClock.Instant? = nil, heedsCancellation: Bool = true
  ) throws -> ResultHandle? {
    do {
      try flush(action: action, until: deadline, heedsCancellation: heedsCancellation)
      return try drainResults(action: action, until: deadline, heedsCancellation: heedsCancellation)
    } catch let error as CancellationError {
      cancelOnServer()
      throw error
    } catch let error as PostgresError where error.code == .timedOut {
      cancelOnServer()
      throw error
    }
  }

  private func drainResults(
    action: String, until deadline: ContinuousClock.Instant?, heedsCancellation: Bool
  ) throws -> ResultHandle? {
    var last: ResultHandle?
    var failure: PostgresError?
    while let result = try nextResult(action: action, until: deadline, heedsCancellation: heedsCancellation) {
      switch result.status {
      case _ where result.beginsCopy: return result
      case PGRES_TUPLES_OK, PGRES_COMMAND_OK, PGRES_EMPTY_QUERY: last = result
      default: failure = failure ?? PostgresError(result: result.pointer, action: "\(end): \(action)")
      }
    }
    if let failure { throw failure }
    return last
  }

  func lost(_ action: String) -> PostgresError {
    guard let connection = try? live() else {
      return PostgresError(
        code: .connection, action: "\(end): \(action)", message: "the connection is closed")
    }
    let isBad = PQstatus(connection) == CONNECTION_BAD
    return PostgresError(
      connection: connection, code: isBad ? .connection : .unexpectedResult, action: "\(end): \(action)")
  }

  private func timedOut(_ action: String) -> PostgresError {
    PostgresError(code: .timedOut, action: "\(end): \(action)", message: "no answer within the time limit")
  }
}
