import Foundation

/// PostgreSQL's own programs, all of the target's version: those of an older one do not dump a newer server.
package enum PostgresPrograms {
  /// `PG_BINDIR`, or the newest below /usr/lib/postgresql; nil when there is none.
  package static let directory: String? = {
    if let given = ProcessInfo.processInfo.environment["PG_BINDIR"], !given.isEmpty { return given }
    let versions = "/usr/lib/postgresql"
    // An unreadable directory and none at all are the same finding: no programs here.
    let names = (try? FileManager.default.contentsOfDirectory(atPath: versions)) ?? []
    return names.compactMap { Int($0) }.sorted(by: >).map { "\(versions)/\($0)/bin" }
      .first { FileManager.default.isExecutableFile(atPath: "\($0)/postgres") }
  }()

  /// Of the source's server, where its version is to differ from the target's:
  /// `REPLICATE_TEST_SOURCE_BINDIR`.
  static var ofSource: String? {
    ProcessInfo.processInfo.environment["REPLICATE_TEST_SOURCE_BINDIR"].flatMap { $0.isEmpty ? nil : $0 }
  }

  /// The path of `psql`, `pgbench`, `pg_dump`, …
  /// - Parameter given: a folder of programs of another version.
  package static func path(_ program: String, in given: String? = nil) throws -> String {
    guard let directory = given ?? directory else {
      throw HarnessError("no PostgreSQL programs found: run integration/prepare, or set PG_BINDIR")
    }
    return "\(directory)/\(program)"
  }

  /// Whether the servers have an extension's files.
  package static func hasExtension(_ name: String) async throws -> Bool {
    let folder = try await Command.check([path("pg_config"), "--sharedir"])
    return FileManager.default.fileExists(
      atPath: folder.trimmingCharacters(in: .whitespacesAndNewlines) + "/extension/\(name).control")
  }

  /// Arguments that run a command as the user `postgres`, since a server refuses to run as root.
  static func asServerUser(_ arguments: [String]) -> [String] {
    guard geteuid() == 0 else { return arguments }
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--"] + arguments
  }
}
