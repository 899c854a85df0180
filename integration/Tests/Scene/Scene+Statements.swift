import Clusters
import Foundation
import MigrationEngine
import Testing

extension Scene {
  /// Statements mean the same whatever the database's or role's settings are.
  private static let settings = [
    "standard_conforming_strings": "on", "DateStyle": "ISO, YMD", "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex", "extra_float_digits": "1", "client_min_messages": "warning",
  ]

  func run(_ statements: [String], on end: End) async throws {
    let session = try await SQLSession(
      server(end), settings: Self.settings)
    for sql in statements {
      do {
        try await session.execute(sql)
      } catch {
        throw HarnessError("\(sql.prefix(300)): \(error)")
      }
    }
    await session.close()
  }

  func both(_ statements: [String]) async throws {
    try await run(statements, on: .target)
    try await run(statements, on: .source)
  }

  /// Runs `body` while a server has other settings, which its running sessions take over, too.
  func with(
    _ settings: [String: String], on end: End, isolation: isolated (any Actor)? = #isolation,
    _ body: () async throws -> Void
  ) async throws {
    let reload = ["SELECT pg_reload_conf()"]
    try await run(settings.map { "ALTER SYSTEM SET \($0) = '\($1)'" } + reload, on: end)
    let result: Result<Void, any Error>
    do {
      result = .success(try await body())
    } catch {
      result = .failure(error)
    }
    try await run(settings.keys.map { "ALTER SYSTEM RESET \($0)" } + reload, on: end)
    try result.get()
  }

  /// Both ends give the same answer, which is not NULL.
  func expectEqual(_ sql: String, sourceLocation: SourceLocation = #_sourceLocation) async throws {
    let expected = try await sourceValue(sql)
    #expect(expected != nil, sourceLocation: sourceLocation)
    #expect(try await targetValue(sql) == expected, sourceLocation: sourceLocation)
  }
}
