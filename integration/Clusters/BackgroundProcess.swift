import Foundation
import Subprocess
import Synchronization

/// A process that runs beside the test, with its output in files.
///
/// It leads a process group of its own. When it ends, or this object is released, or the test process
/// dies, the whole group is killed, so that no child stays behind.
package final class BackgroundProcess: Sendable {
  /// Also the id of its process group.
  package let processID: Int32
  private let name: String
  private let outputFile: String
  private let errorFile: String
  private let ending: Task<Int32, any Error>
  private let ended: EndedFlag

  /// Set once the process has been reaped: from then on its id may belong to another.
  private final class EndedFlag: Sendable {
    let exitCode = Mutex<Int32?>(nil)
  }

  /// - Parameter environment: on top of this process's own.
  /// - Throws: `HarnessError` when it does not start.
  package init(_ arguments: [String], environment: [String: String] = [:]) async throws {
    let root = try await TestRoot.path
    let output = "\(root)/process-\(TestRoot.unique())"
    let ended = EndedFlag()
    let (identifiers, identified) = AsyncStream.makeStream(of: Int32.self)
    // The shell redirects and becomes the command, so the process id is the command's.
    let redirect = "exec \"$@\" >\"$0.out\" 2>\"$0.err\" </dev/null"
    let ending = Task {
      defer { identified.finish() }
      var options = PlatformOptions()
      options.createSession = true
      let result = try await Subprocess.run(
        .name("sh"), arguments: Arguments(["-c", redirect, output] + arguments),
        environment: .inherited(with: environment), platformOptions: options,
        input: .none, output: .discarded, error: .discarded
      ) { execution in
        identified.yield(execution.processIdentifier.value)
      }
      let exitCode = result.terminationStatus.shellExitCode
      ended.exitCode.withLock { $0 = exitCode }
      kill(-result.processIdentifier.value, SIGKILL)
      return exitCode
    }
    guard let processID = await identifiers.first(where: { _ in true }) else {
      _ = try await ending.value
      throw HarnessError("\(arguments.first ?? "") did not start")
    }
    self.processID = processID
    self.name = arguments.first ?? ""
    self.outputFile = "\(output).out"
    self.errorFile = "\(output).err"
    self.ending = ending
    self.ended = ended
    if let started = TestRoot.startTime(of: processID) {
      try Data().write(to: URL(filePath: "\(root)/processes/\(processID)-\(started)"))
    }
  }

  deinit {
    signal(SIGKILL)
  }

  /// Whether it has not been reaped yet.
  package var isRunning: Bool { exitCode == nil }

  /// nil while it runs; 128 + n when signal n ended it.
  package var exitCode: Int32? { ended.exitCode.withLock { $0 } }

  /// What it has written to standard output until now.
  package var output: String { Self.contents(of: outputFile) }

  /// What it has written to standard error until now.
  package var errors: String { Self.contents(of: errorFile) }

  /// The most memory that the process had at a time while it ran; nil once it has ended.
  package var peakMemoryBytes: Int? {
    Self.contents(of: "/proc/\(processID)/status").split(separator: "\n")
      .first { $0.hasPrefix("VmHWM:") }?.split(separator: " ").dropFirst().first
      .flatMap { Int($0) }.map { $0 * 1024 }
  }

  /// The time that processors have spent on it; nil once it has ended.
  package var processorSeconds: Double? { Self.processorSeconds(of: processID) }

  /// The time that processors have spent on a process; nil when there is none.
  package static func processorSeconds(of processID: Int32) -> Double? {
    // After the name, which may hold anything, come 11 fields before the times (manual page proc(5)).
    let fields = contents(of: "/proc/\(processID)/stat").split(separator: ")").last?.split(separator: " ")
    guard let fields, fields.count > 12, let user = Double(fields[11]), let system = Double(fields[12]) else {
      return nil
    }
    return (user + system) / Double(sysconf(Int32(_SC_CLK_TCK)))
  }

  /// Sends SIGTERM, which asks the engine to stop at a commit; returns at once.
  package func terminate() { signal(SIGTERM) }

  /// Sends SIGINT, as Ctrl-C does; returns at once.
  package func interrupt() { signal(SIGINT) }

  /// Sends SIGKILL, which nothing can clean up after; returns at once.
  package func kill9() { signal(SIGKILL) }

  /// Waits for the end and returns the exit code.
  package func waitForEnd(within limit: Duration) async throws -> Int32 {
    try await waitUntil("the end of \(name)", within: limit) { !isRunning }
    return try await ending.value
  }

  /// Waits until `condition` holds, and fails at once when the process ends before it does.
  package func waitUntil(
    _ what: String, within limit: Duration, every interval: Duration = .milliseconds(20),
    condition: @Sendable () async throws -> Bool
  ) async throws {
    let deadline = ContinuousClock.now + limit
    try await Clusters.waitUntil("\(what), by \(name)", within: limit * 2, every: interval) {
      let running = isRunning
      if try await condition() { return true }
      guard running else {
        throw HarnessError(
          "\(name) ended with exit code \(exitCode ?? -1) before \(what)\n\(output)\(errors)")
      }
      guard ContinuousClock.now < deadline else {
        throw HarnessError("\(what), by \(name): not within \(limit)\n\(errors.suffix(4000))")
      }
      return false
    }
  }

  /// Waits until standard output or standard error holds `text`.
  package func waitForOutput(_ text: String, within limit: Duration) async throws {
    try await waitUntil("\"\(text)\" in the output", within: limit) {
      output.contains(text) || errors.contains(text)
    }
  }

  /// Kills it if it still runs, and returns when it is gone.
  package func end() async throws {
    kill9()
    _ = try await ending.value
  }

  private func signal(_ number: Int32) {
    ended.exitCode.withLock { exitCode in
      if exitCode == nil { _ = kill(processID, number) }
    }
  }

  private static func contents(of file: String) -> String {
    // Missing until the shell has opened it. Output cut in the middle of a character is no error.
    guard let data = FileManager.default.contents(atPath: file) else { return "" }
    return String(decoding: data, as: UTF8.self)
  }
}
