import Foundation
import Subprocess

/// Step `kubernetes-rollout`: deployments are restarted, so that their pools open new connections.
struct KubernetesRolloutAction: SwitchAction {
  private let step: SwitchStep.KubernetesRollout
  /// `kubectl`, unless a test says otherwise.
  private let program: String

  /// One question, and one answer to a restart.
  private static let limit = Duration.seconds(20)

  init(_ step: SwitchStep.KubernetesRollout, program: String = "kubectl") {
    self.step = step
    self.program = program
  }

  func examine(_ scene: SwitchScene) async -> [SwitchFinding] {
    // All at once: a cluster that does not answer costs each of them its time limit.
    let found = await withTaskGroup(of: (Int, [SwitchFinding]).self) { group in
      for (index, workload) in step.workloads.enumerated() {
        group.addTask { (index, await blockers(workload)) }
      }
      return await group.reduce(into: [Int: [SwitchFinding]]()) { $0[$1.0] = $1.1 }
    }
    return step.workloads.indices.reduce(into: []) { all, index in
      for finding in found[index] ?? [] where !all.contains(finding) { all.append(finding) }
    }
  }

  private func blockers(_ workload: String) async -> [SwitchFinding] {
    do {
      return try await examine(workload)
    } catch let failure as Failure where failure.isMissingProgram {
      return [
        .blocker("kubectl \(failure.why)", "Install kubectl where the engine runs, so that it is in PATH.")
      ]
    } catch {
      return [
        .blocker(
          "\(error)",
          "See that kubectl has credentials and the right context here, and that the workload is there."
        )
      ]
    }
  }

  private func examine(_ workload: String) async throws -> [SwitchFinding] {
    let text = try await kubectl(["get", workload, "--output", "json", Self.requestLimit])
    guard let answer = try? JSONDecoder().decode(Workload.self, from: Data(text.utf8)) else {
      throw Failure(call: "get \(workload)", why: "its answer is not what this version understands")
    }
    if let finding = answer.hindrance(workload) { return [finding] }
    let may = await run(["auth", "can-i", "patch", workload, Self.requestLimit])
    guard case .ended(let status, let output, let error) = may else {
      throw Failure(call: "auth can-i patch \(workload)", may, limit: Self.limit)
    }
    let word = BoundedCommand.lines(output).last ?? ""
    if status == .exited(0), word == "yes" { return [] }
    guard word.hasPrefix("no") else {
      throw Failure(call: "auth can-i patch \(workload)", .ended(status, output: output, error: error))
    }
    return [
      .blocker(
        "kubectl may not patch \(workload) in namespace \(step.namespace).",
        "Give its account the right to patch it: a restart writes an annotation.")
    ]
  }

  /// Restarts even if an earlier engine did: it is not known whether these are the same pods.
  func perform(_ scene: SwitchScene, until deadline: ContinuousClock.Instant) async throws -> String {
    _ = try await kubectl(["rollout", "restart"] + step.workloads)
    for workload in step.workloads {
      let rest = max(1, Int((deadline - .now).components.seconds))
      // It ends by itself and says how far it came.
      _ = try await kubectl(
        ["rollout", "status", workload, "--timeout=\(rest)s"], within: .seconds(rest + 5))
    }
    return "\(step.workloads.joined(separator: ", ")) in \(step.namespace) are rolled out anew"
  }

  // MARK: The program

  private static let requestLimit = "--request-timeout=10s"

  private func kubectl(_ arguments: [String], within limit: Duration = limit) async throws -> String {
    let outcome = await run(arguments, within: limit)
    if case .cancelled = outcome { throw CancellationError() }
    guard case .ended(.exited(0), let output, _) = outcome else {
      let call = arguments.prefix { !$0.hasPrefix("--") }.joined(separator: " ")
      throw Failure(call: call, outcome, limit: limit)
    }
    return String(decoding: output, as: UTF8.self)
  }

  private func run(
    _ arguments: [String], within limit: Duration = limit
  ) async -> BoundedCommand.Outcome {
    let context = step.context.map { ["--context", $0] } ?? []
    return await BoundedCommand(
      executable: .name(program),
      arguments: Arguments(arguments + ["--namespace", step.namespace] + context),
      environment: .inherit.updating(BoundedCommand.withoutConnectionStrings), timeLimit: limit,
      outputLimit: 4 << 20
    ).run()
  }
}

extension KubernetesRolloutAction {
  /// Why a call gave no usable answer.
  struct Failure: Error, CustomStringConvertible {
    let call: String
    let why: String
    var isMissingProgram = false

    var description: String { "kubectl \(call): \(why)" }

    init(call: String, why: String) {
      self.call = call
      self.why = why
    }

    init(call: String, _ outcome: BoundedCommand.Outcome, limit: Duration = .zero) {
      self.call = call
      switch outcome {
      case .ended(let status, let output, let error):
        // What it waited for goes to the output, what ended it to the error stream.
        let lines = [BoundedCommand.lines(output).last, BoundedCommand.lines(error).last]
        let said = lines.compactMap(\.self).joined(separator: "; ")
        why = said.isEmpty ? "ended with \(status) and said nothing" : said
      case .timedOut: why = "gave no answer within \(limit)"
      case .cancelled: why = "was interrupted"
      case .failedToRun(let reason):
        why = "cannot be run: \(reason)"
        isMissingProgram = true
      }
    }
  }

  /// A workload, as far as it matters to a restart.
  struct Workload: Decodable {
    var spec: Spec

    struct Spec: Decodable {
      var paused: Bool?
      /// Of stateful and daemon sets.
      var updateStrategy: Strategy?
    }

    struct Strategy: Decodable { var type: String? }

    func hindrance(_ name: String) -> SwitchFinding? {
      if spec.paused == true {
        return .blocker(
          "\(name) is paused: it cannot be restarted.", "Resume its rollouts, or take it out of the step.")
      }
      guard spec.updateStrategy?.type == "OnDelete" else { return nil }
      return .blocker(
        "\(name) has the update strategy OnDelete: its pods stay until somebody deletes them.",
        "Take it out of the step, and replace its pods by a step exec.")
    }
  }
}
