import Clusters
import LibPQ

@testable import MigrationEngine

/// Connections as the engine opens them, each from its first use to the end of the scene.
actor EngineConnections {
  private var open: [String: LibPQ.Connection] = [:]

  func connection(_ name: String, to server: Clusters.ConnectionString, end: String) async throws
    -> LibPQ.Connection
  {
    if let there = open[name] { return there }
    let new = try await Session.open(
      LibPQ.ConnectionString(server.text, for: end), end: end, purpose: "test")
    open[name] = new
    return new
  }

  func close() async {
    for connection in open.values { await connection.close() }
    open = [:]
  }
}

extension Scene {
  /// A session as the engine opens it.
  /// - Parameter name: another name is another session, to look on while the first is busy.
  func connection(_ end: End, _ name: String = "first") async throws -> LibPQ.Connection {
    try await connections.connection("\(end) \(name)", to: server(end), end: "\(end)")
  }

  /// Each sequence with its last value and whether it was called, read from the sequence itself.
  func sequences(_ end: End) async throws -> [String] {
    let session = try await SQLSession(server(end))
    let names = try await session.rows(
      """
      SELECT format('%I.%I', nspname, relname) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
      WHERE relkind = 'S' ORDER BY 1
      """
    ).compactMap { $0.first ?? nil }
    var states: [String] = []
    for name in names {
      let row = try await session.rows("SELECT last_value, is_called FROM \(name)").first
      states.append("\(name) \((row ?? []).map { $0 ?? "" })")
    }
    await session.close()
    return states
  }
}
