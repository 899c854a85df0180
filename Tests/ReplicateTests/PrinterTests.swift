import Foundation
import Logging
import Testing

@testable import LibPQ
@testable import MigrationEngine
@testable import replicate

@Suite struct StatusPrinterTests {
  @Test func aQuestionKeepsItsLinesOnTheTerminalAndNothingThatMovesTheCursor() {
    #expect(Fitting.plainText("a\u{1b}[2J moment.\nContinue? [y/N] ") == "a?[2J moment.\nContinue? [y/N] ")
  }

  @Test func aStreamingMigrationReadsLikeThis() {
    #expect(
      StatusPrinter.text(.sample()) == """
        migration  replicate, streaming, ready for a cutover
        engine     running on mover-1 (pid 4242), heartbeat 400 ms ago
        source     app, PostgreSQL 15.20, TLS
        target     app, PostgreSQL 17.6, no TLS
        encryption verified (aws): KMS key alias/app
        copy       12 of 40 tables, 612 MB of 1.2 GB, 8,123,456 rows, in 1m 20s
        stream     received 16/B374D848, applied 16/B374D000, source 16/B374D900, 1 transaction, \
        1,234,567 changes
                   lag 2.3 kB (83 ms), applying 12 MB/s, source writes 1.1 MB/s, caught up in 3.0 s, \
        a cutover would pause writes for 120 ms
        slot       replicate_app (reserved), retains 16 MB of WAL, 512 MB more until it is lost
        """)
  }

  @Test func aFailedOneSaysWhyAndHowToGoOn() {
    var status = Status(phase: .failed)
    status.failure = "the slot was lost"
    #expect(
      StatusPrinter.text(status) == """
        migration  replicate, failed
        engine     not running, 'replicate start' continues
        source     not known
        target     not known
        encryption unverified: not examined yet
        copy       not begun
        stream     received 0/0, applied 0/0, source 0/0, 0 transactions, 0 changes
                   lag 0 bytes (0 ms), applying 0 bytes/s, source writes 0 bytes/s
        slot       none
        failure    the slot was lost
        """)
  }

  @Test func aCopyUnderWayHasABarARateAndAnEnd() {
    let copy = "copy       [##############................] 49%, 12 of 40 tables, 612 MB of 1.2 GB, "
    let text = StatusPrinter.text(.sample(.copy))
    #expect(text.contains(copy + "8,123,456 rows, in 1m 20s, 7.7 MB/s, ETA 1m 21s\n"), "\(text)")
    var pace = CopyPace()
    for (bytes, seconds) in [(541_336_704, 0.0), (642_000_000, 2)] { pace.observe(Int64(bytes), at: seconds) }
    let rows = StatusPrinter.rows(.sample(.copy), columns: 100, pace: pace)
    #expect(rows.contains("           in 1m 20s, 48 MB/s, ETA 13 s"), "\(rows)")
  }

  @Test(arguments: [5, 20, 40, 79], [Phase.copy, .streaming])
  func onAScreenItKeepsToTheWidth(columns: Int, phase: Phase) {
    var status = Status.sample(phase)
    status.cutover = .sample(.aborted)
    status.source.database = String(repeating: "long", count: 30)
    let rows = StatusPrinter.rows(status, columns: columns)
    #expect(rows.allSatisfy { Fitting.width(of: $0) <= columns })
  }
}

@Suite struct StatusJSONTests {
  private func object(_ status: Status) throws -> [String: Any] {
    let parsed = try JSONSerialization.jsonObject(with: Data(StatusJSON.text(status).utf8))
    return try #require(parsed as? [String: Any])
  }

  @Test func theKeysAreThoseOfTheContract() throws {
    var status = Status.sample()
    status.cutover = .sample(.aborted)
    status.cutover?.reason = "lag over budget"
    let object = try object(status)
    let contract: [String: Set<String>] = [
      "engine": ["running", "host", "pid", "heartbeat_age_seconds"],
      "source": ["database", "server_version", "tls"],
      "target": ["database", "server_version", "tls", "encryption"],
      "copy": ["tables_total", "tables_done", "bytes_total", "bytes_done", "rows_done", "seconds"],
      "stream": [
        "received_lsn", "applied_lsn", "source_lsn", "lag_bytes", "lag_seconds", "transactions", "changes",
      ],
      "slot": ["name", "status", "retained_bytes"],
      "cutover": ["step", "fence_lsn", "write_pause_seconds", "result", "reason"],
    ]
    #expect(Set(object.keys) == Set(contract.keys).union(["migration", "phase", "ready"]))
    for (part, keys) in contract {
      let value = try #require(object[part] as? [String: Any])
      #expect(keys.isSubset(of: value.keys), "\(part)")
    }
    let target = try #require(object["target"] as? [String: Any])
    let encryption = try #require(target["encryption"] as? [String: String])
    #expect(encryption == ["status": "verified", "provider": "aws", "detail": "KMS key alias/app"])
    #expect(object["phase"] as? String == "streaming")
  }

  @Test func itIsOneLineAndSaysNullWithoutACutover() throws {
    let text = StatusJSON.text(.sample())
    #expect(!text.contains("\n"))
    #expect(text.contains(#""cutover":null"#))
    #expect(text.contains(#""applied_lsn":"16/B374D000""#))
  }
}

@Suite struct FindingsPrinterTests {
  private let report = PreflightReport(findings: [
    Finding(.note, check: "matviews", object: "target", why: "2 are refreshed at the end.", remedy: ""),
    Finding(
      .blocker, check: "wal_level", object: "source", why: "wal_level is replica.",
      remedy: "ALTER SYSTEM SET wal_level = 'logical';\nthen restart the server"),
  ])

  @Test func theWorstComesFirstWithItsRemedy() {
    #expect(
      FindingsPrinter.text(report) == """
        blocker  wal_level: source
                 wal_level is replica.
            mend ALTER SYSTEM SET wal_level = 'logical';
                 then restart the server

        note     matviews: target
                 2 are refreshed at the end.

        1 blocker, 1 note: the migration cannot begin
        """)
    #expect(FindingsPrinter.text(PreflightReport(findings: [])) == "no findings: the migration can begin")
  }

  @Test func ofManyOfOneKindTheRestIsOnlyNamed() {
    let many = (1...14).map { number in
      Finding(.blocker, check: "replica_identity", object: "table t\(number)", why: "None.", remedy: "Key.")
    }
    let text = FindingsPrinter.text(PreflightReport(findings: many + report.findings))
    #expect(text.contains("replica_identity: table t10\n") && !text.contains("replica_identity: table t11"))
    #expect(text.contains("replica_identity: 4 more\n         table t11, table t12, table t13, table t14\n"))
    #expect(text.contains("wal_level: source"))
    #expect(text.hasSuffix("15 blockers, 1 note: the migration cannot begin"))
    let few = FindingsPrinter.text(PreflightReport(findings: Array(many.prefix(11))))
    #expect(few.contains("replica_identity: table t11\n") && !few.contains("more"))
  }

  @Test func programsGetTheFindingsAndTheVerdict() {
    #expect(FindingsPrinter.json(report).hasPrefix(#"{"blocked":true,"findings":[{"check":"matviews","#))
  }
}

@Suite struct CutoverPrinterTests {
  @Test func theReportHasThePauseTheEncryptionAndTheTimeline() {
    let evidence = EncryptionEvidence(status: .attested, provider: .command, detail: "true")
    #expect(
      CutoverPrinter.text(.sample(.complete), encryption: evidence) == """
        cutover complete; writes paused for 83 ms
        fence       16/B374E000
        encryption  attested (command): true

          at      took    step
          0 ms    412 ms  arm    40 tables
          412 ms  0.4 ms  fence
          412 ms  71 ms   drain  marker applied
        """)
  }

  @Test func anAbortedOneSaysWhy() {
    var cutover = Status.Cutover(step: .drain)
    cutover.result = .aborted
    cutover.reason = "the timeout of 60 s was reached"
    #expect(
      CutoverPrinter.text(cutover, encryption: nil) == """
        cutover aborted, the source is writable again
        reason      the timeout of 60 s was reached
        """)
  }

  @Test func whatWasComparedInsteadIsTold() {
    var cutover = Status.Cutover(step: .rehearsed)
    cutover.result = .rehearsed
    cutover.verification = Status.Comparison(
      extent: .full, result: .equal, digest: "", tables: 2, summary: "all rows of 2 tables are equal",
      seconds: 0.05, lsn: "0/1", notice: "nothing said what was touched")
    #expect(
      CutoverPrinter.text(cutover, encryption: nil) == """
        cutover rehearsed, the source is writable again
        verified    full in 50 ms: all rows of 2 tables are equal
                    nothing said what was touched
        """)
  }
}

@Suite struct ErrorPrinterTests {
  private let evil = "a\u{1B}[2J\n2026-11-25T00:00:00Z info    all is well\u{9B}\u{202E}"

  @Test func whatANameHoldsNeitherReachesTheScreenNorPassesForALine() throws {
    let error = MigrationError(.failed, doing: "copying \(evil)", reason: evil, remedy: "Rename it.")
    let stage = Stage()
    ErrorPrinter(output: stage.errors.output, format: .text, now: stage.surroundings().now)
      .show(error, code: 1, arguments: [])
    let log = LogLine.text(evil, level: .info, metadata: ["table": evil], at: .now)
    let finding = Finding(.blocker, check: "tables", object: evil, why: evil, remedy: evil)
    let findings = FindingsPrinter.text(PreflightReport(findings: [finding]))
    for text in [stage.errors.text, log] {
      let lines = text.split(separator: "\n")
      #expect(lines.dropFirst().allSatisfy { $0.hasPrefix("  ") }, "\(text)")
      #expect(!text.unicodeScalars.contains { $0 != "\n" && Fitting.isControl($0) }, "\(text)")
    }
    #expect(!findings.unicodeScalars.contains { $0 != "\n" && Fitting.isControl($0) }, "\(findings)")
    #expect(!findings.split(separator: "\n").contains { $0.hasPrefix("2026") }, "\(findings)")
  }

  @Test func jSONEscapesWhatATerminalObeys() throws {
    let text = JSONText.line(["name": evil + "\u{E0001}"])
    #expect(!text.unicodeScalars.contains(where: Fitting.isControl), "\(text)")
    let read = try JSONDecoder().decode([String: String].self, from: Data(text.utf8))
    #expect(read == ["name": evil + "\u{E0001}"])
  }

  @Test func noLineCarriesAControlCharacter() {
    let stage = Stage()
    stage.results.output.line("one\u{1B}[2J\ntwo\u{9B}")
    #expect(stage.results.text == "one?[2J\ntwo?\n")
  }

  @Test func theExitCodeFollowsFromTheKind() {
    let kinds: [(MigrationError.Kind, Int32)] = [
      (.failed, 1), (.blocked, 3), (.cutoverAborted, 5), (.anotherEngine, 6), (.usage, 64),
    ]
    for (kind, code) in kinds {
      #expect(ExitStatus.code(of: MigrationError(kind, doing: "a", reason: "b")) == code)
    }
    #expect(ExitStatus.code(of: PostgresError(code: .connection, action: "a", message: "b")) == 1)
    #expect(ExitStatus.code(of: PostgresError(code: .connectionString, action: "a", message: "b")) == 64)
    #expect(ExitStatus.code(of: CancellationError()) == 1)
  }

  @Test func aLostConnectionSaysWhatToDo() {
    let error = PostgresError(code: .connection, action: "connecting to the source", message: "refused")
    let words = ErrorPrinter.words(for: error, arguments: [])
    #expect(words.message == "connecting to the source: refused")
    #expect(words.remedy?.hasPrefix("Make sure that the server answers") == true)
  }

  @Test func programsGetOneObject() throws {
    let stage = Stage()
    let printer = ErrorPrinter(output: stage.errors.output, format: .json, now: stage.surroundings().now)
    printer.show(
      MigrationError(.blocked, doing: "starting", reason: "1 blocker", remedy: "Run 'replicate check'."),
      code: 3,
      arguments: [])
    #expect(
      stage.errors.text == """
        {"exit_code":3,"level":"error","message":"starting: 1 blocker","remedy":"Run 'replicate check'.",\
        "time":"\(Stage.stamp)"}

        """)
  }
}

@Suite struct LogTests {
  private func logger(_ stage: Stage, _ format: LogFormat, columns: Int? = nil) -> Logger {
    let handler = ConsoleLogHandler(writer: stage.writer(columns: columns, format: format), logLevel: .info)
    return Logger(label: "test") { _ in handler }
  }

  @Test func metadataIsSortedAndQuoted() {
    let stage = Stage()
    let logger = logger(stage, .text)
    logger.info(
      "table copied", metadata: ["rows": "3", "name": "a b", "ids": ["z", "a"], "map": ["k": "v"]])
    logger.debug("not asked for")
    #expect(
      stage.errors.text == """
        \(Stage.stamp) info    table copied ids="[z, a]" map="[k: v]" name="a b" rows=3

        """)
  }

  @Test func programsGetOneObjectALine() {
    let stage = Stage()
    logger(stage, .json).warning("slow \"x\"\nline", metadata: ["pid": "7"])
    #expect(
      stage.errors.text == """
        {"level":"warning","message":"slow \\"x\\"\\nline","metadata":{"pid":"7"},"time":"\(Stage.stamp)"}

        """)
  }

  @Test func aLogLineGoesAboveWhatIsDrawnInPlace() {
    let stage = Stage()
    let writer = stage.writer(columns: 40)
    writer.console.show(["row one", "row two"])
    writer.console.line("log")
    writer.console.show(["row three"])
    writer.console.settle()
    let up = "\r\u{1B}[1A\u{1B}[J"
    #expect(
      stage.errors.text == "row one\nrow two\(up)log\nrow one\nrow two\(up)row three\n")
  }
}
