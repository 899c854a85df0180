/// Everything that is known of a migration, for those who must vouch for it: who, when, what, and the proof.
/// A program can check it: `report --json` prints it, with fields that may be added, never renamed.
package struct MigrationReport: Sendable, Codable, Equatable {
  /// As `status` tells it at the same moment: both ends, evidence of encryption, copy, stream, newest
  /// cutover.
  package var status: Status
  /// By the target's clock, as all times here: ISO 8601 in UTC.
  package var reportedAt: String
  package var beganAt: String
  /// PostgreSQL's own identifier of the source's cluster, and the database in it.
  package var sourceSystem: String
  package var sourceDatabase: String
  package var excludedTables: [String]
  package var tables: [Table]
  package var cutovers: [Cutover]
  /// The last that came to their end, the oldest first.
  package var verifications: [Verification]
  package var events: [Event]

  package struct Table: Sendable, Codable, Equatable {
    package var name: String
    package var copiedRows: Int64
    package var copiedBytes: Int64
    /// Changes that committed from here on came by the stream; nil until it is copied.
    package var snapshotLSN: String?

    enum CodingKeys: String, CodingKey {
      case name
      case copiedRows = "copied_rows"
      case copiedBytes = "copied_bytes"
      case snapshotLSN = "snapshot_lsn"
    }
  }

  package struct Cutover: Sendable, Codable, Equatable {
    package var requestedAt: String
    package var request: CutoverRequest
    package var state: String
    package var outcome: Status.Cutover?
    package var switchSteps: [SwitchStep]

    enum CodingKeys: String, CodingKey {
      case requestedAt = "requested_at"
      case request, state, outcome
      case switchSteps = "switch_steps"
    }
  }

  package struct Verification: Sendable, Codable, Equatable {
    package var requestedAt: String
    package var request: VerificationRequest
    /// Nil when it failed.
    package var outcome: VerificationReport?
    package var failure: String?

    enum CodingKeys: String, CodingKey {
      case request, outcome, failure
      case requestedAt = "requested_at"
    }
  }

  package struct SwitchStep: Sendable, Codable, Equatable {
    package var definition: String
    package var state: String
    package var detail: String
    package var at: String
  }

  /// A line of the trail: phases, who began, what was overridden, and warnings.
  package struct Event: Sendable, Codable, Equatable {
    package var at: String
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
