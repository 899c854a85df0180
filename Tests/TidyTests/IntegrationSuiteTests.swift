import Testing

/// How the tests look that need servers, and the catalogue of the cases that they keep.
struct IntegrationSuiteTests {
  private static let folder = "integration/Tests"
  private static let catalogue = "\(folder)/Cases/README.md"

  private struct Named {
    let file: String
    let test: String
  }

  /// The names that tests are shown by.
  private func names(in text: String) throws -> [String] {
    let name = try Regex(
      #"(?s)@Test\(\s*(?:"""\n(.*?)"""|"((?:[^"\\]|\\.)*)")"#, as: (Substring, Substring?, Substring?).self)
    return text.matches(of: name).map { match in
      let shown = String(match.output.1 ?? match.output.2 ?? "").replacing("\\\n", with: "")
      return shown.split(whereSeparator: \.isWhitespace).joined(separator: " ")
    }
  }

  /// A line `- ``File.swift``: what holds`.
  private func named(in line: String) throws -> Named? {
    let entry = try Regex(#"^- `([^`]+)\.swift`: (.*)$"#, as: (Substring, Substring, Substring).self)
    return line.firstMatch(of: entry).map { Named(file: String($0.output.1), test: String($0.output.2)) }
  }

  /// The lines of the catalogue.
  private func lines() throws -> [String] {
    try Repository.text(of: Self.catalogue).split(separator: "\n", omittingEmptySubsequences: false)
      .map(String.init)
  }

  /// Lines of code that match, where what comes after them is looked at, too.
  private func places(of expression: String, in file: SourceFile) throws -> [String] {
    let text = file.lines.joined(separator: "\n")
    return try text.matches(of: Regex(expression)).map { match in
      file.place(text[..<match.range.lowerBound].count { $0 == "\n" })
    }
  }

  @Test func `names are read in every form`() throws {
    let text = """
      @Test("One, \\"so\\"") func a() {}
      @Test(
        "Another", arguments: [1])
      func b() {}
      @Test(
        \"""
        Over \\
          two lines
        \""")
      """
    #expect(try names(in: text) == ["One, \\\"so\\\"", "Another", "Over two lines"])
    let entry = try #require(try named(in: "- `SetCases.swift`: Case 55: it never does"))
    #expect(entry.file == "SetCases" && entry.test == "Case 55: it never does")
    #expect(try named(in: "- no test: it needs two servers") == nil)
  }

  @Test func `each test that the catalogue of cases names exists`() throws {
    var found: [String: Set<String>] = [:]
    for file in try Repository.swiftFiles(below: Self.folder) {
      let name = file.path.split(separator: "/").last.map { String($0.dropLast(".swift".count)) } ?? ""
      found[name, default: []].formUnion(try names(in: file.lines.joined(separator: "\n")))
    }
    let lines = try self.lines()
    let entries = try lines.compactMap(named)
    #expect(entries.count > 100, "the catalogue was not read")
    let offenders = entries.filter { found[$0.file]?.contains($0.test) != true }
      .map { "\($0.file).swift: \($0.test)" }
    expectNone(offenders, "\(Self.catalogue) names tests that exist")
  }

  @Test func `each case has a test, or says that it has none`() throws {
    var offenders: [String] = []
    var open: String?
    for line in try lines() {
      if line.hasPrefix("#") {
        offenders += open.map { [$0] } ?? []
        open = line.hasPrefix("### ") ? line : nil
      } else if line.hasPrefix("- ") {
        open = nil
      }
    }
    expectNone(offenders + (open.map { [$0] } ?? []), "a case names its tests, or says \"no test: …\"")
  }

  @Test func `tests on servers are called by what holds, in words`() throws {
    let offenders = try Repository.swiftFiles(below: Self.folder).flatMap { file in
      try places(of: #"@Test(?!\(\s*")|func `"#, in: file)
    }
    expectNone(offenders, "a test on servers is @Test(\"What holds\") func name()")
  }

  @Test func `suites on servers have servers of their own, and run their tests one by one`() throws {
    let offenders = try Repository.swiftFiles(below: Self.folder).flatMap { file in
      try places(of: #"@Suite(?!\(\s*\.serialized, \.servers)"#, in: file)
    }
    expectNone(offenders, "a suite on servers is @Suite(.serialized, .servers, …)")
  }
}
