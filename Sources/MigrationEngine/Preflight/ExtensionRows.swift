import LibPQ
import LogicalReplication

extension Preflight {
  /// Whether our role may copy the user's rows in tables of extensions, all of them.
  enum ExtensionRows {
    struct Facts: Sendable, Equatable {
      var table: RelationName
      var end: String
      var role: String
      /// Privileges that it lacks on the table.
      var lacking: [String] = []
      /// Whether policies hide rows from it.
      var isBound = false
    }

    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      var findings: [Finding] = []
      let sources = try await ConfigurationTable.read(from: context.source)
      for end in [context.source, context.target] {
        let role = try await end.askOne("SELECT current_user AS name", about: "the \(end.end)'s role")
          .text("name")
        findings += try await tables(of: end, role, sources, context)
        findings += try await sequences(of: end, role, context)
      }
      return findings
    }

    /// Where rows arrive, there they are also replaced: on the source in a rollback.
    private static func isWritten(_ end: Connection, _ context: PreflightContext) -> Bool {
      end.end == "target" || context.options.replicatesBack
    }

    private static func tables(
      of end: Connection, _ role: String, _ sources: [ConfigurationTable], _ context: PreflightContext
    ) async throws -> [Finding] {
      let excluded = Set(context.options.excluded)
      var findings: [Finding] = []
      let tables = end === context.source ? sources : try await ConfigurationTable.read(from: end)
      for table in tables where !excluded.contains(table.name) {
        var needed = isWritten(end, context) ? ["SELECT", "INSERT", "DELETE"] : ["SELECT"]
        if table.isOfJobs { needed.append("UPDATE") }
        let row = try await end.askOne(
          """
          SELECT c.relrowsecurity AND pg_catalog.row_security_active(c.oid) AS is_bound,
            (SELECT pg_catalog.string_agg(p, ' ') FROM pg_catalog.unnest($2::text[]) AS p
              WHERE NOT pg_catalog.has_table_privilege(c.oid, p)) AS lacking
          FROM pg_catalog.pg_class c WHERE c.oid = $1::oid
          """, ["\(table.oid)", SQL.array(needed)], about: "table \(table.name) of an extension")
        let lacking = Set(try row.optional("lacking")?.split(separator: " ").map(String.init) ?? [])
        var facts = Facts(table: table.name, end: end.end, role: role)
        facts.lacking = needed.filter(lacking.contains)
        facts.isBound = try row.bool("is_bound")
        let isRead = !lacking.contains("SELECT") && !facts.isBound
        // Most have no rows of the user's, and then nothing is written.
        let there = sources.first { $0.name == table.name }
        if isRead, try await !hasRows(there, context.source) { continue }
        findings += judge(facts)
      }
      return findings
    }

    private static func sequences(
      of end: Connection, _ role: String, _ context: PreflightContext
    ) async throws -> [Finding] {
      let needed = isWritten(end, context) ? ["SELECT", "UPDATE"] : ["SELECT"]
      let rows = try await end.ask(
        """
        SELECT n.nspname, c.relname
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind = 'S' AND \(ConfigurationTable.isOne)
          AND NOT (\(ConfigurationTable.isSequence(of: Set(context.options.excluded))))
          AND EXISTS (SELECT FROM pg_catalog.unnest($1::text[]) AS p
            WHERE NOT pg_catalog.has_sequence_privilege(c.oid, p))
        ORDER BY 1, 2
        """, [SQL.array(needed)], about: "sequences of extensions")
      return try rows.map { row in
        let name = RelationName(schema: try row.text("nspname"), name: try row.text("relname"))
        let list = needed.joined(separator: ", ")
        let role = quotedIdentifier(role)
        return Finding(
          .blocker, check: "extension_rows", object: "\(end.end) sequence \(name)",
          why: "It belongs to an extension, its state is the user's, and role \(role) may not read or set "
            + "it.",
          remedy: "On the \(end.end), as the extension's owner: GRANT \(list) ON SEQUENCE \(name) TO "
            + "\(role); Or leave behind the table that it gives numbers to, with --exclude-table.")
      }
    }

    /// - Parameter table: the source's; nil where it has none.
    private static func hasRows(_ table: ConfigurationTable?, _ source: Connection) async throws -> Bool {
      guard let table else { return false }
      do {
        return try await !source.ask(
          "SELECT FROM ONLY \(table.name) \(table.condition) LIMIT 1", about: "rows of \(table.name)"
        ).isEmpty
      } catch let error as PostgresError where error.sqlState == .insufficientPrivilege {
        return true
      }
    }

    static func judge(_ facts: Facts) -> [Finding] {
      guard !facts.lacking.isEmpty || facts.isBound else { return [] }
      let role = quotedIdentifier(facts.role)
      var reasons: [String] = []
      var remedies: [String] = []
      if !facts.lacking.isEmpty {
        let privileges = facts.lacking.joined(separator: ", ")
        reasons.append("role \(role) lacks \(privileges) on it")
        remedies.append("GRANT \(privileges) ON \(facts.table) TO \(role);")
      }
      if facts.isBound {
        reasons.append("row-level security hides rows of it from role \(role)")
        remedies.append("ALTER ROLE \(role) BYPASSRLS;")
      }
      return [
        Finding(
          .blocker, check: "extension_rows", object: "\(facts.end) table \(facts.table)",
          why: "It belongs to an extension and holds rows of the user's, but "
            + "\(reasons.joined(separator: ", and ")).",
          remedy: "On the \(facts.end), as the extension's owner: \(remedies.joined(separator: " ")) Or "
            + "leave the rows behind: --exclude-table \(facts.table.schema).\(facts.table.name)")
      ]
    }
  }
}
