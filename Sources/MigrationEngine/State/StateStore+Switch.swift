import LibPQ

/// What is stored about the switch steps of one cutover, so that the next engine after a crash knows which
/// are done.
struct SwitchLog: Sendable {
  enum State: String, Sendable {
    /// Clients wait in the step's poolers: set by the engine before the fence, until they are released.
    case paused
    /// In progress: an engine that finds it repeats the step.
    case running
    case done
    case failed
    /// The clients that waited in the step's poolers were sent back to the source.
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

  /// What a completed step did.
  func done(_ position: Int, _ definition: String) async throws -> String? {
    let rows = try await store.connection.query(
      """
      SELECT detail FROM replicate.switch_step
      WHERE cutover = $1 AND position = $2 AND definition = $3 AND state = 'done'
      """, [String(cutover), String(position), definition],
      doing: "reading how far the switch has come", within: StateStore.limit)
    return try rows.first?.text("detail")
  }

  /// What was noted of a step that was under way when its engine died; nil when none was.
  func running(_ position: Int, _ definition: String) async throws -> String? {
    let rows = try await store.connection.query(
      """
      SELECT detail FROM replicate.switch_step
      WHERE cutover = $1 AND position = $2 AND definition = $3 AND state = 'running'
      """, [String(cutover), String(position), definition],
      doing: "reading how far a switch step had come", within: StateStore.limit)
    return try rows.first?.text("detail")
  }

  /// The labels of poolers in which clients may still be waiting.
  func paused() async throws -> [String] {
    let rows = try await store.connection.query(
      "SELECT detail FROM replicate.switch_step WHERE cutover = $1 AND state = 'paused' ORDER BY position",
      [String(cutover)], doing: "reading which poolers were paused", within: StateStore.limit)
    return try rows.map { try $0.text("detail") }
  }
}
