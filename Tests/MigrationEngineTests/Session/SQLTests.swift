import Testing

@testable import MigrationEngine

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

  @Test(arguments: [
    ("text", "pg_catalog.text"), ("text[]", "pg_catalog.text[]"), (#""char""#, #"pg_catalog."char""#),
    (#""char"[]"#, #"pg_catalog."char"[]"#), ("int4range", "pg_catalog.int4range"),
    ("integer", "integer"), ("character varying(5)[]", "character varying(5)[]"),
    ("timestamp(3) with time zone", "timestamp(3) with time zone"), ("double precision", "double precision"),
    ("interval day to second(3)", "interval day to second(3)"), ("numeric(10,2)", "numeric(10,2)"),
    ("bit varying(3)", "bit varying(3)"), ("app.text", "app.text"),
    (#"app."My Type"(1,2)"#, #"app."My Type"(1,2)"#),
    (#""My App".text"#, #""My App".text"#), (#""a""b".text[]"#, #""a""b".text[]"#),
  ])
  func `a type is spelled for every search path`(formatted: String, spelled: String) {
    #expect(SQL.type(formatted) == spelled)
  }

  @Test func `a relation is spelled with its schema, quoted, and sorts by both`() {
    let name = RelationName(schema: "My", name: "a\"b")
    #expect(name.description == #""My"."a""b""#)
    #expect(RelationName(schema: "a", name: "z") < RelationName(schema: "b", name: "a"))
    #expect(RelationName(schema: "a", name: "a") < RelationName(schema: "a", name: "b"))
  }
}
