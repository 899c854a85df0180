import LibPQ
import LogicalReplication

extension Preflight {
  /// Whether the tables to migrate are those that the user means.
  enum SelectedTables {
    /// A foreign key from a migrated table to an excluded one.
    struct BrokenReference: Sendable, Equatable {
      var constraint: String
      var table: RelationName
      var referenced: RelationName
    }

    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      let references = try await references(context)
      let ofExtensions = try await ConfigurationTable.read(from: context.source).map(\.name)
      return judge(
        catalog: context.catalog, ofExtensions: Set(ofExtensions), excluded: context.options.excluded)
        + references.map(judge)
    }

    /// - Parameter ofExtensions: tables of extensions whose rows would be copied.
    static func judge(
      catalog: Catalog, ofExtensions: Set<RelationName> = [], excluded: [RelationName]
    ) -> [Finding] {
      let names = Set(catalog.relations.map(\.name))
      var findings = excluded.filter { !names.contains($0) && !ofExtensions.contains($0) }.map { name in
        Finding(
          .blocker, check: "excluded_table", object: "table \(name)",
          why: "--exclude-table names nothing: the source has no such table of the user's.",
          remedy: "Leave out --exclude-table \(name.schema).\(name.name), or correct the name (case matters)."
        )
      }
      if names.isEmpty {
        findings.append(
          Finding(
            .note, check: "tables", object: "source",
            why: "The source's database has no tables of the user's.",
            remedy: "If that is not expected, see whether --source names the right database."))
      }
      return findings
    }

    private static func references(_ context: PreflightContext) async throws -> [BrokenReference] {
      guard !context.options.excluded.isEmpty else { return [] }
      let excluded = Set(context.options.excluded)
      let rows = try await context.source.ask(
        """
        SELECT k.conname, n.nspname, c.relname, rn.nspname AS other_schema, r.relname AS other_name
        FROM pg_catalog.pg_constraint k
          JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          JOIN pg_catalog.pg_class r ON r.oid = k.confrelid
          JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
        WHERE k.contype = 'f' AND \(Catalog.isUserTable)
        ORDER BY 2, 3, 1
        """, about: "foreign keys to tables that are left behind")
      return try rows.map {
        BrokenReference(
          constraint: try $0.text("conname"),
          table: RelationName(schema: try $0.text("nspname"), name: try $0.text("relname")),
          referenced: RelationName(schema: try $0.text("other_schema"), name: try $0.text("other_name")))
      }.filter { excluded.contains($0.referenced) && !excluded.contains($0.table) }
    }

    static func judge(_ reference: BrokenReference) -> Finding {
      Finding(
        .blocker, check: "excluded_reference", object: "table \(reference.table)",
        why:
          "Its foreign key \(quotedIdentifier(reference.constraint)) refers to \(reference.referenced), "
          + "which "
          + "is "
          + "left behind: the key cannot hold on the target.",
        remedy: "Migrate \(reference.referenced) too, or leave this table behind as well: --exclude-table "
          + "\(reference.table.schema).\(reference.table.name)")
    }
  }

  /// Tables on which the source itself would refuse UPDATE and DELETE as soon as they are published.
  enum ReplicaIdentities {
    enum Lack: Sendable, Equatable {
      case noPrimaryKey
      /// A key that is checked only at commit does not identify rows before (manual, section 31.1.1).
      case deferrablePrimaryKey
      case nothing
      /// REPLICA IDENTITY USING INDEX, and the index is gone or invalid.
      case missingIndex
    }

    struct Facts: Sendable, Equatable {
      var table: RelationName
      var lack: Lack
      /// A unique index that could be the identity.
      var candidateIndex: String?
      /// Whether the primary key serves once the identity is DEFAULT.
      var hasPrimaryKey = false
    }

    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      let lacking = context.migrated.filter { $0.kind == .table && !$0.isUnlogged && !$0.hasUsableIdentity }
      guard !lacking.isEmpty else { return [] }
      let rows = try await context.source.ask(
        """
        SELECT c.oid, pg_catalog.bool_or(i.indisprimary AND NOT i.indimmediate) AS deferrable,
          pg_catalog.bool_or(i.indisprimary AND i.indimmediate AND i.indisvalid) AS has_key,
          pg_catalog.min(x.relname::text) FILTER (WHERE i.indisunique
            AND NOT i.indisprimary AND i.indimmediate
            AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a
              WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey) AND NOT a.attnotnull)) AS candidate
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          LEFT JOIN pg_catalog.pg_index i ON i.indrelid = c.oid
          LEFT JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
        WHERE \(Catalog.isUserTable) GROUP BY c.oid
        """, about: "replica identities")
      var indexes: [UInt32: Rows.Row] = [:]
      for row in rows { indexes[try row.integer("oid", as: UInt32.self)] = row }
      return try lacking.map { relation in
        let row = indexes[relation.oid]
        let isDeferrable = try row?.optional("deferrable") == "t"
        return judge(
          Facts(
            table: relation.name, lack: lack(relation.replicaIdentity, isDeferrable: isDeferrable),
            candidateIndex: try row?.optional("candidate"),
            hasPrimaryKey: try row?.optional("has_key") == "t"),
          setsFull: context.options.setsReplicaIdentityFull)
      }
    }

    static func lack(_ identity: ReplicaIdentity, isDeferrable: Bool) -> Lack {
      switch identity {
      case .nothing: .nothing
      case .index: .missingIndex
      case .primaryKey, .full: isDeferrable ? .deferrablePrimaryKey : .noPrimaryKey
      }
    }

    static func judge(_ facts: Facts, setsFull: Bool) -> Finding {
      let reason =
        switch facts.lack {
        case .noPrimaryKey: "The table has no primary key and no other replica identity"
        case .deferrablePrimaryKey: "The table's primary key is DEFERRABLE, which is no replica identity"
        case .nothing: "The table's replica identity is NOTHING"
        case .missingIndex: "The index that was the table's replica identity is gone or invalid"
        }
      let object = "table \(facts.table)"
      if setsFull {
        return Finding(
          .note, check: "replica_identity", object: object,
          why:
            "\(reason). It will get REPLICA IDENTITY FULL, as --replica-identity full asks: its updates "
            + "write more "
            + "WAL.",
          remedy: "Nothing to do; replicate abort restores the former identity.")
      }
      return Finding(
        .blocker, check: "replica_identity", object: object,
        why: "\(reason). Once it is published, the source itself would refuse every UPDATE and DELETE on it.",
        remedy: remedy(facts))
    }

    private static func remedy(_ facts: Facts) -> String {
      let alter = "ALTER TABLE \(facts.table)"
      let own =
        if facts.hasPrimaryKey {
          "\(alter) REPLICA IDENTITY DEFAULT; or "
        } else if let index = facts.candidateIndex {
          "\(alter) REPLICA IDENTITY USING INDEX \(quotedIdentifier(index)); or "
        } else if facts.lack == .noPrimaryKey {
          "\(alter) ADD PRIMARY KEY (…); or "
        } else {
          ""
        }
      return
        "\(own)\(alter) REPLICA IDENTITY FULL; or give --replica-identity full, or leave the table "
        + "behind: "
        + "--exclude-table \(facts.table.schema).\(facts.table.name)"
    }
  }

  /// Triggers that also fire in the replica role: on the target they are suspended while changes are applied.
  enum AlwaysTriggers {
    struct Trigger: Sendable, Equatable {
      var name: String
      var table: RelationName
      /// ENABLE ALWAYS; otherwise ENABLE REPLICA.
      var isAlways: Bool
    }

    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      let rows = try await context.source.ask(
        """
        SELECT t.tgname, n.nspname, c.relname, t.tgenabled = 'A' AS is_always
        FROM pg_catalog.pg_trigger t
          JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
        WHERE t.tgenabled IN ('A', 'R') AND NOT t.tgisinternal AND \(Catalog.isUserTable)
          AND p.pronamespace <> coalesce(pg_catalog.to_regnamespace('replicate')::oid, 0)
        ORDER BY 2, 3, 1
        """, about: "triggers")
      let migrated = Set(context.migrated.map(\.name))
      return try rows.map {
        Trigger(
          name: try $0.text("tgname"),
          table: RelationName(schema: try $0.text("nspname"), name: try $0.text("relname")),
          isAlways: try $0.bool("is_always"))
      }.filter { migrated.contains($0.table) }.map(judge)
    }

    static func judge(_ trigger: Trigger) -> Finding {
      let name = quotedIdentifier(trigger.name)
      return Finding(
        .note, check: "always_trigger", object: "trigger \(name) on table \(trigger.table)",
        why:
          "It is enabled \(trigger.isAlways ? "ALWAYS" : "for REPLICA"): on the target it is disabled until "
          + "that takes writes, so that it does not do again what the source has done.",
        remedy: "Nothing to do.")
    }
  }
}
