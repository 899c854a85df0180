import LibPQ
import Logging

/// The switch steps, for preflight, which examines them, and for the cutover.
struct SwitchSteps: Sendable {
  var direction = Direction.forward
  /// In a rollback with the ends exchanged: `target` is the end that the steps switch to.
  let options: MigrationOptions
  let ends: Endpoints
  let logger: Logger

  /// - Parameters:
  ///   - log: nil only to examine.
  ///   - request: of the cutover that is about to begin.
  func switchover(_ log: SwitchLog?, for request: CutoverRequest? = nil) async throws -> Switchover {
    Self.switchover(
      options, direction, source: try await Self.end(ends.source), target: try await Self.end(ends.target),
      for: request, log, logger)
  }

  static func switchover(
    _ options: MigrationOptions, _ direction: Direction = .forward, source: Switchover.End,
    target: Switchover.End, for request: CutoverRequest? = nil, isSourceLost: Bool = false,
    _ log: SwitchLog?, _ logger: Logger
  ) -> Switchover {
    var scene = SwitchScene(direction: direction, source: source, target: target)
    scene.connections = (left: options.source, next: options.target)
    scene.isAttempt = log != nil || request != nil
    if let request { scene.timeoutSeconds = request.timeoutSeconds }
    scene.isLeftLost = isSourceLost
    return Switchover(
      options.switchPlan, in: scene, log: log,
      watch: options.poolerWatch.map { PoolerWatch.Command(path: $0.path, arguments: $0.arguments) },
      logger: logger)
  }

  /// What preflight reports about the steps.
  func findings(for request: CutoverRequest? = nil) async throws -> [Finding] {
    guard !options.switchPlan.steps.isEmpty else { return [] }
    return Self.findings(try await switchover(nil, for: request).examine())
  }

  static func findings(_ remarks: [(step: String, remark: SwitchFinding)]) -> [Finding] {
    remarks.map { step, remark in
      let severity: Finding.Severity =
        switch remark.severity {
        case .note: .note
        case .warning: .warning
        case .blocker: .blocker
        }
      return Finding(severity, check: "switch", object: step, why: remark.why, remedy: remark.remedy)
    }
  }

  /// - Parameter store: where warnings are recorded for the report.
  /// - Throws: `MigrationError` when a step could not do its job.
  func verify(_ store: StateStore, for request: CutoverRequest) async throws {
    let findings = try await findings(for: request)
    for finding in findings where finding.severity == .warning {
      logger.warning("\(finding.object): \(finding.why)", metadata: ["remedy": "\(finding.remedy)"])
      try await store.note("warning of the switch: \(finding.object): \(finding.why)")
    }
    let blockers = findings.filter { $0.severity == .blocker }
    guard blockers.isEmpty else {
      throw MigrationError(
        .failed, doing: "examining the switch steps",
        reason: blockers.map { "\($0.object): \($0.why)" }.joined(separator: "\n  "),
        remedy: blockers.map(\.remedy).joined(separator: "\n  "))
    }
  }

  /// An engine started without the poolers in its plan cannot resume their clients.
  func warnOfPausedPoolers(_ log: SwitchLog) async throws {
    try await Self.warnOfPausedPoolers(log, options, logger)
  }

  static func warnOfPausedPoolers(
    _ log: SwitchLog, _ options: MigrationOptions, _ logger: Logger
  ) async throws {
    let labels = options.switchPlan.steps.flatMap { step in
      if case .pgBouncer(let step) = step.action { step.poolers.map(\.label) } else { [] as [String] }
    }
    let forgotten = try await log.paused().filter { paused in
      !paused.split(separator: ", ").allSatisfy { labels.contains(String($0)) }
    }
    for label in forgotten {
      logger.error(
        "poolers were paused by an engine that ended, and they are not in this engine's plan",
        metadata: ["poolers": "\(label)", "remedy": "start it with the same plan, or RESUME them by hand"])
    }
  }

  static func end(_ connection: Connection) async throws -> Switchover.End {
    let rows = try await connection.query(
      "SELECT pg_catalog.current_database() AS name", doing: "asking the \(connection.end) for its name",
      within: .seconds(15))
    let peer = try await connection.peer()
    return Switchover.End(
      host: peer.host, port: peer.port, database: try rows.first?.text("name") ?? "",
      address: peer.address.isEmpty ? nil : peer.address)
  }
}
