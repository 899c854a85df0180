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
      guard scene.direction == .forward, try await isGroupOfTarget(scene) else { return [] }
      return [
        .blocker(
          "\(name) is the target's parameter group as well: the target would refuse writes.",
          "Give the target a group of its own.")
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
    let isTargets = turnsOn ? try await isGroupOfTarget(scene) : false
    guard !isTargets else {
      throw SwitchFailure("\(name) is the target's parameter group as well: nothing was changed")
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

  private func isGroupOfTarget(_ scene: SwitchScene) async throws -> Bool {
    let host = scene.target.host.lowercased()
    switch group {
    case .cluster(let name):
      let query = "DBClusters[].{hosts: [Endpoint, ReaderEndpoint], groups: [DBClusterParameterGroup]}"
      let clusters = try await aws.answer([User].self, ["rds", "describe-db-clusters", "--query", query])
      return clusters.contains { $0.uses(name, at: host) }
    case .instance(let name):
      let query = """
        DBInstances[].{hosts: [Endpoint.Address], groups: DBParameterGroups[].DBParameterGroupName}
        """
      let instances = try await aws.answer([User].self, ["rds", "describe-db-instances", "--query", query])
      return instances.contains { $0.uses(name, at: host) }
    }
  }
}

extension ParameterGroupAction {
  struct Parameter: Decodable { var value: String? }

  struct Takeover: Decodable {
    var group: String?
    var states: [String?]?
  }

  struct User: Decodable {
    /// Null while it is being made.
    var hosts: [String?]
    var groups: [String?]?

    func uses(_ group: String, at host: String) -> Bool {
      hosts.contains { $0?.lowercased() == host } && groups?.contains(group) == true
    }
  }
}
