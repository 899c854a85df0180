import LibPQ

/// The user's triggers and rules that also fire in the replica role (`ENABLE ALWAYS` and `ENABLE REPLICA`),
/// and all event triggers: on the end that a stream is applied to they would repeat what the other end has
/// done. While the end is closed they fire for ordinary sessions only (`ALWAYS`), or not at all (`REPLICA`,
/// event triggers); their former state is recorded in the same commit, so that no crash loses it. When the
/// end opens, they already work for the application's sessions without any table lock; for replicated changes
/// they are restored afterwards.
struct SuspendedTriggers: Sendable {
  let connection: Connection

  private typealias Enabled = TriggerState.Enabled

  /// One of the user's triggers, as it is on this end.
  private struct Trigger {
    var catalog: String
    var oid: String
    var table: RelationName?
    var enabled: Enabled
    /// Its state before it was suspended; nil when it is not.
    var held: Enabled?
    var disable: String
    /// The mode (ALWAYS, REPLICA) goes between the two.
    var enable: (head: String, tail: String)

    var isEvent: Bool { catalog == "event trigger" }

    /// Its state while it is suspended.
    func quiet(_ enabled: Enabled) -> Enabled { enabled == .always && !isEvent ? .enabled : .disabled }

    func statement(_ enabled: Enabled) -> String {
      switch enabled {
      case .disabled: disable
      case .enabled: enable.head + enable.tail
      case .always: "\(enable.head) ALWAYS\(enable.tail)"
      case .replica: "\(enable.head) REPLICA\(enable.tail)"
      }
    }

    /// Its state once its end is open.
    var opensAs: Enabled { isTouched ? enabled : held ?? enabled }

    /// Somebody else has changed it since, so it stays as it is.
    var isTouched: Bool { held.map { quiet($0) != enabled } ?? false }
  }

  /// Suspends them. Those created since the last call are added.
  func hold() async throws {
    for trigger in try await firingTables() { try await hold(trigger, as: trigger.enabled, doing: action) }
  }

  /// Those not suspended yet, except event triggers, which are suspended now: all at once, since recording
  /// one would fire the others.
  private func firingTables() async throws -> [Trigger] {
    let firing = try await firing()
    let events = firing.filter(\.isEvent)
    if !events.isEmpty {
      let statements = events.map(\.disable) + events.map { Self.noting($0, as: $0.enabled) }
      try await connection.query(statements.joined(separator: ";\n"), doing: action, within: .seconds(15))
    }
    return firing.filter { !$0.isEvent }
  }

  private var action: String {
    "suspending the \(connection.end)'s triggers that fire for replicated changes"
  }

  /// Those not suspended yet.
  private func firing() async throws -> [Trigger] {
    if try await !NotedRows.held.exist(on: connection, doing: action) {
      try await connection.query(NotedRows.held.creation, doing: action, within: .seconds(15))
    }
    return try await triggers(doing: action).filter { trigger in
      trigger.isEvent ? trigger.enabled != .disabled : [.always, .replica].contains(trigger.enabled)
    }
  }

  /// Suspends event triggers at once.
  /// - Returns: the changes that suspend the others, where nobody may be kept waiting.
  func holding() async throws -> [LateChange] {
    var changes: [LateChange] = []
    for trigger in try await firingTables() {
      guard let table = trigger.table else { continue }
      changes.append(
        LateChange(
          table, doing: "suspending a \(trigger.catalog) of \(table) on the \(connection.end)",
          "\(Self.noting(trigger, as: trigger.enabled));\n"
            + trigger.statement(trigger.quiet(trigger.enabled))
        ))
    }
    return changes
  }

  private func hold(_ trigger: Trigger, as enabled: Enabled, doing action: String) async throws {
    try await change(
      trigger, to: trigger.quiet(enabled), Self.noting(trigger, as: enabled), doing: action)
  }

  private static func noting(_ trigger: Trigger, as enabled: Enabled) -> String {
    NotedRows.held.addition(
      of: """
        pg_catalog.jsonb_build_object('catalog', '\(trigger.catalog)', 'oid', \(trigger.oid)::oid,
          'enabled', '\(enabled.rawValue)')
        """, replacing: isNoted(trigger))
  }

  private func release(_ trigger: Trigger, as enabled: Enabled, doing action: String) async throws {
    try await change(trigger, to: enabled, Self.forget(trigger), doing: action)
  }

  private static func forget(_ trigger: Trigger) -> String {
    NotedRows.held.removal(where: isNoted(trigger))
  }

  private static func isNoted(_ trigger: Trigger) -> String {
    "r.catalog = '\(trigger.catalog)' AND r.oid = \(trigger.oid)"
  }

  private func change(
    _ trigger: Trigger, to enabled: Enabled, _ note: String, doing action: String
  ) async throws {
    guard trigger.enabled != enabled else {
      try await connection.query(note, doing: action, within: .seconds(15))
      return
    }
    try await LockRetry.execute(
      "\(note);\n\(trigger.statement(enabled))", on: connection, doing: action, within: .seconds(60))
  }

  /// Suspends those created since, too, and has all of them open as they are on the other end by now. This
  /// includes what is disabled here and fires for replicated changes there: it was created during the
  /// migration.
  func hold(as other: Connection) async throws {
    try await hold()
    let action = "comparing the suspended triggers with the \(other.end)'s"
    let there = Dictionary(
      try await SuspendedTriggers(connection: other).named(doing: action).map { ($0, $1.opensAs) }
    ) { first, _ in first }
    for (name, trigger) in try await named(doing: action) {
      guard let wanted = there[name], !trigger.isTouched else { continue }
      if let held = trigger.held {
        guard held != wanted else { continue }
      } else {
        // Others are differences that somebody must look at.
        guard trigger.enabled == .disabled else { continue }
        guard trigger.isEvent ? wanted != .disabled : [.always, .replica].contains(wanted) else { continue }
      }
      if [.always, .replica].contains(wanted) || trigger.isEvent && wanted == .enabled {
        try await hold(trigger, as: wanted, doing: action)
      } else {
        try await release(trigger, as: wanted, doing: action)
      }
    }
  }

  /// Those whose mode on the other end differs from what it will be here.
  func differing(from other: Connection) async throws -> [TriggerState] {
    let action = "comparing the triggers of both ends"
    func identity(_ row: Rows.Row) throws -> [String] {
      try ["catalog", "schema", "tag"].map { try row.text($0) }
    }
    let there = try await SuspendedTriggers(connection: other).rows(doing: action)
    let wanted = Dictionary(try there.map { (try identity($0), try Self.trigger($0).opensAs) }) { first, _ in
      first
    }
    return try await rows(doing: action).compactMap { row in
      let key = try identity(row)
      let trigger = try Self.trigger(row)
      guard let source = wanted[key], source != trigger.opensAs else { return nil }
      // One that fires for replicated changes is suspended until the target opens.
      return TriggerState(
        kind: key[0].uppercased(), schema: key[1], tag: key[2], source: source, target: trigger.opensAs,
        remedy: "\(trigger.statement(source == .enabled ? .enabled : .disabled));")
    }
  }

  /// The statements that let event triggers fire again, for the commit that opens the end. One that is no
  /// longer disabled was changed by somebody else, and stays.
  func releasing() async throws -> [String] {
    let held = try await held(where: "t.place = 3")
    guard !held.isEmpty else { return [] }
    // The record first: it is a command that they would see.
    return [NotedRows.held.removal(where: "r.catalog = 'event trigger'")]
      + held.compactMap { trigger in trigger.held.map { trigger.statement($0) } }
  }

  /// The changes that make the others fire for replicated changes again, once the end is open.
  func owed() async throws -> [LateChange] {
    try await held(where: "t.place < 3").compactMap { trigger in
      guard let table = trigger.table, let enabled = trigger.held else { return nil }
      return LateChange(
        table,
        doing: "enabling a \(trigger.catalog) of \(table) on the \(connection.end) as it was: "
          + trigger.statement(enabled), "\(Self.forget(trigger));\n\(trigger.statement(enabled))")
    }
  }

  private func held(where condition: String) async throws -> [Trigger] {
    let action = "reading which of the \(connection.end)'s triggers are suspended"
    guard try await NotedRows.held.exist(on: connection, doing: action) else { return [] }
    return try await rows(doing: action, where: "\(condition) AND h.oid IS NOT NULL").map(Self.trigger)
      .filter { !$0.isTouched }
  }

  // MARK: Reading

  private func triggers(doing action: String) async throws -> [Trigger] {
    try await rows(doing: action).map(Self.trigger)
  }

  private func named(doing action: String) async throws -> [(String, Trigger)] {
    try await rows(doing: action).map { row in
      ("\(try row.text("catalog")) \(try row.text("name"))", try Self.trigger(row))
    }
  }

  /// Event triggers first: they would see what is done to the others.
  private func rows(doing action: String, where condition: String = "true") async throws -> Rows {
    let none = "(SELECT NULL::text AS catalog, NULL::oid AS oid, NULL::\"char\" AS enabled)"
    let held = try await NotedRows.held.exist(on: connection, doing: action) ? NotedRows.held.relation : none
    return try await connection.query(
      """
      SELECT t.*, h.enabled AS held
      FROM (\(Self.all)) AS t LEFT JOIN \(held) h ON h.catalog = t.catalog AND h.oid = t.oid
      WHERE \(condition) ORDER BY t.place DESC, t.oid
      """, doing: action, within: .seconds(60), isPrepared: true)
  }

  private static func trigger(_ row: Rows.Row) throws -> Trigger {
    let text = try row.text("enabled")
    guard let enabled = Enabled(rawValue: text) else {
      throw MigrationError(
        .failed, doing: "reading triggers", reason: "one has an unknown mode: \(text)")
    }
    let table = try row.optional("relation")
    return Trigger(
      catalog: try row.text("catalog"), oid: try row.text("oid"),
      table: try table.map { RelationName(schema: try row.text("schema"), name: $0) }, enabled: enabled,
      held: try row.optional("held").flatMap(Enabled.init(rawValue:)), disable: try row.text("disable"),
      enable: (head: try row.text("enable"), tail: try row.text("enabled_thing")))
  }

  /// Statements that hide our DDL from event triggers, before and after it in one transaction.
  func quieting() async throws -> (before: [String], after: [String]) {
    let rows = try await connection.query(
      """
      SELECT disable, enable || CASE enabled WHEN 'A' THEN ' ALWAYS' WHEN 'R' THEN ' REPLICA' ELSE '' END
        AS enable
      FROM (\(Self.all)) AS t WHERE place = 3 AND enabled <> 'D'
      """, doing: "looking for event triggers on the \(connection.end)", within: .seconds(15))
    return (try rows.map { try $0.text("disable") }, try rows.map { try $0.text("enable") })
  }

  /// A partition's trigger cloned from its parent's counts as its own.
  private static let all = """
    SELECT 1 AS place, 'trigger' AS catalog, t.oid, t.tgenabled AS enabled,
      pg_catalog.format('%I.%I.%I', n.nspname, c.relname, t.tgname) AS name,
      n.nspname::text AS schema, c.relname::text AS relation, c.relname || ' ' || t.tgname AS tag,
      pg_catalog.format('ALTER TABLE ONLY %I.%I DISABLE TRIGGER %I', n.nspname, c.relname, t.tgname)
        AS disable,
      pg_catalog.format('ALTER TABLE ONLY %I.%I ENABLE', n.nspname, c.relname) AS enable,
      pg_catalog.format(' TRIGGER %I', t.tgname) AS enabled_thing
    FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE (NOT t.tgisinternal OR t.tgparentid <> 0)
      AND t.tgfoid NOT IN (SELECT f.oid FROM pg_catalog.pg_proc f
        WHERE f.pronamespace = pg_catalog.to_regnamespace('replicate'))
      AND \(Catalog.isUserTable)
    UNION ALL
    SELECT 2, 'rule', r.oid, r.ev_enabled, pg_catalog.format('%I.%I.%I', n.nspname, c.relname, r.rulename),
      n.nspname::text, c.relname::text, c.relname || ' ' || r.rulename,
      pg_catalog.format('ALTER TABLE %I.%I DISABLE RULE %I', n.nspname, c.relname, r.rulename),
      pg_catalog.format('ALTER TABLE %I.%I ENABLE', n.nspname, c.relname),
      pg_catalog.format(' RULE %I', r.rulename)
    FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class c ON c.oid = r.ev_class
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE \(Catalog.isUserTable)
    UNION ALL
    -- Those of the server's operator are the operator's business.
    SELECT 3, 'event trigger', e.oid, e.evtenabled, pg_catalog.quote_ident(e.evtname), '-', NULL,
      e.evtname::text, pg_catalog.format('ALTER EVENT TRIGGER %I DISABLE', e.evtname),
      pg_catalog.format('ALTER EVENT TRIGGER %I ENABLE', e.evtname), ''
    FROM pg_catalog.pg_event_trigger e
    WHERE pg_catalog.pg_has_role(e.evtowner, 'USAGE') AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
      WHERE d.classid = 'pg_catalog.pg_event_trigger'::pg_catalog.regclass AND d.objid = e.oid
        AND d.deptype = 'e')
    """
}
