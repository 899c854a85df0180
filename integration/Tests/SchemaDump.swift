import Clusters
import Foundation

enum SchemaDump {
  /// The whole schema as pg_dump writes it, with the database's own properties, entry by entry: their order
  /// is not the database's.
  static func entries(of server: ConnectionString) async throws -> Set<String> {
    let output = try await Command.check(
      [PostgresPrograms.path("pg_dump"), "--schema-only", "--create", "--dbname=\(server.text)"])
    // pg_dump guards its output with a word that is another each time.
    let lines = output.split(separator: "\n", omittingEmptySubsequences: false).filter {
      !$0.hasPrefix("\\restrict ") && !$0.hasPrefix("\\unrestrict ") && $0 != "--"
        && $0 != "-- PostgreSQL database dump complete"
    }
    let entries = lines.joined(separator: "\n").components(separatedBy: "\n-- Name: ").dropFirst()
    return Set(entries.map { $0.trimmingCharacters(in: .whitespacesAndNewlines) })
  }
}
