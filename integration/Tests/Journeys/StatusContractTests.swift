import Clusters
import Foundation
import Testing

/// `status --json` is read by programs: every key is there, always, with its type.
@Suite(.serialized, .servers, .timeLimit(.minutes(3)))
struct StatusContractTests {
  enum Kind: String {
    case text, number, flag
  }

  /// Paths of the public contract, apart from `cutover`.
  static let keys: [String: Kind] = [
    "migration": .text, "phase": .text, "ready": .flag,
    "engine.running": .flag, "engine.host": .text, "engine.pid": .number,
    "engine.heartbeat_age_seconds": .number,
    "source.database": .text, "source.server_version": .text, "source.tls": .flag,
    "target.database": .text, "target.server_version": .text, "target.tls": .flag,
    "target.encryption.status": .text, "target.encryption.provider": .text,
    "target.encryption.detail": .text,
    "copy.tables_total": .number, "copy.tables_done": .number, "copy.bytes_total": .number,
    "copy.bytes_done": .number, "copy.rows_done": .number, "copy.seconds": .number,
    "stream.received_lsn": .text, "stream.applied_lsn": .text, "stream.source_lsn": .text,
    "stream.lag_bytes": .number, "stream.lag_seconds": .number, "stream.transactions": .number,
    "stream.changes": .number,
    "slot.name": .text, "slot.status": .text, "slot.retained_bytes": .number,
  ]

  static let cutoverKeys: Set = ["step", "fence_lsn", "write_pause_seconds", "result", "reason"]

  @Test("A look opens one session, on the target, and reads everything there once", .ownServers)
  func cost() async throws {
    try await Scene.run("cost") { scene in
      try await scene.source("CREATE TABLE t (id int PRIMARY KEY)")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      let logging = "ALTER DATABASE \"\(scene.databases.name)\" SET log_statement = 'all'"
      try await scene.source(logging)
      try await scene.target(logging)
      let look = try await scene.replicate.run("status", "--json")
      #expect(look.exitCode == 0, "\(look.errors)")
      let pair = try await ClusterPair.shared
      func statements(_ end: Cluster?) async throws -> [Substring] {
        try await #require(end).logTail(lines: 400).split(separator: "\n").filter {
          $0.contains("@\(scene.databases.name) replicate status ")
        }
      }
      let read = try await statements(pair.targetCluster)
      let sessions = Set(read.compactMap { $0.firstMatch(of: /\[(\d+)\]/)?.output.1 })
      #expect(sessions.count == 1, "\(read)")
      for table in ["migration ", "engine", "cutover "] {
        #expect(read.count { $0.contains("FROM replicate.\(table)") } <= 1, "\(table): \(read)")
      }
      // Settings of the session, whether there is a migration, its row, the lock, the engine's and a
      // cutover's.
      #expect((5...7).contains(read.count), "\(read)")
      #expect(try await statements(pair.sourceCluster) == [])
    }
  }

  @Test("Every key is there while it streams, when it has stopped, and after it was aborted")
  func streaming() async throws {
    try await Scene.run("contract") { scene in
      try await scene.source("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      let streaming = try await read(scene)
      expectContract(streaming)
      #expect(streaming["cutover"] is NSNull)
      #expect(streaming["phase"] as? String == "streaming")
      for end in ["source", "target"] {
        let database = try #require(value(streaming, "\(end).database") as? String)
        #expect(database == scene.databases.name)
      }
      #expect((value(streaming, "slot.status") as? String) == "reserved")
      #expect((value(streaming, "copy.rows_done") as? Int) == 1)
      #expect((value(streaming, "engine.pid") as? Int) == Int(engine.processID))

      engine.terminate()
      #expect(try await engine.waitForEnd(within: .seconds(20)) == 0, "\(engine.errors)")
      let stopped = try await read(scene)
      expectContract(stopped)
      #expect((value(stopped, "engine.running") as? Bool) == false)
      #expect(stopped["ready"] as? Bool == false)

      let abort = try await scene.replicate.run("abort", "--yes")
      #expect(abort.exitCode == 0, "\(abort.errors)")
      let aborted = try await read(scene)
      expectContract(aborted)
      #expect(aborted["phase"] as? String == "aborted")
    }
  }

  @Test("Every key of the cutover is there, unset ones as null")
  func cutover() async throws {
    try await Scene.run("contractcut") { scene in
      try await scene.source("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      // Refused before the fence: there is neither an LSN nor a pause to report.
      #expect(try await scene.replicate.run("cutover", "--yes", "--max-pause", "1ms").exitCode == 5)
      let refused = try await read(scene)
      expectContract(refused)
      let first = try #require(refused["cutover"] as? [String: Any])
      #expect(Self.cutoverKeys.subtracting(first.keys) == [])
      #expect(first["result"] as? String == "aborted")
      #expect(first["fence_lsn"] is NSNull)
      #expect(first["reason"] is String)

      let run = try await scene.replicate.run("cutover", "--yes")
      #expect(run.exitCode == 0, "\(run.output)\(run.errors)")
      _ = try await engine.waitForEnd(within: .seconds(30))
      let complete = try await read(scene)
      expectContract(complete)
      let second = try #require(complete["cutover"] as? [String: Any])
      #expect(Self.cutoverKeys.subtracting(second.keys) == [])
      #expect(complete["phase"] as? String == "complete")
      #expect(second["result"] as? String == "complete")
      #expect(second["fence_lsn"] is String && second["write_pause_seconds"] is NSNumber)
      #expect(second["reason"] is NSNull)
    }
  }

  private func read(_ scene: Scene) async throws -> [String: Any] {
    let run = try await scene.replicate.run("status", "--json")
    #expect(run.exitCode == 0, "\(run.errors)")
    #expect(run.output.split(separator: "\n").count == 1, "one object on one line: \(run.output)")
    let object = try JSONSerialization.jsonObject(with: Data(run.output.utf8))
    return try #require(object as? [String: Any])
  }

  private func expectContract(
    _ status: [String: Any], sourceLocation: SourceLocation = #_sourceLocation
  ) {
    #expect(status.keys.contains("cutover"), sourceLocation: sourceLocation)
    for (path, kind) in Self.keys {
      let found = value(status, path).flatMap(Self.kind)
      #expect(found == kind, "\(path) is \(found?.rawValue ?? "not there")", sourceLocation: sourceLocation)
    }
    for path in ["stream.received_lsn", "stream.applied_lsn", "stream.source_lsn"] {
      let text = value(status, path) as? String ?? ""
      #expect(text.wholeMatch(of: /[0-9A-F]{1,8}\/[0-9A-F]{1,8}/) != nil, sourceLocation: sourceLocation)
    }
  }

  private func value(_ status: [String: Any], _ path: String) -> Any? {
    path.split(separator: ".").reduce(status as Any?) { ($0 as? [String: Any])?[String($1)] }
  }

  private static func kind(_ value: Any) -> Kind? {
    if value is String { return .text }
    guard let number = value as? NSNumber else { return nil }
    // A JSON flag is a number, too, but its Objective-C type is a char.
    return String(cString: number.objCType) == "c" ? .flag : .number
  }
}
