import Foundation
import Testing

/// A file of this repository.
struct SourceFile: Sendable {
  /// From the repository's root, with slashes.
  let path: String
  let lines: [String]
  /// The lines without comments and texts.
  let code: [String]

  init(path: String, text: String) {
    self.path = path
    lines = Self.lines(of: text)
    code = Self.lines(of: CodeReader.code(of: text))
  }

  private static func lines(of text: String) -> [String] {
    var lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    if lines.last == "" { lines.removeLast() }
    return lines
  }

  /// `path:line` and what is there, for every line of the code that matches.
  func offenders(_ expression: String) throws -> [String] {
    let regex = try Regex(expression)
    return code.indices.filter { code[$0].contains(regex) }.map { place($0) }
  }

  func place(_ index: Int) -> String {
    "\(path):\(index + 1): \(lines[index].trimmingCharacters(in: .whitespaces))"
  }
}

/// The repository that holds these tests.
enum Repository {
  private static let root = URL(filePath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

  /// Paths of all files below a folder, and of the folders themselves.
  static func paths(below folder: String) throws -> [String] {
    try FileManager.default.subpathsOfDirectory(atPath: root.appending(path: folder).path)
      .map { "\(folder)/\($0)" }.sorted()
  }

  static func text(of path: String) throws -> String {
    try String(contentsOf: root.appending(path: path), encoding: .utf8)
  }

  /// Read once: to take all code apart is most of these tests' work.
  private static let files = Result {
    try ["Sources", "Tests", "integration"].flatMap { try paths(below: $0) }
      .filter { $0.hasSuffix(".swift") }
      .map { SourceFile(path: $0, text: try String(contentsOf: root.appending(path: $0), encoding: .utf8)) }
  }

  static func allSwiftFiles() throws -> [SourceFile] { try files.get() }

  static func swiftFiles(below folder: String) throws -> [SourceFile] {
    try allSwiftFiles().filter { $0.path.hasPrefix("\(folder)/") }
  }
}

/// Fails with one offender to a line, so that a failure reads like a compiler's list.
func expectNone(
  _ offenders: [String], _ rule: Comment, sourceLocation: SourceLocation = #_sourceLocation
) {
  guard !offenders.isEmpty else { return }
  Issue.record("\(rule)\n\(offenders.joined(separator: "\n"))", sourceLocation: sourceLocation)
}
