/// The file that configures where PgBouncer finds a database. Only the words for that are changed: everything
/// else stays as it is, byte for byte (manual page pgbouncer.ini(5), section [databases]).
struct PgBouncerFile {
  struct Address: Equatable {
    var host: String
    var port: String
    var database: String
  }

  /// Why the file cannot be changed.
  struct Unusable: Error, Equatable, CustomStringConvertible {
    let description: String
  }

  private let bytes: [UInt8]

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  /// The same file with every line of `database` pointing to `address`.
  /// - Throws: `Unusable` when there is no such line, or one that cannot be read.
  func pointing(_ database: String, to address: Address) throws(Unusable) -> [UInt8] {
    var result: [UInt8] = []
    var isInDatabases = false
    var found = false
    for line in lines {
      if let section = Self.section(line) { isInDatabases = section == "databases" }
      if isInDatabases, let entry = Self.entry(line), entry.name == database {
        found = true
        result += try Self.edited(line, entry.value, database, address)
      } else {
        result += line
      }
    }
    guard found else { throw Unusable(description: "[databases] has no line for \(database)") }
    return result
  }

  // MARK: Lines

  /// Each with its line feed.
  private var lines: [ArraySlice<UInt8>] {
    var lines: [ArraySlice<UInt8>] = []
    var start = bytes.startIndex
    for (index, byte) in bytes.enumerated() where byte == UInt8(ascii: "\n") {
      lines.append(bytes[start...index])
      start = index + 1
    }
    if start < bytes.endIndex { lines.append(bytes[start...]) }
    return lines
  }

  private static func isBlank(_ byte: UInt8) -> Bool {
    byte == UInt8(ascii: " ") || (9...13).contains(byte)
  }

  /// Of the keys that PgBouncer has.
  private static func isLetter(_ byte: UInt8) -> Bool {
    byte == UInt8(ascii: "_") || (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20)
  }

  private static func text(_ bytes: ArraySlice<UInt8>) -> String { String(decoding: bytes, as: UTF8.self) }

  private static func section(_ line: ArraySlice<UInt8>) -> String? {
    let line = line.drop(while: isBlank)
    guard line.first == UInt8(ascii: "["), let end = line.firstIndex(of: UInt8(ascii: "]")) else {
      return nil
    }
    return text(line[line.index(after: line.startIndex)..<end])
  }

  /// A line `name = value`. Comments begin at a line's start only.
  private static func entry(_ line: ArraySlice<UInt8>) -> (name: String, value: ArraySlice<UInt8>)? {
    var rest = line.drop(while: isBlank)
    guard let first = rest.first, !";#%[".utf8.contains(first) else { return nil }
    let name: String
    if first == UInt8(ascii: "\"") {
      guard let quoted = quoted(&rest, by: UInt8(ascii: "\"")) else { return nil }
      name = quoted
    } else {
      let word = rest.prefix { !isBlank($0) && $0 != UInt8(ascii: "=") }
      rest = rest[word.endIndex...]
      name = text(word)
    }
    rest = rest.drop(while: isBlank)
    guard rest.first == UInt8(ascii: "=") else { return nil }
    return (name, rest.dropFirst())
  }

  /// Consumes a quoted text, in which quotes are doubled; nil when it does not end.
  private static func quoted(_ rest: inout ArraySlice<UInt8>, by quote: UInt8) -> String? {
    var content: [UInt8] = []
    rest = rest.dropFirst()
    while let byte = rest.popFirst() {
      guard byte == quote else {
        content.append(byte)
        continue
      }
      guard rest.first == quote else { return String(decoding: content, as: UTF8.self) }
      rest = rest.dropFirst()
      content.append(quote)
    }
    return nil
  }

  // MARK: Words

  /// A word `key=value`; the range is that of the value with its quotes.
  private struct Word {
    var key: String
    var value: String
    var range: Range<Int>
  }

  private static func words(_ value: ArraySlice<UInt8>) -> [Word]? {
    var words: [Word] = []
    var rest = value.drop(while: isBlank)
    while !rest.isEmpty {
      let key = rest.prefix(while: isLetter)
      rest = rest[key.endIndex...].drop(while: isBlank)
      guard !key.isEmpty, rest.first == UInt8(ascii: "=") else { return nil }
      rest = rest.dropFirst().drop(while: isBlank)
      let start = rest.startIndex
      if rest.first == UInt8(ascii: "'") {
        guard let content = quoted(&rest, by: UInt8(ascii: "'")) else { return nil }
        words.append(Word(key: text(key), value: content, range: start..<rest.startIndex))
      } else {
        let content = rest.prefix { !isBlank($0) }
        rest = rest[content.endIndex...]
        words.append(Word(key: text(key), value: text(content), range: start..<content.endIndex))
      }
      rest = rest.drop(while: isBlank)
    }
    return words
  }

  private static func edited(
    _ line: ArraySlice<UInt8>, _ value: ArraySlice<UInt8>, _ name: String, _ address: Address
  ) throws(Unusable) -> [UInt8] {
    guard let words = words(value) else {
      throw Unusable(description: "the line for \(name) in [databases] cannot be read as words key=value")
    }
    // PgBouncer's defaults where the line says nothing; without a host it uses a unix socket.
    let wanted: [(key: String, value: String, usual: String?)] = [
      ("host", address.host, nil), ("port", address.port, "5432"), ("dbname", address.database, name),
    ]
    for (key, value, _) in wanted where value.utf8.contains(where: { $0 < 0x20 }) {
      throw Unusable(description: "the \(key) holds a control character, which the file has no way to write")
    }
    var edits: [(range: Range<Int>, text: String)] = []
    var added = ""
    for (key, value, usual) in wanted {
      let present = words.filter { $0.key == key }
      for word in present where word.value != value { edits.append((word.range, encoded(value))) }
      if present.isEmpty, value != usual { added += " \(key)=\(encoded(value))" }
    }
    if !added.isEmpty {
      let end = words.last?.range.upperBound ?? value.startIndex
      edits.append((end..<end, added))
    }
    var result = line
    for edit in edits.sorted(by: { $0.range.lowerBound > $1.range.lowerBound }) {
      result.replaceSubrange(edit.range, with: Array(edit.text.utf8))
    }
    return Array(result)
  }

  private static func encoded(_ value: String) -> String {
    let isPlain = value.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "._-/:".contains($0)) }
    guard !isPlain || value.isEmpty else { return value }
    // By scalars: a quote followed by a combining mark is one `Character`.
    let doubled = value.unicodeScalars.map { $0 == "'" ? "''" : String($0) }.joined()
    return "'\(doubled)'"
  }
}
