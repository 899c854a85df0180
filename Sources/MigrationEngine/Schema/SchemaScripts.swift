import Foundation
import LibPQ

/// Entries of a dump whose making evaluates what users wrote: indexes whose expressions call functions of
/// theirs, and checks that are added to tables with rows.
struct UserExpressions {
  /// The role under whose settings each is made.
  private(set) var owners: [SchemaEntry.CatalogID: String] = [:]

  static func read(from source: Connection) async throws -> UserExpressions {
    let rows = try await source.query(
      """
      WITH evaluated AS (
        SELECT i.indexrelid, c.relowner FROM pg_catalog.pg_index i
          JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
        WHERE (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL) AND EXISTS (
          SELECT FROM pg_catalog.pg_depend d LEFT JOIN pg_catalog.pg_type t ON t.oid = d.refobjid
          WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = i.indexrelid
            AND d.refobjid >= 16384
            AND (d.refclassid IN ('pg_catalog.pg_proc'::pg_catalog.regclass,
                'pg_catalog.pg_operator'::pg_catalog.regclass)
              OR d.refclassid = 'pg_catalog.pg_type'::pg_catalog.regclass AND t.typtype = 'd')))
      SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::oid AS class, e.indexrelid AS oid,
        pg_catalog.pg_get_userbyid(e.relowner) AS owner FROM evaluated e
      UNION ALL
      SELECT 'pg_catalog.pg_constraint'::pg_catalog.regclass::oid, k.oid,
        pg_catalog.pg_get_userbyid(e.relowner)
      FROM evaluated e JOIN pg_catalog.pg_constraint k ON k.conindid = e.indexrelid AND k.contype = 'x'
      UNION ALL
      SELECT 'pg_catalog.pg_constraint'::pg_catalog.regclass::oid, k.oid,
        pg_catalog.pg_get_userbyid(coalesce(c.relowner, t.typowner))
      FROM pg_catalog.pg_constraint k LEFT JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
        LEFT JOIN pg_catalog.pg_type t ON t.oid = k.contypid
      WHERE k.contype = 'c'
      """, doing: "looking for indexes and checks that call functions of users", within: .seconds(60))
    var expressions = UserExpressions()
    for row in rows {
      let id = SchemaEntry.CatalogID(
        classOID: try row.integer("class", as: UInt32.self), oid: try row.integer("oid", as: UInt32.self))
      expressions.owners[id] = try row.text("owner")
    }
    return expressions
  }
}

/// Restores such entries: pg_restore's own session has an empty search path, which users' never have.
struct SchemaScripts {
  let target: ConnectionString
  let archive: URL
  /// Entries that are made at the same time.
  let jobs: Int
  /// Drops each entry's object before it is made.
  let isCleaning: Bool

  func run(
    _ entries: [SchemaEntry], _ expressions: UserExpressions, source: Connection
  ) async throws {
    let observer = try await Session.open(target, end: "target", purpose: "restore")
    let settings = try await closing(observer) {
      try await UserSettings.read(from: source, usableOn: observer)
    }
    let queue = WorkQueue(entries)
    try await withThrowingTaskGroup(of: Void.self) { group in
      for _ in 0..<min(max(1, jobs), entries.count) {
        group.addTask {
          while let entry = await queue.next() {
            try await run(entry, as: expressions.owners[entry.id], under: settings)
          }
        }
      }
      try await group.waitForAll()
    }
  }

  private func run(_ entry: SchemaEntry, as owner: String?, under settings: UserSettings) async throws {
    let action = "restoring \(entry.description) on the target"
    let listFile = archive.deletingLastPathComponent().appending(path: "entry \(entry.dumpID).list")
    try Data("\(entry.line)\n".utf8).write(to: listFile)
    let script = try await PostgresTool(name: "pg_restore").run(
      ["--section=post-data", "--use-list=\(listFile.path)", "--file=-"]
        + (isCleaning ? ["--clean", "--if-exists"] : []) + [archive.path], on: target, doing: action)
    let session = try await Session.open(target, end: "target", purpose: "restore")
    try await closing(session) {
      try await Session.noticeLostClient(of: session)
      try await settings.apply(to: session, for: owner)
      do {
        try await session.query(Self.statements(script), doing: action)
      } catch let error as PostgresError where error.sqlState != nil && !error.isConnectionLoss {
        var failure = MigrationError(
          .failed, doing: action,
          reason: "\(error.message) (SQLSTATE \(error.sqlState?.rawValue ?? ""))",
          remedy: """
            It was evaluated under the settings of the database and its owner. What fails under them must be \
            mended on both ends (as by ALTER FUNCTION … SET search_path = …; for a name that is not found); \
            then start again.
            """)
        failure.mayPass = error.mayPass
        throw failure
      }
    }
  }

  /// Without what is for psql alone, and without the empty path.
  static func statements(_ script: String) -> String {
    script.split(separator: "\n", omittingEmptySubsequences: false).filter { line in
      !line.hasPrefix("\\restrict ") && !line.hasPrefix("\\unrestrict ")
        && line != "SELECT pg_catalog.set_config('search_path', '', false);"
    }.joined(separator: "\n")
  }
}
