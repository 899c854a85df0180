import Testing

/// Visibility says who uses it: what no other module names is internal. Tests see internals all the same.
struct VisibilityTests {
  /// Who may name what a module declares. Tests may not: they import it `@testable`.
  private static let users = [
    "LibPQ": ["Sources/MigrationEngine", "Sources/replicate", "integration"],
    "LogicalReplication": ["Sources/MigrationEngine", "Sources/replicate", "integration"],
    "MigrationEngine": ["Sources/replicate", "integration"],
  ]

  /// What the files that import a module say, as far as names of the module may be among it.
  struct Uses {
    /// Words that do not follow a dot.
    private(set) var words: Set<String> = []
    /// Words that do.
    private(set) var members: Set<String> = []
    /// What is called or named in full: `A(`, `A<B>(`, `A.init`.
    private(set) var called: Set<String> = []
    /// First labels of `.init(` whose type is left to the compiler.
    private(set) var labels: Set<String> = []

    /// - Parameter extendsModule: then members may be named without a dot.
    mutating func add(_ file: SourceFile, module: String, extendsModule: Bool) {
      let tokens = [Token(text: "", line: 0)] + Token.all(in: file) + Token.all(in: Self.end)
      for index in tokens.indices.dropFirst().dropLast(4) {
        let (before, word, after) = (tokens[index - 1].text, tokens[index].text, tokens[index + 1].text)
        if before == "." {
          members.insert(word)
          if tokens[index - 2].text == module { words.insert(word) }
        } else {
          words.insert(word)
          if extendsModule { members.insert(word) }
        }
        if ["(", "<"].contains(after) || after == "." && ["init", "self"].contains(tokens[index + 2].text) {
          called.insert(word)
        }
        if word == "init", before == ".", after == "(" {
          labels.insert(tokens[index + 3].text == ":" ? tokens[index + 2].text : "_")
        }
      }
    }

    private static let end = SourceFile(path: "", text: "; ; ; ;")

    func name(_ declaration: Declaration) -> Bool {
      switch declaration.kind {
      // They are seen with their type.
      case "extension", "case", "subscript": return true
      case _ where declaration.containerKind == "protocol": return true
      case _ where declaration.isRequirementOfOthers: return true
      case "init":
        return labels.contains(declaration.firstLabel ?? "_")
          || declaration.container.map(called.contains) ?? true
      default:
        let named = declaration.containers.isEmpty ? words : members
        return declaration.names.contains(where: named.contains)
      }
    }
  }

  /// Of what a module declares, where it lies that shows to others what none of them names.
  static func unnamed(_ declarations: [Declaration], uses: Uses) -> [Int] {
    let types = Set(declarations.filter(\.isType).flatMap(\.names))
    let crossing = declarations.filter { $0.isPackage && $0.kind != "extension" }
    let shown = Set(crossing.filter(\.isType).flatMap(\.names))
    return declarations.indices.filter { index in
      let declaration = declarations[index]
      guard declaration.isPackage, declaration.kind != "extension" else { return false }
      if let container = declaration.container, types.contains(container), !shown.contains(container) {
        return true
      }
      if uses.name(declaration) { return false }
      // A type may stand in what others call.
      return !declaration.isType || !crossing.contains { declaration.isNamed(bySignatureOf: $0) }
    }
  }

  @Test(arguments: users.keys.sorted())
  func `what no other module names is internal`(module: String) throws {
    let files = try Repository.swiftFiles(below: "Sources/\(module)")
    var declarations: [Declaration] = []
    var places: [String] = []
    for file in files {
      for declaration in Declaration.all(in: file) {
        declarations.append(declaration)
        places.append(file.place(declaration.line))
      }
    }
    #expect(declarations.count > 100, "declarations are not found any more")
    let types = Set(declarations.filter(\.isType).flatMap(\.names))
    var uses = Uses()
    for folder in Self.users[module] ?? [] {
      for file in try Repository.swiftFiles(below: folder) where Self.isUser(file, of: module) {
        let extended = Declaration.all(in: file).filter { $0.kind == "extension" }.flatMap(\.names)
        let extendsModule = extended.contains { types.contains(String($0.prefix { $0 != "." })) }
        uses.add(file, module: module, extendsModule: extendsModule)
      }
    }
    #expect(uses.words.count > 100, "users are not found any more")
    let offenders = Self.unnamed(declarations, uses: uses).map { places[$0] }
    expectNone(offenders, "what no other module names is internal")
  }

  private static func isUser(_ file: SourceFile, of module: String) -> Bool {
    !file.path.hasPrefix("integration/Tests/") && file.code.contains { $0.hasSuffix("import \(module)") }
  }

  private func unnamed(_ module: String, user: String, extendsModule: Bool = false) -> [String] {
    let declarations = Declaration.all(in: SourceFile(path: "module", text: module))
    var uses = Uses()
    uses.add(SourceFile(path: "user", text: user), module: "M", extendsModule: extendsModule)
    return Self.unnamed(declarations, uses: uses).flatMap { declarations[$0].names }
  }

  @Test func `a member is named behind a dot, and what lies at the top level without`() {
    let module = """
      package struct A { package var b: Int; package var c: Int; var own: Int }
      package func d() {}
      package func e() {}
      """
    #expect(unnamed(module, user: "let c = A.x.b; e(); f.d") == ["c", "d"])
    #expect(
      unnamed(module, user: "extension A { var x: Int { b + c + d() } }; M.e", extendsModule: true) == [])
  }

  @Test func `an initialiser is named by its type or by its first label`() {
    let module = """
      package struct A { package init(b: Int) {} }
      package struct C { package init(_ d: Int) {} }
      """
    #expect(unnamed(module, user: "let a: A, c: C") == ["init", "init"])
    #expect(unnamed(module, user: "let a: A = .init(b: 1), c = C(1)") == [])
    #expect(unnamed(module, user: "let a = A.init, c: C = .init(1)") == [])
  }

  @Test func `a type may be named by what others call, and what it shows needs a type that is shown`() {
    let module = """
      package struct A { package init(a: A) {} }
      package enum B { case c(C) }
      package struct C: Equatable {}
      struct D { package var c: C }
      """
    #expect(unnamed(module, user: "let b = B.x, d = e.c, i = .init(a: f)") == ["A", "c"])
  }
}

extension Declaration {
  /// The type that it lies in.
  fileprivate var container: String? { containers.last?.split(separator: ".").last.map(String.init) }

  fileprivate var isType: Bool {
    Self.types.contains(kind) && kind != "extension" || kind == "typealias"
  }

  fileprivate func isNamed(bySignatureOf other: Declaration) -> Bool {
    let isInside = other.containers.contains {
      $0.split(separator: ".").contains { names.contains(String($0)) }
    }
    return !isInside && other.names != names && !names.allSatisfy { !other.signature.contains($0) }
  }
}
