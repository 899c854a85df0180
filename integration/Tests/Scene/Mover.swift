import Clusters
import Foundation
import Testing

/// The role that an engine logs in as on one end, whose password changes on the way. It is no scene, but goes
/// with one: a server's role outlives the databases, and is dropped after them.
struct Mover: Sendable {
  let name: String
  let password: String
  let end: Scene.End

  /// Runs `body` with a scene whose engine is that role.
  static func with(
    _ name: String, on end: Scene.End = .source, _ body: (Scene, Mover) async throws -> Void
  ) async throws {
    let mover = Mover(name: "\(name)_\(getpid())", password: UUID().uuidString, end: end)
    try await mover.execute("CREATE ROLE \(mover.name) SUPERUSER LOGIN PASSWORD '\(mover.password)'")
    try await Scene.run(name) { scene in
      let login = ["user": mover.name, "password": mover.password]
      let own = scene.connecting(source: end == .source ? login : [:], target: end == .target ? login : [:])
      try await body(own, mover)
      try await mover.execute("REASSIGN OWNED BY \(mover.name) TO postgres", on: scene.server(end))
    }
    try await mover.execute("DROP ROLE \(mover.name)")
  }

  func changePassword() async throws { try await set("another") }
  func restorePassword() async throws { try await set(password) }

  private func set(_ password: String) async throws {
    try await execute("ALTER ROLE \(name) PASSWORD '\(password)'")
  }

  /// Ends the role's sessions of this application.
  func end(_ application: String) async throws {
    try await execute(
      """
      SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
      WHERE usename = '\(name)' AND application_name = '\(application)'
      """)
  }

  func pid(_ application: String) async throws -> String? {
    let session = try await SQLSession(server)
    let pid = try await session.value(
      "SELECT pid FROM pg_stat_activity WHERE usename = '\(name)' AND application_name = '\(application)'")
    await session.close()
    return pid
  }

  private var server: ConnectionString {
    get async throws {
      let pair = try await ClusterPair.shared
      return end == .source ? pair.source : pair.target
    }
  }

  private func execute(_ sql: String, on database: ConnectionString? = nil) async throws {
    var place = database
    if place == nil { place = try await server }
    guard let place else { return }
    let session = try await SQLSession(place, settings: ["default_transaction_read_only": "off"])
    try await session.execute(sql)
    await session.close()
  }
}
