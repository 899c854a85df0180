import Testing

@testable import MigrationEngine
@testable import replicate

@Suite struct ProgressTextTests {
  private func text(_ status: Status, samples: [(Int64, Double)] = []) -> ProgressText {
    var pace = CopyPace()
    for (bytes, seconds) in samples { pace.observe(bytes, at: seconds) }
    return ProgressText(status: status, pace: pace)
  }

  @Test func theCopyHasABarARateAndAnEnd() {
    let text = text(.sample(.copy), samples: [(541_336_704, 0), (642_000_000, 2)])
    #expect(
      text.line
        == "copy: 49%, 12 of 40 tables, 612 MB of 1.2 GB, 8,123,456 rows, 48 MB/s, ETA 13 s")
    #expect(
      text.rows(columns: 70) == [
        "copy      [##############................] 49%, 12 of 40 tables",
        "          612 MB of 1.2 GB, 8,123,456 rows, 48 MB/s, ETA 13 s",
      ])
    #expect(
      text.rows(columns: 24) == [
        "copy      49%", "        12 of 40 tables", "        612 MB of 1.2 GB", "        8,123,456 rows",
        "        48 MB/s", "        ETA 13 s",
      ])
  }

  @Test func theStreamHasItsLagItsRatesAndThePauseOfACutover() {
    var status = Status.sample(.catchup)
    status.slot.status = "extended"
    #expect(
      text(status).line == """
        catchup: lag 2.3 kB (83 ms), applying 12 MB/s, source writes 1.1 MB/s, caught up in 3.0 s, \
        a cutover would pause writes for 120 ms, slot retains 16 MB of WAL, slot is extended, \
        512 MB more until it is lost
        """)
    status.stream.catchUpSeconds = nil
    #expect(text(status).line.contains("not gaining on the source"))
  }

  @Test(arguments: Phase.allCases, [1, 9, 10, 18, 33, 80])
  func noPhaseIsWiderThanTheScreen(phase: Phase, columns: Int) {
    let rows = text(.sample(phase)).rows(columns: columns)
    #expect(!rows.isEmpty)
    #expect(rows.allSatisfy { Fitting.width(of: $0) <= columns })
  }

  @Test func oddCountsDoNotTrap() {
    var status = Status.sample(.copy)
    status.copy.bytesDone = .min
    #expect(!text(status, samples: [(.min, 0), (.max, 1)]).line.isEmpty)
    status.copy.bytesDone = .max
    status.copy.bytesTotal = 1
    #expect(text(status).line.hasPrefix("copy: 100%"))
  }
}

@Suite struct CopyPaceTests {
  @Test func itForgetsWhatIsLongAgo() {
    var pace = CopyPace()
    for second in 0...100 { pace.observe(Int64(min(second, 50)) * 1000, at: Double(second)) }
    #expect(pace.bytesPerSecond == 0)
    #expect(pace.seconds(for: 10) == nil)
  }

  @Test func aCopyThatBeginsAnewIsMeasuredAnew() {
    var pace = CopyPace()
    for (bytes, second) in [(1000, 0.0), (2000, 1.0), (100, 2.0), (600, 3.0)] {
      pace.observe(Int64(bytes), at: second)
    }
    #expect(pace.bytesPerSecond == 500)
    #expect(pace.seconds(for: 1000) == 2)
  }
}

@Suite struct ProgressPrinterTests {
  @Test func withoutAScreenALineComesWithAPhaseOrAfterSomeSeconds() {
    let stage = Stage()
    let printer = ProgressPrinter(writer: stage.writer(), uptime: stage.surroundings().uptime)
    var status = Status(phase: .schema)
    printer.show(status)
    status.phase = .copy
    for done in 1...12 {
      stage.advance(by: 0.5)
      status.copy.tablesDone = done
      status.copy.tablesTotal = 20
      printer.show(status)
    }
    printer.finish()
    let shown = stage.errors.lines.map { $0.dropFirst(Stage.stamp.count) }
    #expect(shown.count == 4)
    #expect(shown[0] == " info    schema: creating slot, publication and tables")
    #expect(shown[1].hasPrefix(" info    copy: 1 of 20 tables"))
    #expect(shown[2].hasPrefix(" info    copy: 11 of 20 tables"))
    #expect(shown[3].hasPrefix(" info    copy: 12 of 20 tables"))
  }

  @Test func onAScreenTheRowsAreDrawnAgainInPlace() {
    let stage = Stage()
    let printer = ProgressPrinter(writer: stage.writer(columns: 81), uptime: stage.surroundings().uptime)
    printer.show(Status(phase: .schema))
    printer.show(Status(phase: .index))
    printer.finish()
    #expect(
      stage.errors.text == """
        schema    creating slot, publication and tables\r\u{1B}[Jindex     building indexes and keys

        """)
  }

  @Test func programsGetTheWholeStatus() {
    let stage = Stage()
    let printer = ProgressPrinter(writer: stage.writer(format: .json), uptime: stage.surroundings().uptime)
    printer.show(.sample())
    let line = stage.errors.text
    #expect(line.hasPrefix(#"{"level":"info","message":"progress","status":{"#))
    #expect(line.contains(#""phase":"streaming""#))
    #expect(line.hasSuffix("\"time\":\"\(Stage.stamp)\"}\n"))
  }
}

@Suite struct CutoverFollowerTests {
  @Test func eachStepIsToldOnce() {
    let stage = Stage()
    let follower = CutoverFollower(writer: stage.writer())
    var status = Status(phase: .cutover)
    status.cutover = Status.Cutover(step: .arm)
    follower.show(status)
    follower.show(status)
    status.cutover?.step = .fence
    status.cutover?.timeline = [
      Status.TimelineEntry(step: "arm", startSeconds: 0, seconds: 0.4, detail: "40 tables")
    ]
    follower.show(status)
    follower.show(status)
    follower.finish()
    #expect(
      stage.errors.lines.map { $0.dropFirst(Stage.stamp.count) } == [
        " info    cutover: step arm", " info    cutover: arm took 400 ms: 40 tables",
        " info    cutover: step fence",
      ])
  }
}
