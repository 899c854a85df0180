import ArgumentParser
import LibPQ
import Testing

@testable import MigrationEngine
@testable import replicate

@Suite struct DurationParserTests {
  @Test(arguments: [
    ("10s", 10), ("500ms", 0.5), ("1.5s", 1.5), ("2m", 120), ("60m", 3600), (".5s", 0.5),
  ])
  func readsNumbersWithAUnit(text: String, seconds: Double) throws {
    #expect(abs(try DurationParser.seconds(text) - seconds) < 1e-9)
  }

  @Test(arguments: [
    "", "10", "s", "0s", "-1s", "61m", "3601s", "10h", "1e3s", "nan", "infs", "0x10s", "10 s", "1.2.3s",
    "１０s",
    "10S", "99999999999999999999999999m",
  ])
  func refusesEverythingElse(text: String) {
    #expect(throws: ValidationError.self) { try DurationParser.seconds(text) }
  }
}

@Suite struct RelationNameParserTests {
  @Test(arguments: [
    ("public.orders", "public", "orders"),
    ("Public.ORDERS_2", "public", "orders_2"),
    (#""Public"."Orders""#, "Public", "Orders"),
    (#"app."a.b ""c""*""#, "app", #"a.b "c"*"#),
    ("app.ÄRGER", "app", "Ärger"),
    ("app.x$1", "app", "x$1"),
  ])
  func foldsUnlessQuoted(text: String, schema: String, name: String) throws {
    #expect(try RelationNameParser.parse(text) == RelationName(schema: schema, name: name))
  }

  @Test(arguments: [
    "", ".", "orders", "a.b.c", "a.", ".b", #""a".""#, #""a.b"#, #""a"b.c"#, #"a"b".c"#, "app.*", "app.t?",
    "a b.c",
    #"""."""#, "app." + String(repeating: "x", count: 64),
  ])
  func refusesWhatIsNoTableWithItsSchema(text: String) {
    #expect(throws: ValidationError.self) { try RelationNameParser.parse(text) }
  }
}

@Suite struct EndOptionsTests {
  private func ends(_ arguments: String...) throws -> EndOptions { try EndOptions.parse(arguments) }

  @Test func anOptionGoesBeforeTheEnvironment() throws {
    let ends = try ends("--source", "host=here dbname=app")
    #expect(try ends.requiredSource(in: Stage.ends)["host"] == "here")
    #expect(try ends.requiredTarget(in: Stage.ends)["host"] == "new.example")
  }

  @Test func aMissingEndSaysHowToGiveIt() throws {
    let error = try #require(throws: MigrationError.self) { try ends().requiredTarget(in: [:]) }
    #expect(error.kind == .usage)
    #expect(error.remedy == "Give --target 'host=… dbname=…' or set REPLICATE_TARGET.")
    #expect(try ends().optionalSource(in: [:]) == nil)
  }

  @Test(arguments: ["host=x password='s3cret", "postgresql://u:s3cret@h/db?bogus=1"])
  func whatLibpqCannotReadIsAUsageErrorWithoutThePassword(text: String) throws {
    let error = try #require(throws: MigrationError.self) {
      try ends().requiredSource(in: ["REPLICATE_SOURCE": text])
    }
    #expect(error.kind == .usage)
    #expect(!"\(error)".contains("s3cret"))
    #expect("\(error)".contains("REPLICATE_SOURCE"))
  }

  @Test(arguments: [
    ("host=h replication=database", [:], "replication=database"),
    ("host=h replication=on", [:], "replication=on"),
    ("service=s sslpassword=s3cret", [:], "sslpassword"),
    ("host=h sslpassword=s3cret", ["PGSERVICE": "s"], "sslpassword"),
    ("host=h sslpassword=' s3cret'", [:], "sslpassword"),
  ])
  func whatAMigrationCannotWorkWithIsNamed(text: String, more: [String: String], word: String) throws {
    let environment = more.merging(["REPLICATE_TARGET": text]) { $1 }
    let error = try #require(throws: MigrationError.self) { try ends().requiredTarget(in: environment) }
    #expect(error.kind == .usage)
    #expect(error.reason.contains(word) && !"\(error)".contains("s3cret"))
    #expect(error.remedy?.contains("REPLICATE_TARGET") == true)
  }

  @Test(arguments: [
    "host=h sslkey=k sslpassword='a b'", "host=h replication=false", "host=h options='-c role=x'",
  ])
  func whatAMigrationWorksWithIsTaken(text: String) throws {
    _ = try ends().requiredTarget(in: ["REPLICATE_TARGET": text])
  }
}

@Suite struct StartOptionsTests {
  private func options(_ arguments: String...) throws -> MigrationOptions {
    let command = try Replicate.parseAsRoot(["start"] + arguments)
    return try #require(command as? StartCommand).options(in: Stage.ends)
  }

  @Test func withoutOptionsTheDefaultsHold() throws {
    let options = try options()
    #expect(options.jobs == 4)
    #expect(options.cutover == .manual)
    #expect(!options.setsReplicaIdentityFull && !options.leavesLargeObjectsBehind)
    #expect(!options.allowsUnencryptedTarget && options.encryptionEvidenceCommand == nil)
    #expect(options.excluded.isEmpty && options.switchPlan.steps.isEmpty)
  }

  @Test func everyOptionReachesTheEngine() throws {
    let options = try options(
      "--jobs", "64", "--cutover", "auto", "--replica-identity", "full", "--exclude-table", "public.a",
      "--exclude-table", #""B".c"#, "--without-large-objects", "--allow-unencrypted-target",
      "--encryption-evidence", "true", "--exec", "first --one", "--exec", "second")
    #expect(options.jobs == 64)
    #expect(options.cutover == .auto)
    #expect(options.setsReplicaIdentityFull && options.leavesLargeObjectsBehind)
    #expect(options.allowsUnencryptedTarget && options.encryptionEvidenceCommand == "true")
    #expect(options.excluded.map(\.description) == [#""public"."a""#, #""B"."c""#])
    #expect(options.switchPlan.steps.map { "\($0.action)" } == [#"exec("first --one")"#, #"exec("second")"#])
  }

  @Test(arguments: [
    ["--jobs", "0"], ["--jobs", "65"], ["--jobs", "x"], ["--cutover", "later"], ["--exclude-table", "a"],
    ["--log-format", "xml"], ["--bogus"],
  ])
  func whatItDoesNotTakeIsAUsageError(arguments: [String]) {
    let error = #expect(throws: (any Error).self) { try Replicate.parseAsRoot(["start"] + arguments) }
    #expect(error.map(ExitStatus.code) == 64)
  }
}

@Suite struct ByteRateParserTests {
  @Test(arguments: [
    ("20MB", 20 << 20), ("500kB", 500 << 10), ("1.5GB/s", 3 << 29), ("4096", 4096), ("4096B/s", 4096),
  ]) func readsAmountsWithAUnit(text: String, bytes: Int64) throws {
    #expect(try ByteRateParser.parse(text) == bytes)
  }

  @Test(arguments: ["", "0", "-1MB", "fast", "1TB", "1mb", "nanMB", "infGB", "1e300", "MB", "10 MB x"])
  func refusesTheRest(text: String) {
    #expect(throws: ValidationError.self) { try ByteRateParser.parse(text) }
  }
}
