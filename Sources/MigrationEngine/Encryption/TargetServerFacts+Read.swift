import LibPQ

extension TargetServerFacts {
  /// Asks the server. What the role may not see stays nil (manual, section 22.5 `pg_read_all_settings`).
  static func read(from target: Connection) async throws -> TargetServerFacts {
    let action = "asking the target where it keeps its data"
    let rows = try await target.query(
      """
      SELECT
        CASE WHEN pg_catalog.pg_has_role('pg_read_all_settings', 'USAGE')
          THEN pg_catalog.current_setting('data_directory') END AS data_directory,
        pg_catalog.current_setting('port') AS port,
        pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time()) AS started,
        -- Both are NULL on a unix socket, and equal when both ends are one machine.
        pg_catalog.inet_server_addr() IS NOT DISTINCT FROM pg_catalog.inet_client_addr() AS is_local,
        pg_catalog.current_database() AS database
      """, doing: action, within: .seconds(15))
    guard let row = rows.first else { return TargetServerFacts() }
    let tablespaces = try await target.query(
      """
      SELECT pg_catalog.pg_tablespace_location(oid) AS location FROM pg_catalog.pg_tablespace
      WHERE spcname NOT IN ('pg_default', 'pg_global')
      """, doing: action, within: .seconds(15))
    var system: String?
    if try await SystemPrivileges.mayCall("pg_control_system()", on: target) {
      system = try await target.query(
        "SELECT system_identifier FROM pg_catalog.pg_control_system()", doing: action, within: .seconds(15)
      ).first?.text("system_identifier")
    }
    return TargetServerFacts(
      dataDirectory: try row.optional("data_directory"),
      tablespaceLocations: try tablespaces.map { try $0.text("location") },
      port: Int(try row.text("port")), postmasterStartEpoch: try row.double("started"),
      isLocal: try row.bool("is_local"), host: try await target.peer().host,
      database: try row.text("database"), systemIdentifier: system)
  }
}

extension EncryptionGate.Transport {
  /// How a connection of ours reaches its server.
  init(of connection: Connection) async throws {
    if try await connection.isEncrypted() {
      self = .tls
    } else {
      self = try await connection.peer().host.hasPrefix("/") ? .unixSocket : .plaintext
    }
  }
}
