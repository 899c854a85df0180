import LibPQ

/// The fence: one function, called by a statement trigger on every table of an end: the source, or in a
/// rollback the target. Replacing the function switches all of them at once, without locking any table. The
/// triggers fire for superusers and under every `session_replication_role` (manual, section 39.1, and `ALTER
/// TABLE … ENABLE ALWAYS TRIGGER`), and call the function by its OID, so that writers need no rights on
/// schema `replicate`.
struct WriteFence: Sendable {
  /// What a fence promises to the engine that put it up.
  struct Fence: Sendable {
    /// When the fence lets writes pass by itself, by the source's clock.
    let expiry: String
    /// Until this instant of our own clock the fence has not expired.
    let localDeadline: ContinuousClock.Instant
    /// Distinguishes it from every other fence: its holder may seal it and remove it.
    let token: String
    /// The definitions of tables and triggers when it was put up.
    let definitions: FenceTriggers.Definitions
  }

  let connection: Connection
  private let triggers: FenceTriggers
  private let words: Words

  /// - Parameters:
  ///   - direction: the direction of the move whose writes it refuses.
  ///   - leftBehind: tables that are not migrated: those that our role does not own are not guarded.
  init(
    _ connection: Connection, moving direction: Direction = .forward,
    leaving leftBehind: Set<RelationName> = []
  ) {
    self.connection = connection
    words = Words(direction)
    triggers = FenceTriggers(
      connection: connection, name: "replicate_guard", function: "replicate.guard", firesAlways: true,
      leftBehind: leftBehind)
  }

  /// Tables that the fence does not protect.
  func unguarded() async throws -> [RelationName] { try await triggers.missing().map(\.table) }

  /// Creates the fence, which lets everything pass, and its triggers where they are missing. A fence that an
  /// engine left is removed.
  /// - Parameter onBlocked: receives, once per table, the sessions that keep it from being guarded, before
  ///   giving up; may end them.
  /// - Returns: how many tables got a trigger.
  /// - Throws: `MigrationError` that names the sessions that keep a table from being guarded.
  @discardableResult
  func arm(
    within limit: Duration, isolation: isolated (any Actor)? = #isolation,
    onBlocked: ([Writer]) async throws -> Void = { _ in }
  ) async throws -> Int {
    let deadline = ContinuousClock.now + limit
    // An engine without tokens may have created it.
    try await SourceState(connection).createTables()
    try await unfence()
    var count = 0
    while true {
      let missing = try await triggers.missing()
      if missing.isEmpty { return count }
      for table in missing {
        do {
          do {
            try await triggers.create(on: [table], until: min(deadline, .now + Self.patience))
          } catch let error as PostgresError where error.sqlState == .lockNotAvailable {
            try await onBlocked(try await Writers(connection).blocking(table.table))
            try await triggers.create(on: [table], until: deadline)
          }
          count += 1
        } catch let error as PostgresError where error.sqlState == .lockNotAvailable {
          throw try await blocked(table.table, error)
        } catch let error as PostgresError where error.sqlState == .undefinedTable {
          // Dropped since we looked.
          continue
        }
      }
    }
  }

  /// How long to try for a table's lock before looking who holds it.
  private static let patience = Duration.seconds(1)

  private func blocked(_ table: RelationName, _ error: PostgresError) async throws -> MigrationError {
    let holders = try await Writers(connection).blocking(table)
    return MigrationError(
      .failed, doing: error.action,
      reason: holders.isEmpty
        ? "the table could not be locked" : "it is locked by \(Writers.list(holders))",
      remedy: Writers.remedy(holders))
  }

  /// Refuses writes from its commit on, until it expires.
  /// - Parameters:
  ///   - lifetime: after which writes pass again if the fence is not removed before.
  ///   - token: identifies the fence, even when it is not known whether it stands.
  func fence(
    expiringAfter lifetime: Duration, token: String = Self.newToken()
  ) async throws -> Fence {
    // Read before the server's clock, so that our deadline comes first.
    let localDeadline = ContinuousClock.now + lifetime
    let action = "putting up the fence on the \(connection.end)"
    let words = words
    let definitions = try await triggers.definitions()
    let expiry = try await connection.transaction(doing: action) { connection in
      let rows = try await connection.query(
        """
        SELECT pg_catalog.to_char((pg_catalog.clock_timestamp() + $1::pg_catalog.interval) AT TIME ZONE 'UTC',
          'YYYY-MM-DD HH24:MI:SS.US') || '+00' AS expiry
        """, ["\(lifetime / .milliseconds(1)) ms"], doing: action, within: .seconds(10))
      guard let expiry = try rows.first?.text("expiry") else {
        throw MigrationError(.failed, doing: action, reason: "the \(connection.end) did not report its time")
      }
      // First, for its lock: concurrent changes of the fence are serialised.
      guard
        try await Self.change(
          to: .fenced, token, where: "state <> 'sealed'", on: connection, doing: action)
      else { throw Sealed(end: connection.end, isOurs: false) }
      try await Self.create(words.fenced(until: expiry), on: connection, doing: action)
      return expiry
    }
    return Fence(expiry: expiry, localDeadline: localDeadline, token: token, definitions: definitions)
  }

  static func newToken() -> String { String(UInt64.random(in: 0 ... .max), radix: 16) }

  /// Lets writes pass again. If a failover loses that, the fence expires by itself, so it does not wait for
  /// standbys.
  /// - Parameter token: of the fence to remove; nil: whichever stands.
  /// - Throws: `Sealed` after the point of no return.
  func unfence(_ token: String? = nil) async throws {
    let action = "taking down the fence on the \(connection.end)"
    try await connection.transaction(doing: action) { connection in
      try await connection.query(
        "SET LOCAL synchronous_commit = local", doing: action, within: .seconds(10))
      let isOurs = token.map { "token = \(SQL.literal($0))" } ?? "true"
      if try await Self.change(
        to: .open, nil, where: "state <> 'sealed' AND \(isOurs)", on: connection, doing: action)
      {
        return try await Self.create(Self.openBody, on: connection, doing: action)
      }
      let rows = try await connection.query(
        "SELECT state, \(isOurs) AS is_ours FROM replicate.fence()", doing: action, within: .seconds(10))
      // Otherwise somebody has removed it before us, and perhaps put up another.
      guard let row = rows.first, try row.text("state") == SourceState.Fence.sealed.rawValue else { return }
      throw Sealed(end: connection.end, isOurs: try row.optional("is_ours") == "t")
    }
  }

  /// The end is sealed: only a rollback to it removes its fence.
  struct Sealed: Error, CustomStringConvertible {
    let end: String
    /// Whether it was our fence, by its token.
    let isOurs: Bool
    var description: String { "the \(end) is sealed: its successor may have taken writes" }
  }

  /// Makes the fence permanent: the point of no return.
  /// - Returns: whether it was committed before `fence` could expire. If not, writes may have passed before
  ///   the seal.
  /// - Throws: when it was not committed, or when that is not known; then ask `SourceState.fence()`.
  func seal(_ fence: Fence) async throws -> Bool {
    let action = "sealing the \(connection.end)"
    let body = words.sealed(passing: nil)
    try await connection.transaction(doing: action, within: Self.commitLimit) { connection in
      // A failover must not lose the seal.
      try await connection.query("SET LOCAL synchronous_commit = on", doing: action, within: .seconds(10))
      let isOurs = "state = 'fenced' AND token = \(SQL.literal(fence.token))"
      guard
        try await Self.change(to: .sealed, fence.token, where: isOurs, on: connection, doing: action)
      else { throw Self.lost(fence, doing: action) }
      try await Self.create(body, on: connection, doing: action)
      // Checked in the same transaction.
      try await ensureNothingPassed(fence, doing: action)
    }
    let rows = try await connection.query(
      "SELECT pg_catalog.clock_timestamp() < $1::pg_catalog.timestamptz AS in_time", [fence.expiry],
      doing: action, within: .seconds(10))
    return try rows.first?.bool("in_time") == true && .now < fence.localDeadline
  }

  /// How long the seal's commit may take: it must return before the fence expires.
  private static let commitLimit = Duration.seconds(4)

  private static func lost(_ fence: Fence, doing action: String) -> MigrationError {
    MigrationError(
      .failed, doing: action, reason: "the fence that this engine put up no longer stands",
      remedy: "Another engine has removed it. Look at replicate status, then try again.")
  }

  /// Looks for everything that would keep the end from being sealed, and changes nothing.
  func examine(_ fence: Fence) async throws {
    let action = "looking for what would keep the \(connection.end) from being sealed"
    let rows = try await connection.query(
      "SELECT state = 'fenced' AND token = $1 AS it_stands FROM replicate.fence()", [fence.token],
      doing: action, within: .seconds(10))
    guard try rows.first?.optional("it_stands") == "t" else { throw Self.lost(fence, doing: action) }
    try await ensureNothingPassed(fence, doing: action)
  }

  /// Finds writes that no trigger sees, and those hidden by a trigger that was enabled again.
  private func ensureNothingPassed(_ fence: Fence, doing action: String) async throws {
    let writers = Writers(connection)
    // First: the catalogs then show the changes of those that have ended.
    try await awaitEnd("tables are being created or altered, so that rows can change unseen", doing: action) {
      try await writers.ofDefinitions()
    }
    let unguarded = try await triggers.missing().map(\.table)
    guard unguarded.isEmpty else {
      throw MigrationError(
        .failed, doing: action,
        reason: "not guarded: \(unguarded.map(\.description).joined(separator: ", "))",
        remedy:
          "They were created, or their trigger was disabled, after the fence. Stop that, then try again.")
    }
    try await writers.ensureNoReplicators(doing: action)
    try await awaitEnd("rows are being written although the fence refuses it", doing: action) {
      try await writers.pastGuard()
    }
    let changed = try await triggers.changed(since: fence.definitions)
    guard changed.isEmpty else {
      throw MigrationError(
        .failed, doing: action,
        reason: "changed after the fence: \(changed.map(\.description).joined(separator: ", "))",
        remedy:
          "While a table's definition changes, or its trigger is disabled, rows can change unseen. "
          + "Stop that, then try again.")
    }
    try await awaitEnd(
      "large objects or tables of extensions are being written, which no fence stops", doing: action
    ) { try await writers.ofUnfenced() }
  }

  /// How long to wait for a transaction that prevents the seal: most are short, and users wait.
  private static let endPatience = Duration.milliseconds(500)

  private func awaitEnd(
    _ reason: String, doing action: String, of writers: () async throws -> [Writer]
  ) async throws {
    let deadline = ContinuousClock.now + Self.endPatience
    while true {
      let open = try await writers()
      if open.isEmpty { return }
      guard ContinuousClock.now < deadline else {
        throw MigrationError(
          .failed, doing: action, reason: "\(reason): \(Writers.list(open))", remedy: Writers.remedy(open))
      }
      try await Task.sleep(for: .milliseconds(20))
    }
  }

  // MARK: After the seal

  /// Admits only sessions that know `pass` through the sealed fence: those of one engine.
  /// - Parameter pass: nil: no session at all.
  /// - Throws: also when the end is not sealed.
  func admit(_ pass: Pass?) async throws {
    let action = "changing which sessions the seal of the \(connection.end) admits"
    let body = words.sealed(passing: try await pass?.digest(on: connection))
    try await connection.transaction(doing: action) { connection in
      try await connection.query(NotedRows.fence.lock, doing: action, within: .seconds(10))
      let rows = try await connection.query(
        "SELECT state FROM replicate.fence() WHERE state = 'sealed'", doing: action, within: .seconds(10))
      guard rows.count == 1 else {
        throw MigrationError(
          .failed, doing: action, reason: "it is not sealed",
          remedy: "Somebody changed schema replicate there. Find out which end has taken writes.")
      }
      try await Self.create(body, on: connection, doing: action)
    }
  }

  /// Lets all writes pass again, and event triggers fire: the writes have moved back. One commit for all
  /// tables.
  func unseal() async throws {
    let action = "opening the \(connection.end) for writes"
    let releasing = try await SuspendedTriggers(connection: connection).releasing()
    try await connection.transaction(doing: action) { try await Self.unseal($0, releasing, doing: action) }
  }

  /// Does the same, and rolls it back: whatever would be refused is refused now.
  func rehearseUnsealing() async throws {
    let action = "opening the \(connection.end) for writes, to see that it can be"
    let releasing = try await SuspendedTriggers(connection: connection).releasing()
    try await connection.undoing(action) { try await Self.unseal($0, releasing, doing: action) }
  }

  private static func unseal(
    _ connection: isolated Connection, _ releasing: [String], doing action: String
  ) async throws {
    guard try await change(to: .open, nil, where: "true", on: connection, doing: action) else {
      throw MigrationError(.failed, doing: action, reason: "replicate.fence has lost its row")
    }
    try await create(openBody, on: connection, doing: action)
    for statement in releasing { try await connection.query(statement, doing: action, within: .seconds(10)) }
  }

  /// Drops triggers and function.
  func remove() async throws {
    try await LateChanges.insist(
      doing: "dropping the triggers of the fence on the \(connection.end)", within: .seconds(60)
    ) { try await settle(within: $0) }
  }

  /// Makes late changes, and drops triggers and function, as far as table locks are available at once.
  func settle(_ changes: [LateChange] = [], within limit: Duration) async throws -> LateChanges.Left {
    try await triggers.remove(after: changes, within: limit)
  }

  // MARK: The function

  /// - Returns: whether `condition` was true of the fence.
  private static func change(
    to state: SourceState.Fence, _ token: String?, where condition: String,
    on connection: isolated Connection, doing action: String
  ) async throws -> Bool {
    try await connection.query(NotedRows.fence.lock, doing: action, within: .seconds(10))
    let new = """
      pg_catalog.jsonb_build_array(pg_catalog.jsonb_build_object('state', $1::text, 'token', $2::text))
      """
    let rows = try await connection.query(
      "SELECT \(NotedRows.fence.replacement(by: new)) FROM replicate.fence() WHERE \(condition)",
      [state.rawValue, token], doing: action, within: .seconds(10))
    return rows.count == 1
  }

  private static func create(
    _ body: String, on connection: isolated Connection, doing action: String
  ) async throws {
    try await connection.query(
      """
      CREATE OR REPLACE FUNCTION replicate.guard() RETURNS trigger LANGUAGE plpgsql AS \(SQL.literal(body))
      """, doing: action, within: .seconds(10))
  }

  private static let openBody = "BEGIN RETURN NULL; END"
}

extension WriteFence {
  /// Admits one engine's sessions through a sealed fence: a session setting whose digest the fence knows.
  /// Everyone may read the digest, like every function; only that engine knows the secret. It holds against
  /// every role that cannot replace the fence itself.
  struct Pass: Sendable {
    private let secret: String
    fileprivate static let setting = "replicate.pass"

    init() {
      var random = SystemRandomNumberGenerator()
      secret = (0..<4).map { _ in
        let word = String(random.next(), radix: 16)
        return String(repeating: "0", count: 16 - word.count) + word
      }.joined()
    }

    /// The connection string for sessions that may pass.
    func applied(to string: ConnectionString) -> ConnectionString {
      string.settingSecretly(Self.setting, to: secret)
    }

    /// On any connection: the server computes it from a parameter.
    func digest(on connection: Connection) async throws -> Digest {
      let rows = try await connection.query(
        """
        SELECT pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to($1, 'UTF8')), 'hex') AS digest
        """, [secret], doing: "computing the digest of the engine's pass", within: .seconds(15))
      return Digest(text: try rows.first?.text("digest") ?? "")
    }

    struct Digest: Sendable {
      fileprivate var text: String
    }
  }

  /// The bodies of the fence.
  private struct Words: Sendable {
    private let moves: String
    private let hasMoved: String
    private let hint: String

    init(_ direction: Direction) {
      moves = direction == .forward ? "moves to its successor" : "moves back to where it was"
      hasMoved = direction == .forward ? "has moved to its successor" : "has moved back to where it was"
      hint = direction == .forward ? "Connect to the successor." : "Connect to where it was."
    }

    func fenced(until expiry: String) -> String {
      """
      BEGIN
        IF pg_catalog.clock_timestamp() OPERATOR(pg_catalog.<) '\(expiry)'::pg_catalog.timestamptz THEN
          RAISE EXCEPTION 'cannot execute % on %.%: writes wait while the database \(moves)',
            TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
            USING ERRCODE = '25006', HINT = 'Try again in a moment.';
        END IF;
        RETURN NULL;
      END
      """
    }

    func sealed(passing digest: Pass.Digest?) -> String {
      let pass =
        digest.map { digest in
          """
          IF pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(
              coalesce(pg_catalog.current_setting('\(Pass.setting)', true), ''), 'UTF8')), 'hex')
              OPERATOR(pg_catalog.=) '\(digest.text)' THEN
            RETURN NULL;
          END IF;
          """
        } ?? ""
      return """
        BEGIN
          \(pass)
          RAISE EXCEPTION 'cannot execute % on %.%: the database \(hasMoved)',
            TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
            USING ERRCODE = '25006', HINT = '\(hint)';
        END
        """
    }
  }
}
