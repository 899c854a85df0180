import Yams

/// All that is wrong with a plan's file, each with its place.
package struct SwitchPlanErrors: Error, Sendable, Equatable, CustomStringConvertible {
  /// A sentence each, with the field and, where it is known, the line.
  package let mistakes: [String]
  package var description: String { mistakes.joined(separator: "\n") }
}

/// Collects what is wrong while a file is read, so that it is reported in one go.
final class PlanErrorList {
  private(set) var all: [String] = []

  /// - Parameter mark: where in the file.
  func add(_ what: String, in place: String, at mark: Mark?) {
    all.append("\(place)\(mark.map { " (line \($0.line))" } ?? ""): \(what)")
  }
}

extension SwitchPlanErrors {
  /// What the YAML parser says, without the line that it would quote: a password may be in it.
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
