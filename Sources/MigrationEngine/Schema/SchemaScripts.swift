import Foundation
import LibPQ

/// Entries of a dump whose creation evaluates users' expressions: indexes whose expressions call users'
/// functions, and checks added to tables with rows.
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

/// Restores entries one by one in our own sessions, which can have users' settings: pg_restore's have an
/// empty search path, which users' never have. It also gets the server's error for each entry: pg_restore
/// stops at the first refusal, and prints it with values of rows.
struct SchemaScripts {
  let target: ConnectionString
  let archive: URL
  /// How many entries are created at the same time; one for an ordered list.
  let jobs: Int
  /// Created strictly in the order of the dump, in which what would act on the others comes last.
  var isOrdered = false
  /// Drops each entry's object before creating it.
  var isCleaning = false
  /// No event trigger of the user's sees it: its function might write, which the target's fence refuses.
  var firesNothing = false
  /// For each table lock.
  var lockTimeout: Duration?

  /// - Parameter entries: in the order of the dump.
  /// - Returns: those that the target refused. An existing object is not a refusal.
  func make(
    _ entries: [SchemaEntry], _ expressions: UserExpressions, _ dependencies: SchemaDependencies,
    source: Connection
  ) async throws -> [RefusedEntry] {
    guard !entries.isEmpty else { return [] }
    let observer = try await Session.open(target, end: "target", purpose: "restore")
    let settings = try await closing(observer) {
      try await UserSettings.read(from: source, usableOn: observer)
    }
    let scripts = try await EntryScripts.read(
      entries, from: archive, on: target, isCleaning: isCleaning)
    var refused: [RefusedEntry] = []
    // An entry that needs another waits for it.
    for level in isOrdered ? entries.map({ [$0] }) : dependencies.levels(of: entries) {
      let queue = WorkQueue(level)
      try await withThrowingTaskGroup(of: [RefusedEntry].self) { group in
        for _ in 0..<min(max(1, jobs), level.count) {
          group.addTask {
            var refused: [RefusedEntry] = []
            while let entry = await queue.next() {
              guard let script = scripts[entry.dumpID] else { continue }
              let owner = expressions.owners[entry.id]
              if let refusal = try await make(entry, script, as: owner, under: settings) {
                refused.append(refusal)
              }
            }
            return refused
          }
        }
        for try await some in group { refused += some }
      }
    }
    return refused.sorted { $0.entry.dumpID < $1.entry.dumpID }
  }

  private static let present: Set<String> = ["42710", "42P07"]

  /// - Parameter owner: nil for what evaluates nothing of users.
  private func make(
    _ entry: SchemaEntry, _ script: EntryScript, as owner: String?, under settings: UserSettings
  ) async throws -> RefusedEntry? {
    let action = "making \(script.name) on the target"
    let session = try await Session.open(target, end: "target", purpose: "restore")
    return try await closing(session) {
      try await Session.noticeLostClient(of: session)
      if let owner { try await settings.apply(to: session, for: owner) }
      if firesNothing {
        try await session.query("SET session_replication_role = replica", doing: action)
      }
      if let lockTimeout {
        try await session.query(
          "SET lock_timeout = \(Int(lockTimeout / .milliseconds(1)))", doing: action)
      }
      do {
        try await session.query(
          (owner == nil ? "SET search_path = ''; " : "") + script.sql, doing: action)
        return nil
      } catch let error as PostgresError where error.isRefusalOfContent || error.isLockConflict {
        let state = error.sqlState?.rawValue ?? ""
        // The server checks for a second primary key before it checks names.
        let isPrimaryKey = state == "42P16" && script.sql.contains(" PRIMARY KEY ")
        if Self.present.contains(state) || isPrimaryKey { return nil }
        return RefusedEntry(entry: entry, name: script.name, isEvaluated: owner != nil, error: error)
      }
    }
  }
}

/// An entry of a dump that the target's server refused, and its error.
struct RefusedEntry: Sendable {
  var entry: SchemaEntry
  /// Named like a schema difference.
  var name: String
  /// Under the settings of the database and the object's owner.
  var isEvaluated: Bool
  var error: PostgresError

  var refusal: MigrationError {
    MigrationError(
      .failed, doing: "making \(name) on the target", reason: error.words, remedy: remedy)
  }

  var remedy: String {
    if isEvaluated {
      return """
        It was evaluated under the settings of the database and its owner. What fails under them must be \
        mended on both ends (as by ALTER FUNCTION … SET search_path = …; for a name that is not found).
        """
    }
    return error.isRefusalOfData
      ? "Mend the rows on the source." : "Make on the target what it needs, as it is on the source."
  }
}

struct EntryScript {
  var name: String
  var sql: String
}

enum EntryScripts {
  /// - Returns: by the entries' numbers in the dump.
  static func read(
    _ entries: [SchemaEntry], from archive: URL, on target: ConnectionString, isCleaning: Bool
  ) async throws -> [Int: EntryScript] {
    let listFile = archive.deletingLastPathComponent().appending(path: "scripts \(UUID().uuidString).list")
    defer { try? FileManager.default.removeItem(at: listFile) }
    func script(_ entries: [SchemaEntry], _ others: [String]) async throws -> String {
      try Data((entries.map(\.line).joined(separator: "\n") + "\n").utf8).write(to: listFile)
      return try await PostgresTool(name: "pg_restore").run(
        ["--use-list=\(listFile.path)", "--file=-"] + others + [archive.path], on: target,
        doing: "reading the schema's definitions from their dump")
    }
    guard isCleaning else { return split(try await script(entries, ["--verbose"]), entries) }
    var scripts: [Int: EntryScript] = [:]
    // All DROPs come before all else.
    for entry in entries {
      let whole = try await script([entry], ["--clean", "--if-exists"])
      scripts[entry.dumpID] = EntryScript(name: name(in: whole, entry), sql: statements(whole))
    }
    return scripts
  }

  /// Splits the output of pg_restore `--verbose` where the next entry begins: `-- TOC entry 3360 (class 2606
  /// OID 16402)`. A lookalike in a user's comment has another number.
  static func split(_ script: String, _ entries: [SchemaEntry]) -> [Int: EntryScript] {
    func mark(_ entry: SchemaEntry) -> String {
      "-- TOC entry \(entry.dumpID) (class \(entry.id.classOID) OID \(entry.id.oid))"
    }
    var scripts: [Int: EntryScript] = [:]
    var prefix: [Substring] = []
    var current: (entry: SchemaEntry, prefix: [Substring], lines: [Substring])?
    var left = Dictionary(entries.map { (mark($0), $0) }) { first, _ in first }
    func close() {
      guard let (entry, prefix, lines) = current else { return }
      let text = lines.joined(separator: "\n")
      let sql = statements((prefix + lines).joined(separator: "\n"))
      scripts[entry.dumpID] = EntryScript(name: name(in: text, entry), sql: sql)
    }
    for line in script.split(separator: "\n", omittingEmptySubsequences: false) {
      if let entry = left.removeValue(forKey: String(line)) {
        close()
        current = (entry, prefix, [])
      } else if current == nil {
        prefix.append(line)
      } else {
        // It precedes the marker of the entry that it is for, and applies to the entries after it.
        if isState(line) { prefix.append(line) }
        current?.lines.append(line)
      }
    }
    close()
    return scripts
  }

  private static func isState(_ line: Substring) -> Bool {
    line.hasPrefix("SET default_tablespace = ") || line.hasPrefix("SET default_table_access_method = ")
  }

  private static func name(in text: String, _ entry: SchemaEntry) -> String {
    SchemaText(text).entries.keys.first?.words ?? String(entry.description)
  }

  /// Without psql commands, column options that no other server knows, the empty path, and time limits, which
  /// an older server may not know.
  static func statements(_ script: String) -> String {
    var isHead = true
    return script.split(separator: "\n", omittingEmptySubsequences: false).filter { line in
      if line.hasPrefix("-- Name: ") { isHead = false }
      if line.hasPrefix("\\restrict ") || line.hasPrefix("\\unrestrict ") { return false }
      guard isHead else { return true }
      return line != "SELECT pg_catalog.set_config('search_path', '', false);"
        && !line.contains(#/^SET \w+_timeout = 0;$/#)
    }.map(ColumnOptions.ofUsers).joined(separator: "\n")
  }
}
