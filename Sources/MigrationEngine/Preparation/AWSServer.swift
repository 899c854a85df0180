/// The Aurora cluster or RDS instance of an endpoint, as the AWS CLI describes it.
struct AWSServer: Sendable, Equatable {
  enum Kind: Sendable, Equatable {
    case cluster, instance

    /// As the AWS CLI calls its parameter groups.
    var group: String { self == .cluster ? "db-cluster-parameter-group" : "db-parameter-group" }
    /// As it calls the parameters of one.
    var parameters: String { self == .cluster ? "db-cluster-parameters" : "db-parameters" }
  }

  var kind: Kind
  var id: String
  /// The group of parameters that `rds.logical_replication` belongs to.
  var group: String
  /// The instance that takes writes.
  var writer: String
  var readers: [String] = []
  /// Others that use the group.
  var sharers: [String] = []

  /// Aurora's clusters; those of RDS are restarted in another way.
  static func isAurora(_ cluster: Cluster) -> Bool { cluster.engine?.hasPrefix("aurora") == true }

  /// - Parameter names: the host and what it leads to, as `AWSEndpoint.names(of:)` finds them.
  /// - Returns: nil when the account has no such endpoint.
  /// - Throws: `AWSFailure`; `RestartFailure` when it cannot be restarted from here.
  static func find(_ names: [String], _ aws: AWSCommand) async throws -> AWSServer? {
    let clusters = try await aws.answer([Cluster].self, clusterQuestion)
    let instances = try await aws.answer([Instance].self, instanceQuestion)
    return try names.reversed().lazy.compactMap { try find($0, clusters, instances) }.first
  }

  static func find(_ host: String, _ clusters: [Cluster], _ instances: [Instance]) throws -> AWSServer? {
    let instance = instances.first { $0.host?.lowercased() == host.lowercased() }
    let cluster = clusters.first { $0.isAt(host) || $0.id == instance?.cluster }
    if let cluster { return try server(cluster, clusters) }
    return try instance.map { try server($0, instances) }
  }

  private static func server(_ cluster: Cluster, _ all: [Cluster]) throws -> AWSServer {
    guard isAurora(cluster) else {
      throw RestartFailure(
        "\(cluster.id) is a cluster of engine \(cluster.engine ?? "unknown"), which this program does not "
          + "restart",
        remedy: "Set rds.logical_replication = 1 in its parameter group and reboot it by hand.")
    }
    guard let group = cluster.group, let writer = cluster.members?.first(where: { $0.isWriter == true })
    else {
      throw RestartFailure(
        "cluster \(cluster.id) has no writer, or no parameter group", remedy: "Wait until it is available.")
    }
    return AWSServer(
      kind: .cluster, id: cluster.id, group: group, writer: writer.id,
      readers: (cluster.members ?? []).map(\.id).filter { $0 != writer.id },
      sharers: all.filter { $0.group == group && $0.id != cluster.id }.map(\.id))
  }

  private static func server(_ instance: Instance, _ all: [Instance]) throws -> AWSServer {
    guard let group = instance.groups?.first?.name else {
      throw RestartFailure(
        "instance \(instance.id) has no parameter group", remedy: "Wait until it is available.")
    }
    return AWSServer(
      kind: .instance, id: instance.id, group: group, writer: instance.id,
      sharers: all.filter { other in
        other.id != instance.id && other.groups?.contains { $0.name == group } == true
      }.map(\.id))
  }

  // MARK: Answers

  struct Cluster: Decodable {
    var id: String
    var engine: String?
    /// Null while it is being made.
    var hosts: [String?]
    var custom: [String]?
    var group: String?
    var members: [Member]?

    struct Member: Decodable {
      var id: String
      var isWriter: Bool?
      /// `in-sync`, `applying` or `pending-reboot`.
      var status: String?
    }

    func isAt(_ host: String) -> Bool {
      (hosts + (custom ?? [])).contains { $0?.lowercased() == host.lowercased() }
    }
  }

  struct Instance: Decodable {
    var id: String
    var host: String?
    var cluster: String?
    /// `available`, `rebooting`, …
    var state: String?
    var groups: [Group]?

    struct Group: Decodable {
      var name: String
      var status: String?
    }
  }

  static let clusterQuestion = [
    "rds", "describe-db-clusters", "--query",
    "DBClusters[].{id: DBClusterIdentifier, engine: Engine, hosts: [Endpoint, ReaderEndpoint], "
      + "custom: CustomEndpoints, group: DBClusterParameterGroup, members: DBClusterMembers[].{"
      + "id: DBInstanceIdentifier, isWriter: IsClusterWriter, status: DBClusterParameterGroupStatus}}",
  ]

  static let instanceQuestion = [
    "rds", "describe-db-instances", "--query",
    "DBInstances[].{id: DBInstanceIdentifier, host: Endpoint.Address, cluster: DBClusterIdentifier, "
      + "state: DBInstanceStatus, groups: DBParameterGroups[].{name: DBParameterGroupName, "
      + "status: ParameterApplyStatus}}",
  ]
}
