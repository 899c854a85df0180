import Foundation
import MigrationEngine
import Synchronization

/// Where text goes. After a failed write nothing more is written; the failure is kept and checked at the end.
final class Output: Sendable {
  /// Writes all of the bytes; 0 or the `errno` of the failure.
  private let sink: @Sendable (String) -> Int32
  private let failure = Mutex<Int32>(0)

  init(sink: @escaping @Sendable (String) -> Int32) { self.sink = sink }

  convenience init(descriptor: Int32) {
    self.init { text in Self.write(Array(text.utf8), to: descriptor) }
  }

  /// The reader is gone, or the disk is full.
  var isClosed: Bool { failure.withLock { $0 != 0 } }

  func write(_ text: String) {
    failure.withLock { failure in
      if failure == 0 { failure = sink(text) }
    }
  }

  /// Removes control characters other than line breaks, wherever they come from.
  func line(_ text: String) {
    write(Fitting.plainText(text) + "\n")
  }

  /// A reader that left (`| head`) wants no more; any other failure lost a result.
  /// - Throws: `MigrationError` saying why.
  func checkFailure() throws {
    let code = failure.withLock { $0 }
    guard code != 0, code != EPIPE else { return }
    throw MigrationError(
      .failed, doing: "writing the result", reason: String(cString: strerror(code)),
      remedy: "Run the command again with its output going elsewhere.")
  }

  private static func write(_ bytes: [UInt8], to descriptor: Int32) -> Int32 {
    var rest = bytes[...]
    while !rest.isEmpty {
      let written = rest.withUnsafeBytes { Foundation.write(descriptor, $0.baseAddress, $0.count) }
      if written >= 0 {
        rest = rest.dropFirst(written)
      } else if errno == EAGAIN {
        // The terminal may be shared with a program that made it non-blocking.
        var waiting = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        _ = poll(&waiting, 1, 1000)
      } else if errno != EINTR {
        return errno
      }
    }
    return 0
  }
}
