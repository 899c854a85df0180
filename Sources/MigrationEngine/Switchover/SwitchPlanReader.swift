import LibPQ
import Yams

/// Reads `replicate.yaml`. Strict: it refuses everything that it does not know, and reports it all at once.
package enum SwitchPlanReader {
  /// - Parameter environment: where `${NAME}` is looked up.
  package static func read(_ text: String, environment: [String: String]) throws(SwitchPlanErrors)
    -> SwitchPlan
  {
    let root: Node?
    do {
      root = try compose(yaml: text)
    } catch {
      throw SwitchPlanErrors(error)
    }
    let mistakes = PlanErrorList()
    let steps = steps(of: root, PlanText(environment: environment), mistakes)
    guard mistakes.all.isEmpty else { throw SwitchPlanErrors(mistakes: mistakes.all) }
    return SwitchPlan(steps: steps)
  }

  private static func steps(of root: Node?, _ variables: PlanText, _ mistakes: PlanErrorList) -> [SwitchStep]
  {
    guard let mapping = root?.mapping else {
      mistakes.add("the key switch with a list of steps is missing", in: "the file", at: root?.mark)
      return []
    }
    var fields = PlanFields(mapping, in: "the file", variables: variables, mistakes: mistakes)
    let list = fields.mappings("switch")
    fields.finish()
    return list.enumerated().compactMap { index, fields in step(fields, number: index + 1) }
  }

  private static func step(_ fields: PlanFields, number: Int) -> SwitchStep? {
    var fields = fields.called("step \(number)")
    guard let kind = fields.choice("step", among: kinds) else {
      if !fields.has("step") { fields.mistake("step is missing: it says what kind of step this is") }
      readUnknownKind(&fields)
      return nil
    }
    fields = fields.called("step \(number) (\(kind))")
    let name = fields.text("name")
    let timeLimit = fields.duration("timeout")
    let action = action(kind, &fields)
    fields.finish()
    return action.map { SwitchStep(name: name, timeLimit: timeLimit, action: $0) }
  }

  private static let kinds = [
    "pgbouncer",
    "route53",
    "ecs",
    "kubernetes-rollout",
    "rds-parameter-group",
    "rds-proxy-target",
    "secretsmanager",
    "ssm-parameter",
    "terminate-sessions",
    "try",
    "exec",
  ]

  /// Records what is wrong with a step whatever its kind is.
  private static func readUnknownKind(_ fields: inout PlanFields) {
    _ = fields.text("name")
    _ = fields.duration("timeout")
    for kind in kinds { fields.know { _ = action(kind, &$0) } }
    fields.checkTexts(besides: ["step", "name", "timeout"], commands: ["command", "repoint", "statement"])
    fields.finish("no kind of step has such a key")
  }

  private static func action(_ kind: String, _ fields: inout PlanFields) -> SwitchStep.Action? {
    switch kind {
    case "pgbouncer": return .pgBouncer(pgBouncer(&fields))
    case "route53": return route53(&fields).map { .route53($0) }
    case "ecs": return ecs(&fields).map { .ecs($0) }
    case "rds-parameter-group": return parameterGroup(&fields).map { .parameterGroup($0) }
    case "kubernetes-rollout": return kubernetesRollout(&fields).map { .kubernetesRollout($0) }
    case "rds-proxy-target": return proxyTarget(&fields).map { .proxyTarget($0) }
    case "secretsmanager": return secret(&fields).map { .secret($0) }
    case "ssm-parameter":
      let value = fields.text("value")
      let rollbackValue = fields.text("rollback-value")
      let access = access(&fields)
      return fields.text("parameter", isRequired: true).map {
        var step = SwitchStep.SSMParameter(parameter: $0, value: value, access: access)
        step.rollbackValue = rollbackValue
        return .ssmParameter(step)
      }
    case "terminate-sessions": return terminateSessions(&fields).map { .terminateSessions($0) }
    case "try": return trial(&fields).map { .trial($0) }
    default: return fields.text("command", isRequired: true, isExpanded: false).map { .exec($0) }
    }
  }

  // MARK: PgBouncer

  private static func pgBouncer(_ fields: inout PlanFields) -> SwitchStep.PgBouncer {
    var step = SwitchStep.PgBouncer(
      poolers: fields.mappings("poolers").compactMap(pooler), host: fields.text("host"),
      port: fields.number("port", in: 1...65535), database: fields.text("dbname"))
    step.rollbackHost = fields.text("rollback-host")
    step.rollbackPort = fields.number("rollback-port", in: 1...65535)
    step.rollbackDatabase = fields.text("rollback-dbname")
    return step
  }

  private static func pooler(_ fields: PlanFields) -> SwitchStep.Pooler? {
    var fields = fields
    let admin = fields.text("admin", isRequired: true)
    let database = fields.text("database", isRequired: true)
    let (hasFile, hasCommand) = (fields.has("config"), fields.has("repoint"))
    let file = fields.text("config")
    let command = fields.text("repoint", isExpanded: false)
    if hasFile == hasCommand {
      fields.mistake("give either config, the path of its file, or repoint, a command that changes it")
    }
    fields.finish()
    guard let database, let console = admin.flatMap({ console($0, &fields) }) else { return nil }
    let configuration = file.map(SwitchStep.Pooler.Configuration.file) ?? command.map { .command($0) }
    return configuration.map { SwitchStep.Pooler(admin: console, database: database, configuration: $0) }
  }

  private static func console(_ text: String, _ fields: inout PlanFields) -> ConnectionString? {
    connection(text, "admin", for: "admin console", &fields)?
      .settingDefault("port", to: "6432").settingDefault("dbname", to: "pgbouncer")
  }

  static func connection(
    _ text: String, _ key: String, for end: String, _ fields: inout PlanFields
  ) -> ConnectionString? {
    do {
      return try ConnectionString(text, for: end)
    } catch let error as PostgresError {
      fields.mistake("no connection string: \(error.message)", at: key)
    } catch {
      fields.mistake("no connection string", at: key)
    }
    return nil
  }

  // MARK: AWS

  static func access(_ fields: inout PlanFields) -> SwitchStep.AWSAccess {
    SwitchStep.AWSAccess(profile: fields.text("profile"), region: fields.text("region"))
  }

  private static func route53(_ fields: inout PlanFields) -> SwitchStep.Route53? {
    let zone = fields.text("zone", isRequired: true)
    let record = fields.text("record", isRequired: true)
    let type = fields.choice("type", among: ["CNAME", "A", "AAAA"])
    let hasTTL = fields.has("ttl")
    let ttl = fields.number("ttl", in: 0...2_147_483_647)
    let hasValue = fields.has("value")
    let value = fields.text("value")
    let isAlias = fields.has("alias-zone")
    let aliasZone = fields.text("alias-zone")
    let rollbackValue = fields.text("rollback-value")
    let rollbackAliasZone = fields.text("rollback-alias-zone")
    let access = access(&fields)
    if isAlias, hasTTL { fields.mistake("an alias record has no ttl of its own", at: "ttl") }
    if isAlias, type == "CNAME" || type == nil {
      fields.mistake("an alias record is of type A or AAAA", at: "alias-zone")
    }
    if let type, type != "CNAME", !hasValue, !isAlias {
      fields.mistake("value is missing: the target's host is a name, which only a CNAME can hold")
    }
    guard let zone, let record else { return nil }
    var step = SwitchStep.Route53(
      zone: zone, record: record, type: type ?? "CNAME", ttl: ttl ?? SwitchStep.Route53.defaultTTL,
      value: value, aliasZone: aliasZone, access: access)
    step.rollbackValue = rollbackValue
    step.rollbackAliasZone = rollbackAliasZone
    return step
  }

  private static func ecs(_ fields: inout PlanFields) -> SwitchStep.ECS? {
    let cluster = fields.text("cluster", isRequired: true)
    let services = fields.texts("services")
    let access = access(&fields)
    return cluster.map { SwitchStep.ECS(cluster: $0, services: services, access: access) }
  }

  private static func parameterGroup(_ fields: inout PlanFields) -> SwitchStep.ParameterGroup? {
    let (hasCluster, hasInstance) = (fields.has("cluster-group"), fields.has("instance-group"))
    let cluster = fields.text("cluster-group")
    let instance = fields.text("instance-group")
    let access = access(&fields)
    guard hasCluster != hasInstance else {
      fields.mistake("give either cluster-group (Aurora) or instance-group")
      return nil
    }
    let group = cluster.map(SwitchStep.ParameterGroup.Group.cluster) ?? instance.map { .instance($0) }
    return group.map { SwitchStep.ParameterGroup(group: $0, access: access) }
  }
}
