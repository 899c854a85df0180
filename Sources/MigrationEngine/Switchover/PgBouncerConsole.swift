import LibPQ

/// The admin console of one PgBouncer. It knows only the simple query protocol, and its own commands (manual
/// page pgbouncer(1), section Admin console).
struct PgBouncerConsole: Sendable {
  /// What `SHOW DATABASES` shows about a database.
  struct Entry: Sendable, Equatable {
    var address: PgBouncerFile.Address
    /// Nil: the pooler's mode.
    var poolMode: String?
    var isPaused: Bool
  }

  /// A server session of the pooler with a client's transaction, from `SHOW SERVERS`.
  struct BusyServer: Sendable, Equatable {
    /// On the server; 0 when the pooler does not know.
    var pid: Int32
    var user: String
    var application: String
    /// When its client last sent a query.
    var since: String

    var words: String { "pid \(pid) of \(user), application \(application), asked last at \(since)" }
  }

  private let connection: Connection

  /// - Throws: `PostgresError`.
  static func open(_ pooler: SwitchStep.Pooler, within limit: Duration) async throws -> PgBouncerConsole {
    let string = pooler.admin
      .setting("application_name", to: "replicate switch")
      // It refuses parameters that it does not know, and these might come from the environment.
      .setting("options", to: "").setting("client_encoding", to: "UTF8")
    return PgBouncerConsole(
      connection: try await Connection.open(
        string, end: pooler.label, within: limit, abandonment: .close))
  }

  func close() async { await connection.close() }

  /// Nil when it does not know the database.
  func entry(_ database: String, within limit: Duration) async throws -> Entry? {
    let rows = try await command("SHOW DATABASES", within: limit)
    guard let row = try rows.first(where: { try $0.text("name") == database }) else { return nil }
    return Entry(
      address: PgBouncerFile.Address(
        host: try row.optional("host") ?? "", port: try row.text("port"), database: try row.text("database")),
      poolMode: try row.optional("pool_mode").flatMap { $0.isEmpty ? nil : $0 },
      isPaused: try row.text("paused") == "1")
  }

  /// The other databases whose clients come to the same one on the server.
  func aliases(of database: String, within limit: Duration) async throws -> [String] {
    try await others(than: database, within: limit) { "\(try server($0)) \(try $0.text("database"))" }
  }

  /// The other databases whose clients come to the same server.
  func neighbours(of database: String, within limit: Duration) async throws -> [String] {
    try await others(than: database, within: limit, server)
  }

  private func server(_ row: Rows.Row) throws -> String {
    "\((try row.optional("host") ?? "").lowercased()) \(try row.text("port"))"
  }

  private func others(
    than database: String, within limit: Duration, _ place: (Rows.Row) throws -> String
  ) async throws -> [String] {
    let rows = try await command("SHOW DATABASES", within: limit)
    guard let own = try rows.first(where: { try $0.text("name") == database }).map(place) else { return [] }
    return try rows.filter { try place($0) == own }.map { try $0.text("name") }.filter { $0 != database }
  }

  func busyServers(of database: String, within limit: Duration) async throws -> [BusyServer] {
    try await command("SHOW SERVERS", within: limit)
      .filter { try $0.text("database") == database && $0.text("state").hasPrefix("active") }
      .map { row in
        BusyServer(
          pid: try row.integer("remote_pid", as: Int32.self), user: try row.text("user"),
          // Not shown before 1.18.
          application: (try? row.optional("application_name")) ?? "", since: try row.text("request_time"))
      }
  }

  func setting(_ name: String, within limit: Duration) async throws -> String? {
    try await command("SHOW CONFIG", within: limit).first { try $0.text("key") == name }?.optional("value")
  }

  /// Returns once no transaction is running and new ones wait.
  func pause(_ database: String, within limit: Duration) async throws {
    try await command("PAUSE \(SQL.identifier(database))", within: limit)
  }

  func resume(_ database: String, within limit: Duration) async throws {
    try await command("RESUME \(SQL.identifier(database))", within: limit)
  }

  /// Reloads the files. It reports success even when they could not be read: check `entry`.
  func reload(within limit: Duration) async throws { try await command("RELOAD", within: limit) }

  @discardableResult
  private func command(_ text: String, within limit: Duration) async throws -> Rows {
    try await connection.query(text, doing: text, within: limit)
  }
}
