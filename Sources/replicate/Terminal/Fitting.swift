/// Text in columns.
enum Fitting {
  /// Columns that a text takes on a screen.
  static func width(of text: String) -> Int {
    text.reduce(0) { $0 + width(of: $1) }
  }

  private static func width(of character: Character) -> Int {
    guard let scalar = character.unicodeScalars.first else { return 0 }
    // The wide blocks of Unicode's East Asian Width (UAX 11), and emoji.
    switch scalar.value {
    case 0x1100...0x115F, 0x2E80...0xA4CF, 0xAC00...0xD7A3, 0xF900...0xFAFF, 0xFE30...0xFE6F,
      0xFF00...0xFF60, 0xFFE0...0xFFE6, 0x1F300...0x1FAFF, 0x20000...0x3FFFD:
      return 2
    default: return 1
    }
  }

  /// The text cut to `columns`, with a mark where something is missing.
  static func truncated(_ text: String, to columns: Int) -> String {
    guard width(of: text) > columns else { return text }
    guard columns > 0 else { return "" }
    var result = ""
    var used = 0
    for character in text {
      let next = width(of: character)
      guard used + next <= columns - 1 else { break }
      result.append(character)
      used += next
    }
    return result + "…"
  }

  static func padded(_ text: String, to columns: Int) -> String {
    text + String(repeating: " ", count: max(0, columns - width(of: text)))
  }

  /// Rows of at most `columns`: as many parts in each as fit after `title`; later rows have the same indent.
  static func packed(title: String, _ parts: [String], columns: Int) -> [String] {
    let indent = String(repeating: " ", count: min(width(of: title), max(0, columns / 3)))
    var rows: [String] = []
    var row = title
    var isFresh = true
    for part in parts {
      let candidate = isFresh ? row + part : row + ", " + part
      if isFresh || width(of: candidate) <= columns {
        row = candidate
      } else {
        rows.append(row)
        row = indent + part
      }
      isFresh = false
    }
    return (rows + [row]).map { truncated($0, to: columns) }
  }

  /// Names from a database may hold control characters, which must not reach the screen.
  static func plain(_ text: String) -> String {
    guard text.unicodeScalars.contains(where: isControl) else { return text }
    var scalars = String.UnicodeScalarView()
    for scalar in text.unicodeScalars { scalars.append(isControl(scalar) ? "?" : scalar) }
    return String(scalars)
  }

  /// The same for text of more than one line. Lines after the first are indented, so that a line break in a
  /// name cannot imitate a line of ours.
  static func plainLines(_ text: String) -> String {
    var lines = split(text).map(plain)
    for index in lines.indices.dropFirst() where lines[index].first != " " {
      lines[index] = "  " + lines[index]
    }
    return lines.joined(separator: "\n")
  }

  /// The same for text of ours whose line breaks are meant; names in it were made plain before.
  static func plainText(_ text: String) -> String { split(text).map(plain).joined(separator: "\n") }

  static func split(_ text: String) -> [String] {
    text.unicodeScalars.split(separator: "\n", omittingEmptySubsequences: false).map { String($0) }
  }

  /// Characters that move the cursor, or colour, hide or reverse what follows.
  static func isControl(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .control, .format, .lineSeparator, .paragraphSeparator: true
    default: false
    }
  }
}
