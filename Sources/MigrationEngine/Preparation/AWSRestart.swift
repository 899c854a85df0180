import LibPQ
import Logging

/// Aurora and RDS: the parameter group, then a reboot of the writer.
struct AWSRestart: ServerRestart {
  /// A parameter of the group.
  struct Parameter: Sendable, Equatable {
    var name: String
    /// Nil where the group does not say.
    var before: String?
    var value: String
  }

  let server: AWSServer
  let parameters: [Parameter]
  let acceptsSharedGroup: Bool
  let aws: AWSCommand

  /// - Throws: `AWSFailure`.
  static func plan(
    _ server: AWSServer, _ needs: [DecodingSettings.Need], acceptsSharedGroup: Bool, _ aws: AWSCommand
  ) async throws -> AWSRestart {
    let query = "Parameters[].{name: ParameterName, value: ParameterValue}"
    let arguments = [
      "rds", "describe-\(server.kind.parameters)", "--\(server.kind.group)-name", server.group, "--query",
      query,
    ]
    // What is in a default group cannot be changed, whatever it is.
    let known = isDefault(server.group) ? [] : try await aws.answer([Known].self, arguments)
    let parameters = needs.compactMap { need -> Parameter? in
      let isLevel = need.setting == "wal_level"
      let name = isLevel ? logicalReplication : need.setting
      let before = known.first { $0.name == name }?.value
      if isLevel, before == "1" || before == "on" { return nil }
      if !isLevel, let before, need.isMet(by: before) { return nil }
      return Parameter(name: name, before: before, value: isLevel ? "1" : need.needed)
    }
    return AWSRestart(
      server: server, parameters: parameters, acceptsSharedGroup: acceptsSharedGroup, aws: aws)
  }

  private static func isDefault(_ group: String) -> Bool { group.hasPrefix("default.") }

  static let logicalReplication = "rds.logical_replication"

  private struct Known: Decodable {
    var name: String
    var value: String?
  }

  // MARK: The plan

  var readySteps: [String] {
    parameters.isEmpty ? [] : ["aws " + modification(parameters).joined(separator: " ")]
  }

  var steps: [String] { ["aws " + reboot.joined(separator: " ")] }

  /// It goes down some time after the request.
  var grace: Duration? { nil }

  var findings: [Finding] {
    var findings: [Finding] = []
    if !parameters.isEmpty, Self.isDefault(server.group) { findings.append(defaultGroup) }
    if !parameters.isEmpty, !server.sharers.isEmpty {
      findings.append(
        Finding(
          acceptsSharedGroup ? .warning : .blocker, check: "shared_group",
          object: "parameter group \(server.group)",
          why: "It belongs to \(server.sharers.joined(separator: ", ")) as well: they would have the new "
            + "values from their next reboot on.",
          remedy: acceptsSharedGroup
            ? "Nothing to do, if they may." : "Give the source a group of its own, or give --shared-group."))
    }
    if !server.readers.isEmpty {
      findings.append(
        Finding(
          .note, check: "readers", object: "cluster \(server.id)",
          why:
            "Its readers (\(server.readers.joined(separator: ", "))) may restart together with the writer.",
          remedy: "Nothing to do."))
    }
    return findings
  }

  private var defaultGroup: Finding {
    let family = server.group.dropFirst("default.".count).prefix { $0 != ":" }
    let name = "\(server.id)-logical"
    let assignment =
      server.kind == .cluster
      ? "aws rds modify-db-cluster --db-cluster-identifier \(server.id)"
      : "aws rds modify-db-instance --db-instance-identifier \(server.id)"
    return Finding(
      .blocker, check: "default_group", object: "parameter group \(server.group)",
      why: "It is a default group, which cannot be changed.",
      remedy: """
        aws rds create-\(server.kind.group) --\(server.kind.group)-name \(name) \
        --db-parameter-group-family \(family) --description 'logical replication'
        \(assignment) --\(server.kind.group)-name \(name) --apply-immediately
        then run replicate prepare again.
        """)
  }

  // MARK: Doing it

  private func modification(_ parameters: [Parameter]) -> [String] {
    ["rds", "modify-\(server.kind.group)", "--\(server.kind.group)-name", server.group, "--parameters"]
      + parameters.map {
        "ParameterName=\($0.name),ParameterValue=\($0.value),ApplyMethod=pending-reboot"
      }
  }

  private var reboot: [String] { ["rds", "reboot-db-instance", "--db-instance-identifier", server.writer] }

  /// A writer that is rebooted before it knows of the change would come back without it.
  func makeReady(until deadline: ContinuousClock.Instant) async throws {
    guard !parameters.isEmpty else { return }
    // The answer contains only the group's name.
    _ = try await aws.answer([String: String].self, modification(parameters))
    do {
      try await wait("\(server.writer) to know of its group's change", until: deadline) {
        let state = try await groupState()
        return state == "pending-reboot" ? nil : "it is \(state)"
      }
    } catch {
      let why = error is CancellationError ? "interrupted" : "\(error)"
      // Also in a cancelled task.
      let state = await Task { await undo() }.value
      throw RestartFailure("\(why); \(state)", remedy: (error as? RestartFailure)?.remedy)
    }
  }

  private func groupState() async throws -> String {
    switch server.kind {
    case .cluster:
      let clusters = try await aws.answer([AWSServer.Cluster].self, AWSServer.clusterQuestion)
      let members = clusters.first { $0.id == server.id }?.members ?? []
      return members.first { $0.id == server.writer }?.status ?? "unknown"
    case .instance:
      let instances = try await aws.answer([AWSServer.Instance].self, AWSServer.instanceQuestion)
      let groups = instances.first { $0.id == server.id }?.groups ?? []
      return groups.first { $0.name == server.group }?.status ?? "unknown"
    }
  }

  func restart(_ source: Connection, until deadline: ContinuousClock.Instant) async throws {
    await source.close()
    let query = ["--query", "{state: DBInstance.DBInstanceStatus}"]
    _ = try await aws.answer([String: String?].self, reboot + query)
  }

  func settle(until deadline: ContinuousClock.Instant) async throws {
    try await wait("\(server.writer) to be available", until: deadline) {
      let instances = try await aws.answer([AWSServer.Instance].self, AWSServer.instanceQuestion)
      let state = instances.first { $0.id == server.writer }?.state ?? "unknown"
      return state == "available" ? nil : "it is \(state)"
    }
  }

  func undoReadying() async -> String { await undo() }

  func undo() async -> String {
    guard !parameters.isEmpty else { return "nothing was changed" }
    // Its default; of others the group had no value that could be written.
    let known = parameters.compactMap { parameter -> Parameter? in
      let before = parameter.before ?? (parameter.name == Self.logicalReplication ? "0" : nil)
      return before.map { Parameter(name: parameter.name, before: nil, value: $0) }
    }
    let rest = parameters.map(\.name).filter { name in !known.contains { $0.name == name } }
    do {
      if !known.isEmpty { _ = try await aws.answer([String: String].self, modification(known)) }
      if !rest.isEmpty {
        let words = rest.map { "ParameterName=\($0),ApplyMethod=pending-reboot" }
        _ = try await aws.answer(
          [String: String].self,
          ["rds", "reset-\(server.kind.group)", "--\(server.kind.group)-name", server.group, "--parameters"]
            + words)
      }
      return "parameter group \(server.group) is as it was before"
    } catch {
      return "parameter group \(server.group) could not be put back (\(error)): "
        + parameters.map(\.name).joined(separator: ", ")
    }
  }

  var withoutEffect: String { "AWS took the request to reboot \(server.writer), which was not rebooted" }

  var remedy: String {
    "See that \(server.writer) is available and that the AWS CLI may reboot it, then run replicate prepare "
      + "again."
  }

  var undoByHand: String {
    "Look at the events of \(server.writer): aws rds describe-events --source-type db-instance "
      + "--source-identifier \(server.writer)"
  }

  // MARK: Waiting

  private static let pause = Duration.seconds(2)

  /// - Parameter missing: one poll; returns what is still missing, nil when nothing is.
  private func wait(
    _ what: String, until deadline: ContinuousClock.Instant, _ missing: () async throws -> String?
  ) async throws {
    while let newest = try await missing() {
      guard .now + Self.pause < deadline else {
        throw RestartFailure("waiting for \(what): \(newest)", remedy: "Give a longer --timeout.")
      }
      try await Task.sleep(for: Self.pause)
    }
  }
}
