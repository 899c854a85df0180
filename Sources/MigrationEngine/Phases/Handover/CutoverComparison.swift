import LibPQ
import Logging
import LogicalReplication

/// What a cutover or rollback compares between fence and seal, when neither end changes any more.
struct CutoverComparison: HandoverComparison {
  /// The extent that was requested.
  let extent: CutoverVerification
  let direction: Direction
  /// As given: `source` is the end that is moved.
  let options: MigrationOptions
  let ends: Endpoints
  let monitor: StreamMonitor
  let tables: MigratedTables
  /// Of the source, with their sizes, read before the fence.
  let relations: [Relation]
  /// The tables of the end that changes come from, by OID, read before the fence.
  let names: [UInt32: RelationName]
  /// The fence does not stop writes to them.
  let largeObjects: LargeObjectUpdates
  let logger: Logger
  private let preparation = Preparation()

  private var store: StateStore { StateStore(ends.target) }

  /// What is compared, decided before the fence.
  private struct Plan: Sendable {
    var extent: CutoverVerification
    var seconds: Double
    /// Why it is not what was requested.
    var notice: String?
    /// For a comparison of changed rows: those so far, and how tables are defined now.
    var touched: (rows: [RelationName: ChangedRows], versions: TableVersions)?
  }

  func predictedSeconds(within secondsLeft: Double) async throws -> Double {
    let plan = try await plan(within: secondsLeft)
    try await prepare(plan)
    return plan.seconds
  }

  func compare(at fenceLSN: String?) async throws -> Status.Comparison {
    let plan = await preparation.plan ?? Plan(extent: extent, seconds: 0)
    return try await compare(plan, await preparation.ready, at: fenceLSN)
  }

  /// Not before the end: so many backends exiting at once would slow down what users wait for.
  func close() async { await preparation.close() }

  // MARK: Before the fence

  /// Sessions are opened, and have read the catalogs and changed rows, while nobody waits for them.
  private func prepare(_ plan: Plan) async throws {
    guard plan.extent != .changed || plan.touched != nil else {
      await preparation.close()
      return await preparation.keep(plan, nil)
    }
    var ready: PreparedVerification
    if let there = await preparation.readiness(for: plan.extent) {
      ready = there
    } else {
      ready = try await verification(plan.extent).ready()
    }
    await preparation.keep(plan, ready)
    try await ready.study()
    if let touched = plan.touched { try await ready.warmUp(touched.rows) } else { ready.forget() }
    await preparation.keep(plan, ready)
  }

  private actor Preparation {
    private(set) var plan: Plan?
    private(set) var ready: PreparedVerification?

    /// What is prepared already, if it is for the same extent.
    func readiness(for extent: CutoverVerification) async -> PreparedVerification? {
      if plan?.extent == extent { return ready }
      await close()
      return nil
    }

    func keep(_ plan: Plan, _ ready: PreparedVerification?) {
      self.plan = plan
      self.ready = ready
    }

    func close() async {
      await ready?.close()
      ready = nil
    }
  }

  // MARK: The plan

  /// Where the changed rows are not known, as much is compared as `secondsLeft` of the write pause allow.
  private func plan(within secondsLeft: Double) async throws -> Plan {
    let forecast = try await forecast()
    switch extent {
    case .none: return Plan(extent: .none, seconds: 0)
    case .full: return Plan(extent: .full, seconds: forecast.full)
    case .counts: return Plan(extent: .counts, seconds: forecast.counts)
    case .changed: break
    }
    let versions = try await TableVersions.read(source: ends.source, target: ends.target)
    if let touched = try await touched(versions) {
      return Plan(extent: .changed, seconds: forecast.changed(touched), touched: (touched, versions))
    }
    let most = "all rows would have taken about \(Self.words(forecast.full))"
    switch forecast.substitute(within: secondsLeft) {
    case .full:
      return Plan(
        extent: .full, seconds: forecast.full,
        notice: "\(Self.cause), so all rows were compared instead. \(Self.remedy)")
    case .counts:
      return Plan(
        extent: .counts, seconds: forecast.counts,
        notice: "\(Self.cause), and \(most), so rows were only counted. \(Self.remedy)")
    case .changed, nil, .some(.none):
      return Plan(
        extent: .changed, seconds: 0,
        notice: "\(Self.cause); \(most) of the write pause, and counting them "
          + "\(Self.words(forecast.counts)). \(Self.remedy)")
    }
  }

  private static let cause =
    "this engine has not compared both ends since it began, or last lost a connection"
  private static let remedy = "Run replicate verify before a cutover: then only changed rows are compared."

  private static func words(_ seconds: Double) -> String { "\((seconds * 10).rounded() / 10) s" }

  private func forecast() async throws -> VerificationForecast {
    VerificationForecast(
      relations: relations, jobs: options.jobs,
      largeObjectBytes: try await carriesLargeObjects()
        ? LargeObjectComparison.estimatedBytes(on: store.connection) : 0,
      last: try await store.lastVerification(where: { $0.bytesPerSecond(jobs: 1) != nil }))
  }

  /// If they were excluded once, they stay excluded.
  private func carriesLargeObjects() async throws -> Bool {
    try await store.carriesLargeObjects(options)
  }

  // MARK: The comparison

  private func compare(
    _ plan: Plan, _ ready: PreparedVerification?, at fenceLSN: String?
  ) async throws -> Status.Comparison {
    let began = ContinuousClock.now
    guard var report = try await compared(plan, ready) else { return nothing(plan) }
    report.lsn = fenceLSN.flatMap { LSN($0) }
    if let notice = plan.notice { report.notes.append(notice) }
    try await store.keep(report, requestedBy: direction == .forward ? "the cutover" : "the rollback")
    return Status.Comparison(
      extent: plan.extent,
      result: report.hasDifferences ? .different : report.isVoid ? .nothing : .equal, digest: report.digest,
      tables: report.tables.filter { $0.verdict != .notCompared }.count, summary: report.summary,
      seconds: (ContinuousClock.now - began) / .seconds(1), lsn: fenceLSN, notice: plan.notice)
  }

  /// - Returns: nil when nothing is to be compared.
  private func compared(_ plan: Plan, _ ready: PreparedVerification?) async throws -> VerificationReport? {
    guard var ready else { return nil }
    switch plan.extent {
    case .none: return nil
    case .counts: return try await ready.count()
    case .full:
      var report = try await ready.compare()
      try await forgiveLargeObjects(&report, ready)
      return report
    case .changed:
      // On existing connections: nobody can write meanwhile.
      let versions = try await TableVersions.read(source: ends.source, target: ends.target)
      guard let touched = try await touched(versions) else { return nil }
      if versions != plan.touched?.versions { ready.forget() }
      return try await ready.compare(rows: touched)
    }
  }

  private func nothing(_ plan: Plan) -> Status.Comparison {
    Status.Comparison(
      extent: extent, result: .nothing, digest: "", tables: 0, summary: "nothing was compared", seconds: 0,
      notice: plan.notice)
  }

  private func verification(_ extent: CutoverVerification) async throws -> Verification {
    var wanted = Verification.Options(scope: .fenced)
    wanted.jobs = options.jobs
    // Nobody can write meanwhile, and the cutover ends in any case.
    wanted.longestNarrowed = 0.5
    // Objects other than rows are compared where there is time.
    wanted.comparesObjects = extent == .full
    wanted.comparesSchema = false
    if extent == .full { wanted.comparesLargeObjects = try await carriesLargeObjects() }
    wanted.excluded = tables.excluded
    return Verification(
      source: .init(options.source, end: "source"), target: .init(options.target, end: "target"),
      relations: relations, options: wanted, logger: logger)
  }

  /// Large objects may be written during the comparison, and are copied once more after the seal: what that
  /// copy fixes, or what was written meanwhile, counts as no difference.
  private func forgiveLargeObjects(
    _ report: inout VerificationReport, _ ready: PreparedVerification
  ) async throws {
    let different = report.differentLargeObjects
    guard !different.isEmpty else { return }
    let before = try await ready.largeObjects(different)
    try await largeObjects.bringOver()
    let after = try await ready.largeObjects(different)
    let moving = direction == .forward ? \LargeObjectComparison.Pair.source : \.target
    let written = different.filter { oid in
      let (old, new) = (before[oid] ?? .init(), after[oid] ?? .init())
      return new.source == new.target || old[keyPath: moving] != new[keyPath: moving]
    }
    report.forgive(
      largeObjects: Set(written),
      because: "written after the fence, which does not stop large objects, and copied after the seal")
  }

  // MARK: Changed rows

  /// The rows changed since the last full comparison, and the tables that joined since; nil without one.
  private func touched(_ now: TableVersions) async throws -> [RelationName: ChangedRows]? {
    guard let (since, versions, remembered) = monitor.touched.touched else { return nil }
    let compared = Set(relations.map(\.name))
    var touched: [RelationName: ChangedRows] = [:]
    for table in remembered {
      // It may have been renamed. A dropped table has nothing to compare.
      guard let name = names[table.relationID] ?? (compared.contains(table.name) ? table.name : nil) else {
        continue
      }
      guard compared.contains(name) else {
        throw MigrationError(
          .failed, doing: "looking for rows changed since both ends were compared",
          reason: "\(name) of the \(direction.from) is not among the tables that can be compared",
          remedy: "See that both ends have it under one name, run replicate verify, then ask again.")
      }
      touched[name] = touched[name] == nil ? table.rows : .all
    }
    for name in now.changed(since: versions) { touched[name] = .all }
    if direction == .forward {
      for relation in try await store.relations() where relation.snapshotLSN.map({ $0 > since }) ?? false {
        touched[names[relation.sourceOID] ?? relation.name] = .all
      }
    }
    return touched
  }
}
