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

  /// A cluster of Aurora.
  /// - Returns: its endpoint.
  func cluster(_ name: String, _ options: [String] = []) async throws -> String {
    let arguments = [
      "aws", "--output", "text", "rds", "create-db-cluster", "--db-cluster-identifier", name, "--engine",
      "aurora-postgresql", "--master-username", "u", "--master-user-password", "pppppppp", "--query",
      "DBCluster.Endpoint",
    ]
    return try await Command.check(arguments + options, environment: environment)
      .trimmingCharacters(in: .whitespacesAndNewlines)
  }

  /// A migration whose target is known by the name of an endpoint.
  func scene(
    _ name: String, _ host: String, sourceHost: String? = nil, path: String? = nil,
    _ body: @Sendable (Scene) async throws -> Void
  ) async throws {
    let environment = environment.merging(path.map { ["PATH": $0] } ?? [:]) { $1 }
    try await Scene.run(name) { fresh in
      // The address is given, so that the name is not looked up.
      let scene = fresh.connecting(
        source: sourceHost.map { ["host": $0, "hostaddr": "127.0.0.1"] } ?? [:],
        target: ["host": host, "hostaddr": "127.0.0.1", "sslmode": "require"], environment: environment)
      try await scene.source("CREATE TABLE t (id int PRIMARY KEY)")
      try await body(scene)
    }
  }
}

/// A file of switch steps.
func planFile(_ text: String) async throws -> String {
  let path = try await freshDirectory() + "/replicate.yaml"
  try Data(text.utf8).write(to: URL(filePath: path))
  return path
}

/// What was printed to fit into lines, in one.
func unwrapped(_ text: String) -> String {
  text.split(whereSeparator: \.isWhitespace).joined(separator: " ")
}

/// A folder whose program of this name is a script, before all others in PATH.
func pathWith(_ program: String, _ script: String) async throws -> String {
  let folder = try await freshDirectory()
  try Data(script.utf8).write(to: URL(filePath: "\(folder)/\(program)"))
  try FileManager.default.setAttributes(
    [.posixPermissions: 0o755], ofItemAtPath: "\(folder)/\(program)")
  return "\(folder):\(ProcessInfo.processInfo.environment["PATH"] ?? "")"
}
