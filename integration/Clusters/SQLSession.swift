import Foundation
import Subprocess
import Synchronization

/// What a statement met.
package enum SQLFailure: Error, Sendable, Equatable, CustomStringConvertible {
  /// The server refused the statement; the session can go on (after a ROLLBACK, if one was open).
  case refused(sqlState: String, message: String)

  /// The connection is gone; what the statement did on the server is unknown.
  case connectionLost(String)

  /// Nil where no server has spoken.
  package var sqlState: String? {
    switch self {
    case .refused(let sqlState, _): sqlState
    case .connectionLost: nil
    }
  }

  package var description: String {
    switch self {
    case .refused(let sqlState, let message): "\(sqlState): \(message)"
    case .connectionLost(let reason): "connection lost: \(reason)"
    }
  }
}

/// One session on a server, held by a psql process that is kept open.
///
/// psql and not our own client: the tests judge our client, so they must not see the database through it.
/// psql ends when its input ends, thus also with the test process.
package actor SQLSession {
  private struct Request: Sendable {
    let sql: String
    let reply: CheckedContinuation<String, any Error>
  }

  // psql's separators: control characters that no test data holds.
  private static let field: Character = "\u{1f}"
  private static let record: Character = "\u{1e}"
  private static let null = "\u{02}"
  private static let status: Character = "\u{1d}"
  private static let end = "\u{04}\n"

  /// Writing to a psql that has ended must fail, not end this process. A handler and not SIG_IGN, which
  /// every program started from here would inherit.
  private static let brokenPipe: Void = { signal(SIGPIPE) { _ in } }()

  private let requests: AsyncStream<Request>.Continuation
  private let runner: Task<Void, Never>

  /// Opens a session.
  /// - Throws: `SQLFailure.connectionLost` with psql's words when the server does not let us in.
  package init(_ server: ConnectionString, settings: [String: String] = [:]) async throws {
    Self.brokenPipe
    let (stream, requests) = AsyncStream.makeStream(of: Request.self)
    self.requests = requests
    self.runner = Task { await Self.serve(stream, requests, on: server) }
    for (name, value) in settings.sorted(by: { $0.key < $1.key }) {
      try await execute("SET \(name) = \(quotedLiteral(value))")
    }
    if settings.isEmpty { try await execute("SELECT 1") }
  }

  deinit {
    requests.finish()
  }

  /// Runs one statement, or several joined by `\;`, which travel in one message and so in one implicit
  /// transaction. Not by a bare `;`: only the outcome of the last would be seen.
  package func execute(_ sql: String) async throws {
    _ = try await rows(sql)
  }

  /// Runs one query. Values as text, nil for NULL. Lines that are marked are for servers that know them, as
  /// `Versions.fitting` says.
  package func rows(_ sql: String) async throws -> [[String?]] {
    let sql = Versions.isMarked(sql) ? try await fitting(sql) : sql
    let text = try await withCheckedThrowingContinuation { reply in
      if case .enqueued = requests.yield(Request(sql: sql, reply: reply)) { return }
      reply.resume(throwing: SQLFailure.connectionLost("the session is closed"))
    }
    guard !text.isEmpty else { return [] }
    return text.split(separator: Self.record, omittingEmptySubsequences: false).map { record in
      record.split(separator: Self.field, omittingEmptySubsequences: false).map {
        $0 == Self.null ? nil : String($0)
      }
    }
  }

  private func fitting(_ sql: String) async throws -> String {
    let number = try await value("SHOW server_version_num").flatMap { Int($0) } ?? 0
    return try await Versions.fitting(sql, major: number / 10_000)
  }

  /// The first column of the first row.
  package func value(_ sql: String) async throws -> String? {
    try await rows(sql).first?.first ?? nil
  }

  /// Ends the session and returns when it is gone.
  package func close() async {
    requests.finish()
    await runner.value
  }

  private static func serve(
    _ stream: AsyncStream<Request>, _ requests: AsyncStream<Request>.Continuation,
    on server: ConnectionString
  ) async {
    var reason: String
    // The request that psql did not answer is failed with psql's last words, known once it has ended.
    let unanswered = Mutex<Request?>(nil)
    do {
      let psql = try PostgresPrograms.path("psql")
      // The connection string goes by environment, since psql's arguments are for everyone to see.
      let command = "exec \"$0\" -X -q -A -t -F \"$1\" -R \"$2\" -P null=\"$3\" -d \"$SESSION_CONNECTION\""
      let result = try await Subprocess.run(
        .name("sh"), arguments: ["-c", command, psql, String(field), String(record), null],
        environment: .inherited(with: [
          "SESSION_CONNECTION": server.text, "PGAPPNAME": "replicate-test", "PGCLIENTENCODING": "UTF8",
        ]),
        input: .inputWriter, output: .sequence, error: .string(limit: 64 << 20)
      ) { execution in
        var output = execution.standardOutput.makeAsyncIterator()
        for await request in stream {
          unanswered.withLock { $0 = request }
          _ = try await execution.standardInputWriter.write(message(request.sql))
          guard let reply = try await text(from: &output) else { break }
          unanswered.withLock { $0 = nil }
          request.reply.resume(with: outcome(reply))
        }
        try await execution.standardInputWriter.finish()
      }
      reason = result.standardError.trimmingCharacters(in: .whitespacesAndNewlines)
      if reason.isEmpty { reason = "the session is closed" }
    } catch {
      reason = "\(error)"
    }
    requests.finish()
    unanswered.withLock { $0 }?.reply.resume(throwing: SQLFailure.connectionLost(reason))
    for await request in stream {
      request.reply.resume(throwing: SQLFailure.connectionLost(reason))
    }
  }

  /// The statement, then an echo of how it went: psql answers in order, so the echo ends the reply.
  private static func message(_ sql: String) -> String {
    "\(sql)\n;\n\\echo '\(status)':ERROR'\(status)':SQLSTATE'\(status)':LAST_ERROR_MESSAGE'\u{04}'\n"
  }

  private static func text(from output: inout SubprocessOutputSequence.Iterator) async throws -> String? {
    var bytes: [UInt8] = []
    while let buffer = try await output.next() {
      buffer.withUnsafeBytes { bytes.append(contentsOf: $0) }
      if bytes.suffix(2) == Array(end.utf8) {
        return String(decoding: bytes.dropLast(2), as: UTF8.self)
      }
    }
    return nil
  }

  private static func outcome(_ reply: String) -> Result<String, any Error> {
    var parts = reply.split(separator: status, omittingEmptySubsequences: false)
    guard parts.count >= 4 else { return .failure(HarnessError("psql's reply has no status")) }
    let message = String(parts.removeLast())
    let sqlState = String(parts.removeLast())
    let failed = parts.removeLast() == "true"
    if failed { return .failure(SQLFailure.refused(sqlState: sqlState, message: message)) }
    var body = parts.joined(separator: String(status))
    if body.hasSuffix("\n") { body.removeLast() }
    return .success(body)
  }
}
