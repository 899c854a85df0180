import Testing

/// The stages of the engine never name each other's types: only the rooms that conduct them do.
struct StageTests {
  private static let root = "Sources/MigrationEngine/"
  private static let stages: Set = [
    "Preflight", "Preparation", "Schema", "Snapshot", "Stream", "Cutover", "Switchover", "Verify",
    "Encryption",
  ]

  /// Each room with how high it lies: a line may name types of its own room and of those below. The stages
  /// lie beside each other and know nothing of their neighbours; the rooms that conduct them do.
  private static let levels: [String: Int] = {
    let shared = ["Contract", "Session", "Process", "Catalog", "State", "Fence"]
    let conducting = ["Phases": 7, "Engine": 7, "Client": 7, "": 7]
    return Dictionary(uniqueKeysWithValues: shared.enumerated().map { ($1, $0) })
      .merging(stages.map { ($0, 6) }) { $1 }.merging(conducting) { $1 }
  }()

  private func mayName(_ owner: String, from home: String) -> Bool {
    guard let theirs = Self.levels[owner], let own = Self.levels[home] else { return false }
    return theirs < own || theirs == own && !Self.stages.contains(home)
  }

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

  @Test func `a room names no type of a room beside or above it`() throws {
    let files = try Repository.swiftFiles(below: "Sources/MigrationEngine")
    var owners: [String: String] = [:]
    // A room may call a nested type of its own as it likes.
    var own: [String: Set<String>] = [:]
    for file in files { own[folder(of: file), default: []].formUnion(try types(in: file, nested: true)) }
    for file in files { for type in try types(in: file) { owners[type] = folder(of: file) } }
    #expect(owners.count > 100, "the types of the rooms are not found any more")
    var offenders: [String] = []
    for file in files {
      let home = folder(of: file)
      for (index, line) in file.code.enumerated() {
        for word in line.split(whereSeparator: { !$0.isLetter && !$0.isNumber && $0 != "_" && $0 != "." }) {
          // Of `Status.Cutover` only the first is a type of a room.
          let word = word.prefix { $0 != "." }
          guard let owner = owners[String(word)], owner != home, own[home]?.contains(String(word)) == false,
            !mayName(owner, from: home)
          else { continue }
          offenders.append("\(word) belongs to \(owner): \(file.place(index))")
        }
      }
    }
    expectNone(offenders, "a room names no type of a room beside or above it")
  }

  @Test func `the engine has the rooms that its design names, and one file at its door`() throws {
    let offenders = try Repository.swiftFiles(below: "Sources/MigrationEngine").filter {
      Self.levels[folder(of: $0)] == nil
        || folder(of: $0) == "" && $0.path != Self.root + "Migration.swift"
    }.map(\.path)
    expectNone(offenders, "the engine has the rooms of its design, and only Migration.swift beside them")
  }
}
