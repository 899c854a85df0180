import CLibPQ

/// One connection, one actor on its own thread. libpq is driven without blocking calls, so that every wait
/// has a deadline, ends when the task is cancelled, and reads while it writes (manual, section 34.4).
///
/// A connection has one user at a time: a transaction that is open between two calls belongs to the caller.
package actor Connection {
  private let executor: DispatchQueueExecutor
  package nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  nonisolated let waiter: SocketWait
  /// "source" or "target": errors name the end they came from.
  package nonisolated let end: String
  private var handle: Handle?
  nonisolated let abandonment: Abandonment
  /// Statements prepared on this connection: text to name.
  var prepared: [String: String] = [:]

  /// What happens to a statement that exceeds its limit, or whose task was cancelled.
  package enum Abandonment: Sendable {
    /// It is cancelled on the server, and the connection can be used again.
    case cancel
    /// The connection is closed: for servers that cannot cancel, such as PgBouncer's console.
    case close
  }

  private init(end: String, abandonment: Abandonment) throws {
    self.end = end
    self.abandonment = abandonment
    executor = DispatchQueueExecutor(label: "replicate.connection.\(end)")
    waiter = try SocketWait()
  }

  /// Connects.
  /// - Parameter limit: for TCP, TLS and authentication together. Resolving the name blocks for as long as
  ///   the system's resolver lets it, because libpq does that within one call (manual, section 34.1).
  /// - Throws: `PostgresError` with code `.connection` or `.timedOut`.
  package static func open(
    _ string: ConnectionString, end: String, within limit: Duration = .seconds(15),
    abandonment: Abandonment = .cancel
  ) async throws -> Connection {
    let string = try await string.withPassword()
    let connection = try Connection(end: end, abandonment: abandonment)
    try await connection.establish(string, until: .now + limit)
    return connection
  }

  /// Closes the connection. The server rolls back what was in progress.
  package func close() {
    handle = nil
    prepared = [:]
  }

  /// The server's version as `PQserverVersion` counts it: 150004 is 15.4.
  package func serverVersion() throws -> Int { Int(PQserverVersion(try live())) }

  /// The number of the process that serves this session, as it was told at the start (manual, section 34.2
  /// `PQbackendPID`). A pooler in between tells one of its own.
  package func backendPID() throws -> Int32 { PQbackendPID(try live()) }

  /// The database's encoding, as the server reported it at the start (manual, section 34.2
  /// `PQparameterStatus`); nil when it did not.
  package func serverEncoding() throws -> String? {
    PQparameterStatus(try live(), "server_encoding").map { String(cString: $0) }
  }

  /// Whether the session's role is a superuser, as the server reports after each change.
  package func isSuperuser() throws -> Bool {
    PQparameterStatus(try live(), "is_superuser").map { String(cString: $0) } == "on"
  }

  /// Whether the session is encrypted by TLS (manual, section 34.2 `PQsslInUse`).
  package func isEncrypted() throws -> Bool { PQsslInUse(try live()) == 1 }

  /// The host's address or socket directory, and the port, that libpq connected to.
  package func peer() throws -> (host: String, address: String, port: String) {
    Self.peer(of: try live())
  }

  private static func peer(of connection: OpaquePointer) -> (host: String, address: String, port: String) {
    func text(_ pointer: UnsafeMutablePointer<CChar>?) -> String { pointer.map { String(cString: $0) } ?? "" }
    return (text(PQhost(connection)), text(PQhostaddr(connection)), text(PQport(connection)))
  }

  private func establish(_ string: ConnectionString, until deadline: ContinuousClock.Instant) async throws {
    try await cancellable { try connect(string, until: deadline) }
  }

  private func connect(_ string: ConnectionString, until deadline: ContinuousClock.Instant) throws {
    let action = "connecting to the \(end)"
    let started = CStrings(string.complete.map(\.name)).withPointers { names in
      CStrings(string.complete.map(\.value)).withPointers { PQconnectStartParams(names, $0, 0) }
    }
    guard let pointer = started else {
      throw PostgresError(code: .connection, action: action, message: "out of memory")
    }
    let handle = Handle(pointer)
    // The server logs notices itself; the default processor would write them to our stderr.
    PQsetNoticeProcessor(pointer, { _, _ in }, nil)
    PQsetErrorVerbosity(pointer, PQERRORS_VERBOSE)
    var status = PGRES_POLLING_WRITING
    var isAnswered = false
    while status != PGRES_POLLING_OK {
      guard status != PGRES_POLLING_FAILED, PQstatus(pointer) != CONNECTION_BAD else {
        throw PostgresError(connecting: pointer, isAnswered: isAnswered, action: action)
      }
      let events: SocketWait.Events = status == PGRES_POLLING_READING ? .readable : .writable
      switch waiter.wait(PQsocket(pointer), for: events, until: deadline) {
      case .ready: break
      case .nudged: try Task.checkCancellation()
      case .timedOut:
        let (host, _, port) = Self.peer(of: pointer)
        var error = PostgresError(
          code: .timedOut, action: action,
          message: "\(host), port \(port), \(isAnswered ? "took the connection and " : "")gave no answer "
            + "within the time limit",
          hint: "Check host, port and firewalls.")
        error.isAnswered = isAnswered
        throw error
      }
      status = PQconnectPoll(pointer)
      // libpq returns to us when a host has accepted the connection, before it sends anything.
      isAnswered = isAnswered || !Self.statesBefore.contains(PQstatus(pointer))
    }
    PQsetErrorVerbosity(pointer, PQERRORS_DEFAULT)
    guard PQsetnonblocking(pointer, 1) == 0 else {
      throw PostgresError(connection: pointer, code: .connection, action: action)
    }
    self.handle = handle
  }

  /// For a connection that nothing has accepted.
  private static let statesBefore = [CONNECTION_NEEDED, CONNECTION_STARTED, CONNECTION_BAD]

  /// The open connection.
  /// - Throws: when it was closed or lost.
  func live() throws -> OpaquePointer {
    assertIsolated()
    guard let handle else {
      throw PostgresError(
        code: .connection, action: "using the connection to the \(end)", message: "the connection is closed")
    }
    return handle.pointer
  }

  /// Runs libpq calls so that cancelling the task ends their waits.
  func cancellable<Result>(_ body: () throws -> Result) async throws -> Result {
    try Task.checkCancellation()
    let waiter = waiter
    return try await withTaskCancellationHandler {
      // A closure that did not name the actor would not run on it.
      try self.perform(body)
    } onCancel: {
      waiter.nudge()
    }
  }

  private func perform<Result>(_ body: () throws -> Result) rethrows -> Result { try body() }
}

/// The owner of a `PGconn`.
private final class Handle {
  let pointer: OpaquePointer
  init(_ pointer: OpaquePointer) { self.pointer = pointer }
  deinit { PQfinish(pointer) }
}

/// The owner of a `PGresult`.
final class ResultHandle {
  let pointer: OpaquePointer
  init(_ pointer: OpaquePointer) { self.pointer = pointer }
  deinit { PQclear(pointer) }
  var status: ExecStatusType { PQresultStatus(pointer) }

  /// A COPY has begun: nothing else can be done on the connection until it ends.
  var beginsCopy: Bool {
    switch status {
    case PGRES_COPY_IN, PGRES_COPY_OUT, PGRES_COPY_BOTH: true
    default: false
    }
  }
}

/// C copies of strings.
final class CStrings {
  private let pointers: [UnsafePointer<CChar>?]
  private let owned: [UnsafeMutablePointer<CChar>?]

  init(_ strings: [String?]) {
    owned = strings.map { string in
      guard let string else { return nil }
      let utf8 = string.utf8CString
      let copy = UnsafeMutablePointer<CChar>.allocate(capacity: utf8.count)
      utf8.withUnsafeBufferPointer { bytes in
        if let start = bytes.baseAddress { copy.initialize(from: start, count: bytes.count) }
      }
      return copy
    }
    pointers = owned.map { $0.map { UnsafePointer($0) } } + [nil]
  }

  deinit { for pointer in owned { pointer?.deallocate() } }

  /// Lends the copies, followed by a null pointer, to `body`.
  func withPointers<Result>(_ body: ([UnsafePointer<CChar>?]) throws -> Result) rethrows -> Result {
    try withExtendedLifetime(self) { try body(pointers) }
  }
}
