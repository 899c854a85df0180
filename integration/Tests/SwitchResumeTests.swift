import Clusters
import Foundation
import MigrationEngine
import Testing

extension Integration {
  /// Switch steps over a crash.
  @Suite(.timeLimit(.minutes(3)))
  struct SwitchResumeTests {
    @Test("After a crash among the steps those that are done are not run again, the one under way is")
    func resumed() async throws {
      try await Journey.run("resteps") { journey in
        try await journey.source("CREATE TABLE t (id int PRIMARY KEY)")
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
        let engine = try await journey.start("--config", plan)
        try await journey.waitUntilReady(engine)
        let cutover = try await journey.replicate.start("cutover", "--yes")
        try await cutover.waitUntil("the second step", within: .seconds(30)) { log().count == 2 }
        engine.kill9()
        #expect(try await engine.waitForEnd(within: .seconds(10)) == 128 + 9)
        try Data().write(to: URL(filePath: "\(folder)/go"))
        let next = try await journey.start("--config", plan, "--exec", "echo third >>\(folder)/log")
        #expect(try await next.waitForEnd(within: .seconds(30)) == 0, "\(next.errors)")
        #expect(log() == ["first switch", "second", "second", "third"])
        #expect(try await cutover.waitForEnd(within: .seconds(30)) == 0, "\(cutover.errors)")
        let report = try #require(try await journey.status().cutover)
        #expect(report.timeline.suffix(4).map(\.step) == ["first", "exec 2", "exec 3", "switch"])
        #expect(
          report.timeline.first { $0.step == "first" }?.detail
            == "done before the engine was started again: said")
      }
    }

    @Test("A plan with mistakes is refused before anything is touched")
    func mistakes() async throws {
      try await Journey.run("badplan") { journey in
        let plan = try await freshDirectory() + "/replicate.yaml"
        try Data(#"switch: [{step: exec}, {step: ecs, cluster: "${UNSET_HERE}"}]"#.utf8)
          .write(to: URL(filePath: plan))
        for command in ["check", "start"] {
          let refused = try await journey.replicate.run(command, "--config", plan)
          #expect(refused.exitCode == 64)
          for words in ["command is missing", "no variable UNSET_HERE", "services is missing"] {
            #expect(refused.errors.contains(words), "\(refused.errors)")
          }
        }
        #expect(try await journey.tracesOnSource() == [])
        #expect(try await journey.tracesOnTarget() == [])
        let missing = try await journey.replicate.run("check", "--config", "\(plan).not")
        #expect(missing.exitCode == 64)
      }
    }
  }
}
