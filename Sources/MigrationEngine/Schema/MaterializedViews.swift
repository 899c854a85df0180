import LibPQ

/// Materialized views are derived data: the target computes them itself, and is then no staler than the
/// source, whose views are as old as their last REFRESH. A view's query runs as its owner and under the
/// settings of the owner's sessions, so that it gives the same rows as there.
struct MaterializedViews: Sendable {
  /// One that could not be refreshed.
  struct Failure: Sendable {
    var view: RelationName
    /// It has the rows of an earlier refresh.
    var hasData: Bool
    /// Where it was to be refreshed.
    var end: String
    var error: PostgresError

    var words: String {
      "materialized view \(view) could not be refreshed on the \(end): \(error.message)"
        + (error.sqlState.map { " (SQLSTATE \($0))" } ?? "")
        + (hasData ? "; it keeps the rows that it has" : "; it has no rows there")
    }

    var remedy: String {
      let refresh = "REFRESH MATERIALIZED VIEW \(view)"
      return """
        See what \(refresh); says as its owner on both ends. If it fails on both, mend the view or what it \
        calls; if nobody needs its rows, empty it where they are, too: \(refresh) WITH NO DATA;
        """
    }
  }

  /// A view of either kind.
  private struct View: Sendable {
    var oid: UInt32
    var name: RelationName
    var owner: String
    var isMaterialized: Bool
    var isPopulated: Bool
    /// OIDs of the relations in its query.
    var needs: [UInt32]
  }

  /// Where the view is refreshed.
  private let end: String
  private let string: ConnectionString

  /// How long to wait for readers of the view; others queue behind us.
  private static let lockWait = "30s"

  /// Refreshes on the other end the views that have data where users are. A failure does not stop the others.
  /// - Parameters:
  ///   - from: where users are; with no transaction open.
  ///   - to: the other end, and how to connect to it.
  static func refresh(
    from: Connection, to: Connection, _ string: ConnectionString
  ) async throws -> [Failure] {
    let wanted = ordered(try await views(on: from)).filter { $0.isMaterialized && $0.isPopulated }.map(\.name)
    guard !wanted.isEmpty else { return [] }
    let settings = try await UserSettings.read(from: from, usableOn: to)
    let present = Dictionary(
      try await views(on: to).filter(\.isMaterialized).map { ($0.name, $0) }
    ) { first, _ in first }
    let refresher = MaterializedViews(end: to.end, string: string)
    var views = wanted.compactMap { present[$0] }
    while true {
      let failures = try await refresher.refresh(views, under: settings)
      // Some functions read other views, which the catalogs do not show: those may have rows by now.
      guard !failures.isEmpty, failures.count < views.count else { return failures }
      let failed = Set(failures.map(\.view))
      views = views.filter { failed.contains($0.name) }
    }
  }

  /// In the order of creation, in which what a view reads comes first, unless its query was changed since.
  private static func ordered(_ views: [View]) -> [View] {
    let known = Dictionary(views.map { ($0.oid, $0) }) { first, _ in first }
    var ordered: [View] = []
    var seen: Set<UInt32> = []
    func add(_ view: View) {
      guard seen.insert(view.oid).inserted else { return }
      for needed in view.needs.sorted() { if let needed = known[needed] { add(needed) } }
      ordered.append(view)
    }
    for view in views { add(view) }
    return ordered
  }

  private func refresh(_ views: [View], under settings: UserSettings) async throws -> [Failure] {
    var failures: [Failure] = []
    var last: (session: Connection, settings: [UserSettings.Setting])?
    func close() async { await last?.session.close() }
    try await finally(close) {
      for view in views {
        let own = settings.settings(of: view.owner, isAlone: true)
        // Settings of another owner's session could not be unset.
        if let before = last, before.settings != own {
          await before.session.close()
          last = nil
        }
        let session: Connection
        if let last { session = last.session } else { session = try await open(for: view.owner, settings) }
        last = (session, own)
        do {
          try await session.query(
            "REFRESH MATERIALIZED VIEW \(view.name)", doing: "refreshing materialized view \(view.name)")
        } catch let error as PostgresError where error.sqlState != nil && !error.isConnectionLoss {
          failures.append(Failure(view: view.name, hasData: view.isPopulated, end: end, error: error))
        }
      }
    }
    return failures
  }

  private func open(for owner: String, _ settings: UserSettings) async throws -> Connection {
    let session = try await Session.open(string, end: end, purpose: "refresh")
    do {
      try await Session.noticeLostClient(of: session)
      // Policies apply as for the owner, unless the user's own settings say otherwise.
      try await Session.set(
        [Session.Setting("row_security", "on"), Session.Setting("lock_timeout", Self.lockWait)], on: session,
        doing: "preparing to refresh materialized views")
      try await settings.apply(to: session, for: owner, isAlone: true)
      return session
    } catch {
      await session.close()
      throw error
    }
  }

  private static func views(on connection: Connection) async throws -> [View] {
    let rows = try await connection.query(
      """
      SELECT c.oid, n.nspname, c.relname, c.relkind = 'm' AS is_materialized, c.relispopulated,
        pg_catalog.pg_get_userbyid(c.relowner) AS owner,
        (SELECT pg_catalog.string_agg(DISTINCT d.refobjid::text, ' ')
          FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_depend d ON d.objid = r.oid
          WHERE r.ev_class = c.oid AND r.ev_type = '1'
            AND d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
            AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass) AS needs
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind IN ('v', 'm') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
      ORDER BY c.oid
      """, doing: "reading the materialized views", within: .seconds(60))
    return try rows.map { row in
      View(
        oid: try row.integer("oid", as: UInt32.self),
        name: RelationName(schema: try row.text("nspname"), name: try row.text("relname")),
        owner: try row.text("owner"), isMaterialized: try row.bool("is_materialized"),
        isPopulated: try row.bool("relispopulated"),
        needs: try row.optional("needs")?.split(separator: " ").compactMap { UInt32($0) } ?? [])
    }
  }
}
