/// Step `route53`: the record through which the application finds its database.
struct Route53Action: SwitchAction {
  private let step: SwitchStep.Route53
  private let timeLimit: Duration
  private let aws: AWSCommand

  /// The pause between polls for the change: the service allows five requests a second for everyone.
  private static let pause = Duration.seconds(2)
  /// In seconds: a change has usually reached all name servers by then.
  private static let usualChange = 60

  init(_ step: SwitchStep.Route53, timeLimit: Duration) {
    self.step = step
    self.timeLimit = timeLimit
    aws = AWSCommand(profile: step.access.profile, region: step.access.region)
  }

  private func value(_ scene: SwitchScene) -> String { step.value ?? scene.target.host }

  func examine(_ scene: SwitchScene) async -> [SwitchFinding] {
    let wanted = Record(step, value: value(scene))
    let looksLikeAddress =
      value(scene).contains(":") || value(scene).allSatisfy { $0.isNumber || $0 == "." }
    if step.type == "CNAME", looksLikeAddress || value(scene).hasPrefix("/") {
      return [.blocker("A CNAME cannot hold \(value(scene)).", "Give value, a host name, or type A.")]
    }
    return await AWSLook.blockers {
      let present = try await present()
      let obstacles = Records.obstacles(present, to: wanted)
      guard obstacles.isEmpty else { return obstacles }
      return Records.bystanders(present, of: wanted, moved: scene.movedRecords)
        + (try await slowness(of: present, wanted))
    }
  }

  /// Clients may go by the old answer for as long as its TTL says.
  private func slowness(of present: [Record], _ wanted: Record) async throws -> [SwitchFinding] {
    guard let old = Records.replaced(present, by: wanted) else { return [] }
    let life = try await life(of: old)
    let needed = life.seconds + Self.usualChange
    let shorter = wanted.ttl ?? Self.aliasLife
    let lowering = life.carrier.map {
      "Lower the TTL of \($0) to \(min(shorter, life.seconds)) s at least \(life.seconds) s before the "
        + "cutover"
    }
    guard .seconds(needed) <= timeLimit else {
      return [
        .blocker(
          "Answers for \(step.record) live \(life.seconds) s (TTL). The step waits that long after the "
            + "change, for which its time limit of \(timeLimit.components.seconds) s is too short.",
          "\(lowering.map { "\($0), or give" } ?? "Give") the step timeout: \(needed)s or more.")
      ]
    }
    guard life.seconds > shorter, let lowering else { return [] }
    return [
      .warning(
        "Answers for \(step.record) live \(life.seconds) s (TTL): that long after the change clients may "
          + "still go to the old database, and the steps after this one wait.", "\(lowering).")
    ]
  }

  func perform(_ scene: SwitchScene, until deadline: ContinuousClock.Instant) async throws -> String {
    let wanted = Record(step, value: value(scene))
    let present = try await present()
    if let obstacle = Records.obstacles(present, to: wanted).first {
      throw SwitchFailure("\(obstacle.why) Nothing was changed.")
    }
    let isThere = present.contains { $0.isSameSet(as: wanted) && $0.says(wanted) }
    var rest = Self.noted(scene.noted)
    if let old = Records.replaced(present, by: wanted) { rest = try await life(of: old).seconds }
    // Once the record is changed, nothing else tells how long the old answer lives.
    if rest > 0 { await scene.note(Self.note(rest)) }
    // Even when it is already there: only our own change shows whether all name servers have it.
    try await change(wanted, until: deadline)
    let pointed = "\(step.record) \(isThere ? "pointed already" : "points") to \(value(scene)), INSYNC"
    return pointed + (try await waitOut(rest, pointed, until: deadline))
  }

  private func change(_ wanted: Record, until deadline: ContinuousClock.Instant) async throws {
    let change = try await aws.answer(
      Change.self,
      ["route53", "change-resource-record-sets", "--hosted-zone-id", step.zone, "--query", Change.query],
      input: Upsert(wanted))
    guard change.status != "INSYNC" else { return }
    try await AWSWait.wait(until: deadline, every: Self.pause) {
      let now = try await aws.answer(
        Change.self, ["route53", "get-change", "--id", change.shortID, "--query", Change.query])
      return now.status == "INSYNC"
        ? nil : "\(step.record) is changed, but \(now.status) and not INSYNC yet"
    }
  }

  /// - Returns: what to add to the report.
  private func waitOut(
    _ ttl: Int, _ pointed: String, until deadline: ContinuousClock.Instant
  ) async throws -> String {
    guard ttl > 0 else { return "" }
    guard .now + .seconds(ttl) <= deadline else {
      throw SwitchFailure(
        "\(pointed), but clients may go by the old answer for \(ttl) s more, and the step's time limit does "
          + "not allow to wait that long")
    }
    try await Task.sleep(for: .seconds(ttl))
    return "; waited \(ttl) s, the TTL of the old answer"
  }

  /// All records of this name.
  private func present() async throws -> [Record] { try await records(called: step.record) }

  private func records(called name: String) async throws -> [Record] {
    let records = try await aws.answer(
      [Record].self,
      [
        "route53", "list-resource-record-sets", "--hosted-zone-id", step.zone, "--start-record-name", name,
        "--max-items", "100", "--query", Record.query,
      ])
    // The list starts there, and goes on with other names.
    return records.filter { Record.isSame($0.name, name) }
  }

  /// How long an answer lives, and the record whose TTL says so; nil where none that can be changed does.
  private func life(of record: Record) async throws -> (seconds: Int, carrier: String?) {
    if let ttl = record.ttl { return (ttl, step.record) }
    guard let alias = record.alias, Record.isSameZone(alias.zone, step.zone) else {
      return (Self.aliasLife, nil)
    }
    // An alias of another record of the zone has that one's.
    let behind = try await records(called: alias.name).filter { $0.type == record.type }
    return behind.compactMap(\.ttl).max().map { ($0, alias.name) } ?? (Self.aliasLife, nil)
  }

  /// In seconds: of answers for aliases to load balancers.
  private static let aliasLife = 60

  /// For the next engine, and for people who read the report of one that died.
  static func note(_ seconds: Int) -> String { "the old answer may be in use for \(seconds) s" }

  static func noted(_ text: String) -> Int {
    text.wholeMatch(of: /the old answer may be in use for (\d+) s/).flatMap { Int($0.output.1) } ?? 0
  }
}

extension Route53Action {
  /// A record set, with the keys of `query`.
  struct Record: Decodable, Equatable {
    static let query = """
      ResourceRecordSets[].{name: Name, type: Type, ttl: TTL, values: ResourceRecords[].Value, \
      alias: AliasTarget.{zone: HostedZoneId, name: DNSName}, set: SetIdentifier}
      """

    var name: String
    var type: String
    var ttl: Int?
    var values: [String]?
    var alias: Alias?
    /// Distinguishes weighted, latency and other records of one name and type.
    var set: String?

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

    /// Zones are named with and without `/hostedzone/`.
    static func isSameZone(_ left: String, _ right: String) -> Bool {
      left.split(separator: "/").last == right.split(separator: "/").last
    }

    /// Whether a change of the one changes the other.
    func isSameSet(as other: Record) -> Bool {
      Self.isSame(name, other.name) && type == other.type && set == other.set
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
