#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Waits for a socket, a deadline, or a nudge from another thread (a cancelled task).
final class SocketWait: Sendable {
  struct Events: OptionSet {
    let rawValue: Int16
    static let readable = Events(rawValue: Int16(POLLIN))
    static let writable = Events(rawValue: Int16(POLLOUT))
  }

  enum Outcome {
    case ready(Events)
    case nudged
    case timedOut
  }

  private let readEnd: Int32
  private let writeEnd: Int32

  /// - Throws: `PostgresError` when the process has no file descriptor left.
  init() throws {
    var ends: [Int32] = [-1, -1]
    guard pipe(&ends) == 0 else {
      throw PostgresError(
        code: .connection, action: "opening a connection", message: String(cString: strerror(errno)),
        hint: "Raise the limit of open files (ulimit -n).")
    }
    readEnd = ends[0]
    writeEnd = ends[1]
    for end in ends {
      _ = fcntl(end, F_SETFL, O_NONBLOCK)
      _ = fcntl(end, F_SETFD, FD_CLOEXEC)
    }
  }

  deinit {
    close(readEnd)
    close(writeEnd)
  }

  /// Ends the current wait, or else the next one. A full pipe already contains a nudge.
  func nudge() {
    var byte: UInt8 = 1
    _ = write(writeEnd, &byte, 1)
  }

  /// - Parameter deadline: nil waits for as long as the connection lives: TCP keepalives end it when the peer
  ///   is gone.
  func wait(_ socket: Int32, for events: Events, until deadline: ContinuousClock.Instant?) -> Outcome {
    // The connection is already lost; poll would ignore it and wait for ever.
    guard socket >= 0 else { return .ready(events) }
    var entries = [
      pollfd(fd: socket, events: events.rawValue, revents: 0),
      pollfd(fd: readEnd, events: Int16(POLLIN), revents: 0),
    ]
    while true {
      let count = poll(&entries, 2, Self.milliseconds(until: deadline))
      if count < 0, errno == EINTR { continue }
      if count == 0 {
        if let deadline, deadline <= .now { return .timedOut }
        continue
      }
      if entries[1].revents != 0 {
        drain()
        return .nudged
      }
      // An error or hang-up counts as readable: libpq finds out when it reads.
      let isBroken = entries[0].revents & Int16(POLLERR | POLLHUP | POLLNVAL) != 0
      let ready = Events(rawValue: entries[0].revents & events.rawValue)
      return .ready(isBroken ? ready.union(events) : ready)
    }
  }

  private func drain() {
    var sink = [UInt8](repeating: 0, count: 64)
    while read(readEnd, &sink, sink.count) > 0 {}
  }

  private static func milliseconds(until deadline: ContinuousClock.Instant?) -> Int32 {
    guard let deadline else { return -1 }
    let left = deadline - .now
    if left <= .zero { return 0 }
    let (seconds, attoseconds) = left.components
    let milliseconds = min(seconds, 3600) * 1000 + attoseconds / 1_000_000_000_000_000 + 1
    return Int32(clamping: milliseconds)
  }
}
