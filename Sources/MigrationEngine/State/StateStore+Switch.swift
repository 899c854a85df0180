import LibPQ

/// What is stored of the switch steps of one cutover, so that an engine that comes after a crash knows which
/// are done.
struct SwitchLog: Sendable {
  enum State: String, Sendable {
    /// Clients wait in the step's poolers: set before the fence by the engine, until they were let go.
    case paused
    /// Under way: whoever finds it does the step again.
    case running
    case done
    case failed
    /// The clients that waited in the step's poolers were let go to the source.
    case undone
  }

  let store: StateStore
  let cutover: Int64

  /// - Parameters:
  ///   - position: of the step, from 0.
  ///   - definition: says whether it is still the same step; without secrets.
  func store(_ state: State, of position: Int, _ definition: String, detail: String) async throws {
    try await store.connection.query(
      """
      INSERT INTO replicate.switch_step (cutover, position, definition, state, detail)
      VALUES ($1, $2, $3, $4, $5)
      ON CONFLICT (cutover, position) DO UPDATE SET definition = EXCLUDED.definition,
        state = EXCLUDED.state, detail = EXCLUDED.detail, at = pg_catalog.clock_timestamp()
      """, [String(cutover), String(position), definition, state.rawValue, detail],
      doing: "noting how far the switch has come", within: StateStore.limit)
  }

  /// What a step did that is done already.
  func done(_ position: Int, _ definition: String) async throws -> String? {
    let rows = try await store.connection.query(
      """
      SELECT detail FROM replicate.switch_step
      WHERE cutover = $1 AND position = $2 AND definition = $3 AND state = 'done'
      """, [String(cutover), String(position), definition],
      doing: "reading how far the switch has come", within: StateStore.limit)
    return try rows.first?.text("detail")
  }

  /// What was told of the poolers in which clients may wait still.
  func paused() async throws -> [String] {
    let rows = try await store.connection.query(
      "SELECT detail FROM replicate.switch_step WHERE cutover = $1 AND state = 'paused' ORDER BY position",
      [String(cutover)], doing: "reading which poolers were paused", within: StateStore.limit)
    return try rows.map { try $0.text("detail") }
  }
}
