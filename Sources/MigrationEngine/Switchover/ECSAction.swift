/// Step `ecs`: services are redeployed, so that their pools open new connections.
struct ECSAction: SwitchAction {
  private let step: SwitchStep.ECS
  private let aws: AWSCommand

  private static let pause = Duration.seconds(5)
  /// How many services one request may name.
  private static let batch = 10

  init(_ step: SwitchStep.ECS) {
    self.step = step
    aws = AWSCommand(profile: step.access.profile, region: step.access.region)
  }

  func examine(_ scene: SwitchScene) async -> [SwitchFinding] {
    await AWSLook.blockers {
      try await services().compactMap { service in
        if service.status != "ACTIVE" {
          return .blocker("Service \(service.name) is \(service.status).", "Take it out of the step.")
        }
        guard let controller = service.foreignController else { return nil }
        return .blocker(
          "Service \(service.name) has the deployment controller \(controller): only those of type ECS can "
            + "be deployed anew by force.",
          "Take it out of the step, and begin its deployment by a step exec.")
      }
    }
  }

  /// Forces deployments even if an earlier engine did: it is not known whether they are the same.
  func perform(_ scene: SwitchScene, until deadline: ContinuousClock.Instant) async throws -> String {
    for service in step.services {
      _ = try await aws.answer(
        Updated.self,
        [
          "ecs", "update-service", "--cluster", step.cluster, "--service", service,
          "--force-new-deployment", "--query", "{status: service.status}",
        ])
    }
    try await AWSWait.wait(until: deadline, every: Self.pause) {
      let services = try await services()
      if let failed = services.compactMap(\.failure).first { throw SwitchFailure(failed) }
      let unstable = services.filter { !$0.isStable }
      return unstable.isEmpty
        ? nil : "not stable yet: \(unstable.map(\.words).joined(separator: "; "))"
    }
    return "new deployments of \(step.services.joined(separator: ", ")) in \(step.cluster) are stable"
  }

  private func services() async throws -> [Service] {
    var all: [Service] = []
    var rest = step.services[...]
    while !rest.isEmpty {
      let some = Array(rest.prefix(Self.batch))
      rest = rest.dropFirst(some.count)
      let answer = try await aws.answer(
        Listing.self,
        ["ecs", "describe-services", "--cluster", step.cluster, "--services"] + some + [
          "--query", Self.query,
        ])
      if let failure = answer.failures.first {
        throw SwitchFailure("cluster \(step.cluster): \(failure.arn ?? "a service") is \(failure.reason)")
      }
      all += answer.services
    }
    return all
  }

  /// A service lists a hundred events; the newest says why it waits.
  private static let query = """
    {failures: failures[].{arn: arn, reason: reason}, services: services[].{name: serviceName, \
    status: status, controller: deploymentController.type, desired: desiredCount, \
    running: runningCount, deployments: deployments[].{status: status, rollout: rolloutState, \
    why: rolloutStateReason}, event: events[0].message}}
    """
}

extension ECSAction {
  struct Updated: Decodable { var status: String }

  struct Listing: Decodable {
    var failures: [Failure]
    var services: [Service]

    struct Failure: Decodable {
      var arn: String?
      var reason: String
    }
  }

  struct Service: Decodable, Equatable {
    var name: String
    var status: String
    /// Older answers lack it: then it is ECS.
    var controller: String?
    var desired: Int
    var running: Int
    var deployments: [Deployment]
    var event: String?

    struct Deployment: Decodable, Equatable {
      var status: String
      /// Nil where the service has another deployment controller.
      var rollout: String?
      var why: String?
    }

    var foreignController: String? { controller == "ECS" ? nil : controller }

    /// As in the AWS CLI's own `services-stable`.
    var isStable: Bool { deployments.count == 1 && running == desired && status == "ACTIVE" }

    var failure: String? {
      deployments.first { $0.rollout == "FAILED" }.map { "\(name): \($0.why ?? "its deployment failed")" }
    }

    var words: String {
      "\(name) has \(running) of \(desired) tasks running and \(deployments.count) deployments"
        + (event.map { ", its newest event is: \($0)" } ?? "")
    }
  }
}
