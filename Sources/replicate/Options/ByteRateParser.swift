import ArgumentParser

/// Reads bytes a second with PostgreSQL's units: `20MB`, `500kB`, with or without `/s` (manual, section
/// 20.1.1).
enum ByteRateParser {
  private static let units: [(name: String, bytes: Double)] = [
    ("kB", 0x1p10), ("MB", 0x1p20), ("GB", 0x1p30), ("B", 1), ("", 1),
  ]

  static func parse(_ text: String) throws -> Int64 {
    let amount = text.hasSuffix("/s") ? String(text.dropLast(2)) : text
    for unit in units where amount.hasSuffix(unit.name) {
      guard let number = Double(amount.dropLast(unit.name.count)), number.isFinite else { continue }
      let bytes = number * unit.bytes
      guard bytes >= 1024, bytes < 1e15 else { break }
      return Int64(bytes)
    }
    throw ValidationError("give bytes a second, 1kB at least, like 500kB or 20MB")
  }
}
