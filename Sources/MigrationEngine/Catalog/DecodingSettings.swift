import LibPQ

/// The settings that logical decoding depends on and that take effect only when the server starts (manual,
/// sections 20.5.1 and 20.6.1).
struct DecodingSettings: Sendable, Equatable {
  var walLevel = "logical"
  var maxSlots = 10
  var usedSlots = 0
  var maxWalSenders = 10
  var usedWalSenders = 0
  /// Whether our slot and its walsender already exist.
  var isResuming = false

  struct Need: Sendable, Equatable {
    var setting: String
    var now: String
    var needed: String

    /// Whether another value would do.
    func isMet(by value: String) -> Bool {
      guard let least = Int(needed) else { return value == needed }
      return Int(value).map { $0 >= least } ?? false
    }
  }

  /// Slots and walsenders that must be free: one for the stream, one for snapshots taken while it runs.
  static func free(isResuming: Bool) -> Int { isResuming ? 1 : 2 }

  /// A limit with room for more than us.
  static func raised(above used: Int) -> Int { used + 10 }

  var needs: [Need] {
    var needs: [Need] = []
    if walLevel != "logical" {
      needs.append(Need(setting: "wal_level", now: walLevel, needed: "logical"))
    }
    func limit(_ setting: String, _ limit: Int, used: Int) {
      guard limit - used < Self.free(isResuming: isResuming) else { return }
      needs.append(Need(setting: setting, now: "\(limit)", needed: "\(Self.raised(above: used))"))
    }
    limit("max_replication_slots", maxSlots, used: usedSlots)
    limit("max_wal_senders", maxWalSenders, used: usedWalSenders)
    return needs
  }

  static func read(from connection: Connection) async throws -> DecodingSettings {
    let rows = try await connection.query(
      """
      SELECT pg_catalog.current_setting('wal_level') AS wal_level,
        pg_catalog.current_setting('max_replication_slots') AS max_slots,
        pg_catalog.current_setting('max_wal_senders') AS max_senders,
        (SELECT pg_catalog.count(*) FROM pg_catalog.pg_replication_slots) AS slots,
        (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_replication) AS senders,
        EXISTS (SELECT FROM pg_catalog.pg_replication_slots s, pg_catalog.pg_database d
          WHERE d.datname = pg_catalog.current_database() AND s.slot_name = 'replicate_' || d.oid)
          AS is_resuming
      """, doing: "asking the \(connection.end) whether it can decode", within: .seconds(30))
    guard let row = rows.first else { return DecodingSettings() }
    return DecodingSettings(
      walLevel: try row.text("wal_level"), maxSlots: try row.integer("max_slots"),
      usedSlots: try row.integer("slots"), maxWalSenders: try row.integer("max_senders"),
      usedWalSenders: try row.integer("senders"), isResuming: try row.bool("is_resuming"))
  }
}
