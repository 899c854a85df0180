extension SwitchPlanReader {
  static func secret(_ fields: inout PlanFields) -> SwitchStep.Secret? {
    let secret = fields.text("secret", isRequired: true)
    let field = fields.text("field", isRequired: true)
    let value = fields.text("value")
    let rollbackValue = fields.text("rollback-value")
    let access = access(&fields)
    guard let secret, let field else { return nil }
    return SwitchStep.Secret(
      secret: secret, field: field, value: value, access: access, rollbackValue: rollbackValue)
  }

  static func proxyTarget(_ fields: inout PlanFields) -> SwitchStep.ProxyTarget? {
    let proxy = fields.text("proxy", isRequired: true)
    let group = fields.text("target-group")
    let database = database(&fields, "")
    let rollbackDatabase = Self.database(&fields, "rollback-")
    let access = access(&fields)
    return proxy.map {
      SwitchStep.ProxyTarget(
        proxy: $0, group: group ?? SwitchStep.ProxyTarget.defaultGroup, database: database, access: access,
        rollbackDatabase: rollbackDatabase)
    }
  }

  private static func database(
    _ fields: inout PlanFields, _ prefix: String
  ) -> SwitchStep.ProxyTarget.Database? {
    let (hasCluster, hasInstance) = (fields.has("\(prefix)cluster"), fields.has("\(prefix)instance"))
    let cluster = fields.text("\(prefix)cluster")
    let instance = fields.text("\(prefix)instance")
    if hasCluster, hasInstance {
      fields.mistake("give \(prefix)cluster or \(prefix)instance, not both: a proxy has one database")
    }
    return cluster.map(SwitchStep.ProxyTarget.Database.cluster) ?? instance.map { .instance($0) }
  }

  static func kubernetesRollout(_ fields: inout PlanFields) -> SwitchStep.KubernetesRollout? {
    let namespace = fields.text("namespace", isRequired: true)
    let workloads = fields.texts("deployments").enumerated().compactMap { index, name -> String? in
      let workload = workload(name)
      if workload == nil {
        fields.mistake(
          "entry \(index + 1) is no workload: give a deployment's name, or deployment/name, "
            + "statefulset/name, daemonset/name", at: "deployments")
      }
      return workload
    }
    let context = fields.text("context")
    return namespace.map {
      SwitchStep.KubernetesRollout(namespace: $0, workloads: workloads, context: context)
    }
  }

  /// As kubectl takes it; names are those of DNS, so that none is taken for an option.
  private static func workload(_ text: String) -> String? {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
    let kind = parts.count == 1 ? "deployment" : parts[0]
    guard parts.count <= 2, ["deployment", "statefulset", "daemonset"].contains(kind),
      let name = parts.last, name.wholeMatch(of: /[a-z0-9]([-a-z0-9.]*[a-z0-9])?/) != nil
    else { return nil }
    return "\(kind)/\(name)"
  }
}
