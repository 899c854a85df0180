import Synchronization
import Testing
import UnixSignals

@testable import LibPQ
@testable import MigrationEngine
@testable import replicate

@Suite(.timeLimit(.minutes(1))) struct VerifyCommandTests {
  let stage = Stage()

  private func run(_ arguments: String..., in surroundings: Surroundings) async -> Int32 {
    await Program.run(["verify"] + arguments, in: surroundings)
  }

  private static func report(different: Bool) -> VerificationReport {
    var report = VerificationReport(
      extent: .full, digest: "sums of hashes", startedAt: "2026-01-02T03:04:05Z", sourceVersion: "15.20",
      targetVersion: "17.6")
    report.seconds = 2
    var table = VerificationReport.Table(
      name: RelationName(schema: "public", name: "notes"), verdict: different ? .different : .equal,
      method: .binary)
    table.sourceRows = 1000
    table.targetRows = 1000
    table.bytes = 16384
    if different {
      table.different = 2
      table.rows = [.init(kind: .different, key: [.init(column: "id", value: "5")], ctid: "(0,5)")]
      report.objects = [
        .init(kind: "sequence", object: "public.s", words: "sequence public.s is behind", isExpected: true)
      ]
    }
    report.tables = [table]
    return report
  }

  @Test func nothingComparedIsNoSuccess() async {
    var engine = Engine()
    engine.verify = { _, _, _, _ in
      var report = Self.report(different: false)
      report.coversObjects = false
      report.tables[0].verdict = .notCompared
      report.tables[0].reason = "it is unlogged"
      return report
    }
    #expect(await run("--tables", "public.notes", in: stage.surroundings(engine: engine)) == 1)
    #expect(stage.results.text.hasPrefix("nothing was compared\n"))
    #expect(stage.results.text.contains("not compared  1,000 rows  binary  it is unlogged"))
    #expect(stage.errors.text.contains("nothing was compared"))
  }

  @Test func equalIsExit0AndItIsAskedAsGiven() async {
    var engine = Engine()
    let asked = Mutex<VerificationRequest?>(nil)
    engine.verify = { _, _, request, progress in
      asked.withLock { $0 = request }
      var status = Status.sample()
      var verification = Status.Verification(id: 1)
      progress(status)
      status.verification = verification
      progress(status)
      verification.lsn = "16/B374D848"
      var counts = VerificationProgress()
      counts.tablesTotal = 2
      counts.tablesDone = 1
      counts.bytesTotal = 4 << 20
      counts.bytesDone = 1 << 20
      counts.rowsDone = 500
      verification.progress = counts
      status.verification = verification
      progress(status)
      return Self.report(different: false)
    }
    let surroundings = stage.surroundings(engine: engine)
    #expect(
      await run(
        "--tables", "a.b,\"C,d\".e", "--tables", "f.g", "--jobs", "3", "--max-rate", "20MB", in: surroundings)
        == 0)
    let names = [("a", "b"), ("C,d", "e"), ("f", "g")].map { RelationName(schema: $0.0, name: $0.1) }
    #expect(
      asked.withLock { $0 }
        == VerificationRequest(
          tables: names, jobs: 3, maxBytesPerSecond: 20 << 20, requestedBy: "anna@laptop"))
    #expect(
      stage.results.text == """
        the ends are equal
        digest      sums of hashes
        servers     source 15.20, target 17.6
        read        16 kB in 2.0 s

          "public"."notes"  equal  1,000 rows  binary

        """)
    #expect(stage.errors.text.contains("verify: taking a snapshot of both ends"))
    #expect(
      stage.errors.text.contains(
        "verify: 25%, 1 of 2 tables, 1.0 MB of 4.0 MB, 500 rows, at 16/B374D848"))
  }

  @Test func aDifferenceIsExit4AndNamedByItsKey() async {
    var engine = Engine()
    engine.verify = { _, _, _, _ in Self.report(different: true) }
    #expect(await run(in: stage.surroundings(engine: engine)) == 4)
    #expect(stage.results.lines.first == "the ends differ")
    #expect(stage.results.lines.contains(#""public"."notes": 2 different"#))
    #expect(stage.results.lines.contains("  different  (id)=(5)"))
    #expect(stage.results.lines.contains("  and 1 more"))
    #expect(stage.results.lines.contains("different, as expected now:"))
    #expect(await run("--json", in: stage.surroundings(engine: engine)) == 4)
    #expect(stage.results.lines.last?.contains(#""verdict":"different""#) == true)
  }

  @Test func aSignalCancelsItAndIsNoResult() async {
    var engine = Engine()
    let stage = stage
    let wasCancelled = Mutex(false)
    engine.verify = { _, _, _, _ in
      stage.raise(.sigint)
      let cancelled = await Stage.cancellation()
      wasCancelled.withLock { $0 = cancelled }
      throw CancellationError()
    }
    _ = await run(in: stage.surroundings(engine: engine))
    #expect(await stage.ending() == 130)
    #expect(wasCancelled.withLock { $0 })
    #expect(stage.results.text.isEmpty)
    #expect(stage.errors.text.contains("nothing of the comparison stays on either end"))
  }

  @Test func whatCannotBeDoneIsExit1() async {
    var engine = Engine()
    engine.verify = { _, _, _, _ in
      throw MigrationError(.failed, doing: "comparing both ends", reason: "a cutover began")
    }
    #expect(await run(in: stage.surroundings(engine: engine)) == 1)
    #expect(await run("--tables", "nopoint", in: stage.surroundings(engine: engine)) == 64)
  }
}
