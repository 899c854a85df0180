import LibPQ
import LogicalReplication

/// Where jobs of pg_cron run on an end: as other rows of an extension they are copied, but to run in that
/// end's database, and not before it is open.
struct JobPlace: Sendable {
  var port: String
  var database: String

  static func read(on end: Connection) async throws -> JobPlace {
    let rows = try await end.query(
      "SELECT pg_catalog.current_setting('port') AS port, pg_catalog.current_database() AS database",
      doing: "asking the \(end.end) where its jobs run", within: .seconds(15))
    guard let row = rows.first else { return JobPlace(port: "5432", database: "") }
    return JobPlace(port: try row.text("port"), database: try row.text("database"))
  }

  /// What is read on the other end for these columns.
  func values(_ columns: String) -> String {
    Self.names(columns).map { name in
      switch name {
      case "active": "false AS active"
      case "nodeport":
        "CASE nodeport WHEN \(Self.ownPort) THEN \(SQL.literal(port))::int ELSE nodeport END AS nodeport"
      case "database":
        """
        CASE database WHEN pg_catalog.current_database() THEN \(SQL.literal(database)) ELSE database END
          AS database
        """
      default: name
      }
    }.joined(separator: ", ")
  }

  /// For comparing: the same on both ends where the jobs are.
  static func withoutPlace(_ columns: String) -> String {
    names(columns).filter { $0 != "active" }.map { name in
      switch name {
      case "nodeport": "NULLIF(nodeport, \(ownPort))"
      case "database": "NULLIF(database, pg_catalog.current_database())"
      default: name
      }
    }.joined(separator: ", ")
  }

  private static let ownPort = "pg_catalog.current_setting('port')::int"

  /// pg_cron's columns need no quotes.
  private static func names(_ columns: String) -> [String] {
    columns.split(separator: ",").map { String($0.drop { $0 == " " }) }
  }
}

/// Which end runs the jobs of pg_cron: where writes go, and no other.
struct ScheduledJobs: Sendable {
  let excluded: Set<RelationName>

  private static let action = "handing the jobs of pg_cron over"

  /// The table; nil where an end has none, or it stays behind.
  private func table(on end: Connection) async throws -> RelationName? {
    try await ConfigurationTable.read(from: end).first { $0.isOfJobs && !excluded.contains($0.name) }?.name
  }

  /// Before the fence, where there are jobs: whether our role may activate them on `to`.
  func rehearse(from: Connection, to: Connection) async throws {
    guard let table = try await table(on: from), try await self.table(on: to) != nil,
      try await Self.has("true", table, from)
    else { return }
    try await Self.update(table, "active = active WHERE false", on: to)
  }

  private static func has(
    _ condition: String, _ table: RelationName, _ end: Connection
  ) async throws -> Bool {
    try await !end.query(
      "SELECT FROM \(table) WHERE \(condition) LIMIT 1", doing: action, within: .seconds(15)
    ).isEmpty
  }

  /// Those that run on `from` run on `to`, which is about to open.
  /// - Returns: how many do.
  func activate(from: Connection, to: Connection) async throws -> Int {
    guard let table = try await table(on: from), try await self.table(on: to) != nil,
      try await Self.has("true", table, from)
    else { return 0 }
    let rows = try await from.query(
      "SELECT jobid FROM \(table) WHERE active ORDER BY 1", doing: Self.action, within: .seconds(15))
    let ids = SQL.array(try rows.map { try $0.text("jobid") })
    let condition = "jobid = ANY (\(SQL.literal(ids))::bigint[])"
    try await Self.update(table, "active = \(condition) WHERE active <> (\(condition))", on: to)
    return rows.count
  }

  /// After `to` has opened.
  func deactivate(on from: Connection) async throws {
    guard let table = try await table(on: from), try await Self.has("active", table, from) else { return }
    try await Self.update(table, "active = false WHERE active", on: from)
  }

  /// A trigger of pg_cron's tells its launcher, which does not fire for a replica's session.
  private static func update(_ table: RelationName, _ change: String, on end: Connection) async throws {
    let row = try await end.query(
      "SELECT pg_catalog.current_setting('session_replication_role') AS role", doing: action,
      within: .seconds(15)
    ).first
    let role = try row?.text("role") == "origin" ? "" : "SET LOCAL session_replication_role = origin; "
    try await end.query("\(role)UPDATE \(table) SET \(change)", doing: action, within: .seconds(15))
  }
}
