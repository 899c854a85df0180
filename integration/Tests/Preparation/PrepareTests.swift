import Clusters
import Foundation
import Testing

/// `replicate prepare` on servers of one's own.
@Suite(.serialized, .servers(about: 60), .timeLimit(.minutes(6)), .ownServers)
struct PrepareTests {
  @Test("It says what is missing and what the restart costs, does it, and check finds nothing of it any more")
  func whole() async throws {
    try await Unprepared.run(["max_wal_senders": "1", "max_replication_slots": "1"]) { scene in
      #expect(try await scene.blockers() == ["wal_level", "max_replication_slots", "max_wal_senders"])
      let idle = try await SQLSession(scene.cluster.superuser.with(["application_name": "payroll"]))
      try await idle.execute("SET application_name = 'payroll'")
      try await idle.execute("BEGIN")
      let done = try await scene.prepare(["--yes", "--restart-command", scene.restart])
      await idle.close()
      #expect(done.exitCode == 0, "\(done.output)\(done.errors)")
      for words in [
        "wal_level is replica and must be logical", "max_wal_senders is 1 and must be 10 or more",
        "max_replication_slots is 1 and must be 10 or more", "ALTER SYSTEM SET wal_level = 'logical';",
        "ends 1 session, of which 1 is in a transaction, the oldest for ", "1  postgres, payroll",
        "the last checkpoint began", "clients fail until the server is back",
        "prepared; the server was restarted in ", "in effect   wal_level = logical",
      ] {
        #expect(done.output.contains(words), "\(words) is not in \(done.output)")
      }
      #expect(try await scene.blockers() == [])
      let started = try await scene.started()
      // A command that must not be run.
      let again = try await scene.prepare(["--restart-command", "touch \(try await freshDirectory())/run"])
      #expect(again.exitCode == 0, "\(again.output)\(again.errors)")
      #expect(again.output.contains("nothing is missing for logical decoding, and nothing was touched"))
      #expect(try await scene.started() == started)
    }
  }

  @Test(
    "Without --yes it prints the plan and refuses; without a way to restart it says so: nothing is touched")
  func refusals() async throws {
    try await Unprepared.run { scene in
      let started = try await scene.started()
      for (arguments, words) in [
        (["--restart-command", scene.restart], "there is no terminal to ask on"),
        (["--yes"], "nothing says how its server is restarted"),
        (["--yes", "--aws", "--restart-command", "true"], "exclude each other"),
        (["--yes", "--restart-command", "true", "--timeout", "0s"], "more than zero"),
      ] {
        let refused = try await scene.prepare(arguments)
        #expect(refused.exitCode == 64, "\(arguments): \(refused.output)\(refused.errors)")
        #expect(refused.errors.contains(words), "\(words) is not in \(refused.errors)")
      }
      let plan = try await scene.prepare(["--restart-command", scene.restart])
      let steps = "to be done  CHECKPOINT;\n            ALTER SYSTEM SET wal_level = 'logical';"
      #expect(plan.output.contains(steps), "\(plan.output)")
      let engine = try await SQLSession(scene.cluster.superuser)
      try await engine.execute("SET application_name = 'replicate engine'")
      let working = try await scene.prepare(["--yes", "--restart-command", scene.restart])
      #expect(working.exitCode == 3, "\(working.output)\(working.errors)")
      #expect(working.output.contains("An engine is at work on it (pid "), "\(working.output)")
      await engine.close()
      #expect(try await scene.stored() == "")
      #expect(try await scene.started() == started)
    }
  }

  @Test("A restart command that fails leaves the server and its stored settings as they were")
  func failingCommand() async throws {
    try await Unprepared.run { scene in
      // Something else was stored before.
      try await scene.execute("ALTER SYSTEM SET wal_level = 'replica'")
      let started = try await scene.started()
      let command = "echo no such unit >&2; exit 5"
      let failed = try await scene.prepare(["--yes", "--restart-command", command])
      #expect(failed.exitCode == 1, "\(failed.output)\(failed.errors)")
      for words in [
        "restart command: no such unit", "the command ended with exit code 5: no such unit",
        "its server was not restarted; its settings are stored as they were before",
      ] {
        #expect(failed.errors.contains(words), "\(words) is not in \(failed.errors)")
      }
      #expect(try await scene.stored() == "wal_level=replica")
      #expect(try await scene.started() == started)
      let none = try await scene.prepare(["--yes", "--restart-command", "true"])
      #expect(none.exitCode == 1)
      #expect(
        none.errors.contains("but the server was not restarted; its settings are stored as"), "\(none.errors)"
      )
      #expect(try await scene.stored() == "wal_level=replica")
    }
  }

  @Test("A server that does not come back is told with the lines that take the settings back without it")
  func lostServer() async throws {
    try await Unprepared.run { scene in
      let stop = try scene.pgCtl("stop -w -m fast")
      let lost = try await scene.prepare(["--yes", "--timeout", "5s", "--restart-command", stop])
      #expect(lost.exitCode == 1, "\(lost.output)\(lost.errors)")
      #expect(lost.errors.contains("did not come back within 5"), "\(lost.errors)")
      let file = "\(scene.cluster.dataDirectory)/postgresql.auto.conf"
      #expect(lost.errors.contains("take these lines out of \(file)"), "\(lost.errors)")
      let line = try #require(lost.errors.split(separator: "\n").last).trimmingCharacters(in: .whitespaces)
      #expect(line == "wal_level = 'logical'")
      // As it is advised.
      try await Command.check(["sed", "-i", "/^\(line)$/d", file])
      try await scene.cluster.start()
      #expect(try await scene.stored() == "")
      #expect(try await scene.value("SHOW wal_level") == "replica")
    }
  }

  @Test("A command may restart the server in the background, and settings that do not take effect are told")
  func background() async throws {
    try await Unprepared.run { scene in
      let later = "setsid sh -c \"sleep 1; \(scene.restart)\" >/dev/null 2>&1 &"
      let done = try await scene.prepare(["--yes", "--restart-command", later])
      #expect(done.exitCode == 0, "\(done.output)\(done.errors)")
      #expect(try await scene.value("SHOW wal_level") == "logical")
    }
    try await Unprepared.run { scene in
      let other = scene.restart.replacing("restart -w", with: "restart -o '-c wal_level=replica' -w")
      let failed = try await scene.prepare(["--yes", "--restart-command", other])
      #expect(failed.exitCode == 1, "\(failed.output)\(failed.errors)")
      #expect(
        failed.errors.contains("its server was restarted, but wal_level is replica"), "\(failed.errors)")
      let advice = try #require(failed.errors.firstMatch(of: /SELECT name, setting.*;/)?.output)
      #expect(
        try await SQLSession.value(
          "SELECT source FROM (\(String(advice).dropLast())) advice", on: scene.cluster.superuser)
          == "command line")
      let refused = try await scene.prepare(["--yes", "--restart-command", scene.restart])
      #expect(refused.exitCode == 3, "\(refused.output)\(refused.errors)")
      #expect(refused.output.contains("wal_level is set on the server's command line"), "\(refused.output)")
    }
  }

  @Test("A role that may not ALTER SYSTEM is shown the statements, and after them it can do the rest")
  func plainRole() async throws {
    try await Unprepared.run { scene in
      try await scene.execute("CREATE ROLE mover LOGIN REPLICATION PASSWORD 'm0ver'")
      let mover = scene.replicate(as: ["user": "mover", "password": "m0ver"])
      let arguments = ["--yes", "--restart-command", scene.restart]
      let idle = try await SQLSession(scene.cluster.superuser)
      try await idle.execute("BEGIN")
      let refused = try await scene.prepare(arguments, by: mover)
      #expect(refused.exitCode == 3, "\(refused.output)\(refused.errors)")
      #expect(refused.output.contains("Role mover may not ALTER SYSTEM"), "\(refused.output)")
      #expect(refused.output.contains(" our role may not see whether"), "\(refused.output)")
      #expect(!(refused.output + refused.errors).contains("m0ver"))
      #expect(try await scene.stored() == "")
      await idle.close()
      let advice = try #require(
        refused.output.firstMatch(of: /as a superuser: (ALTER .*;) (SELECT pg_reload_conf\(\);) then/))
      try await scene.execute(String(advice.output.1), String(advice.output.2))
      // The server's own look at its files takes a moment.
      try await waitUntil("the reload") {
        try await scene.value("SELECT pending_restart FROM pg_settings WHERE name = 'wal_level'") == "t"
      }
      let done = try await scene.prepare(arguments, by: mover)
      #expect(done.exitCode == 0, "\(done.output)\(done.errors)")
      #expect(done.output.contains("must be logical, which is stored already"), "\(done.output)")
      #expect(try await scene.value("SHOW wal_level") == "logical")
    }
  }

  @Test("A role is given the right to set them, and that is enough", .source(atLeast: 15))
  func grantedRole() async throws {
    try await Unprepared.run { scene in
      try await scene.execute("CREATE ROLE mover LOGIN REPLICATION PASSWORD 'm0ver'")
      let mover = scene.replicate(as: ["user": "mover", "password": "m0ver"])
      let refused = try await scene.prepare(["--yes", "--restart-command", scene.restart], by: mover)
      let grant = try #require(refused.output.firstMatch(of: /GRANT ALTER SYSTEM ON .*;/)?.output)
      try await scene.execute(String(grant))
      let failed = try await scene.prepare(["--yes", "--restart-command", "false"], by: mover)
      #expect(failed.exitCode == 1, "\(failed.output)\(failed.errors)")
      // It does not see which file said so before.
      #expect(try await scene.stored() == "wal_level=replica")
      let done = try await scene.prepare(["--yes", "--restart-command", scene.restart], by: mover)
      #expect(done.exitCode == 0, "\(done.output)\(done.errors)")
      #expect(try await scene.value("SHOW wal_level") == "logical")
    }
  }

  @Test("A server whose files have errors is not restarted; other pending changes are named")
  func brokenFiles() async throws {
    try await Unprepared.run { scene in
      try await scene.execute("ALTER SYSTEM SET max_connections = 90", "SELECT pg_reload_conf()")
      try await waitUntil("the reload") {
        try await scene.value("SELECT pending_restart FROM pg_settings WHERE name = 'max_connections'") == "t"
      }
      let file = "\(scene.cluster.dataDirectory)/postgresql.conf"
      try await Command.check(["sh", "-c", "echo 'no_such_setting 1 1' >>\(file)"])
      let started = try await scene.started()
      let refused = try await scene.prepare(["--yes", "--restart-command", scene.restart])
      #expect(refused.exitCode == 3, "\(refused.output)\(refused.errors)")
      #expect(refused.output.contains("pending     max_connections: changed before"), "\(refused.output)")
      #expect(refused.output.contains("configuration_files: source"), "\(refused.output)")
      #expect(refused.output.contains("\(file), line "), "\(refused.output)")
      #expect(try await scene.started() == started)
      try await Command.check(["sed", "-i", "/no_such_setting/d", file])
      let done = try await scene.prepare(["--yes", "--restart-command", scene.restart])
      #expect(done.exitCode == 0, "\(done.output)\(done.errors)")
    }
  }

  @Test("The command finds where the source is, and no password of ours")
  func environment() async throws {
    try await Unprepared.run { scene in
      let file = try await freshDirectory() + "/environment"
      let done = try await scene.prepare(
        ["--yes", "--restart-command", "env >\(file); \(scene.restart)"])
      #expect(done.exitCode == 0, "\(done.output)\(done.errors)")
      let environment = try String(contentsOfFile: file, encoding: .utf8)
      #expect(environment.contains("REPLICATE_SOURCE_PORT=\(scene.cluster.port)\n"))
      #expect(environment.contains("REPLICATE_SOURCE_DATABASE=postgres\n"))
      #expect(!environment.contains("REPLICATE_SOURCE=") && !environment.contains("REPLICATE_TARGET="))
    }
  }
}
