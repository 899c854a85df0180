import Clusters
import Foundation
import Testing

/// Roles that the target lacks.
@Suite(.serialized, .servers, .timeLimit(.minutes(2)))
struct CreateRolesTests {
  @Test(
    "Missing roles block; --create-roles makes them with attributes, memberships, settings, no password")
  func create() async throws {
    let pair = try await ClusterPair.shared
    let names = ["owner", "reader", "web app"].map { "create_\($0)_\(getpid())" }
    let (owner, reader, web) = (names[0], names[1], "\"\(names[2])\"")
    try await SQLSession.run(
      [
        "CREATE ROLE \(owner) NOINHERIT", "COMMENT ON ROLE \(owner) IS 'it''s theirs'",
        "CREATE ROLE \(reader) CONNECTION LIMIT 7 VALID UNTIL 'infinity'",
        "CREATE ROLE \(web) LOGIN PASSWORD 'secret' CREATEDB IN ROLE \(owner)",
        "ALTER ROLE \(web) SET search_path = app, public", "ALTER ROLE \(web) SET work_mem = '9MB'",
      ], on: pair.source)
    try await Scene.run("createroles") { scene in
      try await scene.source(
        "CREATE TABLE t (id int PRIMARY KEY)", "ALTER TABLE t OWNER TO \(owner)",
        "GRANT SELECT ON t TO \(reader)")
      let blocked = try await scene.replicate.run("check", "--allow-unencrypted-target")
      #expect(blocked.exitCode == 3, "\(blocked.output)")
      for name in names { #expect(blocked.output.contains(name), "\(name) in \(blocked.output)") }
      let engine = try await scene.start("--create-roles")
      try await scene.waitUntilReady(engine)
      let expected = try await Self.describe(names, on: scene.databases.source)
      #expect(expected.count == 3)
      #expect(try await Self.describe(names, on: scene.databases.target) == expected)
      #expect(
        try await scene.targetValue(
          "SELECT count(*) FROM pg_authid WHERE rolname ~ '^create_' AND (rolpassword <> '' OR rolcreatedb)"
        )
          == "0")
      #expect(
        try await scene.targetValue("SELECT tableowner FROM pg_tables WHERE tablename = 't'") == owner)
    }
    for server in [pair.source, pair.target] {
      try await SQLSession.run([web, reader, owner].map { "DROP ROLE \($0)" }, on: server)
    }
  }

  private static func describe(
    _ names: [String], on server: Clusters.ConnectionString
  ) async throws -> [[String?]] {
    let session = try await SQLSession(server)
    let list = names.map { "'\($0)'" }.joined(separator: ", ")
    let rows = try await session.rows(
      """
      SELECT rolname, rolcanlogin, rolinherit, rolconnlimit, rolvaliduntil, shobj_description(r.oid,
      'pg_authid'),
        (SELECT setconfig FROM pg_db_role_setting WHERE setrole = r.oid AND setdatabase = 0),
        (SELECT array_agg(roleid::regrole ORDER BY 1) FROM pg_auth_members WHERE member = r.oid)
      FROM pg_roles r WHERE rolname IN (\(list)) ORDER BY 1
      """)
    await session.close()
    return rows
  }
}
