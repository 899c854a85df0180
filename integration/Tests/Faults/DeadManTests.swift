import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// Whatever dies in whichever step of a cutover: either the source takes writes again before the fence's
/// expiry has passed, or the source is sealed and the next engine completes the cutover. Never do both ends
/// take writes, and never none for good.
@Suite(.serialized, .servers(about: 100), .timeLimit(.minutes(10)))
struct DeadManTests {
  /// In seconds; the fence expires five later.
  fileprivate static let timeout = 2
  private static let stepsBeforeSeal = Steps.chosen(
    ["before seal"],
    else: [
      "before arm", "after arm", "before fence", "after fence", "after await writers", "after mark",
      "after drain", "after finalise", "before verify",
    ])
  private static let stepsAfterSeal = Steps.chosen(
    ["after seal"], else: ["before open", "after open", "after switch", "after complete"])
  private static let stepsOfUnfence = Steps.chosen(["before unfence"], else: ["after unfence"])
  private static let stepsOfServers = Steps.chosen(
    ["after mark"],
    else: [
      "after arm", "after fence", "after await writers", "after drain", "before finalise", "before verify",
    ])
  private static let stepsAtSeal = Steps.chosen(["after seal"], else: ["before seal", "after open"])

  private func run(_ name: String, _ body: (Scene) async throws -> Void) async throws {
    try await Scene.run(name) { scene in
      try await scene.source(
        "CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v int)")
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      engine.terminate()
      _ = try await engine.waitForEnd(within: .seconds(20))
      try await body(scene)
    }
  }

  private func requestCutover(_ scene: Scene) async throws -> BackgroundProcess {
    try await scene.replicate.start("cutover", "--yes", "--timeout", "\(Self.timeout)s")
  }

  /// The command says that the cutover was undone, and the report what had happened until then.
  /// - Parameter lost: the server that died.
  private func expectAborted(
    _ cutover: BackgroundProcess, _ scene: Scene, _ step: String, lost: String
  ) async throws {
    #expect(try await cutover.waitForEnd(within: .seconds(60)) == 5, "\(step): \(cutover.errors)")
    let last = try #require(try await scene.report().cutovers.last)
    #expect(last.state == "aborted")
    let outcome = try #require(last.outcome, "\(step)")
    let reason = outcome.reason ?? ""
    #expect(reason.contains("\(lost):") && !reason.contains("asked to stop"), "\(step): \(reason)")
    #expect(
      outcome.timeline.map(\.step).starts(with: ["compare schemas", "arm", "fence"]),
      "\(step): \(outcome.timeline)")
    #expect(outcome.timeline.last?.step == "unfence", "\(step)")
    #expect((outcome.writePauseSeconds ?? 0) > 0, "\(step)")
    #expect(cutover.errors.contains("\(lost):"), "\(step): \(cutover.errors)")
  }

  /// A cutover in whose `step` a server dies and comes again.
  private func kill(
    _ cluster: Cluster, _ step: String, _ scene: Scene
  ) async throws -> (engine: BackgroundProcess, cutover: BackgroundProcess) {
    let (engine, cutover, held) = try await hold(step, scene)
    try await cluster.kill9()
    try held.release()
    try await cluster.start()
    return (engine, cutover)
  }

  /// A cutover that waits at `step`.
  private func hold(
    _ step: String, _ scene: Scene
  ) async throws -> (engine: BackgroundProcess, cutover: BackgroundProcess, held: HoldingPoint) {
    let held = try await HoldingPoint(step)
    let engine = try await scene.start(meeting: held.failpoint)
    try await scene.waitUntilReady(engine)
    let cutover = try await requestCutover(scene)
    try await held.wait(for: engine)
    return (engine, cutover, held)
  }

  @Test("An engine that dies before the seal leaves a source that opens by itself, whatever the step")
  func engineBeforeSeal() async throws {
    try await run("deadbefore") { scene in
      for step in Self.stepsBeforeSeal {
        let engine = try await scene.start(meeting: "\(step)=kill")
        try await scene.waitUntilReady(engine)
        let cutover = try await requestCutover(scene)
        #expect(try await engine.waitForEnd(within: .seconds(20)) == 128 + 9, "\(step): \(engine.errors)")
        // No engine comes: the fence's expiry is what opens the source.
        try await scene.waitForWritableSource()
        try await cutover.end()
      }
      let last = try await scene.start()
      try await scene.waitUntilReady(last)
      try await scene.expectEqualEnds(last)
    }
  }

  @Test("An engine that dies while it takes the fence down leaves a source that opens by itself")
  func engineInUnfence() async throws {
    try await run("deadunfence") { scene in
      for step in Self.stepsOfUnfence {
        let engine = try await scene.start(meeting: "\(step)=kill")
        try await scene.waitUntilReady(engine)
        let rehearsal = try await scene.replicate.start(
          "cutover", "--yes", "--dry-run", "--timeout", "\(Self.timeout)s")
        #expect(try await engine.waitForEnd(within: .seconds(20)) == 128 + 9, "\(step): \(engine.errors)")
        try await scene.waitForWritableSource()
        try await rehearsal.end()
        let next = try await scene.start()
        try await scene.waitUntilReady(next)
        #expect(try await scene.sourceValue("SELECT state FROM replicate.fence()") == "open")
        next.terminate()
        _ = try await next.waitForEnd(within: .seconds(20))
      }
    }
  }

  @Test(
    "An engine that dies after the seal is followed by one that completes the cutover, whatever the step")
  func engineAfterSeal() async throws {
    for step in Self.stepsAfterSeal {
      try await run("deadbehind") { scene in
        let engine = try await scene.start(meeting: "\(step)=kill")
        try await scene.waitUntilReady(engine)
        let cutover = try await requestCutover(scene)
        #expect(try await engine.waitForEnd(within: .seconds(20)) == 128 + 9, "\(step): \(engine.errors)")
        try await scene.expectNotBothWritable()
        #expect(try await !scene.isWritable(scene.databases.source), "\(step): it is sealed")
        try await scene.waitForComplete(try await scene.start())
        try await cutover.end()
        if step == "after complete" {
          let kept = try await scene.report().cutovers.last?.outcome?.timeline
          #expect(kept?.first?.step == "arm", "what was reported is not reported anew")
        }
      }
    }
  }

  @Test("A command that dies changes nothing: the engine goes on with the cutover, or aborts it")
  func command() async throws {
    try await run("deadcommand") { scene in
      let (engine, cutover, held) = try await hold("after mark", scene)
      cutover.kill9()
      _ = try await cutover.waitForEnd(within: .seconds(10))
      try held.release()
      try await scene.waitForComplete(engine)
    }
  }

  @Test(
    "A server that dies before the seal: the source takes writes again, and the next cutover succeeds",
    .ownServers,
    arguments: ["source", "target"])
  func serverBeforeSeal(_ which: String) async throws {
    let cluster = try #require(
      which == "source"
        ? try await ClusterPair.shared.sourceCluster : try await ClusterPair.shared.targetCluster)
    try await run("deadserver") { scene in
      for step in Self.stepsOfServers + (which == "source" ? ["before seal"] : []) {
        let (engine, cutover) = try await kill(cluster, step, scene)
        try await scene.waitForWritableSource()
        try await expectAborted(cutover, scene, step, lost: which)
        // The engine found its way back by itself.
        try await scene.waitUntilReady(engine)
        engine.terminate()
        _ = try await engine.waitForEnd(within: .seconds(20))
      }
      let last = try await scene.start()
      try await scene.waitUntilReady(last)
      try await scene.expectEqualEnds(last)
    }
  }

  @Test(
    "A target that stays away: the command says so, and the engine stores the end once it is back",
    .ownServers, .enabled(if: Steps.all, "takes more than a minute"))
  func targetStaysAway() async throws {
    let cluster = try #require(try await ClusterPair.shared.targetCluster)
    try await run("deadaway") { scene in
      let (engine, cutover, held) = try await hold("after mark", scene)
      try await cluster.kill9()
      try held.release()
      #expect(try await cutover.waitForEnd(within: .seconds(90)) == 1, "\(cutover.errors)")
      #expect(cutover.errors.contains("it is not known how it ended"), "\(cutover.errors)")
      #expect(try await scene.isWritable(scene.databases.source))
      try await cluster.start()
      try await scene.waitUntilReady(engine)
      let outcome = try #require(try await scene.report().cutovers.last?.outcome)
      #expect(outcome.result == .aborted && outcome.timeline.last?.step == "unfence", "\(outcome)")
      engine.terminate()
      _ = try await engine.waitForEnd(within: .seconds(20))
    }
  }

  @Test(
    "A server that dies at the seal or after it: the cutover is completed, or the next one is",
    .ownServers,
    arguments: ["source", "target"])
  func serverAtSeal(_ which: String) async throws {
    let cluster = try #require(
      which == "source"
        ? try await ClusterPair.shared.sourceCluster : try await ClusterPair.shared.targetCluster)
    for step in Self.stepsAtSeal {
      try await run("deadsealed") { scene in
        let (engine, cutover) = try await kill(cluster, step, scene)
        // Before the seal it depends on who hears of the loss first.
        if try await !scene.isCompleteOrWritable(engine) {
          #expect(step == "before seal", "after the seal nothing is undone")
          try await scene.waitUntilReady(engine)
          _ = try await scene.replicate.run("cutover", "--yes")
        }
        try await scene.waitForComplete(engine)
        try await cutover.end()
      }
    }
  }
}

extension Scene {

  fileprivate func isWritable(_ end: ConnectionString) async throws -> Bool {
    try await refusal(of: "INSERT INTO t (v) VALUES (1)", on: end) == nil
  }

  /// Both at once, never: asked of the target first, since it is the one that opens later.
  fileprivate func expectNotBothWritable() async throws {
    let target = try await isWritable(databases.target)
    let source = try await isWritable(databases.source)
    #expect(!(target && source), "both ends take writes")
  }

  fileprivate func waitForWritableSource() async throws {
    try await Clusters.waitUntil("a source that takes writes", within: .seconds(DeadManTests.timeout + 8)) {
      try await expectNotBothWritable()
      return try await isWritable(databases.source)
    }
  }

  /// - Returns: whether the cutover is complete; otherwise the source takes writes again.
  fileprivate func isCompleteOrWritable(_ engine: BackgroundProcess) async throws -> Bool {
    try await Clusters.waitUntil(
      "a cutover that is complete, or a source that takes writes", within: .seconds(30)
    ) {
      try await expectNotBothWritable()
      if try await status().phase == .complete { return true }
      return try await isWritable(databases.source)
    }
    return try await !isWritable(databases.source)
  }

  fileprivate func waitForComplete(_ engine: BackgroundProcess) async throws {
    try await engine.waitUntil("the end of the cutover", within: .seconds(30)) {
      try await expectNotBothWritable()
      return try await status().phase == .complete
    }
    _ = try await engine.waitForEnd(within: .seconds(30))
    #expect(try await isWritable(databases.target))
    #expect(try await !isWritable(databases.source))
  }
}
