import LibPQ

/// The clusters and instances that an account shows, and which of them an end is.
struct RDSDatabases: Equatable {
  struct Database: Decodable, Equatable {
    var id: String
    /// Null while it is being made.
    var hosts: [String?]
    var custom: [String]?
    /// Parameter groups.
    var groups: [String?]?
    /// Of an instance: the cluster that it belongs to.
    var cluster: String?
    /// Of an instance: the one that it is a read replica of.
    var replicaOf: String?

    var endpoints: Set<String> {
      Set((hosts.compactMap(\.self) + (custom ?? [])).map { $0.lowercased() })
    }
  }

  /// Names of clusters and instances.
  struct Own: Equatable {
    var clusters: Set<String> = []
    var instances: Set<String> = []
    /// Instances whose own endpoint the end has.
    var reached: Set<String> = []
    var isEmpty: Bool { clusters.isEmpty && instances.isEmpty }
  }

  var clusters: [Database]
  var instances: [Database]

  init(clusters: [Database], instances: [Database]) {
    self.clusters = clusters
    self.instances = instances
  }

  init(askedOf aws: AWSCommand) async throws {
    clusters = try await aws.answer(
      [Database].self, ["rds", "describe-db-clusters", "--query", Self.clusters])
    instances = try await aws.answer(
      [Database].self, ["rds", "describe-db-instances", "--query", Self.instances])
  }

  private static let clusters = """
    DBClusters[].{id: DBClusterIdentifier, hosts: [Endpoint, ReaderEndpoint], custom: CustomEndpoints, \
    groups: [DBClusterParameterGroup]}
    """
  private static let instances = """
    DBInstances[].{id: DBInstanceIdentifier, hosts: [Endpoint.Address], \
    groups: DBParameterGroups[].DBParameterGroupName, cluster: DBClusterIdentifier, \
    replicaOf: ReadReplicaSourceDBInstanceIdentifier}
    """

  /// What belongs to an end: its cluster with all instances, or its instance with its read replicas.
  /// - Parameter other: the other end, to which a name that a step moves may lead already.
  func own(of end: Switchover.End, besides other: Switchover.End) async -> Own {
    let others = Set(await AWSEndpoint.names(of: other.host).map { $0.lowercased() })
    let names = Set(await AWSEndpoint.names(of: end.host).map { $0.lowercased() })
    let own = own(at: names.subtracting(others))
    guard own.isEmpty, let address = end.address else { return own }
    // The name that it was reached by leads elsewhere by now, or never showed its endpoint.
    let endpoints = (clusters + instances).reduce(into: Set()) { $0.formUnion($1.endpoints) }
    let found = await withTaskGroup(of: String?.self) { group in
      for endpoint in endpoints.subtracting(others) {
        group.addTask { await HostAddresses.of(endpoint).contains(address) ? endpoint : nil }
      }
      return await group.reduce(into: Set()) { all, endpoint in endpoint.map { _ = all.insert($0) } }
    }
    return self.own(at: found)
  }

  /// - Parameter names: endpoints, in lower case.
  func own(at names: Set<String>) -> Own {
    var own = Own()
    own.clusters = Set(clusters.filter { !$0.endpoints.isDisjoint(with: names) }.map(\.id))
    let reached = instances.filter { !$0.endpoints.isDisjoint(with: names) }
    own.clusters.formUnion(reached.compactMap(\.cluster))
    own.reached = Set(reached.map(\.id))
    own.instances = own.reached
    own.instances.formUnion(
      instances.filter { $0.cluster.map(own.clusters.contains) ?? false }.map(\.id))
    let reachedIDs = own.instances
    own.instances.formUnion(
      instances.filter { $0.replicaOf.map(reachedIDs.contains) ?? false }.map(\.id))
    return own
  }
}
