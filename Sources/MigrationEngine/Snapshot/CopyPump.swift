import LibPQ

/// Moves the bytes of a COPY that has begun on both ends. Two buffers take turns: one is filled while the
/// other is sent.
struct CopyPump: Sendable {
  let source: Connection
  let target: Connection
  let rateLimit: RateLimit?
  /// Called for each buffer received.
  let onBytes: @Sendable (Int) -> Void

  private static let chunkBytes = 1 << 20

  /// - Returns: what both ends agree on.
  func pump(doing action: String) async throws -> (rows: Int, bytes: Int64) {
    var bytes: Int64 = 0
    var spare = Self.buffer()
    var chunk = try await source.readCopy(reusing: Self.buffer(), limit: Self.chunkBytes, doing: action)
    while true {
      let full = chunk
      bytes += Int64(full.bytes.count)
      onBytes(full.bytes.count)
      if let sent = full.finalRows {
        try await target.writeCopy(full.bytes, doing: action)
        let taken = try await target.endCopy(doing: action)
        guard taken == sent else {
          throw MigrationError(
            .failed, doing: action, reason: "the source sent \(sent) rows and the target took \(taken)")
        }
        return (sent, bytes)
      }
      async let written: Void = target.writeCopy(full.bytes, doing: action)
      try await rateLimit?.spend(full.bytes.count)
      chunk = try await source.readCopy(reusing: spare, limit: Self.chunkBytes, doing: action)
      try await written
      // A buffer enlarged by a large row is not kept.
      spare = full.bytes.count > 2 * Self.chunkBytes ? Self.buffer() : full.bytes
    }
  }

  /// The row that reaches the limit exceeds it a little.
  private static func buffer() -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(chunkBytes + chunkBytes / 16)
    return bytes
  }
}
