/// What the AWS account says about the cluster or instance of the target's endpoint: `StorageEncrypted` and
/// `KmsKeyId`.
struct AWSEvidence: Sendable {
  private let aws: AWSCommand

  init() { aws = AWSCommand() }

  /// Whether a host is an endpoint of RDS or Aurora by its name.
  static func isEndpoint(_ host: String) -> Bool {
    let host = host.lowercased()
    return host.hasSuffix(".rds.amazonaws.com") || host.hasSuffix(".rds.amazonaws.com.cn")
      || host.wholeMatch(of: /.+\.rds\.[a-z0-9-]+\.amazonaws\.com\.cn/) != nil
  }

  /// The region in an endpoint's name.
  static func region(of host: String) -> String? {
    let host = host.lowercased()
    if let match = host.wholeMatch(of: /.+\.([a-z0-9-]+)\.rds\.amazonaws\.com(?:\.cn)?/) {
      return String(match.output.1)
    }
    return host.wholeMatch(of: /.+\.rds\.([a-z0-9-]+)\.amazonaws\.com\.cn/).map { String($0.output.1) }
  }

  /// The relevant facts of a cluster or instance.
  struct Store: Decodable, Equatable {
    var id: String
    /// Null while it is being made; custom endpoints come as a list of their own.
    var hosts: [String?]
    var custom: [String]?
    var encrypted: Bool?
    var key: String?

    func isAt(_ host: String) -> Bool {
      (hosts + (custom ?? [])).contains { $0?.lowercased() == host.lowercased() }
    }
  }

  enum Answer: Equatable {
    /// The account knows the target. Its no is final, whoever else vouches.
    case known(EncryptionEvidence)
    case unknown(String)
  }

  func ask(about server: TargetServerFacts) async -> Answer {
    guard let host = server.host else { return .unknown("the target's host is not known") }
    var aws = aws
    aws.region = Self.region(of: host)
    do {
      for (what, arguments) in Self.questions {
        let stores = try await aws.answer([Store].self, arguments)
        if let store = stores.first(where: { $0.isAt(host) }) { return .known(Self.evidence(store, what)) }
      }
    } catch {
      return .unknown("\(error)")
    }
    return .unknown(
      "no cluster and no instance that the AWS CLI sees here has the endpoint \(host): "
        + "give --target the endpoint itself, and the AWS CLI its account and region")
  }

  private static let questions = [
    (
      "cluster",
      [
        "rds", "describe-db-clusters", "--query",
        "DBClusters[].{id: DBClusterIdentifier, hosts: [Endpoint, ReaderEndpoint], "
          + "custom: CustomEndpoints, encrypted: StorageEncrypted, key: KmsKeyId}",
      ]
    ),
    (
      "instance",
      [
        "rds", "describe-db-instances", "--query",
        "DBInstances[].{id: DBInstanceIdentifier, hosts: [Endpoint.Address], "
          + "encrypted: StorageEncrypted, key: KmsKeyId}",
      ]
    ),
  ]

  static func evidence(_ store: Store, _ what: String) -> EncryptionEvidence {
    guard store.encrypted == true else {
      return EncryptionEvidence(
        status: .unverified, provider: .aws,
        detail: "\(what) \(store.id) is not encrypted: its StorageEncrypted is false")
    }
    let key = store.key.map { "KMS key \($0)" } ?? "no KMS key reported"
    return EncryptionEvidence(status: .verified, provider: .aws, detail: "\(what) \(store.id), \(key)")
  }
}
