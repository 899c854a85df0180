import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// What a case needs of a migration: tables, changes in a given order, and equal ends.
struct Cases: Sendable {
  /// How changes reach the target.
  enum Pace: String, CaseIterable, Sendable, CustomTestStringConvertible {
    /// As they are made.
    case live = "as they are made"
    /// All at once: the engine stands still while they are made, so that they fold.
    case together = "all at once"

    var testDescription: String { rawValue }
  }

  let journey: Journey
  var engine: BackgroundProcess

  /// A migration of `tables` that streams, and is ready for a cutover.
  static func run(
    _ name: String, _ options: [String] = ["--replica-identity", "full"], tables: [String],
    isolation: isolated (any Actor)? = #isolation, _ body: (inout Cases) async throws -> Void
  ) async throws {
    try await Journey.run(name) { journey in
      try await journey.run(["CREATE TABLE settled (n serial PRIMARY KEY)"] + tables, on: .source)
      var cases = Cases(journey: journey, engine: try await journey.start(options))
      try await journey.waitUntilReady(cases.engine)
      try await body(&cases)
    }
  }

  /// Runs statements on the source, each a transaction of its own.
  func source(_ statements: [String]) async throws { try await journey.run(statements, on: .source) }

  func target(_ statements: [String]) async throws { try await journey.run(statements, on: .target) }

  /// DDL that the user runs on both ends, the target first.
  func both(_ statements: [String]) async throws {
    try await target(statements)
    try await source(statements)
  }

  /// Makes changes at a pace. Live, each group has arrived before the next begins.
  func source(_ groups: [[String]], _ pace: Pace) async throws {
    switch pace {
    case .live:
      for group in groups {
        try await source(group)
        try await settle()
      }
    case .together:
      try await engine.whileFrozen { for group in groups { try await source(group) } }
      try await settle()
    }
  }

  /// Waits until all that was committed on the source is on the target.
  func settle(within limit: Duration = .seconds(60)) async throws {
    let number = try await journey.sourceValue("INSERT INTO settled DEFAULT VALUES RETURNING n") ?? ""
    try await engine.waitUntil("the stream to settle", within: limit) {
      try await journey.targetValue("SELECT count(*) FROM settled WHERE n = \(number)") == "1"
    }
  }

  /// The engine is killed, and another goes on.
  mutating func replaceEngine(_ options: [String] = ["--replica-identity", "full"]) async throws {
    engine.kill9()
    #expect(try await engine.waitForEnd(within: .seconds(10)) == 128 + 9)
    engine = try await journey.start(options)
  }

  func expectEqualEnds(accepting accepted: [String] = []) async throws {
    try await journey.waitUntilReady(engine)
    try await journey.expectEqualEnds(engine, accepting: accepted)
  }
}

extension Journey {
  func start(_ options: [String]) async throws -> BackgroundProcess {
    try await replicate.start(["start", "--no-reverse"] + ClusterPair.shared.encryptionArguments + options)
  }

  /// Statements mean the same whatever the database's or role's settings are.
  private static let settings = [
    "standard_conforming_strings": "on", "DateStyle": "ISO, YMD", "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex", "extra_float_digits": "1", "client_min_messages": "warning",
  ]

  func run(_ statements: [String], on end: End) async throws {
    let session = try await SQLSession(
      end == .source ? databases.source : databases.target, settings: Self.settings)
    for sql in statements {
      do {
        try await session.execute(sql)
      } catch {
        throw HarnessError("\(sql.prefix(300)): \(error)")
      }
    }
    await session.close()
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

extension BackgroundProcess {
  /// Stops the process while `body` runs, and lets it go on whatever becomes of it.
  func whileFrozen(
    isolation: isolated (any Actor)? = #isolation, _ body: () async throws -> Void
  ) async throws {
    kill(processID, SIGSTOP)
    defer { kill(processID, SIGCONT) }
    try await body()
  }
}

/// A number from the environment, for what CI does briefly and a full run at length.
func count(_ variable: String, default value: Int) -> Int {
  ProcessInfo.processInfo.environment[variable].flatMap(Int.init) ?? value
}
