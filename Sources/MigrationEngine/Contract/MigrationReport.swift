/// Everything known about a migration, for those who must vouch for it: who, when, what, and the proof. For
/// programs, `report --json` prints it; fields may be added, never renamed.
package struct MigrationReport: Sendable, Codable, Equatable {
  /// As `status` reports it at the same moment: both ends, evidence of encryption, copy, stream, newest
  /// cutover.
  package var status: Status
  /// By the target's clock, like all times here: ISO 8601 in UTC.
  package var reportedAt: String
  /// When the migration was first stored.
  package var beganAt: String
  /// PostgreSQL's own identifier of the source's cluster, and the database in it.
  package var sourceSystem: String
  /// Without quotes.
  package var sourceDatabase: String
  /// Quoted for SQL, each with its schema.
  package var excludedTables: [String]
  /// All that are migrated.
  package var tables: [Table]
  /// Rehearsals and rollbacks included, the oldest first.
  package var cutovers: [Cutover]
  /// The newest that have ended, the oldest first.
  package var verifications: [Verification]
  /// The whole trail, the oldest first.
  package var events: [Event]

  /// A table as it was copied.
  package struct Table: Sendable, Codable, Equatable {
    /// Quoted for SQL, with its schema.
    package var name: String
    /// By COPY; what the stream applied is not counted.
    package var copiedRows: Int64
    /// Size of the text or binary data that COPY sent.
    package var copiedBytes: Int64
    /// Changes committed from here on came through the stream; nil until it is copied.
    package var snapshotLSN: String?

    enum CodingKeys: String, CodingKey {
      case name
      case copiedRows = "copied_rows"
      case copiedBytes = "copied_bytes"
      case snapshotLSN = "snapshot_lsn"
    }
  }

  /// A cutover, rehearsal or rollback that was requested.
  package struct Cutover: Sendable, Codable, Equatable {
    /// By the target's clock.
    package var requestedAt: String
    /// What was requested.
    package var request: CutoverRequest
    /// `requested`, `running`, `complete`, `aborted` or `rehearsed`.
    package var state: String
    /// How it went; nil before it was taken up.
    package var outcome: Status.Cutover?
    /// In the order of the plan; empty before the first was noted.
    package var switchSteps: [SwitchStep]

    enum CodingKeys: String, CodingKey {
      case requestedAt = "requested_at"
      case request, state, outcome
      case switchSteps = "switch_steps"
    }
  }

  /// A comparison requested by `verify`.
  package struct Verification: Sendable, Codable, Equatable {
    /// By the target's clock.
    package var requestedAt: String
    /// What was requested.
    package var request: VerificationRequest
    /// Nil when it failed.
    package var outcome: VerificationReport?
    /// Why there is no outcome.
    package var failure: String?

    enum CodingKeys: String, CodingKey {
      case request, outcome, failure
      case requestedAt = "requested_at"
    }
  }

  /// A step of the plan, as far as it has come.
  package struct SwitchStep: Sendable, Codable, Equatable {
    /// What the step is, without anything secret.
    package var definition: String
    /// `paused`, `running`, `done`, `failed` or `undone`.
    package var state: String
    /// What it did, or why it failed.
    package var detail: String
    /// When it reached this state, by the target's clock.
    package var at: String
  }

  /// A line of the trail: phases, who began, what was overridden, and warnings.
  package struct Event: Sendable, Codable, Equatable {
    /// By the target's clock.
    package var at: String
    /// A sentence for people.
    package var what: String
  }

  enum CodingKeys: String, CodingKey {
    case status, tables, cutovers, verifications, events
    case reportedAt = "reported_at"
    case beganAt = "began_at"
    case sourceSystem = "source_system"
    case sourceDatabase = "source_database"
    case excludedTables = "excluded_tables"
  }
}
