import CLibPQ

/// A statement of a batch that did not do what was planned.
package struct BatchFailure: Error, Sendable {
  /// Index of the call in the batch.
  package var call: Int
  /// The server's error, or what it did.
  package var reason: Reason

  /// Either ends the batch: calls after it have not been run.
  package enum Reason: Sendable {
    /// The server raised an error.
    case refused(PostgresError)
    /// The statement affected another number of rows than the call expects.
    case rows(expected: Int, affected: Int)
  }
}

// Pipeline mode (manual, section 34.5): many statements, one round trip.
extension Connection {
  /// Bytes queued before they are sent. libpq moves the rest of its buffer after each partial write,
  /// so a large queue would cost quadratic time.
  private static let queueLimit = 64 << 10

  /// Each takes memory on the server, for its plan, for as long as the connection lives.
  private static let preparedLimit = 2000

  /// Runs calls of the batch in order, in the open transaction, and checks how many rows each affected.
  /// - Parameter calls: which of them; all when nil.
  /// - Throws: `BatchFailure` at the first call that failed: the transaction can only be rolled back then;
  ///   `PostgresError` when the connection is lost.
  package func execute(
    _ batch: StatementBatch, _ calls: Range<Int>? = nil, doing action: String
  ) async throws {
    let calls = (calls ?? batch.calls.indices).clamped(to: batch.calls.indices)
    let answers = try await answers(to: batch, calls, keepingRows: false, until: nil, doing: action)
    if let failure = answers.failure { throw failure }
  }

  /// Runs all calls of the batch in order, in the open transaction.
  /// - Parameters:
  ///   - action: what the call with this index does.
  ///   - limit: how long all may take together; when it passes, the connection is closed.
  /// - Returns: the rows of each call.
  /// - Throws: `PostgresError` of the first call that failed, or when the time was up.
  package func rows(
    of batch: StatementBatch, within limit: Duration, doing action: @Sendable (Int) -> String
  ) async throws -> [Rows] {
    guard !batch.isEmpty else { return [] }
    let answers = try await answers(
      to: batch, batch.calls.indices, keepingRows: true, until: .now + limit, doing: action(0))
    switch answers.failure?.reason {
    case .refused(var error):
      error.action = "\(end): \(action(answers.failure?.call ?? 0))"
      throw error
    case .rows, nil: break
    }
    guard answers.rows.count == batch.calls.count else {
      throw PostgresError(
        code: .unexpectedResult, action: "\(end): \(action(0))", message: "there were too few results")
    }
    return answers.rows
  }

  private func answers(
    to batch: StatementBatch, _ calls: Range<Int>, keepingRows: Bool,
    until deadline: ContinuousClock.Instant?, doing action: String
  ) async throws -> BatchAnswers {
    try await cancellable {
      let connection = try live()
      try prepareStatements(of: batch, calls, action: action, until: deadline)
      guard PQenterPipelineMode(connection) == 1 else { throw lost(action) }
      let answers: BatchAnswers
      do {
        answers = try sendCalls(
          calls, of: batch, keepingRows: keepingRows, action: action, until: deadline)
      } catch {
        if let error = error as? PostgresError, error.code == .timedOut { cancelOnServer() }
        // The pipeline is half sent: the connection cannot be used any more.
        close()
        throw error
      }
      guard PQexitPipelineMode(connection) == 1 else { throw lost(action) }
      return answers
    }
  }

  private func prepareStatements(
    of batch: StatementBatch, _ calls: Range<Int>, action: String, until deadline: ContinuousClock.Instant?
  ) throws {
    if prepared.count > Self.preparedLimit {
      guard PQsendQuery(try live(), "DEALLOCATE ALL") == 1 else { throw lost(action) }
      try finish(action: "\(action): giving back prepared statements", until: deadline)
      prepared = [:]
    }
    var isNeeded = [Bool](repeating: false, count: batch.statements.count)
    for call in batch.calls[calls] where call.isPrepared { isNeeded[call.statement] = true }
    for (sql, isNeeded) in zip(batch.statements, isNeeded) where isNeeded {
      try prepare(sql, action: action, until: deadline)
    }
  }

  func prepare(_ sql: String, action: String, until deadline: ContinuousClock.Instant? = nil) throws {
    guard prepared[sql] == nil else { return }
    let name = "replicate_\(prepared.count + 1)"
    guard PQsendPrepare(try live(), name, sql, 0, nil) == 1 else { throw lost(action) }
    try finish(action: "\(action): preparing a statement", until: deadline)
    prepared[sql] = name
  }

  private func sendCalls(
    _ calls: Range<Int>, of batch: StatementBatch, keepingRows: Bool, action: String,
    until deadline: ContinuousClock.Instant?
  ) throws -> BatchAnswers {
    let connection = try live()
    // A statement is called by its name, or sent with each call.
    let names = CStrings(batch.statements.map { prepared[$0] ?? $0 })
    let answers = BatchAnswers(
      batch: batch, end: end, action: action, deadline: deadline, keepsRows: keepingRows,
      next: calls.lowerBound)
    return try names.withPointers { try sendCalls(calls, named: $0, connection, answers) }
  }

  private func sendCalls(
    _ calls: Range<Int>, named names: [UnsafePointer<CChar>?], _ connection: OpaquePointer,
    _ unanswered: BatchAnswers
  ) throws -> BatchAnswers {
    var values: [UnsafePointer<CChar>?] = []
    var answers = unanswered
    let (batch, action) = (answers.batch, answers.action)
    try batch.withUnsafeParameters { base, lengths, formats in
      var queued = 0
      for index in calls {
        let call = batch.calls[index]
        values.removeAll(keepingCapacity: true)
        for parameter in call.parameters {
          let offset = batch.parameters[parameter]
          values.append(offset < 0 ? nil : base + offset)
        }
        let count = Int32(values.count)
        let first = call.parameters.lowerBound
        let isSent =
          call.isPrepared
          ? PQsendQueryPrepared(
            connection, names[call.statement], count, values, lengths + first, formats + first, 0)
          : PQsendQueryParams(
            connection, names[call.statement], count, nil, values, lengths + first, formats + first, 0)
        guard isSent == 1 else { throw lost(action) }
        queued += 64 + call.parameters.reduce(0) { $0 + Int(batch.lengths[$1]) }
        if queued >= Self.queueLimit {
          try flush(action: action, until: answers.deadline)
          try answers.takeReady(of: index + 1, from: self)
          queued = 0
        }
      }
      guard PQpipelineSync(connection) == 1 else { throw lost(action) }
      try flush(action: action, until: answers.deadline)
    }
    try answers.takeAll(from: self)
    return answers
  }
}

extension StatementBatch {
  /// Where the values lie, and the lengths and formats of all parameters.
  fileprivate func withUnsafeParameters<Result>(
    _ body: (UnsafePointer<CChar>, UnsafePointer<Int32>, UnsafePointer<Int32>) throws -> Result
  ) rethrows -> Result {
    // Passed as an argument, even an empty array gives a pointer.
    func call(_ bytes: UnsafePointer<UInt8>) throws -> Result {
      try bytes.withMemoryRebound(to: CChar.self, capacity: self.bytes.count) {
        try body($0, lengths, formats)
      }
    }
    return try call(bytes)
  }
}

/// Reads the answers to a pipeline in the order of its calls.
private struct BatchAnswers: Sendable {
  let batch: StatementBatch
  let end: String
  let action: String
  let deadline: ContinuousClock.Instant?
  let keepsRows: Bool
  var next: Int
  var failure: BatchFailure?
  /// For each call, if they are kept.
  var rows: [Rows] = []

  /// Reads what has already arrived for the calls sent so far, so that libpq's input buffer stays small.
  mutating func takeReady(of sent: Int, from connection: isolated Connection) throws {
    let pointer = try connection.live()
    while next < sent, PQisBusy(pointer) == 0 {
      guard let result = PQgetResult(pointer).map(ResultHandle.init) else {
        next += 1
        continue
      }
      note(result)
    }
  }

  /// Reads the rest, up to the answer to the sync.
  mutating func takeAll(from connection: isolated Connection) throws {
    while true {
      guard let result = try connection.nextResult(action: action, until: deadline) else {
        next += 1
        continue
      }
      if result.status == PGRES_PIPELINE_SYNC { return }
      note(result)
    }
  }

  private mutating func note(_ result: ResultHandle) {
    guard failure == nil, next < batch.calls.count else { return }
    switch result.status {
    case PGRES_COMMAND_OK, PGRES_TUPLES_OK:
      if keepsRows { rows.append(Rows(result.pointer)) }
      guard let expected = batch.calls[next].expectedRows else { return }
      let affected = Int(String(cString: PQcmdTuples(result.pointer))) ?? 0
      if affected != expected {
        failure = BatchFailure(call: next, reason: .rows(expected: expected, affected: affected))
      }
    default:
      let error = PostgresError(result: result.pointer, action: "\(end): \(action)")
      failure = BatchFailure(call: next, reason: .refused(error))
    }
  }
}
