/// Step `rds-parameter-group`: the old database's parameter group sets `default_transaction_read_only`, in
/// addition to the sealed fence.
struct ParameterGroupAction: SwitchAction {
  private static let parameter = "default_transaction_read_only"

  private let group: SwitchStep.ParameterGroup.Group
  private let aws: AWSCommand

  init(_ step: SwitchStep.ParameterGroup) {
    group = step.group
    aws = AWSCommand(profile: step.access.profile, region: step.access.region)
  }

  private var name: String {
    switch group {
    case .cluster(let name), .instance(let name): name
    }
  }

  func examine(_ scene: SwitchScene) async -> [SwitchFinding] {
    guard !name.hasPrefix("default.") else {
      return [
        .blocker(
          "\(name) is a default group, which cannot be changed.",
          "Give the old database a group of its own, or leave this step out: the fence stands without it.")
      ]
    }
    return await AWSLook.blockers {
      _ = try await value()
      guard scene.direction == .forward, let others = try await otherUsers(scene) else { return [] }
      return [
        .blocker(
          "\(others): what uses it would refuse writes.",
          "Give the old database a group of its own, or leave this step out: the fence stands without it.")
      ]
    }
  }

  func perform(_ scene: SwitchScene, until deadline: ContinuousClock.Instant) async throws -> String {
    let before = try await value()
    let wasOn = before == "1" || before == "on"
    // In a rollback this is the end that accepts writes again.
    let turnsOn = scene.direction == .forward
    let word = turnsOn ? "on" : "off"
    guard wasOn != turnsOn else {
      if !turnsOn { try await waitUntilTakenOver(until: deadline) }
      return "\(Self.parameter) was \(word) already in \(name)"
    }
    if turnsOn, let others = try await otherUsers(scene) {
      throw SwitchFailure("\(others): nothing was changed")
    }
    let arguments =
      switch group {
      case .cluster(let name):
        ["modify-db-cluster-parameter-group", "--db-cluster-parameter-group-name", name]
      case .instance(let name): ["modify-db-parameter-group", "--db-parameter-group-name", name]
      }
    let change = "ParameterName=\(Self.parameter),ParameterValue=\(turnsOn ? 1 : 0),ApplyMethod=immediate"
    // The answer contains only the group's name.
    _ = try await aws.answer([String: String].self, ["rds"] + arguments + ["--parameters", change])
    guard turnsOn else {
      try await waitUntilTakenOver(until: deadline)
      return "\(Self.parameter) is off in \(name), and its instances have taken that over"
    }
    return "\(Self.parameter) is \(word) in \(name); instances take it over within minutes"
  }

  /// Until then new sessions on the end that accepts writes again could only read.
  private func waitUntilTakenOver(until deadline: ContinuousClock.Instant) async throws {
    try await AWSWait.wait(until: deadline, every: Self.pause) {
      let states = Set(try await states().filter { $0 != "in-sync" })
      let words = states.sorted().joined(separator: ", ")
      return states.isEmpty ? nil : "\(Self.parameter) is off in \(name), but its instances are \(words)"
    }
  }

  private static let pause = Duration.seconds(2)

  /// For each instance that uses the group: `in-sync` once it has the group's values.
  private func states() async throws -> [String] {
    let arguments: [String]
    switch group {
    case .cluster:
      let query = """
        DBClusters[].{group: DBClusterParameterGroup,
          states: DBClusterMembers[].DBClusterParameterGroupStatus}
        """
      arguments = ["describe-db-clusters", "--query", query]
    case .instance:
      let query = """
        DBInstances[].DBParameterGroups[].{group: DBParameterGroupName, states: [ParameterApplyStatus]}
        """
      arguments = ["describe-db-instances", "--query", query]
    }
    return try await aws.answer([Takeover].self, ["rds"] + arguments)
      .filter { $0.group == name }.flatMap { $0.states ?? [] }.compactMap(\.self)
  }

  /// Nil when the group does not set it.
  private func value() async throws -> String? {
    let arguments =
      switch group {
      case .cluster(let name): ["describe-db-cluster-parameters", "--db-cluster-parameter-group-name", name]
      case .instance(let name): ["describe-db-parameters", "--db-parameter-group-name", name]
      }
    let query = "Parameters[?ParameterName=='\(Self.parameter)'].{value: ParameterValue}"
    return try await aws.answer([Parameter].self, ["rds"] + arguments + ["--query", query]).first?.value
  }

  /// Which others than the source's own have the group, in words; nil: none.
  private func otherUsers(_ scene: SwitchScene) async throws -> String? {
    let all = try await RDSDatabases(askedOf: aws)
    guard all.isUsed(group) else { return nil }
    let own = await all.own(of: scene.source, besides: scene.target)
    let target = await all.own(of: scene.target, besides: scene.source)
    return all.others(using: group, than: own, target: target, source: scene.source.host)
  }
}

extension RDSDatabases {
  func isUsed(_ group: SwitchStep.ParameterGroup.Group) -> Bool { !users(of: group).isEmpty }

  private func users(of group: SwitchStep.ParameterGroup.Group) -> [Database] {
    switch group {
    case .cluster(let name): clusters.filter { $0.uses(name) }
    case .instance(let name): instances.filter { $0.uses(name) }
    }
  }

  /// - Parameters:
  ///   - own: what may use the group.
  ///   - target: named as such.
  func others(
    using group: SwitchStep.ParameterGroup.Group, than own: Own, target: Own, source: String
  ) -> String? {
    let (kind, name, mine, theirs) =
      switch group {
      case .cluster(let name): ("cluster", name, own.clusters, target.clusters)
      case .instance(let name): ("instance", name, own.instances, target.instances)
      }
    let others = users(of: group).map(\.id).filter { !mine.contains($0) }.sorted()
    guard !others.isEmpty else { return nil }
    let words = others.map { "\(kind) \($0)\(theirs.contains($0) ? " (the target)" : "")" }
      .joined(separator: ", ")
    return own.isEmpty
      ? "\(name) is used by \(words), and nothing shows that this is the source, \(source)"
      : "\(name) is used by others than the source: \(words)"
  }
}

extension RDSDatabases.Database {
  fileprivate func uses(_ group: String) -> Bool { groups?.contains(group) == true }
}

extension ParameterGroupAction {
  struct Parameter: Decodable { var value: String? }

  struct Takeover: Decodable {
    var group: String?
    var states: [String?]?
  }
}
