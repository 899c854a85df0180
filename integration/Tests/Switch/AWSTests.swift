import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// The AWS steps and the evidence of encryption, by the `aws` program and against an emulator.
@Suite(
  .serialized, .servers(about: 220), .timeLimit(.minutes(6)),
  .enabled(if: Moto.isInstalled, "needs moto_server and aws"))
struct AWSTests {
  @Test("The steps do what they say, and find it done the next time")
  func steps() async throws {
    let account = try await Account.shared
    try await scene("awssteps", account.encrypted) { scene in
      let plan = try await planFile(account.plan)
      let check = try await scene.replicate.run("check", "--config", plan)
      #expect(check.exitCode == 0, "\(check.output)\(check.errors)")
      let engine = try await scene.replicate.start("start", "--no-reverse", "--config", plan)
      try await scene.waitUntilReady(engine)
      let encryption = try await scene.status().target.encryption
      #expect(encryption.status == .verified && encryption.provider == .aws)
      #expect(encryption.detail.contains("key/7"), "\(encryption.detail)")
      let cutover = try await scene.replicate.run("cutover", "--yes")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
      let report = try #require(try await scene.status().cutover)
      func detail(_ step: String) -> String { report.timeline.first { $0.step == step }?.detail ?? "" }
      #expect(detail("route53") == "db.example.com points to \(account.encrypted), INSYNC")
      #expect(detail("ecs") == "new deployments of api, worker in production are stable")
      #expect(detail("cluster group").hasPrefix("default_transaction_read_only is on in old-cluster"))
      #expect(detail("instance group").hasPrefix("default_transaction_read_only is on in old-instance"))
      #expect(detail("host") == "/app/host holds it in version 2")
      #expect(detail("again") == "/app/host held it already")
      #expect(detail("record again") == "db.example.com pointed already to \(account.encrypted), INSYNC")
      #expect(detail("group again") == "default_transaction_read_only was on already in old-cluster")
    }
    try await account.expectSwitched()
  }

  @Test("A rollback takes the record and the parameter back")
  func back() async throws {
    let account = try await Account.shared
    try await scene("awsback", account.encrypted, sourceHost: "old.example.com") { scene in
      let plan = try await planFile(
        """
        switch:
          - { step: route53, zone: \(account.zone), record: back.example.com }
          - { step: ssm-parameter, parameter: /app/back }
          - { step: rds-parameter-group, cluster-group: old-back }
        """)
      let engine = try await scene.replicate.start("start", "--config", plan)
      try await scene.waitUntilReady(engine)
      let cutover = try await scene.replicate.run("cutover", "--yes")
      #expect(cutover.exitCode == 0, "\(cutover.output)\(cutover.errors)\(engine.errors)")
      #expect(try await account.record("back") == "back.example.com.\t15\t\(account.encrypted)")
      try await Running(scene: scene, engine: engine).waitForStream()
      #expect(try await account.readOnly("old-back") == "1")
      let rollback = try await scene.replicate.run("rollback", "--yes")
      #expect(rollback.exitCode == 0, "\(rollback.output)\(rollback.errors)\(engine.errors)")
      let report = try await scene.replicate.run("report")
      #expect(
        report.output.contains("before the fence: default_transaction_read_only is off in old-back"),
        "\(report.output)")
    }
    #expect(try await account.record("back") == "back.example.com.\t15\told.example.com")
    #expect(try await account.parameter("/app/back") == "SecureString\told.example.com")
  }

  @Test("What the steps name and is not there blocks, with the service's own words")
  func missing() async throws {
    let account = try await Account.shared
    try await scene("awsmissing", account.encrypted) { scene in
      let plan = try await planFile(
        """
        switch:
          - { step: route53, zone: Z404, record: db.example.com }
          - { step: ecs, cluster: production, services: [api, nobody] }
          - { step: ecs, cluster: nowhere, services: [api] }
          - { step: rds-parameter-group, cluster-group: nothing }
          - { step: rds-parameter-group, cluster-group: default.aurora8.0 }
          - { step: rds-parameter-group, cluster-group: old-shared }
          - { step: ssm-parameter, parameter: /app/nothing }
          - { step: route53, zone: Z404, record: db.example.com, value: 10.0.0.1 }
        """)
      let check = try await scene.replicate.run("check", "--config", plan)
      #expect(check.exitCode == 3, "\(check.output)\(check.errors)")
      for words in [
        "NoSuchHostedZone", "nobody is MISSING", "ClusterNotFoundException", "DBParameterGroupNotFound",
        "ParameterNotFound", "A CNAME cannot hold 10.0.0.1", "step 1, route53 1",
        "default.aurora8.0 is a default group", "old-shared is used by cluster new (the target)",
      ] {
        #expect(check.output.contains(words), "\(words) is not in \(check.output)")
      }
    }
  }

  @Test("Services that do not become stable in time are named with how far they are")
  func unstable() async throws {
    let account = try await Account.shared
    // The emulator starts no tasks.
    try await account.moto.aws(
      "ecs", "create-service", "--cluster", "production", "--service-name", "stuck", "--task-definition",
      "api", "--desired-count", "1")
    try await scene("awsunstable", account.encrypted) { scene in
      let plan = try await planFile(
        """
        switch:
          - { step: ecs, cluster: production, services: [api, stuck], timeout: 15s }
          - { step: exec, command: "false" }
        """)
      let engine = try await scene.replicate.start("start", "--no-reverse", "--config", plan)
      try await scene.waitUntilReady(engine)
      let cutover = try await scene.replicate.run("cutover", "--yes")
      #expect(cutover.exitCode == 1, "\(cutover.output)\(cutover.errors)")
      let reason = try #require(try await scene.status().cutover?.reason)
      #expect(reason.contains("not stable yet: stuck has 0 of 1 tasks running"), "\(reason)")
      #expect(reason.contains("the step after it not run"), "\(reason)")
    }
  }

  @Test("A target that AWS says is not encrypted is refused, whoever vouches for it; an unknown one too")
  func unencrypted() async throws {
    let account = try await Account.shared
    let vouched = ["check", "--encryption-evidence", "true"]
    try await scene("awsplain", account.plain) { scene in
      let refused = try await scene.replicate.run(vouched)
      #expect(refused.exitCode == 3, "\(refused.output)\(refused.errors)")
      #expect(refused.output.contains("cluster plain is not encrypted"), "\(refused.output)")
      let insisted = try await scene.replicate.run("check", "--allow-unencrypted-target")
      #expect(insisted.exitCode == 0, "\(insisted.output)\(insisted.errors)")
    }
    try await scene("awsinstance", account.instance) { scene in
      let check = try await scene.replicate.run("check")
      #expect(check.exitCode == 0, "\(check.output)\(check.errors)")
    }
    try await scene("awsunknown", "db.example.com") { scene in
      let refused = try await scene.replicate.run("check", "--encryption-provider", "aws")
      #expect(refused.exitCode == 3, "\(refused.output)\(refused.errors)")
      #expect(refused.output.contains("has the endpoint db.example.com"), "\(refused.output)")
    }
  }

  @Test(
    "A name of the application's own that leads to an endpoint is followed to its cluster",
    .enabled(if: geteuid() == 0, "needs root, to give one process names of its own"))
  func ownName() async throws {
    let account = try await Account.shared
    let own = "db.internal.example"
    try await scene("awsown", own) { scene in
      let names = try await freshDirectory() + "/hosts"
      try Data("127.0.0.1 \(account.encrypted) \(own)\n".utf8).write(to: URL(filePath: names))
      let target = scene.databases.target.with([
        "host": own, "hostaddr": "127.0.0.1", "sslmode": "require",
      ])
      let check = try await Command.run(
        [
          "unshare", "--mount", "sh", "-c", "mount --bind \"$0\" /etc/hosts && exec \"$@\"", names,
          ReplicateProcess.executable(), "check",
        ],
        environment: account.moto.environment.merging(
          ["REPLICATE_SOURCE": scene.databases.source.text, "REPLICATE_TARGET": target.text]) { $1 })
      #expect(check.exitCode == 0, "\(check.output)\(check.errors)")
    }
  }

  /// A migration whose target is known by the name of an endpoint.
  private func scene(
    _ name: String, _ host: String, sourceHost: String? = nil,
    _ body: @Sendable (Scene) async throws -> Void
  ) async throws {
    try await Account.shared.moto.scene(name, host, sourceHost: sourceHost, body)
  }
}

/// What the emulated account holds.
private struct Account: Sendable {
  let moto: Moto
  let zone: String
  /// Endpoints.
  let encrypted: String
  let plain: String
  let instance: String

  private static let creation = Task { try await Account(.start()) }

  /// One for all tests: a call takes a second.
  static var shared: Account { get async throws { try await creation.value } }

  private init(_ moto: Moto) async throws {
    self.moto = moto
    let zone = try await moto.aws(
      "route53", "create-hosted-zone", "--name", "example.com", "--caller-reference", "x", "--query",
      "HostedZone.Id")
    self.zone = String(zone.split(separator: "/").last ?? "")
    let key = "arn:aws:kms:eu-west-1:123456789012:key/7"
    for group in ["old-cluster", "old-shared", "old-back"] {
      try await moto.aws(
        "rds", "create-db-cluster-parameter-group", "--db-cluster-parameter-group-name", group,
        "--db-parameter-group-family", "aurora-postgresql15", "--description", "d")
    }
    encrypted = try await moto.cluster(
      "new",
      ["--storage-encrypted", "--kms-key-id", key, "--db-cluster-parameter-group-name", "old-shared"])
    plain = try await moto.cluster("plain", ["--no-storage-encrypted"])
    instance = try await moto.aws(
      "rds", "create-db-instance", "--db-instance-identifier", "one", "--db-instance-class", "db.t3.micro",
      "--engine", "postgres", "--allocated-storage", "20", "--master-username", "u",
      "--master-user-password", "pppppppp", "--storage-encrypted", "--query", "DBInstance.Endpoint.Address")
    try await moto.aws("ecs", "create-cluster", "--cluster-name", "production")
    try await moto.aws(
      "ecs", "register-task-definition", "--family", "api", "--container-definitions",
      #"[{"name":"x","image":"x","memory":100}]"#)
    for service in ["api", "worker"] {
      try await moto.aws(
        "ecs", "create-service", "--cluster", "production", "--service-name", service, "--task-definition",
        "api", "--desired-count", "0")
    }
    try await moto.aws(
      "rds", "create-db-parameter-group", "--db-parameter-group-name", "old-instance",
      "--db-parameter-group-family", "postgres15", "--description", "d")
    for name in ["/app/host", "/app/back"] {
      try await moto.aws(
        "ssm", "put-parameter", "--name", name, "--type", "SecureString", "--key-id", "alias/app",
        "--value", "old.example.com")
    }
  }

  var plan: String {
    """
    switch:
      - { step: route53, name: route53, zone: \(zone), record: db.example.com }
      - { step: ecs, cluster: production, services: [api, worker] }
      - { step: rds-parameter-group, name: cluster group, cluster-group: old-cluster }
      - { step: rds-parameter-group, name: instance group, instance-group: old-instance }
      - { step: ssm-parameter, name: host, parameter: /app/host }
      - { step: ssm-parameter, name: again, parameter: /app/host }
      - { step: route53, name: record again, zone: \(zone), record: db.example.com }
      - { step: rds-parameter-group, name: group again, cluster-group: old-cluster }
    """
  }

  func record(_ name: String) async throws -> String {
    try await moto.aws(
      "route53", "list-resource-record-sets", "--hosted-zone-id", zone, "--query",
      "ResourceRecordSets[?Name=='\(name).example.com.'].[Name,TTL,ResourceRecords[0].Value]")
  }

  /// What a cluster's parameter group says of `default_transaction_read_only`.
  func readOnly(_ group: String) async throws -> String {
    try await moto.aws(
      "rds", "describe-db-cluster-parameters", "--db-cluster-parameter-group-name", group, "--query",
      "Parameters[?ParameterName=='default_transaction_read_only'].ParameterValue | [0]")
  }

  func parameter(_ name: String) async throws -> String {
    try await moto.aws(
      "ssm", "get-parameter", "--name", name, "--with-decryption", "--query",
      "Parameter.[Type,Value]")
  }

  /// What the steps left, asked without them.
  func expectSwitched() async throws {
    #expect(try await record("db") == "db.example.com.\t15\t\(encrypted)")
    #expect(try await parameter("/app/host") == "SecureString\t\(encrypted)")
    let key = try await moto.aws(
      "ssm", "describe-parameters", "--parameter-filters", "Key=Name,Values=/app/host", "--query",
      "Parameters[0].KeyId")
    #expect(key == "alias/app", "the parameter keeps its key")
    let query = "Parameters[].[ParameterName,ParameterValue]"
    let cluster = try await moto.aws(
      "rds", "describe-db-cluster-parameters", "--db-cluster-parameter-group-name", "old-cluster", "--query",
      query)
    let instance = try await moto.aws(
      "rds", "describe-db-parameters", "--db-parameter-group-name", "old-instance", "--query", query)
    #expect(cluster == "default_transaction_read_only\t1" && instance == cluster)
  }
}
