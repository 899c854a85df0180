import MigrationEngine
import Testing

struct SQLTests {
  @Test(arguments: [
    ("plain", #""plain""#), ("", #""""#), ("Mixed Case", #""Mixed Case""#), (#"a"b"#, #""a""b""#),
    (#"""#, #""""""#), ("a'b\\c", #""a'b\c""#), ("select", #""select""#), ("é\n", "\"é\n\""),
  ])
  func `identifiers are quoted`(name: String, quoted: String) {
    #expect(SQL.identifier(name) == quoted)
  }

  @Test(arguments: [
    ("plain", "'plain'"), ("", "''"), ("it's", "'it''s'"), ("''", "''''''"), (#"a"b"#, #"'a"b'"#),
  ])
  func `literals are quoted`(text: String, quoted: String) {
    #expect(SQL.literal(text) == quoted)
  }

  @Test func `a backslash means itself, whatever standard_conforming_strings says`() {
    #expect(SQL.literal(#"\'"#).drop { $0 == " " } == #"E'\\'''"#)
  }

  /// To Swift the quote and the mark are one character; to the server the quote ends the name.
  @Test func `a quote is doubled though a combining mark follows it`() {
    let name = SQL.identifier("a\"\u{301}; DROP TABLE b")
    #expect(name.unicodeScalars.count { $0 == "\"" } == 4)
    let text = SQL.literal("a'\u{301}; DROP TABLE b")
    #expect(text.unicodeScalars.count { $0 == "'" } == 4)
    #expect(SQL.array(["a\"\u{301},b"]).unicodeScalars.elementsEqual("{\"a\\\"\u{301},b\"}".unicodeScalars))
    let escaped = SQL.literal("\\\u{301}'")
    #expect(escaped.unicodeScalars.count { $0 == "\\" } == 2)
  }

  @Test func `a relation is spelled with its schema, quoted, and sorts by both`() {
    let name = RelationName(schema: "My", name: "a\"b")
    #expect(name.description == #""My"."a""b""#)
    #expect(RelationName(schema: "a", name: "z") < RelationName(schema: "b", name: "a"))
    #expect(RelationName(schema: "a", name: "a") < RelationName(schema: "a", name: "b"))
  }
}
