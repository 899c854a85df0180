import Testing

@testable import LibPQ
@testable import MigrationEngine

/// Every sequence of the source goes on where it was.
@Suite(.serialized, .servers, .timeLimit(.minutes(2)))
struct SequencesTests {
  @Test("Case 28: sequences of every kind have the source's state, whatever the target's was")
  func everyKind() async throws {
    try await Scene.run("sequences") { scene in
      try await scene.both(Self.kinds)
      try await scene.run(Self.states, on: .source)
      try await scene.run(["SELECT setval('plain', 900)", "SELECT nextval('called_once')"], on: .target)
      let count = try await Sequences.copy(
        from: scene.connection(.source), to: scene.connection(.target))
      let source = try await scene.sequences(.source)
      #expect(count == source.count)
      #expect(try await scene.sequences(.target) == source)
      #expect(source.count > 10)
    }
  }

  @Test("More sequences than one statement takes are all set")
  func many() async throws {
    try await Scene.run("manyseq") { scene in
      try await scene.both([
        "DO $$ BEGIN FOR i IN 1..1203 LOOP EXECUTE 'CREATE SEQUENCE s' || i; END LOOP; END $$"
      ])
      try await scene.run(
        [
          "SELECT count(setval(('s' || i)::regclass, i + 7)) FROM generate_series(1, 1203) i"
        ], on: .source)
      #expect(
        try await Sequences.copy(
          from: scene.connection(.source), to: scene.connection(.target)) == 1203)
      let source = try await scene.sequences(.source)
      #expect(try await scene.sequences(.target) == source)
    }
  }

  @Test("A sequence that cannot take the source's value is an error that names it")
  func outOfRange() async throws {
    try await Scene.run("seqrange") { scene in
      try await scene.both(["CREATE SEQUENCE a", "CREATE SEQUENCE \"B c\""])
      try await scene.run(["SELECT setval('\"B c\"', 100)"], on: .source)
      try await scene.run(["ALTER SEQUENCE \"B c\" MAXVALUE 50"], on: .target)
      let error = await #expect(throws: PostgresError.self) {
        _ = try await Sequences.copy(
          from: scene.connection(.source), to: scene.connection(.target))
      }
      #expect(error?.action.contains("sequence \"public\".\"B c\"") == true, "\(String(describing: error))")
    }
  }

  @Test("A sequence that the target lacks is an error that names it")
  func missing() async throws {
    try await Scene.run("missingseq") { scene in
      try await scene.run(["CREATE SEQUENCE \"only here\""], on: .source)
      let error = await #expect(throws: PostgresError.self) {
        try await Sequences.copy(
          from: scene.connection(.source), to: scene.connection(.target))
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
