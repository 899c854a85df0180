import Clusters
import Foundation
import RegexBuilder

enum SchemaDump {
  /// The whole schema as pg_dump writes it, with the database's own properties, entry by entry: their order
  /// is not the database's.
  static func entries(of server: ConnectionString) async throws -> Set<String> {
    let output = try await Command.check(
      [PostgresPrograms.path("pg_dump"), "--schema-only", "--create", "--dbname=\(server.text)"])
    // pg_dump guards its output with a word that is another each time.
    let lines = withoutServersOptions(output).split(separator: "\n", omittingEmptySubsequences: false).filter
    {
      !$0.hasPrefix("\\restrict ") && !$0.hasPrefix("\\unrestrict ") && $0 != "--"
        && $0 != "-- PostgreSQL database dump complete"
    }
    let entries = lines.joined(separator: "\n").components(separatedBy: "\n-- Name: ").dropFirst()
    return Set(entries.map { $0.trimmingCharacters(in: .whitespacesAndNewlines) })
  }

  /// Without the option that servers since November 2026 keep with each column, which others refuse.
  private static func withoutServersOptions(_ script: String) -> String {
    let name = #/(?:"(?:[^"]|"")*"|[^" ;])+/#
    let statement = Regex {
      #/ALTER (?:FOREIGN TABLE|TABLE|MATERIALIZED VIEW)(?: ONLY)? /#
      name
      " ALTER COLUMN "
      name
      #/ SET \(pg_attver=\d+\);\n/#
    }
    return script.replacing(statement, with: "").replacing(#/, pg_attver=\d+|pg_attver=\d+, /#, with: "")
  }

  /// What the target's schema is to be: what pg_dump writes of the source's. Where the servers are of
  /// different versions, which write the same objects in other words, it is what it writes of a copy that
  /// pg_dump and psql make on the target's server; the database's own properties, which such a copy has not,
  /// stay the source's.
  static func expected(on databases: FreshDatabases) async throws -> Set<String> {
    let ofSource = try await entries(of: databases.source)
    let target = try await SQLSession(databases.target)
    let source = try await SQLSession(databases.source)
    let version = "SHOW server_version_num"
    let isSame = try await source.value(version) == target.value(version)
    await source.close()
    guard !isSame else {
      await target.close()
      return ofSource
    }
    let name = "\(databases.name)_copy"
    let copy = databases.target.with(["dbname": name])
    try await target.execute("CREATE DATABASE \(quotedIdentifier(name)) TEMPLATE template0")
    let ofCopy: Set<String>
    do {
      let script = try await Command.check(
        [PostgresPrograms.path("pg_dump"), "--schema-only", "--dbname=\(databases.source.text)"])
      let file = FileManager.default.temporaryDirectory.appending(path: "\(name).sql")
      defer { try? FileManager.default.removeItem(at: file) }
      try Data(withoutServersOptions(script).utf8).write(to: file)
      try await Command.check(
        [
          PostgresPrograms.path("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "--file=\(file.path)",
          "--dbname=\(copy.text)",
        ])
      ofCopy = try await entries(of: copy)
    } catch {
      try? await target.execute("DROP DATABASE \(quotedIdentifier(name))")
      throw error
    }
    try await target.execute("DROP DATABASE \(quotedIdentifier(name))")
    await target.close()
    return ofSource.filter(isOfDatabase)
      .union(ofCopy.filter { !isOfDatabase($0) }.map { $0.replacing(name, with: databases.name) })
  }

  private static func isOfDatabase(_ entry: String) -> Bool {
    let title = entry.prefix { $0 != "\n" }
    return title.contains("; Type: DATABASE") || title.hasPrefix("DATABASE ")
  }
}
