/// What is known of the target's encryption at rest; part of `status --json` and of the report.
package struct EncryptionEvidence: Sendable, Codable, Equatable {
  package enum Status: String, Sendable, Codable {
    /// Seen by this program itself.
    case verified
    /// Vouched for by someone else: a command of the user's.
    case attested
    /// No evidence.
    case unverified
  }

  package enum Provider: String, Sendable, Codable {
    case aws, filesystem, edb, command, none
    case pgTDE = "pg_tde"
  }

  package var status: Status
  package var provider: Provider
  package var detail: String

  package init(status: Status, provider: Provider, detail: String) {
    self.status = status
    self.provider = provider
    self.detail = detail
  }

  package static let none = EncryptionEvidence(
    status: .unverified, provider: .none, detail: "not examined yet")
}
