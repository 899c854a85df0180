import LibPQ
import LogicalReplication

extension Preflight {
  /// Whether text means and sorts the same on both ends.
  enum Encodings {
    struct Facts: Sendable, Equatable {
      var database = "app"
      var encoding = "UTF8"
      var collate = "C.UTF-8"
      var ctype = "C.UTF-8"
      /// c, i or b: libc, ICU or the server's own.
      var provider = "c"
      var locale = ""
      /// The version that the database was created with, and the installed one; nil: not versioned.
      var collationVersion: String?
      var installedVersion: String?
    }

    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      judge(source: try await facts(context.source), target: try await facts(context.target))
    }

    /// Through JSON: providers came with 15, and 17 renamed a column.
    private static func facts(_ connection: Connection) async throws -> Facts {
      let hasVersions = try await connection.has(.databaseCollationVersions)
      let installed = hasVersions ? "pg_catalog.pg_database_collation_actual_version(d.oid)" : "NULL"
      let row = try await connection.askOne(
        """
        SELECT d.datname, pg_catalog.pg_encoding_to_char(d.encoding) AS encoding, d.datcollate, d.datctype,
          coalesce(j.row ->> 'datlocprovider', 'c') AS provider,
          coalesce(j.row ->> 'datlocale', j.row ->> 'daticulocale', '') AS locale,
          j.row ->> 'datcollversion' AS version, \(installed) AS installed
        FROM pg_catalog.pg_database d, LATERAL (SELECT pg_catalog.to_jsonb(d)) AS j (row)
        WHERE d.datname = pg_catalog.current_database()
        """, about: "the \(connection.end)'s encoding and collation")
      return Facts(
        database: try row.text("datname"), encoding: try row.text("encoding"),
        collate: try row.text("datcollate"), ctype: try row.text("datctype"),
        provider: try row.text("provider"), locale: try row.text("locale"),
        collationVersion: try row.optional("version"), installedVersion: try row.optional("installed"))
    }

    static func judge(source: Facts, target: Facts) -> [Finding] {
      [encoding(source, target), collation(source, target), version(target)].compactMap { $0 }
    }

    private static func create(_ source: Facts, _ target: Facts, encoding: String) -> String {
      "Recreate the target's database: CREATE DATABASE \(quotedIdentifier(target.database)) TEMPLATE "
        + "template0 "
        + "ENCODING \(quotedLiteral(encoding)) LC_COLLATE \(quotedLiteral(source.collate)) LC_CTYPE "
        + "\(quotedLiteral(source.ctype));"
    }

    private static func encoding(_ source: Facts, _ target: Facts) -> Finding? {
      guard source.encoding != target.encoding else { return nil }
      let difference = "The source's encoding is \(source.encoding), the target's \(target.encoding)"
      let object = "target database \(quotedIdentifier(target.database))"
      if source.encoding == "SQL_ASCII" {
        return Finding(
          .blocker, check: "encoding", object: object,
          why:
            "\(difference). SQL_ASCII does not define what the bytes mean, so they cannot be converted.",
          remedy: create(source, target, encoding: source.encoding))
      }
      guard target.encoding == "UTF8" else {
        return Finding(
          .blocker, check: "encoding", object: object,
          why: "\(difference), which cannot hold every character of the source.",
          remedy: create(source, target, encoding: source.encoding))
      }
      return Finding(
        .warning, check: "encoding", object: object,
        why: "\(difference): text is converted, and grows where characters take more bytes.",
        remedy:
          "Nothing to do if UTF8 is wanted. Otherwise: \(create(source, target, encoding: source.encoding))")
    }

    private static func collation(_ source: Facts, _ target: Facts) -> Finding? {
      guard
        (source.collate, source.ctype, source.provider, source.locale)
          != (target.collate, target.ctype, target.provider, target.locale)
      else { return nil }
      return Finding(
        .warning, check: "collation", object: "target database \(quotedIdentifier(target.database))",
        why:
          "Text sorts and compares by other rules: \(rules(source)) on the source, \(rules(target)) on the "
          + "target.",
        remedy: create(source, target, encoding: target.encoding))
    }

    private static func rules(_ facts: Facts) -> String {
      let provider = ["c": "libc", "i": "icu", "b": "builtin"][facts.provider] ?? facts.provider
      let locale = facts.locale.isEmpty ? "" : " \(facts.locale)"
      return "\(provider)\(locale) (LC_COLLATE \(facts.collate), LC_CTYPE \(facts.ctype))"
    }

    private static func version(_ target: Facts) -> Finding? {
      guard let made = target.collationVersion, let installed = target.installedVersion, made != installed
      else {
        return nil
      }
      let name = quotedIdentifier(target.database)
      return Finding(
        .note, check: "collation_version", object: "target database \(name)",
        why: "It was created with version \(made) of its collation, and version \(installed) is installed.",
        remedy: "On the target, while it is empty: ALTER DATABASE \(name) REFRESH COLLATION VERSION;")
    }
  }

  /// Collations of the operating system that columns, domains and indexes use, which pg_dump does not
  /// include.
  enum ColumnCollations {
    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      let used = try await context.source.ask(
        """
        SELECT DISTINCT l.collname
        FROM (
          SELECT a.attcollation AS oid FROM pg_catalog.pg_attribute a
            JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          WHERE NOT a.attisdropped AND c.relpersistence <> 't' AND n.nspname !~ '^pg_'
            AND n.nspname <> 'information_schema'
          UNION ALL
          SELECT t.typcollation FROM pg_catalog.pg_type t
            JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
          WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema') AS used
          JOIN pg_catalog.pg_collation l ON l.oid = used.oid
          JOIN pg_catalog.pg_namespace n ON n.oid = l.collnamespace
        WHERE n.nspname = 'pg_catalog' ORDER BY 1
        """, about: "the collations that the source's columns name")
      let present = try await context.target.ask(
        """
        SELECT DISTINCT l.collname
        FROM pg_catalog.pg_collation l JOIN pg_catalog.pg_namespace n ON n.oid = l.collnamespace
        WHERE n.nspname = 'pg_catalog' AND l.collencoding IN (-1,
          (SELECT encoding FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))
        """, about: "the collations that the target has")
      let names = Set(try present.map { try $0.text("collname") })
      return try used.map { try $0.text("collname") }.filter { !names.contains($0) }.map(judge)
    }

    static func judge(missing name: String) -> Finding {
      Finding(
        .blocker, check: "column_collation", object: "collation \(quotedIdentifier(name))",
        why: "Columns, domains or indexes of the source use it, and the target does not have it.",
        remedy: "Install the locale on the target's server, then on the target: SELECT "
          + "pg_import_system_collations('pg_catalog'); or name another collation on the source.")
    }
  }
}
