/// What the target's server says about itself, as far as the role may see it. A missing fact is nil, never a
/// guess.
struct TargetServerFacts: Sendable, Equatable {
  /// `SHOW data_directory`: superusers and members of `pg_read_all_settings` see it.
  var dataDirectory: String?
  /// `pg_tablespace_location(oid)` of every tablespace that has one.
  var tablespaceLocations: [String] = []
  /// The server's own port (`SHOW port`), which a pooler's or a forwarded one need not be.
  var port: Int?
  /// `extract(epoch from pg_postmaster_start_time())`, in seconds.
  var postmasterStartEpoch: Double?
  /// Whether our session could come from the same machine: a unix socket, or an address of this host.
  var isLocal = false
  var host: String?
  var database: String?
  /// `system_identifier` of `IDENTIFY_SYSTEM` or `pg_control_system()`.
  var systemIdentifier: String?
}

/// Looks for evidence of encryption at rest: first by itself, then through the user's command.
struct EncryptionExaminer: Sendable {
  var localServer = LocalServer()
  var filesystem = FilesystemEvidence()
  var aws = AWSEvidence()
  var command: CommandEvidence?
  /// Asks AWS even about a host whose name is not an AWS one.
  var asksAWS = false

  /// Never throws: what cannot be examined is no evidence, and the detail says why.
  func examine(server: TargetServerFacts) async -> EncryptionEvidence {
    let seen: EncryptionEvidence
    let names = await AWSEndpoint.names(of: server.host ?? "")
    if asksAWS || names.contains(where: AWSEndpoint.matches) {
      switch await aws.ask(about: names) {
      case .known(let evidence): return evidence
      case .unknown(let why): seen = EncryptionEvidence(status: .unverified, provider: .aws, detail: why)
      }
    } else {
      seen = await lookAtStorage(server)
    }
    if seen.status == .verified { return seen }
    guard let command else { return seen }
    let attested = await command.examine(server: server)
    if attested.status == .attested { return attested }
    return EncryptionEvidence(
      status: .unverified, provider: .command, detail: "\(attested.detail); \(seen.detail)")
  }

  private func lookAtStorage(_ server: TargetServerFacts) async -> EncryptionEvidence {
    switch localServer.find(server) {
    case .own(let folder):
      return await filesystem.examine(
        dataDirectory: folder, tablespaceLocations: server.tablespaceLocations)
    case .unproven(let why):
      return EncryptionEvidence(status: .unverified, provider: .none, detail: why)
    }
  }
}
