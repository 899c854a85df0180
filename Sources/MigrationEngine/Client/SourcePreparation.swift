import LibPQ
package import Logging

/// Enables logical decoding on the source: settings that take effect with a restart, the restart, and clients
/// that wait in their poolers meanwhile.
package struct SourcePreparation: Sendable {
  private let request: PreparationRequest
  private let logger: Logger

  /// Connects to nothing yet.
  package init(_ request: PreparationRequest, logger: Logger) {
    self.request = request
    self.logger = logger
  }

  /// Looks at the source and at what would restart it, and changes nothing.
  /// - Throws: `PostgresError` when the source cannot be reached.
  package func examine() async throws -> PreparationPlan {
    let source = try await open()
    return try await closing(source) { try await look(source).plan }
  }

  /// Does what `examine` says, after another look. Clients of the poolers go on afterwards, whatever becomes
  /// of the restart; once that has begun, cancelling the task does not interrupt it.
  /// - Throws: `MigrationError` that says what the server is like now; with kind `.blocked` when nothing was
  ///   touched.
  package func perform() async throws -> PreparationReport {
    let source = try await open()
    return try await closing(source) {
      let scene = try await look(source)
      guard !scene.plan.missing.isEmpty else { return PreparationReport(settings: []) }
      let blockers = scene.plan.findings.filter { $0.severity == .blocker }
      guard let restart = scene.restart, blockers.isEmpty else {
        throw MigrationError(
          .blocked, doing: "preparing the source",
          reason: blockers.isEmpty
            ? "nothing says how to restart its server" : blockers.map(\.why).joined(separator: "\n  "),
          remedy: blockers.isEmpty
            ? "Give --restart-command." : blockers.map(\.remedy).joined(separator: "\n  "))
      }
      return try await PreparationRun(
        request: request, scene: scene, restart: restart, source: source, logger: logger
      ).perform()
    }
  }

  private func open() async throws -> Connection {
    try await Session.open(request.source, end: "source", purpose: "prepare")
  }

  // MARK: The look

  /// What was seen of the source.
  struct Scene: Sendable {
    var plan: PreparationPlan
    /// Nil when nothing says how to restart.
    var restart: (any ServerRestart)?
    /// Nil when no pooler is in the plan.
    var poolers: Switchover?
    var mayCheckpoint: Bool
  }

  private func look(_ source: Connection) async throws -> Scene {
    let needs = try await DecodingSettings.read(from: source).needs
    let about = try await about(source)
    var plan = PreparationPlan(
      database: about.database, serverVersion: about.version,
      missing: needs.map { PreparationPlan.Setting(name: $0.setting, now: $0.now, needed: $0.needed) })
    guard !needs.isEmpty else { return Scene(plan: plan, mayCheckpoint: false) }
    let settings = try await ServerSettings.read(needs.map(\.setting), from: source)
    plan.pending = settings.pending
    plan.cost = try await RestartCost.read(from: source)
    plan.findings = try await obstacles(source, needs, about)
    let end = try await SwitchSteps.end(source)
    let (restart, refusals) = await restart(needs, settings, end)
    plan.findings += refusals + (restart?.findings ?? [])
    if let restart {
      plan.steps = restart.readySteps + (about.mayCheckpoint ? ["CHECKPOINT;"] : []) + restart.steps
    }
    if restart is CommandRestart {
      for index in plan.missing.indices { plan.missing[index].isStored = settings.isStored(needs[index]) }
    }
    let poolers = poolers(of: end)
    if let poolers {
      plan.poolers = poolers.poolerLabels
      plan.findings += SwitchSteps.findings(await poolers.examinePause())
    }
    plan.findings = Preflight.inOrder(plan.findings)
    return Scene(plan: plan, restart: restart, poolers: poolers, mayCheckpoint: about.mayCheckpoint)
  }

  private struct About {
    var database: String
    var version: String
    var isStandby: Bool
    var mayCheckpoint: Bool
    /// Of an engine of ours that is at work on the source.
    var engine: String?
  }

  private func about(_ source: Connection) async throws -> About {
    // A role of that name came with 15; before, only a superuser may.
    let may =
      try await source.has(.parameterPrivileges)
      ? "pg_catalog.pg_has_role('pg_checkpoint', 'USAGE')" : "false"
    let rows = try await source.query(
      """
      SELECT pg_catalog.current_database() AS database,
        pg_catalog.current_setting('server_version') AS version,
        pg_catalog.pg_is_in_recovery() AS is_standby, \(may) AS may_checkpoint,
        (SELECT pg_catalog.min(pid) FROM pg_catalog.pg_stat_activity
          WHERE datname = pg_catalog.current_database() AND application_name IN ('replicate engine',
            'replicate apply', 'replicate monitor', 'replicate cutover', 'replicate stream')) AS engine
      """, doing: "asking the source who it is", within: .seconds(15))
    guard let row = rows.first else {
      throw MigrationError(.failed, doing: "asking the source who it is", reason: "it gave no answer")
    }
    let isSuperuser = try await source.isSuperuser()
    return About(
      database: try row.text("database"),
      version: Status.End.shortVersion(try row.text("version")),
      isStandby: try row.bool("is_standby"),
      mayCheckpoint: try row.bool("may_checkpoint") || isSuperuser,
      engine: try row.optional("engine"))
  }

  private func obstacles(
    _ source: Connection, _ needs: [DecodingSettings.Need], _ about: About
  ) async throws -> [Finding] {
    var findings = try await Preflight.SeveralServers.examine(source, request.source)
    if findings.isEmpty { findings += try await Preflight.Pooler.examine(source, request.source) }
    if about.isStandby {
      findings.append(
        Finding(
          .blocker, check: "recovery", object: "source", why: "It is a standby.",
          remedy: "Give --source the server that takes writes."))
    }
    if let engine = about.engine {
      findings.append(
        Finding(
          .blocker, check: "engine", object: "source",
          why: "An engine is at work on it (pid \(engine)), and a restart would interrupt it.",
          remedy: "Stop the engine first (SIGTERM); replicate start goes on afterwards."))
    }
    if needs.contains(where: { $0.setting == "max_wal_senders" }) {
      let standbys = try await source.query(
        "SELECT pg_catalog.count(*) AS standbys FROM pg_catalog.pg_stat_replication ",
        doing: "looking for standbys of the source", within: .seconds(15))
      if try standbys.first?.integer("standbys", as: Int.self) ?? 0 > 0 {
        findings.append(
          Finding(
            .warning, check: "standbys", object: "source",
            why: "A standby whose max_wal_senders is less than its primary's stops replaying.",
            remedy: "Raise max_wal_senders on its standbys first, and restart them."))
      }
    }
    return findings
  }

  private func restart(
    _ needs: [DecodingSettings.Need], _ settings: ServerSettings, _ end: Switchover.End
  ) async -> (restart: (any ServerRestart)?, findings: [Finding]) {
    if let command = request.restartCommand {
      let variables = [
        "REPLICATE_SOURCE_HOST": end.host, "REPLICATE_SOURCE_PORT": end.port,
        "REPLICATE_SOURCE_DATABASE": end.database,
      ]
      let restart = CommandRestart(
        command: RestartCommand(text: command, variables: variables, logger: logger), needs: needs,
        settings: settings, source: request.source)
      return (restart, [])
    }
    let names = await AWSEndpoint.names(of: end.host)
    guard request.asksAWS || names.contains(where: AWSEndpoint.matches) else { return (nil, []) }
    do {
      return (try await awsRestart(names, needs), [])
    } catch let failure as RestartFailure {
      return (nil, [refusal(failure.description, failure.remedy ?? "Restart it by hand.")])
    } catch {
      return (
        nil,
        [
          refusal(
            "\(error)",
            "See that the AWS CLI is installed, has credentials and a region here, and may make "
              + "this call.")
        ]
      )
    }
  }

  private func refusal(_ why: String, _ remedy: String) -> Finding {
    Finding(.blocker, check: "aws", object: "source", why: why, remedy: remedy)
  }

  private func awsRestart(
    _ names: [String], _ needs: [DecodingSettings.Need]
  ) async throws -> any ServerRestart {
    var aws = AWSCommand()
    aws.region = names.lazy.compactMap { AWSEndpoint.region(of: $0) }.first
    if let global = names.first(where: AWSEndpoint.isGlobal) {
      throw RestartFailure(
        "\(global) is the endpoint of a global cluster",
        remedy: "Give --source the endpoint of its writer's regional cluster.")
    }
    guard let server = try await AWSServer.find(names, aws) else {
      throw RestartFailure(
        "no cluster and no instance that the AWS CLI sees here has the endpoint "
          + names.joined(separator: ", which leads to "),
        remedy: "Give --source the endpoint itself, and the AWS CLI its account and region.")
    }
    return try await AWSRestart.plan(server, needs, acceptsSharedGroup: request.acceptsSharedGroup, aws)
  }

  private func poolers(of end: Switchover.End) -> Switchover? {
    guard request.switchPlan.pausesPoolers else { return nil }
    let steps = request.switchPlan.steps.filter { $0.action.kind == "pgbouncer" }
    return Switchover(
      SwitchPlan(steps: steps), in: SwitchScene(source: end, target: end), log: nil,
      watch: request.poolerWatch.map { PoolerWatch.Command(path: $0.path, arguments: $0.arguments) },
      logger: logger)
  }
}
