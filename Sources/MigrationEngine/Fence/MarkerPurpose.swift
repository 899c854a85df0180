/// What a marker in the WAL is to prove.
enum MarkerPurpose: Sendable {
  /// That a fence stands: a change after it is a breach.
  case fence
  /// That everything is there, when an end is sealed already: a change after it is remembered.
  case seal
  /// That everything is there which came since another marker, and is remembered.
  case again
}
