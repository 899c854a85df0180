/// Step `rds-proxy-target`: an RDS Proxy leads to the target. A proxy has one database, so the old one is
/// taken away before the new one is given to it: meanwhile its clients wait.
struct ProxyTargetAction: SwitchAction {
  typealias Database = SwitchStep.ProxyTarget.Database

  private let step: SwitchStep.ProxyTarget
  private let aws: AWSCommand

  private static let pause = Duration.seconds(3)
  /// What passes by itself, while the proxy lets go of the old database.
  private static let passing: Set = ["InvalidDBProxyStateFault", "DBProxyTargetAlreadyRegisteredFault"]

  init(_ step: SwitchStep.ProxyTarget) {
    self.step = step
    aws = AWSCommand(profile: step.access.profile, region: step.access.region)
  }

  func examine(_ scene: SwitchScene) async -> [SwitchFinding] {
    await AWSLook.blockers {
      guard let proxy = try await proxies().first else {
        throw SwitchFailure("there is no proxy \(step.proxy)")
      }
      if let finding = proxy.hindrance(step.proxy) { return [finding] }
      let all = try await RDSDatabases(askedOf: aws)
      let wanted = try await wanted(scene, all)
      guard all.has(wanted) else {
        return [.blocker("There is no \(wanted.words).", "Correct the step, or its profile and region.")]
      }
      let targets = try await targets()
      guard let old = await own(of: scene.source, besides: scene.target, step.rollbackDatabase, all),
        let stranger = targets.strangers(besides: [wanted, old]).first
      else { return [] }
      return [
        .blocker(
          "Proxy \(step.proxy) leads to \(stranger.words), which is neither the source nor the target.",
          "Correct the step: it would take that database away from the proxy's clients.")
      ]
    }
  }

  func perform(_ scene: SwitchScene, until deadline: ContinuousClock.Instant) async throws -> String {
    let wanted =
      if let named = step.database { named } else { try await wanted(scene, RDSDatabases(askedOf: aws)) }
    let before = try await targets()
    let old = before.strangers(besides: [wanted])
    if !old.isEmpty {
      try await aws.order(["rds", "deregister-db-proxy-targets"] + target + Self.options(old))
    }
    let wasThere = before.has(wanted)
    try await AWSWait.wait(until: deadline, every: Self.pause) {
      let targets = try await targets()
      guard !targets.has(wanted) else { return targets.missing(wanted) }
      return try await register(wanted)
    }
    let from = old.isEmpty ? "" : ", no longer to \(old.map(\.words).joined(separator: ", "))"
    let already = wasThere && old.isEmpty ? "already " : ""
    return "proxy \(step.proxy) leads \(already)to \(wanted.words)\(from)"
  }

  /// - Returns: what is still missing.
  private func register(_ wanted: Database) async throws -> String {
    do {
      _ = try await aws.answer(
        Registered.self,
        ["rds", "register-db-proxy-targets"] + target + Self.options([wanted]) + [
          "--query", "{targets: DBProxyTargets[].RdsResourceId}",
        ])
      return "\(wanted.words) is registered with proxy \(step.proxy), and not AVAILABLE yet"
    } catch let error as AWSFailure where Self.passing.contains(error.code ?? "") {
      return "\(error)"
    }
  }

  private var target: [String] { ["--db-proxy-name", step.proxy, "--target-group-name", step.group] }

  private static func options(_ databases: [Database]) -> [String] {
    func option(_ name: String, _ ids: [String]) -> [String] { ids.isEmpty ? [] : [name] + ids }
    return option("--db-cluster-identifiers", databases.compactMap(\.clusterID))
      + option("--db-instance-identifiers", databases.compactMap(\.instanceID))
  }

  // MARK: What is there

  private func wanted(_ scene: SwitchScene, _ all: RDSDatabases) async throws -> Database {
    guard let found = await own(of: scene.target, besides: scene.source, step.database, all) else {
      throw SwitchFailure(
        "no cluster and no instance that the AWS CLI sees here has the endpoint \(scene.target.host): the "
          + "step must name it, by \(scene.direction == .forward ? "" : "rollback-")cluster or "
          + "\(scene.direction == .forward ? "" : "rollback-")instance")
    }
    return found
  }

  private func own(
    of end: Switchover.End, besides other: Switchover.End, _ named: Database?, _ all: RDSDatabases
  ) async -> Database? {
    if let named { return named }
    return await all.own(of: end, besides: other).database
  }

  private func proxies() async throws -> [Proxy] {
    try await aws.answer(
      [Proxy].self,
      [
        "rds", "describe-db-proxies", "--db-proxy-name", step.proxy, "--query",
        "DBProxies[].{status: Status, family: EngineFamily}",
      ])
  }

  private func targets() async throws -> Targets {
    Targets(
      all: try await aws.answer(
        [Target].self, ["rds", "describe-db-proxy-targets"] + target + ["--query", Target.query]))
  }
}

extension ProxyTargetAction {
  struct Registered: Decodable { var targets: [String?]? }

  struct Proxy: Decodable {
    var status: String
    var family: String

    func hindrance(_ name: String) -> SwitchFinding? {
      if family != "POSTGRESQL" {
        return .blocker("Proxy \(name) is one for \(family).", "Name one for POSTGRESQL.")
      }
      return status == "available"
        ? nil : .blocker("Proxy \(name) is \(status).", "Wait until it is available, or mend it.")
    }
  }

  struct Target: Decodable, Equatable {
    static let query = """
      Targets[].{id: RdsResourceId, type: Type, cluster: TrackedClusterId, role: Role, \
      state: TargetHealth.State, reason: TargetHealth.Reason, why: TargetHealth.Description}
      """

    var id: String
    /// `TRACKED_CLUSTER`, `RDS_INSTANCE`
    var type: String
    /// Of an instance that comes with its cluster.
    var cluster: String?
    var role: String?
    var state: String?
    var reason: String?
    var why: String?

    var words: String {
      "\(id) is \(state ?? "in no known state")"
        + [reason, why].compactMap(\.self).map { ", \($0)" }.joined()
    }
  }

  /// What a target group holds. The instances of a cluster come and go with it.
  struct Targets: Equatable {
    var all: [Target]

    var databases: [Database] {
      let clusters = all.filter { $0.type == "TRACKED_CLUSTER" }.map { Database.cluster($0.id) }
      guard clusters.isEmpty else { return clusters }
      return all.filter { $0.cluster == nil }.map { .instance($0.id) }
    }

    func has(_ database: Database) -> Bool { databases.contains(database) }

    func strangers(besides known: [Database]) -> [Database] { databases.filter { !known.contains($0) } }

    /// Nil when the writer can be reached.
    func missing(_ database: Database) -> String? {
      let others = strangers(besides: [database])
      guard others.isEmpty else {
        return "\(others.map(\.words).joined(separator: ", ")) is not let go of yet"
      }
      // A cluster's own entry need not have a state; its instances have.
      let instances = all.filter { $0.type == "RDS_INSTANCE" && $0.role != "READ_ONLY" }
      let judged = instances.isEmpty ? all : instances
      guard !judged.contains(where: { $0.state == "AVAILABLE" }) else { return nil }
      return "\(database.words) is registered, but \(judged.map(\.words).joined(separator: "; "))"
    }
  }
}

extension SwitchStep.ProxyTarget.Database {
  var words: String {
    switch self {
    case .cluster(let id): "cluster \(id)"
    case .instance(let id): "instance \(id)"
    }
  }

  fileprivate var clusterID: String? { if case .cluster(let id) = self { id } else { nil } }
  fileprivate var instanceID: String? { if case .instance(let id) = self { id } else { nil } }
}

extension RDSDatabases {
  fileprivate func has(_ database: SwitchStep.ProxyTarget.Database) -> Bool {
    switch database {
    case .cluster(let id): clusters.contains { $0.id == id }
    case .instance(let id): instances.contains { $0.id == id }
    }
  }
}

extension RDSDatabases.Own {
  /// What a proxy is told of it: the cluster, where there is one.
  fileprivate var database: SwitchStep.ProxyTarget.Database? {
    if let cluster = clusters.sorted().first { return .cluster(cluster) }
    return reached.sorted().first.map { .instance($0) }
  }
}
