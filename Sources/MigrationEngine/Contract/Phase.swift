/// Where a migration stands. Stored in the target; `PhaseMachine` decides what may follow.
package enum Phase: String, Sendable, Codable, CaseIterable {
  /// Nothing was changed yet. Set when the state schema is created. Followed by `schema`.
  case preflight
  /// Publication and slot are created, pre-data is restored. Followed by `copy`.
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
  /// A cutover is under way. Followed by `streaming` (aborted), or after the seal by `reverse`, or by
  /// `complete` where there is no reverse replication.
  case cutover
  /// The end that was cut over to is open, and the other is closed for good.
  case complete
  /// The target is open and its writes flow back to the source, which is sealed; also while a rollback is
  /// under way. Followed by `complete`, through `replicate rollback` or `replicate finish`.
  case reverse
  /// `replicate abort` removed everything again.
  case aborted
  /// The engine stopped with an error. Only reported, never stored: a new start continues from the phase
  /// before.
  case failed
}
