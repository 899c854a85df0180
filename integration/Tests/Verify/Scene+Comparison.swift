import Clusters
import Foundation
import LibPQ
import Logging
import Synchronization

@testable import MigrationEngine

/// Two databases and no engine: what `Verification` says of them.
extension Scene {
  /// Both ends with what `script` makes.
  static func compared(_ name: String, _ script: String, _ body: (Scene) async throws -> Void) async throws {
    try await run("verify_\(name)") { scene in
      try await scene.script(script)
      try await body(scene)
    }
  }

  /// Runs statements that `;` parts, all in one message; on both ends, as the source's version has them,
  /// unless one is given.
  func script(on end: End? = nil, _ script: String) async throws {
    for side in end.map({ [$0] }) ?? [.source, .target] {
      let name = side == .source ? "source" : "target"
      let connection = try await Session.open(
        LibPQ.ConnectionString(server(side).text, for: name), end: name, purpose: "test")
      _ = try await closing(connection) {
        let own = try await connection.serverVersion() / 10_000
        let fitting = try await Versions.fitting(
          script, major: end == nil ? ClusterPair.sourceMajor() : own)
        try await connection.query("SET search_path = public; \(fitting)", doing: "making a scene")
      }
    }
  }

  /// - Parameter configure: changes the options; schema and other objects are not compared unless it says so.
  func verification(
    _ scope: Verification.Scope = .settled, targetSnapshot: String? = nil,
    progress: ShownProgress? = nil,
    _ configure: (inout Verification.Options) -> Void = { _ in }
  ) async throws -> Verification {
    let source = try LibPQ.ConnectionString(databases.source.text, for: "source")
    let target = try LibPQ.ConnectionString(databases.target.text, for: "target")
    let connection = try await Session.open(source, end: "source", purpose: "test")
    let catalog = try await closing(connection) { try await Catalog.read(from: connection) }
    var options = Verification.Options(scope: scope)
    options.jobs = 2
    options.comparesObjects = false
    options.comparesSchema = false
    configure(&options)
    return Verification(
      source: Verification.Side(source, end: "source"),
      target: Verification.Side(target, end: "target", snapshot: targetSnapshot),
      relations: catalog.relations, options: options, onProgress: { progress?.note($0) },
      logger: Logger(label: "verify"))
  }

  func compare(
    _ scope: Verification.Scope = .settled, _ configure: (inout Verification.Options) -> Void = { _ in }
  ) async throws -> VerificationReport {
    try await verification(scope, configure).compare()
  }

  /// Both ends are of one major version.
  func isOfOneVersion() async throws -> Bool {
    var versions: Set<String> = []
    for server in [databases.source, databases.target] {
      let session = try await SQLSession(server)
      let version = try await session.value("SELECT current_setting('server_version_num')::int / 10000")
      versions.insert(version ?? "")
      await session.close()
    }
    return versions.count == 1
  }

  /// The report's lines; between servers of different versions without what these write in their own ways.
  func lines(_ report: VerificationReport) async throws -> [String] {
    guard try await !isOfOneVersion() else { return report.lines }
    return report.lines.filter { !$0.hasSuffix("is written differently, as the servers' versions may do)") }
  }

  /// Of these rows alone.
  func compare(of rows: [RelationName: ChangedRows]) async throws -> VerificationReport {
    try await withReady { try await $0.compare(rows: rows) }
  }

  func withReady<Value: Sendable>(
    _ body: (inout PreparedVerification) async throws -> Value
  ) async throws -> Value {
    var ready = try await verification().ready()
    do {
      let value = try await body(&ready)
      await ready.close()
      return value
    } catch {
      await ready.close()
      throw error
    }
  }

  /// As `compare`, with the schema and all objects.
  func compareAll(_ scope: Verification.Scope = .settled) async throws -> VerificationReport {
    try await compare(scope) {
      $0.comparesObjects = true
      $0.comparesSchema = true
    }
  }

  /// Sessions of comparisons that either server still has.
  func sessions() async throws -> Int {
    var count = 0
    for server in [databases.source, databases.target] {
      let session = try await SQLSession(server)
      count +=
        Int(
          try await session.value(
            """
            SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND application_name = 'replicate verify'
            """) ?? "") ?? 0
      await session.close()
    }
    return count
  }
}

extension VerificationReport {
  /// One line a difference: tables with their counts and rows, then objects; expected ones in brackets.
  var lines: [String] {
    tables.filter { $0.verdict == .different }.map { table in
      let rows = table.rows.map { "\($0.kind.rawValue) \($0.words)" }.joined(separator: ", ")
      return "\(table.name.name): -\(table.missing) +\(table.extra) ~\(table.different) \(rows)"
    } + objects.map { $0.isExpected ? "(\($0.words))" : $0.words }
  }

  func table(_ name: String) -> Table? { tables.first { $0.name.name == name } }
}

/// The last progress that was reported.
final class ShownProgress: Sendable {
  private let progress = Mutex<VerificationProgress?>(nil)

  var last: VerificationProgress? { progress.withLock { $0 } }

  func note(_ progress: VerificationProgress) { self.progress.withLock { $0 = progress } }
}
