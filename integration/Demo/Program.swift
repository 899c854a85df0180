import Clusters
import Foundation
import MigrationEngine

/// The program as its users run it.
struct Program {
  private let quiet: ReplicateProcess
  private let environment: [String: String]

  init(_ databases: FreshDatabases) {
    quiet = ReplicateProcess(source: databases.source, target: databases.target)
    environment = ["REPLICATE_SOURCE": databases.source.text, "REPLICATE_TARGET": databases.target.text]
  }

  /// Runs a command in this terminal.
  /// - Throws: when it does not exit with 0.
  func show(_ arguments: [String]) async throws {
    let process = try begin(arguments)
    let status = await Task.detached { () -> Int32 in
      process.waitUntilExit()
      return process.terminationStatus
    }.value
    guard status == 0 else {
      throw HarnessError("replicate \(arguments.joined(separator: " ")) ended with exit code \(status)")
    }
  }

  /// Starts the engine beside this terminal; `watch` shows how it gets on.
  func engine(_ arguments: [String]) async throws -> BackgroundProcess {
    prompt(arguments, inBackground: true)
    return try await quiet.start(arguments)
  }

  /// Shows `status --watch` until a cutover could begin, and a little more.
  func watch(_ engine: BackgroundProcess) async throws {
    try await engine.waitUntil("the migration's beginning", within: .seconds(60)) {
      try await quiet.run("status", "--json").exitCode == 0
    }
    let process = try begin(["status", "--watch"])
    defer { process.interrupt() }
    try await engine.waitUntil("readiness for a cutover", within: .seconds(180)) {
      let run = try await quiet.run("status", "--json")
      return try JSONDecoder().decode(Status.self, from: Data(run.output.utf8)).ready
    }
    let end = ContinuousClock.now + .seconds(4)
    try await engine.waitUntil("a look at the stream", within: .seconds(10)) { .now > end }
  }

  private func begin(_ arguments: [String]) throws -> Process {
    prompt(arguments, inBackground: false)
    let process = Process()
    process.executableURL = URL(filePath: try ReplicateProcess.executable())
    process.arguments = arguments
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    process.standardInput = FileHandle.nullDevice
    try process.run()
    return process
  }

  private func prompt(_ arguments: [String], inBackground: Bool) {
    let quoted = arguments.map { $0.contains(" ") ? "'\($0)'" : $0 }
    print("\n$ replicate \(quoted.joined(separator: " "))\(inBackground ? " &" : "")")
    fflush(nil)
  }
}
