import Foundation
import Testing

/// A page of the documentation.
struct Page {
  struct Section {
    var title: String
    /// Cells of the tables' rows, without the heads.
    var rows: [[String]] = []

    /// What the rows are about: code in their first cells.
    var subjects: [String] { rows.flatMap { row -> [String] in Page.codeSpans(row[0]) } }
  }

  private(set) var sections: [Section] = []
  /// Lines that call the program, without its name: of blocks of code, and in the text.
  private(set) var commands: [String] = []

  private static let root = URL(filePath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

  /// Paths of all pages, from the repository's root.
  static func all() throws -> [String] {
    let pages = try FileManager.default.subpathsOfDirectory(atPath: root.appending(path: "docs").path)
    return ["README.md", "CONTRIBUTING.md"]
      + pages.filter { $0.hasSuffix(".md") }.sorted().map { "docs/\($0)" }
  }

  init(_ path: String) throws {
    let text = try String(contentsOf: Self.root.appending(path: path), encoding: .utf8)
    var isCode = false
    var isTable = false
    var prose = ""
    for line in text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init) {
      if line.hasPrefix("```") {
        isCode.toggle()
      } else if isCode {
        let call = line.hasPrefix("$ ") ? line.dropFirst(2) : line[...]
        if call.hasPrefix("replicate ") { commands.append(Self.withoutRemarks(call.dropFirst(10))) }
      } else if line.hasPrefix("#") {
        sections.append(Section(title: line.trimmingCharacters(in: ["#", " "])))
      } else if line.hasPrefix("|") {
        let cells = line.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
        let isRule = cells.allSatisfy { $0.allSatisfy { $0 == "-" } }
        if isTable, !isRule, !sections.isEmpty { sections[sections.count - 1].rows.append(cells) }
        isTable = true
      }
      if !line.hasPrefix("|") { isTable = false }
      if !isCode, !line.hasPrefix("```") { prose += line + "\n" }
    }
    commands += Self.codeSpans(prose).filter { $0.hasPrefix("replicate ") }.map { String($0.dropFirst(10)) }
  }

  func section(_ title: String) throws -> Section {
    try #require(sections.first { $0.title == title }, "no section \(title)")
  }

  static func codeSpans(_ text: String) -> [String] {
    // Every other part is between two of them.
    text.split(separator: "`", omittingEmptySubsequences: false).enumerated()
      .filter { $0.offset % 2 == 1 }
      .map { $0.element.split { $0.isWhitespace }.joined(separator: " ") }
  }

  /// Without what stands after two blanks, and what the shell would take.
  private static func withoutRemarks(_ line: Substring) -> String {
    var line = String(line)
    if let remark = line.firstRange(of: /\s{2,}|\s+[&|>#]/) { line.removeSubrange(remark.lowerBound...) }
    return line
  }
}

/// Splits as a shell does, as far as the documentation goes.
enum ShellWords {
  static func split(_ line: String) -> [String] {
    var words: [String] = []
    var word: String?
    var quote: Character?
    for character in line {
      if character == quote {
        quote = nil
      } else if quote == nil, character == "'" || character == "\"" {
        quote = character
        word = word ?? ""
      } else if quote == nil, character == " " {
        if let ended = word { words.append(ended) }
        word = nil
      } else {
        word = (word ?? "") + String(character)
      }
    }
    return words + (word.map { [$0] } ?? [])
  }
}
