/// What is known about the target's encryption at rest; part of `status --json` and of the report.
package struct EncryptionEvidence: Sendable, Codable, Equatable {
  /// How much the evidence is worth.
  package enum Status: String, Sendable, Codable {
    /// Seen by this program itself.
    case verified
    /// Vouched for by a command of the user's.
    case attested
    /// No evidence.
    case unverified
  }

  /// Who was asked for evidence, as JSON calls it.
  package enum Provider: String, Sendable, Codable {
    /// AWS, the file system of the data directory, EDB, a command of the user's, or nobody.
    case aws, filesystem, edb, command, none
    /// The extension of this name.
    case pgTDE = "pg_tde"
  }

  /// What the evidence amounts to.
  package var status: Status
  /// Where it comes from.
  package var provider: Provider
  /// What was seen, or why nothing was, as a phrase for people.
  package var detail: String

  static let none = EncryptionEvidence(
    status: .unverified, provider: .none, detail: "not examined yet")
}
