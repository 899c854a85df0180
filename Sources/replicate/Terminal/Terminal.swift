import Foundation

/// A file descriptor that is a screen.
struct Terminal: Sendable {
  /// The current columns: a window may be resized while a migration runs.
  var columns: @Sendable () -> Int

  init(columns: @escaping @Sendable () -> Int) { self.columns = columns }

  /// Nil for a file, a pipe, or a terminal that cannot move its cursor.
  init?(descriptor: Int32, environment: [String: String]) {
    guard isatty(descriptor) == 1, environment["TERM"].map({ $0 != "dumb" && !$0.isEmpty }) == true else {
      return nil
    }
    let stated = environment["COLUMNS"].flatMap(Int.init).flatMap { $0 > 0 ? $0 : nil }
    columns = {
      var size = winsize()
      guard ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return stated ?? 80 }
      return Int(size.ws_col)
    }
  }
}
