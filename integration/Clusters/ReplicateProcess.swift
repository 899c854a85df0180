import Foundation

/// The program under test, as its users run it.
package struct ReplicateProcess: Sendable {
  /// The built executable: `REPLICATE_BIN`, or the one beside the test bundle in the build directory.
  package static func executable() throws -> String {
    if let given = ProcessInfo.processInfo.environment["REPLICATE_BIN"] { return given }
    let bundle = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
    let directory = URL(filePath: bundle).deletingLastPathComponent()
    let path = directory.appending(path: "replicate").path(percentEncoded: false)
    guard FileManager.default.isExecutableFile(atPath: path) else {
      throw HarnessError("no executable \(path): build first, or set REPLICATE_BIN")
    }
    return path
  }

  private let environment: [String: String]

  /// The ends travel in the environment, so that no password shows in `ps`.
  package init(
    source: ConnectionString, target: ConnectionString, environment: [String: String] = [:]
  ) {
    var all = environment
    all["REPLICATE_SOURCE"] = source.text
    all["REPLICATE_TARGET"] = target.text
    self.environment = all
  }

  /// Runs a command to its end; past the limit it is killed, and the result says so.
  package func run(_ arguments: String..., limit: Duration = .seconds(120)) async throws -> Finished {
    try await run(arguments, limit: limit)
  }

  /// The same with all arguments in one array.
  package func run(_ arguments: [String], limit: Duration = .seconds(120)) async throws -> Finished {
    try await Command.run([Self.executable()] + arguments, environment: environment, limit: limit)
  }

  /// The same with more in its environment.
  package func with(_ more: [String: String]) -> ReplicateProcess {
    ReplicateProcess(environment: environment.merging(more) { _, new in new })
  }

  private init(environment: [String: String]) { self.environment = environment }

  /// Starts a command and returns while it runs.
  package func start(_ arguments: String...) async throws -> BackgroundProcess {
    try await start(arguments)
  }

  /// The same with all arguments in one array.
  package func start(_ arguments: [String]) async throws -> BackgroundProcess {
    try await BackgroundProcess([Self.executable()] + arguments, environment: environment)
  }
}
