import Testing

/// The stages of the engine never name each other's types: only `Migration*.swift`, which conducts them,
/// does.
struct StageTests {
  private static let root = "Sources/MigrationEngine/"
  private static let stages = [
    "Preflight", "Schema", "Snapshot", "Stream", "Cutover", "Switchover", "Verify", "Encryption",
  ]

  /// The folder of the engine in which a file lies; empty for its root.
  private func folder(of file: SourceFile) -> String {
    let path = file.path.dropFirst(Self.root.count)
    return path.contains("/") ? String(path.prefix { $0 != "/" }) : ""
  }

  private static let declaration =
    #"(?:@\w+\s+)*(?:(?:package|internal|final|indirect)\s+)*"#
    + #"(?:struct|enum|class|actor|protocol|typealias)\s+(\w+)"#

  /// Types declared at a file's top level that other files can see; or those nested in others as well.
  private func types(in file: SourceFile, nested: Bool = false) throws -> [String] {
    let regex = try Regex((nested ? #"^\s*"# : "^") + Self.declaration, as: (Substring, Substring).self)
    return file.code.compactMap { $0.firstMatch(of: regex).map { String($0.output.1) } }
  }

  @Test func `types are found at the top level only`() throws {
    let text = """
      package struct A: Sendable {
        enum Nested {}
      }
      @MainActor final class B {}
      private struct Hidden {}
      protocol C {}
      """
    let file = SourceFile(path: "sample", text: text)
    #expect(try types(in: file) == ["A", "B", "C"])
    #expect(try types(in: file, nested: true) == ["A", "Nested", "B", "C"])
  }

  @Test func `stages, the catalog and the state name no type of another stage`() throws {
    let files = try Repository.swiftFiles(below: "Sources/MigrationEngine")
    var owners: [String: String] = [:]
    // A stage may call a nested type of its own as it likes.
    var own: [String: Set<String>] = [:]
    for file in files { own[folder(of: file), default: []].formUnion(try types(in: file, nested: true)) }
    for file in files where Self.stages.contains(folder(of: file)) {
      for type in try types(in: file) { owners[type] = folder(of: file) }
    }
    #expect(owners.count > 10, "the types of the stages are not found any more")
    var offenders: [String] = []
    for file in files where !file.path.hasPrefix(Self.root + "Migration") {
      let home = folder(of: file)
      for (index, line) in file.code.enumerated() {
        for word in line.split(whereSeparator: { !$0.isLetter && !$0.isNumber && $0 != "_" }) {
          guard let owner = owners[String(word)], owner != home, own[home]?.contains(String(word)) == false
          else { continue }
          offenders.append("\(word) belongs to \(owner): \(file.place(index))")
        }
      }
    }
    expectNone(offenders, "a stage names no type of another stage; Migration*.swift hands things over")
  }

  @Test func `the engine has the folders that its design names`() throws {
    let known = Set(Self.stages + ["Catalog", "State", "Commands", ""])
    let offenders = try Repository.swiftFiles(below: "Sources/MigrationEngine")
      .filter {
        !known.contains(folder(of: $0))
          || (folder(of: $0) == "" && !$0.path.hasPrefix(Self.root + "Migration"))
      }
      .map(\.path)
    expectNone(offenders, "the engine has the folders of its design, and only Migration*.swift beside them")
  }
}
