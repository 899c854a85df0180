import LibPQ
import LogicalReplication

/// Both ends of a migration, connected, with what they report about themselves.
struct Endpoints: Sendable {
  let source: Connection
  let target: Connection
  let sourceIdentity: DatabaseIdentity

  static func open(_ options: MigrationOptions, purpose: String) async throws -> Endpoints {
    let source = try await Session.open(options.source, end: "source", purpose: purpose)
    do {
      let target = try await Session.open(options.target, end: "target", purpose: purpose)
      do {
        return Endpoints(
          source: source, target: target,
          sourceIdentity: try await DatabaseIdentity.read(from: source, at: options.source))
      } catch {
        await target.close()
        throw error
      }
    } catch {
      await source.close()
      throw error
    }
  }

  /// From the source to the target.
  func forward(_ options: MigrationOptions) -> Leg {
    Leg(.forward, from: Leg.End(source, options.source), to: Leg.End(target, options.target))
  }

  /// From the target to the source.
  /// - Parameter passing: the source, for sessions that its seal admits.
  func back(_ options: MigrationOptions, passing: ConnectionString) -> Leg {
    Leg(.back, from: Leg.End(target, options.target), to: Leg.End(source, passing))
  }

  func close() async {
    await source.close()
    await target.close()
  }

  /// During a failover a name may lead to a standby for a while.
  func verifyTakeWrites() async throws {
    for end in [source, target] {
      let action = "asking the \(end.end) whether it takes writes"
      let rows = try await end.query(
        "SELECT pg_catalog.pg_is_in_recovery() AS is_standby", doing: action, within: .seconds(15))
      guard try rows.first?.bool("is_standby") == true else { continue }
      throw PostgresError(
        code: .server, action: action, message: "it is a standby: recovery is in progress",
        sqlState: .readOnlySQLTransaction)
    }
  }

  func describe(_ status: inout Status) async throws {
    status.source = try await Self.end(source)
    let end = try await Self.end(target)
    status.target.database = end.database
    status.target.serverVersion = end.serverVersion
    status.target.tls = end.tls
  }

  private static func end(_ connection: Connection) async throws -> Status.End {
    let rows = try await connection.query(
      """
      SELECT pg_catalog.current_database() AS database,
        pg_catalog.current_setting('server_version') AS version
      """, doing: "asking the \(connection.end) who it is", within: .seconds(15))
    var end = Status.End()
    end.database = try rows.first?.text("database") ?? ""
    end.serverVersion = Status.End.shortVersion(try rows.first?.text("version") ?? "")
    end.tls = try await connection.isEncrypted()
    return end
  }
}

/// Which database of which cluster: names and hosts change, these do not.
struct DatabaseIdentity: Sendable, Equatable {
  /// Nil where it was not asked for, or where the server does not tell our role.
  var system: String?
  var oid: UInt32
  var name: String

  /// - Parameter string: how to connect to the same server for replication; nil where only the database's
  ///   number is wanted.
  static func read(
    from connection: Connection, at string: ConnectionString? = nil
  ) async throws -> DatabaseIdentity {
    let action = "identifying the \(connection.end)'s database"
    let rows = try await connection.query(
      "SELECT oid, datname FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()",
      doing: action, within: .seconds(15))
    guard let row = rows.first else {
      throw MigrationError(.failed, doing: action, reason: "it is not in pg_database")
    }
    var identity = DatabaseIdentity(
      oid: try row.integer("oid", as: UInt32.self), name: try row.text("datname"))
    if let string { identity.system = try await system(connection, string, doing: action) }
    return identity
  }

  private static func system(
    _ connection: Connection, _ string: ConnectionString, doing action: String
  ) async throws -> String? {
    if try await SystemPrivileges.mayCall("pg_control_system()", on: connection) {
      return try await connection.query(
        "SELECT system_identifier FROM pg_catalog.pg_control_system()", doing: action, within: .seconds(15)
      ).first?.text("system_identifier")
    }
    do {
      // Providers withhold the function; who may replicate is told all the same.
      let session = try await Session.openReplication(string, end: connection.end)
      return try await closing(session) {
        try await session.query(ReplicationCommand.identifySystem, doing: action, within: .seconds(15))
          .first?.text("systemid")
      }
    } catch let error as PostgresError where !error.isConnectionLoss {
      // Preflight names what our role lacks for it.
      return nil
    }
  }

  /// - Throws: `MigrationError` where the server does not tell.
  func knownSystem() throws -> String {
    guard let system else {
      throw MigrationError(
        .failed, doing: "identifying database \(SQL.identifier(name))",
        reason: "its server tells our role neither by pg_control_system() nor by IDENTIFY_SYSTEM which "
          + "cluster it is",
        remedy: "Let the role replicate (Amazon Aurora and RDS: GRANT rds_replication), or GRANT EXECUTE ON "
          + "FUNCTION pg_catalog.pg_control_system().")
    }
    return system
  }

  /// Two migrations of one database would take each other's WAL: its slot has one name.
  var slotName: String { "replicate_\(oid)" }

  /// On the target: for reverse replication.
  var reverseSlotName: String { "replicate_back_\(oid)" }
}

extension Status.End {
  /// Of `server_version`, to which Debian's packages add their own version in parentheses.
  static func shortVersion(_ text: String) -> String {
    text.split(separator: " ").first.map(String.init) ?? ""
  }
}
