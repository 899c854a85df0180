import Yams

/// Everything that is wrong in a plan file, each with its place.
package struct SwitchPlanErrors: Error, Sendable, Equatable, CustomStringConvertible {
  /// One sentence each, with the field and, if known, the line.
  package let mistakes: [String]
  package var description: String { mistakes.joined(separator: "\n") }
}

/// Collects errors while a file is read, so that they are reported together.
final class PlanErrorList {
  private(set) var all: [String] = []

  /// - Parameter mark: where in the file.
  func add(_ what: String, in place: String, at mark: Mark?) {
    all.append("\(place)\(mark.map { " (line \($0.line))" } ?? ""): \(what)")
  }
}

extension SwitchPlanErrors {
  /// The YAML parser's message, without the line that it would quote: it may contain a password.
  init(_ error: any Error) {
    let text: String
    switch error as? YamlError {
    case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
      .composer(_, let problem, let mark, _):
      text = "line \(mark.line), column \(mark.column): this is no YAML: \(problem)"
    case .duplicatedKeysInMapping(let keys, let context):
      let names = keys.sorted().map { "'\($0)'" }.joined(separator: ", ")
      text = "line \(context.mark.line): \(names) is there twice"
    case .reader(let problem, _, _, _): text = "this is no YAML: \(problem)"
    default: text = "this is no YAML"
    }
    self.init(mistakes: [text])
  }
}
