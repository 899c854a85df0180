import Clusters
import Synchronization
import Testing

@testable import MigrationEngine

/// What a cutover asks of its stages: in which order, and what becomes of the cutover when one of them fails.
/// The fences are real, the stages are scripted.
@Suite(.serialized, .servers(about: 90), .timeLimit(.minutes(3)))
struct HandoverCallTests {
  typealias Call = ScriptedHandover.Call

  /// All calls of a cutover that compares both ends and whose clients come through poolers. What comes more
  /// than once stands here more than once.
  private static let beforeSeal = [
    // What the pause will take, by which nothing may begin; then, with the fence armed, once more.
    "lag", "finalisingSeconds", "predictedSeconds", "origins", "ensureSchemas",
    "lag", "finalisingSeconds", "predictedSeconds",
    // Poolers, fence, marker.
    "pause", "expectMarker", "expectMarker", "drain",
    "finaliseTables", "ensureNoBreach", "compare", "ensureNoBreach", "ensureNoBreach",
  ]
  private static let afterSeal = ["record", "expectMarker", "drain", "hold", "settleTables", "record"]
  private static let switched = ["switchOver", "leftBehind"]
  private static let end = ["forgetMarker", "close"]
  private static let cutover = beforeSeal + ["record"] + afterSeal + switched + end

  private func handover(
    failing: Call? = nil, poolers: Bool = true, compares: Bool = true
  ) -> ScriptedHandover {
    ScriptedHandover(
      calls: .init(failing: failing), scriptedPoolers: poolers ? ScriptedPoolers() : nil, compares: compares)
  }

  /// Without the calls of what is not there.
  private func left(_ calls: [String], poolers: Bool, compares: Bool) -> [String] {
    var calls = calls
    if !poolers { calls.removeAll { ["pause", "resume"].contains($0) } }
    guard !compares else { return calls }
    if let compare = calls.firstIndex(of: "compare") { calls.removeSubrange(compare...compare + 1) }
    return calls.filter { !["predictedSeconds", "close"].contains($0) }
  }

  @Test(
    "A rehearsal and a cutover ask their stages in the order in which the handover names them",
    arguments: [false, true], [false, true])
  func order(poolers: Bool, compares: Bool) async throws {
    try await ClosedTarget.run("order") { scene in
      var request = scene.request
      request.isRehearsal = true
      let rehearsal = handover(poolers: poolers, compares: compares)
      #expect(try await scene.cutover(rehearsal).perform(request).result == .rehearsed)
      #expect(
        rehearsal.calls.all
          == left(Self.beforeSeal + ["resume"] + Self.end, poolers: poolers, compares: compares))
      let cutover = handover(poolers: poolers, compares: compares)
      #expect(try await scene.cutover(cutover).perform(scene.request).result == .complete)
      #expect(cutover.calls.all == left(Self.cutover, poolers: poolers, compares: compares))
      try await scene.expectCutOver()
    }
  }

  // MARK: Before the seal

  private static let failingBeforeSeal = [
    Call("finalisingSeconds"), Call("predictedSeconds"), Call("ensureSchemas"),
    Call("finalisingSeconds", 2), Call("predictedSeconds", 2), Call("pause"), Call("drain"),
    Call("finaliseTables"), Call("ensureNoBreach"), Call("compare"), Call("ensureNoBreach", 2),
    Call("ensureNoBreach", 3), Call("record"),
  ]

  @Test(
    """
    What fails of a handover before the seal lets the source take writes and its clients go on, and the next \
    try goes through
    """, arguments: failingBeforeSeal)
  func failsBeforeSeal(call: Call) async throws {
    try await ClosedTarget.run("fails") { scene in
      let handover = handover(failing: call)
      let report = try await scene.cutover(handover).perform(scene.request)
      #expect(
        report.result == .aborted && report.reason?.contains("\(call.name) was to fail") == true, "\(report)")
      #expect(report.seal == .none)
      let calls = handover.calls.all
      let failed = try #require(
        Self.cutover.indices.filter { Self.cutover[$0] == call.name }.dropFirst(call.number - 1).first)
      let isPaused = calls.contains("pause")
      #expect(
        calls == Self.cutover[...failed] + (isPaused ? ["resume"] : []) + Self.end,
        "nothing is asked for once it has failed, but what lets go")
      try await scene.expectUndone()
    }
  }

  @Test("Both ends that differ after the fence keep the source from being sealed, and the report has both")
  func differs() async throws {
    try await ClosedTarget.run("differs") { scene in
      var handover = handover()
      handover.difference = "1 row of \"public\".\"t\" differs"
      let report = try await scene.cutover(handover).perform(scene.request)
      #expect(report.result == .aborted)
      #expect(report.reason?.contains("1 row of \"public\".\"t\" differs") == true, "\(report)")
      #expect(report.verification?.result == .different)
      #expect(handover.calls.all.suffix(4) == ["compare", "resume", "forgetMarker", "close"])
      try await scene.expectUndone()
    }
  }

  @Test("Whoever is ended so that poolers can pause is named, though the pause succeeds at that moment")
  func ended() async throws {
    try await ClosedTarget.run("endedbusy") { scene in
      let server = scene.scene.databases.source
      let idle = try await SQLSession(server)
      try await idle.execute("BEGIN \\; SELECT 1")
      let pid = try #require(try await idle.value("SELECT pg_backend_pid()").flatMap { Int32($0) })
      let observer = try await SQLSession(server)
      var handover = handover()
      handover.scriptedPoolers?.busy = [pid]
      handover.scriptedPoolers?.onPause = { _ in
        let isBusy = "SELECT count(*) FROM pg_stat_activity WHERE pid = \(pid)"
        try await waitUntil("an end of the transaction", within: .seconds(10)) {
          try await observer.value(isBusy) == "0"
        }
        return "clients wait"
      }
      var request = scene.request
      request.terminatesBlockers = true
      request.maxPauseSeconds = 2
      let report = try await scene.cutover(handover).perform(request)
      #expect(report.result == .complete, "\(report.reason ?? "")")
      #expect(report.terminated?.count == 1)
      await idle.close()
      await observer.close()
    }
  }

  @Test("Where nobody can say who keeps the poolers busy, the pause is given up and all clients go on")
  func busyServersFail() async throws {
    try await ClosedTarget.run("busy") { scene in
      var handover = handover(failing: Call("busyServers"))
      handover.scriptedPoolers?.onPause = { _ in
        try await Task.sleep(for: .seconds(3600))
        return ""
      }
      var request = scene.request
      request.maxPauseSeconds = 1
      request.terminatesBlockers = true
      let report = try await scene.cutover(handover).perform(request)
      #expect(
        report.result == .aborted && report.reason?.contains("busyServers was to fail") == true, "\(report)")
      #expect(report.timeline.map(\.step) == ["arm", "pause", "resume"])
      #expect(handover.calls.all.suffix(5) == ["pause", "busyServers", "resume", "forgetMarker", "close"])
      try await scene.expectUndone()
    }
  }

  // MARK: After the seal

  /// What is asked once more after a failure, up to the switch.
  private static let triedAgain: [(call: Call, again: [String])] = [
    (Call("record", 2), afterSeal), (Call("hold"), afterSeal),
    // What the target has been proven to have is not drained again.
    (Call("settleTables"), ["record", "settleTables", "record"]),
  ]

  @Test(
    "What fails of a handover after the seal is tried again from the step that failed, and nothing is undone",
    arguments: triedAgain.indices)
  func failsAfterSeal(index: Int) async throws {
    let (call, again) = Self.triedAgain[index]
    try await ClosedTarget.run("failsafter") { scene in
      let reasons = Mutex<[String]>([])
      let handover = handover(failing: call)
      let report = try await scene.cutover(handover) { report in
        if let reason = report.reason { reasons.withLock { $0.append(reason) } }
      }.perform(scene.request)
      #expect(report.result == .complete && report.reason == nil && report.warnings == nil, "\(report)")
      let said = reasons.withLock { $0 }
      #expect(!said.isEmpty && said.allSatisfy { $0.contains("\(call.name) was to fail") }, "\(said)")
      #expect(report.timeline.map(\.step).suffix(4) == ["open", "open", "moved", "switch"])
      let first = try #require(Self.afterSeal.firstIndex(of: call.name))
      #expect(
        handover.calls.all == Self.beforeSeal + ["record"] + Self.afterSeal[...first] + again + Self.switched
          + Self.end)
      try await scene.expectCutOver()
    }
  }

  @Test(
    "After the seal a proof, a note or a switch that fails delays nothing, and the report says so",
    arguments: [Call("drain", 2), Call("record", 3), Call("switchOver")])
  func failsWithoutDelay(call: Call) async throws {
    try await ClosedTarget.run("failslast") { scene in
      let handover = handover(failing: call)
      let report = try await scene.cutover(handover).perform(scene.request)
      #expect(report.result == .complete)
      #expect(handover.calls.all == Self.cutover)
      #expect(report.reason == (call.name == "switchOver" ? "switchOver was to fail" : nil))
      let isUnproven = report.warnings?.contains { $0.contains("drain was to fail") } ?? false
      #expect(isUnproven == (call.name == "drain"), "\(report)")
      try await scene.expectCutOver()
    }
  }

  @Test(
    "An engine that goes on after a seal drains anew, and what fails there is tried again from the beginning",
    arguments: [Call("drain"), Call("finaliseTables"), Call("ensureNoBreach")])
  func failsResumed(call: Call) async throws {
    try await ClosedTarget.run("failsresumed") { scene in
      try await sealAndStop(scene)
      let handover = handover(failing: call)
      let report = try await scene.cutover(handover).resume(from: .sealed, request: scene.request)
      #expect(report.result == .complete && report.reason == nil, "\(report)")
      let proof = ["expectMarker", "drain", "finaliseTables", "ensureNoBreach"]
      let failed = try #require(proof.firstIndex(of: call.name))
      #expect(
        handover.calls.all == proof[...failed] + proof + Self.afterSeal + Self.switched + Self.end)
      try await scene.expectCutOver()
    }
  }

  @Test("Where the source is lost after its seal, nothing is asked that only a source could answer")
  func sourceLost() async throws {
    try await ClosedTarget.run("lost") { scene in
      let stored = try await sealAndStop(scene)
      #expect(stored.seal == .stands)
      let handover = handover(poolers: false, compares: false)
      let report = try await scene.cutover(handover).resume(
        from: .sealed, request: scene.request, earlier: stored, asksSource: false)
      #expect(report.result == .complete, "\(report)")
      #expect(
        handover.calls.all
          == ["record", "hold", "settleTables", "record", "switchOver", "leftBehind", "forgetMarker"])
      try await scene.expectCutOver()
    }
  }

  // MARK: Back

  @Test(
    "A rollback asks the same of its stages, is undone before its seal, and tries again after it",
    arguments: [nil, Call("drain"), Call("settleTables")])
  func rollback(call: Call?) async throws {
    try await ClosedTarget.run("rollback") { scene in
      #expect(try await scene.cutover().perform(scene.request).result == .complete)
      let handover = handover(failing: call)
      let report = try await scene.rollback(handover).perform(scene.request)
      #expect(report.direction == .back)
      let isUndone = call?.name == "drain"
      #expect(report.result == (isUndone ? .aborted : .complete), "\(report)")
      let calls = handover.calls.all
      switch call?.name {
      case "drain":
        let failed = try #require(Self.cutover.firstIndex(of: "drain"))
        #expect(calls == Self.cutover[...failed] + ["resume"] + Self.end)
      case "settleTables":
        let again = ["record", "settleTables", "record"]
        #expect(
          calls == Self.beforeSeal + ["record"] + Self.afterSeal.dropLast() + again + Self.switched + Self.end
        )
      default: #expect(calls == Self.cutover)
      }
      #expect(try await scene.targetRefusal() == (isUndone ? nil : "25006"))
      #expect(try await scene.sourceRefusal() == (isUndone ? "25006" : nil))
    }
  }

  /// Ends a cutover between its seal and the opening.
  /// - Returns: what is stored of it by then.
  @discardableResult
  private func sealAndStop(_ scene: ClosedTarget) async throws -> Status.Cutover {
    let stored = Mutex<Status.Cutover?>(nil)
    var handover = ScriptedHandover()
    handover.onSettleTables = { throw MigrationError(.failed, doing: "restoring", reason: "no disk") }
    handover.onRecord = { report in stored.withLock { $0 = report } }
    let calls = handover.calls
    let cutover = try scene.cutover(handover)
    let running = Task { try await cutover.perform(scene.request) }
    try await waitUntil("a failure after the seal") { calls.all.contains("settleTables") }
    running.cancel()
    await #expect(throws: CancellationError.self) { try await running.value }
    #expect(try await scene.sourceRefusal() == "25006")
    #expect(try await scene.targetRefusal() == "25006")
    return try #require(stored.withLock { $0 })
  }
}
