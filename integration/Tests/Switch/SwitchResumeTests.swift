import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// Switch steps over a crash.
@Suite(.serialized, .servers, .timeLimit(.minutes(3)))
struct SwitchResumeTests {
  @Test("After a crash among the steps those that are done are not run again, the one under way is")
  func resumed() async throws {
    try await Scene.run("resteps") { scene in
      try await scene.source("CREATE TABLE t (id int PRIMARY KEY)")
      let folder = try await freshDirectory()
      let plan = "\(folder)/replicate.yaml"
      try Data(
        """
        switch:
          - step: exec
            name: first
            command: echo first $REPLICATE_PHASE >>\(folder)/log; echo said
          - step: exec
            command: echo second >>\(folder)/log; test -e \(folder)/go || exec sleep 300

        """.utf8
      ).write(to: URL(filePath: plan))
      @Sendable func log() -> [Substring] {
        String(decoding: FileManager.default.contents(atPath: "\(folder)/log") ?? Data(), as: UTF8.self)
          .split(separator: "\n")
      }
      let engine = try await scene.start("--config", plan)
      try await scene.waitUntilReady(engine)
      let cutover = try await scene.replicate.start("cutover", "--yes")
      try await cutover.waitUntil("the second step", within: .seconds(30)) { log().count == 2 }
      engine.kill9()
      #expect(try await engine.waitForEnd(within: .seconds(10)) == 128 + 9)
      try Data().write(to: URL(filePath: "\(folder)/go"))
      let next = try await scene.start("--config", plan, "--exec", "echo third >>\(folder)/log")
      #expect(try await next.waitForEnd(within: .seconds(30)) == 0, "\(next.errors)")
      #expect(log() == ["first switch", "second", "second", "third"])
      #expect(try await cutover.waitForEnd(within: .seconds(30)) == 0, "\(cutover.errors)")
      let report = try #require(try await scene.status().cutover)
      #expect(report.timeline.suffix(4).map(\.step) == ["first", "exec 2", "exec 3", "switch"])
      #expect(
        report.timeline.first { $0.step == "first" }?.detail
          == "done before the engine was started again: said")
    }
  }

  @Test("After a crash after the opening the steps learn the fence's LSN, and the report keeps its proof")
  func keepsReport() async throws {
    try await Scene.run("keepsreport") { scene in
      try await scene.source("CREATE TABLE t (id int PRIMARY KEY)")
      let folder = try await freshDirectory()
      let step = ["--exec", "echo $REPLICATE_FENCE_LSN >>\(folder)/log"]
      let engine = try await scene.start(step, meeting: "after open=kill")
      try await scene.waitUntilReady(engine)
      let cutover = try await scene.replicate.start("cutover", "--yes")
      #expect(try await engine.waitForEnd(within: .seconds(20)) == 128 + 9, "\(engine.errors)")
      let next = try await scene.start(step)
      #expect(try await next.waitForEnd(within: .seconds(30)) == 0, "\(next.errors)")
      #expect(try await cutover.waitForEnd(within: .seconds(30)) == 0, "\(cutover.errors)")
      let report = try #require(try await scene.status().cutover)
      let fence = try #require(report.fenceLSN)
      #expect(try Data(contentsOf: URL(filePath: "\(folder)/log")) == Data("\(fence)\n".utf8))
      let pause = try #require(report.writePauseSeconds)
      #expect(pause > 0 && pause < 5, "\(pause)")
      let mark = try #require(report.timeline.first { $0.step == "mark" })
      #expect(mark.detail.contains("nonce") && mark.detail.hasSuffix(fence), "\(mark)")
      let steps = report.timeline.map(\.step)
      #expect(steps.count { $0 == "open" } == 1 && steps.last == "switch", "\(steps)")
      let starts = report.timeline.dropLast(2).map(\.startSeconds)
      #expect(starts == starts.sorted(), "\(starts)")
    }
  }

  @Test("A plan with mistakes is refused before anything is touched")
  func mistakes() async throws {
    try await Scene.run("badplan") { scene in
      let plan = try await freshDirectory() + "/replicate.yaml"
      try Data(#"switch: [{step: exec}, {step: ecs, cluster: "${UNSET_HERE}"}]"#.utf8)
        .write(to: URL(filePath: plan))
      for command in ["check", "start"] {
        let refused = try await scene.replicate.run(command, "--config", plan)
        #expect(refused.exitCode == 64)
        for words in ["command is missing", "no variable UNSET_HERE", "services is missing"] {
          #expect(refused.errors.contains(words), "\(refused.errors)")
        }
      }
      #expect(try await scene.tracesOnSource() == [])
      #expect(try await scene.tracesOnTarget() == [])
      let missing = try await scene.replicate.run("check", "--config", "\(plan).not")
      #expect(missing.exitCode == 64)
    }
  }
}
