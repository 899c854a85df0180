import LibPQ

/// Something that writes to an end by replication. An apply worker fires no statement triggers (manual,
/// section 31.9, for PostgreSQL's own), so no fence stops it.
struct Replicator: Sendable, Equatable {
  enum Kind: Sendable, Equatable {
    /// Of PostgreSQL itself.
    case subscription
    /// Of an extension that keeps its subscriptions in its own table; the value is its schema.
    case subscriptionOf(String)
    /// A background worker that is replicating now, whatever started it.
    case worker(pid: Int32)
  }

  var kind: Kind
  var name: String
  /// It writes, or will when its publisher has changes.
  var isEnabled: Bool
  /// The origin of the transactions that it writes; nil when it is not known.
  var origin: String?

  init(_ kind: Kind, _ name: String, isEnabled: Bool, origin: String? = nil) {
    self.kind = kind
    self.name = name
    self.isEnabled = isEnabled
    self.origin = origin
  }

  var object: String {
    switch kind {
    case .subscription: "subscription \(SQL.identifier(name))"
    case .subscriptionOf(let schema): "\(schema) subscription \(SQL.identifier(name))"
    case .worker(let pid): "background worker \(SQL.literal(name)) (pid \(pid))"
    }
  }

  /// What stops it.
  var remedy: String {
    switch kind {
    case .subscription: return "ALTER SUBSCRIPTION \(SQL.identifier(name)) DISABLE;"
    case .subscriptionOf(let schema):
      let disable = schema == "spock" ? "sub_disable" : "alter_subscription_disable"
      return "SELECT \(schema).\(disable)(\(SQL.literal(name)), true);"
    case .worker:
      if let schema = Self.extensions.first(where: { name.hasPrefix("\($0) ") }) {
        return "Disable its subscription, as a role that may read \(schema).subscription."
      }
      return "Stop the replication into this database as its extension provides."
    }
  }

  // MARK: Finding them

  /// Extensions that keep subscriptions as rows (`sub_name`, `sub_enabled`, `sub_slot_name`) of a table
  /// `subscription` in a schema named like the extension; the slot's name is also the origin's.
  private static let extensions = ["pglogical", "spock"]

  /// Those that write to this database: subscriptions, enabled or not, and workers of subscriptions that we
  /// may not read, or of replication without subscriptions.
  static func all(on connection: Connection) async throws -> [Replicator] {
    let rows = try await connection.query(
      try await found(on: connection), doing: "looking for what replicates into the \(connection.end)",
      within: .seconds(15), isPrepared: true)
    var found: [Replicator] = []
    var workers: [Replicator] = []
    for row in rows {
      let name = try row.text("name")
      switch try row.text("kind") {
      case "subscription":
        found.append(
          Replicator(
            .subscription, name, isEnabled: try row.bool("is_enabled"), origin: try row.optional("origin")))
      case "worker":
        workers.append(
          Replicator(.worker(pid: try row.integer("pid", as: Int32.self)), name, isEnabled: true))
      default: found += try await subscriptions(of: name, on: connection)
      }
    }
    let named = found.compactMap { replicator -> String? in
      guard case .subscriptionOf(let schema) = replicator.kind, replicator.isEnabled else { return nil }
      return schema
    }
    return found + workers.filter { worker in !named.contains { worker.name.hasPrefix("\($0) ") } }
  }

  /// A worker is recognised by its type or, where we may not see that, by its application name.
  private static func found(on connection: Connection) async throws -> String {
    // The view says it to everybody, but not of which database.
    let number =
      try await connection.has(.subscriptionNumbers)
      ? "s.oid"
      : """
      (SELECT pg_catalog.max(v.subid::bigint) FROM pg_catalog.pg_stat_subscription v
        WHERE v.subname = s.subname)
      """
    return """
      SELECT 'subscription' AS kind, s.subname::text AS name, s.subenabled AS is_enabled,
        'pg_' || \(number) AS origin, NULL::integer AS pid
      FROM pg_catalog.pg_subscription s
      WHERE s.subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
      UNION ALL
      SELECT 'worker', CASE WHEN a.backend_type ~ '^(pglogical|spock|bdr|pgactive|pgd) ' THEN a.backend_type
        ELSE a.application_name END, true, NULL, a.pid
      FROM pg_catalog.pg_stat_activity a
      WHERE a.datname = pg_catalog.current_database() AND a.pid <> pg_catalog.pg_backend_pid()
        AND (a.backend_type ~ '^(pglogical|spock|bdr|pgactive|pgd) ?(apply|sync|writer|receiver)'
          OR a.backend_type IS NULL AND a.application_name ~ '^(pglogical|spock) (apply|sync) [0-9]')
      UNION ALL
      SELECT 'extension', n.nspname, NULL, NULL, NULL
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_catalog.pg_extension e ON e.extname = n.nspname
      WHERE c.relname = 'subscription' AND n.nspname = ANY ('{\(extensions.joined(separator: ","))}')
        AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')
        AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
      ORDER BY 1, 2
      """
  }

  private static func subscriptions(
    of schema: String, on connection: Connection
  ) async throws -> [Replicator] {
    let rows = try await connection.query(
      "SELECT sub_name, sub_enabled, sub_slot_name FROM \(schema).subscription ORDER BY 1",
      doing: "looking for the subscriptions of \(schema) on the \(connection.end)", within: .seconds(15),
      isPrepared: true)
    return try rows.map {
      Replicator(
        .subscriptionOf(schema), try $0.text("sub_name"), isEnabled: try $0.bool("sub_enabled"),
        origin: try $0.text("sub_slot_name"))
    }
  }

  // MARK: Origins

  /// Those of these replication origins that may still be in use: they exist, and do not belong to disabled
  /// subscriptions.
  static func alive(_ origins: [String], on connection: Connection) async throws -> [String] {
    guard !origins.isEmpty else { return [] }
    let rows = try await connection.query(
      "SELECT roname FROM pg_catalog.pg_replication_origin WHERE roname = ANY ($1)", [SQL.array(origins)],
      doing: "looking for replication origins on the \(connection.end)", within: .seconds(15))
    let there = Set(try rows.map { try $0.text("roname") })
    let ended = Set(try await all(on: connection).filter { !$0.isEnabled }.compactMap(\.origin))
    return origins.filter { there.contains($0) && !ended.contains($0) }
  }
}
