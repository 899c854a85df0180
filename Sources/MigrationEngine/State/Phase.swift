/// Where a migration stands. Stored in the target; `MigrationPhases` decides what may follow.
package enum Phase: String, Sendable, Codable, CaseIterable {
  /// Nothing was changed yet. Set when the state schema is made. Followed by `schema`.
  case preflight
  /// Publication and slot are made, pre-data is restored. Followed by `copy`.
  case schema
  /// Tables are copied under exported snapshots. Followed by `index`.
  case copy
  /// Indexes and keys are built. Followed by `catchup`.
  case index
  /// The stream is applied up to the newest snapshot, then foreign keys, triggers and the rest of the schema
  /// are restored. Followed by `streaming`.
  case catchup
  /// The target follows the source. Followed by `cutover`.
  case streaming
  /// A cutover is under way. Followed by `streaming` (aborted) or `complete` (sealed).
  case cutover
  /// The target is open and the source closed for good.
  case complete
  /// The target's writes flow back to the source.
  case reverse
  /// `replicate abort` took everything back.
  case aborted
  /// The engine stopped with an error. Only reported, never stored: a new start goes on from the phase
  /// before.
  case failed
}
