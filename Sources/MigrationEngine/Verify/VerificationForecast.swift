/// How long comparisons may take during a write pause: sizes in, seconds out.
struct VerificationForecast: Sendable {
  /// The source's relations, with their sizes.
  let relations: [Relation]
  /// Sessions on each end.
  let jobs: Int
  /// How much one end may have of them.
  var largeObjectBytes: Int64 = 0
  /// The report whose pace is assumed; nil: a slow disk's.
  var last: VerificationReport?

  /// For a comparison by keys: each row's index lookup on each end, and each table's statement.
  private static let secondsARow = 0.00005
  private static let secondsATable = 0.001
  /// And the minimum, however few rows have changed.
  private static let secondsAtLeast = 0.02
  /// Where nothing was ever measured.
  private static let bytesPerSecond = Double(40 << 20)

  /// All rows of all tables, and large objects.
  var full: Double {
    // As they were when last read: their compression is not known in advance.
    let objects = max(
      2 * Double(largeObjectBytes), largeObjectBytes > 0 ? Double(last?.largeObjectBytes ?? 0) : 0)
    return seconds(2 * Self.sum(relations, \.bytes) + objects, relations)
  }

  /// Nothing is hashed, and TOAST is not read.
  var counts: Double { seconds(8192 * Self.sum(relations, \.heapBlocks), relations) }

  /// In floating point: a server's answer must not trap.
  private static func sum(_ relations: [Relation], _ size: (Relation) -> Int64) -> Double {
    relations.reduce(0) { $0 + Double(size($1)) }
  }

  /// What to compare where the changed rows are not known: as much as there is time for; nil: nothing.
  func substitute(within seconds: Double) -> CutoverVerification? {
    if full <= seconds { return .full }
    return counts <= seconds ? .counts : nil
  }

  func changed(_ touched: [RelationName: ChangedRows]) -> Double {
    var keys = 0
    var tables = 0
    var whole: [Relation] = []
    for relation in relations {
      switch touched[relation.name] {
      case .all: whole.append(relation)
      case .keys(let batches):
        tables += 1
        keys += batches.reduce(0) { $0 + $1.count }
      case nil: break
      }
    }
    let rows =
      Double(keys) * Self.secondsARow + Double(tables) * Self.secondsATable + Self.secondsAtLeast
    return whole.isEmpty ? rows : rows + seconds(2 * Self.sum(whole, \.bytes), whole)
  }

  private func seconds(_ bytes: Double, _ relations: [Relation]) -> Double {
    // Sessions, catalogs and other costs that do not depend on the tables' size.
    let fixed = 0.3 + Double(relations.count) * 0.002 / Double(max(1, min(jobs, relations.count)))
    return fixed + bytes / (last?.bytesPerSecond(jobs: jobs) ?? Self.bytesPerSecond)
  }
}

extension VerificationReport {
  /// How fast both ends were read, in bytes a second; nil where that does not show how fast they can be.
  /// - Parameter jobs: with fewer sessions than were used it is slower; with more it is not known.
  func bytesPerSecond(jobs: Int) -> Double? {
    guard extent == .full, !hasDifferences, maxBytesPerSecond == nil, bytes > 8 << 20,
      let readingSeconds, readingSeconds > 0, let used = self.jobs
    else { return nil }
    return Double(bytes) / readingSeconds * Double(min(jobs, used)) / Double(max(1, used))
  }
}
