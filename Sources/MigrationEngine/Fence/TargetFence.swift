import LibPQ

/// Keeps the target closed: until the source is sealed only the stream may write there. Its triggers are
/// ordinary ones, so that they do not fire for the stream's replica role (manual, section 20.11
/// `session_replication_role`).
struct TargetFence: Sendable {
  private let connection: Connection
  private let triggers: FenceTriggers
  private let held: SuspendedTriggers

  init(_ connection: Connection) {
    self.connection = connection
    held = SuspendedTriggers(connection: connection)
    triggers = FenceTriggers(
      connection: connection, name: "replicate_closed", function: "replicate.closed", firesAlways: false)
  }

  func close() async throws {
    // First, so that event triggers do not see the rest.
    try await held.hold()
    try await replace(Self.closedBody, doing: "closing the target for writes")
    let deadline = ContinuousClock.now + .seconds(300)
    for batch in try await triggers.missing().batches(of: 100) {
      try await triggers.create(on: Array(batch), until: deadline)
    }
  }

  /// Suspended triggers will open as they are on the source by now.
  func hold(as source: Connection) async throws { try await held.hold(as: source) }

  /// Triggers and rules whose mode will differ from the source's.
  func triggersDiffering(from source: Connection) async throws -> [TriggerState] {
    try await held.differing(from: source)
  }

  /// Lets writes pass, and the user's triggers fire: one commit for all tables, which waits for no table
  /// lock. `settle` does what needs locks.
  func open() async throws {
    try await replace(
      Self.openBody, doing: "opening the target for writes", with: try await held.releasing())
  }

  /// - Throws: `MigrationError` when the fence is missing, so that it is not known.
  func isOpen() async throws -> Bool {
    let action = "looking whether the target is open"
    let rows = try await connection.query(
      "SELECT prosrc FROM pg_catalog.pg_proc WHERE oid = pg_catalog.to_regprocedure('replicate.closed()')",
      doing: action, within: .seconds(15))
    switch try rows.first?.text("prosrc") {
    case Self.openBody: return true
    case Self.closedBody: return false
    case .some, nil:
      throw MigrationError(
        .failed, doing: action, reason: "function replicate.closed() is missing or was changed",
        remedy:
          "Somebody changed schema replicate of the target. Find out whether the target has taken writes.")
    }
  }

  /// Also for a target that was never opened: its triggers then become what they were on the source.
  func remove() async throws {
    let action = "dropping the triggers of the target's fence"
    for statement in try await held.releasing() {
      try await connection.query(statement, doing: action, within: .seconds(60))
    }
    try await LateChanges.insist(doing: action, within: .seconds(60)) { try await settle(within: $0) }
  }

  /// After the opening: makes late changes, has triggers and rules fire for replicated changes again, and
  /// drops the fence's triggers, as far as table locks are available at once.
  func settle(_ changes: [LateChange] = [], within limit: Duration) async throws -> LateChanges.Left {
    try await triggers.remove(
      after: changes + held.owed(), within: limit, quieting: try await held.quieting())
  }

  /// Does everything that opens the target, and rolls it back: whatever would be refused is refused now.
  func rehearseOpening() async throws {
    let action = "opening the target for writes, to see that it can be"
    let statements = try await held.releasing()
    try await connection.undoing(action) { _ in
      try await replace(Self.openBody, doing: action, with: statements)
    }
  }

  /// - Parameter statements: run after it in the same transaction.
  private func replace(
    _ body: String, doing action: String, with statements: [String] = []
  ) async throws {
    let function = """
      CREATE OR REPLACE FUNCTION replicate.closed() RETURNS trigger LANGUAGE plpgsql
      AS \(SQL.literal(body))
      """
    try await connection.query(
      ([function] + statements).joined(separator: ";\n"), doing: action, within: .seconds(15))
  }

  private static let openBody = "BEGIN RETURN NULL; END"
  private static let closedBody = """
    BEGIN
      RAISE EXCEPTION 'cannot execute % on %.%: the database is still being moved here',
        TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = '25006', HINT = 'Until the cutover is complete, write to where it has been.';
    END
    """
}
