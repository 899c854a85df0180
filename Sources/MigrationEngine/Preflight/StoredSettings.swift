import LibPQ
import LogicalReplication

extension Preflight {
  /// Settings stored by `ALTER DATABASE` and `ALTER ROLE`.
  enum StoredSettings {
    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      try await damage(context.source) + refused(context) + libraries(context) + roles(context)
    }

    // MARK: What our own sessions cannot turn off

    private static func damage(_ source: Connection) async throws -> [Finding] {
      let row = try await source.askOne(
        """
        SELECT pg_catalog.current_database() AS database, session_user AS role,
          pg_catalog.array_to_string(ARRAY(SELECT s.name FROM pg_catalog.pg_settings s
            WHERE s.name IN ('zero_damaged_pages', 'ignore_checksum_failure') AND s.setting = 'on'
            ORDER BY 1), ' ') AS names
        """, about: "whether damaged pages are reported")
      let names = try row.text("names").split(separator: " ").map(String.init)
      return damage(names, database: try row.text("database"), role: try row.text("role"))
    }

    static func damage(_ names: [String], database: String, role: String) -> [Finding] {
      names.map { name in
        Finding(
          .blocker, check: "damaged_pages", object: "source",
          why:
            "\(name) is on, and our role may not turn it off: what is damaged would be copied as if it were "
            + "not there.",
          remedy: "As a superuser: ALTER DATABASE \(quotedIdentifier(database)) RESET \(name); "
            + "ALTER ROLE \(quotedIdentifier(role)) RESET \(name); (or ALTER SYSTEM RESET \(name); SELECT "
            + "pg_reload_conf();)")
      }
    }

    // MARK: What the target refuses

    private static func refused(_ context: PreflightContext) async throws -> [Finding] {
      let settings = try await UserSettings.read(from: context.source, usableOn: context.target)
      return settings.refused.filter { setting in
        // A user-defined parameter is not there yet.
        setting.name != "default_text_search_config" || setting.value.hasPrefix("pg_catalog.")
      }.map(\.name).sorted().map(refused)
    }

    static func refused(_ name: String) -> Finding {
      Finding(
        .warning, check: "stored_settings", object: "setting \(SettingText.quoted(parameter: name))",
        why: "The source gives it to its users, and the target refuses its value: checks, generated "
          + "columns, indexes and materialized views are computed there without it.",
        remedy: "See on the target what SET \(SettingText.quoted(parameter: name)) TO … says; a library or a "
          + "name that it needs may be missing.")
    }

    /// With a missing library nobody could connect any more.
    private static func libraries(_ context: PreflightContext) async throws -> [Finding] {
      let rows = try await context.source.ask(
        """
        SELECT DISTINCT pg_catalog.split_part(e.entry, '=', 1) AS name,
          pg_catalog.substr(e.entry, pg_catalog.strpos(e.entry, '=') + 1) AS value
        FROM pg_catalog.pg_db_role_setting s CROSS JOIN pg_catalog.unnest(s.setconfig) AS e (entry)
        WHERE s.setdatabase =
          (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
        ORDER BY 1, 2
        """, about: "the settings of the source's database")
      var findings: [Finding] = []
      for row in rows {
        let setting = Session.Setting(try row.text("name"), try row.text("value"))
        guard SettingText.mayKeepSessionsFromBeginning(setting.name),
          let reason = try await Session.refusal(of: setting, on: context.options.target, end: "target")
        else { continue }
        findings.append(library(setting, reason))
      }
      return findings
    }

    static func library(_ setting: Session.Setting, _ reason: String) -> Finding {
      Finding(
        .warning, check: "preload_libraries", object: "setting \(setting.name)",
        why: "The source's database loads \(setting.value) into each session, and on the target no session "
          + "could begin with it: \(reason). The setting is left out there.",
        remedy: "Install the library on the target; or nothing, if the application does without it.")
    }

    // MARK: What is not part of the database

    /// Settings of roles belong to the server; only roles that we create get them.
    private static func roles(_ context: PreflightContext) async throws -> [Finding] {
      let named = try await NamedRole.read(from: context.source, publication: context.names.publication)
      let names = named.map(\.name)
      let here = try await settings(of: names, on: context.source)
      let there = try await settings(of: names, on: context.target)
      let present = try await context.target.ask(
        "SELECT rolname FROM pg_catalog.pg_roles WHERE rolname::text = ANY ($1::text[])", [SQL.array(names)],
        about: "the target's roles")
      return try present.map { try $0.text("rolname") }.sorted().compactMap { role in
        judge(role, source: here[role] ?? [:], target: there[role] ?? [:])
      }
    }

    private static func settings(
      of roles: [String], on end: Connection
    ) async throws -> [String: [String: String]] {
      let rows = try await end.ask(
        """
        SELECT r.rolname, pg_catalog.split_part(e.entry, '=', 1) AS name,
          pg_catalog.substr(e.entry, pg_catalog.strpos(e.entry, '=') + 1) AS value
        FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
          CROSS JOIN pg_catalog.unnest(s.setconfig) AS e (entry)
        WHERE s.setdatabase = 0 AND r.rolname::text = ANY ($1::text[])
        """, [SQL.array(roles)], about: "the settings of the \(end.end)'s roles")
      var settings: [String: [String: String]] = [:]
      for row in rows {
        settings[try row.text("rolname"), default: [:]][try row.text("name")] = try row.text("value")
      }
      return settings
    }

    static func judge(_ role: String, source: [String: String], target: [String: String]) -> Finding? {
      let missing = source.filter { target[$0.key] != $0.value }.sorted { $0.key < $1.key }
      guard !missing.isEmpty else { return nil }
      let alter = "ALTER ROLE \(quotedIdentifier(role))"
      let statements = missing.map { name, value in
        // What an application stores under its own parameter name may be a secret.
        name.contains(".")
          ? "\(alter) SET \(SettingText.quoted(parameter: name)) TO '…';"
          : SettingText.statement(alter, set: name, to: value) + ";"
      }
      return Finding(
        .warning, check: "role_settings", object: "role \(quotedIdentifier(role))",
        why: "It has other settings on the source than on the target, and they are no part of the database: "
          + missing.map { SettingText.quoted(parameter: $0.key) }.joined(separator: ", ") + ".",
        remedy: "On the target, unless it is meant: \(statements.joined(separator: " "))")
    }
  }
}
