import Foundation
import Synchronization

/// The directory below which this process keeps everything it starts or writes: one per test process.
///
/// Whatever happens to this process, nothing stays: `integration/reap watch`, started with the root, ends
/// the servers and removes the files once the process is gone. An exit hook does it at once in the
/// ordinary case, and what a power cut leaves behind is removed by the next process.
enum TestRoot {
  /// The folder `integration`, whose scripts the harness calls.
  static let scripts = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()

  private static let creation = Task { try await create() }
  private static let counter = Atomic<Int>(0)
  private static let pathAtExit = Mutex("")

  static var path: String {
    get async throws { try await creation.value }
  }

  /// Different on every call in this process.
  static func unique() -> Int {
    counter.add(1, ordering: .relaxed).newValue
  }

  static func script(_ name: String) -> String {
    scripts.appending(path: name).path(percentEncoded: false)
  }

  private static func create() async throws -> String {
    let temporary = ProcessInfo.processInfo.environment["TMPDIR"] ?? "/tmp"
    let parent = "\(temporary)/replicate-test.\(getuid())"
    guard let started = startTime(of: getpid()) else {
      throw HarnessError("/proc/self/stat cannot be read: the integration tests need Linux")
    }
    let root = "\(parent)/\(getpid())-\(started)"
    // Servers run as another user and must be able to pass through.
    try await Command.check(["install", "-d", "-m", "0755", parent, root, "\(root)/processes"])
    try await Command.check([script("reap"), "stale", parent])
    let watch = "setsid \"$0\" watch \"$1\" </dev/null >/dev/null 2>&1 &"
    try await Command.check(["sh", "-c", watch, script("reap"), root])
    pathAtExit.withLock { $0 = root }
    atexit { TestRoot.removeAtExit() }
    return root
  }

  private static func removeAtExit() {
    let root = pathAtExit.withLock { $0 }
    let removal = Process()
    removal.executableURL = URL(filePath: script("reap"))
    removal.arguments = ["root", root]
    do {
      try removal.run()
      removal.waitUntilExit()
    } catch {
      FileHandle.standardError.write(Data("could not run reap root \(root): \(error)\n".utf8))
    }
  }

  /// Start time of a process in clock ticks since boot: unlike that of a later one with the same id. See
  /// proc(5).
  static func startTime(of process: Int32) -> String? {
    guard let stat = try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8),
      let nameEnd = stat.lastIndex(of: ")")
    else { return nil }
    // Fields from the third on, since the second, the command's name, may itself hold blanks.
    let fields = stat[nameEnd...].dropFirst(2).split(separator: " ")
    guard fields.count > 19 else { return nil }
    return String(fields[19])
  }
}

/// An empty directory of this process, removed with everything else when it ends.
package func freshDirectory() async throws -> String {
  let path = try await TestRoot.path + "/directory-\(TestRoot.unique())"
  try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
  return path
}
