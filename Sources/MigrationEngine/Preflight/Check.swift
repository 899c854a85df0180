import LibPQ

extension Preflight {
  /// One check of the servers.
  struct Check: Sendable {
    /// The object, as a phrase for the finding that it could not be examined.
    let name: String
    let object: String
    /// The severity if the server refuses the check: the worst it might have found.
    let worst: Finding.Severity
    let examine: @Sendable (PreflightContext) async throws -> [Finding]

    init(
      _ name: String, on object: String, worst: Finding.Severity = .blocker,
      _ examine: @escaping @Sendable (PreflightContext) async throws -> [Finding]
    ) {
      self.name = name
      self.object = object
      self.worst = worst
      self.examine = examine
    }

    /// In the order in which findings of one severity are reported. The replication connection comes after
    /// the count of walsenders, which would include it.
    static let all: [Check] = [
      Check("server_version", on: "source and target", ServerVersions.examine),
      Check("client_programs", on: "this machine", ClientPrograms.examine),
      Check("same_database", on: "target", SameDatabase.examine),
      Check("wal_level", on: "source", SourceSettings.examine),
      Check("synchronous_standby", on: "source and target", worst: .note, SynchronousStandbys.examine),
      Check("replication_capacity", on: "source", ReplicationCapacity.examine),
      Check("connection_limits", on: "source and target", worst: .warning, ConnectionLimits.examine),
      Check("recovery", on: "source and target", WriteReadiness.examine),
      Check("several_servers", on: "source and target", SeveralServers.examine),
      Check("pooler", on: "source and target", Pooler.examine),
      Check("replication_connection", on: "source", ReplicationAccess.examine),
      Check("source_privileges", on: "source", SourcePrivileges.examine),
      Check("source_ownership", on: "source", SourceOwnership.examine),
      Check("target_privileges", on: "target", TargetPrivileges.examine),
      Check("system_privileges", on: "source and target", SystemUse.examine),
      Check("target_row_security", on: "target", TargetRowSecurity.examine),
      Check("way_back", on: "source and target", worst: .warning, Reversibility.examine),
      Check("tables", on: "source", SelectedTables.examine),
      Check("column_order", on: "source", ColumnOrders.examine),
      Check("replica_identity", on: "source", ReplicaIdentities.examine),
      Check("triggers", on: "source", worst: .note, AlwaysTriggers.examine),
      Check("prepared_transactions", on: "source", PreparedTransactions.examine),
      Check("long_transactions", on: "source", worst: .warning, LongTransactions.examine),
      Check("own_leftovers", on: "source", OwnLeftovers.examine),
      Check("subscriptions", on: "source", Subscriptions.examine),
      Check("publications", on: "source", worst: .warning, Publications.examine),
      Check("extensions", on: "source and target", Extensions.examine),
      Check("extension_rows", on: "source and target", ExtensionRows.examine),
      Check("roles", on: "source and target", Roles.examine),
      Check("memberships", on: "source and target", worst: .warning, Memberships.examine),
      Check("stored_settings", on: "source and target", worst: .warning, StoredSettings.examine),
      Check("tried_expressions", on: "source", worst: .warning, TriedExpressions.examine),
      Check("foreign_key_rows", on: "source", worst: .note, ForeignKeyRows.examine),
      Check("tablespaces", on: "source and target", Tablespaces.examine),
      Check("encoding", on: "source and target", Encodings.examine),
      Check("column_collations", on: "source and target", ColumnCollations.examine),
      Check("target_content", on: "target", TargetContent.examine),
      Check("lock_table", on: "source and target", worst: .warning, LockTable.examine),
      Check("large_objects", on: "source", LargeObjects.examine),
      Check("special_objects", on: "source", worst: .warning, SpecialObjects.examine),
    ]

    func findings(in context: PreflightContext) async throws -> [Finding] {
      do {
        return try await examine(context)
      } catch let error as PostgresError where error.code == .timedOut || !error.isConnectionLoss {
        return [refused(error)]
      }
    }

    /// A refused check is a finding too.
    func refused(_ error: PostgresError) -> Finding {
      let remedy =
        error.sqlState == .insufficientPrivilege
        ? "Connect as a role that may ask this (a superuser, on Amazon RDS a member of rds_superuser)."
        : "Fix what the server complains about, then run the check again."
      return Finding(
        worst, check: name, object: object, why: "This could not be examined. \(error)", remedy: remedy)
    }
  }
}

extension Connection {
  /// The rows of a preflight query.
  func ask(_ sql: String, _ parameters: [String?] = [], about subject: String) async throws -> Rows {
    try await query(sql, parameters, doing: "examining \(subject)", within: .seconds(30))
  }

  /// The only row of a preflight query.
  func askOne(_ sql: String, _ parameters: [String?] = [], about subject: String) async throws -> Rows.Row {
    guard let row = try await ask(sql, parameters, about: subject).first else {
      throw PostgresError(
        code: .unexpectedResult, action: "\(end): examining \(subject)", message: "there was no row")
    }
    return row
  }
}
