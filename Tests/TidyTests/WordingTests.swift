import Testing

/// What no source file says.
struct WordingTests {
  /// What is found, and how: expressions see neither comments nor texts.
  private static let forbidden = [
    ("public: targets share by package", #"\bpublic\b"#),
    ("try!", #"\btry!"#),
    ("as!", #"\bas!"#),
    ("fatalError", #"\bfatalError\b"#),
    ("preconditionFailure", #"\bpreconditionFailure\b"#),
    ("a force-unwrapped value, or a type that is one", #"[\w)\]}>?]!(?!=)"#),
  ]

  @Test(arguments: forbidden)
  func `sources have none of it`(what: String, expression: String) throws {
    let offenders = try Repository.swiftFiles(below: "Sources").flatMap { try $0.offenders(expression) }
    expectNone(offenders, "\(what)")
  }

  @Test(arguments: [
    ("public let a = 1", "public"), ("let a = try! b()", "try!"), ("let a = b as! C", "as!"),
    ("fatalError(\"no\")", "fatalError"), ("preconditionFailure()", "preconditionFailure"),
    ("let a = b[0]!.c", "a force"), ("let a = b()! + 1", "a force"), ("var a: Int!", "a force"),
    ("let a = \"\\(b!)\"", "a force"), ("a! = b", "a force"),
  ])
  func `each is found where it is`(line: String, name: String) throws {
    let (_, expression) = try #require(Self.forbidden.first { $0.0.hasPrefix(name) })
    #expect(try SourceFile(path: "sample", text: line).offenders(expression).count == 1)
  }

  @Test(arguments: [
    "if a != b, !c, (!d) {", "let a = \"public try! b! fatalError\"", "// public try! b! fatalError",
    "/* a! /* b! */ c! */ let a = 1", "let a = #\"b!\"c!\"#", "a!=b", "func `public never!`() {}",
  ])
  func `what only looks like it is left alone`(line: String) throws {
    for (_, expression) in Self.forbidden {
      #expect(try SourceFile(path: "sample", text: line).offenders(expression) == [])
    }
  }

  @Test func `nothing is left for later`() throws {
    let offenders = try Repository.swiftFiles(below: "Sources").flatMap { file in
      file.lines.indices.filter { file.lines[$0].contains("TODO") || file.lines[$0].contains("FIXME") }
        .map { file.place($0) }
    }
    expectNone(offenders, "nothing is left for later")
  }

  @Test func `no folder or file is called after nothing in particular`() throws {
    let empty = ["util", "utils", "common", "helper", "helpers", "types", "manager", "managers", "support"]
    let endings = ["Utils", "Util", "Helpers", "Helper", "Manager"]
    let offenders = try ["Sources", "Tests", "integration"].flatMap { try Repository.paths(below: $0) }
      .filter { path in
        path.split(separator: "/").contains { part in
          let name = part.prefix { $0 != "." && $0 != "+" }
          return empty.contains(name.lowercased()) || endings.contains { name.hasSuffix($0) }
        }
      }
    expectNone(offenders, "a name says what is inside")
  }
}
