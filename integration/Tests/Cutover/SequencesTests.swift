import Clusters
import Testing

@testable import LibPQ
@testable import MigrationEngine

/// Every sequence of the source goes on where it was.
@Suite(.serialized, .servers, .timeLimit(.minutes(2)))
struct SequencesTests {
  @Test("Case 28: sequences of every kind have the source's state, whatever the target's was")
  func everyKind() async throws {
    try await Ends.run("sequences") { ends in
      try await ends.scene.both(Self.kinds)
      try await ends.scene.run(Self.states, on: .source)
      try await ends.scene.run(["SELECT setval('plain', 900)", "SELECT nextval('called_once')"], on: .target)
      let count = try await Sequences.copy(from: ends.sourceConnection, to: ends.targetConnection)
      let source = try await ends.state(of: ends.scene.databases.source)
      #expect(count == source.count)
      #expect(try await ends.state(of: ends.scene.databases.target) == source)
      #expect(source.count > 10)
    }
  }

  @Test("More sequences than one statement takes are all set")
  func many() async throws {
    try await Ends.run("manyseq") { ends in
      try await ends.scene.both([
        "DO $$ BEGIN FOR i IN 1..1203 LOOP EXECUTE 'CREATE SEQUENCE s' || i; END LOOP; END $$"
      ])
      try await ends.scene.run(
        [
          "SELECT count(setval(('s' || i)::regclass, i + 7)) FROM generate_series(1, 1203) i"
        ], on: .source)
      #expect(try await Sequences.copy(from: ends.sourceConnection, to: ends.targetConnection) == 1203)
      let source = try await ends.state(of: ends.scene.databases.source)
      #expect(try await ends.state(of: ends.scene.databases.target) == source)
    }
  }

  @Test("A sequence that cannot take the source's value is an error that names it")
  func outOfRange() async throws {
    try await Ends.run("seqrange") { ends in
      try await ends.scene.both(["CREATE SEQUENCE a", "CREATE SEQUENCE \"B c\""])
      try await ends.scene.run(["SELECT setval('\"B c\"', 100)"], on: .source)
      try await ends.scene.run(["ALTER SEQUENCE \"B c\" MAXVALUE 50"], on: .target)
      let error = await #expect(throws: PostgresError.self) {
        _ = try await Sequences.copy(from: ends.sourceConnection, to: ends.targetConnection)
      }
      #expect(error?.action.contains("sequence \"public\".\"B c\"") == true, "\(String(describing: error))")
    }
  }

  @Test("A sequence that the target lacks is an error that names it")
  func missing() async throws {
    try await Ends.run("missingseq") { ends in
      try await ends.scene.run(["CREATE SEQUENCE \"only here\""], on: .source)
      let error = await #expect(throws: PostgresError.self) {
        try await Sequences.copy(from: ends.sourceConnection, to: ends.targetConnection)
      }
      #expect(error?.message.contains("only here") == true)
    }
  }

  private static let kinds = [
    "CREATE SEQUENCE plain", "CREATE SEQUENCE never", "CREATE SEQUENCE called_once",
    "CREATE SEQUENCE down AS smallint INCREMENT -3 MAXVALUE -1 MINVALUE -32000",
    "CREATE SEQUENCE round MAXVALUE 5 CYCLE", "CREATE SEQUENCE cached CACHE 50",
    "CREATE SEQUENCE widest MINVALUE -9223372036854775808", "CREATE SEQUENCE uncalled START 40",
    "CREATE SCHEMA \"O'Neil; \"\"x\"\"\"", "CREATE SEQUENCE \"O'Neil; \"\"x\"\"\".\"per%cent\\back\"",
    "CREATE TABLE owner (a serial, b bigint GENERATED ALWAYS AS IDENTITY, c smallserial)",
  ]

  private static let states = [
    "SELECT nextval('plain') FROM generate_series(1, 12)", "SELECT nextval('called_once')",
    "SELECT nextval('down') FROM generate_series(1, 4)",
    "SELECT nextval('round') FROM generate_series(1, 7)",
    "SELECT nextval('cached')", "SELECT setval('widest', 9223372036854775807)",
    "SELECT setval('uncalled', 77, false)", "SELECT nextval('\"O''Neil; \"\"x\"\"\".\"per%cent\\back\"')",
    "INSERT INTO owner DEFAULT VALUES", "INSERT INTO owner DEFAULT VALUES",
  ]
}

/// Both ends, as the engine opens them and as anybody would.
struct Ends: Sendable {
  let scene: Scene
  let sourceConnection: LibPQ.Connection
  let targetConnection: LibPQ.Connection

  static func run(_ name: String, _ body: @Sendable (Ends) async throws -> Void) async throws {
    try await Scene.run(name) { scene in
      let ends = Ends(
        scene: scene, sourceConnection: try await open(scene.databases.source, "source"),
        targetConnection: try await open(scene.databases.target, "target"))
      try await body(ends)
      await ends.sourceConnection.close()
      await ends.targetConnection.close()
    }
  }

  private static func open(_ end: Clusters.ConnectionString, _ name: String) async throws -> LibPQ.Connection
  {
    try await Session.open(LibPQ.ConnectionString(end.text, for: name), end: name, purpose: "test")
  }

  /// Each sequence with its last value and whether it was called, read from the sequence itself.
  func state(of end: Clusters.ConnectionString) async throws -> [String] {
    let session = try await SQLSession(end)
    let names = try await session.rows(
      """
      SELECT format('%I.%I', nspname, relname) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
      WHERE relkind = 'S' ORDER BY 1
      """
    ).compactMap { $0.first ?? nil }
    var states: [String] = []
    for name in names {
      let row = try await session.rows("SELECT last_value, is_called FROM \(name)").first
      states.append("\(name) \((row ?? []).map { $0 ?? "" })")
    }
    await session.close()
    return states
  }
}
