import LibPQ

extension Preflight {
  /// Settings of the source that logical decoding depends on (manual, sections 20.5 and 20.6).
  enum SourceSettings {
    struct Facts: Sendable, Equatable {
      var walLevel = "logical"
      /// Bytes; nil: no limit.
      var slotKeepLimit: Int64?
      var databaseBytes: Int64 = 0
      /// Milliseconds; 0: none.
      var walSenderTimeout: Int64 = 60_000
      /// Nil: any.
      var outputPlugins: OutputPlugins?
      /// Seconds; 0: none, nil: the server is older than 18 and has no such setting.
      var idleSlotTimeout: Int64?
    }

    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      let row = try await context.source.askOne(
        """
        SELECT pg_catalog.current_setting('wal_level') AS wal_level,
          pg_catalog.pg_database_size(pg_catalog.current_database()) AS bytes,
          pg_catalog.max(setting) FILTER (WHERE name = 'max_slot_wal_keep_size') AS keep_megabytes,
          pg_catalog.max(setting) FILTER (WHERE name = 'wal_sender_timeout') AS sender_timeout,
          pg_catalog.max(setting) FILTER (WHERE name = 'idle_replication_slot_timeout') AS idle_timeout
        FROM pg_catalog.pg_settings
        """, about: "the source's settings")
      let megabytes = try row.optional("keep_megabytes").flatMap { Int64($0) } ?? -1
      return judge(
        Facts(
          walLevel: try row.text("wal_level"),
          slotKeepLimit: megabytes < 0
            ? nil : megabytes.multipliedReportingOverflow(by: 1 << 20).partialValue,
          databaseBytes: try row.integer("bytes", as: Int64.self),
          walSenderTimeout: try row.integer("sender_timeout", as: Int64.self),
          outputPlugins: try await OutputPlugins.read(
            from: context.source, doing: "examining the source's settings"),
          idleSlotTimeout: try row.optional("idle_timeout").flatMap { Int64($0) }))
    }

    static func judge(_ facts: Facts) -> [Finding] {
      [walLevel(facts), outputPlugins(facts), keepLimit(facts), senderTimeout(facts), idleTimeout(facts)]
        .compactMap { $0 }
    }

    private static func walLevel(_ facts: Facts) -> Finding? {
      guard facts.walLevel != "logical" else { return nil }
      return Finding(
        .blocker, check: "wal_level", object: "source",
        why: "wal_level is \(facts.walLevel): the WAL does not hold what logical decoding needs.",
        remedy:
          "replicate prepare does it with the least harm (docs/PREPARE.md). By hand: "
          + "ALTER SYSTEM SET wal_level = logical; then restart the server. On Amazon Aurora and RDS: set "
          + "rds.logical_replication = 1 in the cluster parameter group (RDS: in the instance's parameter "
          + "group), then "
          + "reboot the writer.")
    }

    private static func outputPlugins(_ facts: Facts) -> Finding? {
      guard let plugins = facts.outputPlugins, !plugins.havePgOutput else { return nil }
      return Finding(
        .blocker, check: "output_plugin_libraries", object: "source",
        why: "output_plugin_libraries does not name pgoutput, which the stream of changes comes from.",
        remedy: plugins.remedy)
    }

    private static func keepLimit(_ facts: Facts) -> Finding? {
      // Below a gigabyte even a tiny database's writers may exceed the limit while an engine is briefly
      // stopped.
      guard let limit = facts.slotKeepLimit, limit < max(facts.databaseBytes, 1 << 30) else { return nil }
      return Finding(
        .warning, check: "max_slot_wal_keep_size", object: "source",
        why:
          "max_slot_wal_keep_size is \(megabytes(limit)), the database \(megabytes(facts.databaseBytes)): "
          + "when more WAL "
          + "than that is written while the tables are copied or the engine is stopped, the server drops "
          + "what "
          + "the "
          + "slot needs and the migration must start over.",
        remedy:
          "ALTER SYSTEM SET max_slot_wal_keep_size = -1; SELECT pg_reload_conf(); (Amazon Aurora and RDS: in "
          + "the "
          + "parameter group), and watch the disk.")
    }

    private static func senderTimeout(_ facts: Facts) -> Finding? {
      guard (1..<10_000).contains(facts.walSenderTimeout) else { return nil }
      return Finding(
        .warning, check: "wal_sender_timeout", object: "source",
        why:
          "wal_sender_timeout is \(facts.walSenderTimeout) ms: a short stall of the network ends the stream.",
        remedy:
          "ALTER SYSTEM SET wal_sender_timeout = '60s'; SELECT pg_reload_conf(); (Amazon Aurora and RDS: in "
          + "the "
          + "parameter group).")
    }

    private static func idleTimeout(_ facts: Facts) -> Finding? {
      guard let seconds = facts.idleSlotTimeout, seconds > 0 else { return nil }
      return Finding(
        seconds < 86_400 ? .warning : .note, check: "idle_replication_slot_timeout", object: "source",
        why:
          "idle_replication_slot_timeout is \(seconds) s: an engine that is stopped for longer loses its "
          + "slot, and "
          + "the migration must start over.",
        remedy: "ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_reload_conf();")
    }

    private static func megabytes(_ bytes: Int64) -> String { "\(bytes >> 20) MB" }
  }

  /// Room for our slots and walsenders on the source.
  enum ReplicationCapacity {
    struct Facts: Sendable, Equatable {
      var maxSlots = 10
      var usedSlots = 0
      var maxWalSenders = 10
      var usedWalSenders = 0
      /// Whether our slot and its walsender already exist.
      var isResuming = false
      /// Whether our slot is unusable: its WAL is gone.
      var isSlotLost = false
    }

    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      // Counted by pg_stat_replication: unlike pg_stat_activity's types, every role sees its rows.
      let row = try await context.source.askOne(
        """
        SELECT pg_catalog.current_setting('max_replication_slots') AS max_slots,
          pg_catalog.current_setting('max_wal_senders') AS max_senders,
          (SELECT pg_catalog.count(*) FROM pg_catalog.pg_replication_slots) AS slots,
          (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_replication) AS senders,
          EXISTS (SELECT FROM pg_catalog.pg_replication_slots
            WHERE slot_name = $1 AND wal_status = 'lost') AS is_lost
        """, [context.names.slot], about: "the source's slots and walsenders")
      return judge(
        Facts(
          maxSlots: try row.integer("max_slots"), usedSlots: try row.integer("slots"),
          maxWalSenders: try row.integer("max_senders"), usedWalSenders: try row.integer("senders"),
          isResuming: context.isResuming, isSlotLost: try row.bool("is_lost")))
    }

    static func judge(_ facts: Facts) -> [Finding] {
      let needed = DecodingSettings.free(isResuming: facts.isResuming)
      var findings: [Finding] = []
      func need(_ what: String, setting: String, limit: Int, used: Int) {
        guard limit - used < needed else { return }
        let drop = setting == "max_replication_slots" ? "drop slots that nobody uses, or " : ""
        findings.append(
          Finding(
            .blocker, check: setting, object: "source",
            why: "\(used) of \(limit) \(what) are in use; a migration needs \(needed) more.",
            remedy:
              "\(drop)ALTER SYSTEM SET \(setting) = \(DecodingSettings.raised(above: used)); then restart "
              + "the server (Amazon Aurora and RDS: in the parameter group, then reboot the writer)."))
      }
      need(
        "replication slots", setting: "max_replication_slots", limit: facts.maxSlots, used: facts.usedSlots)
      need("walsenders", setting: "max_wal_senders", limit: facts.maxWalSenders, used: facts.usedWalSenders)
      if facts.isResuming, facts.isSlotLost {
        findings.append(
          Finding(
            .blocker, check: "slot_lost", object: "source",
            why: "The server removed WAL that this migration's slot needs: changes are missing for good.",
            remedy: "replicate abort --yes, raise max_slot_wal_keep_size on the source, then start again."))
      }
      return findings
    }
  }
}
