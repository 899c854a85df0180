/// What a marker in the WAL is to prove.
enum MarkerPurpose: Sendable {
  /// That a fence stands: a change after it is a breach.
  case fence
  /// That everything arrived, when an end is already sealed: a change after it is remembered.
  case seal
  /// That everything since another marker arrived, and is remembered.
  case again
}
