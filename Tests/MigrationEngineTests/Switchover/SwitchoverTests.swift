import Foundation
import Logging
import Synchronization
import Testing

@testable import MigrationEngine

@Suite("Switchover", .timeLimit(.minutes(1)))
struct SwitchoverTests {
  private let source = Switchover.End(host: "old.example", port: "5432", database: "app")
  private let target = Switchover.End(host: "new.example", port: "5433", database: "app two")

  private struct Shown: Sendable, Equatable {
    var step: String
    var detail: String
  }

  private func run(
    _ commands: [String], timeLimit: Duration = .seconds(20)
  ) async -> (shown: [Shown], failure: String?) {
    let shown = Mutex<[Shown]>([])
    let plan = SwitchPlan(steps: commands.map { SwitchStep(timeLimit: timeLimit, action: .exec($0)) })
    let switchover = Switchover(
      plan, in: SwitchScene(source: source, target: target), log: nil,
      logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    let failure = await switchover.performSteps(
      fenceLSN: "0/1A", appliedLSN: "0/1B",
      Switchover.Events { step, _, detail in
        shown.withLock { $0.append(Shown(step: step, detail: detail)) }
      })
    return (shown.withLock { $0 }, failure)
  }

  @Test("Steps run in order, and each shows its last line")
  func order() async {
    let (shown, failure) = await run(["echo first; echo second", "echo third >&2", "true"])
    #expect(failure == nil)
    #expect(
      shown == [
        Shown(step: "exec 1", detail: "second"), Shown(step: "exec 2", detail: "third"),
        Shown(step: "exec 3", detail: ""),
      ])
  }

  @Test("A step finds both ends and the fence's LSN")
  func environment() async {
    let names = [
      "SOURCE_HOST", "SOURCE_DATABASE", "TARGET_HOST", "TARGET_PORT", "TARGET_DATABASE", "FENCE_LSN",
      "APPLIED_LSN", "PHASE",
    ]
    let command = "echo " + names.map { "\"$REPLICATE_\($0)\"" }.joined(separator: " ")
    let (shown, _) = await run([command])
    #expect(shown.first?.detail == "old.example app new.example 5433 app two 0/1A 0/1B switch")
  }

  @Test("The first failure stops those after it, which may rest on it")
  func failure() async {
    let (shown, failure) = await run(["true", "echo no such alias >&2; exit 9", "echo never", "echo never"])
    #expect(shown.map(\.step) == ["exec 1", "exec 2"])
    #expect(
      failure == "switch step exec 2 failed (exit code 9: no such alias); 2 steps after it not run")
  }

  @Test("A step that takes too long is killed, with the children it has in the background")
  func timeLimit() async throws {
    let file = FileManager.default.temporaryDirectory.appending(path: "switchover-\(UUID())").path()
    defer { try? FileManager.default.removeItem(atPath: file) }
    let began = ContinuousClock.now
    let (_, failure) = await run(
      ["(echo $BASHPID; exec sleep 300) & echo $! > \(file); wait"], timeLimit: .seconds(1))
    #expect(failure?.contains("took longer than") == true)
    #expect(ContinuousClock.now - began < .seconds(10))
    let pid = try #require(
      Int32(try String(contentsOfFile: file, encoding: .utf8).trimmingCharacters(in: .whitespacesAndNewlines))
    )
    let deadline = ContinuousClock.now + .seconds(5)
    while Self.lives(pid), ContinuousClock.now < deadline { await Task.yield() }
    #expect(!Self.lives(pid))
  }

  /// A zombie that nobody has collected yet lives no more.
  private static func lives(_ pid: Int32) -> Bool {
    guard let data = FileManager.default.contents(atPath: "/proc/\(pid)/stat") else { return false }
    return String(decoding: data, as: UTF8.self).split(separator: ") ").last?.first != "Z"
  }
}
