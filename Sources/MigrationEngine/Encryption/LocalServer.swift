import Foundation

/// Decides whether a data directory on this machine is the connected server's own.
///
/// A path alone proves nothing: a server in a container or on another host reports one too, and another
/// cluster may lie under the same name here. `postmaster.pid` (written by the running server) and
/// `global/pg_control` prove it.
struct LocalServer: Sendable {
  /// `/proc` unless a test says otherwise.
  var procRoot = "/proc"

  enum Finding: Sendable, Equatable {
    case own(dataDirectory: String)
    /// Why nothing on this machine counts as evidence.
    case unproven(String)
  }

  /// Seconds by which `pg_postmaster_start_time()` may be later than the start time in the file. The server
  /// takes the first after it has set up its shared memory, the second before.
  private static let startDelay = 60.0

  func find(_ facts: TargetServerFacts) -> Finding {
    guard facts.isLocal else { return .unproven("the server is not on this machine") }
    guard let folder = facts.dataDirectory else {
      return .unproven("the server does not show its data directory")
    }
    guard let port = facts.port, let start = facts.postmasterStartEpoch else {
      return .unproven("the server does not show its port and start time")
    }
    do {
      let text = try BoundedFile.text("\(folder)/postmaster.pid", limit: 4096)
      guard let written = PostmasterFile(parsing: text) else {
        return .unproven("\(folder)/postmaster.pid is not what a running server writes")
      }
      guard written.port == port else {
        return .unproven("\(folder) belongs to a server on port \(written.port), not \(port)")
      }
      let delay = start - Double(written.startEpoch)
      guard delay >= -1, delay <= Self.startDelay else {
        return .unproven("\(folder) belongs to a server that was started at another time")
      }
      if let problem = try process(written.pid, differsFrom: folder) { return .unproven(problem) }
      if let identifier = facts.systemIdentifier {
        guard try Self.systemIdentifier(in: folder) == identifier else {
          return .unproven("\(folder) belongs to a cluster with another system identifier")
        }
      }
      return .own(dataDirectory: folder)
    } catch {
      return .unproven("the server's data directory cannot be read from here (\(error))")
    }
  }

  /// The postmaster's working directory is its data directory. Only its owner and root may see it; others
  /// must be content with a live process.
  private func process(_ pid: Int32, differsFrom folder: String) throws(UnreadableFile) -> String? {
    guard (try? BoundedFile.identity("\(procRoot)/\(pid)")) != nil else {
      return "process \(pid), which \(folder)/postmaster.pid names, does not live here"
    }
    guard let working = try? BoundedFile.identity("\(procRoot)/\(pid)/cwd") else { return nil }
    return try working == BoundedFile.identity(folder)
      ? nil : "process \(pid), which \(folder)/postmaster.pid names, works in another directory"
  }

  /// `ControlFileData` begins with it, in the machine's own byte order, in every version.
  private static func systemIdentifier(in folder: String) throws(UnreadableFile) -> String {
    let path = "\(folder)/global/pg_control"
    let bytes = try BoundedFile.head(path, limit: 8)
    guard bytes.count == 8 else { throw UnreadableFile(path: path, why: "too short") }
    return String(bytes.withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) })
  }
}

/// The lines of `postmaster.pid` that matter here: pid, data directory, start time, port (pidfile.h).
struct PostmasterFile: Equatable {
  let pid: Int32
  let startEpoch: Int64
  let port: Int

  init?(parsing text: String) {
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    // A stand-alone backend writes its pid negated, and is no server to connect to.
    guard lines.count >= 4, let pid = Int32(lines[0]), pid > 0, let start = Int64(lines[2]),
      let port = Int(lines[3])
    else { return nil }
    self.pid = pid
    self.startEpoch = start
    self.port = port
  }
}
