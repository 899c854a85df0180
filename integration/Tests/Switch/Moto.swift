import Clusters
import Foundation

/// The emulator of AWS, with the environment that leads the `aws` program to it.
struct Moto: Sendable {
  static var isInstalled: Bool { find("moto_server") && find("aws") }

  private static func find(_ program: String) -> Bool {
    let path = ProcessInfo.processInfo.environment["PATH"] ?? ""
    return path.split(separator: ":").contains {
      FileManager.default.isExecutableFile(atPath: "\($0)/\(program)")
    }
  }

  let process: BackgroundProcess
  let environment: [String: String]

  /// Ends with the test process.
  static func start() async throws -> Moto {
    // The kernel gives a port that is free; the server takes none by itself.
    let port = Int.random(in: 33_000..<60_000)
    let process = try await BackgroundProcess(["moto_server", "-H", "127.0.0.1", "-p", "\(port)"])
    let moto = Moto(
      process: process,
      environment: [
        "AWS_ENDPOINT_URL": "http://127.0.0.1:\(port)", "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "eu-west-1", "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
      ])
    try await process.waitForOutput("Running on", within: .seconds(60))
    return moto
  }

  /// One call of the `aws` program.
  /// - Returns: its output as text, without the line's end.
  @discardableResult
  func aws(_ arguments: String...) async throws -> String {
    let output = try await Command.check(["aws", "--output", "text"] + arguments, environment: environment)
    return output.trimmingCharacters(in: .whitespacesAndNewlines)
  }
}
