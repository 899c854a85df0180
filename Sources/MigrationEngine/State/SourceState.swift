package import LibPQ

/// The fence's state in schema `replicate` of an end, and what must be put back there: on the source when the
/// migration is aborted, on the target when there is no way back any more.
package struct SourceState: Sendable {
  /// How the guard stands. One row, changed in the same transaction as the guard itself.
  package enum Fence: String, Sendable {
    /// The guard, if there is one, lets everything pass.
    case open
    /// The guard refuses writes until it expires.
    case fenced
    /// The guard refuses writes for good: the point of no return is behind us.
    case sealed
  }

  package let connection: Connection

  package init(_ connection: Connection) { self.connection = connection }

  package func create() async throws {
    try await connection.query(
      """
      CREATE SCHEMA IF NOT EXISTS replicate;
      COMMENT ON SCHEMA replicate IS 'Fence of a migration by replicate; dropped by replicate abort.'
      """, doing: "creating schema replicate on the \(connection.end)", within: .seconds(30))
    try await createTables()
  }

  /// In a schema that is there: the target's.
  package func createTables() async throws {
    try await connection.query(
      """
      CREATE TABLE IF NOT EXISTS replicate.fence (
        only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
        state text NOT NULL CHECK (state IN ('open', 'fenced', 'sealed')),
        -- Of whoever has put it up.
        token text);
      ALTER TABLE replicate.fence ADD COLUMN IF NOT EXISTS token text;
      INSERT INTO replicate.fence (state) VALUES ('open') ON CONFLICT DO NOTHING;
      CREATE TABLE IF NOT EXISTS replicate.identity (
        relation oid PRIMARY KEY,
        previous text NOT NULL)
      """, doing: "creating the fence's state on the \(connection.end)", within: .seconds(30))
  }

  /// Nil when the end has no fence of ours.
  /// - Throws: `MigrationError` when nobody can tell how the fence stands.
  package func fence() async throws -> Fence? {
    let exists = try await connection.query(
      "SELECT pg_catalog.to_regclass('replicate.fence') IS NOT NULL AS it_does",
      doing: "looking for a fence on the \(connection.end)", within: .seconds(15))
    guard try exists.first?.bool("it_does") == true else { return nil }
    let rows = try await connection.query(
      "SELECT state FROM replicate.fence", doing: "reading the fence's state", within: .seconds(15))
    guard let fence = try rows.first.flatMap({ Fence(rawValue: try $0.text("state")) }) else {
      throw MigrationError(
        .failed, doing: "reading the fence's state",
        reason: "replicate.fence on the \(connection.end) does not tell it",
        remedy:
          "Use the version of replicate that began this migration, or drop schema replicate on the source.")
    }
    return fence
  }
}
