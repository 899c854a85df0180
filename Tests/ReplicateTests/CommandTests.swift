import Foundation
import LibPQ
import Synchronization
import Testing
import UnixSignals

@testable import MigrationEngine
@testable import replicate

@Suite(.timeLimit(.minutes(1))) struct CommandTests {
  let stage = Stage()

  private func run(_ arguments: String..., in surroundings: Surroundings) async -> Int32 {
    await Program.run(arguments, in: surroundings)
  }

  // MARK: The program

  @Test(arguments: [["--help"], ["--version"], ["help", "start"], ["cutover", "--help"]])
  func helpAndVersionAreResults(arguments: [String]) async {
    #expect(await Program.run(arguments, in: stage.surroundings()) == 0)
    #expect(!stage.results.text.isEmpty)
    #expect(stage.errors.text.isEmpty)
  }

  @Test func anArgumentNotUnderstoodIsToldWithoutItsPassword() async {
    #expect(await run("check", "postgresql://u:s3cret@h/db", in: stage.surroundings()) == 64)
    #expect(stage.errors.text.hasPrefix("replicate: Unexpected argument '(connection string)'\nUsage: "))
    #expect(stage.results.text.isEmpty)
  }

  @Test func aUsageErrorIsToldInTheFormatAskedFor() async {
    #expect(await run("start", "--jobs", "0", "--log-format=json", in: stage.surroundings()) == 64)
    #expect(stage.errors.lines.count == 1)
    #expect(stage.errors.text.hasPrefix(#"{"exit_code":64,"level":"error","#))
  }

  @Test func aReaderThatLeftIsNoErrorButALostResultIs() async {
    var engine = Engine()
    engine.status = { _, _, _ in .sample() }
    stage.results.fail(with: EPIPE)
    #expect(await run("status", in: stage.surroundings(engine: engine)) == 0)
    #expect(stage.errors.text.isEmpty)
    stage.results.fail(with: ENOSPC)
    #expect(await run("status", in: stage.surroundings(engine: engine)) == 1)
    #expect(stage.errors.text.hasPrefix("replicate: writing the result: No space left on device"))
  }

  // MARK: check

  @Test func aBlockerIsExit3AndAResult() async {
    var engine = Engine()
    engine.check = { _, _ in
      PreflightReport(findings: [Finding(.blocker, check: "c", object: "o", why: "w", remedy: "r")])
    }
    #expect(await run("check", in: stage.surroundings(engine: engine)) == 3)
    #expect(stage.results.lines.last == "1 blocker: the migration cannot begin")
    #expect(stage.errors.text.isEmpty)
    engine.check = { _, _ in PreflightReport(findings: []) }
    #expect(await run("check", "--json", in: stage.surroundings(engine: engine)) == 0)
    #expect(stage.results.lines.last == #"{"blocked":false,"findings":[]}"#)
  }

  // MARK: start

  @Test func theFirstSignalStopsAndTheSecondEnds() async {
    var engine = Engine()
    let stage = stage
    let ended = Mutex<Int32?>(nil)
    engine.start = { _, _, progress, _ in
      progress(.sample())
      stage.raise(.sigterm)
      #expect(await Stage.cancellation())
      stage.raise(.sigint)
      let ending = await stage.ending()
      ended.withLock { $0 = ending }
      return .stopped
    }
    #expect(await run("start", in: stage.surroundings(engine: engine)) == 0)
    #expect(ended.withLock { $0 } == 130)
    #expect(stage.errors.text.contains("stopping at the next commit"))
    #expect(stage.errors.lines.last?.contains("run the same command again to continue") == true)
    #expect(stage.results.text.isEmpty)
  }

  @Test func aCancelledEngineHasStoppedOnlyWhenItWasAsked() async {
    var engine = Engine()
    let stage = stage
    engine.start = { _, _, _, _ in throw CancellationError() }
    #expect(await run("start", in: stage.surroundings(engine: engine)) == 1)
    engine.start = { _, _, _, _ in
      stage.raise(.sigint)
      #expect(await Stage.cancellation())
      throw CancellationError()
    }
    #expect(await run("start", in: stage.surroundings(engine: engine)) == 0)
  }

  @Test func aTargetIsOpenedWithoutItsSourceOnlyWhenThatIsConfirmed() async {
    var engine = Engine()
    let lost = Mutex<[Bool]>([])
    engine.start = { options, _, _, _ in
      lost.withLock { $0.append(options.isSourceLost) }
      var report = Status.Cutover.sample(.complete)
      report.warnings = ["the source was lost"]
      return .complete(report)
    }
    #expect(await run("start", "--without-source", in: stage.surroundings(engine: engine)) == 64)
    #expect(await run("start", "--without-source", in: stage.surroundings(answer: "n", engine: engine)) == 1)
    #expect(lost.withLock { $0.isEmpty })
    #expect(await run("start", "--without-source", "--yes", in: stage.surroundings(engine: engine)) == 0)
    #expect(await run("start", in: stage.surroundings(engine: engine)) == 0)
    #expect(lost.withLock { $0 } == [true, false])
    #expect(stage.results.text.contains("warning     the source was lost"))
  }

  @Test func aCompleteMigrationEndsWithItsReport() async {
    var engine = Engine()
    engine.start = { _, _, progress, findings in
      findings(PreflightReport(findings: []))
      progress(.sample())
      return .complete(.sample(.complete))
    }
    #expect(await run("start", in: stage.surroundings(engine: engine)) == 0)
    #expect(stage.errors.lines.first == "no findings: the migration can begin")
    #expect(stage.results.lines.first == "cutover complete; writes paused for 83 ms")
    #expect(stage.results.text.contains("encryption  verified (aws): KMS key alias/app"))
  }

  @Test func anotherEngineIsExit6AndToldOnce() async {
    var engine = Engine()
    engine.start = { _, _, _, _ in
      throw MigrationError(
        .anotherEngine, doing: "starting", reason: "pid 7 on mover-1 runs", remedy: "Wait.")
    }
    #expect(await run("start", in: stage.surroundings(engine: engine)) == 6)
    #expect(stage.errors.text == "replicate: starting: pid 7 on mover-1 runs\n  what to do: Wait.\n")
  }

  // MARK: status

  @Test func aWatchEndsWithTheMigration() async {
    var engine = Engine()
    let phases = Mutex<[Phase]>([.copy, .streaming, .complete, .streaming])
    engine.status = { _, _, _ in .sample(phases.withLock { $0.removeFirst() }) }
    #expect(await run("status", "--watch", "--json", in: stage.surroundings(engine: engine)) == 0)
    #expect(stage.results.lines.count == 3)
    #expect(stage.results.lines.allSatisfy { $0.hasPrefix("{") && $0.hasSuffix("}") })
  }

  @Test func aWatchEndsWithCtrlCAndWithItsReader() async {
    var engine = Engine()
    let stage = stage
    engine.status = { _, _, _ in
      stage.raise(.sigint)
      #expect(await Stage.cancellation())
      throw PostgresError(code: .server, action: "reading the status", message: "canceling statement")
    }
    #expect(await run("status", "--watch", in: stage.surroundings(columns: 80, engine: engine)) == 0)
    engine.status = { _, _, _ in .sample() }
    stage.results.fail(with: EPIPE)
    #expect(await run("status", "--watch", in: stage.surroundings(engine: engine)) == 0)
    #expect(stage.errors.text.isEmpty)
  }

  @Test func withoutAMigrationItSaysSo() async {
    var engine = Engine()
    engine.status = { _, _, _ in
      throw MigrationError(.failed, doing: "reading the status", reason: "the target has no migration")
    }
    #expect(await run("status", in: stage.surroundings(engine: engine)) == 1)
    #expect(stage.errors.text == "replicate: reading the status: the target has no migration\n")
  }

  // MARK: cutover and abort

  @Test(arguments: ["cutover", "abort"]) func whereNobodyCanBeAskedItNeedsYes(command: String) async {
    #expect(await run(command, in: stage.surroundings()) == 64)
    #expect(stage.errors.text.contains("Give --yes."))
  }

  @Test(arguments: ["cutover", "abort"]) func withoutAYesNothingIsDone(command: String) async {
    #expect(await run(command, in: stage.surroundings(answer: "")) == 1)
    #expect(stage.errors.text.contains("not confirmed; nothing was changed"))
  }

  @Test func theQuestionNamesTheTargetWithoutItsPassword() async {
    var surroundings = stage.surroundings()
    surroundings.environment["REPLICATE_TARGET"] = "postgresql://u:s3cret@new.example/app"
    let asked = Mutex("")
    surroundings.ask = { question in
      asked.withLock { $0 = question }
      return nil
    }
    #expect(await run("abort", "--drop-target-data", in: surroundings) == 1)
    #expect(
      asked.withLock { $0 } == """
        Aborts the migration to the target (user=u dbname=app host=new.example): the migrated tables on \
        the target are dropped, and everything done so far is lost.
        Continue? [y/N]\u{20}
        """)
  }

  @Test func aCutoverIsRequestedAsAskedAndReported() async {
    var engine = Engine()
    let asked = Mutex<CutoverRequest?>(nil)
    engine.cutover = { _, _, _, request, progress in
      asked.withLock { $0 = request }
      var status = Status.sample(.cutover)
      status.cutover = .sample(nil)
      progress(status)
      return .sample(.complete)
    }
    let surroundings = stage.surroundings(answer: " Yes ", engine: engine)
    #expect(await run("cutover", "--max-pause", "500ms", "--timeout", "2m", in: surroundings) == 0)
    var request = CutoverRequest(requestedBy: "anna@laptop")
    (request.maxPauseSeconds, request.timeoutSeconds, request.unaskedSeconds) = (0.5, 120, nil)
    #expect(asked.withLock { $0 } == request)
    #expect(stage.results.lines.first == "cutover complete; writes paused for 83 ms")
    #expect(stage.results.text.contains("drain  marker applied"))
    #expect(stage.errors.text.contains("cutover: arm took 412 ms: 40 tables"))
  }

  @Test(arguments: ["cutover", "rollback"]) func differencesAreAcceptedByTheirNames(command: String) async {
    var engine = Engine()
    let asked = Mutex<CutoverRequest?>(nil)
    engine.cutover = { _, _, _, request, _ in
      asked.withLock { $0 = request }
      var cutover = Status.Cutover.sample(.aborted)
      cutover.reason = "2 objects differ:\n    index public.a is missing\n    view public.\u{1B}[31m differs"
      return cutover
    }
    let names = ["index public.t_v_idx", "privileges of table public.\"T\""]
    let options = names.flatMap { ["--accept-difference", $0] }
    let surroundings = stage.surroundings(engine: engine)
    #expect(await Program.run([command, "--yes"] + options, in: surroundings) == 5)
    #expect(asked.withLock { $0?.acceptedDifferences } == names)
    #expect(
      stage.results.text.contains(
        "reason      2 objects differ:\n                index public.a is missing\n"))
    #expect(!stage.results.text.contains("\u{1B}"))
  }

  @Test func anEngineAcceptsDifferencesOnlyForACutoverOfItsOwn() async {
    var engine = Engine()
    let accepted = Mutex<[[String]]>([])
    engine.start = { options, _, _, _ in
      accepted.withLock { $0.append(options.acceptedDifferences) }
      return .stopped
    }
    let option = ["--accept-difference", "view public.seen"]
    #expect(await Program.run(["start"] + option, in: stage.surroundings(engine: engine)) == 64)
    let automatic = ["start", "--cutover", "auto"] + option
    #expect(await Program.run(automatic, in: stage.surroundings(engine: engine)) == 0)
    #expect(accepted.withLock { $0 } == [["view public.seen"]])
  }

  @Test func anAbortedCutoverIsExit5WithItsTimeline() async {
    var engine = Engine()
    engine.cutover = { _, _, _, _, progress in
      var status = Status.sample()
      status.cutover = .sample(.aborted)
      progress(status)
      throw MigrationError(.cutoverAborted, doing: "cutting over", reason: "lag over budget")
    }
    #expect(await run("cutover", "--yes", in: stage.surroundings(engine: engine)) == 5)
    #expect(stage.results.lines.first?.hasPrefix("cutover aborted, the source is writable again") == true)
    #expect(stage.errors.lines.last == "replicate: cutting over: lag over budget")
  }

  @Test func aSwitchStepThatFailedIsNoSuccessThoughTheCutoverIsComplete() async {
    var engine = Engine()
    engine.cutover = { _, _, _, _, _ in
      var cutover = Status.Cutover.sample(.complete)
      cutover.reason = "switch step exec 2 failed (exit code 9)"
      return cutover
    }
    #expect(await run("cutover", "--yes", in: stage.surroundings(engine: engine)) == 1)
    #expect(stage.results.lines.first?.hasPrefix("cutover complete") == true)
    #expect(stage.results.lines.contains("to do       switch step exec 2 failed (exit code 9)"))
  }

  @Test func aSignalLeavesTheCutoverToTheEngine() async {
    var engine = Engine()
    let stage = stage
    let ended = Mutex<Int32?>(nil)
    engine.cutover = { _, _, _, _, _ in
      stage.raise(.sigterm)
      let ending = await stage.ending()
      ended.withLock { $0 = ending }
      return .sample(.complete)
    }
    _ = await run("cutover", "--yes", in: stage.surroundings(engine: engine))
    #expect(ended.withLock { $0 } == 143)
    #expect(stage.errors.text.contains("the engine continues the cutover"))
  }

  @Test func aRollbackIsACutoverTheOtherWay() async {
    var engine = Engine()
    let asked = Mutex<CutoverRequest?>(nil)
    engine.cutover = { _, _, _, request, progress in
      asked.withLock { $0 = request }
      var cutover = Status.Cutover.sample(.complete)
      cutover.direction = .back
      var status = Status.sample(.reverse)
      status.cutover = cutover
      progress(status)
      return cutover
    }
    #expect(await run("rollback", in: stage.surroundings(engine: engine)) == 64)
    #expect(asked.withLock { $0 } == nil, "nobody was asked")
    #expect(await run("rollback", "--max-pause", "2s", "--yes", in: stage.surroundings(engine: engine)) == 0)
    var request = CutoverRequest(.back, requestedBy: "anna@laptop")
    (request.maxPauseSeconds, request.unaskedSeconds) = (2, nil)
    #expect(asked.withLock { $0 } == request)
    #expect(stage.results.lines.first == "rollback complete; writes paused for 83 ms")
    #expect(stage.errors.text.contains("rollback: arm took 412 ms: 40 tables"))
  }

  @Test func finishAsksTellsWhatItRemovedAndNeedsNoSourceThatIsGone() async {
    var engine = Engine()
    let asked = Mutex<[FinishOptions]>([])
    engine.finish = { _, _, _, options in
      asked.withLock { $0.append(options) }
      return ["slot a on the target"]
    }
    #expect(await run("finish", in: stage.surroundings(answer: "n", engine: engine)) == 1)
    #expect(asked.withLock { $0.isEmpty })
    #expect(await run("finish", "--open-old-end", in: stage.surroundings(answer: "y", engine: engine)) == 0)
    let target = ["REPLICATE_TARGET": "host=new.example dbname=app"]
    let without = stage.surroundings(environment: target, engine: engine)
    #expect(await run("finish", "--yes", in: without) == 64)
    #expect(await run("finish", "--yes", "--without-source", in: without) == 0)
    #expect(asked.withLock { $0.map(\.opensOldEnd) } == [true, false])
    #expect(asked.withLock { $0.map(\.isSourceGone) } == [false, true])
    #expect(stage.results.text.contains("removed\n  slot a on the target"))
  }

  @Test func whatAnAbortLeavesIsToldAndExit1() async {
    var engine = Engine()
    let dropped = Mutex(false)
    engine.abort = { _, _, _, options in
      dropped.withLock { $0 = options.dropsTargetData }
      return (["slot \"a\" on the source"], ["publication \"b\": DROP PUBLICATION \"b\";"])
    }
    #expect(await run("abort", "--yes", "--drop-target-data", in: stage.surroundings(engine: engine)) == 1)
    #expect(dropped.withLock { $0 })
    #expect(
      stage.results.text == """
        removed
          slot "a" on the source
        could not be removed; remove by hand
          publication "b": DROP PUBLICATION "b";

        """)
  }
}
