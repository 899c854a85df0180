/// Rows of one end with the same identity and the same digest.
struct RowMark: Sendable, Equatable {
  /// The hash of the key; of the whole row where there is none.
  var identity: Int64
  var digest: Int64
  /// How many there are: more than one only without a key.
  var count: Int64 = 1
  /// The `ctid` of one of them.
  var place: String

  /// The place as a number, block first.
  fileprivate var position: Int64 {
    let parts = place.dropFirst().dropLast().split(separator: ",").compactMap { Int64($0) }
    return parts.count == 2 ? parts[0] << 16 | parts[1] : 0
  }
}

/// Which rows differ, found from their hashes. Pure.
struct RowComparison: Sendable, Equatable {
  struct Difference: Sendable, Equatable {
    var kind: VerificationReport.Row.Kind
    var place: String
  }

  private(set) var missing: Int64 = 0
  private(set) var extra: Int64 = 0
  private(set) var different: Int64 = 0
  /// The first of them, with the ctid on the end that has the row; the source's if both do.
  private(set) var named: [Difference] = []

  /// - Parameter limit: how many are named.
  init(source: [RowMark], target: [RowMark], limit: Int) {
    struct Pair: Hashable {
      var identity: Int64
      var digest: Int64
    }
    var theirs: [Pair: Int64] = [:]
    for mark in target {
      theirs[Pair(identity: mark.identity, digest: mark.digest), default: 0] &+= mark.count
    }
    // Equal rows cancel out; the rest of each identity on the source is matched with the rest on the target.
    var left: [(mark: RowMark, count: Int64)] = []
    for mark in source {
      let pair = Pair(identity: mark.identity, digest: mark.digest)
      let equal = min(theirs[pair] ?? 0, mark.count)
      theirs[pair, default: 0] -= equal
      if mark.count > equal { left.append((mark, mark.count - equal)) }
    }
    var right: [Int64: Int64] = [:]
    for (pair, count) in theirs where count > 0 { right[pair.identity, default: 0] &+= count }
    left.sort { $0.mark.position < $1.mark.position }
    for (mark, count) in left {
      let pairs = min(right[mark.identity] ?? 0, count)
      right[mark.identity, default: 0] -= pairs
      note(.different, pairs, mark.place, limit)
      note(.missing, count - pairs, mark.place, limit)
    }
    let unequal = target.filter { theirs[Pair(identity: $0.identity, digest: $0.digest)] ?? 0 > 0 }
    for mark in unequal.sorted(by: { $0.position < $1.position }) {
      let pair = Pair(identity: mark.identity, digest: mark.digest)
      let count = min(theirs[pair] ?? 0, right[mark.identity] ?? 0, mark.count)
      theirs[pair, default: 0] -= count
      right[mark.identity, default: 0] -= count
      note(.extra, count, mark.place, limit)
    }
  }

  private mutating func note(
    _ kind: VerificationReport.Row.Kind, _ count: Int64, _ place: String, _ limit: Int
  ) {
    guard count > 0 else { return }
    switch kind {
    case .missing: missing &+= count
    case .extra: extra &+= count
    case .different: different &+= count
    }
    if named.count < limit { named.append(Difference(kind: kind, place: place)) }
  }
}

/// One end's rows of a table, summed by the low bits of their identity.
struct BucketSums: Sendable, Equatable {
  struct Sum: Sendable, Equatable {
    var rows: Int64 = 0
    /// Modulo 2^64.
    var digest: UInt64 = 0
  }

  private(set) var sums: [Int64: Sum] = [:]

  mutating func add(bucket: Int64, rows: Int64, digest: UInt64) {
    sums[bucket, default: Sum()].rows &+= rows
    sums[bucket, default: Sum()].digest &+= digest
  }

  /// Buckets that differ, as many as together have no more than this many rows on both ends, but at least
  /// one.
  static func differing(_ source: BucketSums, _ target: BucketSums, maxRows: Int64) -> (
    chosen: [Int64], hasMore: Bool
  ) {
    let differing = Set(source.sums.keys).union(target.sums.keys).sorted()
      .filter { source.sums[$0] != target.sums[$0] }
    var chosen: [Int64] = []
    var rows: Int64 = 0
    for bucket in differing {
      rows &+= (source.sums[bucket]?.rows ?? 0) &+ (target.sums[bucket]?.rows ?? 0)
      if !chosen.isEmpty, rows > maxRows { break }
      chosen.append(bucket)
    }
    return (chosen, chosen.count < differing.count)
  }

  /// How many buckets to use for a table of this many rows: few rows each, and no more than can be examined.
  /// - Returns: a power of two.
  static func count(rows: Int64, pieces: Int) -> Int64 {
    let most = max(1024, min(65536, 2_000_000 / Int64(max(1, pieces))))
    var count: Int64 = 1
    while count < rows / 64, count * 2 <= most { count *= 2 }
    return count
  }
}

extension UInt64 {
  /// A sum of hashes as the server prints it, which is longer than 64 bits, modulo 2^64; none is zero.
  init(sum text: String?) {
    var value: UInt64 = 0
    var isNegative = false
    for byte in (text ?? "").utf8 {
      if byte == UInt8(ascii: "-") { isNegative = true }
      guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { continue }
      value = value &* 10 &+ UInt64(byte - UInt8(ascii: "0"))
    }
    self = isNegative ? 0 &- value : value
  }
}
