import Foundation
import LibPQ
import Testing

@testable import MigrationEngine

@Suite("Switch plan's file")
struct SwitchPlanReaderTests {
  private func read(_ text: String, _ environment: [String: String] = [:]) throws -> SwitchPlan {
    try SwitchPlanReader.read(text, environment: environment)
  }

  private func mistakes(_ text: String, _ environment: [String: String] = [:]) -> [String] {
    do {
      _ = try SwitchPlanReader.read(text, environment: environment)
      return []
    } catch {
      return error.mistakes
    }
  }

  @Test("Every kind of step is read, with all its keys and with the fewest")
  func everything() throws {
    let plan = try read(
      """
      # What leads the application to its new database.
      switch:
        - step: pgbouncer
          name: poolers
          timeout: 30s
          host: new.internal
          port: 5433
          dbname: app2
          poolers:
            - admin: host=10.0.0.5 user=admin password=${SECRET}
              database: app
              config: /etc/pgbouncer/pgbouncer.ini
            - admin: host=10.0.0.6 port=6433 dbname=console user=admin
              database: app
              repoint: ssh ${POOLER} repoint
        - { step: route53, zone: Z1, record: db.example.com }
        - { step: route53, zone: Z1, record: r, type: A, alias-zone: Z2, value: x.example, region: us-east-1 }
        - { step: ecs, cluster: production, services: [api, worker], profile: app }
        - { step: rds-parameter-group, cluster-group: old-cluster }
        - { step: rds-parameter-group, instance-group: old-instance }
        - { step: ssm-parameter, parameter: /app/host }
        - { step: exec, command: "echo ${REPLICATE_FENCE_LSN}", timeout: 5m }
        - { step: secretsmanager, secret: app/db, field: host }
        - { step: rds-proxy-target, proxy: app, instance: one, rollback-cluster: old, target-group: g }
        - { step: kubernetes-rollout, namespace: n, deployments: [api, statefulset/w], context: c }
      """, ["SECRET": "s3cret"])
    #expect(
      plan.names == [
        "poolers", "route53 1", "route53 2", "ecs", "rds-parameter-group 1", "rds-parameter-group 2",
        "ssm-parameter", "exec", "secretsmanager", "rds-proxy-target", "kubernetes-rollout",
      ])
    #expect(
      plan.steps.map(\.timeLimit.components.seconds)
        == [30, 300, 300, 900, 300, 300, 300, 300, 300, 300, 900])
    #expect(plan.pausesPoolers)
    guard case .pgBouncer(let pgBouncer) = plan.steps[0].action,
      case .route53(let record) = plan.steps[1].action, case .route53(let alias) = plan.steps[2].action,
      case .ecs(let ecs) = plan.steps[3].action, case .exec(let command) = plan.steps[7].action
    else {
      Issue.record("the kinds are mixed up")
      return
    }
    #expect(pgBouncer.poolers.map { $0.admin["password"] } == ["s3cret", nil])
    #expect(pgBouncer.poolers.map { $0.admin["port"] } == ["6432", "6433"])
    #expect(pgBouncer.poolers.map { $0.admin["dbname"] } == ["pgbouncer", "console"])
    #expect(pgBouncer.poolers.map(\.label) == ["PgBouncer 10.0.0.5:6432", "PgBouncer 10.0.0.6:6433"])
    #expect(pgBouncer.port == 5433)
    #expect(record.type == "CNAME" && record.ttl == 15 && record.value == nil)
    #expect(alias.aliasZone == "Z2" && alias.access.region == "us-east-1")
    #expect(ecs.services == ["api", "worker"] && ecs.access.profile == "app")
    #expect(command == "echo ${REPLICATE_FENCE_LSN}", "a command's variables are the shell's")
    guard case .secret(let secret) = plan.steps[8].action,
      case .proxyTarget(let proxy) = plan.steps[9].action,
      case .kubernetesRollout(let rollout) = plan.steps[10].action
    else {
      Issue.record("the kinds are mixed up")
      return
    }
    #expect(secret.secret == "app/db" && secret.field == "host" && secret.value == nil)
    #expect(proxy.database == .instance("one") && proxy.group == "g")
    #expect(proxy.exchanged.database == .cluster("old"))
    #expect(proxy.exchanged.rollbackDatabase == .instance("one"))
    #expect(rollout.workloads == ["deployment/api", "statefulset/w"] && rollout.context == "c")
  }

  @Test(
    "A rollback goes through the steps backwards, the poolers first, to where the file says or the source is")
  func exchanged() throws {
    let plan = try read(
      """
      switch:
        - step: pgbouncer
          host: new.internal
          port: 5433
          rollback-host: old.internal
          poolers: [{ admin: host=a, database: app, config: /ini }]
        - { step: route53, zone: Z1, record: a, value: new.example, rollback-value: old.example }
        - { step: route53, zone: Z1, record: b, value: new.example }
        - { step: secretsmanager, secret: s, field: f, value: new, rollback-value: old }
        - { step: ssm-parameter, parameter: /host, value: new, rollback-value: old }
        - { step: exec, command: ./announce }
      """
    ).exchanged
    #expect(
      plan.steps.map(\.action.kind)
        == ["pgbouncer", "exec", "ssm-parameter", "secretsmanager", "route53", "route53"])
    guard case .pgBouncer(let pgBouncer) = plan.steps[0].action,
      case .ssmParameter(let parameter) = plan.steps[2].action,
      case .secret(let secret) = plan.steps[3].action,
      case .route53(let second) = plan.steps[4].action, case .route53(let first) = plan.steps[5].action
    else {
      Issue.record("the kinds are mixed up")
      return
    }
    #expect(pgBouncer.host == "old.internal" && pgBouncer.port == nil)
    #expect(parameter.value == "old" && secret.value == "old" && first.value == "old.example")
    #expect(second.value == nil, "the source's host, not the target's name")
  }

  @Test("Each mistake is named with its step, its key and its line")
  func places() {
    let found = mistakes(
      """
      switch:
        - step: ecs
          cluster: production
          services: api
        - step: route53
          zone: Z1
          record: db
          ttl: soon
          ttll: 15
      """)
    #expect(
      found == [
        "step 1 (ecs), services (line 4): give a list",
        "step 2 (route53), ttl (line 8): give a whole number from 0 to 2147483647",
        "step 2 (route53), ttll (line 9): there is no such key; there are step, name, timeout, zone, record, "
          + "type, ttl, value, alias-zone, rollback-value, rollback-alias-zone, profile, region",
      ])
  }

  @Test(
    "What makes no step is refused",
    arguments: [
      ("", "the key switch"), ("[]", "the key switch"), ("switch:", "give a list"),
      ("switch: []", "the list is empty"), ("switch: [exec]", "give keys with values"),
      ("switch: [{step: exec, command: a}]\nmore: 1", "the file, more (line 2): there is no such key"),
      ("switch: [{name: x}]", "step is missing"), ("switch: [{step: dns}]", "give pgbouncer, route53"),
      ("switch: [{step: exec}]", "command is missing"),
      ("switch: [{step: exec, command: }]", "the value is missing"),
      ("switch: [{step: exec, command: ~}]", "the value is missing"),
      ("switch: [{step: exec, command: ' '}]", "the value is empty"),
      ("switch: [{step: exec, command: [a]}]", "give one value"),
      ("switch: [{step: exec, command: a, timeout: 5}]", "give it a unit"),
      ("switch: [{step: exec, command: a, timeout: 2h}]", "the units are"),
      ("switch: [{step: exec, command: a, name: yes}]", "put quotes around it"),
      ("switch: [{step: exec, command: a, command: b}]", "'command' is there twice"),
      ("switch: [{step: exec, 1: a, command: b}]", "1 (line 1): there is no such key"),
      ("switch: [{step: ecs, services: [a]}]", "cluster is missing"),
      ("switch: [{step: ecs, cluster: c}]", "services is missing"),
      ("switch: [{step: ecs, cluster: c, services: []}]", "the list is empty"),
      ("switch: [{step: ecs, cluster: c, services: [{a: b}]}]", "give one value"),
      ("switch: [{step: route53, record: r}]", "zone is missing"),
      ("switch: [{step: route53, zone: z}]", "record is missing"),
      ("switch: [{step: route53, zone: z, record: r, type: TXT}]", "give CNAME, A, AAAA"),
      ("switch: [{step: route53, zone: z, record: r, type: A}]", "value is missing"),
      ("switch: [{step: route53, zone: z, record: r, alias-zone: y}]", "of type A or AAAA"),
      ("switch: [{step: route53, zone: z, record: r, type: A, alias-zone: y, ttl: 5}]", "no ttl of its own"),
      ("switch: [{step: route53, zone: z, record: r, ttl: -1}]", "give a whole number"),
      ("switch: [{step: rds-parameter-group}]", "give either cluster-group"),
      ("switch: [{step: rds-parameter-group, cluster-group: a, instance-group: b}]", "give either"),
      ("switch: [{step: ssm-parameter}]", "parameter is missing"),
      ("switch: [{step: secretsmanager, field: f}]", "secret is missing"),
      ("switch: [{step: secretsmanager, secret: s}]", "field is missing"),
      ("switch: [{step: rds-proxy-target}]", "proxy is missing"),
      ("switch: [{step: rds-proxy-target, proxy: p, cluster: a, instance: b}]", "not both"),
      (
        "switch: [{step: rds-proxy-target, proxy: p, rollback-cluster: a, rollback-instance: b}]",
        "give rollback-cluster or rollback-instance"
      ),
      ("switch: [{step: kubernetes-rollout, deployments: [a]}]", "namespace is missing"),
      ("switch: [{step: kubernetes-rollout, namespace: n}]", "deployments is missing"),
      (
        "switch: [{step: kubernetes-rollout, namespace: n, deployments: [a, --all]}]",
        "entry 2 is no workload"
      ),
      ("switch: [{step: kubernetes-rollout, namespace: n, deployments: [pod/a]}]", "entry 1 is no workload"),
      ("switch: [{step: pgbouncer}]", "poolers is missing"),
      ("switch: [{step: pgbouncer, poolers: [{}]}]", "poolers 1 (line 1): admin is missing"),
      ("switch: [{step: pgbouncer, poolers: [{admin: 'host=a'}]}]", "database is missing"),
      ("switch: [{step: pgbouncer, poolers: [{admin: 'host=a', database: d}]}]", "give either config"),
      (
        "switch: [{step: pgbouncer, poolers: [{admin: 'host=a', database: d, config: c, repoint: r}]}]",
        "give either config"
      ),
      ("switch: [{step: pgbouncer, poolers: [{admin: 'hots=a', database: d, config: c}]}]", "\"hots\""),
      ("switch: [{step: pgbouncer, port: 0, poolers: [{admin: a=b}]}]", "give a whole number from 1"),
      ("switch: [", "line 2, column 1: this is no YAML"), ("switch:\n\t- a", "this is no YAML"),
    ])
  func refused(text: String, words: String) {
    let found = mistakes(text)
    #expect(found.contains { $0.contains(words) }, "\(found)")
  }

  @Test("All mistakes are named at once, across steps")
  func all() {
    let found = mistakes(
      """
      switch:
        - step: ecs
        - step: exec
        - step: ssm-parameter
          parameter: ${UNSET}
      """)
    #expect(found.count == 4, "\(found)")
  }

  @Test("A step of an unknown kind hides no other mistake, neither its own nor those of others")
  func unknownKind() {
    let found = mistakes(
      """
      switch:
        - step: rout53
          timeout: 2h
          zonee: Z1
          zone: ${UNSET}
          record: db.example.com
          services: [api, yes]
        - name: ${UNSET}
          command: echo ${HERE}
          poolers: [{ admin: "${THERE}", repoint: "echo ${HERE}" }]
        - step: ecs
          cluster: production
      """)
    #expect(found.count == 9, "\(found)")
    let places = [
      "step 1, step (line 2): give pgbouncer, route53, ecs, kubernetes-rollout, rds-parameter-group, ",
      "step 1, timeout (line 3): ", "step 1, zone (line 5): the environment has no variable UNSET",
      "step 1, services (line 7): 'yes' is yes or no",
      "step 1, zonee (line 4): no kind of step has such a key",
      "step 2 (line 8): step is missing", "step 2, name (line 8): the environment has no variable UNSET",
      "step 2, admin (line 10): the environment has no variable THERE",
      "step 3 (ecs) (line 11): services is missing",
    ]
    for (mistake, place) in zip(found, places) { #expect(mistake.hasPrefix(place), "\(mistake)") }
  }

  @Test("Variables that are unset, empty or misspelt are mistakes, and their values are never quoted")
  func variables() throws {
    func found(_ value: String) -> [String] {
      mistakes("switch: [{step: ssm-parameter, parameter: '\(value)'}]", ["SET": "x", "EMPTY": ""])
    }
    #expect(found("${SET}/${SET}") == [])
    #expect(found("$${SET} $SET {SET}") == [])
    #expect(found("${UNSET}").first?.contains("no variable UNSET") == true)
    #expect(found("${EMPTY}").first?.contains("EMPTY of the environment is empty") == true)
    #expect(found("${SET").first?.contains("no '}'") == true)
    #expect(found("${1X}").first?.contains("names no variable") == true)
    #expect(found("${}").first?.contains("names no variable") == true)
    #expect(found("${A}${B}").count == 2)
    #expect(PlanText(environment: ["A": "1"]).expanded("<$${A}${A}$>").text == "<${A}1$>")

    let secret = "switch: [{step: pgbouncer, poolers: [{admin: '${S}', database: d, config: c}]}]"
    let words = mistakes(secret, ["S": "host=a passwort=s3cret password=s3cret"])
    #expect(words.count == 1 && !words[0].contains("s3cret"), "\(words)")
    #expect(!mistakes("switch: [password: s3cret").contains { $0.contains("s3cret") })
  }

  @Test("The manual's example is a plan")
  func manual() throws {
    let root = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../..")
    let manual = try String(contentsOf: root.appending(path: "docs/SWITCH.md"), encoding: .utf8)
    let blocks = manual.split(separator: "```yaml\n").dropFirst()
    #expect(!blocks.isEmpty)
    for block in blocks {
      let plan = try read(
        String(block.prefix(upTo: try #require(block.firstRange(of: "```")).lowerBound)),
        ["PGBOUNCER_PASSWORD": "x", "WEB_PASSWORD": "x"])
      #expect(Set(plan.steps.map(\.action.kind)).count == 11, "it shows every kind of step")
    }
  }

  @Test("A step is distinguished from another by what it does, and its definition holds no secret")
  func definitions() throws {
    func definition(_ step: String) throws -> String {
      SwitchDefinition(try read("switch: [\(step)]").steps[0].action).text
    }
    let first = try definition("{step: exec, command: echo s3cret, name: a}")
    #expect(try first == definition("{step: exec, command: echo s3cret, timeout: 5s}"))
    #expect(try first != definition("{step: exec, command: echo other}"))
    #expect(first.hasPrefix("exec ") && !first.contains("s3cret"))
    let secret = try definition("{step: secretsmanager, secret: a, field: host, value: s3cret}")
    #expect(try secret != definition("{step: secretsmanager, secret: a, field: hostname, value: s3cret}"))
    #expect(secret.hasPrefix("secretsmanager ") && !secret.contains("s3cret"))
    #expect(
      try definition("{step: rds-proxy-target, proxy: a, cluster: b}")
        != definition("{step: rds-proxy-target, proxy: a, instance: b}"))
    #expect(
      try definition("{step: kubernetes-rollout, namespace: a, deployments: [b]}")
        == definition("{step: kubernetes-rollout, namespace: a, deployments: [deployment/b]}"))
  }
}
