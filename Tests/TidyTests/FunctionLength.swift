/// Finds the functions, initialisers and computed properties of a file, and how many lines each takes.
struct FunctionLength {
  let line: Int
  let lines: Int

  static func all(in file: SourceFile) -> [FunctionLength] {
    file.code.indices.compactMap { start in
      guard declaresFunction(file.code[start]) else { return nil }
      return lastLine(of: file.code, from: start).map { FunctionLength(line: start, lines: $0 - start + 1) }
    }
  }

  private static func declaresFunction(_ line: String) -> Bool {
    let words = line.split { !$0.isLetter && $0 != "." && $0 != "@" }
    if words.contains(where: { ["func", "init", "deinit", "subscript"].contains($0) }) { return true }
    // A computed property, and not a stored one that a closure initialises.
    return words.contains("var") && line.hasSuffix("{") && !line.contains("=")
  }

  /// The line on which the body ends, nil if there is no body, as in a protocol.
  private static func lastLine(of code: [String], from start: Int) -> Int? {
    var brackets = 0
    var braces = 0
    for index in start..<code.count {
      if index > start, brackets == 0, braces == 0, !continuesSignature(code[index]) { return nil }
      for character in code[index] {
        switch character {
        case "(", "[": brackets += 1
        case ")", "]": brackets -= 1
        case "{" where brackets == 0 || braces > 0: braces += 1
        case "}" where braces > 0:
          braces -= 1
          if braces == 0 { return index }
        default: break
        }
      }
    }
    return nil
  }

  private static func continuesSignature(_ line: String) -> Bool {
    let text = line.drop { $0 == " " }
    return ["{", "->", "async", "throws", "rethrows", "where", "where ", ")"].contains { text.hasPrefix($0) }
  }
}
