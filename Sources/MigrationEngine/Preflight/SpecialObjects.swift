import LibPQ
import LogicalReplication

extension Preflight {
  /// Large objects, which logical replication does not carry (manual, section 31.6).
  enum LargeObjects {
    struct Facts: Sendable, Equatable {
      var count = 0
      /// Owners whose objects our role may not read.
      var closedOwners: [String] = []
      /// Whether the role sees which objects were written, as a superuser does.
      var seesPages = true
    }

    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      let row = try await context.source.askOne(
        """
        SELECT pg_catalog.count(*) AS count,
          pg_catalog.has_table_privilege('pg_catalog.pg_largeobject', 'SELECT') AS sees_pages,
          current_user AS role
        FROM pg_catalog.pg_largeobject_metadata
        """, about: "large objects")
      let closed = try await context.source.ask(
        """
        SELECT DISTINCT pg_catalog.pg_get_userbyid(m.lomowner) AS owner
        FROM pg_catalog.pg_largeobject_metadata m
        WHERE NOT pg_catalog.pg_has_role(m.lomowner, 'USAGE') AND NOT EXISTS (
          SELECT FROM pg_catalog.aclexplode(m.lomacl) a WHERE a.privilege_type = 'SELECT'
            AND (a.grantee = 0 OR pg_catalog.pg_has_role(a.grantee, 'USAGE')))
        ORDER BY 1
        """, about: "who owns large objects")
      return judge(
        Facts(
          count: try row.integer("count"), closedOwners: try closed.map { try $0.text("owner") },
          seesPages: try row.bool("sees_pages")),
        role: try row.text("role"), leavesBehind: context.options.leavesLargeObjectsBehind)
    }

    static func judge(_ facts: Facts, role: String, leavesBehind: Bool) -> [Finding] {
      guard facts.count > 0 else { return [] }
      let object = facts.count == 1 ? "1 large object" : "\(facts.count) large objects"
      func finding(_ severity: Finding.Severity, _ why: String, _ remedy: String) -> Finding {
        Finding(severity, check: "large_objects", object: object, why: why, remedy: remedy)
      }
      guard !leavesBehind else {
        return [
          finding(
            .warning,
            "They are not migrated, as --without-large-objects asks; columns that hold their OIDs will "
              + "point nowhere.", "Nothing to do if nobody needs them.")
        ]
      }
      var findings = facts.closedOwners.map { owner in
        finding(
          .blocker, "Role \(quotedIdentifier(role)) may not read those of role \(quotedIdentifier(owner)).",
          "GRANT \(quotedIdentifier(owner)) TO \(quotedIdentifier(role)); or give --without-large-objects if "
            + "nobody needs them.")
      }
      findings.append(
        facts.seesPages
          ? finding(
            .note,
            "The stream does not carry their changes: what was written since the copy is copied in the write "
              + "pause.",
            "Nothing to do; write none of them shortly before the cutover.")
          : finding(
            .warning,
            "The stream does not carry their changes, and only a superuser sees which were written: all are "
              + "read on both ends in the write pause.",
            "Move large contents into bytea columns (lo_get), or remove unneeded ones (lo_unlink).")
      )
      return findings
    }
  }

  /// Objects that move differently from tables, or only in part.
  enum SpecialObjects {
    enum Kind: String, Sendable, CaseIterable {
      case unlogged = "unlogged table"
      case materializedView = "materialized view"
      case foreignTable = "foreign table"
      case eventTrigger = "event trigger"
    }

    struct Special: Sendable, Equatable {
      var kind: Kind
      var name: String
      var bytes: Int64 = 0
    }

    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      let rows = try await context.source.ask(
        """
        SELECT c.relkind AS kind, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('m', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.deptype = 'e' AND e.objid = c.oid
            AND e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass)
        UNION ALL
        SELECT 'e', pg_catalog.quote_ident(t.evtname) FROM pg_catalog.pg_event_trigger t
        WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.deptype = 'e' AND e.objid = t.oid
          AND e.classid = 'pg_catalog.pg_event_trigger'::pg_catalog.regclass)
        ORDER BY 1, 2
        """, about: "objects that need special treatment")
      var objects = context.migrated.filter { $0.isUnlogged && $0.kind == .table }.map {
        Special(kind: .unlogged, name: $0.name.description, bytes: $0.bytes)
      }
      for row in rows {
        let kind: Kind =
          switch try row.text("kind") {
          case "m": .materializedView
          case "f": .foreignTable
          default: .eventTrigger
          }
        objects.append(Special(kind: kind, name: try row.text("name")))
      }
      let isSuperuser = try await context.target.askOne(
        "SELECT pg_catalog.current_setting('is_superuser') AS it", about: "the target's role"
      ).bool("it")
      return judge(objects, targetIsSuperuser: isSuperuser)
    }

    /// One finding per kind.
    static func judge(_ objects: [Special], targetIsSuperuser: Bool) -> [Finding] {
      Kind.allCases.compactMap { kind in
        let some = objects.filter { $0.kind == kind }
        guard !some.isEmpty else { return nil }
        let bytes = some.reduce(Int64(0)) { $0 &+ $1.bytes }
        let (why, remedy) = words(kind, bytes: bytes)
        let needsSuperuser = kind == .eventTrigger && !targetIsSuperuser
        return Finding(
          needsSuperuser ? .warning : .note,
          check: kind.rawValue.split(separator: " ").joined(separator: "_"),
          object: NameList.of(kind.rawValue, some.map(\.name)), why: why,
          remedy: needsSuperuser
            ? "Only a superuser may create them: connect to the target as one (Amazon Aurora and RDS: "
              + "rds_superuser)."
            : remedy)
      }
    }

    private static func words(_ kind: Kind, bytes: Int64) -> (why: String, remedy: String) {
      switch kind {
      case .unlogged:
        (
          "Their changes are not in the WAL: they are copied as a whole in the write pause (\(bytes >> 10) "
            + "kB "
            + "now).",
          "If the pause would be too long: TRUNCATE what is not needed, or ALTER TABLE … SET LOGGED."
        )
      case .materializedView:
        ("They are not copied but refreshed on the target.", "Nothing to do; large ones take their time.")
      case .foreignTable:
        (
          "Their definition moves, their data stays where it is: the target must reach the foreign servers.",
          "Make sure that the target can reach the servers in pg_foreign_server; user mappings move with "
            + "the schema."
        )
      case .eventTrigger:
        (
          "They are restored last, so they see no DDL of the migration; on the source they see the creation "
            + "of its "
            + "schema, publication and triggers.",
          "Make sure that none of them refuses that DDL."
        )
      }
    }
  }
}
