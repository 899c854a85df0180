/// Numbers keys in the order in which they are first seen. Open addressing over the keys' bytes in one
/// buffer: a key costs no allocation.
struct KeyIndex {
  private var bytes: [UInt8] = []
  private var entries: [Entry] = []
  /// Numbers of entries, -1 where there is none; a power of two of them.
  private var slots: [Int32] = []
  /// Where the key under construction begins.
  private var start = 0

  private struct Entry {
    var bytes: Range<Int>
    var hash: UInt64
  }

  var count: Int { entries.count }

  /// Adds a column's value to the key under construction.
  mutating func append(_ value: UnsafeRawBufferPointer) {
    // The length keeps ("ab", "c") and ("a", "bc") apart.
    withUnsafeBytes(of: UInt32(truncatingIfNeeded: value.count)) { bytes.append(contentsOf: $0) }
    bytes.append(contentsOf: value)
  }

  /// Discards the key under construction.
  mutating func discard() { bytes.removeSubrange(start...) }

  /// The number of the constructed key; a new key gets the previous count.
  mutating func number() -> Int {
    let hash = Self.hash(of: bytes, from: start)
    if (entries.count + 1) * 2 > slots.count { grow() }
    var slot = Int(truncatingIfNeeded: hash) & (slots.count - 1)
    while slots[slot] >= 0 {
      let number = Int(slots[slot])
      if entries[number].hash == hash, isEqual(entries[number].bytes) {
        discard()
        return number
      }
      slot = (slot + 1) & (slots.count - 1)
    }
    slots[slot] = Int32(entries.count)
    entries.append(Entry(bytes: start..<bytes.count, hash: hash))
    start = bytes.count
    return entries.count - 1
  }

  mutating func removeAll() {
    bytes.removeAll(keepingCapacity: true)
    entries.removeAll(keepingCapacity: true)
    for slot in slots.indices { slots[slot] = -1 }
    start = 0
  }

  private func isEqual(_ other: Range<Int>) -> Bool {
    let length = bytes.count - start
    guard other.count == length else { return false }
    for offset in 0..<length where bytes[start + offset] != bytes[other.lowerBound + offset] { return false }
    return true
  }

  private mutating func grow() {
    slots = [Int32](repeating: -1, count: max(64, slots.count * 2))
    for (number, entry) in entries.enumerated() {
      var slot = Int(truncatingIfNeeded: entry.hash) & (slots.count - 1)
      while slots[slot] >= 0 { slot = (slot + 1) & (slots.count - 1) }
      slots[slot] = Int32(number)
    }
  }

  /// FNV-1a by words, mixed at the end so that its low bits depend on all.
  private static func hash(of bytes: [UInt8], from start: Int) -> UInt64 {
    bytes.withUnsafeBytes { buffer in
      var hash: UInt64 = 0xcbf2_9ce4_8422_2325
      var offset = start
      while offset + 8 <= buffer.count {
        hash = (hash ^ buffer.loadUnaligned(fromByteOffset: offset, as: UInt64.self)) &* 0x0000_0100_0000_01b3
        hash ^= hash >> 29
        offset += 8
      }
      while offset < buffer.count {
        hash = (hash ^ UInt64(buffer[offset])) &* 0x0000_0100_0000_01b3
        offset += 1
      }
      hash ^= hash >> 32
      hash = hash &* 0x9e37_79b9_7f4a_7c15
      return hash ^ (hash >> 29)
    }
  }
}
