import LogicalReplication

/// How far the positions that a server's functions tell are from those of its stream. They are the same on
/// PostgreSQL; on Amazon Aurora they were reported from different ranges. Each heartbeat is written at one
/// and comes at the other. Pure.
struct PositionOffset: Sendable {
  private var written: [UInt64: LSN] = [:]
  private var arrived: [UInt64: LSN] = [:]
  private var bytes: Int64 = 0

  /// Closer than this, they are the same: between where a function was called and where its transaction
  /// committed others write.
  private static let nearby: Int64 = 64 << 20
  /// How many beats are kept of which only one position is known.
  private static let limit = 1000

  mutating func wrote(_ beat: UInt64, at lsn: LSN) {
    guard let there = arrived.removeValue(forKey: beat) else { return Self.keep(lsn, beat, in: &written) }
    measure(lsn, there)
  }

  mutating func came(_ beat: UInt64, at lsn: LSN) {
    guard let here = written.removeValue(forKey: beat) else { return Self.keep(lsn, beat, in: &arrived) }
    measure(here, lsn)
  }

  /// Where in the stream lies what a function tells, as far as is known yet.
  func streamed(_ lsn: LSN) -> LSN { LSN(rawValue: lsn.rawValue &+ UInt64(bitPattern: bytes)) }

  private mutating func measure(_ told: LSN, _ streamed: LSN) {
    let distance = Int64(bitPattern: streamed.rawValue &- told.rawValue)
    bytes = distance.magnitude < Self.nearby.magnitude ? 0 : distance
  }

  private static func keep(_ lsn: LSN, _ beat: UInt64, in known: inout [UInt64: LSN]) {
    if known.count >= limit { known.removeAll() }
    known[beat] = lsn
  }
}
