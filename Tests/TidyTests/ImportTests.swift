import Testing

/// Imports run downward only, and the two leaves do not know each other.
struct ImportTests {
  private func imports(of file: SourceFile) throws -> [(module: String, place: String)] {
    let regex = try Regex(
      #"^\s*(?:@\w+(?:\(\w+\))?\s+)*(?:\w+\s+)?import\s+"#
        + #"(?:(?:struct|class|enum|protocol|func|var|let)\s+)?(\w+)"#,
      as: (Substring, Substring).self)
    return file.code.indices.compactMap { index in
      file.code[index].firstMatch(of: regex).map { (String($0.output.1), file.place(index)) }
    }
  }

  private func importers(
    below folder: String, where isForbidden: (_ module: String, _ path: String) -> Bool
  ) throws -> [String] {
    try Repository.swiftFiles(below: folder).flatMap { file in
      try imports(of: file).filter { isForbidden($0.module, file.path) }.map(\.place)
    }
  }

  @Test func `an import is recognised however it is written`() throws {
    let text = """
      import A
      package import B
      @testable import C
      @preconcurrency internal import D
      import struct E.F
      // import Nothing
      let text = "import Nothing"
      """
    let modules = try imports(of: SourceFile(path: "sample", text: text)).map(\.module)
    #expect(modules == ["A", "B", "C", "D", "E"])
  }

  @Test func `only LibPQ imports the C library`() throws {
    let offenders = try ["Sources", "Tests", "integration"].flatMap { folder in
      try importers(below: folder) { $0 == "CLibPQ" && !$1.hasPrefix("Sources/LibPQ/") }
    }
    expectNone(offenders, "only Sources/LibPQ imports CLibPQ")
    let rightful = try importers(below: "Sources/LibPQ") { module, _ in module == "CLibPQ" }
    #expect(!rightful.isEmpty, "imports are not found any more")
  }

  @Test func `LogicalReplication needs nothing but the standard library`() throws {
    let offenders = try importers(below: "Sources/LogicalReplication") { module, _ in
      !["Swift", "Synchronization"].contains(module)
    }
    expectNone(offenders, "LogicalReplication imports only the standard library")
  }

  @Test func `LibPQ knows neither the protocol nor the engine`() throws {
    let offenders = try importers(below: "Sources/LibPQ") { module, _ in
      ["LogicalReplication", "MigrationEngine"].contains(module)
    }
    expectNone(offenders, "LibPQ imports nothing of this package but CLibPQ")
  }

  @Test func `the engine knows nothing of the command line`() throws {
    let offenders = try importers(below: "Sources/MigrationEngine") { module, _ in
      ["ArgumentParser", "replicate"].contains(module)
    }
    expectNone(offenders, "the engine imports nothing of the command line")
  }
}
