import Foundation

/// Named places at which a test makes the engine die, or wait while it kills something else. Nothing happens
/// unless `REPLICATE_FAILPOINT` names one: `before drain=kill`, `after seal=wait:PATH`. A release build
/// ignores them, unless it is built for tests with `-Xswiftc -DFAILPOINTS`.
enum Failpoint {
  #if DEBUG || FAILPOINTS
    private enum Action: Sendable {
      /// As if by `kill -9`.
      case kill
      /// Creates the file, and continues once it has been removed.
      case wait(path: String)
    }

    private static let wanted: (name: String, action: Action)? = {
      guard let text = ProcessInfo.processInfo.environment["REPLICATE_FAILPOINT"] else { return nil }
      let parts = text.split(separator: "=", maxSplits: 1).map(String.init)
      guard parts.count == 2 else { return nil }
      if parts[1] == "kill" { return (parts[0], .kill) }
      guard parts[1].hasPrefix("wait:") else { return nil }
      return (parts[0], .wait(path: String(parts[1].dropFirst("wait:".count))))
    }()
  #endif

  /// Once per place: a second visit continues.
  static func reached(_ name: String) async {
    #if DEBUG || FAILPOINTS
      guard let wanted, wanted.name == name else { return }
      switch wanted.action {
      case .kill: kill(getpid(), SIGKILL)
      case .wait(let path):
        guard !FileManager.default.fileExists(atPath: path + ".passed") else { return }
        for file in [path + ".passed", path] {
          guard FileManager.default.createFile(atPath: file, contents: nil) else { return }
        }
        while FileManager.default.fileExists(atPath: path), !Task.isCancelled {
          do { try await Task.sleep(for: .milliseconds(10)) } catch { return }
        }
      }
    #endif
  }
}
