/// What is known about the target's encryption at rest. Part of the public JSON contract (`status --json`,
/// the report).
package struct EncryptionEvidence: Sendable, Codable, Equatable {
  package enum Status: String, Sendable, Codable {
    /// We looked ourselves, and every place the server writes to is encrypted.
    case verified
    /// Someone whom the user trusts says so.
    case attested
    /// Nothing that counts as evidence was found; the detail says what was looked at.
    case unverified
  }

  package enum Provider: String, Sendable, Codable {
    case aws, filesystem, edb, command, none
    case pgTDE = "pg_tde"
  }

  package let status: Status
  package let provider: Provider
  /// One line for people. Never holds a password or a key.
  package let detail: String

  package init(status: Status, provider: Provider, detail: String) {
    self.status = status
    self.provider = provider
    self.detail = detail
  }
}
