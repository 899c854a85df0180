import LibPQ
import Synchronization
import Testing
import UnixSignals

@testable import MigrationEngine
@testable import replicate

@Suite(.timeLimit(.minutes(1))) struct PrepareCommandTests {
  let stage = Stage()

  private func run(_ arguments: String..., in surroundings: Surroundings) async -> Int32 {
    await Program.run(["prepare"] + arguments, in: surroundings)
  }

  private static func plan() -> PreparationPlan {
    var plan = PreparationPlan(
      database: "app", serverVersion: "15.20",
      missing: [
        PreparationPlan.Setting(name: "wal_level", now: "replica", needed: "logical"),
        PreparationPlan.Setting(name: "max_wal_senders", now: "2", needed: "12", isStored: true),
      ])
    plan.pending = ["shared_buffers"]
    plan.steps = ["ALTER SYSTEM SET wal_level = 'logical';", "systemctl restart postgresql@15-main"]
    plan.cost.sessions = [
      PreparationPlan.Sessions(role: "app_user", application: "puma", count: 12, transactions: 2),
      PreparationPlan.Sessions(role: "anna", application: "", count: 1, transactions: 0),
    ]
    plan.cost.oldestTransaction = 3.2
    plan.cost.hidden = 1
    plan.cost.receivers = 1
    plan.cost.checkpointAge = 80
    plan.cost.checkpointBytes = 33_554_432
    plan.poolers = ["PgBouncer 10.0.0.5:6432"]
    return plan
  }

  private func engine(_ plan: PreparationPlan) -> Engine {
    var engine = Engine()
    engine.examinePreparation = { _, _ in plan }
    engine.prepare = { _, _ in
      PreparationReport(settings: [("wal_level", "logical")], restartSeconds: 1.25, waitSeconds: 2)
    }
    return engine
  }

  @Test func `the plan says what is missing, what will be done and what it costs`() {
    #expect(
      PreparationPrinter.text(Self.plan()) == """
        source      app, PostgreSQL 15.20
        missing     wal_level is replica and must be logical
                    max_wal_senders is 2 and must be 12 or more, which is stored already
        pending     shared_buffers: changed before, in effect from the restart on
        to be done  ALTER SYSTEM SET wal_level = 'logical';
                    systemctl restart postgresql@15-main
        restart     ends 13 sessions, of which 2 are in a transaction, the oldest for 3.2 s
                      12  app_user, puma
                      1  anna
                    of 1 our role may not see whether they are in a transaction (GRANT pg_read_all_stats)
                    also 1 receiver of WAL (standbys, subscribers), which connect again by themselves
                    how long it takes cannot be known beforehand: the last checkpoint began 1m 20s ago, \
        32 MB of WAL ago, and what changed since is written before the server stops
                    clients of PgBouncer 10.0.0.5:6432 wait meanwhile; all others fail until it is back
        """)
  }

  @Test func `nothing missing is done at once, a blocker is exit 3, no way to restart is usage`() async {
    let surroundings = { stage.surroundings(engine: engine($0)) }
    var plan = Self.plan()
    plan.missing = []
    #expect(await run(in: surroundings(plan)) == 0)
    #expect(stage.results.text.contains("nothing is missing for logical decoding, and nothing was touched"))
    plan = Self.plan()
    plan.findings = [Finding(.blocker, check: "engine", object: "source", why: "w", remedy: "r")]
    #expect(await run("--yes", in: surroundings(plan)) == 3)
    #expect(stage.results.lines.last == "    mend r")
    plan = Self.plan()
    plan.steps = []
    #expect(await run("--yes", in: surroundings(plan)) == 64)
    #expect(stage.errors.text.contains("nothing says how its server is restarted"))
  }

  @Test func `it is done only when that is confirmed, and says what came of it`() async {
    let engine = engine(Self.plan())
    #expect(await run(in: stage.surroundings(engine: engine)) == 64)
    #expect(await run(in: stage.surroundings(answer: "n", engine: engine)) == 1)
    #expect(!stage.results.text.contains("prepared"))
    #expect(await run(in: stage.surroundings(answer: "y", engine: engine)) == 0)
    #expect(
      stage.results.lines.suffix(3) == [
        "prepared; the server was restarted in 1.3 s", "in effect   wal_level = logical",
        "clients     waited for at most 2.0 s",
      ])
  }

  @Test func `a signal asks it to stop`() async {
    var engine = engine(Self.plan())
    let stage = stage
    engine.prepare = { _, _ in
      stage.raise(.sigterm)
      #expect(await Stage.cancellation())
      throw MigrationError(.failed, doing: "preparing the source", reason: "interrupted")
    }
    #expect(await run("--yes", in: stage.surroundings(engine: engine)) == 1)
  }

  @Test func `options reach the engine`() async {
    var engine = engine(Self.plan())
    let seen = Mutex<PreparationRequest?>(nil)
    engine.prepare = { request, _ in
      seen.withLock { $0 = request }
      return PreparationReport(settings: [])
    }
    let options = ["--yes", "--aws", "--shared-group", "--max-pause", "3s", "--timeout", "2m"]
    #expect(await Program.run(["prepare"] + options, in: stage.surroundings(engine: engine)) == 0)
    let request = seen.withLock { $0 }
    #expect(request?.asksAWS == true && request?.acceptsSharedGroup == true)
    #expect(request?.maxPauseSeconds == 3 && request?.timeoutSeconds == 120)
    #expect(request?.restartCommand == nil && request?.poolerWatch != nil)
    #expect(await run("--aws", "--restart-command", "x", in: stage.surroundings(engine: engine)) == 64)
  }
}
