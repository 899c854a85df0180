/// What the AWS account says about the cluster or instance of the target's endpoint: `StorageEncrypted`,
/// `StorageEncryptionType` and `KmsKeyId`.
struct AWSEvidence: Sendable {
  private let aws: AWSCommand

  init() { aws = AWSCommand() }

  /// The relevant facts of a cluster or instance.
  struct Store: Decodable, Equatable {
    var id: String
    /// Null while it is being made; custom endpoints come as a list of their own.
    var hosts: [String?]
    var custom: [String]?
    var encrypted: Bool?
    /// `none`, `sse-kms`, `sse-rds`; older answers lack it.
    var type: String?
    var key: String?
    /// Of a global cluster: its writer's name as ARN.
    var writers: [String]?

    func isAt(_ host: String) -> Bool {
      (hosts + (custom ?? [])).contains { $0?.lowercased() == host.lowercased() }
    }
  }

  enum Answer: Equatable {
    /// The account knows the target. Its no is final, whoever else vouches.
    case known(EncryptionEvidence)
    case unknown(String)
  }

  /// - Parameter names: the target's host and what it leads to, as `AWSEndpoint.names` finds them.
  func ask(about names: [String]) async -> Answer {
    guard let host = names.first, !host.isEmpty else { return .unknown("the target's host is not known") }
    do {
      for name in names.reversed() {
        if let evidence = try await evidence(of: name) { return .known(evidence) }
      }
    } catch {
      return .unknown("\(error)")
    }
    let what = names.count > 1 ? "\(names[0]), which leads to \(names[1])" : host
    return .unknown(
      "no cluster and no instance that the AWS CLI sees here has the endpoint \(what): "
        + "give --target the endpoint itself, and the AWS CLI its account and region")
  }

  /// - Returns: nil when the account has no such endpoint.
  private func evidence(of host: String) async throws -> EncryptionEvidence? {
    var aws = aws
    aws.region = AWSEndpoint.region(of: host)
    if AWSEndpoint.isGlobal(host) {
      let clusters = try await aws.answer([Store].self, Self.globalQuestion)
      guard let global = clusters.first(where: { $0.isAt(host) }) else { return nil }
      return Self.evidence(global, "global cluster")
    }
    for (what, arguments) in Self.questions {
      let stores = try await aws.answer([Store].self, arguments)
      if let store = stores.first(where: { $0.isAt(host) }) { return Self.evidence(store, what) }
    }
    return nil
  }

  /// The storage of all its clusters is encrypted when its own is said to be.
  private static let globalQuestion = [
    "rds", "describe-global-clusters", "--query",
    "GlobalClusters[].{id: GlobalClusterIdentifier, hosts: [Endpoint], encrypted: StorageEncrypted, "
      + "type: StorageEncryptionType, writers: GlobalClusterMembers[?IsWriter].DBClusterArn}",
  ]

  private static let questions = [
    (
      "cluster",
      [
        "rds", "describe-db-clusters", "--query",
        "DBClusters[].{id: DBClusterIdentifier, hosts: [Endpoint, ReaderEndpoint], "
          + "custom: CustomEndpoints, encrypted: StorageEncrypted, "
          + "type: StorageEncryptionType, key: KmsKeyId}",
      ]
    ),
    (
      "instance",
      [
        "rds", "describe-db-instances", "--query",
        "DBInstances[].{id: DBInstanceIdentifier, hosts: [Endpoint.Address], "
          + "encrypted: StorageEncrypted, "
          + "type: StorageEncryptionType, key: KmsKeyId}",
      ]
    ),
  ]

  static func evidence(_ store: Store, _ what: String) -> EncryptionEvidence {
    let hasType = ["sse-rds", "sse-kms"].contains(store.type)
    guard store.encrypted == true || hasType else {
      return EncryptionEvidence(
        status: .unverified, provider: .aws,
        detail: "\(what) \(store.id) is not encrypted: its StorageEncrypted is false")
    }
    var detail = "\(what) \(store.id), "
    if let key = store.key {
      detail += "KMS key \(key)"
    } else {
      detail += store.type == "sse-rds" ? "a key that AWS owns (sse-rds)" : "no KMS key reported"
    }
    if let writer = store.writers?.first { detail += ", writer \(writer)" }
    return EncryptionEvidence(status: .verified, provider: .aws, detail: detail)
  }
}
