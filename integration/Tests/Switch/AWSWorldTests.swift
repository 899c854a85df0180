import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// AWS steps among what else there is in an account, by the `aws` program and against an emulator.
@Suite(
  .serialized, .servers(about: 180), .timeLimit(.minutes(6)),
  .enabled(if: Moto.isInstalled, "needs moto_server and aws"))
struct AWSWorldTests {
  @Test("Records of another type, with set identifiers, or with a long TTL are found before the cutover")
  func records() async throws {
    let account = try await World.shared
    try await account.record("typed", #""Type":"A","TTL":60,"#, to: "10.0.0.1")
    try await account.record(
      "set", #""Type":"CNAME","SetIdentifier":"blue","Weight":1,"TTL":60,"#, to: "old.example")
    try await account.record("long", #""Type":"CNAME","TTL":300,"#, to: "old.example")
    try await account.record("both", #""Type":"A","TTL":5,"#, to: "10.0.0.1")
    try await account.record("both", #""Type":"AAAA","TTL":5,"#, to: "fd00::1")
    @Sendable func steps(_ names: [String], _ more: String = "") -> String {
      "switch:\n"
        + names.map { "  - { step: route53, zone: \(account.zone), record: \($0).example.com\(more) }\n" }
        .joined()
    }
    let both = steps(["both"], ", type: A, value: 10.0.0.2").dropFirst("switch:\n".count)
    try await account.moto.scene("awsrecords", account.new) { scene in
      let check = try await scene.replicate.run(
        "check", "--config", try await planFile(steps(["typed", "set", "long"]) + both))
      #expect(check.exitCode == 3, "\(check.output)\(check.errors)")
      for words in [
        "typed.example.com has a record of type A", "set identifiers (blue)", "live 300 s (TTL)",
        "timeout: 360s",
        "both.example.com has a record of type AAAA as well",
      ] {
        #expect(unwrapped(check.output).contains(words), "\(words) is not in \(check.output)")
      }
      // What is advised.
      let longer = try await scene.replicate.run(
        "check", "--config", try await planFile(steps(["long"], ", timeout: 360s")))
      #expect(longer.exitCode == 0, "\(longer.output)\(longer.errors)")
      #expect(
        unwrapped(longer.output).contains("Lower the TTL of long.example.com to 15 s at least 300 s before"))
      try await account.record("long", #""Type":"CNAME","TTL":15,"#, to: "old.example")
      let lowered = try await scene.replicate.run("check", "--config", try await planFile(steps(["long"])))
      #expect(lowered.exitCode == 0 && !lowered.output.contains("long.example.com"), "\(lowered.output)")
    }
  }

  @Test("The steps after a record begin once its old answer has died, also where the engine died meanwhile")
  func waits() async throws {
    let account = try await World.shared
    try await account.record("wait", #""Type":"CNAME","TTL":2,"#, to: "old.example")
    try await account.record("crash", #""Type":"CNAME","TTL":9,"#, to: "old.example")
    try await account.moto.scene("awswaits", account.new) { scene in
      let times = try await freshDirectory() + "/times"
      let now = "date +%s.%N >>\(times)"
      let plan = try await planFile(
        """
        switch:
          - { step: exec, name: before, command: "\(now)" }
          - { step: route53, name: short, zone: \(account.zone), record: wait.example.com, ttl: 1 }
          - { step: exec, name: after, command: "\(now)" }
          - { step: route53, name: long, zone: \(account.zone), record: crash.example.com }
        """)
      let engine = try await scene.replicate.start("start", "--no-reverse", "--config", plan)
      try await scene.waitUntilReady(engine)
      let cutover = try await scene.replicate.start("cutover", "--yes")
      try await cutover.waitUntil("the second record to be changed", within: .seconds(60)) {
        try await account.record("crash").hasSuffix(account.new)
      }
      engine.kill9()
      _ = try await engine.waitForEnd(within: .seconds(10))
      let next = try await scene.replicate.start("start", "--no-reverse", "--config", plan)
      #expect(try await next.waitForEnd(within: .seconds(60)) == 0, "\(next.errors)")
      let report = try #require(try await scene.status().cutover)
      func detail(_ step: String) -> String { report.timeline.first { $0.step == step }?.detail ?? "" }
      #expect(
        detail("short")
          == "done before the engine was started again: wait.example.com points to \(account.new), INSYNC; "
          + "waited 2 s, the TTL of the old answer")
      #expect(
        detail("long")
          == "crash.example.com pointed already to \(account.new), INSYNC; "
          + "waited 9 s, the TTL of the old answer")
      let text = String(decoding: FileManager.default.contents(atPath: times) ?? Data(), as: UTF8.self)
      let moments = text.split(separator: "\n").compactMap { Double($0) }
      try #require(moments.count == 2, "\(text)")
      #expect(moments[1] - moments[0] >= 2, "the step after it has waited: \(moments)")
    }
  }

  @Test("Services of other controllers and parameter groups that others use are refused, and who is named")
  func users() async throws {
    let account = try await World.shared
    try await account.moto.scene("awsusers", account.new, sourceHost: account.old) { scene in
      let check = try await scene.replicate.run(
        "check", "--config",
        try await planFile(
          """
          switch:
            - { step: ecs, cluster: production, services: [blue] }
            - { step: rds-parameter-group, cluster-group: own-cluster }
            - { step: rds-parameter-group, cluster-group: shared-cluster }
            - { step: rds-parameter-group, instance-group: own-instance }
            - { step: rds-parameter-group, instance-group: shared-instance }
          """))
      #expect(check.exitCode == 3, "\(check.output)\(check.errors)")
      for words in [
        "Service blue has the deployment controller CODE_DEPLOY",
        "shared-cluster is used by others than the source: cluster third:",
        "shared-instance is used by others than the source: instance stranger:",
      ] {
        #expect(unwrapped(check.output).contains(words), "\(words) is not in \(check.output)")
      }
      #expect(!check.output.contains("own-"), "\(check.output)")
    }
  }

  @Test("A group that others come to use between the check and the step is not changed")
  func late() async throws {
    let account = try await World.shared
    try await account.moto.scene("awslate", account.new, sourceHost: account.old) { scene in
      let use = """
        aws rds create-db-cluster --db-cluster-identifier late --engine aurora-postgresql \
        --master-username u --master-user-password pppppppp --query DBCluster.Status \
        --db-cluster-parameter-group-name unused-cluster
        """
      let plan = try await planFile(
        """
        switch:
          - { step: exec, command: "\(use)" }
          - { step: rds-parameter-group, cluster-group: unused-cluster }
        """)
      let engine = try await scene.replicate.start("start", "--no-reverse", "--config", plan)
      try await scene.waitUntilReady(engine)
      let cutover = try await scene.replicate.run("cutover", "--yes")
      #expect(cutover.exitCode == 1, "\(cutover.output)\(cutover.errors)")
      let reason = try #require(try await scene.status().cutover?.reason)
      #expect(
        reason.contains(
          "unused-cluster is used by others than the source: cluster late: nothing was changed"),
        "\(reason)")
      let value = try await account.moto.aws(
        "rds", "describe-db-cluster-parameters", "--db-cluster-parameter-group-name", "unused-cluster",
        "--query", "length(Parameters[?ParameterName=='default_transaction_read_only'])")
      #expect(value == "0")
    }
  }

  @Test("A secret's field and a proxy are led over and back; the secret shows nowhere")
  func led() async throws {
    let account = try await World.shared
    let log = try await freshDirectory() + "/log"
    let path = try await pathWith(
      "aws",
      """
      #!/bin/sh
      echo "$0 $* ${REPLICATE_SOURCE:+given a password}" >>\(log)
      PATH=${PATH#*:} exec aws "$@"
      """)
    let text = #"{ "username":"app","password":"s3c/r\u00e9t", "host" : "old.example" ,"port":5432 }"#
    try await account.moto.aws(
      "secretsmanager", "create-secret", "--name", "app/db", "--secret-string", text)
    try await account.proxy("app")
    try await account.moto.aws(
      "rds", "register-db-proxy-targets", "--db-proxy-name", "app", "--db-cluster-identifiers", "old")
    @Sendable func expectHost(_ host: String, cluster: String) async throws {
      #expect(try await account.secret("app/db") == text.replacing("old.example", with: host))
      let targets = try await account.moto.aws(
        "rds", "describe-db-proxy-targets", "--db-proxy-name", "app", "--query", "Targets[].RdsResourceId")
      #expect(targets == cluster)
    }
    try await account.moto.scene("awsled", account.new, sourceHost: account.old, path: path) { scene in
      let plan = try await planFile(
        """
        switch:
          - { step: secretsmanager, name: secret, secret: app/db, field: host }
          - { step: secretsmanager, name: again, secret: app/db, field: host }
          - { step: rds-proxy-target, name: proxy, proxy: app, cluster: new }
          - { step: rds-proxy-target, name: proxy again, proxy: app }
        """)
      let engine = try await scene.replicate.start("start", "--config", plan)
      try await scene.waitUntilReady(engine)
      let cutover = try await scene.replicate.run("cutover", "--yes")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
      let report = try #require(try await scene.status().cutover)
      func detail(_ step: String) -> String { report.timeline.first { $0.step == step }?.detail ?? "" }
      #expect(detail("secret").hasPrefix("host of app/db holds it in version "))
      #expect(detail("again") == "host of app/db held it already")
      #expect(detail("proxy") == "proxy app leads to cluster new, no longer to cluster old")
      #expect(detail("proxy again") == "proxy app leads already to cluster new")
      try await expectHost(account.new, cluster: "new")
      try await Running(scene: scene, engine: engine).waitForStream()
      let rollback = try await scene.replicate.run("rollback", "--yes")
      #expect(rollback.exitCode == 0, "\(rollback.output)\(rollback.errors)\(engine.errors)")
      try await expectHost(account.old, cluster: "old")
      let said = engine.errors + cutover.output + cutover.errors + rollback.output + rollback.errors
      #expect(!said.contains("s3c"))
    }
    let calls = String(decoding: FileManager.default.contents(atPath: log) ?? Data(), as: UTF8.self)
    #expect(calls.contains("put-secret-value") && !calls.contains("s3c"), "\(calls)")
    #expect(!calls.contains("given a password"), "connection strings are not for it: \(calls)")
  }

  @Test("Secrets and proxies that the steps cannot lead over are found before the cutover")
  func hindered() async throws {
    let account = try await World.shared
    let secrets = [
      ("plain", "old.example"), ("list", "[1]"), ("other", #"{"dbhost": "old"}"#),
      ("nested", #"{"host": {"name": "old"}}"#), ("rotated", #"{"host": "old"}"#),
    ]
    for (name, text) in secrets {
      try await account.moto.aws("secretsmanager", "create-secret", "--name", name, "--secret-string", text)
    }
    try await account.moto.aws(
      "secretsmanager", "rotate-secret", "--secret-id", "rotated", "--rotation-rules",
      "AutomaticallyAfterDays=30")
    for (name, cluster) in [("strange", "third"), ("empty", "old")] {
      try await account.proxy(name)
      try await account.moto.aws(
        "rds", "register-db-proxy-targets", "--db-proxy-name", name, "--db-cluster-identifiers", cluster)
    }
    try await account.proxy("mysql", family: "MYSQL")
    try await account.moto.scene("awshindered", account.new, sourceHost: account.old) { scene in
      let check = try await scene.replicate.run(
        "check", "--config",
        try await planFile(
          (secrets.map { "secretsmanager, secret: \($0.0), field: host" } + [
            "secretsmanager, secret: missing, field: host", "rds-proxy-target, proxy: nowhere",
            "rds-proxy-target, proxy: mysql", "rds-proxy-target, proxy: strange",
            "rds-proxy-target, proxy: empty, instance: nobody",
          ]).reduce("switch:\n") { "\($0)  - { step: \($1) }\n" }))
      #expect(check.exitCode == 3, "\(check.output)\(check.errors)")
      for words in [
        "Secret plain is no JSON object", "Secret list is no JSON object", "Secret other has no field host",
        "Field host of secret nested", "Secret rotated is being rotated", "ResourceNotFoundException",
        "DBProxyNotFoundFault", "Proxy mysql is one for MYSQL",
        "Proxy strange leads to cluster third, which is neither", "There is no instance nobody",
      ] {
        #expect(unwrapped(check.output).contains(words), "\(words) is not in \(check.output)")
      }
    }
  }

  @Test(
    "The source's own group is known by its address where its name shows no endpoint",
    .enabled(if: geteuid() == 0, "needs root, to give one process names of its own"))
  func address() async throws {
    let account = try await World.shared
    try await account.moto.scene("awsaddress", account.new, sourceHost: "app.internal") { scene in
      let names = try await freshDirectory() + "/hosts"
      try Data("127.0.0.1 app.internal\n127.0.0.1 \(account.old)\n".utf8).write(to: URL(filePath: names))
      let plan = try await planFile(
        "switch: [{ step: rds-parameter-group, cluster-group: own-cluster }]")
      let refused = try await scene.replicate.run("check", "--config", plan)
      #expect(
        unwrapped(refused.output).contains(
          "own-cluster is used by cluster old, and nothing shows that this is the source"),
        "\(refused.output)")
      let check = try await Command.run(
        [
          "unshare", "--mount", "sh", "-c", "mount --bind \"$0\" /etc/hosts && exec \"$@\"", names,
          ReplicateProcess.executable(), "check", "--config", plan,
        ],
        environment: account.moto.environment.merging([
          "REPLICATE_SOURCE": scene.databases.source.with(["host": "app.internal", "hostaddr": "127.0.0.1"])
            .text,
          "REPLICATE_TARGET": scene.databases.target.with([
            "host": account.new, "hostaddr": "127.0.0.1", "sslmode": "require",
          ]).text,
        ]) { $1 })
      #expect(check.exitCode == 0, "\(check.output)\(check.errors)")
    }
  }
}

/// What the emulated account holds.
private struct World: Sendable {
  let moto: Moto
  let zone: String
  /// Endpoints of clusters.
  let old: String
  let new: String
  private let subnet: String

  private static let creation = Task { try await World(.start()) }

  /// One for all tests: a call takes a second.
  static var shared: World { get async throws { try await creation.value } }

  private init(_ moto: Moto) async throws {
    self.moto = moto
    let zone = try await moto.aws(
      "route53", "create-hosted-zone", "--name", "example.com", "--caller-reference", "x", "--query",
      "HostedZone.Id")
    self.zone = String(zone.split(separator: "/").last ?? "")
    for group in ["own-cluster", "shared-cluster", "unused-cluster"] {
      try await moto.aws(
        "rds", "create-db-cluster-parameter-group", "--db-cluster-parameter-group-name", group,
        "--db-parameter-group-family", "aurora-postgresql15", "--description", "d")
    }
    for group in ["own-instance", "shared-instance"] {
      try await moto.aws(
        "rds", "create-db-parameter-group", "--db-parameter-group-name", group,
        "--db-parameter-group-family", "aurora-postgresql15", "--description", "d")
    }
    old = try await moto.cluster("old", ["--db-cluster-parameter-group-name", "own-cluster"])
    new = try await moto.cluster(
      "new", ["--storage-encrypted", "--kms-key-id", "arn:aws:kms:eu-west-1:123456789012:key/7"])
    _ = try await moto.cluster("third", ["--db-cluster-parameter-group-name", "shared-cluster"])
    let instances = [
      ("old-1", "old", "own-instance"), ("old-2", "old", "shared-instance"),
      ("stranger", "third", "shared-instance"),
    ]
    for (name, cluster, group) in instances {
      try await moto.aws(
        "rds", "create-db-instance", "--db-instance-identifier", name, "--db-instance-class", "db.t3.medium",
        "--engine", "aurora-postgresql", "--db-cluster-identifier", cluster, "--db-parameter-group-name",
        group)
    }
    try await moto.aws("ecs", "create-cluster", "--cluster-name", "production")
    try await moto.aws(
      "ecs", "register-task-definition", "--family", "api", "--container-definitions",
      #"[{"name":"x","image":"x","memory":100}]"#)
    try await moto.aws(
      "ecs", "create-service", "--cluster", "production", "--service-name", "blue", "--task-definition",
      "api",
      "--desired-count", "0", "--deployment-controller", "type=CODE_DEPLOY")
    subnet = try await moto.aws("ec2", "describe-subnets", "--query", "Subnets[0].SubnetId")
  }

  /// Sets a record.
  func record(_ name: String, _ fields: String, to value: String) async throws {
    let set =
      #"{"Name":"\#(name).example.com",\#(fields)"ResourceRecords":[{"Value":"\#(value)"}]}"#
    try await moto.aws(
      "route53", "change-resource-record-sets", "--hosted-zone-id", zone, "--change-batch",
      #"{"Changes":[{"Action":"UPSERT","ResourceRecordSet":\#(set)}]}"#)
  }

  /// A record's value.
  func record(_ name: String) async throws -> String {
    try await moto.aws(
      "route53", "list-resource-record-sets", "--hosted-zone-id", zone, "--query",
      "ResourceRecordSets[?Name=='\(name).example.com.'].ResourceRecords[0].Value")
  }

  func secret(_ name: String) async throws -> String {
    try await moto.aws(
      "secretsmanager", "get-secret-value", "--secret-id", name, "--query", "SecretString")
  }

  func proxy(_ name: String, family: String = "POSTGRESQL") async throws {
    let secret = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app"
    try await moto.aws(
      "rds", "create-db-proxy", "--db-proxy-name", name, "--engine-family", family, "--auth",
      "AuthScheme=SECRETS,SecretArn=\(secret)", "--role-arn", "arn:aws:iam::123456789012:role/app",
      "--vpc-subnet-ids", subnet)
  }
}
