import Testing

/// What crosses a module says what its reader needs to know.
struct DocumentationTests {
  /// What does not count: extensions, which declare nothing, and what a protocol of others has described.
  static func crossing(_ declaration: Declaration) -> Bool {
    declaration.isPackage && declaration.kind != "extension" && !declaration.isRequirementOfOthers
  }

  @Test(arguments: [
    "Sources/LibPQ", "Sources/LogicalReplication", "Sources/MigrationEngine", "integration/Clusters",
  ])
  func `of what a module shows to others 95 percent are documented`(module: String) throws {
    var found = 0
    var offenders: [String] = []
    for file in try Repository.swiftFiles(below: module) {
      let crossing = Declaration.all(in: file).filter(Self.crossing)
      found += crossing.count
      offenders += crossing.filter { !$0.isDocumented }.map { file.place($0.line) }
    }
    #expect(found > 100, "declarations are not found any more")
    if offenders.count * 20 > found {
      expectNone(offenders, "of \(found) declarations 95 % have a doc comment")
    }
  }

  @Test func `each declaration counts once, but not what others' protocols ask for`() {
    let text = """
      package enum A: Comparable {
        case b, c
        var d: Int { 1 }
        package static func < (left: A, right: A) -> Bool { true }
      }
      package extension A { var e: Int { 1 } }
      """
    let crossing = Declaration.all(in: SourceFile(path: "sample", text: text)).filter(Self.crossing)
    #expect(crossing.map(\.names) == [["A"], ["b", "c"], ["e"]])
  }
}
