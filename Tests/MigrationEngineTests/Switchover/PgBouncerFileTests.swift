import Foundation
import Testing

@testable import MigrationEngine

@Suite("PgBouncer's file")
struct PgBouncerFileTests {
  private let new = PgBouncerFile.Address(host: "new.example", port: "5433", database: "app")

  private func pointed(_ text: String, _ name: String = "app") throws -> String {
    String(decoding: try PgBouncerFile(Array(text.utf8)).pointing(name, to: new), as: UTF8.self)
  }

  @Test(
    "Only the words that say where the database is are changed",
    arguments: [
      ("app = host=old port=5432 user=u", "app = host=new.example port=5433 user=u"),
      ("app=host=old", "app=host=new.example port=5433"),
      ("  app  =  user=u  host = old  ", "  app  =  user=u  host = new.example port=5433  "),
      ("app = host='old' port='1' dbname=x", "app = host=new.example port=5433 dbname=app"),
      ("app =", "app = host=new.example port=5433"),
      (
        "app = password='it''s host=old' host=old port=1",
        "app = password='it''s host=old' host=new.example port=5433"
      ),
      ("\"app\" = host=old port=5433", "\"app\" = host=new.example port=5433"),
      ("app = port=1 host=a,b pool_size=5", "app = port=5433 host=new.example pool_size=5"),
    ])
  func words(line: String, expected: String) throws {
    #expect(try pointed("[databases]\n\(line)\n") == "[databases]\n\(expected)\n")
  }

  @Test("A line that says it already stays as it is, also where the usual values are left out")
  func already() throws {
    let lines = [
      "app = host=new.example port=5433", "app = host='new.example' port=5433 dbname='app' user=u",
      "app=\tport = 5433\thost = new.example",
    ]
    for line in lines {
      let text = "[databases]\n\(line)"
      #expect(try pointed(text) == text)
    }
    let usual = PgBouncerFile.Address(host: "h", port: "5432", database: "app")
    let text = Array("[databases]\napp = host=h".utf8)
    #expect(try PgBouncerFile(text).pointing("app", to: usual) == text)
  }

  @Test("A value with blanks or quotes is quoted")
  func quoted() throws {
    let odd = PgBouncerFile.Address(host: "/run/a b", port: "1", database: "it's")
    let changed = try PgBouncerFile(Array("[databases]\nx = host=a".utf8)).pointing("x", to: odd)
    #expect(
      String(decoding: changed, as: UTF8.self) == "[databases]\nx = host='/run/a b' port=1 dbname='it''s'")
  }

  @Test("A quote is doubled though a combining mark follows it, and a line break cannot be written")
  func hostile() throws {
    let text = Array("[databases]\nx = host=a".utf8)
    let mark = PgBouncerFile.Address(host: "h", port: "1", database: "a'\u{301} host=evil")
    let changed = try PgBouncerFile(text).pointing("x", to: mark)
    #expect(String(decoding: changed, as: UTF8.self).unicodeScalars.count { $0 == "'" } == 4)
    let broken = PgBouncerFile.Address(host: "h", port: "1", database: "a\n[pgbouncer]\nadmin_users = evil")
    #expect(throws: PgBouncerFile.Unusable.self) { try PgBouncerFile(text).pointing("x", to: broken) }
  }

  @Test("Lines of other sections, other databases and comments are left alone")
  func others() throws {
    let text = """
      ;app = host=old
      app = host=before
      [databases]
      # app = host=old
      ; app = host=old
      %include more.ini
      app2 = host=old
      App = host=old
      * = host=old
      app = host=old port=1
      [pgbouncer]
      app = host=old
      [databases]
      app = host=again port=5433
      """
    let expected =
      text.replacing("app = host=old port=1", with: "app = host=new.example port=5433")
      .replacing("host=again", with: "host=new.example")
    #expect(try pointed(text) == expected)
  }

  @Test(
    "Without a line for the database, or with one that cannot be read, nothing is changed",
    arguments: [
      "", "[databases]\nother = host=a", "app = host=a", "[databases]\n;app = host=a",
      "[databases]\napp = host", "[databases]\napp = 'host=a", "[databases]\napp = host='a",
      "[databases]\napp = =a", "[databases]\napp host=a",
    ])
  func unusable(text: String) {
    #expect(throws: PgBouncerFile.Unusable.self) { try pointed(text) }
  }

  @Test("Whatever the file holds, all bytes beside the words stay, and a second time changes nothing")
  func property() throws {
    var generator = SystemRandomNumberGenerator()
    for _ in 0..<500 {
      let before = Self.noise(&generator)
      let after = Self.noise(&generator)
      let extra =
        ["", " user=u", " password='a '' b' pool_size=3", "\tconnect_query='SELECT 1'"].randomElement() ?? ""
      let end = ["\n", "\r\n", " \n"].randomElement() ?? "\n"
      func file(_ host: String, _ port: String) -> [UInt8] {
        before + Array("[databases]\napp = host=\(host) port=\(port)\(extra)\(end)".utf8) + after
      }
      let changed = try PgBouncerFile(file("old", "1")).pointing("app", to: new)
      #expect(changed == file("new.example", "5433"))
      #expect(try PgBouncerFile(changed).pointing("app", to: new) == changed)
    }
  }

  /// Lines of anything, but no section of databases: bytes that are no text among them.
  private static func noise(_ generator: inout SystemRandomNumberGenerator) -> [UInt8] {
    var bytes: [UInt8] = []
    for _ in 0..<Int.random(in: 0...6, using: &generator) {
      let line = (0..<Int.random(in: 0...30, using: &generator)).map { _ in
        UInt8.random(in: 0...255, using: &generator)
      }
      bytes += [UInt8(ascii: ";")] + line.filter { $0 != 10 } + [10]
    }
    return bytes
  }
}

@Suite("Replaced file")
struct ReplacedFileTests {
  private func withFolder(_ body: (String) throws -> Void) throws {
    let folder = FileManager.default.temporaryDirectory.appending(path: "replaced-\(UUID())")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    try body(folder.path(percentEncoded: false))
  }

  @Test("The new content has the old file's mode, and nothing else is left in the folder")
  func replaces() throws {
    try withFolder { folder in
      let path = "\(folder)/a.ini"
      try Data("old".utf8).write(to: URL(filePath: path))
      #expect(chmod(path, 0o640) == 0)
      let file = try ReplacedFile(reading: path)
      #expect(file.content == Array("old".utf8))
      try file.tryReplacing()
      #expect(FileManager.default.contents(atPath: path) == Data("old".utf8))
      try file.replace(with: Array("new".utf8))
      #expect(FileManager.default.contents(atPath: path) == Data("new".utf8))
      var status = stat()
      #expect(stat(path, &status) == 0 && status.st_mode & 0o7777 == 0o640)
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["a.ini"])
    }
  }

  @Test("A link stays a link: the file behind it is replaced")
  func link() throws {
    try withFolder { folder in
      try FileManager.default.createDirectory(
        atPath: "\(folder)/real", withIntermediateDirectories: false)
      try Data("old".utf8).write(to: URL(filePath: "\(folder)/real/a.ini"))
      try FileManager.default.createSymbolicLink(atPath: "\(folder)/a.ini", withDestinationPath: "real/a.ini")
      try ReplacedFile(reading: "\(folder)/a.ini").replace(with: Array("new".utf8))
      #expect(try FileManager.default.destinationOfSymbolicLink(atPath: "\(folder)/a.ini") == "real/a.ini")
      #expect(FileManager.default.contents(atPath: "\(folder)/real/a.ini") == Data("new".utf8))
    }
  }

  @Test("What an engine that was killed left there does not matter, and a missing file is named")
  func leftovers() throws {
    try withFolder { folder in
      let path = "\(folder)/a.ini"
      #expect(throws: ReplacedFile.Failure.self) { try ReplacedFile(reading: path) }
      try Data("old".utf8).write(to: URL(filePath: path))
      try Data("half".utf8).write(to: URL(filePath: "\(path).replicate"))
      try ReplacedFile(reading: path).replace(with: [])
      #expect(FileManager.default.contents(atPath: path) == Data())
    }
  }
}
