/// Decides whether a migration may write to this target, from what is known about its encryption in flight
/// and at rest.
enum EncryptionGate {
  /// How our own sessions reach the target (`pg_stat_ssl` of our own backends).
  enum Transport: Sendable, Equatable {
    case tls, plaintext, unixSocket
  }

  struct Reason: Sendable, Codable, Equatable {
    let problem: String
    let remedy: String
  }

  enum Decision: Sendable, Equatable {
    case pass
    /// The user insisted; the reasons belong in the report.
    case passOverridden([Reason])
    case refuse([Reason])
  }

  static func decide(
    transport: Transport, evidence: EncryptionEvidence, allowUnencrypted: Bool
  ) -> Decision {
    let reasons = [reason(transport: transport), reason(evidence: evidence)].compactMap { $0 }
    if reasons.isEmpty { return .pass }
    return allowUnencrypted ? .passOverridden(reasons) : .refuse(reasons)
  }

  private static let override = "--allow-unencrypted-target goes on without, and the report will say so."

  private static func reason(transport: Transport) -> Reason? {
    switch transport {
    case .tls:
      return nil
    case .plaintext:
      return Reason(
        problem: "The connection to the target is not encrypted.",
        remedy: "Add sslmode=require or stricter to the target's connection string; " + override)
    case .unixSocket:
      // libpq never speaks TLS on a unix socket, whatever sslmode says.
      return Reason(
        problem: "The connection to the target is a unix socket, which has no TLS.",
        remedy: "Connect over TCP with sslmode=require or stricter; " + override)
    }
  }

  private static func reason(evidence: EncryptionEvidence) -> Reason? {
    switch evidence.status {
    case .verified, .attested:
      return nil
    case .unverified where evidence.provider == .aws:
      return Reason(
        problem: "AWS does not confirm that the target is encrypted at rest: \(evidence.detail)",
        remedy: "Give --target the endpoint of a cluster or instance made with --storage-encrypted, and the "
          + "AWS CLI its account and region; " + override)
    case .unverified:
      return Reason(
        problem: "There is no evidence that the target is encrypted at rest: \(evidence.detail)",
        remedy: "Give --encryption-evidence a command that exits with 0 if it is; " + override)
    }
  }
}
