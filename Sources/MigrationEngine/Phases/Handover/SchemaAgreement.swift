import LibPQ
import Logging
import LogicalReplication
import Synchronization

/// Compares the schemas of both ends before a cutover or rollback begins: the stream does not carry schema
/// changes made during the migration, and after the seal they would be lost.
struct SchemaAgreement: Sendable {
  let direction: Direction
  /// As given: `source` is the end that is moved.
  let options: MigrationOptions
  let ends: Endpoints
  let tables: MigratedTables
  let logger: Logger
  let compared: ComparedSchemas

  private typealias Difference = VerificationReport.ObjectDifference

  private static let step = Status.Cutover.Step.compareSchemas
  /// Writes continue meanwhile, so it may take this long even where the limit from fence to seal is shorter.
  private static let patience = 30.0
  /// How often to compare again when they change before the fence.
  private static let tries = 3
  private static let named = 50

  // MARK: What belongs to the migration

  private static let publications: Set = [
    EngineRun.publicationName, ReverseReplication.publicationName,
  ]

  static func own(source: Connection, target: Connection) async throws -> OwnObjects {
    var own = OwnObjects()
    own.publications = publications
    for end in [source, target] { own.identities.formUnion(try await FullIdentity.noted(on: end)) }
    own.targetBefore = Set(try await StateStore(target).load()?.targetBefore ?? [])
    let rows = try await target.query(
      "SELECT CURRENT_USER AS role", doing: "asking the target for our role", within: .seconds(15))
    own.targetRole = try rows.first?.text("role")
    own.ofOthers = try await ForeignExtension.parts(on: target)
    own.triggerStates = try await TargetFence(target).triggersDiffering(from: source)
    own.columnOrders = try await ColumnOrder.differing(source: source, target: target)
    return own
  }

  /// How the databases themselves differ, and the memberships of the roles that their objects name.
  static func ofDatabases(
    source: Connection, target: Connection, _ direction: Direction
  ) async throws -> [VerificationReport.ObjectDifference] {
    async let here = DatabaseProperties.read(from: source)
    async let there = DatabaseProperties.read(from: target)
    return try await DatabaseProperties.differences(source: here, target: there, direction: direction)
      + memberships(source: source, target: target, direction)
  }

  private static func memberships(
    source: Connection, target: Connection, _ direction: Direction
  ) async throws -> [VerificationReport.ObjectDifference] {
    let (from, to) = direction == .forward ? (source, target) : (target, source)
    let publication =
      direction == .forward ? EngineRun.publicationName : ReverseReplication.publicationName
    return try await MissingMemberships.find(from: from, to: to, publication: publication)
      .differences(direction)
  }

  // MARK: Before a cutover

  /// - Parameter report: receives the step, and what was found.
  /// - Throws: `MigrationError` that names the differences that were not accepted.
  func ensure(
    for stored: StoredCutover, _ report: inout Status.Cutover, _ record: CutoverRecord
  ) async throws {
    report.step = Self.step
    try await record.publish(report, stored)
    let began = ContinuousClock.now
    var detail = "failed"
    defer {
      report.timeline.append(
        Status.TimelineEntry(
          step: Self.step.rawValue, startSeconds: 0, seconds: (ContinuousClock.now - began) / .seconds(1),
          detail: detail))
      logger.info("\(direction.deed): \(Self.step.rawValue)", metadata: ["detail": "\(detail)"])
    }
    // First, so that the fence itself causes no difference.
    if direction == .forward { try await TargetFence(ends.target).hold(as: ends.source) }
    let found = try await find(stored.request)
    detail = found.words
    if !found.differences.isEmpty { report.schemaDifferences = found.reported }
    try refuse(found)
    if !found.warnings.isEmpty { report.warnings = found.warnings }
    try await letStreamCatchUp(stored.request, record.board, ContinuousClock.now - began)
    report.step = .prepare
  }

  /// On a small machine the comparison slows the stream: it must not cause the cutover to be refused.
  private func letStreamCatchUp(
    _ request: CutoverRequest, _ board: StatusBoard, _ took: Duration
  ) async throws {
    let patience = ContinuousClock.now + took
    while (board.catchUp.reading.predictedPauseSeconds ?? .infinity) > request.maxPauseSeconds,
      .now < patience
    {
      try await Task.sleep(for: .milliseconds(50))
    }
  }

  /// Just before the fence; quick where nothing has changed since.
  /// - Returns: warnings, where something has.
  func again(_ request: CutoverRequest) async throws -> [String] {
    guard let before = compared.versions else { return [] }
    var versions = before
    var warnings: [String] = []
    for _ in 0..<Self.tries {
      guard try await self.versions() != versions else { return warnings }
      logger.info("a schema has changed since the comparison: comparing again")
      if direction == .forward { try await TargetFence(ends.target).hold(as: ends.source) }
      let found = try await find(request)
      try refuse(found)
      warnings = found.warnings
      versions = compared.versions ?? versions
    }
    guard try await self.versions() != versions else { return warnings }
    throw MigrationError(
      .failed, doing: "comparing the schemas of both ends", reason: "they keep changing",
      remedy: "Try again when nobody creates or drops objects.")
  }

  private func versions() async throws -> SchemaVersions {
    try await SchemaVersions.read(source: ends.source, target: ends.target, without: Self.publications)
  }

  // MARK: What is found

  private struct Found: Sendable {
    var objects: Int
    /// Differences that would be lost or wrong after the cutover.
    var differences: [Difference]
    var expected: [Difference]
    var accepted: Set<String>

    func isAccepted(_ difference: Difference) -> Bool { difference.name.map(accepted.contains) ?? false }

    var reported: [Status.SchemaDifference] {
      differences.map {
        Status.SchemaDifference(name: $0.name ?? "", words: $0.words, isAccepted: isAccepted($0))
      }
    }

    var words: String {
      let count = differences.count { isAccepted($0) }
      var words = "\(objects) objects compared"
      if differences.count > count { words += ", \(differences.count - count) differ" }
      if count > 0 { words += ", \(count) may differ as accepted" }
      if !expected.isEmpty { words += ", \(expected.count) differ as is to be expected" }
      return words
    }

    var warnings: [String] {
      let names = Set(differences.compactMap(\.name))
      return differences.filter(isAccepted).map { "accepted: \($0.words)" }
        + expected.filter { $0.kind == "database" || $0.isDoubtful }.map(\.words)
        + accepted.subtracting(names).sorted().map {
          "--accept-difference \(SchemaAgreement.quoted($0)) names no difference of the schemas"
        }
    }
  }

  private func find(_ request: CutoverRequest) async throws -> Found {
    let limit = max(Self.patience, request.timeoutSeconds)
    let error = MigrationError(
      .failed, doing: "comparing the schemas of both ends", reason: "it took longer than \(limit) s",
      remedy: "See that nobody holds locks on tables for long, or give a longer --timeout.")
    return try await TimeLimit.cancelling(until: .now + .seconds(limit), or: error) {
      // The next look sees what changes during the comparison.
      compared.keep(try await versions())
      let comparison = SchemaComparison(
        source: try await .init(options.source, of: ends.source),
        target: try await .init(options.target, of: ends.target),
        direction: direction, own: try await Self.own(source: ends.source, target: ends.target),
        excluded: tables.excluded, isStreaming: true, longestLockWait: limit)
      let findings = try await comparison.findings()
      let all =
        findings.differences
        + (try await Self.ofDatabases(source: ends.source, target: ends.target, direction))
      return Found(
        objects: findings.objects, differences: all.filter { !$0.isExpected },
        expected: all.filter(\.isExpected), accepted: Set(request.acceptedDifferences ?? []))
    }
  }

  // MARK: The refusal

  private func refuse(_ found: Found) throws {
    let refused = found.differences.filter { !found.isAccepted($0) }
    guard !refused.isEmpty else { return }
    let lines = refused.prefix(Self.named).map { difference in
      let remedy = difference.remedy.map { "\n      on the \($0.end): \($0.sql)" } ?? ""
      return "\n    \(difference.words)\(remedy)"
    }
    let more = refused.count - lines.count
    let count = refused.count == 1 ? "1 object differs" : "\(refused.count) objects differ"
    throw MigrationError(
      .failed, doing: "comparing the schemas of both ends",
      reason: "\(count), and a \(direction.deed) does not fix that:\(lines.joined())"
        + (more > 0 ? "\n    and \(more) more, which replicate verify names" : ""),
      remedy: remedy(refused))
  }

  private func remedy(_ refused: [Difference]) -> String {
    let options = refused.prefix(5).compactMap(\.name).map { "--accept-difference \(Self.quoted($0))" }
    // The seal has also made the source's sessions read-only, where it could.
    let readOnly =
      direction == .back ? " (on the source after SET default_transaction_read_only = off;)" : ""
    return """
      Make them the same on both ends\(readOnly), then try again. Accept what may stay as it is by its \
      name: \(options.joined(separator: " "))\(refused.count > options.count ? " …" : "")
      """
  }

  private static func quoted(_ text: String) -> String { SQL.shellQuoted(text) }
}

/// How the schemas were when they were last compared.
final class ComparedSchemas: Sendable {
  private let state = Mutex<SchemaVersions?>(nil)

  var versions: SchemaVersions? { state.withLock { $0 } }

  func keep(_ versions: SchemaVersions) { state.withLock { $0 = versions } }
}
