/// A text of the plan file in which `${NAME}` stands for an environment variable, so that secrets need not be
/// in the file. `$${` is `${` itself.
struct PlanText {
  let environment: [String: String]

  /// - Returns: the text with its variables filled in, and what is wrong with them, if anything.
  func expanded(_ text: String) -> (text: String, mistakes: [String]) {
    var result = ""
    var mistakes: [String] = []
    var rest = Substring(text)
    while let start = rest.firstRange(of: "${") {
      let before = rest[..<start.lowerBound]
      rest = rest[start.upperBound...]
      if before.last == "$" {
        result += before.dropLast() + "${"
        continue
      }
      result += before
      guard let end = rest.firstIndex(of: "}") else {
        mistakes.append("'${' has no '}' after it ('$${' is '${' itself)")
        return (result, mistakes)
      }
      let name = String(rest[..<end])
      rest = rest[rest.index(after: end)...]
      switch environment[name] {
      case _ where !Self.isName(name):
        mistakes.append("'${\(name)}' names no variable: letters, digits and _ make a name")
      case nil: mistakes.append("the environment has no variable \(name)")
      case "": mistakes.append("the variable \(name) of the environment is empty")
      case let value?: result += value
      }
    }
    return (result + rest, mistakes)
  }

  private static func isName(_ text: String) -> Bool {
    guard let first = text.first, !first.isNumber else { return false }
    return text.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "_") }
  }
}
