import LibPQ
import LogicalReplication

extension Preflight {
  /// Whether the target can evaluate users' expressions on their tables: some rows of the source are tried,
  /// under the settings that the target's sessions will have. A check that needs what only the application's
  /// sessions set would refuse the first row of the copy.
  enum TriedExpressions {
    struct Expression: Sendable, Equatable {
      enum Kind: String, Sendable { case check, domain, generated, index }

      var kind: Kind
      /// `check "c" of table …`
      var object: String
      var table: RelationName
      var owner: String
      /// As the server writes it, with every user's name qualified by its schema.
      var sql: String

      /// For how many rows it is false. For the others only the evaluation matters, which must not be skipped
      /// for any row.
      var refused: String {
        kind == .check
          ? "pg_catalog.count(*) FILTER (WHERE NOT (\(sql)))" : "0 * pg_catalog.count((\(sql)))"
      }
    }

    /// How many rows of a table are tried.
    private static let rowCount = 200
    private static let limit = "5s"

    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      let migrated = Set(context.migrated.map(\.name))
      let expressions = try await read(from: context.source).filter { migrated.contains($0.table) }
      guard !expressions.isEmpty else { return [] }
      let settings = try await UserSettings.read(from: context.source, usableOn: context.target)
      var findings: [Finding] = []
      for owner in Set(expressions.map(\.owner)).sorted() {
        let session = try await Session.open(context.options.source, end: "source", purpose: "preflight")
        findings += try await closing(session) {
          try await session.query(
            "SET statement_timeout = '\(limit)'", doing: "examining checks", within: .seconds(15))
          try await settings.apply(to: session, for: owner)
          var findings: [Finding] = []
          for expression in expressions where expression.owner == owner {
            if let why = try await refusal(of: expression, in: session) {
              findings.append(finding(expression, why))
            }
          }
          return findings
        }
      }
      return findings
    }

    /// Expressions that call a user's or extension's function or operator, read a setting, or belong to a
    /// domain.
    private static func read(from source: Connection) async throws -> [Expression] {
      let rows = try await source.ask(
        """
        WITH user_made AS (
          SELECT DISTINCT classid, objid, objsubid FROM pg_catalog.pg_depend
          WHERE refobjid >= 16384 AND refclassid IN ('pg_catalog.pg_proc'::pg_catalog.regclass,
            'pg_catalog.pg_operator'::pg_catalog.regclass)),
        found AS (
          SELECT 'check' AS kind, k.conname AS name, k.conrelid AS rel,
            pg_catalog.pg_get_expr(k.conbin, k.conrelid) AS sql,
            EXISTS (SELECT FROM user_made u WHERE u.classid = k.tableoid AND u.objid = k.oid) AS calls
          FROM pg_catalog.pg_constraint k WHERE k.contype = 'c' AND k.conrelid <> 0 AND k.convalidated
          UNION ALL
          SELECT 'domain', a.attname, a.attrelid,
            pg_catalog.format('(%I::%s)::%s', a.attname,
              pg_catalog.format_type(t.typbasetype, t.typtypmod), pg_catalog.format_type(t.oid, NULL)), true
          FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
          WHERE t.typtype = 'd' AND a.attnum > 0 AND NOT a.attisdropped
            AND EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.contypid = t.oid AND k.convalidated)
          UNION ALL
          SELECT 'generated', a.attname, a.attrelid,
            pg_catalog.pg_get_expr(d.adbin, d.adrelid),
            EXISTS (SELECT FROM user_made u WHERE u.classid = d.tableoid AND u.objid = d.oid
              OR u.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND u.objid = a.attrelid
                AND u.objsubid = a.attnum)
          FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_attrdef d
            ON d.adrelid = a.attrelid AND d.adnum = a.attnum
          WHERE a.attgenerated = 's' AND NOT a.attisdropped
          UNION ALL
          SELECT 'index', c.relname, i.indrelid,
            pg_catalog.pg_get_indexdef(i.indexrelid, n, false),
            EXISTS (SELECT FROM user_made u WHERE u.classid = c.tableoid AND u.objid = c.oid)
          FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
            CROSS JOIN LATERAL pg_catalog.generate_series(1, i.indnkeyatts::integer) AS n
          WHERE i.indexprs IS NOT NULL AND i.indkey[n - 1] = 0)
        SELECT f.kind, f.name, f.sql, n.nspname, c.relname, pg_catalog.pg_get_userbyid(c.relowner) AS owner
        FROM found f JOIN pg_catalog.pg_class c ON c.oid = f.rel
          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind = 'r' AND f.sql IS NOT NULL
          AND (f.calls OR f.sql ~ 'current_setting|to_regclass|to_char')
          AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'replicate')
          AND pg_catalog.pg_has_role(c.relowner, 'MEMBER')
        ORDER BY n.nspname, c.relname, f.kind, f.name
        """, about: "what the source's checks, domains, generated columns and indexes evaluate")
      return try rows.compactMap { row in
        guard let kind = Expression.Kind(rawValue: try row.text("kind")) else { return nil }
        let table = RelationName(schema: try row.text("nspname"), name: try row.text("relname"))
        let what = kind == .check ? "check" : kind == .index ? "index" : "column"
        return Expression(
          kind: kind, object: "\(what) \(quotedIdentifier(try row.text("name"))) of table \(table)",
          table: table, owner: try row.text("owner"), sql: try row.text("sql"))
      }
    }

    /// Tries it in a read-only transaction, as the table's owner.
    /// - Returns: why existing rows would be refused; nil when they would not, or when that is not known.
    private static func refusal(
      of expression: Expression, in session: Connection
    ) async throws -> String? {
      let alias = quotedIdentifier(expression.table.name)
      let action = "trying \(expression.object)"
      do {
        try await session.query(
          "BEGIN READ ONLY; SET LOCAL ROLE \(SQL.identifier(expression.owner)); \(Session.readingTablesOnly)",
          doing: action, within: .seconds(15))
        let rows = try await session.query(
          """
          SELECT \(expression.refused) AS refused
          FROM (SELECT * FROM ONLY \(expression.table) LIMIT \(rowCount)) AS \(alias)
          """, doing: action, within: .seconds(15))
        await session.rollback()
        let refused = try rows.first?.integer("refused") ?? 0
        return refused == 0 ? nil : "it refuses \(refused) of the first \(rowCount) rows that are there"
      } catch let error as PostgresError where error.sqlState != nil && !error.isConnectionLoss {
        await session.rollback()
        guard let state = error.sqlState, !unclear.contains(state) else { return nil }
        return "\(error.message) (SQLSTATE \(state))"
      }
    }

    /// Errors that say nothing about the expression: it took too long, wanted to write, or calls what its
    /// owner may not call.
    private static let unclear: Set<SQLState> = [
      .queryCanceled, .readOnlySQLTransaction, .insufficientPrivilege, .lockNotAvailable,
    ]

    static func finding(_ expression: Expression, _ why: String) -> Finding {
      let holder = quotedIdentifier(expression.owner)
      return Finding(
        .blocker, check: "tried_expressions", object: expression.object,
        why: "Under the settings of the database and of role \(holder), which the target evaluates it under, "
          + "rows of the source would be refused: \(why).",
        remedy:
          "Give the database what only the application's sessions set (ALTER DATABASE … SET name = …;), "
          + "or the function what it needs (ALTER FUNCTION … SET search_path = …;), so that every session "
          + "can evaluate it; or exclude the table.")
    }
  }
}
