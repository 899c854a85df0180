import LibPQ

/// The steps that move the application to the target once it accepts writes, in order. A plain value: checked
/// when it is read, performed by `Switchover`.
package struct SwitchPlan: Sendable {
  /// In the order they are performed.
  package var steps: [SwitchStep]

  /// An empty plan does nothing.
  package init(steps: [SwitchStep] = []) { self.steps = steps }

  /// What reports call the steps: the user's names, else the kind, numbered where a kind occurs more than
  /// once.
  var names: [String] {
    let kinds = steps.map(\.action.kind)
    return steps.indices.map { index in
      if let name = steps[index].name { return name }
      let kind = kinds[index]
      guard kinds.filter({ $0 == kind }).count > 1 else { return kind }
      return "\(kind) \(kinds[...index].filter { $0 == kind }.count)"
    }
  }

  /// The steps of a rollback: in reverse order, except that those in which clients wait stay first. They lead
  /// to the end that was left, so settings for the target no longer apply.
  var exchanged: SwitchPlan {
    let back = steps.reversed().map(\.exchanged)
    func waits(_ step: SwitchStep) -> Bool { step.action.kind == "pgbouncer" }
    return SwitchPlan(steps: back.filter(waits) + back.filter { !waits($0) })
  }

  /// Clients wait in PgBouncer from before the fence until they are sent to the target.
  var pausesPoolers: Bool { steps.contains { $0.action.kind == "pgbouncer" } }
}

/// One entry of the plan.
package struct SwitchStep: Sendable {
  /// What the user calls it; nil: its kind.
  package var name: String?
  /// After this the step counts as failed, and what it runs is killed.
  var timeLimit: Duration
  /// What is done.
  package var action: Action

  /// - Parameter timeLimit: nil where the user gives none: as long as such a step usually takes at most.
  package init(name: String? = nil, timeLimit: Duration? = nil, action: Action) {
    self.name = name
    self.timeLimit = timeLimit ?? action.defaultTimeLimit
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
    case .trial(var trial):
      trial.connection = trial.rollbackConnection
      step.action = .trial(trial)
    case .secret(let secret): step.action = .secret(secret.exchanged)
    case .proxyTarget(let target): step.action = .proxyTarget(target.exchanged)
    case .ecs, .parameterGroup, .kubernetesRollout, .terminateSessions, .exec: break
    }
    return step
  }

  /// The kinds of steps.
  package enum Action: Sendable {
    /// Clients wait in PgBouncer during the write pause and continue on the target.
    case pgBouncer(PgBouncer)
    /// A DNS record of Amazon Route 53 is pointed at the target.
    case route53(Route53)
    /// Services of Amazon ECS are redeployed.
    case ecs(ECS)
    /// The old database is made read-only by its parameter group.
    case parameterGroup(ParameterGroup)
    /// A parameter of AWS Systems Manager names the target.
    case ssmParameter(SSMParameter)
    /// The application's sessions on the old end are ended.
    case terminateSessions(TerminateSessions)
    /// A session as the application's is tried.
    case trial(Trial)
    /// A field of a secret of AWS Secrets Manager names the target.
    case secret(Secret)
    /// An Amazon RDS Proxy leads to the target.
    case proxyTarget(ProxyTarget)
    /// Workloads of Kubernetes are restarted.
    case kubernetesRollout(KubernetesRollout)
    /// A command for `/bin/sh -c`.
    case exec(String)

    /// As the plan file calls it.
    package var kind: String {
      switch self {
      case .pgBouncer: "pgbouncer"
      case .route53: "route53"
      case .ecs: "ecs"
      case .parameterGroup: "rds-parameter-group"
      case .ssmParameter: "ssm-parameter"
      case .terminateSessions: "terminate-sessions"
      case .trial: "try"
      case .secret: "secretsmanager"
      case .proxyTarget: "rds-proxy-target"
      case .kubernetesRollout: "kubernetes-rollout"
      case .exec: "exec"
      }
    }

    /// Where new tasks are started and old ones drained, minutes pass.
    var defaultTimeLimit: Duration {
      switch self {
      case .ecs, .kubernetesRollout: .seconds(900)
      case .pgBouncer, .route53, .parameterGroup, .ssmParameter, .secret, .proxyTarget, .terminateSessions,
        .trial, .exec:
        .seconds(300)
      }
    }
  }

  /// Where PgBouncers are to send their clients; nil: where we reach the target ourselves.
  package struct PgBouncer: Sendable {
    var poolers: [Pooler]
    /// Nil: as we reach the target ourselves.
    package var host: String?
    var port: Int?
    /// Nil: as we reach the target ourselves.
    package var database: String?
    // Where a rollback sends them; nil: where we reach the source ourselves.
    var rollbackHost: String?
    var rollbackPort: Int?
    var rollbackDatabase: String?

    init(poolers: [Pooler], host: String? = nil, port: Int? = nil, database: String? = nil) {
      self.poolers = poolers
      self.host = host
      self.port = port
      self.database = database
    }
  }

  struct Pooler: Sendable {
    /// How the database's line is changed.
    enum Configuration: Sendable {
      /// The path of the file that holds it.
      case file(String)
      /// A command for `/bin/sh -c` that changes it.
      case command(String)
    }

    /// The admin console.
    var admin: ConnectionString
    /// As PgBouncer's clients call it.
    var database: String
    var configuration: Configuration

    var label: String { "PgBouncer \(admin["host"] ?? "localhost"):\(admin["port"] ?? "")" }
  }

  /// The account and region, where they differ from those of the environment.
  struct AWSAccess: Sendable, Equatable {
    var profile: String?
    var region: String?
  }

  /// A DNS record, and what it is to hold.
  package struct Route53: Sendable {
    static let defaultTTL = 15

    var zone: String
    var record: String
    /// `CNAME`, `A` or `AAAA`.
    var type: String
    /// In seconds; an alias record has none of its own.
    var ttl: Int
    /// Nil: the target's host.
    package var value: String?
    /// Makes it an alias record: the hosted zone that `value` lies in.
    var aliasZone: String?
    var access: AWSAccess
    /// What it holds after a rollback; nil: the source's host.
    var rollbackValue: String?
    /// The hosted zone that `rollbackValue` lies in.
    var rollbackAliasZone: String?

    init(
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

  /// Services whose tasks are replaced.
  package struct ECS: Sendable {
    var cluster: String
    var services: [String]
    var access: AWSAccess

    init(cluster: String, services: [String], access: AWSAccess = AWSAccess()) {
      self.cluster = cluster
      self.services = services
      self.access = access
    }
  }

  /// The parameter group that makes the server that was left read-only.
  package struct ParameterGroup: Sendable {
    enum Group: Sendable, Equatable {
      /// A DB cluster parameter group, as Aurora has it.
      case cluster(String)
      /// A DB parameter group.
      case instance(String)
    }

    var group: Group
    var access: AWSAccess

    init(group: Group, access: AWSAccess = AWSAccess()) {
      self.group = group
      self.access = access
    }
  }

  /// Whose sessions are ended; empty lists stand for all.
  package struct TerminateSessions: Sendable {
    static let defaultGrace = Duration.seconds(5)

    var roles: [String] = []
    /// Addresses or networks that they come from.
    var addresses: [String] = []
    /// How long sessions may go on with what they are doing.
    var grace = defaultGrace
  }

  /// A session as the application opens it.
  package struct Trial: Sendable {
    /// Nil in a rollback without one of its own: nothing is tried then.
    var connection: ConnectionString?
    var statement = "SELECT 1"
    /// What is tried in a rollback.
    var rollbackConnection: ConnectionString?
  }

  /// A parameter that gets another value.
  package struct SSMParameter: Sendable {
    var parameter: String
    /// Nil: the target's host.
    package var value: String?
    var access: AWSAccess
    /// What it holds after a rollback; nil: the source's host.
    var rollbackValue: String?

    init(parameter: String, value: String? = nil, access: AWSAccess = AWSAccess()) {
      self.parameter = parameter
      self.value = value
      self.access = access
    }
  }
}
