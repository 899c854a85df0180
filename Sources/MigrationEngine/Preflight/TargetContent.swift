import LibPQ
import LogicalReplication

extension Preflight {
  /// Whether the target is empty, as the restore requires.
  enum TargetContent {
    struct Facts: Sendable, Equatable {
      var database = "app"
      /// `table public.a`, `schema b`: what users or an earlier try created, in order.
      var objects: [String] = []
      /// Whether a schema `replicate` holds no migration that we could resume.
      var hasOwnSchema = false
      /// Whether the schema is not this program's.
      var isSchemaOfOthers = false
    }

    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      guard !context.isResuming else { return [] }
      let user = "n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'replicate')"
      func notOfExtension(_ catalog: String, _ oid: String) -> String {
        """
        NOT EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.deptype = 'e' AND e.objid = \(oid)
          AND e.classid = 'pg_catalog.\(catalog)'::pg_catalog.regclass)
        """
      }
      let rows = try await context.target.ask(
        """
        SELECT 1 AS rank, 'schema' AS kind, pg_catalog.quote_ident(n.nspname) AS name
        FROM pg_catalog.pg_namespace n
        WHERE \(user) AND n.nspname <> 'public' AND \(notOfExtension("pg_namespace", "n.oid"))
          -- An extension has made it, or it was made for one; what else is in it is listed for itself.
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_extension x WHERE x.extnamespace = n.oid)
        UNION ALL
        SELECT 0, CASE c.relkind WHEN 'S' THEN 'sequence' WHEN 'v' THEN 'view'
            WHEN 'm' THEN 'materialized view'
            WHEN 'f' THEN 'foreign table' WHEN 'c' THEN 'type' ELSE 'table' END,
          pg_catalog.format('%I.%I', n.nspname, c.relname)
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE \(user) AND c.relkind IN ('r', 'p', 'S', 'v', 'm', 'f', 'c')
          AND \(notOfExtension("pg_class", "c.oid"))
          -- Of a composite type, the type is the extension's.
          AND (c.relkind <> 'c' OR \(notOfExtension("pg_type", "c.reltype")))
        UNION ALL
        SELECT 2, 'function', pg_catalog.format('%I.%I', n.nspname, p.proname)
        FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
        WHERE \(user) AND \(notOfExtension("pg_proc", "p.oid"))
        UNION ALL
        SELECT 3, 'type', pg_catalog.format('%I.%I', n.nspname, t.typname)
        FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
        WHERE \(user) AND t.typtype IN ('e', 'd', 'r') AND \(notOfExtension("pg_type", "t.oid"))
        UNION ALL
        SELECT 4, 'publication', pg_catalog.quote_ident(pubname) FROM pg_catalog.pg_publication
        UNION ALL
        (SELECT 5, 'large object', oid::text FROM pg_catalog.pg_largeobject_metadata ORDER BY oid LIMIT 10)
        ORDER BY 1, 2, 3
        """, about: "what is in the target")
      let row = try await context.target.askOne(
        """
        SELECT pg_catalog.current_database() AS database,
          EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'replicate') AS has_own
        """, about: "what is in the target")
      return judge(
        Facts(
          database: try row.text("database"),
          objects: try rows.map { "\(try $0.text("kind")) \(try $0.text("name"))" },
          hasOwnSchema: try row.bool("has_own"),
          isSchemaOfOthers: try await OwnSchema.isOfOthers(on: context.target)))
    }

    static func judge(_ facts: Facts) -> [Finding] {
      var findings: [Finding] = []
      if !facts.objects.isEmpty {
        let name = quotedIdentifier(facts.database)
        findings.append(
          Finding(
            .blocker, check: "target_not_empty", object: "target database \(name)",
            why: "It is not empty, and its contents would mix with what is migrated. It holds "
              + "\(NameList.of("object", facts.objects)).",
            remedy:
              "Use an empty database, or if nothing in it is needed, connected to another one: DROP DATABASE "
              + "\(name); "
              + "CREATE DATABASE \(name) TEMPLATE template0;"))
      }
      if facts.isSchemaOfOthers {
        findings.append(
          Finding(
            .blocker, check: "target_not_empty", object: "target schema \"replicate\"",
            why: "It is somebody else's, and this program keeps its state in a schema of that name.",
            remedy: "Use an empty database, or on the target: ALTER SCHEMA replicate RENAME TO …;"))
      } else if facts.hasOwnSchema {
        findings.append(
          Finding(
            .blocker, check: "target_leftovers", object: "target schema \"replicate\"",
            why: "It is there but holds no migration that could be resumed.",
            remedy: "On the target: DROP SCHEMA replicate CASCADE;"))
      }
      return findings
    }
  }

  /// Whether one transaction can lock all that is dumped and restored at once (manual, section 20.12).
  enum LockTable {
    struct Facts: Sendable, Equatable {
      var perTransaction = 64
      /// The minimum capacity of the whole lock table.
      var capacity = 64 * 100
    }

    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      let row = try await context.source.askOne(
        """
        SELECT pg_catalog.count(*) AS relations,
          pg_catalog.count(*) FILTER (WHERE c.relkind IN ('r', 'p')) AS tables
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'S', 'v', 'm', 'f', 't', 'i', 'I') AND c.relpersistence <> 't'
          AND (n.nspname = 'pg_toast' OR n.nspname !~ '^pg_') AND n.nspname <> 'information_schema'
          AND c.oid >= 16384
        """, about: "how many relations the source has")
      return judge(
        "source", try await facts(context.source), needed: try row.integer("tables"),
        why: "pg_dump locks every table in one transaction")
        + judge(
          "target", try await facts(context.target), needed: try row.integer("relations"),
          why: "the schema is restored in one transaction, which locks every relation that it creates")
    }

    private static func facts(_ connection: Connection) async throws -> Facts {
      let row = try await connection.askOne(
        """
        SELECT pg_catalog.current_setting('max_locks_per_transaction')::bigint AS locks,
          pg_catalog.current_setting('max_locks_per_transaction')::bigint
            * (pg_catalog.current_setting('max_connections')::bigint
              + pg_catalog.current_setting('max_prepared_transactions')::bigint) AS capacity
        """, about: "the \(connection.end)'s lock table")
      return Facts(perTransaction: try row.integer("locks"), capacity: try row.integer("capacity"))
    }

    static func judge(_ end: String, _ facts: Facts, needed: Int, why: String) -> [Finding] {
      // A fifth is left for everybody else.
      guard facts.capacity > 0, needed > facts.capacity / 5 * 4 else { return [] }
      let factor = needed / facts.capacity + 2
      let (wanted, overflow) = facts.perTransaction.multipliedReportingOverflow(by: factor)
      return [
        Finding(
          .warning, check: "max_locks_per_transaction", object: end,
          why: "The lock table holds about \(facts.capacity) locks, and about \(needed) are needed: \(why).",
          remedy:
            "ALTER SYSTEM SET max_locks_per_transaction = \(overflow ? facts.perTransaction : wanted); then "
            + "restart "
            + "the server (Amazon Aurora and RDS: in the parameter group, then reboot).")
      ]
    }
  }
}
