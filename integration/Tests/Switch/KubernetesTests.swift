import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// Step `kubernetes-rollout`, with a script in the place of `kubectl`: there is no cluster.
@Suite(.serialized, .servers(about: 20), .timeLimit(.minutes(2)))
struct KubernetesTests {
  /// Answers as kubectl does, and notes what it was asked.
  private func standIn(_ log: String) async throws -> String {
    try await pathWith(
      "kubectl",
      #"""
      #!/bin/sh
      echo "$*${REPLICATE_SOURCE:+ given a password}" >>\#(log)
      case "$*" in
      "get deployment/gone "*)
        echo 'Error from server (NotFound): deployments.apps "gone" not found' >&2; exit 1 ;;
      "get deployment/paused "*) echo '{"kind": "Deployment", "spec": {"paused": true}}' ;;
      "get statefulset/manual "*) echo '{"spec": {"updateStrategy": {"type": "OnDelete"}}}' ;;
      "get "*) echo '{"spec": {"replicas": 2}}' ;;
      "auth can-i patch deployment/locked "*) echo no; exit 1 ;;
      "auth "*) echo yes ;;
      "rollout status deployment/slow "*)
        echo 'Waiting for deployment "slow" rollout to finish: 1 out of 2 new replicas have been updated...'
        echo 'error: timed out waiting for the condition' >&2; exit 1 ;;
      esac
      """#)
  }

  private func lines(_ log: String) -> [String] {
    String(decoding: FileManager.default.contents(atPath: log) ?? Data(), as: UTF8.self)
      .split(separator: "\n").map(String.init)
  }

  private func scene(
    _ name: String, _ body: @Sendable (Scene, _ encryption: [String], _ log: String) async throws -> Void
  ) async throws {
    let log = try await freshDirectory() + "/log"
    let environment = ["PATH": try await standIn(log)]
    let encryption = try await ClusterPair.shared.encryptionArguments
    try await Scene.run(name, environment: environment) { scene in
      try await scene.source("CREATE TABLE t (id int PRIMARY KEY)")
      try await body(scene, encryption, log)
    }
  }

  @Test("Deployments are restarted, and the next step begins when all are rolled out")
  func rolledOut() async throws {
    try await scene("kuberollout") { scene, encryption, log in
      let plan = try await planFile(
        """
        switch:
          - { step: kubernetes-rollout, namespace: shop, deployments: [api, statefulset/w], context: live }
          - { step: exec, command: "echo next >>\(log)" }
        """)
      let engine = try await scene.start("--config", plan)
      try await scene.waitUntilReady(engine)
      let cutover = try await scene.replicate.run("cutover", "--yes")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
      let report = try #require(try await scene.status().cutover)
      #expect(
        report.timeline.first { $0.step == "kubernetes-rollout" }?.detail
          == "deployment/api, statefulset/w in shop are rolled out anew")
      let calls = lines(log)
      #expect(
        calls.contains(
          "auth can-i patch deployment/api --request-timeout=10s --namespace shop --context live"))
      let end = calls.suffix(4)
      #expect(
        end.first
          == "rollout restart deployment/api statefulset/w --namespace shop --context live", "\(calls)")
      for (call, workload) in zip(end.dropFirst(), ["deployment/api", "statefulset/w"]) {
        #expect(
          call.wholeMatch(
            of: /rollout status (\S+) --timeout=(89\d|900)s --namespace shop --context live/)?.output.1
            == workload[...], "\(calls)")
      }
      #expect(end.last == "next")
      #expect(!calls.contains { $0.contains("password") }, "connection strings are not for it: \(calls)")
    }
  }

  @Test("What cannot be restarted is found before the cutover; one that does not get ready is named")
  func hindered() async throws {
    try await scene("kubehindered") { scene, encryption, log in
      let check = try await scene.replicate.run(
        ["check"] + encryption + [
          "--config",
          try await planFile(
            """
            switch:
              - step: kubernetes-rollout
                namespace: shop
                deployments: [api, gone, paused, statefulset/manual, locked]
            """),
        ])
      #expect(check.exitCode == 3, "\(check.output)\(check.errors)")
      for words in [
        #"deployments.apps "gone" not found"#, "deployment/paused is paused", "strategy OnDelete",
        "kubectl may not patch deployment/locked in namespace shop",
      ] {
        #expect(unwrapped(check.output).contains(words), "\(words) is not in \(check.output)")
      }
      #expect(!check.output.contains("deployment/api"))
      let engine = try await scene.start(
        "--config",
        try await planFile(
          """
          switch:
            - { step: kubernetes-rollout, namespace: shop, deployments: [slow] }
            - { step: exec, command: "false" }
          """))
      try await scene.waitUntilReady(engine)
      let cutover = try await scene.replicate.run("cutover", "--yes")
      #expect(cutover.exitCode == 1, "\(cutover.output)\(cutover.errors)")
      let reason = try #require(try await scene.status().cutover?.reason)
      #expect(reason.contains("1 out of 2 new replicas have been updated"), "\(reason)")
      #expect(reason.contains("timed out waiting for the condition"), "\(reason)")
      #expect(reason.contains("the step after it not run"), "\(reason)")
    }
  }
}
