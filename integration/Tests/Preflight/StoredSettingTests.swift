import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// What `check` says of settings that are stored with databases and roles; each remedy is run.
@Suite(.serialized, .servers, .timeLimit(.minutes(2)))
struct StoredSettingTests {
  @Test("Settings that hide damage block a role that may not turn them off, until they are reset")
  func damage() async throws {
    try await Scene.run("damage") { scene in
      let database = quotedIdentifier(scene.databases.name)
      let role = "damage_\(getpid())"
      try await scene.source(
        "CREATE TABLE t (id int PRIMARY KEY)", "CREATE ROLE \(role) LOGIN PASSWORD 'plain'",
        "ALTER DATABASE \(database) SET zero_damaged_pages = on",
        "ALTER ROLE \(role) SET ignore_checksum_failure = on")
      func findings(_ source: Clusters.ConnectionString) async throws -> [Finding] {
        try await Preflight.check(source: source, target: scene.databases.target).findings(
          "damaged_pages")
      }
      #expect(try await findings(scene.databases.source) == [], "a superuser turns them off")
      let plain = scene.databases.source.with(["user": role, "password": "plain"])
      let found = try await findings(plain)
      #expect(
        found.map { $0.why.prefix { $0 != " " } } == ["ignore_checksum_failure", "zero_damaged_pages"])
      #expect(found.allSatisfy { $0.severity == .blocker })
      for (setting, statement) in [
        ("ignore_checksum_failure", "ALTER ROLE \"\(role)\" RESET ignore_checksum_failure;"),
        ("zero_damaged_pages", "ALTER DATABASE \(database) RESET zero_damaged_pages;"),
      ] {
        #expect(found.contains { $0.why.hasPrefix(setting) && $0.remedy.contains(statement) })
        try await scene.source(statement)
      }
      #expect(try await findings(plain) == [])
      try await scene.source("DROP ROLE \(role)")
    }
  }

  @Test("A setting that the target does not take is named without its value")
  func refused() async throws {
    try await Scene.run("refusedsetting") { scene in
      let database = quotedIdentifier(scene.databases.name)
      try await scene.source(
        "ALTER DATABASE \(database) SET app.\"Key\" = 'secret'",
        "ALTER DATABASE \(database) SET TimeZone = 'UTC'",
        // As a source with other time zone data may have it.
        """
        UPDATE pg_db_role_setting
        SET setconfig[array_position(setconfig, 'TimeZone=UTC')] = 'TimeZone=Nowhere/At_all'
        WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
        """)
      let report = try await Preflight.check(
        source: scene.databases.source, target: scene.databases.target)
      let found = report.findings("stored_settings")
      #expect(found.map(\.object) == ["setting \"timezone\""])
      #expect(found.first?.severity == .warning)
      // What it advises.
      #expect(
        try await scene.refusal(
          of: "SET \"timezone\" TO 'Nowhere/At_all'", on: scene.databases.target) == "22023")
    }
  }

  @Test("A role's settings that the target's role lacks are named with the statements that give them")
  func roles() async throws {
    try await SharedRole.with("role \"settings\"") { role in
      try await Scene.run("rolesettings") { scene in
        let name = quotedIdentifier(role)
        try await scene.source(
          "CREATE TABLE t (id int PRIMARY KEY)", "ALTER TABLE t OWNER TO \(name)",
          "ALTER ROLE \(name) SET search_path = \"$user\", \"It's\"",
          "ALTER ROLE \(name) SET work_mem = '9MB'",
          "ALTER ROLE \(name) SET app.key = 'secret'")
        func finding() async throws -> Finding? {
          try await Preflight.check(
            source: scene.databases.source, target: scene.databases.target
          ).findings("role_settings").first
        }
        let found = try #require(try await finding())
        #expect(found.object == "role \(name)")
        #expect(!"\(found)".contains("secret"))
        let statements = found.remedy.drop { $0 != ":" }.dropFirst(2).split(separator: ";")
        #expect(statements.count == 3)
        for statement in statements {
          try await scene.target(statement.replacing("'…'", with: "'secret'").trimmingPrefix(" ") + ";")
        }
        #expect(try await finding() == nil)
        let settings = "SELECT setconfig FROM pg_db_role_setting WHERE setrole = '\(name)'::regrole"
        let expected = try await scene.sourceValue(settings)
        #expect(try await scene.targetValue(settings).map { Set($0) } == expected.map { Set($0) })
      }
    }
  }
}
