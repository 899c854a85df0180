import Testing

@testable import MigrationEngine

struct AWSServerTests {
  private let clusters = """
    [{"id": "old", "engine": "aurora-postgresql",
      "custom": ["any.cluster-custom-x.eu-west-1.rds.amazonaws.com"],
      "hosts": ["old.cluster-x.eu-west-1.rds.amazonaws.com", "old.cluster-ro-x.eu-west-1.rds.amazonaws.com"],
      "group": "app", "members": [{"id": "old-2", "isWriter": false, "status": "in-sync"},
        {"id": "old-1", "isWriter": true, "status": "pending-reboot"}]},
     {"id": "billing", "engine": "aurora-postgresql", "hosts": [null, null], "custom": null, "group": "app",
      "members": null},
     {"id": "three", "engine": "postgres", "hosts": ["three.cluster-x.eu-west-1.rds.amazonaws.com"],
      "group": "other", "members": []}]
    """
  private let instances = """
    [{"id": "old-1", "host": "old-1.x.eu-west-1.rds.amazonaws.com", "cluster": "old", "state": "available",
      "groups": [{"name": "default.aurora-postgresql15", "status": "in-sync"}]},
     {"id": "one", "host": "one.x.eu-west-1.rds.amazonaws.com", "cluster": null, "state": "available",
      "groups": [{"name": "rds", "status": "in-sync"}]},
     {"id": "two", "host": null, "groups": [{"name": "rds"}]}]
    """

  private func find(_ host: String) throws -> AWSServer? {
    try AWSServer.find(
      "\(host).eu-west-1.rds.amazonaws.com",
      AWSCommand.decode([AWSServer.Cluster].self, Array(clusters.utf8), "x"),
      AWSCommand.decode([AWSServer.Instance].self, Array(instances.utf8), "x"))
  }

  @Test(arguments: ["old.cluster-x", "OLD.cluster-x", "any.cluster-custom-x", "old-1.x"])
  func `an endpoint of a cluster or of its instance leads to its writer`(host: String) throws {
    #expect(
      try find(host)
        == AWSServer(
          kind: .cluster, id: "old", group: "app", writer: "old-1", readers: ["old-2"], sharers: ["billing"]))
  }

  @Test func `an instance on its own has a group of its kind`() throws {
    #expect(
      try find("one.x")
        == AWSServer(kind: .instance, id: "one", group: "rds", writer: "one", sharers: ["two"]))
    #expect(try find("nobody") == nil)
  }

  @Test func `a cluster that is no Aurora is left to its owner`() {
    #expect(throws: RestartFailure.self) { try find("three.cluster-x") }
  }
}
