import CLibPQ

/// A part of the output of COPY TO STDOUT.
package struct CopyChunk: Sendable {
  /// Whole rows, in the COPY's format.
  package var bytes: [UInt8]
  /// The number of rows of the whole COPY, once it has ended.
  package var finalRows: Int?
}

/// Messages of a COPY BOTH stream, back to back in one buffer.
package struct CopyMessages: Sendable {
  /// All messages, without framing.
  package var bytes: [UInt8] = []
  /// Where each message lies in `bytes`, in order of arrival.
  package var messages: [Range<Int>] = []
  /// The server ended the stream.
  package var isEnded = false

  /// None yet, in a stream that has not ended.
  package init() {}

  /// Appends the messages of `other`, and takes over whether the stream has ended.
  package mutating func append(_ other: CopyMessages) {
    guard !messages.isEmpty else {
      self = other
      return
    }
    let base = bytes.count
    bytes += other.bytes
    for range in other.messages { messages.append(range.lowerBound + base..<range.upperBound + base) }
    isEnded = other.isEnded
  }

  /// Keeps the first `count` messages and returns the others.
  package mutating func split(at count: Int) -> CopyMessages {
    guard count < messages.count else { return CopyMessages() }
    let base = messages[count].lowerBound
    var others = CopyMessages()
    others.bytes = Array(bytes[base...])
    others.messages = messages[count...].map { $0.lowerBound - base..<$0.upperBound - base }
    others.isEnded = isEnded
    bytes.removeSubrange(base...)
    messages.removeSubrange(count...)
    isEnded = false
    return others
  }
}

// COPY as the protocol sees it (manual, sections 34.10 and 55.4). Bytes pass through in large buffers: a hop
// between two connections costs microseconds, which must not be paid for every row.
extension Connection {
  private static let sliceBytes = 4 << 20

  /// Starts a `COPY … TO STDOUT`; then call `readCopy` until it returns the row count.
  package func startCopyOut(_ sql: String, doing action: String) async throws {
    try await startCopy(sql, expecting: PGRES_COPY_OUT, action: action)
  }

  /// Starts a `COPY … FROM STDIN`; then `writeCopy`, and `endCopy`.
  package func startCopyIn(_ sql: String, doing action: String) async throws {
    try await startCopy(sql, expecting: PGRES_COPY_IN, action: action)
  }

  /// Starts streaming by the walsender's START_REPLICATION; then `receiveMessages` and `sendMessage`.
  package func startCopyBoth(_ command: String, doing action: String) async throws {
    try await startCopy(command, expecting: PGRES_COPY_BOTH, action: action)
  }

  private func startCopy(_ sql: String, expecting status: ExecStatusType, action: String) async throws {
    try await cancellable {
      try send(sql, [], action: action)
      let result = try finish(action: action)
      guard result?.status == status else {
        // The caller cannot end a COPY of another kind than requested.
        if result?.beginsCopy == true { close() }
        throw PostgresError(
          code: .unexpectedResult, action: "\(end): \(action)", message: "the COPY did not begin")
      }
    }
  }

  /// Reads until `limit` bytes have arrived (a single row may exceed it) or the COPY has ended.
  /// - Parameter buffer: reused for its memory; its content is discarded.
  package func readCopy(
    reusing buffer: consuming [UInt8], limit: Int, doing action: String
  ) async throws -> CopyChunk {
    var bytes = buffer
    bytes.removeAll(keepingCapacity: true)
    return try await cancellable {
      let connection = try live()
      while bytes.count < limit {
        var row: UnsafeMutablePointer<CChar>?
        let length = PQgetCopyData(connection, &row, 1)
        if length > 0 {
          bytes.append(contentsOf: UnsafeRawBufferPointer(start: row, count: Int(length)))
          PQfreemem(row)
        } else if length == 0 {
          try awaitInput(action: action, until: nil)
        } else if length == -1 {
          let result = try finish(action: action)
          let rows = result.flatMap { Int(String(cString: PQcmdTuples($0.pointer))) }
          return CopyChunk(bytes: bytes, finalRows: rows ?? 0)
        } else {
          throw lost(action)
        }
      }
      return CopyChunk(bytes: bytes, finalRows: nil)
    }
  }

  /// Sends a part of COPY data; it need not end with a row.
  package func writeCopy(_ bytes: [UInt8], doing action: String) async throws {
    try await cancellable {
      // libpq keeps a copy of what it has not sent yet: so only a slice of a large row at a time.
      for start in stride(from: 0, to: bytes.count, by: Self.sliceBytes) {
        try put(bytes[start..<min(start + Self.sliceBytes, bytes.count)], action: action)
      }
    }
  }

  /// Ends the COPY and returns how many rows the server took.
  package func endCopy(doing action: String) async throws -> Int {
    try await cancellable {
      guard PQputCopyEnd(try live(), nil) == 1 else { throw lost(action) }
      let result = try finish(action: action)
      return result.flatMap { Int(String(cString: PQcmdTuples($0.pointer))) } ?? 0
    }
  }

  /// Waits until something has arrived, at most for `patience`, and returns what is there, up to about
  /// `limit` bytes.
  package func receiveMessages(
    limit: Int, patience: Duration, doing action: String
  ) async throws -> CopyMessages {
    try await cancellable {
      let connection = try live()
      let deadline = ContinuousClock.now + patience
      var received = CopyMessages()
      var isDrained = false
      while received.bytes.count < limit {
        var message: UnsafeMutablePointer<CChar>?
        let length = PQgetCopyData(connection, &message, 1)
        if length > 0 {
          isDrained = false
          let start = received.bytes.count
          received.bytes.append(contentsOf: UnsafeRawBufferPointer(start: message, count: Int(length)))
          received.messages.append(start..<received.bytes.count)
          PQfreemem(message)
        } else if length == 0 {
          // Reads what is in the socket before waiting.
          guard isDrained else {
            guard PQconsumeInput(connection) == 1 else { throw lost(action) }
            isDrained = true
            continue
          }
          guard received.messages.isEmpty, try awaitInput(action: action, until: deadline) else { break }
        } else if length == -1 {
          try finish(action: action)
          received.isEnded = true
          break
        } else {
          throw lost(action)
        }
      }
      return received
    }
  }

  /// Sends one message in a COPY BOTH stream.
  func sendMessage(_ bytes: [UInt8], doing action: String) async throws {
    try await cancellable { try put(bytes[...], action: action) }
  }

  /// Sends messages in a COPY BOTH stream, all at once.
  package func sendMessages(_ messages: [[UInt8]], doing action: String) async throws {
    try await cancellable {
      for message in messages { try queue(message[...], action: action) }
      try flush(action: action)
    }
  }

  private func put(_ bytes: ArraySlice<UInt8>, action: String) throws {
    try queue(bytes, action: action)
    try flush(action: action)
  }

  private func queue(_ bytes: ArraySlice<UInt8>, action: String) throws {
    let connection = try live()
    guard let count = Int32(exactly: bytes.count) else {
      throw PostgresError(
        code: .unexpectedResult, action: "\(end): \(action)",
        message: "\(bytes.count) bytes are more than one message can hold")
    }
    let isQueued = bytes.withUnsafeBytes { raw in
      PQputCopyData(connection, raw.bindMemory(to: CChar.self).baseAddress, count) == 1
    }
    guard isQueued else { throw lost(action) }
  }

  /// - Returns: false when the deadline came first.
  @discardableResult
  private func awaitInput(action: String, until deadline: ContinuousClock.Instant?) throws -> Bool {
    let connection = try live()
    switch waiter.wait(PQsocket(connection), for: .readable, until: deadline) {
    case .ready:
      guard PQconsumeInput(connection) == 1 else { throw lost(action) }
      return true
    case .nudged:
      try Task.checkCancellation()
      return true
    case .timedOut: return false
    }
  }
}
