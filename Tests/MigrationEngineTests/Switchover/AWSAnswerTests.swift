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
  }

  @Test("A parameter group is known to be the target's by any of its hosts")
  func groups() throws {
    let users = try decode(
      [ParameterGroupAction.User].self,
      #"[{"hosts": ["a.example", null], "groups": ["g"]}, {"hosts": [null], "groups": null}]"#)
    #expect(users[0].uses("g", at: "a.example") && !users[0].uses("h", at: "a.example"))
    #expect(!users[0].uses("g", at: "b.example") && !users[1].uses("g", at: "a.example"))
  }
}
