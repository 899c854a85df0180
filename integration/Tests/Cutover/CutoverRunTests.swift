import Clusters
import Logging
import Synchronization
import Testing

@testable import LibPQ
@testable import MigrationEngine

/// One cutover between two real servers, with a handover that fails where the test wants it.
@Suite(.serialized, .servers(about: 40), .timeLimit(.minutes(2)))
struct CutoverRunTests {
  @Test("A cutover whose steps all succeed seals the source and opens the target")
  func complete() async throws {
    try await ClosedTarget.run("runs") { scene in
      let report = try await scene.cutover().perform(scene.request)
      #expect(report.result == .complete)
      #expect(try await scene.sourceRefusal() == "25006")
      #expect(try await scene.targetRefusal() == nil)
      #expect(
        report.timeline.map(\.step) == [
          "arm", "fence", "await writers", "mark", "drain", "finalise", "seal", "open", "moved", "switch",
        ])
      let pause = try #require(report.writePauseSeconds)
      #expect(pause > 0 && pause < 5)
      #expect(report.fenceLSN?.contains("/") == true)
      #expect(report.reason == nil)
    }
  }

  @Test(
    "Case 46: a step that fails after the fence opens the source again, and the next try succeeds"
  )
  func failure() async throws {
    try await ClosedTarget.run("fails") { scene in
      var handover = ScriptedHandover()
      handover.onDrain = { _, _ in
        throw MigrationError(.failed, doing: "draining", reason: "the target is on fire")
      }
      let report = try await scene.cutover(handover).perform(scene.request)
      #expect(report.result == .aborted)
      #expect(report.reason?.contains("the target is on fire") == true)
      #expect(report.timeline.map(\.step).suffix(2) == ["drain", "unfence"])
      #expect(try await scene.sourceRefusal() == nil)
      #expect(try await scene.targetRefusal() == "25006")
      #expect(try await scene.cutover().perform(scene.request).result == .complete)
    }
  }

  @Test(
    "Case 46: a drain without end is cut off at the timeout, and the source is writable within a second"
  )
  func timeout() async throws {
    try await ClosedTarget.run("hangs") { scene in
      var handover = ScriptedHandover()
      handover.onDrain = { _, _ in try await Task.sleep(for: .seconds(3600)) }
      var request = scene.request
      request.timeoutSeconds = 1
      let report = try await scene.cutover(handover).perform(request)
      #expect(report.result == .aborted)
      #expect(report.reason?.contains("time") == true)
      let pause = try #require(report.writePauseSeconds)
      #expect(pause >= 1 && pause < 2)
      #expect(try await scene.sourceRefusal() == nil)
    }
  }

  @Test("An engine that is asked to stop after the fence takes it down first")
  func cancelled() async throws {
    try await ClosedTarget.run("stops") { scene in
      let isDraining = Mutex(false)
      var handover = ScriptedHandover()
      handover.onDrain = { _, _ in
        isDraining.withLock { $0 = true }
        try await Task.sleep(for: .seconds(3600))
      }
      let cutover = try scene.cutover(handover)
      let running = Task { try await cutover.perform(scene.request) }
      try await waitUntil("the drain") { isDraining.withLock { $0 } }
      #expect(try await scene.sourceRefusal() == "25006")
      running.cancel()
      #expect(try await running.value.result == .aborted)
      #expect(try await scene.sourceRefusal() == nil)
    }
  }

  @Test("A breach that shows before the seal keeps the source from being sealed")
  func breach() async throws {
    try await ClosedTarget.run("breach") { scene in
      var handover = ScriptedHandover()
      handover.onEnsureNoBreach = {
        throw MigrationError(.failed, doing: "draining", reason: "a change came after the marker")
      }
      let report = try await scene.cutover(handover).perform(scene.request)
      #expect(report.result == .aborted)
      #expect(report.reason?.contains("after the marker") == true)
      #expect(try await scene.sourceRefusal() == nil)
    }
  }

  @Test(
    "A breach that shows after the seal is a warning of the report, and so are large objects written too late"
  )
  func lateBreach() async throws {
    try await ClosedTarget.run("latebreach") { scene in
      try await scene.scene.run(["SELECT lo_from_bytea(11, 'before')"], on: .source)
      let isOver = Mutex(false)
      var handover = ScriptedHandover()
      handover.onLeftBehind = { isOver.withLock { $0 } ? "\"public\".\"t\"" : nil }
      handover.onSwitchOver = { _, _ in
        isOver.withLock { $0 = true }
        do {
          try await scene.scene.run(
            [
              "SET default_transaction_read_only = off", "SELECT lo_put(11, 0, 'late!!')",
            ], on: .source)
        } catch { return "\(error)" }
        return nil
      }
      let report = try await scene.cutover(handover).perform(scene.request)
      #expect(report.result == .complete)
      let warnings = try #require(report.warnings)
      #expect(warnings.count == 2, "\(warnings)")
      #expect(warnings.contains { $0.contains("large objects were written") && $0.hasSuffix(": 11") })
      #expect(
        warnings.contains { $0.contains("after its seal, and are not on the target: \"public\".\"t\"") })
      #expect(report.reason?.contains("copy them by hand") == true, "somebody must act")
    }
  }

  @Test("A rehearsal finds what would keep the source from being sealed, and un-fences")
  func rehearsalFinds() async throws {
    try await ClosedTarget.run("rehearses") { scene in
      var handover = ScriptedHandover()
      handover.onFinaliseTables = {
        try await scene.scene.run(["ALTER TABLE t ADD v int"], on: .source)
        return ""
      }
      var request = scene.request
      request.isRehearsal = true
      let report = try await scene.cutover(handover).perform(request)
      #expect(report.result == .aborted && report.reason?.contains("\"public\".\"t\"") == true, "\(report)")
      #expect(try await scene.sourceRefusal() == nil)
      let again = try await scene.cutover().perform(request)
      #expect(again.result == .rehearsed, "\(again)")
      #expect(again.timeline.map(\.step).suffix(2) == ["examine", "unfence"])
    }
  }

  @Test(
    "A pause over the budget is refused before anything is fenced",
    arguments: [(nil, 0), (11, 0), (6, 5)] as [(Double?, Double)])
  func budget(predicted: Double?, finalising: Double) async throws {
    try await ClosedTarget.run("budget") { scene in
      var handover = ScriptedHandover()
      handover.onLag = { (1 << 20, predicted) }
      handover.onFinalisingSeconds = { finalising }
      let report = try await scene.cutover(handover).perform(scene.request)
      #expect(report.result == .aborted)
      #expect(report.writePauseSeconds == nil)
      #expect(report.timeline.map(\.step) == ["arm"])
    }
  }

  @Test("Clients that wait in poolers go on after a failure, after a stop, and after a pause that failed")
  func poolers() async throws {
    try await ClosedTarget.run("poolers") { scene in
      var handover = ScriptedHandover()
      handover.scriptedPoolers = ScriptedPoolers()
      handover.onDrain = { _, _ in try await Task.sleep(for: .seconds(3600)) }
      let cutover = try scene.cutover(handover)
      let running = Task { try await cutover.perform(scene.request) }
      try await waitUntil("the fence") { try await scene.sourceRefusal() == "25006" }
      running.cancel()
      let stopped = try await running.value
      #expect(stopped.result == .aborted)
      #expect(stopped.timeline.map(\.step).suffix(2) == ["unfence", "resume"])
      #expect(stopped.timeline.last?.detail.contains("writes were stopped for") == true)
      #expect(handover.calls.all.filter { ["pause", "resume"].contains($0) } == ["pause", "resume"])

      let failing = handover
      handover.scriptedPoolers?.onPause = { _ in
        throw MigrationError(.failed, doing: "pausing", reason: "busy")
      }
      let unpaused = try await scene.cutover(handover).perform(scene.request)
      #expect(unpaused.timeline.map(\.step) == ["arm", "pause", "resume"])
      #expect(unpaused.reason?.contains("busy") == true)
      #expect(try await scene.sourceRefusal() == nil)

      handover = failing
      handover.onDrain = { _, _ in throw MigrationError(.failed, doing: "draining", reason: "no disk") }
      handover.scriptedPoolers?.onResume = {
        throw MigrationError(.failed, doing: "resuming", reason: "pooler gone")
      }
      let reason = try await scene.cutover(handover).perform(scene.request).reason ?? ""
      #expect(reason.contains("no disk") && reason.contains("pooler gone"), "\(reason)")
    }
  }

  @Test("What fails after the seal is tried again until it succeeds, and reported meanwhile")
  func failsAfterSeal() async throws {
    try await ClosedTarget.run("sealed") { scene in
      let tries = Mutex(0)
      let reasons = Mutex<[String]>([])
      var handover = ScriptedHandover()
      handover.onSettleTables = {
        let count = tries.withLock { count in
          count += 1
          return count
        }
        guard count > 2 else { throw MigrationError(.failed, doing: "restoring", reason: "no disk") }
        return ""
      }
      let report = try await scene.cutover(handover) { report in
        if let reason = report.reason { reasons.withLock { $0.append(reason) } }
      }.perform(scene.request)
      #expect(report.result == .complete && report.reason == nil)
      // Twice while it waits for the next try, and as often while that is under way.
      let reported = reasons.withLock { $0 }
      #expect(reported.count == 4 && reported.allSatisfy { $0.contains("no disk") }, "\(reported)")
      #expect(report.timeline.map(\.step).suffix(5) == ["open", "open", "open", "moved", "switch"])
      #expect(try await scene.targetRefusal() == nil)
    }
  }

  @Test("An engine that is asked to stop after the seal ends at once, and resuming completes the cutover")
  func stopsAfterSeal() async throws {
    try await ClosedTarget.run("sealedstop") { scene in
      let tries = Mutex(0)
      var handover = ScriptedHandover()
      handover.onSettleTables = {
        tries.withLock { $0 += 1 }
        throw MigrationError(.failed, doing: "restoring", reason: "no disk")
      }
      let cutover = try scene.cutover(handover)
      let running = Task { try await cutover.perform(scene.request) }
      try await waitUntil("a failure") { tries.withLock { $0 } > 1 }
      running.cancel()
      let asked = ContinuousClock.now
      await #expect(throws: CancellationError.self) { try await running.value }
      #expect(ContinuousClock.now - asked < .seconds(1))
      #expect(try await scene.sourceRefusal() == "25006")
      #expect(try await scene.targetRefusal() == "25006")
      let report = try await scene.cutover().resume(from: .sealed, request: scene.request)
      #expect(report.result == .complete)
      #expect(report.timeline.map(\.step).contains("drain"), "proved anew")
      #expect(try await scene.targetRefusal() == nil)
    }
  }

  @Test("Resumed when the target was open already, it copies nothing of the source over it")
  func resumesOpen() async throws {
    try await ClosedTarget.run("opened") { scene in
      #expect(try await scene.cutover().perform(scene.request).result == .complete)
      try await scene.scene.run(["SELECT setval('counter', 5000)"], on: .target)
      let report = try await scene.cutover().resume(from: .sealed, request: scene.request)
      #expect(report.result == .complete)
      #expect(
        try await scene.scene.sequences(.target) == [
          "public.counter [\"5000\", \"t\"]"
        ])
    }
  }
}
