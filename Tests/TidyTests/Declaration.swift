/// What a file declares at its top level and inside of types, with what shows without a compiler.
struct Declaration {
  /// `struct`, `func`, `case`…
  let kind: String
  /// Several for the cases of an enum that share a line; `init` and `subscript` for these.
  let names: [String]
  /// The types and extensions that it lies in, the outermost first.
  let containers: [String]
  /// The innermost is an extension, a protocol, an enum…; nil at the top level.
  let containerKind: String?
  let line: Int
  /// Other modules of this package see it, as far as they see what it lies in.
  let isPackage: Bool
  let isDocumented: Bool
  /// From its keyword to its body.
  let signature: [String]

  static let types: Set = ["struct", "enum", "class", "actor", "protocol", "extension"]
  static let members: Set = [
    "func", "var", "let", "init", "deinit", "subscript", "typealias", "associatedtype", "case",
  ]
  static let modifiers: Set = [
    "package", "private", "fileprivate", "internal", "public", "static", "final", "mutating", "nonmutating",
    "lazy", "weak", "unowned", "override", "convenience", "required", "nonisolated", "indirect", "prefix",
    "postfix", "infix",
  ]

  /// What a conformance to a protocol of the standard library or Foundation asks for.
  private static let requirements: Set = [
    "description", "errorDescription", "debugDescription", "hash", "encode", "rawValue", "unownedExecutor",
    "next", "makeIterator", "makeAsyncIterator", "startIndex", "endIndex", "allCases", "CodingKeys",
    "customMirror",
  ]
  private static let requiredLabels: Set = [
    "from", "rawValue", "stringLiteral", "integerLiteral", "arrayLiteral", "dictionaryLiteral",
  ]

  /// It is there since a protocol of others wants it, and that says what it does.
  var isRequirementOfOthers: Bool {
    switch kind {
    case "init": firstLabel.map(Self.requiredLabels.contains) ?? false
    case "func":
      names.contains { Self.requirements.contains($0) || ["<", "="].contains($0) }
    default: names.contains { Self.requirements.contains($0) }
    }
  }

  /// Of an initialiser: the label of its first argument, `_` where that has none; nil without arguments.
  var firstLabel: String? {
    let arguments = signature.drop { $0 != "(" }.dropFirst()
    return arguments.first == ")" ? nil : arguments.first
  }

  static func all(in file: SourceFile) -> [Declaration] {
    var reader = DeclarationReader(file)
    return reader.read()
  }
}

/// Reads declarations one after another and steps over bodies.
private struct DeclarationReader {
  private struct Scope {
    /// Nil inside of a body, in which nothing is declared that others see.
    let type: Declaration?
    /// Brackets that were open around it.
    let brackets: Int
  }

  private let file: SourceFile
  private let tokens: [Token]
  private var index = 0
  private var scopes: [Scope] = []
  private var brackets = 0
  private var found: [Declaration] = []
  /// The type whose brace comes next.
  private var pending: Declaration?
  private var modifiers: [String] = []
  private var firstLine: Int?

  init(_ file: SourceFile) {
    self.file = file
    tokens = Token.all(in: file)
  }

  private func text(_ offset: Int = 0) -> String {
    tokens.indices.contains(index + offset) ? tokens[index + offset].text : ""
  }

  mutating func read() -> [Declaration] {
    while index < tokens.count {
      switch text() {
      case "(", "[": brackets += 1
      case ")", "]": brackets -= 1
      case "{":
        scopes.append(Scope(type: pending, brackets: brackets))
        (pending, brackets) = (nil, 0)
      case "}": brackets = scopes.popLast()?.brackets ?? 0
      default:
        if brackets == 0, scopes.allSatisfy({ $0.type != nil }), readDeclaration() { continue }
      }
      index += 1
    }
    return found
  }

  /// - Returns: whether something was read, so that `index` stands behind it.
  private mutating func readDeclaration() -> Bool {
    let word = text()
    if word == "@" {
      firstLine = firstLine ?? tokens[index].line
      index += 2
      if text() == "(" { skipBrackets() }
      return true
    }
    let isModifier = Declaration.modifiers.contains(word) || word == "class" && startsMember(text(1))
    if isModifier, text(-1) != "." {
      firstLine = firstLine ?? tokens[index].line
      index += 1
      if text() == "(" {
        modifiers.append("\(word)(\(text(1)))")
        skipBrackets()
      } else {
        modifiers.append(word)
      }
      return true
    }
    defer { (modifiers, firstLine) = ([], nil) }
    let isDeclaration = Declaration.types.contains(word) || Declaration.members.contains(word)
    guard isDeclaration, text(-1) != "." else { return false }
    let declaration = declaration(word)
    found.append(declaration)
    if Declaration.types.contains(word) { pending = declaration }
    return true
  }

  private func startsMember(_ word: String) -> Bool {
    Declaration.members.contains(word) || Declaration.modifiers.contains(word)
  }

  private mutating func skipBrackets() {
    var depth = 0
    repeat {
      if text() == "(" { depth += 1 } else if text() == ")" { depth -= 1 }
      index += 1
    } while depth > 0 && index < tokens.count
  }

  private mutating func declaration(_ kind: String) -> Declaration {
    let line = firstLine ?? tokens[index].line
    let start = index
    var depth = 0
    var names = [["init", "deinit", "subscript"].contains(kind) ? kind : text(1)]
    if kind == "extension" { names = [extendedType()] }
    index += 1
    while index < tokens.count, depth > 0 || !endsSignature(since: start) {
      switch text() {
      case "(", "[": depth += 1
      case ")", "]": depth -= 1
      case "," where kind == "case" && depth == 0: names.append(text(1))
      default: break
      }
      index += 1
    }
    return Declaration(
      kind: kind, names: names, containers: scopes.compactMap { $0.type?.names.first },
      containerKind: scopes.last?.type?.kind, line: line, isPackage: isPackage(kind),
      isDocumented: isDocumented(line), signature: tokens[start..<index].map(\.text))
  }

  /// `A.B` of `extension A.B: C`.
  private func extendedType() -> String {
    var name = text(1)
    var offset = 2
    while text(offset) == "." {
      name += ".\(text(offset + 1))"
      offset += 2
    }
    return name
  }

  /// A body comes, or another line that does not continue this one.
  private func endsSignature(since start: Int) -> Bool {
    if ["{", "}", ";"].contains(text()) { return true }
    guard index > start + 1, tokens[index].line > tokens[index - 1].line else { return false }
    if startsMember(text()) || Declaration.types.contains(text()) || text() == "@" { return true }
    return ![",", "=", ":", "+"].contains(text(-1))
      && !["-", "where", "async", "throws", ".", "?", ":", "+", "=", "&"].contains(text())
  }

  private func isPackage(_ kind: String) -> Bool {
    if modifiers.contains("package") { return true }
    guard !modifiers.contains(where: { ["private", "fileprivate", "internal"].contains($0) }),
      let container = scopes.last?.type, container.isPackage
    else { return false }
    return container.kind == "protocol" || container.kind == "extension"
      || container.kind == "enum" && kind == "case"
  }

  private func isDocumented(_ line: Int) -> Bool {
    line > 0 && file.lines[line - 1].drop { $0 == " " }.hasPrefix("///")
  }
}
