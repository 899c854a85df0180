/// What the user asks of one `replicate verify`.
package struct VerificationRequest: Sendable, Codable, Equatable {
  /// Only these; all that are migrated when there are none.
  package var tables: [RelationName]
  /// Sessions on each end that read.
  package var jobs: Int
  /// What may be read from both ends together, in bytes a second; nil: no limit.
  package var maxBytesPerSecond: Int64?
  /// Who asked, for the trail.
  package var requestedBy: String

  /// - Parameter jobs: sessions on each end.
  package init(
    tables: [RelationName] = [], jobs: Int = 2, maxBytesPerSecond: Int64? = nil, requestedBy: String
  ) {
    self.tables = tables
    self.jobs = jobs
    self.maxBytesPerSecond = maxBytesPerSecond
    self.requestedBy = requestedBy
  }
}

/// How far a cutover compares both ends between fence and seal.
package enum CutoverVerification: String, Sendable, Codable, CaseIterable {
  /// All rows of all tables.
  case full
  /// The rows changed since the last full comparison.
  case changed
  /// How many rows there are.
  case counts
  /// Nothing.
  case none
}
