package import LibPQ

/// The steps that lead the application to the target once it takes writes, in order. A plain value: checked
/// when it was read, performed by `Switchover`.
package struct SwitchPlan: Sendable {
  package var steps: [SwitchStep]

  package init(steps: [SwitchStep] = []) { self.steps = steps }

  /// What reports call the steps: the names that the user gave, else the kind, with a number where a kind
  /// comes more than once.
  package var names: [String] {
    let kinds = steps.map(\.action.kind)
    return steps.indices.map { index in
      if let name = steps[index].name { return name }
      let kind = kinds[index]
      guard kinds.filter({ $0 == kind }).count > 1 else { return kind }
      return "\(kind) \(kinds[...index].filter { $0 == kind }.count)"
    }
  }

  /// The steps of a rollback: in reverse order, but those in which clients wait stay the first; they lead to
  /// the end that was left, so what was given of the target holds no more.
  package var exchanged: SwitchPlan {
    let back = steps.reversed().map(\.exchanged)
    func waits(_ step: SwitchStep) -> Bool { step.action.kind == "pgbouncer" }
    return SwitchPlan(steps: back.filter(waits) + back.filter { !waits($0) })
  }

  /// Clients wait in PgBouncer from before the fence until they are led to the target.
  package var pausesPoolers: Bool { steps.contains { $0.action.kind == "pgbouncer" } }
}

package struct SwitchStep: Sendable {
  package static let defaultTimeLimit = Duration.seconds(300)

  package var name: String?
  /// After it the step counts as failed, and what it runs is killed.
  package var timeLimit: Duration
  package var action: Action

  package init(name: String? = nil, timeLimit: Duration = defaultTimeLimit, action: Action) {
    self.name = name
    self.timeLimit = timeLimit
    self.action = action
  }

  fileprivate var exchanged: SwitchStep {
    var step = self
    switch action {
    case .pgBouncer(var pgBouncer):
      pgBouncer.host = pgBouncer.rollbackHost
      pgBouncer.port = pgBouncer.rollbackPort
      pgBouncer.database = pgBouncer.rollbackDatabase
      step.action = .pgBouncer(pgBouncer)
    case .route53(var record):
      record.value = record.rollbackValue
      record.aliasZone = record.rollbackAliasZone
      step.action = .route53(record)
    case .ssmParameter(var parameter):
      parameter.value = parameter.rollbackValue
      step.action = .ssmParameter(parameter)
    case .ecs, .parameterGroup, .exec: break
    }
    return step
  }

  package enum Action: Sendable {
    case pgBouncer(PgBouncer)
    case route53(Route53)
    case ecs(ECS)
    case parameterGroup(ParameterGroup)
    case ssmParameter(SSMParameter)
    /// A command for `/bin/sh -c`.
    case exec(String)

    /// As the plan's file calls it.
    package var kind: String {
      switch self {
      case .pgBouncer: "pgbouncer"
      case .route53: "route53"
      case .ecs: "ecs"
      case .parameterGroup: "rds-parameter-group"
      case .ssmParameter: "ssm-parameter"
      case .exec: "exec"
      }
    }
  }

  /// Where PgBouncers are to lead their clients; nil: where we reach the target ourselves.
  package struct PgBouncer: Sendable {
    package var poolers: [Pooler]
    package var host: String?
    package var port: Int?
    package var database: String?
    // Where a rollback leads them; nil: where we reach the source ourselves.
    package var rollbackHost: String?
    package var rollbackPort: Int?
    package var rollbackDatabase: String?

    package init(poolers: [Pooler], host: String? = nil, port: Int? = nil, database: String? = nil) {
      self.poolers = poolers
      self.host = host
      self.port = port
      self.database = database
    }
  }

  package struct Pooler: Sendable {
    /// How the line of the database is changed.
    package enum Configuration: Sendable {
      /// The path of the file that holds it.
      case file(String)
      /// A command for `/bin/sh -c` that changes it.
      case command(String)
    }

    /// The admin console.
    package var admin: ConnectionString
    /// As PgBouncer's clients call it.
    package var database: String
    package var configuration: Configuration

    package init(admin: ConnectionString, database: String, configuration: Configuration) {
      self.admin = admin
      self.database = database
      self.configuration = configuration
    }

    package var label: String { "PgBouncer \(admin["host"] ?? "localhost"):\(admin["port"] ?? "")" }
  }

  /// Which account and region, where they are not those of the environment.
  package struct AWSAccess: Sendable, Equatable {
    package var profile: String?
    package var region: String?

    package init(profile: String? = nil, region: String? = nil) {
      self.profile = profile
      self.region = region
    }
  }

  package struct Route53: Sendable {
    package static let defaultTTL = 15

    package var zone: String
    package var record: String
    /// `CNAME`, `A` or `AAAA`.
    package var type: String
    /// In seconds; an alias record has none of its own.
    package var ttl: Int
    /// Nil: the target's host.
    package var value: String?
    /// Makes it an alias record: the hosted zone that `value` lies in.
    package var aliasZone: String?
    package var access: AWSAccess
    /// What it holds after a rollback; nil: the source's host.
    package var rollbackValue: String?
    /// The hosted zone that `rollbackValue` lies in.
    package var rollbackAliasZone: String?

    package init(
      zone: String, record: String, type: String = "CNAME", ttl: Int = defaultTTL, value: String? = nil,
      aliasZone: String? = nil, access: AWSAccess = AWSAccess()
    ) {
      self.zone = zone
      self.record = record
      self.type = type
      self.ttl = ttl
      self.value = value
      self.aliasZone = aliasZone
      self.access = access
    }
  }

  package struct ECS: Sendable {
    package var cluster: String
    package var services: [String]
    package var access: AWSAccess

    package init(cluster: String, services: [String], access: AWSAccess = AWSAccess()) {
      self.cluster = cluster
      self.services = services
      self.access = access
    }
  }

  package struct ParameterGroup: Sendable {
    package enum Group: Sendable, Equatable {
      /// A DB cluster parameter group, as Aurora has it.
      case cluster(String)
      /// A DB parameter group.
      case instance(String)
    }

    package var group: Group
    package var access: AWSAccess

    package init(group: Group, access: AWSAccess = AWSAccess()) {
      self.group = group
      self.access = access
    }
  }

  package struct SSMParameter: Sendable {
    package var parameter: String
    /// Nil: the target's host.
    package var value: String?
    package var access: AWSAccess
    /// What it holds after a rollback; nil: the source's host.
    package var rollbackValue: String?

    package init(parameter: String, value: String? = nil, access: AWSAccess = AWSAccess()) {
      self.parameter = parameter
      self.value = value
      self.access = access
    }
  }
}
