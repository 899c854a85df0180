import LibPQ
import LogicalReplication

extension Preflight {
  /// Objects with our names that do not belong to a migration stored on the target.
  enum OwnLeftovers {
    struct Facts: Sendable, Equatable {
      /// nil: there is none. Otherwise whether a walsender uses it.
      var slotIsActive: Bool?
      var hasPublication = false
      var hasSchema = false
      /// Whether it is not this program's.
      var isSchemaOfOthers = false
      /// Whether it holds the report of a migration to this database.
      var hasReport = false
    }

    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      guard !context.isResuming else { return [] }
      let row = try await context.source.askOne(
        """
        SELECT (SELECT active FROM pg_catalog.pg_replication_slots WHERE slot_name = $1) AS slot_is_active,
          EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = $2) AS has_publication,
          EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'replicate') AS has_schema,
          pg_catalog.to_regclass('replicate.migration') IS NOT NULL AS has_report
        """, [context.names.slot, context.names.publication], about: "leftovers of an earlier migration")
      return judge(
        Facts(
          slotIsActive: try row.optional("slot_is_active").map { $0 == "t" },
          hasPublication: try row.bool("has_publication"), hasSchema: try row.bool("has_schema"),
          isSchemaOfOthers: try await OwnSchema.isOfOthers(on: context.source),
          hasReport: try row.bool("has_report")),
        slot: context.names.slot, publication: context.names.publication)
    }

    static func judge(_ facts: Facts, slot: String, publication: String) -> [Finding] {
      var findings: [Finding] = []
      func block(_ object: String, _ why: String, _ remedy: String) {
        findings.append(Finding(.blocker, check: "own_leftovers", object: object, why: why, remedy: remedy))
      }
      let origin = "though the target holds no migration: it is left over, or another migration's."
      if let isActive = facts.slotIsActive {
        block(
          "replication slot \(quotedIdentifier(slot))",
          "It is there on the source, \(origin)"
            + (isActive ? " Somebody is streaming from it right now." : ""),
          "SELECT pg_drop_replication_slot(\(quotedLiteral(slot)));")
      }
      if facts.hasPublication {
        block(
          "publication \(quotedIdentifier(publication))", "It is there on the source, \(origin)",
          "DROP PUBLICATION \(quotedIdentifier(publication));")
      }
      if facts.isSchemaOfOthers {
        block(
          "source schema \"replicate\"",
          "It is the application's, and this program keeps what it needs in a schema of that name.",
          "Rename it: ALTER SCHEMA replicate RENAME TO …; on the source, and in what uses it.")
      } else if facts.hasSchema, facts.hasReport {
        block(
          "source schema \"replicate\"", "It holds the report of the migration that led to this database.",
          "Save it (replicate report --json, with this database as --target), end that migration with "
            + "replicate finish unless it is done, then: DROP SCHEMA replicate CASCADE;")
      } else if facts.hasSchema {
        block(
          "source schema \"replicate\"", "It holds a fence's state, \(origin)",
          "DROP SCHEMA replicate CASCADE;")
      }
      return findings
    }
  }

  /// Replication that writes to the source.
  enum Subscriptions {
    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      let replicators = try await Replicator.all(on: context.source)
      let known = Set(replicators.compactMap(\.origin))
      let rows = try await context.source.ask(
        """
        SELECT o.roname FROM pg_catalog.pg_replication_origin o WHERE NOT EXISTS (
          SELECT FROM pg_catalog.pg_stat_subscription s WHERE o.roname = 'pg_' || s.subid) ORDER BY 1
        """, about: "the source's replication origins")
      let origins = try rows.map { try $0.text("roname") }.filter { !known.contains($0) }
      return replicators.map(judge) + origins.map(judge(origin:))
    }

    static func judge(_ replicator: Replicator) -> Finding {
      guard replicator.isEnabled else {
        return Finding(
          .note, check: "subscription", object: replicator.object,
          why: "It is disabled and is not migrated: the target will not subscribe.",
          remedy: "Keep it disabled during the migration; recreate it on the target if it is still needed.")
      }
      return Finding(
        .blocker, check: "subscription", object: replicator.object,
        why:
          "It writes into the source. Its apply worker fires no statement triggers, so the fence does not "
          + "stop it, "
          + "and writes after the fence would be lost.",
        remedy: replicator.remedy)
    }

    /// Origins belong to the whole cluster, and do not show where they are used.
    static func judge(origin: String) -> Finding {
      Finding(
        .note, check: "subscription", object: "replication origin \(quotedIdentifier(origin))",
        why:
          "Something may replicate into a database of the source's cluster with it. Where its changes come "
          + "to the tables that are migrated, a cutover is refused until they have ended.",
        remedy: "Nothing to do, unless it is used in this database: then end what uses it before the cutover."
      )
    }
  }

  /// The user's publications, which move with the schema.
  enum Publications {
    struct Foreign: Sendable, Equatable {
      var name: String
      var isForAllTables: Bool
      /// Whether the target's role is not a superuser.
      var needsPrivilege = false
    }

    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      let rows = try await context.source.ask(
        "SELECT pubname, puballtables FROM pg_catalog.pg_publication WHERE pubname <> $1 ORDER BY 1",
        [context.names.publication], about: "the source's publications")
      guard !rows.isEmpty else { return [] }
      let isSuperuser = try await context.target.askOne(
        "SELECT pg_catalog.current_setting('is_superuser') AS it", about: "the target's role"
      ).bool("it")
      return try rows.map {
        judge(
          Foreign(
            name: try $0.text("pubname"), isForAllTables: try $0.bool("puballtables"),
            needsPrivilege: !isSuperuser))
      }
    }

    private static let stateOfOurs =
      "On the target it has our tables in it, which a subscriber lacks: let it subscribe there once "
      + "replicate finish has ended the migration, its report is saved (replicate report --json), and "
      + "DROP SCHEMA replicate CASCADE has removed them."

    static func judge(_ publication: Foreign) -> Finding {
      let name = quotedIdentifier(publication.name)
      let others = "Its subscribers must be pointed at the target, with new slots, after the cutover."
      guard publication.isForAllTables else {
        return Finding(
          .note, check: "publication", object: "publication \(name)",
          why: "It moves with the schema. \(others)",
          remedy: "Nothing to do before the cutover.")
      }
      return Finding(
        publication.needsPrivilege ? .warning : .note, check: "publication", object: "publication \(name)",
        why: "It is FOR ALL TABLES and moves with the schema"
          + (publication.needsPrivilege ? "; only a superuser may create such a publication. " : ". ")
          + others + " \(Self.stateOfOurs)",
        remedy: publication.needsPrivilege
          ? "Connect to the target as a superuser (Amazon Aurora and RDS: a member of rds_superuser), or on "
            + "the source: "
            + "DROP PUBLICATION \(name);"
          : "Nothing to do before the cutover.")
    }
  }
}
