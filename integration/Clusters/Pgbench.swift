/// pgbench's own workload, as one more set of writers.
package enum Pgbench {
  /// Creates pgbench's tables and fills them; 100,000 accounts a unit of scale.
  package static func initialize(_ server: ConnectionString, scale: Int) async throws {
    try await Command.check(
      shell(["-i", "-q", "-s", "\(scale)"]), environment: ["PGBENCH_CONNECTION": server.text],
      limit: .seconds(300))
  }

  /// Starts the TPC-B-like workload. It may end by itself with an error: a fence refuses its writes.
  /// - Parameters:
  ///   - rate: transactions per second at most, of all clients together.
  ///   - seconds: ends it in any case.
  package static func start(
    _ server: ConnectionString, clients: Int, rate: Int, seconds: Int = 600
  ) async throws -> BackgroundProcess {
    let arguments = [
      "-n", "-c", "\(clients)", "-j", "\(min(clients, 2))", "-R", "\(rate)", "-T", "\(seconds)",
    ]
    return try await BackgroundProcess(
      shell(arguments), environment: ["PGBENCH_CONNECTION": server.text])
  }

  /// By environment, since arguments are for everyone to see. pgbench takes a connection string as its database.
  private static func shell(_ arguments: [String]) throws -> [String] {
    try ["sh", "-c", "exec \"$0\" \"$@\" \"$PGBENCH_CONNECTION\"", PostgresPrograms.path("pgbench")]
      + arguments
  }
}
