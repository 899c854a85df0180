import Subprocess
import Testing

@testable import MigrationEngine

@Suite("Rollout of Kubernetes")
struct KubernetesRolloutTests {
  @Test("A machine without kubectl is found before the cutover, and what mends it")
  func missing() async {
    let end = Switchover.End(host: "a.example", port: "5432", database: "app")
    let action = KubernetesRolloutAction(
      SwitchStep.KubernetesRollout(namespace: "shop", workloads: ["deployment/a", "deployment/b"]),
      program: "a-program-that-nobody-has")
    let found = await action.examine(SwitchScene(source: end, target: end))
    #expect(found.count == 1 && found[0].severity == .blocker, "\(found)")
    #expect(found[0].why.hasPrefix("kubectl cannot be run"), "\(found)")
    #expect(found[0].remedy.contains("Install kubectl"))
  }

  @Test("A failure is told by the last line of each stream")
  func failures() {
    let failure = KubernetesRolloutAction.Failure(
      call: "rollout status", .ended(.exited(1), output: Array("a\nb\n".utf8), error: Array("c\nd\n".utf8)))
    #expect(failure.description == "kubectl rollout status: b; d" && !failure.isMissingProgram)
    let silent = KubernetesRolloutAction.Failure(call: "x", .ended(.exited(1), output: [], error: []))
    #expect(silent.why.contains("said nothing"))
    let slow = KubernetesRolloutAction.Failure(call: "x", .timedOut, limit: .seconds(3))
    #expect(slow.why.contains("within 3.0 seconds"))
  }
}
