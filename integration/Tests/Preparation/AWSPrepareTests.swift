import Clusters
import Foundation
import Testing

/// `replicate prepare` for Aurora and RDS, against an emulator that knows groups and instances but restarts
/// nothing: a script between it and the program makes a local server do what a reboot would.
@Suite(
  .serialized, .servers(about: 90), .timeLimit(.minutes(6)), .ownServers,
  .enabled(if: Moto.isInstalled, "needs moto_server and aws"))
struct AWSPrepareTests {
  @Test("The cluster's group is changed, its writer rebooted, and check finds nothing of it any more")
  func cluster() async throws {
    try await Account.run("old", group: "app-old") { account in
      let refused = try await account.prepare([])
      #expect(refused.exitCode == 64, "\(refused.output)\(refused.errors)")
      for words in [
        "aws rds modify-db-cluster-parameter-group --db-cluster-parameter-group-name app-old --parameters "
          + "ParameterName=rds.logical_replication,ParameterValue=1,ApplyMethod=pending-reboot",
        "aws rds reboot-db-instance --db-instance-identifier old-writer",
        "Its readers (old-reader) may restart together with the writer",
      ] {
        #expect(refused.output.contains(words), "\(words) is not in \(refused.output)")
      }
      #expect(try await account.parameters() == "")
      let done = try await account.prepare(["--yes"])
      #expect(done.exitCode == 0, "\(done.output)\(done.errors)")
      #expect(try await account.parameters() == "rds.logical_replication\t1")
      #expect(try await account.scene.value("SHOW wal_level") == "logical")
      #expect(try await account.scene.stored() == "", "ALTER SYSTEM is not for Aurora")
      #expect(try await account.scene.blockers() == [])
      let again = try await account.prepare(["--yes"])
      #expect(again.exitCode == 0 && again.output.contains("nothing was touched"), "\(again.output)")
    }
  }

  @Test("A default group is refused with the commands that make another; after them it is done")
  func defaultGroup() async throws {
    try await Account.run("plain", group: nil) { account in
      let refused = try await account.prepare(["--yes"])
      #expect(refused.exitCode == 3, "\(refused.output)\(refused.errors)")
      #expect(refused.output.contains("which cannot be changed"), "\(refused.output)")
      let commands = refused.output.matches(of: /aws rds (?:create|modify)-db-cluster[^\n]*/)
        .map { String($0.output) }.filter { !$0.contains("--parameters") }
      #expect(commands.count == 2, "\(refused.output)")
      for command in commands {
        try await Command.check(["sh", "-c", command], environment: account.moto.environment)
      }
      let done = try await account.prepare(["--yes"])
      #expect(done.exitCode == 0, "\(done.output)\(done.errors)")
      #expect(try await account.scene.value("SHOW wal_level") == "logical")
    }
  }

  @Test("A group that others use as well is refused by their names, and changed only with consent")
  func sharedGroup() async throws {
    try await Account.run("shared", group: "app-shared") { account in
      try await account.makeCluster("billing", group: "app-shared")
      let refused = try await account.prepare(["--yes"])
      #expect(refused.exitCode == 3, "\(refused.output)\(refused.errors)")
      #expect(refused.output.contains("It belongs to billing as well"), "\(refused.output)")
      #expect(try await account.parameters() == "")
      let done = try await account.prepare(["--yes", "--shared-group"])
      #expect(done.exitCode == 0, "\(done.output)\(done.errors)")
      #expect(done.output.contains("warning  shared_group"), "\(done.output)")
      #expect(try await account.parameters() == "rds.logical_replication\t1")
    }
  }

  @Test("An instance of RDS, whose host is no endpoint by its name, is asked for with --aws")
  func instance() async throws {
    try await Account.run("one", group: "app-instance", isInstance: true) { account in
      let unknown = try await account.prepare(["--yes", "--aws"], host: "db.example.com")
      #expect(unknown.exitCode == 3, "\(unknown.output)\(unknown.errors)")
      #expect(unknown.output.contains("has the endpoint db.example.com"), "\(unknown.output)")
      let done = try await account.prepare(["--yes"])
      #expect(done.exitCode == 0, "\(done.output)\(done.errors)")
      #expect(try await account.scene.value("SHOW wal_level") == "logical")
    }
  }

  @Test(
    "Where clients cannot be made to wait the group is put back, and where they can they see no error",
    .enabled(if: PgBouncer.isInstalled, "needs pgbouncer"))
  func pooled() async throws {
    try await Account.run("pooled", group: "app-pooled") { account in
      let pooler = try await PgBouncer.start(before: account.scene.cluster.superuser)
      let plan = try await account.scene.plan(pooler)
      let idle = try await SQLSession(pooler.connection)
      try await idle.execute("BEGIN \\; SELECT 1")
      let failed = try await account.prepare(["--yes", "--config", plan, "--max-pause", "1s"])
      #expect(failed.exitCode == 1, "\(failed.output)\(failed.errors)")
      #expect(failed.errors.contains("parameter group app-pooled is as it was before"), "\(failed.errors)")
      #expect(try await account.parameters() == "rds.logical_replication\t0")
      #expect(try await !pooler.isPaused())
      try await idle.execute("COMMIT")
      await idle.close()
      let reader = Reader(query: "SELECT 1")
      reader.start(on: pooler.connection)
      try await waitUntil("reads") { reader.report.reads > 5 }
      let done = try await account.prepare(["--yes", "--config", plan])
      let before = reader.report.reads
      try await waitUntil("reads") { reader.report.reads > before + 5 }
      await reader.stop()
      #expect(done.exitCode == 0, "\(done.output)\(done.errors)")
      #expect(reader.report.failures == [])
      try await pooler.stop()
    }
  }
}

/// An emulated account with one cluster or instance, which a local server stands for.
private struct Account: Sendable {
  let scene: Unprepared
  let moto: Moto
  let endpoint: String
  let group: String
  let isInstance: Bool
  private let path: String

  static func run(
    _ name: String, group: String?, isInstance: Bool = false, _ body: @Sendable (Account) async throws -> Void
  ) async throws {
    let moto = try await shared.value
    try await Unprepared.run { scene in
      let account = try await Account(scene, moto, name, group: group, isInstance: isInstance)
      try await body(account)
    }
  }

  private static let shared = Task { try await Moto.start() }

  private init(
    _ scene: Unprepared, _ moto: Moto, _ name: String, group: String?, isInstance: Bool
  ) async throws {
    (self.scene, self.moto, self.isInstance) = (scene, moto, isInstance)
    self.group = group ?? "\(name)-logical"
    path = try await Self.script(scene)
    if isInstance {
      try await moto.aws(
        "rds", "create-db-parameter-group", "--db-parameter-group-name", group ?? "",
        "--db-parameter-group-family", "postgres15", "--description", "d")
      endpoint = try await moto.aws(
        "rds", "create-db-instance", "--db-instance-identifier", name, "--db-instance-class", "db.t3.micro",
        "--engine", "postgres", "--allocated-storage", "20", "--master-username", "u",
        "--master-user-password", "pppppppp", "--db-parameter-group-name", group ?? "", "--query",
        "DBInstance.Endpoint.Address")
      return
    }
    if let group {
      try await moto.aws(
        "rds", "create-db-cluster-parameter-group", "--db-cluster-parameter-group-name", group,
        "--db-parameter-group-family", "aurora-postgresql15", "--description", "d")
    }
    endpoint = try await Self.cluster(name, group: group, moto)
    // The first one writes.
    for instance in ["\(name)-writer", "\(name)-reader"] {
      try await moto.aws(
        "rds", "create-db-instance", "--db-instance-identifier", instance, "--db-cluster-identifier", name,
        "--db-instance-class", "db.r5.large", "--engine", "aurora-postgresql")
    }
  }

  private static func cluster(_ name: String, group: String?, _ moto: Moto) async throws -> String {
    let arguments = [
      "aws", "--output", "text", "rds", "create-db-cluster", "--db-cluster-identifier", name, "--engine",
      "aurora-postgresql", "--master-username", "u", "--master-user-password", "pppppppp", "--query",
      "DBCluster.Endpoint",
    ]
    let options = group.map { ["--db-cluster-parameter-group-name", $0] } ?? []
    return try await Command.check(arguments + options, environment: moto.environment)
      .trimmingCharacters(in: .whitespacesAndNewlines)
  }

  func makeCluster(_ name: String, group: String) async throws {
    _ = try await Self.cluster(name, group: group, moto)
  }

  /// Stands before the real `aws`: a change of a group is pending until a reboot, and a reboot restarts the
  /// server, which then has the value of the group.
  private static func script(_ scene: Unprepared) async throws -> String {
    let folder = try await freshDirectory()
    let settings = "\(scene.cluster.socketDirectory)/settings.conf"
    let real = try await Command.check(["sh", "-c", "command -v aws"])
      .trimmingCharacters(in: .whitespacesAndNewlines)
    let text = """
      #!/bin/sh
      case "$*" in
      *modify-db-cluster-parameter-group*ParameterValue=1*|*modify-db-parameter-group*ParameterValue=1*)
        touch \(folder)/pending ;;
      *ParameterValue=0*) rm -f \(folder)/pending ;;
      *reboot-db-instance*)
        rm \(folder)/pending 2>/dev/null && sed -i "s/^wal_level.*/wal_level = 'logical'/" \(settings)
        # Not with the group of this process, which ends with it.
        setsid sh -c "sleep 1; \(scene.restart)" >/dev/null 2>&1 </dev/null & ;;
      esac
      state=in-sync
      test -e \(folder)/pending && state=pending-reboot
      \(real) "$@" >\(folder)/answer; code=$?
      sed "s/in-sync/$state/" \(folder)/answer
      exit $code
      """
    let file = folder + "/aws"
    try Data(text.utf8).write(to: URL(filePath: file))
    try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: file)
    return folder + ":" + (ProcessInfo.processInfo.environment["PATH"] ?? "")
  }

  /// - Parameter host: nil: the endpoint.
  func prepare(_ arguments: [String], host: String? = nil) async throws -> Finished {
    let source = scene.cluster.superuser.with(["host": host ?? endpoint, "hostaddr": "127.0.0.1"])
    let process = ReplicateProcess(
      source: source, target: scene.databases.target,
      environment: moto.environment.merging(["PATH": path]) { $1 })
    return try await scene.prepare(arguments, by: process)
  }

  /// What the group sets.
  func parameters() async throws -> String {
    let query = ["--query", "Parameters[].[ParameterName,ParameterValue]"]
    let what = isInstance ? "db-parameters" : "db-cluster-parameters"
    let name = isInstance ? "--db-parameter-group-name" : "--db-cluster-parameter-group-name"
    return try await Command.check(
      ["aws", "--output", "text", "rds", "describe-\(what)", name, group] + query,
      environment: moto.environment
    ).trimmingCharacters(in: .whitespacesAndNewlines)
  }
}
