import LibPQ
import Logging
import LogicalReplication

/// What a cutover or a rollback compares of both ends between fence and seal, when neither changes any more.
struct MigrationCutoverVerification: Sendable {
  let extent: CutoverVerification
  let direction: Direction
  /// As they were given: `source` is the end that is moved.
  let options: MigrationOptions
  let monitor: StreamMonitor
  /// Of the source, with their sizes, read before the fence.
  let relations: [Relation]
  /// On the target.
  let store: StateStore
  let logger: Logger

  /// For what is compared by keys, each row's round on an index of each end.
  private static let secondsARow = 0.00005

  var comparison: Cutover.Comparison? {
    guard extent != .none else { return nil }
    return Cutover.Comparison(
      predictedSeconds: { try await predictedSeconds() }, compare: { try await compare() })
  }

  // MARK: The prediction

  private func predictedSeconds() async throws -> Double {
    switch extent {
    case .none: return 0
    case .full: return try await predicted(relations, bytes: \.bytes)
    // Nothing is digested, and what is stored outside the rows is not read.
    case .counts: return try await predicted(relations) { $0.heapBlocks * 8192 } / 2
    case .changed:
      guard let touched = try await touched() else { return 0 }
      var keys = 0
      var whole: [Relation] = []
      for relation in relations {
        switch touched[relation.name] {
        case .all: whole.append(relation)
        case .keys(let batches): keys += batches.reduce(0) { $0 + $1.count }
        case nil: break
        }
      }
      return try await predicted(whole, bytes: \.bytes) + Double(keys) * Self.secondsARow
    }
  }

  private func predicted(_ relations: [Relation], bytes: (Relation) -> Int64) async throws -> Double {
    guard !relations.isEmpty else { return 0 }
    return Verification.predictedSeconds(
      bytes: 2 * relations.reduce(0) { $0 + bytes($1) }, tables: relations.count, jobs: options.jobs,
      last: try await store.lastEqualVerification())
  }

  // MARK: The comparison

  private func compare() async throws -> Status.Comparison {
    let began = ContinuousClock.now
    let report: VerificationReport
    switch extent {
    case .full: report = try await verification.run()
    case .counts: report = try await verification.count()
    case .changed, .none:
      guard let touched = try await touched() else { return nothing }
      report = try await verification.compare(rows: touched)
    }
    try await store.keep(report, requestedBy: direction == .forward ? "the cutover" : "the rollback")
    // A sequence that somebody has drawn from since is set again behind the seal.
    var judged = report
    judged.objects.removeAll { $0.kind == "sequence" }
    return Status.Comparison(
      extent: extent, result: judged.hasDifferences ? .different : .equal, digest: report.digest,
      tables: report.tables.count, summary: judged.summary,
      seconds: (ContinuousClock.now - began) / .seconds(1))
  }

  private var nothing: Status.Comparison {
    Status.Comparison(
      extent: extent, result: .nothing, digest: "", tables: 0,
      summary: """
        nothing was compared: this engine has compared the ends in full never, or not since it lost a \
        connection; run replicate verify before the cutover
        """, seconds: 0)
  }

  private var verification: Verification {
    var wanted = Verification.Options(scope: .settled)
    wanted.jobs = options.jobs
    // Nobody can write meanwhile, and the cutover ends in any case.
    wanted.longestNarrowed = 0.5
    // What is no row is compared where there is time.
    wanted.comparesObjects = extent == .full
    wanted.comparesSchema = false
    wanted.ownPublications = [MigrationAttempt.publicationName, MigrationWayBack.publicationName]
    return Verification(
      source: .init(options.source, end: "source"), target: .init(options.target, end: "target"),
      relations: relations, options: wanted, logger: logger)
  }

  /// What was touched since the last comparison in full, and what has joined since; nil when there was none.
  private func touched() async throws -> [RelationName: TouchedRows]? {
    guard let (since, versions, tables) = monitor.touched.touched else { return nil }
    var touched: [RelationName: TouchedRows] = [:]
    let names = Dictionary(relations.map { ($0.oid, $0.name) }) { first, _ in first }
    for table in tables {
      let name = direction == .forward ? names[table.relationID] ?? table.name : table.name
      touched[name] = touched[name] == nil ? table.rows : .all
    }
    for name in try await TableVersions.read(source: options.source, target: options.target).changed(
      since: versions)
    {
      touched[name] = .all
    }
    if direction == .forward {
      for relation in try await store.relations() where relation.snapshotLSN.map({ $0 > since }) ?? false {
        touched[relation.name] = .all
      }
    }
    return touched
  }
}
