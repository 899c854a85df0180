import Testing

/// Whoever reads a cutover finds in the protocol's table where each call is done, without opening what lies
/// between.
struct HandoverTableTests {
  private static let path = "Sources/MigrationEngine/Cutover/Handover.swift"

  @Test func `the table of handover calls names all of them, and where each is done`() throws {
    let file = try #require(try Repository.allSwiftFiles().first { $0.path == Self.path })
    let rows = file.lines.filter { $0.hasPrefix("/// | `") }
    let called = Set(rows.flatMap { Self.words($0.split(separator: "|")[1]) })
    let begin = try #require(file.code.firstIndex { $0.hasPrefix("protocol Handover:") })
    let end = try #require(file.code[begin...].firstIndex { $0 == "}" })
    let declared = file.code[begin..<end].compactMap { line in
      line.firstMatch(of: /^  (?:func|var) (\w+)/).map { String($0.output.1) }
    }
    // What is a plain value needs no table.
    #expect(Set(declared).subtracting(called) == ["excluded", "messages"])
    #expect(called.subtracting(declared) == [])
    for place in rows.flatMap({ Self.words($0.split(separator: "|")[2]) }) {
      let parts = place.split(separator: ".").map(String.init)
      let home = try Repository.allSwiftFiles().filter {
        $0.path.hasSuffix("/\(parts[0]).swift") || $0.path.contains("/\(parts[0])+")
      }
      let isThere = home.contains { file in
        file.code.contains { $0.contains("func \(parts[1])(") || $0.contains("var \(parts[1]):") }
      }
      #expect(isThere, "\(place) is not in \(parts[0]).swift")
    }
  }

  private static func words(_ cell: Substring) -> [String] {
    cell.split(separator: "`").enumerated().filter { $0.offset % 2 == 1 }.map { String($0.element) }
  }
}
