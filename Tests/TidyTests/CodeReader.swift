/// Reads Swift source and leaves only its code: comments, texts and names in backticks become blanks, while
/// line breaks, the code in interpolations and every other byte stay where they are.
struct CodeReader {
  private enum Context {
    case interpolation(parentheses: Int)
    case text(hashes: Int, isMultiline: Bool)
  }

  private let source: [UInt8]
  private var output: [UInt8]
  private var position = 0
  private var contexts: [Context] = []

  static func code(of source: String) -> String {
    var reader = CodeReader(Array(source.utf8))
    reader.run()
    return String(decoding: reader.output, as: UTF8.self)
  }

  private init(_ source: [UInt8]) {
    self.source = source
    output = source
  }

  private mutating func run() {
    while position < source.count {
      switch contexts.last {
      case .text(let hashes, let isMultiline): readText(hashes: hashes, isMultiline: isMultiline)
      case .interpolation(let parentheses): readCode(parentheses: parentheses)
      case nil: readCode(parentheses: nil)
      }
    }
  }

  /// What code may mean something by, beside being code; most bytes are none of it.
  private static let marksOfCode = Set("/`#\"()".utf8)
  private static let marksOfText = Set("\\\"\n".utf8)

  private func starts(_ text: String, at index: Int) -> Bool {
    source[index...].starts(with: text.utf8)
  }

  private mutating func blank(_ count: Int) {
    for index in position..<min(position + count, source.count) where source[index] != UInt8(ascii: "\n") {
      output[index] = UInt8(ascii: " ")
    }
    position += count
  }

  private mutating func readCode(parentheses: Int?) {
    guard Self.marksOfCode.contains(source[position]) else {
      position += 1
      return
    }
    if starts("//", at: position) {
      blank((source[position...].firstIndex(of: UInt8(ascii: "\n")) ?? source.count) - position)
    } else if starts("/*", at: position) {
      blankBlockComment()
    } else if starts("`", at: position) {
      let end = source[(position + 1)...].firstIndex(of: UInt8(ascii: "`")) ?? source.count
      blank(end + 1 - position)
    } else if let hashes = hashesOfText() {
      let isMultiline = starts(#"""""#, at: position + hashes)
      contexts.append(.text(hashes: hashes, isMultiline: isMultiline))
      blank(hashes + (isMultiline ? 3 : 1))
    } else {
      if let parentheses { count(parentheses) }
      position += 1
    }
  }

  private mutating func count(_ parentheses: Int) {
    let change =
      source[position] == UInt8(ascii: "(") ? 1 : source[position] == UInt8(ascii: ")") ? -1 : 0
    guard change != 0 else { return }
    contexts.removeLast()
    if parentheses + change > 0 { contexts.append(.interpolation(parentheses: parentheses + change)) }
  }

  private mutating func blankBlockComment() {
    var depth = 0
    repeat {
      if starts("/*", at: position) {
        depth += 1
        blank(2)
      } else if starts("*/", at: position) {
        depth -= 1
        blank(2)
      } else {
        blank(1)
      }
    } while depth > 0 && position < source.count
  }

  /// The number of `#` before a text that begins here, nil when none begins here.
  private func hashesOfText() -> Int? {
    let hashes = source[position...].prefix { $0 == UInt8(ascii: "#") }.count
    return starts("\"", at: position + hashes) ? hashes : nil
  }

  private mutating func readText(hashes: Int, isMultiline: Bool) {
    guard Self.marksOfText.contains(source[position]) else { return blank(1) }
    let marks = String(repeating: "#", count: hashes)
    let close = (isMultiline ? #"""""# : "\"") + marks
    if starts("\\" + marks + "(", at: position) {
      contexts.append(.interpolation(parentheses: 1))
      blank(1 + hashes)
      position += 1
    } else if starts("\\" + marks, at: position) {
      blank(2 + hashes)
    } else if starts(close, at: position) {
      contexts.removeLast()
      blank(close.utf8.count)
    } else {
      if !isMultiline, source[position] == UInt8(ascii: "\n") { contexts.removeLast() }
      blank(1)
    }
  }
}
