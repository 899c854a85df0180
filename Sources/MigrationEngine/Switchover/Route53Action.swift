/// Step `route53`: the record through which the application finds its database.
struct Route53Action: SwitchAction {
  private let step: SwitchStep.Route53
  private let aws: AWSCommand

  /// The pause between polls for the change: the service allows five requests a second for everyone.
  private static let pause = Duration.seconds(2)

  init(_ step: SwitchStep.Route53) {
    self.step = step
    aws = AWSCommand(profile: step.access.profile, region: step.access.region)
  }

  private func value(_ scene: SwitchScene) -> String { step.value ?? scene.target.host }

  func examine(_ scene: SwitchScene) async -> [SwitchFinding] {
    let value = value(scene)
    let looksLikeAddress = value.contains(":") || value.allSatisfy { $0.isNumber || $0 == "." }
    if step.type == "CNAME", looksLikeAddress || value.hasPrefix("/") {
      return [.blocker("A CNAME cannot hold \(value).", "Give value, a host name, or type A.")]
    }
    return await AWSLook.blockers {
      _ = try await present()
      return []
    }
  }

  func perform(_ scene: SwitchScene, until deadline: ContinuousClock.Instant) async throws -> String {
    let wanted = Record(step, value: value(scene))
    let isThere = try await present()?.says(wanted) ?? false
    // Even when it is already there: only our own change shows whether all name servers have it.
    let change = try await aws.answer(
      Change.self,
      ["route53", "change-resource-record-sets", "--hosted-zone-id", step.zone, "--query", Change.query],
      input: Upsert(wanted))
    if change.status != "INSYNC" {
      try await AWSWait.wait(until: deadline, every: Self.pause) {
        let now = try await aws.answer(
          Change.self, ["route53", "get-change", "--id", change.shortID, "--query", Change.query])
        return now.status == "INSYNC"
          ? nil : "\(step.record) is changed, but \(now.status) and not INSYNC yet"
      }
    }
    return "\(step.record) \(isThere ? "pointed already" : "points") to \(value(scene)), INSYNC"
  }

  /// The current record; nil when there is none.
  private func present() async throws -> Record? {
    let records = try await aws.answer(
      [Record].self,
      [
        "route53", "list-resource-record-sets", "--hosted-zone-id", step.zone,
        "--start-record-name", step.record, "--start-record-type", step.type, "--max-items", "1",
        "--query", Record.query,
      ])
    // The list starts there: the first may be another one.
    return records.first { Record.isSame($0.name, step.record) && $0.type == step.type }
  }
}

extension Route53Action {
  /// A record set, with the keys of `query`.
  struct Record: Decodable, Equatable {
    static let query = """
      ResourceRecordSets[].{name: Name, type: Type, ttl: TTL, values: ResourceRecords[].Value, \
      alias: AliasTarget.{zone: HostedZoneId, name: DNSName}}
      """

    var name: String
    var type: String
    var ttl: Int?
    var values: [String]?
    var alias: Alias?

    struct Alias: Decodable, Equatable {
      var zone: String
      var name: String
    }

    init(_ step: SwitchStep.Route53, value: String) {
      name = step.record
      type = step.type
      if let zone = step.aliasZone {
        alias = Alias(zone: zone, name: value)
      } else {
        ttl = step.ttl
        values = [value]
      }
    }

    /// Names are returned with a trailing dot, and in lower case.
    static func isSame(_ left: String, _ right: String) -> Bool {
      func plain(_ name: String) -> Substring {
        let lower = Substring(name.lowercased())
        return lower.last == "." ? lower.dropLast() : lower
      }
      return plain(left) == plain(right)
    }

    func says(_ other: Record) -> Bool {
      if let alias, let wanted = other.alias {
        return alias.zone == wanted.zone && Self.isSame(alias.name, wanted.name)
      }
      guard alias == nil, other.alias == nil, ttl == other.ttl else { return false }
      let (present, wanted) = (values ?? [], other.values ?? [])
      return present.count == wanted.count && zip(present, wanted).allSatisfy { Self.isSame($0, $1) }
    }
  }

  /// The state of a change.
  struct Change: Decodable, Equatable {
    static let query = "{id: ChangeInfo.Id, status: ChangeInfo.Status}"

    var id: String
    var status: String

    /// Returned as `/change/C1`, accepted as `C1`.
    var shortID: String { id.split(separator: "/").last.map(String.init) ?? id }
  }

  /// The change to a record, in the service's format.
  struct Upsert: Encodable {
    let record: Record

    init(_ record: Record) { self.record = record }

    private struct Key: CodingKey {
      let stringValue: String
      var intValue: Int? { nil }
      init(_ name: String) { stringValue = name }
      init(stringValue: String) { self.init(stringValue) }
      init?(intValue: Int) { nil }
    }

    func encode(to encoder: any Encoder) throws {
      var root = encoder.container(keyedBy: Key.self)
      var batch = root.nestedContainer(keyedBy: Key.self, forKey: Key("ChangeBatch"))
      try batch.encode("replicate: the database has moved", forKey: Key("Comment"))
      var changes = batch.nestedUnkeyedContainer(forKey: Key("Changes"))
      var change = changes.nestedContainer(keyedBy: Key.self)
      try change.encode("UPSERT", forKey: Key("Action"))
      var set = change.nestedContainer(keyedBy: Key.self, forKey: Key("ResourceRecordSet"))
      try set.encode(record.name, forKey: Key("Name"))
      try set.encode(record.type, forKey: Key("Type"))
      try set.encodeIfPresent(record.ttl, forKey: Key("TTL"))
      if let values = record.values {
        try set.encode(values.map { ["Value": $0] }, forKey: Key("ResourceRecords"))
      }
      guard let alias = record.alias else { return }
      var target = set.nestedContainer(keyedBy: Key.self, forKey: Key("AliasTarget"))
      try target.encode(alias.zone, forKey: Key("HostedZoneId"))
      try target.encode(alias.name, forKey: Key("DNSName"))
      try target.encode(false, forKey: Key("EvaluateTargetHealth"))
    }
  }
}
