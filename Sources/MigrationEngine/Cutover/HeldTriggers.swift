import LibPQ

/// The user's triggers and rules that fire in the replica role, too (`ENABLE ALWAYS` and `ENABLE REPLICA`),
/// and all event triggers: on the target they would do again what the source has done and the stream brings.
/// From the closing of the door to its opening they are disabled; what they were is noted in the same commit,
/// so that no crash loses it.
struct HeldTriggers: Sendable {
  let connection: Connection

  /// Disables them. Those that came since the last call are added.
  func hold() async throws {
    let action = "holding back the target's triggers that fire for replicated changes"
    if try await !hasTable(doing: action) {
      try await connection.query(StateSchema.held, doing: action, within: .seconds(15))
    }
    let rows = try await connection.query(
      """
      SELECT catalog, oid, enabled, disable FROM (\(Self.all())) AS t WHERE enabled <> 'D'
      -- Event triggers first: they would see what is done to the others.
      ORDER BY place DESC, oid
      """, doing: action, within: .seconds(60))
    for row in rows {
      try await LockRetry.run(
        """
        INSERT INTO replicate.held (catalog, oid, enabled)
          VALUES ('\(try row.text("catalog"))', \(try row.text("oid")), '\(try row.text("enabled"))')
          ON CONFLICT (catalog, oid) DO UPDATE SET enabled = EXCLUDED.enabled;
        \(try row.text("disable"))
        """, on: connection, doing: action, within: .seconds(60))
    }
  }

  /// Holds back what came since, too, and has all open as it is on the other end by now. So does what is
  /// disabled here and fires for replicated changes there: it was made during the migration.
  func hold(as other: Connection) async throws {
    try await hold()
    let action = "comparing the triggers that are held back with the \(other.end)'s"
    let rows = try await other.query(
      "SELECT catalog, name, enabled FROM (\(Self.all(states: "'O', 'A', 'R', 'D'"))) AS t", doing: action,
      within: .seconds(60))
    let columns = try ["catalog", "name", "enabled"].map { column in
      SQL.array(try rows.map { try $0.text(column) })
    }
    try await connection.query(
      """
      WITH there AS (SELECT t.catalog, t.oid, w.enabled, h.oid IS NOT NULL AS is_held
          FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[]),
              pg_catalog.unnest($3::text[])) AS w (catalog, name, enabled)
            JOIN (\(Self.all())) AS t ON t.catalog = w.catalog AND t.name = w.name
            LEFT JOIN replicate.held h ON h.catalog = t.catalog AND h.oid = t.oid
          WHERE t.enabled = 'D'),
        disabled AS (DELETE FROM replicate.held h USING there t
          WHERE h.catalog = t.catalog AND h.oid = t.oid AND t.enabled = 'D')
      INSERT INTO replicate.held (catalog, oid, enabled)
        SELECT catalog, oid, enabled::"char" FROM there
        WHERE enabled IN ('A', 'R') OR enabled = 'O' AND (is_held OR catalog = 'event trigger')
        ON CONFLICT (catalog, oid) DO UPDATE SET enabled = EXCLUDED.enabled
      """, columns, doing: action, within: .seconds(60))
  }

  /// Those that are enabled in another way on the other end than they will be here.
  func differing(from other: Connection) async throws -> [TriggerState] {
    let action = "comparing the triggers of both ends"
    let states = "'O', 'A', 'R', 'D'"
    let there = try await other.query(
      "SELECT catalog, schema, tag, enabled FROM (\(Self.all(states: states))) AS t", doing: action,
      within: .seconds(60))
    let none = "(SELECT NULL::text AS catalog, NULL::oid AS oid, NULL::\"char\" AS enabled)"
    let held = try await hasTable(doing: action) ? "replicate.held" : none
    let here = try await connection.query(
      """
      SELECT t.catalog, t.schema, t.tag, t.disable, pg_catalog.format(t.enable, '') AS enable,
        CASE WHEN t.enabled = 'D' THEN COALESCE(h.enabled, 'D') ELSE t.enabled END AS enabled
      FROM (\(Self.all(states: states))) AS t LEFT JOIN \(held) h ON h.catalog = t.catalog AND h.oid = t.oid
      """, doing: action, within: .seconds(60))
    func identity(_ row: Rows.Row) throws -> [String] {
      try ["catalog", "schema", "tag"].map { try row.text($0) }
    }
    let wanted = Dictionary(try there.map { (try identity($0), try $0.text("enabled")) }) { first, _ in first
    }
    return try here.compactMap { row in
      let key = try identity(row)
      guard let source = wanted[key].flatMap(TriggerState.Enabled.init(rawValue:)),
        let target = TriggerState.Enabled(rawValue: try row.text("enabled")), source != target
      else { return nil }
      // One that fires for replicated changes is held back until the target opens.
      let remedy = try row.text(source == .enabled ? "enable" : "disable")
      return TriggerState(
        kind: key[0].uppercased(), schema: key[1], tag: key[2], source: source, target: target,
        remedy: "\(remedy);")
    }
  }

  /// What makes them again what they were, as statements for the commit that opens the door. One that is not
  /// disabled any more was changed by somebody else, and stays.
  func releasing() async throws -> [String] {
    let action = "reading which of the target's triggers are held back"
    guard try await hasTable(doing: action) else { return [] }
    let rows = try await connection.query(
      """
      SELECT pg_catalog.format(t.enable, CASE h.enabled WHEN 'A' THEN 'ALWAYS ' WHEN 'R' THEN 'REPLICA '
          ELSE '' END) AS statement
      FROM (\(Self.all())) AS t JOIN replicate.held h ON h.catalog = t.catalog AND h.oid = t.oid
      WHERE t.enabled = 'D' ORDER BY t.place, t.oid
      """, doing: action, within: .seconds(60), isPrepared: true)
    // Event triggers last: they would see the others' DDL.
    return try rows.map { try $0.text("statement") }
      + (rows.isEmpty ? [] : ["DELETE FROM replicate.held"])
  }

  private func hasTable(doing action: String) async throws -> Bool {
    let rows = try await connection.query(
      "SELECT pg_catalog.to_regclass('replicate.held') IS NOT NULL AS it_does", doing: action,
      within: .seconds(15))
    return try rows.first?.bool("it_does") == true
  }

  /// Statements between which, in one transaction, DDL of ours stays unseen by event triggers.
  func quieting() async throws -> (before: [String], after: [String]) {
    let rows = try await connection.query(
      """
      SELECT disable, pg_catalog.format(enable,
          CASE enabled WHEN 'A' THEN 'ALWAYS ' WHEN 'R' THEN 'REPLICA ' ELSE '' END) AS enable
      FROM (\(Self.all())) AS t WHERE place = 3 AND enabled <> 'D'
      """, doing: "looking for event triggers on the target", within: .seconds(15))
    return (try rows.map { try $0.text("disable") }, try rows.map { try $0.text("enable") })
  }

  /// `enable` has a place for the word that says how; a `%` in a name is doubled. A partition's trigger that
  /// came from its parent's is one of its own.
  private static func all(states: String = "'A', 'R', 'D'") -> String {
    """
    SELECT 1 AS place, 'trigger' AS catalog, t.oid, t.tgenabled AS enabled,
      pg_catalog.format('%I.%I.%I', n.nspname, c.relname, t.tgname) AS name,
      n.nspname::text AS schema, c.relname || ' ' || t.tgname AS tag,
      pg_catalog.format('ALTER TABLE ONLY %I.%I DISABLE TRIGGER %I', n.nspname, c.relname, t.tgname)
        AS disable,
      pg_catalog.replace(pg_catalog.format('ALTER TABLE ONLY %I.%I ENABLE ', n.nspname, c.relname), '%', '%%')
        || '%sTRIGGER ' || pg_catalog.replace(pg_catalog.quote_ident(t.tgname), '%', '%%') AS enable
    FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE t.tgenabled IN (\(states)) AND (NOT t.tgisinternal OR t.tgparentid <> 0)
      AND t.tgfoid NOT IN (SELECT f.oid FROM pg_catalog.pg_proc f
        WHERE f.pronamespace = pg_catalog.to_regnamespace('replicate'))
      AND \(Catalog.isUserTable)
    UNION ALL
    SELECT 2, 'rule', r.oid, r.ev_enabled, pg_catalog.format('%I.%I.%I', n.nspname, c.relname, r.rulename),
      n.nspname::text, c.relname || ' ' || r.rulename,
      pg_catalog.format('ALTER TABLE %I.%I DISABLE RULE %I', n.nspname, c.relname, r.rulename),
      pg_catalog.replace(pg_catalog.format('ALTER TABLE %I.%I ENABLE ', n.nspname, c.relname), '%', '%%')
        || '%sRULE ' || pg_catalog.replace(pg_catalog.quote_ident(r.rulename), '%', '%%')
    FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class c ON c.oid = r.ev_class
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE r.ev_enabled IN (\(states)) AND \(Catalog.isUserTable)
    UNION ALL
    -- Those of the server's operator are for the operator alone.
    SELECT 3, 'event trigger', e.oid, e.evtenabled, pg_catalog.quote_ident(e.evtname), '-', e.evtname::text,
      pg_catalog.format('ALTER EVENT TRIGGER %I DISABLE', e.evtname),
      'ALTER EVENT TRIGGER ' || pg_catalog.replace(pg_catalog.quote_ident(e.evtname), '%', '%%')
        || ' ENABLE %s'
    FROM pg_catalog.pg_event_trigger e
    WHERE pg_catalog.pg_has_role(e.evtowner, 'USAGE') AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
      WHERE d.classid = 'pg_catalog.pg_event_trigger'::pg_catalog.regclass AND d.objid = e.oid
        AND d.deptype = 'e')
    """
  }
}
