import Subprocess
import Testing

@testable import MigrationEngine

/// What the `aws` program writes, as it was seen to write it.
@Suite("Answers of AWS")
struct AWSAnswerTests {
  private func decode<Value: Decodable>(_ type: Value.Type, _ text: String) throws -> Value {
    try AWSCommand.decode(type, Array(text.utf8), "test call")
  }

  @Test("An error is shown by the line that names it, with the service's own word")
  func errors() {
    let text = """

      urllib3 warns: something is old
      An error occurred (ParameterNotFound) when calling the GetParameter operation: Parameter /a not found.

      """
    let failure = AWSCommand.failure("ssm get-parameter", .exited(254), Array(text.utf8))
    #expect(failure.code == "ParameterNotFound")
    #expect(failure.description.hasPrefix("aws ssm get-parameter: An error occurred (ParameterNotFound)"))
    let usage = AWSCommand.failure("x", .exited(252), Array("aws: error: argument --id: expected one".utf8))
    #expect(usage.why == "aws: error: argument --id: expected one" && usage.code == nil)
    #expect(AWSCommand.failure("x", .exited(1), []).why.contains("said nothing"))
  }

  @Test("A program that is not there is named as such, and what mends it")
  func missing() async {
    let aws = AWSCommand(program: "a-program-that-nobody-has")
    let remarks = await AWSLook.blockers {
      _ = try await aws.answer([String].self, ["rds", "describe-db-clusters"])
      return []
    }
    #expect(remarks.count == 1 && remarks[0].severity == .blocker)
    #expect(remarks[0].why.hasPrefix("aws rds describe-db-clusters: cannot be run"), "\(remarks)")
    #expect(remarks[0].remedy.contains("Install the AWS CLI"))
  }

  @Test(
    "An answer of another form is refused, and what is wrong with it named",
    arguments: [
      (#"{"id": "/change/C1"}"#, "status is missing"), (#"{"id": 1, "status": "x"}"#, "id is no String"),
      (#"{"id": null, "status": "x"}"#, "id is null"), ("", "the whole is no JSON"),
      ("[]", "the whole is no Dictionary"),
    ])
  func strict(text: String, words: String) {
    let failure = #expect(throws: AWSFailure.self) { try decode(Route53Action.Change.self, text) }
    #expect(failure?.why.contains(words) == true, "\(String(describing: failure))")
  }

  @Test("A record is compared by name, type, TTL and value, with or without the last dot")
  func records() throws {
    let listed = try decode(
      [Route53Action.Record].self,
      """
      [{"name": "db.Example.com.", "type": "CNAME", "ttl": 15, "values": ["new.example."], "alias": null},
       {"name": "a.example.", "type": "A", "ttl": null, "values": null,
        "alias": {"zone": "Z2", "name": "NEW.example."}}]
      """)
    let record = Route53Action.Record(
      SwitchStep.Route53(zone: "Z1", record: "db.example.com"), value: "new.example")
    #expect(listed[0].says(record) && Route53Action.Record.isSame(listed[0].name, record.name))
    var other = listed[0]
    other.ttl = 300
    #expect(!other.says(record))
    other = listed[0]
    other.values = ["old.example."]
    #expect(!other.says(record))
    let alias = Route53Action.Record(
      SwitchStep.Route53(zone: "Z1", record: "a", type: "A", aliasZone: "Z2"), value: "new.example")
    #expect(listed[1].says(alias) && !listed[0].says(alias) && !listed[1].says(record))
    #expect(Route53Action.Change(id: "/change/C1", status: "").shortID == "C1")
  }

  @Test("A change is written as the service takes it")
  func change() throws {
    func text(_ step: SwitchStep.Route53) throws -> String {
      try StateStore.encode(Route53Action.Upsert(Route53Action.Record(step, value: "v")))
    }
    let plain = try text(SwitchStep.Route53(zone: "Z", record: "r", ttl: 5))
    for part in [#""Action":"UPSERT""#, #""TTL":5"#, #""ResourceRecords":[{"Value":"v"}]"#, #""Name":"r""#] {
      #expect(plain.contains(part), "\(plain)")
    }
    #expect(!plain.contains("AliasTarget"))
    let alias = try text(SwitchStep.Route53(zone: "Z", record: "r", type: "A", aliasZone: "Y"))
    #expect(alias.contains(#""HostedZoneId":"Y""#) && alias.contains(#""DNSName":"v""#), "\(alias)")
    #expect(!alias.contains("TTL"))
  }

  @Test("Services are stable with one deployment and all tasks; a failed deployment is named")
  func services() throws {
    func service(_ running: Int, _ deployments: String, status: String = "ACTIVE") throws -> ECSAction.Service
    {
      try decode(
        ECSAction.Listing.self,
        """
        {"failures": [], "services": [{"name": "api", "status": "\(status)", "desired": 2,
         "running": \(running), "deployments": [\(deployments)],
         "event": "(service api) was unable to place"}]}
        """
      ).services[0]
    }
    let done = #"{"status": "PRIMARY", "rollout": "COMPLETED", "why": null}"#
    let failed = #"{"status": "PRIMARY", "rollout": "FAILED", "why": "circuit breaker"}"#
    #expect(try service(2, done).isStable)
    #expect(try !service(1, done).isStable)
    #expect(try !service(2, "\(done), \(done)").isStable)
    #expect(try !service(2, done, status: "DRAINING").isStable)
    #expect(try service(2, done).failure == nil)
    #expect(try service(1, failed).failure == "api: circuit breaker")
    let words = try service(1, "\(done), \(done)").words
    #expect(words.contains("1 of 2 tasks") && words.contains("2 deployments"))
    #expect(words.contains("unable to place"))
    var other = try service(2, done)
    #expect(other.foreignController == nil)
    other.controller = "EXTERNAL"
    #expect(other.foreignController == "EXTERNAL")
  }

  private func databases() throws -> RDSDatabases {
    RDSDatabases(
      clusters: try decode(
        [RDSDatabases.Database].self,
        #"""
        [{"id": "old", "hosts": ["Old.example", "ro.example"], "custom": ["c.example"], "groups": ["g"]},
         {"id": "new", "hosts": ["new.example", null], "custom": null, "groups": ["g", "h"]},
         {"id": "made", "hosts": [null, null], "custom": null, "groups": null}]
        """#),
      instances: try decode(
        [RDSDatabases.Database].self,
        #"""
        [{"id": "old-1", "hosts": ["old-1.example"], "groups": ["i"], "cluster": "old", "replicaOf": null},
         {"id": "alone", "hosts": ["alone.example"], "groups": ["i"], "cluster": null, "replicaOf": null},
         {"id": "copy", "hosts": ["copy.example"], "groups": ["i"], "cluster": null, "replicaOf": "alone"}]
        """#))
  }

  @Test("An end's own are its cluster with its instances, or its instance with its replicas, by any endpoint")
  func own() throws {
    let all = try databases()
    for name in ["old.example", "ro.example", "c.example"] {
      #expect(all.own(at: [name]) == RDSDatabases.Own(clusters: ["old"], instances: ["old-1"]))
    }
    #expect(
      all.own(at: ["old-1.example"])
        == RDSDatabases.Own(clusters: ["old"], instances: ["old-1"], reached: ["old-1"]))
    #expect(
      all.own(at: ["alone.example"]) == RDSDatabases.Own(instances: ["alone", "copy"], reached: ["alone"]))
    #expect(all.own(at: ["elsewhere.example"]).isEmpty)
  }

  @Test("A name that leads to the other end by now is not taken for this end's")
  func moved() async throws {
    let end = Switchover.End(host: "new.example", port: "5432", database: "app")
    #expect(try await databases().own(of: end, besides: end).isEmpty)
  }

  @Test("Who uses a parameter group besides the source is named, the target as such")
  func groups() throws {
    let all = try databases()
    let old = all.own(at: ["old.example"])
    let new = all.own(at: ["new.example"])
    func others(_ group: SwitchStep.ParameterGroup.Group, than own: RDSDatabases.Own) -> String? {
      all.others(using: group, than: own, target: new, source: "db.example")
    }
    #expect(
      others(.cluster("g"), than: old) == "g is used by others than the source: cluster new (the target)")
    #expect(others(.cluster("h"), than: new) == nil)
    #expect(
      others(.instance("i"), than: old)
        == "i is used by others than the source: instance alone, instance copy")
    #expect(
      others(.cluster("h"), than: RDSDatabases.Own())
        == "h is used by cluster new (the target), and nothing shows that this is the source, db.example")
    #expect(all.isUsed(.instance("i")) && !all.isUsed(.cluster("i")))
  }

  @Test("What stands beside a record, or is replaced by it, is known by type, set and value")
  func neighbours() throws {
    let wanted = Route53Action.Record(SwitchStep.Route53(zone: "Z", record: "db.example"), value: "new")
    func present(_ fields: String) throws -> [Route53Action.Record] {
      try decode([Route53Action.Record].self, "[{\"name\": \"db.example.\", \(fields)}]")
    }
    let plain = try present(#""type": "CNAME", "ttl": 300, "values": ["old"]"#)
    #expect(Route53Action.Records.obstacles(plain, to: wanted).isEmpty)
    #expect(Route53Action.Records.replaced(plain, by: wanted)?.ttl == 300)
    let there = try present(#""type": "CNAME", "ttl": 300, "values": ["new."]"#)
    #expect(Route53Action.Records.replaced(there, by: wanted) == nil, "clients are there already")
    let weighted = try present(#""type": "CNAME", "ttl": 5, "values": ["old"], "set": "blue""#)
    #expect(Route53Action.Records.obstacles(weighted, to: wanted).first?.why.contains("(blue)") == true)
    let text = try present(#""type": "TXT", "ttl": 5, "values": ["x"]"#)
    #expect(Route53Action.Records.obstacles(text, to: wanted).first?.why.contains("of type TXT") == true)
    var address = wanted
    address.type = "A"
    #expect(Route53Action.Records.obstacles(text, to: address).isEmpty)
    #expect(Route53Action.Records.obstacles(plain, to: address).first?.why.contains("of type CNAME") == true)
    let other = try present(#""type": "AAAA", "ttl": 5, "values": ["::1"]"#)
    #expect(Route53Action.Records.obstacles(other, to: address).isEmpty)
    #expect(Route53Action.Records.bystanders(other, of: address, moved: []).count == 1)
    let moved = Route53Action.Key(name: "DB.example.", type: "AAAA")
    #expect(Route53Action.Records.bystanders(other, of: address, moved: [moved]).isEmpty)
    #expect(Route53Action.noted(Route53Action.note(17)) == 17 && Route53Action.noted("") == 0)
  }

  @Test("A proxy leads to a database once its writer is available, and the old one is gone")
  func proxies() throws {
    func targets(_ text: String) throws -> ProxyTargetAction.Targets {
      ProxyTargetAction.Targets(all: try decode([ProxyTargetAction.Target].self, "[\(text)]"))
    }
    let cluster = #"{"id": "new", "type": "TRACKED_CLUSTER", "state": null}"#
    func instance(_ role: String, _ state: String) -> String {
      #"{"id": "i", "type": "RDS_INSTANCE", "cluster": "new", "role": "\#(role)", "state": "\#(state)", "#
        + #""reason": "PENDING_PROXY_CAPACITY"}"#
    }
    let (writer, reader) = (instance("READ_WRITE", "UNAVAILABLE"), instance("READ_ONLY", "AVAILABLE"))
    let half = try targets("\(cluster), \(writer), \(reader)")
    #expect(half.has(.cluster("new")) && half.strangers(besides: [.cluster("new")]).isEmpty)
    #expect(
      half.missing(.cluster("new"))
        == "cluster new is registered, but i is UNAVAILABLE, PENDING_PROXY_CAPACITY")
    let whole = try targets("\(cluster), \(instance("READ_WRITE", "AVAILABLE"))")
    #expect(whole.missing(.cluster("new")) == nil)
    let old = #"{"id": "one", "type": "RDS_INSTANCE", "state": "AVAILABLE"}"#
    #expect(try targets(old).strangers(besides: [.cluster("new")]) == [.instance("one")])
    #expect(try targets(old).missing(.instance("two"))?.contains("one is not let go of yet") == true)
  }

  @Test("A secret that others change is not for the step")
  func rotation() throws {
    func hindrance(_ text: String) throws -> String? {
      try decode(SecretsManagerAction.Description.self, text).hindrance("s")?.why
    }
    #expect(try hindrance(#"{"rotates": null, "stages": {"1": ["AWSCURRENT", "AWSPENDING"]}}"#) == nil)
    #expect(try hindrance(#"{"rotates": true}"#)?.contains("RotationEnabled") == true)
    let pending = try hindrance(#"{"stages": {"1": ["AWSCURRENT"], "2": ["AWSPENDING"]}}"#)
    #expect(pending?.contains("AWSPENDING") == true)
    #expect(try hindrance(#"{"rotates": true, "owner": "rds"}"#)?.contains("belongs to rds") == true)
  }
}
