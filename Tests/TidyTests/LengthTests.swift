import Testing

struct LengthTests {
  @Test func `files have at most 500 lines`() throws {
    let files = try Repository.allSwiftFiles()
    #expect(files.count > 50, "the tree was not found")
    let offenders = files.filter { $0.lines.count > 500 }.map { "\($0.path): \($0.lines.count) lines" }
    expectNone(offenders, "a file has at most 500 lines")
  }

  @Test func `functions have at most 70 lines`() throws {
    var found = 0
    var offenders: [String] = []
    for file in try Repository.allSwiftFiles() {
      let functions = FunctionLength.all(in: file)
      found += functions.count
      offenders += functions.filter { $0.lines > 70 }.map { "\(file.place($0.line)) has \($0.lines) lines" }
    }
    #expect(found > 300, "functions are not found any more")
    expectNone(offenders, "a function has at most 70 lines")
  }

  @Test func `lines have at most 110 columns, texts and comments included`() throws {
    let offenders = try Repository.allSwiftFiles().flatMap { file in
      file.lines.indices.filter { file.lines[$0].count > 110 }
        .map { "\(file.lines[$0].count) columns at \(file.place($0))" }
    }
    expectNone(offenders, "a line has at most 110 columns")
  }
}
