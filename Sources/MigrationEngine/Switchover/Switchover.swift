import Logging

/// The switch steps, run in order once the target accepts writes: they move the application to it. One value
/// serves one cutover.
struct Switchover: Sendable {
  /// What the steps know about an end.
  struct End: Sendable, Codable {
    var host: String
    var port: String
    var database: String
    /// The address when it was reached; nil for a socket, or in the state of an older version.
    var address: String?
  }

  /// Reports while the steps run.
  struct Events: Sendable {
    /// A step has ended: its name, how long it took, and what it did.
    var onStep: @Sendable (_ step: String, Duration, _ detail: String) async -> Void
    /// Clients that waited in the poolers continue on the target.
    var onClientsResumed: @Sendable () async -> Void = {}
  }

  private let plan: SwitchPlan
  private let names: [String]
  private let actions: [any SwitchAction]
  private let scene: SwitchScene
  private let log: SwitchLog?
  private let logger: Logger

  /// - Parameters:
  ///   - scene: in a rollback its target is the end that writes move back to.
  ///   - log: records what is done; nil records nothing.
  ///   - watch: the command that resumes poolers if this process dies: see `PoolerWatch`.
  init(
    _ plan: SwitchPlan, in scene: SwitchScene, log: SwitchLog?, watch: PoolerWatch.Command? = nil,
    logger: Logger
  ) {
    self.plan = plan
    names = plan.names
    self.scene = scene.moving(plan)
    self.log = log
    self.logger = logger
    actions = plan.steps.map { step in
      switch step.action {
      case .pgBouncer(let step): PgBouncerAction(step, watch: watch, logger: logger)
      case .route53(let record): Route53Action(record, timeLimit: step.timeLimit)
      case .ecs(let step): ECSAction(step)
      case .parameterGroup(let step): ParameterGroupAction(step)
      case .ssmParameter(let step): SSMParameterAction(step)
      case .terminateSessions(let step): TerminateSessionsAction(step: step)
      case .trial(let step): TryAction(step: step)
      case .secret(let step): SecretsManagerAction(step)
      case .proxyTarget(let step): ProxyTargetAction(step)
      case .kubernetesRollout(let step): KubernetesRolloutAction(step)
      case .exec(let command): ExecAction(command: command, timeLimit: step.timeLimit)
      }
    }
  }

  private var poolerSteps: [(position: Int, action: PgBouncerAction)] {
    actions.enumerated().compactMap { position, action in
      (action as? PgBouncerAction).map { (position, $0) }
    }
  }

  // MARK: Before the cutover

  /// Checks whether the steps can work; changes nothing.
  /// - Returns: the steps' names with what was found, in order.
  func examine() async -> [(step: String, remark: SwitchFinding)] {
    let scene = scene
    let found = await withTaskGroup(of: (Int, [SwitchFinding]).self) { group in
      for (index, action) in actions.enumerated() {
        group.addTask { (index, await action.examine(scene)) }
      }
      return await group.reduce(into: [Int: [SwitchFinding]]()) { $0[$1.0] = $1.1 }
    }
    return actions.indices.flatMap { index in
      (late(index) + (found[index] ?? [])).map { ("step \(index + 1), \(names[index])", $0) }
    }
  }

  /// Checks whether clients can wait in the poolers while the end that they lead to restarts; changes
  /// nothing.
  /// - Returns: as `examine`.
  func examinePause() async -> [(step: String, remark: SwitchFinding)] {
    var remarks: [(step: String, remark: SwitchFinding)] = []
    for (position, action) in poolerSteps {
      for remark in await action.examinePause(scene) {
        remarks.append(("step \(position + 1), \(names[position])", remark))
      }
    }
    return remarks
  }

  /// The poolers, as reports call them.
  var poolerLabels: [String] { poolerSteps.map(\.action.label) }

  /// Clients wait in their pooler for everything that is done before they are resumed.
  private func late(_ index: Int) -> [SwitchFinding] {
    guard actions[index] is PgBouncerAction, index > 0, !(actions[index - 1] is PgBouncerAction) else {
      return []
    }
    return [
      .warning(
        "Its clients wait until the steps before it are done.",
        "Make the pgbouncer steps the first ones.")
    ]
  }

  /// In a rollback, before the fence: removes what would keep the end that writes move back to from accepting
  /// them, which may take minutes to take effect. That end's seal holds meanwhile.
  /// - Returns: what was done, by the steps' names.
  /// - Throws: `SwitchFailure`.
  func makeRoom() async throws -> [(step: String, detail: String)] {
    guard scene.direction == .back else { return [] }
    var said: [(step: String, detail: String)] = []
    for index in actions.indices where actions[index] is ParameterGroupAction {
      said.append((names[index], try await limited(actions[index], scene, plan.steps[index].timeLimit)))
    }
    return said
  }

  // MARK: Around the fence

  /// Makes the clients in all poolers wait, all at the same time.
  /// - Throws: `SwitchFailure`; then `resume` releases those already waiting.
  func pause(until deadline: ContinuousClock.Instant) async throws -> String {
    let steps = poolerSteps
    for (position, action) in steps {
      try await log?.store(.paused, of: position, definition(position), detail: action.label)
    }
    let began = ContinuousClock.now
    try await withThrowingTaskGroup(of: Void.self) { group in
      for (position, action) in steps {
        let limit = min(deadline, began + plan.steps[position].timeLimit)
        group.addTask { try await action.pause(until: limit) }
      }
      try await group.waitForAll()
    }
    return "clients wait in \(poolerLabels.joined(separator: ", "))"
  }

  /// The pids of server sessions with client transactions.
  func busyServers() async throws -> [Int32] {
    var pids: [Int32] = []
    for (_, action) in poolerSteps { pids += try await action.busyServers() }
    return pids
  }

  /// Lets the clients in all poolers continue on the end that these now lead to. No effect on those that do
  /// not wait.
  /// - Throws: `SwitchFailure` that names the poolers in which clients still wait, and what to do.
  func resume(within limit: Duration = .seconds(30)) async throws -> String {
    let deadline = ContinuousClock.now + limit
    var said: [String] = []
    var failures: [String] = []
    for (position, action) in poolerSteps {
      do {
        said.append(try await action.resume(until: deadline))
        await note(.undone, position, action.label)
      } catch {
        failures.append("\(error)")
      }
    }
    guard failures.isEmpty else { throw SwitchFailure(failures.joined(separator: "; ")) }
    return said.joined(separator: ", ")
  }

  // MARK: The steps

  /// Stops at the first step that fails: later ones may depend on it. Then clients waiting in a pooler are
  /// sent back to the source, where they can read.
  /// - Returns: what failed and what was therefore not run; nil when all went well.
  func performSteps(fenceLSN: String?, appliedLSN: String? = nil, _ events: Events) async -> String? {
    var scene = scene
    scene.fenceLSN = fenceLSN
    scene.appliedLSN = appliedLSN
    let lastPooler = poolerSteps.last?.position
    for index in actions.indices {
      let began = ContinuousClock.now
      do {
        let detail = try await perform(index, scene)
        await events.onStep(names[index], .now - began, detail)
        if index == lastPooler { await events.onClientsResumed() }
      } catch {
        await events.onStep(names[index], .now - began, "\(error)")
        let left = actions.count - index - 1
        let rest = left == 0 ? "" : "; \(left == 1 ? "the step" : "\(left) steps") after it not run"
        return "switch step \(names[index]) failed (\(error))\(rest)\(await letGo())"
      }
    }
    return nil
  }

  /// Unless an earlier engine has already done it.
  private func perform(_ index: Int, _ scene: SwitchScene) async throws -> String {
    if let said = await doneBefore(index) {
      return "done before the engine was started again\(said.isEmpty ? "" : ": \(said)")"
    }
    var scene = scene
    scene.noted = await notedBefore(index)
    scene.note = { await note(.running, index, $0) }
    await note(.running, index, scene.noted)
    do {
      let detail = try await limited(actions[index], scene, plan.steps[index].timeLimit)
      await note(.done, index, detail)
      return detail
    } catch {
      await note(.failed, index, "\(error)")
      throw error
    }
  }

  private func limited(
    _ action: any SwitchAction, _ scene: SwitchScene, _ limit: Duration
  ) async throws -> String {
    let deadline = ContinuousClock.now + limit
    // A step's own limit reports better what it waited for.
    return try await TimeLimit.cancelling(
      until: deadline + .seconds(1), or: SwitchFailure("took longer than \(limit)")
    ) { try await action.perform(scene, until: deadline) }
  }

  /// Also in a cancelled task.
  private func letGo() async -> String {
    guard !poolerSteps.isEmpty else { return "" }
    do {
      return "; \(try await Task { try await resume() }.value)"
    } catch {
      return "; \(error)"
    }
  }

  // MARK: The log

  private func definition(_ index: Int) -> String { SwitchDefinition(plan.steps[index].action).text }

  private func doneBefore(_ index: Int) async -> String? {
    do {
      return try await log?.done(index, definition(index))
    } catch {
      logger.warning(
        "a switch step may be run again", metadata: ["step": "\(names[index])", "why": "\(error)"])
      return nil
    }
  }

  /// What an earlier engine noted while this step was under way; empty when there was none.
  private func notedBefore(_ index: Int) async -> String {
    do {
      return try await log?.running(index, definition(index)) ?? ""
    } catch {
      logger.warning(
        "what an earlier engine noted of a switch step could not be read",
        metadata: ["step": "\(names[index])", "why": "\(error)"])
      return ""
    }
  }

  private func note(_ state: SwitchLog.State, _ index: Int, _ detail: String) async {
    do {
      try await log?.store(state, of: index, definition(index), detail: detail)
    } catch {
      logger.warning(
        "how far a switch step has come could not be noted",
        metadata: ["step": "\(names[index])", "why": "\(error)"])
    }
  }
}
