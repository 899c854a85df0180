import Clusters
import Foundation
import MigrationEngine
import Testing

/// A scene with an engine that works on it: before the cutover, or after one, carrying the target's writes
/// back.
struct Running: Sendable {
  let scene: Scene
  var engine: BackgroundProcess

  /// A migration of `tables` that streams, and is ready for a cutover.
  static func stream(
    _ name: String, _ options: [String] = ["--replica-identity", "full"], tables: [String],
    isolation: isolated (any Actor)? = #isolation, _ body: (inout Running) async throws -> Void
  ) async throws {
    try await Scene.run(name) { scene in
      try await scene.run(["CREATE TABLE settled (n serial PRIMARY KEY)"] + tables, on: .source)
      var running = Running(scene: scene, engine: try await scene.start(options))
      try await scene.waitUntilReady(running.engine)
      try await body(&running)
    }
  }

  /// A migration after its cutover, with what its target writes carried back.
  /// - Parameters:
  ///   - prepare: before the migration begins.
  ///   - before: between streaming and the cutover.
  static func back(
    _ name: String, prepare: [String] = [], options: [String] = [],
    before: (Scene) async throws -> Void = { _ in }, _ body: (Running) async throws -> Void
  ) async throws {
    try await Scene.run(name) { scene in
      for sql in prepare { try await scene.source(sql) }
      let engine = try await scene.start(options, reverse: true)
      try await scene.waitUntilReady(engine)
      try await before(scene)
      let cutover = try await scene.replicate.run("cutover", "--yes")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
      let back = Running(scene: scene, engine: engine)
      try await back.waitForStream()
      try await body(back)
    }
  }

  // MARK: Before the cutover

  /// Runs statements on the source, each a transaction of its own.
  func source(_ statements: [String]) async throws { try await scene.run(statements, on: .source) }

  func target(_ statements: [String]) async throws { try await scene.run(statements, on: .target) }

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
    let number = try await scene.sourceValue("INSERT INTO settled DEFAULT VALUES RETURNING n") ?? ""
    try await engine.waitUntil("the stream to settle", within: limit) {
      try await scene.targetValue("SELECT count(*) FROM settled WHERE n = \(number)") == "1"
    }
  }

  /// The engine is killed, and another goes on.
  mutating func replaceEngine(_ options: [String] = ["--replica-identity", "full"]) async throws {
    engine.kill9()
    #expect(try await engine.waitForEnd(within: .seconds(10)) == 128 + 9)
    engine = try await scene.start(options)
  }

  func expectEqualEnds(accepting accepted: [String] = []) async throws {
    try await scene.waitUntilReady(engine)
    try await scene.expectEqualEnds(engine, accepting: accepted)
  }

  // MARK: After the cutover

  /// The same with another engine.
  func with(_ engine: BackgroundProcess) -> Running { Running(scene: scene, engine: engine) }

  func waitForStream() async throws {
    try await scene.waitUntil("the reverse stream", engine) { $0.phase == .reverse && $0.ready }
  }

  /// Waits until what the target has now is on the source.
  func waitForSource(_ sql: String) async throws {
    let wanted = try await scene.targetValue(sql)
    try await engine.waitUntil("the source to have what the target has: \(sql)", within: .seconds(30)) {
      try await scene.sourceValue(sql) == wanted
    }
  }

  /// On the sealed source: what the fence does not refuse.
  func define(_ sql: String) async throws {
    let session = try await SQLSession(
      scene.databases.source, settings: ["default_transaction_read_only": "off"])
    try await session.execute(sql)
    await session.close()
  }

  func isWritable(_ end: Scene.End, _ sql: String) async throws -> Bool {
    try await scene.refusal(
      of: sql, on: scene.server(end)) == nil
  }

  func differences() async throws -> [String] {
    try await DatabaseComparison().differences(
      source: scene.databases.source, target: scene.databases.target)
  }

  /// Slots, publications, triggers and schemas of ours on the target.
  func tracesOnTarget() async throws -> [String] {
    let session = try await SQLSession(scene.databases.target)
    let rows = try await session.rows(
      """
      SELECT 'slot ' || slot_name FROM pg_replication_slots WHERE database = current_database()
      UNION ALL SELECT 'publication ' || pubname FROM pg_publication
      UNION ALL SELECT 'trigger ' || tgname || ' on ' || tgrelid::regclass FROM pg_trigger
        WHERE NOT tgisinternal
      UNION ALL SELECT 'function ' || proname FROM pg_proc
        WHERE pronamespace::regnamespace::text = 'replicate'
      UNION ALL SELECT 'setting ' || array_to_string(setconfig, ',') FROM pg_db_role_setting
        WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
      """)
    await session.close()
    return rows.compactMap { $0.first ?? nil }
  }

  func report() async throws -> MigrationReport { try await scene.report() }
}

/// How changes reach the target.
enum Pace: String, CaseIterable, Sendable, CustomTestStringConvertible {
  /// As they are made.
  case live = "as they are made"
  /// All at once: the engine stands still while they are made, so that they fold.
  case together = "all at once"

  var testDescription: String { rawValue }
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
